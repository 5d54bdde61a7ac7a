/**
 * Changes the consistency policy of a running array by request: writes wait while the array is made
 * clean, the policy changes, and they go on.
 */
import { err, ok, type Result } from "../../base/result.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../registry.ts";
import { notRunning } from "./members.ts";

export async function changePolicy(
  record: ArrayRecord,
  policy: ConsistencyPolicy,
): Promise<Result<undefined, CommandError>> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  if (array.policy.kind === policy) return ok();
  const obstacle = obstacleTo(array);
  if (obstacle !== null) return err(commandError("conflict", "policy-not-now", obstacle));
  array.synchronizer.hold();
  const isClean = await array.dirtyMark.pause();
  // A member may have failed while the last writes ended.
  const since = isClean ? obstacleTo(array) : "it cannot be marked clean";
  const changed = since === null ? await array.policy.change(policy) : err(since);
  array.dirtyMark.resume();
  array.synchronizer.resume();
  if (!changed.ok) {
    const detail = `the policy of array ${record.name} was not changed: ${changed.error}`;
    return err(commandError("conflict", "policy-not-changed", detail));
  }
  array.emit("array.policy", "info", `the consistency policy is ${policy} now`);
  return ok();
}

function obstacleTo(array: RaidArray): string | null {
  if (array.fence.obstacle !== null) return array.fence.obstacle.detail;
  const { name, members, synchronizer, readOnlyReason } = array;
  if (readOnlyReason !== null) return `array ${name} is read-only: ${readOnlyReason}`;
  if (members.degradedCount > 0) {
    return `array ${name} is degraded: add a drive and let it rebuild first`;
  }
  if (members.resync !== null) return `array ${name} has a resync due: wait for its end`;
  const job = synchronizer.currentJob;
  if (job !== null) return `a ${job.kind} is running (job ${job.id}): wait for it or cancel it`;
  return null;
}
