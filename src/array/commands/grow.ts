/** Begins to use more of each member of a running array (sync/grow.ts). */
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { judgeGrowth } from "../../md/growth.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import { fenceObstacle } from "../running/fence.ts";
import { growthCandidates } from "../sync/grow.ts";
import { notRunning, workInTheWay } from "./refusals.ts";

/** `wanted`: bytes of each member. Ok also where it has that size already. */
export async function growArray(
  record: ArrayRecord,
  wanted: number | "max",
): Promise<Result<undefined, CommandError>> {
  const judged = judgeGrowthOf(record, wanted);
  if (!judged.ok) return judged;
  const { array, isSo } = judged.value;
  if (isSo) return ok();
  const { core, synchronizer } = array;
  return synchronizer.givingWay("the array grows", async () => {
    await core.changed.until(() => core.roster.arriving === null);
    // What was to be seen before may have changed meanwhile.
    const since = judge(array, wanted);
    if (!since.ok) return since;
    if (since.value !== core.identity.sizeSectors) synchronizer.startGrowth(since.value);
    return ok();
  });
}

/** Whether it can be of this size, and whether it has it already. */
export function judgeGrowthOf(
  record: ArrayRecord,
  wanted: number | "max",
): Result<{ readonly array: RaidArray; readonly isSo: boolean }, CommandError> {
  const array = record.running;
  if (array === null) return err(notRunning(record));
  const judged = judge(array, wanted);
  if (!judged.ok) return judged;
  return ok({ array, isSo: judged.value === array.core.identity.sizeSectors });
}

function judge(array: RaidArray, wanted: number | "max"): Result<number, CommandError> {
  const { core } = array;
  const obstacle = growthObstacle(array);
  if (obstacle !== null) return err(obstacle);
  const sectors = wanted === "max" ? wanted : Math.floor(wanted / SECTOR_BYTES);
  const judged = judgeGrowth(sectors, core.identity, growthCandidates(core));
  if (judged.ok) return judged;
  const { kind, detail } = judged.error;
  return err(
    kind === "small-spare"
      ? commandError("conflict", "spare-too-small", detail)
      : commandError("invalid", "bad-size", detail),
  );
}

/** Why this array cannot grow now, in size or in members; or null. */
export function growthObstacle(array: RaidArray): CommandError | null {
  const { core } = array;
  const fenced = fenceObstacle(core);
  if (fenced !== null) return fenced;
  const { name, readOnlyReason } = core;
  const notNow = (detail: string) => commandError("conflict", "growth-not-now", detail);
  if (core.isFailed || readOnlyReason !== null) {
    return notNow(`array ${name} is not writable: ${readOnlyReason ?? "it has failed"}`);
  }
  if (core.geometry.isReshaping) return notNow(`array ${name} is being reshaped: wait for its end`);
  const work = workInTheWay(array);
  return work === null ? null : notNow(work);
}
