/**
 * What the consistency policy of an array makes of its last stop, before it starts: where a resync
 * has to begin, if anywhere.
 *
 *   resync   dirty: from the checkpoint of the superblock
 *   bitmap   dirty: under the set bits; a stale bitmap counts as all set
 *   the same in a reshape of Linux's: the bitmap is left, see `leaveBitmap`
 *   ppl      dirty: the logs are replayed, and that may make it clean, also without a member
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { ROW_BYTES } from "../../base/units.ts";
import { isDone } from "../../block/async-io.ts";
import type { AssemblyPlan } from "../../md/assemble/assemble.ts";
import {
  BITMAP_HEADER_BYTES,
  type BitmapError,
  bitmapAreaBytes,
  bitmapOffsetBytes,
  checkBitmapArea,
  decodeBitmapHeader,
} from "../../md/bitmap.ts";
import { type LoadedBitmap, loadBitmap } from "../../md/bitmap-load.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import { commandError } from "../record.ts";
import type { Registry } from "../registry.ts";
import { PplReplayer } from "./ppl-recovery.ts";

export interface Consistency {
  /** In sync below this member sector; null: clean. */
  readonly resyncFromSector: number | null;
  readonly bitmap: BitmapState | null;
  /** The superblocks name a bitmap that the array goes on without. */
  readonly leavesBitmap?: true;
}

interface Options {
  readonly force: boolean;
  readonly readOnly: boolean;
}

export async function recoverConsistency(
  registry: Registry,
  plan: AssemblyPlan,
  options: Options,
): Promise<Result<Consistency, CommandError>> {
  const { resyncFromSector } = plan;
  switch (plan.policy) {
    case "resync":
      return ok({ resyncFromSector, bitmap: null });
    case "bitmap":
      return plan.reshape === null ? loadFromMembers(registry, plan) : leaveBitmap(registry, plan);
    case "ppl":
      if (resyncFromSector === null) return ok({ resyncFromSector, bitmap: null });
      return replay(registry, plan, options);
  }
}

async function replay(
  registry: Registry,
  plan: AssemblyPlan,
  { force, readOnly }: Options,
): Promise<Result<Consistency, CommandError>> {
  const { context, asyncIo, areas } = registry;
  const replayer = new PplReplayer({
    context,
    asyncIo,
    areas,
    plan,
    driveNamed: (name) => driveNamed(registry, name),
    isReadOnly: readOnly,
  });
  const { outcome, detail } = await replayer.run();
  const { resyncFromSector } = plan;
  assert(resyncFromSector !== null, "only the logs of a dirty array are replayed");
  switch (outcome) {
    case "clean":
    case "degraded":
      return ok({ resyncFromSector: null, bitmap: null });
    case "resync":
      return ok({ resyncFromSector, bitmap: null });
    case "refuse":
      if (force) return ok({ resyncFromSector, bitmap: null });
      return err(
        commandError(
          "conflict",
          "dirty-and-degraded",
          `The array was not stopped cleanly and a member has no complete data. ${detail} Connect ` +
            "the missing drive; or start with force, accept that chunks being written at the crash " +
            "may hold wrong data, and check the file system.",
        ),
      );
  }
}

/** Why the bitmap of one member cannot be used; `advice` as of a BitmapError. */
interface Failure {
  readonly text: string;
  readonly advice: string | null;
}

const REMOVE =
  "Remove it on Linux with mdadm --assemble --update=no-bitmap, or --grow --bitmap=none, and " +
  "start the array again.";

/**
 * In a reshape a bit stands for a row of either layout, and rows are on their way from one to the
 * other: no bit is of use. So the array goes on as with the policy `resync`: where it is clean all
 * parity is right, whatever bits are set still (md clears them late); where it is dirty all of it
 * is computed anew behind the reshape (judgeAssembly), which is more than is under any bits. A
 * bitmap that is stale counts as all set, as elsewhere; one that nobody understands, which may be
 * of a format that means more, is refused as elsewhere.
 */
async function leaveBitmap(
  registry: Registry,
  plan: AssemblyPlan,
): Promise<Result<Consistency, CommandError>> {
  const { loaded, failure } = await readBitmaps(registry, plan);
  if (loaded.length === 0) return err(unusable(failure));
  const isStale = plan.degraded === 0 && loaded.every(({ wasStale }) => wasStale);
  const resyncFromSector = isStale ? 0 : plan.resyncFromSector;
  return ok({ resyncFromSector, bitmap: null, leavesBitmap: true });
}

