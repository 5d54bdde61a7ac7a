/** A resync: computes parity anew in all rows that may not be in sync. */
import { assert } from "../../base/assert.ts";
import type { SyncProgress } from "../../raid5/members/sync-progress.ts";
import type { ArrayPolicy } from "../policy/array-policy.ts";
import type { SyncRun } from "./sync-run.ts";

export async function resync(run: SyncRun, policy: ArrayPolicy): Promise<void> {
  const { core } = run;
  const { members, engine } = core;
  const { job } = run;
  assert(job?.kind === "resync", "a resync has a job");
  const progress = members.resync;
  assert(progress !== null && members.degradedCount === 0, "parity is made from all members");
  let mismatchBytes = 0;
  policy.syncBegins();
  const isComplete = await makeParity(run, progress, {
    toStripe: members.resyncEnd,
    onMismatch: (bytes) => {
      mismatchBytes += bytes;
    },
  });
  job.result["mismatchBytes"] = mismatchBytes;
  if (isComplete && run.abortReason === null && (await engine.flush())) {
    const lastStripe = Math.min(members.resyncEnd, core.geometry.stripeCount);
    assert(progress.cursor >= lastStripe, "parity is in sync when its last stripe is");
    // A member may have failed while the flush was told of.
    policy.syncEnds(members.degradedCount === 0);
    const isDurable = await core.record(() => members.endResync());
    if (isDurable || core.superblocks.hasNoRoom) {
      run.finish(job, "done", null);
      core.emit("resync.finished", "info", "parity is in sync", { job: job.id });
      return;
    }
  }
  policy.syncEnds(false);
  await run.checkpoint();
  const reason = run.abortReason ?? (run.isStopping ? "the array was stopped" : "cancelled");
  const isWanted = run.isStopping || job.wish === "cancel";
  run.finish(job, isWanted ? "cancelled" : "failed", reason);
}

/** Makes parity right in all that `progress` lacks, up to `toStripe`. True: it is. */
export function makeParity(
  run: SyncRun,
  progress: SyncProgress,
  { toStripe, onMismatch }: { toStripe: number; onMismatch?: (bytes: number) => void },
): Promise<boolean> {
  return run.sweep(progress, {
    toStripe,
    work: async (stripe, buffer) => {
      const held = await run.holdFor(stripe);
      if (held < 0) return false;
      const result = await run.stripesNow.compare(stripe, "resync", buffer);
      if (result.kind === "done") {
        onMismatch?.(result.mismatchBytes);
        progress.markDone(stripe);
        run.advance(progress.cursor);
      }
      run.core.engine.releaseStripe(held);
      if (run.isRefused(result)) return "no-space";
      if (result.kind !== "done") run.abort(run.reasonOf(result));
      return result.kind === "done";
    },
  });
}

/**
 * Brings the first stripe in sync, durably, before the array takes writes. Where a member fails in
 * it the array has been told.
 */
export async function syncFirstStripe({ core, stripes }: SyncRun): Promise<void> {
  const { engine, context } = core;
  assert(!core.hasStarted, "the first stripe is in sync before requests come");
  const { resync: progress } = core.members;
  if (progress === null || progress.cursor > 0 || core.geometry.isReshaping) return;
  const buffer = await context.enginePool.take(stripes.bufferBytes);
  const held = await engine.holdStripe(0);
  const result = await stripes.compare(0, "resync", buffer);
  if (result.kind === "done") progress.markDone(0);
  engine.releaseStripe(held);
  context.enginePool.free(buffer, stripes.bufferBytes);
  if (result.kind !== "done" || !(await engine.flush())) return;
  progress.durableStripe = progress.cursor;
}
