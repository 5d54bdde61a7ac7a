/**
 * Creates an array: everything is checked first, so that a request that is refused has written
 * nothing to any drive.
 */

import { assert } from "../../base/assert.ts";
import { counted } from "../../base/counted.ts";
import {
  NEW_ARRAY_CHUNK_BYTES_MAX as CHUNK_BYTES_MAX,
  NEW_ARRAY_CHUNK_BYTES_MIN as CHUNK_BYTES_MIN,
  NEW_ARRAY_MEMBERS_MAX as MEMBERS_MAX,
  NEW_ARRAY_MEMBERS_MIN as MEMBERS_MIN,
} from "../../base/limits.ts";
import { fillRandom } from "../../base/random.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes, isPowerOfTwo, roundDown, SECTOR_BYTES } from "../../base/units.ts";
import {
  bitmapAreaBytes,
  bitmapOffsetBytes,
  chooseBitmapChunkBytes,
  newBitmapHeader,
} from "../../md/bitmap.ts";
import { newBitmap } from "../../md/bitmap-load.ts";
import type { BitmapState } from "../../md/bitmap-state.ts";
import {
  chooseLayoutOnMember,
  type LayoutOnMember,
  mdTimeOf,
  newSuperblock,
} from "../../md/create.ts";
import { LAYOUT_LEFT_SYMMETRIC } from "../../md/layout.ts";
import { decodeUuid } from "../../md/uuid.ts";
import { brokenError } from "../broken-arrays.ts";
import { isBesideData } from "../drives/areas.ts";
import { writeEmptyLog } from "../drives/bad-blocks.ts";
import type { Drive } from "../drives/drive.ts";
import { eraseSuperblock, takesWrites } from "../drives/erase-superblock.ts";
import type { ArrayStatus, CommandError, CreateArrayRequest } from "../protocol.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import { arrayKey, type Registry } from "../registry.ts";
import { policyOf } from "../running/array-core.ts";
import type { StartPlan } from "../running/start-plan.ts";
import { runPlan, stopArray } from "../start/start.ts";
import { stripeMemoryLacking } from "../start/stripe-memory.ts";
import { newArrayStatus } from "./foretold.ts";
import { driveInUse, unknownDrive } from "./refusals.ts";
import { driveStatus } from "./status.ts";

const NAME_PATTERN = /^[a-zA-Z0-9._-]{1,32}$/;

/** What drives were before they were laid out anew. */
type Probes = ReadonlyMap<Drive, Drive["probe"]>;

interface Chosen {
  readonly drives: readonly Drive[];
  readonly spares: readonly Drive[];
  readonly layouts: ReadonlyMap<Drive, LayoutOnMember>;
  readonly sizeSectors: number;
}

export async function createArray(
  registry: Registry,
  request: CreateArrayRequest & { readonly uuid: string },
): Promise<Result<ArrayRecord, CommandError>> {
  const chosen = check(registry, request);
  if (!chosen.ok) return chosen;
  const { uuid } = request;
  const { drives, spares } = chosen.value;
  assert(registry.leases.holderOf([arrayKey(uuid)]) !== null, "an array that is made is held");
  assert(registry.byName(request.name) === null, "an array that is made has a name of its own");
  const before = new Map([...drives, ...spares].map((drive) => [drive, drive.probe]));
  const record = registry.addRecord(uuid, { name: request.name, mayStart: true });
  const plan = layOut(registry, request, chosen.value, uuid);
  record.lastSeen = plan.superblock;
  const result = await write(registry, record, plan, chosen.value, before);
  if (!result.ok) {
    if (record.broken === null) registry.arrays.delete(uuid);
    return result;
  }
  assert(record.running !== null, "an array that was made runs");
  record.running.core.emit("array.created", "info", `array ${record.name} is created`);
  return ok(record);
}

/** What `createArray` would answer, without doing it. */
export function foretellCreate(
  registry: Registry,
  request: CreateArrayRequest,
): Result<ArrayStatus, CommandError> {
  const chosen = check(registry, request);
  if (!chosen.ok) return chosen;
  const { sizeSectors, drives, spares } = chosen.value;
  const memberBytes = sizeSectors * SECTOR_BYTES;
  return ok(newArrayStatus(request, { memberBytes, drives, spares }));
}

