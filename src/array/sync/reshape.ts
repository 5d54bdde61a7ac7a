/**
 * A reshape: an array is laid out anew over more members, from its begin to its end, with clients
 * at work. The data of every member moves towards the begin of its device as it goes, so that
 * nothing is overwritten which is still needed, and no copy is kept anywhere (raid5/geometry.ts has
 * the picture).
 *
 * | step                                              | after a crash                             |
 * |---------------------------------------------------|-------------------------------------------|
 * | requests for the next range wait; those that were | as before                                 |
 * | admitted before are answered                      |                                           |
 * | the range is read where it is, and written as     | as before: rows were written that nobody  |
 * | whole stripes of the new layout; flush            | needs, and the range is where it was      |
 * | the superblocks say that it has been moved        | by the freshest one: both copies are whole|
 * | requests go on, to the new place; the rows where  | it is in its new place                    |
 * | it was may be written over by the next step       |                                           |
 *
 * Behind the old end zeros are written, with their parity, as md does. Where bytes are lost (no
 * member gives them) the row is entered as bad in the new place, on the member that would hold them
 * and on the parity's: whoever reads them gets EIO there as here.
 *
 * A member that fails meanwhile is done without; its rebuild, and a resync after a crash, come
 * behind the reshape. There is no way back: a reshape goes on at each start until it is through.
 *
 * Source: the position, and what it means, is that of raid5's reshape in Linux, which goes on with
 * ours as we do with its own (md/reshape.ts).
 */
import { assert } from "../../base/assert.ts";
import { EIO, ENOSPC, ESHUTDOWN, ETIMEDOUT } from "../../base/errno.ts";
import { MIB, ROW_BYTES, roundDown, SECTOR_BYTES } from "../../base/units.ts";
import type { RaidArrayFront } from "../running/raid-front.ts";
import { takeWindow, WINDOW_BYTES_MAX } from "./sweep.ts";
import { SyncPace } from "./sync-pace.ts";
import type { SyncRun } from "./sync-run.ts";

/** Array bytes that are moved at a time, at least a stripe: requests for them wait meanwhile. */
const STEP_BYTES = WINDOW_BYTES_MAX;
/** The same while clients are at work. */
const GENTLE_STEP_BYTES = MIB;
const AGAIN_MS = 250;

/**
 * How a step ended. "stuck": the superblocks could not say that it was done; "late": a member did
 * not give what it holds in time, and reads go around it from now on.
 */
type StepEnd = "done" | "stopped" | "stuck" | keyof typeof WAITS;

/** What a job says that waits before it tries again. */
const WAITS = {
  "no-space": "no space on a member",
  late: "a member does not answer",
  failed: "a range is not taken",
} as const;

export interface ReshapeParts {
  readonly run: SyncRun;
  readonly front: RaidArrayFront;
}

export async function reshape({ run, front }: ReshapeParts): Promise<void> {
  const { core, job } = run;
  const { geometry, context } = core;
  const pool = context.enginePool;
  assert(job?.kind === "reshape" && geometry.isReshaping, "a reshape has a job");
  const pace = new SyncPace(geometry.chunkBytes, context.clock.nowMs());
  const wholeStripes = (bytes: number): number => {
    return Math.max(geometry.stripeBytes, roundDown(bytes, geometry.stripeBytes));
  };
  while (geometry.positionBytes < geometry.reshapedBytes) {
    await run.untilDue(pace, () => mustStop(run));
    if (mustStop(run)) break;
    const from = geometry.positionBytes;
    const stepBytes = wholeStripes(run.isBusy() ? GENTLE_STEP_BYTES : STEP_BYTES);
    // One for each step: who was given up may still write to the last one (write-rules 10).
    const buffer = await takeWindow(pool, context.timers, stepBytes, () => mustStop(run));
    if (buffer === 0) break;
    const end = await moveStep(run, { buffer, stepBytes });
    pool.free(buffer, stepBytes);
    if (end === "stopped" || end === "stuck") break;
    if (end !== "done") {
      job.result["waits"] = WAITS[end];
      // Polls: nothing tells that a file system has room again, or a drive good sectors.
      await context.timers.sleep(AGAIN_MS);
      continue;
    }
    delete job.result["waits"];
    run.advance(geometry.positionBytes / geometry.stripeBytes);
    pace.spend((geometry.positionBytes - from) / geometry.dataCount);
  }
  const isThrough = geometry.positionBytes === geometry.reshapedBytes;
  if (isThrough && !mustStop(run) && (await commit(run, front))) {
    run.finish(job, "done", null);
    const text = `array ${core.name} has ${geometry.memberCount} members and ${front.sizeBytes} bytes now`;
    core.emit("array.grown", "info", `${text}: clients see that when they connect`, {
      job: job.id,
    });
    return;
  }
  if (run.isStopping && !core.isFailed) {
    run.finish(job, "cancelled", "the array was stopped; the reshape goes on when it starts");
    return;
  }
  run.finish(job, "failed", run.abortReason ?? core.readOnlyReason ?? "the members do not take it");
}

