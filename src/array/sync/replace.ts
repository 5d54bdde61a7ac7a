/**
 * A replace: copies a member to its target while it serves. It ends with the target in the place of
 * the member, or with the array exactly as it was before it began, and the reason on record; where
 * the member fails meanwhile a rebuild of the target goes on from where the copy was.
 *
 *   copy each stripe -> copy again what is doubtful -> writes wait, swap -> done
 *                                   ^-------- something has become doubtful
 */
import { assert } from "../../base/assert.ts";
import { MIB } from "../../base/units.ts";
import type { MemberCopy } from "../../raid5/members/member-copy.ts";
import type { Drive } from "../drives/drive.ts";
import { lostBytesOf } from "../running/lost-bytes.ts";
import { isLate } from "./scrub-report.ts";
import type { SyncRun } from "./sync-run.ts";

const NO_SPACE_WAIT_MS = 1_000;
/**
 * A stripe of a copy moves one chunk in buffers for the chunks of all members: in the window of
 * a rebuild the two drives would have too little under way (1.12 times as fast with this one, on
 * loop devices).
 */
const WINDOW_BYTES_MAX = 12 * MIB;

export interface ReplaceHost {
  readonly run: SyncRun;
  /** Somebody wants the target out. */
  releaseTarget(): void;
  /** The update that swaps the two; "again": something has to be copied once more. */
  commitReplace(role: number, mayEnd: () => boolean): Promise<"done" | "again" | "failed">;
}

export async function replace(host: ReplaceHost, member: Drive, target: Drive): Promise<void> {
  const { run } = host;
  const { core, job } = run;
  const { members } = core;
  const { copy } = members;
  assert(job?.kind === "replace" && copy !== null, "a replace has a job, and a copy");
  const isThere = (): boolean => members.copy === copy;
  const isSwapped = (await copyAll(run, copy)) && (await swap(host, copy));
  if (isSwapped) {
    const lostBytes = lostBytesOf(core);
    job.result["lostBytes"] = lostBytes;
    run.finish(job, "done", null);
    const swapped = `drive ${target.name} has replaced drive ${member.name} (role ${copy.role})`;
    const lost = `${lostBytes} bytes of the array are lost: no member gives them`;
    const text = lostBytes === 0 ? swapped : `${swapped}; ${lost}`;
    const severity = lostBytes === 0 ? "info" : "critical";
    core.emit("replace.finished", severity, text, { drive: target, job: job.id });
    return;
  }
  if (run.isStopping && run.abortReason === null && isThere()) {
    await run.checkpoint();
    run.finish(job, "cancelled", "the array was stopped; the replace goes on when it starts");
    return;
  }
  const reason = run.abortReason ?? (job.wish === "cancel" ? "cancelled" : "it did not commit");
  if (job.wish === "cancel" && isThere()) host.releaseTarget();
  const what = `the replace of drive ${member.name} by drive ${target.name}`;
  const about = { drive: target, job: job.id };
  if (job.wish !== "cancel" && isThere()) {
    // Another member has failed, as a rule: it goes on when that has been seen to.
    run.finish(job, "failed", `${reason}; the replace goes on as another job when it can`);
    core.emit("replace.paused", "warning", `${what} waits for a whole array: ${reason}`, about);
    return;
  }
  run.finish(job, job.wish === "cancel" ? "cancelled" : "failed", reason);
  if (isThere()) return;
  core.emit("replace.aborted", "warning", `${what} was aborted: ${reason}`, about);
}

function copyAll(run: SyncRun, copy: MemberCopy): Promise<boolean> {
  const { progress } = copy;
  const { enginePool } = run.core.context;
  return run.sweep(progress, {
    toStripe: Number.POSITIVE_INFINITY,
    windowBytesMax: Math.min(WINDOW_BYTES_MAX, enginePool.totalBytes / 4),
    work: async (stripe, buffer) => {
      if (progress.isDone(stripe)) return true;
      return copyStripe(run, copy, stripe, buffer, () => {
        progress.markDone(stripe);
        run.advance(progress.cursor);
      });
    },
  });
}

async function swap(host: ReplaceHost, copy: MemberCopy): Promise<boolean> {
  const { run } = host;
  const { core } = run;
  const { engine, members, context } = core;
  for (;;) {
    if (!(await copyDoubtful(run, copy)) || !(await engine.flush())) return false;
    if (run.shouldStop || members.copy !== copy) return false;
    const committed = await host.commitReplace(copy.role, () => run.shouldStop);
    if (committed === "done") return true;
    if (run.shouldStop || members.copy !== copy || core.isFailed) return false;
    // Polls: nothing tells that a file system has room again.
    if (committed === "failed") await context.timers.sleep(NO_SPACE_WAIT_MS);
  }
}

async function copyDoubtful(run: SyncRun, copy: MemberCopy): Promise<boolean> {
  const { context, members } = run.core;
  const { bufferBytes } = run.stripes;
  for (;;) {
    const stripe = copy.firstDoubtful;
    if (run.shouldStop || members.copy !== copy) return false;
    if (stripe < 0) return true;
    const buffer = await context.enginePool.take(bufferBytes);
    const isCopied = await copyStripe(run, copy, stripe, buffer, () => copy.settle(stripe));
    context.enginePool.free(buffer, bufferBytes);
    if (isCopied === false) return false;
    // Polls: nothing tells that a file system has room again.
    if (isCopied === "no-space") await context.timers.sleep(NO_SPACE_WAIT_MS);
  }
}

async function copyStripe(
  run: SyncRun,
  copy: MemberCopy,
  stripe: number,
  buffer: number,
  isOnTarget: () => void,
): Promise<boolean | "no-space" | "late"> {
  const { engine, members } = run.core;
  const held = await run.holdFor(stripe);
  if (held < 0) return false;
  const result = await run.stripesNow.copy(stripe, buffer);
  const isDone = result.kind === "done" && members.copy === copy;
  if (isDone) isOnTarget();
  engine.releaseStripe(held);
  if (run.isRefused(result)) return "no-space";
  if (isLate(result, members) && members.copy === copy) return "late";
  if (!isDone) run.abort(run.reasonOf(result));
  return isDone;
}