function check(registry: Registry, request: CreateArrayRequest): Result<Chosen, CommandError> {
  const refused = checkNumbers(registry, request);
  if (refused !== null) return err(refused);
  const drives: Drive[] = [];
  for (const name of [...request.drives, ...request.spares]) {
    const drive = registry.drives.get(name);
    if (drive === undefined) return err(unknownDrive(name));
    const unusable = checkDrive(registry, drive, request);
    if (unusable !== null) return err(unusable);
    drives.push(drive);
  }
  return measure(request, drives);
}

function checkNumbers(registry: Registry, request: CreateArrayRequest): CommandError | null {
  const { name, drives, spares, chunkBytes } = request;
  if (!NAME_PATTERN.test(name)) {
    const detail = "an array's name has 1 to 32 of the characters a-z A-Z 0-9 . _ -";
    return commandError("invalid", "bad-name", detail);
  }
  if (registry.byName(name) !== null) {
    return commandError("conflict", "name-in-use", `there is an array ${name} already`);
  }
  if (drives.length < MEMBERS_MIN || drives.length > MEMBERS_MAX) {
    const detail = `${counted(drives.length, "drive")} given: RAID5 takes ${MEMBERS_MIN} to ${MEMBERS_MAX}`;
    return commandError(
      "invalid",
      drives.length < MEMBERS_MIN ? "too-few-drives" : "too-many-drives",
      detail,
    );
  }
  const all = [...drives, ...spares];
  const twice = all.find((drive, index) => all.indexOf(drive) !== index);
  if (twice !== undefined) {
    return commandError("invalid", "drive-listed-twice", `drive ${twice} is listed twice`);
  }
  if (!isPowerOfTwo(chunkBytes) || chunkBytes < CHUNK_BYTES_MIN || chunkBytes > CHUNK_BYTES_MAX) {
    const detail = "a chunk is a power of two from 4 KiB to 1 MiB";
    return commandError("invalid", "bad-chunk", detail);
  }
  const isLogged = request.consistencyPolicy === "ppl";
  const stripe = { memberCount: drives.length, chunkSectors: chunkBytes / SECTOR_BYTES };
  const lacking =
    stripeMemoryLacking(registry.context.enginePool, stripe) ??
    (isLogged ? registry.areas.memoryLacking(drives.length) : null);
  if (lacking !== null) return commandError("conflict", "no-memory", lacking);
  return null;
}

function checkDrive(
  registry: Registry,
  drive: Drive,
  request: CreateArrayRequest,
): CommandError | null {
  const holder = registry.holderOf(drive);
  if (holder !== null) return driveInUse(drive, holder);
  if (drive.info.isReadOnly) {
    const detail = `drive ${drive.name} was opened read-only`;
    return commandError("conflict", "drive-read-only", detail);
  }
  if (drive.outstanding > 0) {
    const detail = `requests of before are still outstanding on drive ${drive.name}`;
    return commandError("busy", "drive-busy", `${detail}: try again when they end`);
  }
  const { state, detail: why } = driveStatus(registry, drive);
  if (state === "available") return checkZeros(drive, request);
  const record = registry.recordOf(drive);
  if (!request.force) {
    const held = record === null ? (why ?? "it holds data") : `it belongs to array ${record.name}`;
    const detail = `drive ${drive.name}: ${held}. With "force": true its content is given up`;
    return commandError("conflict", "drive-has-data", detail);
  }
  return checkZeros(drive, request);
}

function checkZeros(drive: Drive, { assumeClean, force }: CreateArrayRequest): CommandError | null {
  const readsZeros = drive.info.readsZeros && !drive.isOurs;
  if (!assumeClean || force || readsZeros) return null;
  const detail =
    `assumeClean needs members that are known to read zeros, and drive ${drive.name} is not: ` +
    'leave it out (the array is usable at once all the same), or say "force": true';
  return commandError("conflict", "not-known-zero", detail);
}

