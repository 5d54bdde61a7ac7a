/**
 * Growth in size: the array is to use more of each member.
 *
 * | step                                  | what the members say | after a crash            |
 * |---------------------------------------|----------------------|--------------------------|
 * | superblocks say how much room each    | the old size         | the old size             |
 * | drive has                             |                      |                          |
 * | parity of the new part is made right, | the old size         | the old size; what was   |
 * | beside clients; or all of it is known |                      | done is done again       |
 * | to read zeros, and is right           |                      |                          |
 * | writes wait; the array is made clean; | the old size         | the old size             |
 * | flush; the bitmap covers the new part |                      |                          |
 * | one update of the superblocks         | on some the new size | the new size, where one  |
 * |                                       |                      | that has it is there     |
 * | clients may ask for it; writes go on  | the new size         | the new size             |
 *
 * Why parity comes before the size, where md does it the other way round: an array with rows that
 * await parity does not start without a member, and an array that holds data must not come to that
 * for growing (DESIGN.md, promise 6). So it is clean at each instant, and no row that was not
 * proven is ever part of it. The price is that the room can be used when the work is through.
 *
 * Order: nothing behind the old end is served before the new size is durable on all members. The
 * engine knows the new stripes from the start, since its locks and rows are what this work uses;
 * nobody else can ask for them, because clients are held to the size of the front.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { GrowthCandidate } from "../../md/growth.ts";
import { dataRoomSectors } from "../../md/superblock-areas.ts";
import { SyncProgress } from "../../raid5/members/sync-progress.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayPolicy } from "../policy/array-policy.ts";
import type { ArrayCore } from "../running/array-core.ts";
import type { DirtyMark } from "../running/dirty-mark.ts";
import type { RaidArrayFront } from "../running/raid-front.ts";
import { makeParity } from "./resync.ts";
import type { SyncRun } from "./sync-run.ts";

export interface GrowthParts {
  readonly run: SyncRun;
  readonly policy: ArrayPolicy;
  readonly dirtyMark: DirtyMark;
  readonly front: RaidArrayFront;
}

/** What is asked of the drives of an array before it grows. */
export function growthCandidates({ roster }: ArrayCore): GrowthCandidate[] {
  return [...roster.drives()].map((drive) => {
    assert(drive.superblock !== null, "the drives of an array carry its superblocks");
    const { name, superblock, info } = drive;
    const isSpare = roster.isSpare(drive);
    return { drive: name, superblock, deviceBytes: info.sizeBytes, isSpare };
  });
}

/** Makes room for the new stripes in the engine. The answer is what `grow` goes on with. */
export function beginGrowth({ geometry }: ArrayCore, sizeSectors: number): { fromStripe: number } {
  const fromStripe = geometry.stripeCount;
  geometry.resize(sizeSectors * SECTOR_BYTES);
  assert(geometry.stripeCount > fromStripe, "an array that grows has more stripes");
  return { fromStripe };
}

export async function grow(
  parts: GrowthParts,
  { fromStripe, sizeSectors }: { readonly fromStripe: number; readonly sizeSectors: number },
): Promise<void> {
  const { run, front } = parts;
  const { core, job } = run;
  assert(job?.kind === "grow", "a growth has a job");
  const { geometry, members } = core;
  assert(members.degradedCount === 0 && members.resync === null, "an array that grows is whole");
  const drives = membersOf(core);
  const readsZeros = drives.every((drive) => drive.readsZerosBehindData);
  const isReady = (await recordRoom(core)) && (readsZeros || (await syncNewPart(run, fromStripe)));
  const isWanted = isReady && !run.shouldStop;
  const failure = isWanted ? await commit(parts, sizeSectors) : endOf(run);
  if (failure !== null) {
    // Nobody was told of the new stripes, and what was under way in them has ended.
    const isOnRecord = core.identity.sizeSectors === sizeSectors;
    if (!isOnRecord) geometry.resize(fromStripe * geometry.chunkBytes);
    const isCancelled = run.abortReason === null && (run.isStopping || job.wish === "cancel");
    run.finish(job, isCancelled ? "cancelled" : "failed", failure);
    return;
  }
  front.grow();
  if (readsZeros) {
    const holes = { isHole: true };
    core.engine.zeroes.allocation.noteZeros(fromStripe, geometry.stripeCount, holes);
  }
  parts.dirtyMark.resume();
  run.finish(job, "done", null);
  const text = `array ${core.name} has ${front.sizeBytes} bytes now: clients see that when they connect`;
  core.emit("array.grown", "info", text, { job: job.id });
}

