/**
 * Changes the consistency policy of a running array by request: writes wait while the array is made
 * clean, the policy changes, and they go on.
 */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import type { ConsistencyPolicy } from "../../md/create.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import { fenceObstacle } from "../running/fence.ts";
import { notRunning, workInTheWay } from "./refusals.ts";

export async function changePolicy(
  record: ArrayRecord,
  policy: ConsistencyPolicy,
): Promise<Result<undefined, CommandError>> {
  const judged = judgePolicy(record, policy);
  if (!judged.ok) return judged;
  const { array, isSo } = judged.value;
  if (isSo) return ok();
  return array.synchronizer.givingWay("the policy changes", () =>
    changeAtRest(record, array, policy),
  );
}

/** Whether the policy can be changed to this now, and whether the array has it already. */
export function judgePolicy(
  record: ArrayRecord,
  policy: ConsistencyPolicy,
): Result<{ readonly array: RaidArray; readonly isSo: boolean }, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const isSo = array.core.policyKind === policy;
  const obstacle = isSo ? null : obstacleTo(array);
  if (obstacle === null) return ok({ array, isSo });
  return err(commandError("conflict", "policy-not-now", obstacle));
}

async function changeAtRest(
  record: ArrayRecord,
  array: RaidArray,
  policy: ConsistencyPolicy,
): Promise<Result<undefined, CommandError>> {
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
  assert(array.core.policyKind === policy, "a policy that was changed holds");
  array.core.emit("array.policy", "info", `the consistency policy is ${policy} now`);
  return ok();
}

function obstacleTo(array: RaidArray): string | null {
  const fenced = fenceObstacle(array.core);
  if (fenced !== null) return fenced.detail;
  const { name, readOnlyReason } = array.core;
  if (readOnlyReason !== null) return `array ${name} is read-only: ${readOnlyReason}`;
  if (array.core.geometry.isReshaping) {
    return `array ${name} gets more members: wait for the end of that`;
  }
  return workInTheWay(array);
}