function measure(request: CreateArrayRequest, all: readonly Drive[]): Result<Chosen, CommandError> {
  const { chunkBytes, consistencyPolicy: policy } = request;
  const layouts = new Map<Drive, LayoutOnMember>();
  const drives = all.slice(0, request.drives.length);
  const spares = all.slice(request.drives.length);
  let smallest = Number.POSITIVE_INFINITY;
  for (const drive of all) {
    const deviceBytes = drive.info.sizeBytes;
    const layout = chooseLayoutOnMember({ deviceBytes, chunkBytes, policy });
    if (!layout.ok) {
      const detail = `drive ${drive.name} is too small. ${layout.error.detail}`;
      return err(commandError("invalid", "drive-too-small", detail));
    }
    layouts.set(drive, layout.value);
    if (drives.includes(drive)) smallest = Math.min(smallest, layout.value.dataSizeSectors);
  }
  const chunkSectors = chunkBytes / SECTOR_BYTES;
  const wanted = request.memberSizeBytes;
  if (wanted !== undefined && (wanted < chunkBytes || wanted > smallest * SECTOR_BYTES)) {
    const detail =
      `a member size of ${wanted} bytes does not fit: it is between one chunk and ` +
      `${formatBytes(smallest * SECTOR_BYTES)}, what the smallest drive has room for`;
    return err(commandError("invalid", "bad-size", detail));
  }
  const used = wanted === undefined ? smallest : Math.floor(wanted / SECTOR_BYTES);
  const sizeSectors = roundDown(used, chunkSectors);
  const small = spares.find((spare) => layouts.get(spare)!.dataSizeSectors < sizeSectors);
  if (small !== undefined) {
    const room = layouts.get(small)!.dataSizeSectors * SECTOR_BYTES;
    const detail =
      `spare ${small.name} is smaller than the members: it has room for ${room} bytes of data, and ` +
      `they hold ${sizeSectors * SECTOR_BYTES}. Take a larger drive, or a smaller size`;
    return err(commandError("invalid", "drive-too-small", detail));
  }
  assert(sizeSectors > 0 && sizeSectors <= smallest, "each member has room for some chunks");
  assert(drives.length === request.drives.length, "each role has a drive");
  return ok({ drives, spares, layouts, sizeSectors });
}

function layOut(
  registry: Registry,
  request: CreateArrayRequest,
  { drives, spares, layouts, sizeSectors }: Chosen,
  arrayUuid: string,
): StartPlan {
  const createdAt = mdTimeOf(registry.context.clock.wallMs());
  const resyncOffsetSectors = request.assumeClean ? null : 0;
  for (const [devNumber, drive] of [...drives, ...spares].entries()) {
    const layoutOnMember = layouts.get(drive);
    assert(layoutOnMember !== undefined, "each drive was measured");
    assert(registry.holderOf(drive) === null, "a drive that is laid out is no array's");
    assert(drive.outstanding === 0, "a drive that owes an answer is not laid out");
    const superblock = newSuperblock({
      arrayUuid,
      deviceUuid: newUuid(registry),
      setName: request.name,
      createdAt,
      memberCount: drives.length,
      chunkBytes: request.chunkBytes,
      layout: LAYOUT_LEFT_SYMMETRIC,
      sizeSectors,
      policy: request.consistencyPolicy,
      layoutOnMember,
      devNumber,
      resyncOffsetSectors,
      events: 0,
    });
    assert(
      policyOf(superblock) === request.consistencyPolicy,
      "a member is laid out for its policy",
    );
    leaveOldArray(registry, drive);
    drive.join(superblock);
    drive.open();
  }
  const superblock = drives[0]?.superblock;
  assert(superblock !== undefined && superblock !== null, "an array has a first member");
  return {
    name: request.name,
    superblock,
    roles: drives.map((drive) => ({ drive, recoveryOffsetSectors: null, replacement: null })),
    spares,
    resyncFromSector: resyncOffsetSectors,
    isFirstResync: true,
    isReadOnly: false,
    bitmap:
      request.consistencyPolicy === "bitmap" ? newArrayBitmap(drives, layouts, request) : null,
  };
}