function membersOf({ roster }: ArrayCore): Drive[] {
  return roster.seats.map((_, role) => {
    const drive = roster.driveAt(role);
    assert(drive?.superblock != null, "an array that grows has all its members");
    return drive;
  });
}

/** False: it is not durable. Order: no superblock has a size that another has no room for. */
async function recordRoom(core: ArrayCore): Promise<boolean> {
  const larger = [...core.roster.drives()].flatMap((drive) => {
    const { superblock, info } = drive;
    assert(superblock !== null, "the drives of an array carry its superblocks");
    const room = dataRoomSectors(superblock, Math.floor(info.sizeBytes / SECTOR_BYTES));
    return room > superblock.dataSizeSectors ? [{ drive, room }] : [];
  });
  if (larger.length === 0) return true;
  return core.superblocks.update(() => {
    for (const { drive, room } of larger) {
      if (drive.superblock !== null) drive.carry({ ...drive.superblock, dataSizeSectors: room });
    }
  });
}

/** True: parity is right from the old end to the new one. */
async function syncNewPart(run: SyncRun, fromStripe: number): Promise<boolean> {
  const { core } = run;
  const { geometry } = core;
  for (const drive of membersOf(core)) {
    const { superblock } = drive;
    const sizeSectors = geometry.memberSizeBytes / SECTOR_BYTES;
    drive.willHold({ ...superblock!, sizeSectors });
  }
  return makeParity(run, new SyncProgress(fromStripe), { toStripe: geometry.stripeCount });
}

function endOf(run: SyncRun): string {
  if (run.abortReason !== null) return run.abortReason;
  if (run.isStopping) return "the array was stopped";
  return run.job?.wish === "cancel" ? "cancelled" : "the superblocks cannot be written";
}

/** Null: the new size is durable, and writes still wait. Otherwise they go on. */
async function commit(parts: GrowthParts, sizeSectors: number): Promise<string | null> {
  const { dirtyMark } = parts;
  const { core } = parts.run;
  const isClean = await dirtyMark.pause();
  const failure = isClean ? await record(parts, sizeSectors) : "it cannot be marked clean";
  assert(core.engine.activeWrites === 0 || failure !== null, "nothing is written meanwhile");
  if (failure !== null) dirtyMark.resume();
  return failure;
}

async function record({ run, policy }: GrowthParts, sizeSectors: number): Promise<string | null> {
  const { core } = run;
  const { engine, superblocks, state, roster } = core;
  // Order: the parity of the new part is durable on every member before a superblock has it.
  if (!(await engine.flush())) return "the members cannot be flushed";
  const small = [...roster.drives()].find(
    ({ superblock }) => (superblock?.dataSizeSectors ?? 0) < sizeSectors,
  );
  if (small !== undefined) return `drive ${small.name} has no room for the new size`;
  await policy.prepareGrowth();
  // From here on there is no way back: a member may have it.
  const isDurable = await superblocks.insist(
    () => {
      for (const drive of roster.drives()) drive.willHold({ ...drive.superblock!, sizeSectors });
      policy.grow(sizeSectors);
      state.growTo(sizeSectors);
    },
    () => run.isStopping,
  );
  policy.start();
  return isDurable && !core.isFailed ? null : "the superblocks cannot be written";
}