/** Takes over the bitmap of the first in-sync member that has a good one, the freshest first. */
async function loadFromMembers(
  registry: Registry,
  plan: AssemblyPlan,
): Promise<Result<Consistency, CommandError>> {
  const { loaded, failure } = await readBitmaps(registry, plan);
  const best = loaded.find(({ wasStale }) => !wasStale) ?? loaded[0];
  if (best === undefined) return err(unusable(failure));
  const { state, wasStale } = best;
  const misplaced = findMisplaced(registry, plan, state);
  if (misplaced !== null) return err(misplaced);
  const isDirty = plan.resyncFromSector !== null || wasStale;
  if (!isDirty || plan.degraded > 0) {
    return ok({ resyncFromSector: plan.resyncFromSector, bitmap: state });
  }
  const isNeeded = state.dirtyRanges("needed").length > 0;
  const resyncFromSector = isNeeded ? (wasStale ? 0 : plan.resyncFromSector) : null;
  return ok({ resyncFromSector, bitmap: state });
}

/** The good ones of members in sync, by role; and what is wrong with the last of the others. */
async function readBitmaps(
  registry: Registry,
  plan: AssemblyPlan,
): Promise<{ readonly loaded: readonly LoadedBitmap[]; readonly failure: Failure }> {
  const loaded: LoadedBitmap[] = [];
  let failure: Failure = { text: "No member has it.", advice: null };
  for (const entry of plan.roles) {
    // One that an update cut short did not reach may name no bitmap yet.
    if (entry.state !== "in-sync" || entry.superblock.log.kind !== "bitmap") continue;
    const drive = driveNamed(registry, entry.drive);
    const result = await loadFrom(registry, plan, drive, entry.superblock);
    if (result.ok) loaded.push(result.value);
    else failure = result.error;
  }
  return { loaded, failure };
}

/** Every member gets the blocks of this bitmap, also one whose own copy was not taken. */
function findMisplaced(
  registry: Registry,
  { roles }: AssemblyPlan,
  bitmap: BitmapState,
): CommandError | null {
  for (const entry of roles) {
    if (entry.state === "missing" || entry.superblock.log.kind !== "bitmap") continue;
    const { sizeBytes } = driveNamed(registry, entry.drive).info;
    const fault = checkBitmapArea(bitmap.header, entry.superblock, sizeBytes);
    if (fault === null) continue;
    const detail =
      `Drive ${entry.drive}: ${fault.detail} Remove the drive and start the array without it, ` +
      "then add it again.";
    return commandError("conflict", "bad-bitmap", detail);
  }
  return null;
}

async function loadFrom(
  registry: Registry,
  plan: AssemblyPlan,
  drive: Drive,
  superblock: Superblock,
): Promise<Result<LoadedBitmap, Failure>> {
  assert(superblock.log.kind === "bitmap", "a bitmap is read where a superblock names one");
  const deviceBytes = drive.info.sizeBytes;
  const offset = bitmapOffsetBytes(superblock);
  const head = await readBytes(registry, drive, { offset, bytes: ROW_BYTES });
  if (head === null) return err(unreadable(drive));
  const header = decodeBitmapHeader(head.subarray(0, BITMAP_HEADER_BYTES), {
    superblock,
    deviceBytes,
  });
  if (!header.ok) return err(failureOf(drive, header.error));
  const area = await readBytes(registry, drive, { offset, bytes: bitmapAreaBytes(header.value) });
  if (area === null) return err(unreadable(drive));
  const loaded = loadBitmap(area, {
    superblock,
    deviceBytes,
    events: plan.events,
    resyncFromSector: plan.resyncFromSector,
    isDegraded: plan.degraded > 0,
  });
  if (!loaded.ok) return err(failureOf(drive, loaded.error));
  const { header: taken } = loaded.value.state;
  assert(checkBitmapArea(taken, superblock, deviceBytes) === null, "a bitmap that is taken fits");
  return loaded;
}

/** A plan names drives that were judged a moment ago, and that commands leave alone meanwhile. */
function driveNamed({ drives }: Registry, name: string): Drive {
  const drive = drives.get(name);
  assert(drive !== undefined, "the drives of a plan are here");
  return drive;
}

function unusable({ text, advice }: Failure): CommandError {
  const detail = `The array's write-intent bitmap cannot be used. ${text} ${advice ?? REMOVE}`;
  return commandError("conflict", "bad-bitmap", detail);
}

function unreadable({ name }: Drive): Failure {
  return { text: `The bitmap of drive ${name} cannot be read.`, advice: null };
}

function failureOf({ name }: Drive, { detail, advice }: BitmapError): Failure {
  return { text: `Drive ${name}: ${detail}`, advice };
}

async function readBytes(
  { context, asyncIo }: Registry,
  drive: Drive,
  { offset, bytes }: { offset: number; bytes: number },
): Promise<Uint8Array | null> {
  const isOnDrive = offset >= 0 && bytes > 0 && offset + bytes <= drive.info.sizeBytes;
  assert(isOnDrive, "what is read of a bitmap lies on its drive");
  const address = await context.enginePool.take(bytes);
  const answer = await asyncIo.read(drive.io, { offset, bytes, address });
  const copy = context.memory.bytes.slice(address, address + bytes);
  context.enginePool.free(address, bytes);
  return isDone(answer) ? copy : null;
}