/** All bits are set until the first resync has been there. */
function newArrayBitmap(
  drives: readonly Drive[],
  layouts: ReadonlyMap<Drive, LayoutOnMember>,
  { assumeClean }: CreateArrayRequest,
): BitmapState {
  const superblock = drives[0]!.superblock!;
  const spaces = [...layouts.values()].map(({ logSpaceSectors }) => logSpaceSectors);
  const chunkBytes = chooseBitmapChunkBytes({
    sizeSectors: superblock.sizeSectors,
    logSpaceSectors: Math.min(...spaces),
  });
  assert(chunkBytes.ok, "a member that holds a chunk of data has room for a bitmap");
  const areaBytes = bitmapAreaBytes({
    syncSizeSectors: superblock.sizeSectors,
    chunkBytes: chunkBytes.value,
  });
  const isPlaced = drives.every((drive) => {
    const range = { offset: bitmapOffsetBytes(superblock), bytes: areaBytes };
    return drive.superblock !== null && isBesideData(drive, drive.superblock, range);
  });
  assert(isPlaced, "the bitmap of a new array lies beside the data of each member");
  return newBitmap(newBitmapHeader({ superblock, chunkBytes: chunkBytes.value }), !assumeClean);
}

function leaveOldArray(registry: Registry, drive: Drive): void {
  const old = registry.recordOf(drive);
  drive.carryNothing();
  if (old !== null) registry.dropIfEmpty(old);
}

/**
 * The empty bad-block logs first, then all superblocks in one update. A drive that takes no write
 * is found before anything is written over; where one fails later, nothing stays that could come up
 * as an array one day, neither this one nor one whose drives were given up for it.
 */
async function write(
  registry: Registry,
  record: ArrayRecord,
  plan: StartPlan,
  { drives, spares }: Chosen,
  before: Probes,
): Promise<Result<undefined, CommandError>> {
  const all = [...drives, ...spares];
  const unwritable = await onAll(all, (drive) => takesWrites(registry, drive));
  if (unwritable !== null) {
    await Promise.all(all.map((drive) => readBack(registry, drive, before)));
    return err(unwritable);
  }
  const unclear = await onAll(all, (drive) => writeEmptyLog(registry, drive, drive.superblock!));
  if (unclear !== null) {
    await giveUp(registry, all);
    return err(unclear);
  }
  const result = await runPlan(registry, record, plan, { mustRecord: true });
  // Its drives are held, whatever is on them.
  if (record.broken !== null) return err(brokenError(record));
  const running = record.running;
  if (result.ok && running !== null && running.core.members.degradedCount === 0) return ok();
  if (running !== null) await stopArray(registry, record);
  const failed = all.find(({ failure }) => failure !== "");
  const error =
    !result.ok && result.error.code === "fenced"
      ? fencedError(result.error.detail)
      : cannotBeWritten(failed?.name ?? "unknown", failed?.failure ?? "?");
  await giveUp(registry, all);
  return err(error);
}

/** Why one of the drives does not take its part, or null. */
async function onAll(
  drives: readonly Drive[],
  work: (drive: Drive) => Promise<boolean>,
): Promise<CommandError | null> {
  const areDone = await Promise.all(drives.map(work));
  const shut = drives.find((drive) => drive.isShut);
  if (shut !== undefined) return fencedError(shut.holderText);
  const bad = drives.find((_, index) => !areDone[index]);
  return bad === undefined ? null : cannotBeWritten(bad.name, "it did not take a write");
}

/** What the drive says that it is, or said before where it says nothing now: it is as it was. */
async function readBack(registry: Registry, drive: Drive, before: Probes): Promise<void> {
  const probe = before.get(drive);
  assert(probe !== undefined, "what a drive was is known until it is written over");
  drive.carryAgain(probe);
  if (drive.isShut || drive.outstanding > 0) return;
  await registry.probe(drive);
  if (drive.superblock !== null) registry.ensureRecord(drive);
}

/** Where nothing is known of what is left on a drive, it is not taken again without force. */
async function giveUp(registry: Registry, drives: readonly Drive[]): Promise<void> {
  await Promise.all(
    drives.map(async (drive) => {
      if (!drive.isShut && (await eraseSuperblock(registry, drive))) return;
      drive.leaveBehind("what an array that was not made has left");
    }),
  );
}

function fencedError(why: string): CommandError {
  return commandError("conflict", "fenced", `${why}, or take other drives`);
}

function cannotBeWritten(drive: string, why: string): CommandError {
  const detail = `drive ${drive} cannot be written (${why}): take another one`;
  return commandError("io", "drive-write-failed", detail);
}

export function newUuid(registry: Registry): string {
  const bytes = new Uint8Array(16);
  fillRandom(registry.context.random, bytes);
  return decodeUuid(bytes, 0);
}
