/**
 * A rebuild: fills the member of one role from the others. It ends with that member in sync, or
 * with the array exactly as degraded as before it began, and the reason on record.
 */
import { assert } from "../../base/assert.ts";
import type { ArrayPolicy } from "../policy/array-policy.ts";
import type { SyncRun } from "./sync-run.ts";

export interface RebuildHost {
  readonly run: SyncRun;
  readonly policy: ArrayPolicy;
  /** The update that makes the member count; false: it could not be made durable. */
  commitRebuild(role: number, mayEnd: () => boolean): Promise<boolean>;
}

export async function rebuild(host: RebuildHost, role: number): Promise<void> {
  const { run, policy } = host;
  const { core } = run;
  const { members, engine, roster } = core;
  const { job } = run;
  assert(job?.kind === "rebuild", "a rebuild has a job");
  const drive = roster.driveAt(role);
  assert(drive !== null && members.rebuildingRole === role, "who is rebuilt is in the member set");
  const progress = members.rebuild;
  assert(progress !== null && !core.isFailed, "a rebuild fills one member from all the others");
  const isThere = (): boolean => members.rebuild === progress;
  const retriedBefore = run.retriedCount;
  policy.syncBegins();
  const isComplete = await run.sweep(progress, {
    toStripe: Number.POSITIVE_INFINITY,
    work: async (stripe, buffer) => {
      const held = await run.holdFor(stripe);
      if (held < 0) return false;
      const result = await run.stripesNow.rebuild(stripe, role, buffer);
      const isDone = result.kind === "done" && isThere();
      if (isDone) {
        progress.markDone(stripe);
        run.advance(progress.cursor);
      }
      engine.releaseStripe(held);
      if (run.isRefused(result)) return "no-space";
      if (!isDone) run.abort(run.reasonOf(result));
      return isDone;
    },
  });
  job.result["retries"] = run.retriedCount - retriedBefore;
  if (!isComplete || !isThere()) policy.syncEnds(false);
  if (isComplete && isThere()) assertFilled(run);
  if (isComplete && isThere() && (await commit(host, role))) {
    assert(roster.seatOf(role).kind === "in-sync", "a member counts with its last update");
    run.finish(job, "done", null);
    const text = `drive ${drive.name} (role ${role}) is rebuilt and in sync`;
    core.emit("rebuild.finished", "info", text, { drive, job: job.id });
    core.emit("member.in-sync", "info", text, { drive });
    return;
  }
  if (run.isStopping && run.abortReason === null && isThere()) {
    await run.checkpoint();
    run.finish(job, "cancelled", "the array was stopped; the rebuild goes on when it starts");
    return;
  }
  const reason = run.abortReason ?? (job.wish === "cancel" ? "cancelled" : "it did not commit");
  if (isThere()) run.verdicts.failMember(role, `rebuild aborted: ${reason}`);
  run.finish(job, job.wish === "cancel" ? "cancelled" : "failed", reason);
  const text = `the rebuild of drive ${drive.name} was aborted: ${reason}`;
  core.emit("rebuild.aborted", "critical", text, { drive, job: job.id });
}

function assertFilled({ core }: SyncRun): void {
  const cursor = core.members.rebuild?.cursor ?? 0;
  assert(cursor >= core.geometry.stripeCount, "a member is whole when its last stripe is filled");
}

/** Flush, then the one superblock update that makes the member count. */
async function commit({ run, commitRebuild }: RebuildHost, role: number): Promise<boolean> {
  if (!(await run.core.engine.flush())) return false;
  if (run.abortReason !== null) return false;
  return commitRebuild(role, () => run.shouldStop);
}