/** A member that is lost is done without, unless nothing may be written any more. */
function mustStop({ core, isStopping, abortReason }: SyncRun): boolean {
  return isStopping || abortReason !== null || core.isFailed || core.readOnlyReason !== null;
}

async function moveStep(
  run: SyncRun,
  { buffer, stepBytes }: { readonly buffer: number; readonly stepBytes: number },
): Promise<StepEnd> {
  const { core } = run;
  const { geometry, engine } = core;
  // Of a step that was given up.
  await core.changed.until(() => !engine.hasEarlierRequests || mustStop(run));
  if (mustStop(run)) return "stopped";
  const from = geometry.positionBytes;
  const to = Math.min(from + stepBytes, geometry.moveLimitBytes);
  engine.beginMove(to);
  await core.changed.until(() => !engine.hasEarlierRequests || mustStop(run));
  const end = mustStop(run) ? "stopped" : await moveRange(run, { from, to, buffer });
  // Order: as long as some superblock may say either, nobody reads or writes the range.
  if (end === "stuck") engine.refuseMoved(ESHUTDOWN);
  else engine.endMove({ isDone: end === "done" });
  return end;
}

interface MovedRange {
  readonly from: number;
  readonly to: number;
  readonly buffer: number;
}

async function moveRange(run: SyncRun, range: MovedRange): Promise<StepEnd> {
  const { core } = run;
  const { engine, superblocks, state } = core;
  const { from, to, buffer } = range;
  const lost = await readRange(run, range);
  if (core.isFailed) return "failed";
  if (lost === null) return "late";
  const status = await engine.moveIn(from, to - from, buffer);
  if (status === ENOSPC) return "no-space";
  if (status !== 0) return mustStop(run) ? "stopped" : "failed";
  if (!(await enterLost(run, lost))) return "failed";
  // Order: what the superblocks say to be moved is durable on every member before they do.
  if (!(await engine.flush())) return "failed";
  const isDurable = await superblocks.insist(
    () => state.reshapedTo(to / SECTOR_BYTES),
    () => core.isFailed || run.isStopping,
  );
  if (isDurable) return "done";
  return core.isFailed ? "failed" : "stuck";
}

/**
 * Brings the range to the buffer, zeros behind the old end: where rows of it are lost. Null: a
 * member has not answered, and may still write to the buffer.
 */
async function readRange(run: SyncRun, { from, to, buffer }: MovedRange): Promise<number[] | null> {
  const { engine, geometry, context } = run.core;
  const end = Math.min(to, Math.max(from, geometry.sizeBytes));
  if (end < to) context.kernels.fill(buffer + (end - from), 0, to - end);
  const all = end === from ? 0 : await engine.moveOut(from, end - from, buffer);
  if (all === 0) return [];
  if (all === ETIMEDOUT) return null;
  const lost: number[] = [];
  for (let offset = from; offset < end && !run.core.isFailed; offset += ROW_BYTES) {
    const address = buffer + (offset - from);
    const status = await engine.moveOut(offset, ROW_BYTES, address);
    if (status === 0) continue;
    if (status === ETIMEDOUT) return null;
    assert(status === EIO, "what is not read is lost");
    context.kernels.fill(address, 0, ROW_BYTES);
    lost.push(offset);
  }
  return lost;
}

/** What nobody could give is on record in its new place before it is found there. */
async function enterLost(run: SyncRun, offsets: readonly number[]): Promise<boolean> {
  const { engine, geometry, members } = run.core;
  for (const offset of offsets) {
    const stripe = Math.floor(offset / geometry.stripeBytes);
    const within = offset - stripe * geometry.stripeBytes;
    const dataIndex = Math.floor(within / geometry.chunkBytes);
    const place = { stripe, row: (within % geometry.chunkBytes) / ROW_BYTES };
    for (const role of [geometry.dataRole(stripe, dataIndex), geometry.parityRole(stripe)]) {
      if (!members.isPresent(role)) continue;
      if (!(await engine.rows.record.enterBad(place, role))) return false;
    }
  }
  return true;
}

/** True: the superblocks say that it is through, and clients may have the new size. */
async function commit(run: SyncRun, front: RaidArrayFront): Promise<boolean> {
  const { core } = run;
  const { engine, superblocks, state, geometry } = core;
  if (!(await engine.flush())) return false;
  const isDurable = await superblocks.insist(
    () => state.endReshape(),
    () => core.isFailed || run.isStopping,
  );
  if (!isDurable || core.isFailed) return false;
  geometry.endReshape();
  front.grow();
  return true;
}
