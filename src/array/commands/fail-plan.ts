/** What follows where a member is taken for faulty, told without doing it. */
import { assert } from "../../base/assert.ts";
import { ok, type Result } from "../../base/result.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayState, CommandError, FailPlan } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import type { ArrayRecord } from "../record.ts";
import { unreadableWithout } from "../running/lost-bytes.ts";
import { targetOf } from "../running/roster.ts";
import { forecastOf, rebuildTimes } from "./forecast.ts";
import { memberToFail } from "./members.ts";

/** Refused exactly where `failMember` is, and in the same words. */
export function planFail(record: ArrayRecord, drive: Drive): Result<FailPlan, CommandError> {
  const found = memberToFail(record, drive);
  if (!found.ok) return found;
  const { array, role } = found.value;
  const { core } = array;
  const { members, geometry, roster } = core;
  const seat = roster.seatOf(role);
  const { load, members: forecasts } = forecastOf(array, record.rates);
  const spare = spareFor(array, role);
  // The next one is filled from the beginning, unless it is being copied to already.
  const isBegun = spare?.from === "replacement";
  const rebuildBytes = isBegun ? forecasts[role]!.rebuildBytes : geometry.memberSizeBytes;
  const isWhole = members.degradedCount === 0;
  assert(isWhole || seat.kind === "rebuilding", "a member that is needed is not failed");
  return ok({
    array: record.name,
    drive: drive.name,
    role,
    state: stateWithout(array),
    degraded: isWhole ? 1 : members.degradedCount,
    unreadable: unreadableWithout(core, role),
    meets: forecasts[role]!.meets,
    spare,
    load,
    rebuildBytes,
    rebuild: rebuildTimes(array.core.tuning, record.rates, rebuildBytes),
  });
}

function stateWithout({ core }: RaidArray): ArrayState {
  if (core.isFailed) return "failed";
  return core.readOnlyReason === null ? "degraded" : "read-only";
}

/** Of those that are the array's own; none where nothing is rebuilt. */
function spareFor(array: RaidArray, role: number): FailPlan["spare"] {
  const { roster, members } = array.core;
  if (stateWithout(array) !== "degraded") return null;
  const target = targetOf(roster.seatOf(role));
  const isTakenOver = target !== null && members.resync === null;
  if (isTakenOver) return { drive: target.name, from: "replacement" };
  const [spare] = roster.spares;
  return spare === undefined ? null : { drive: spare.name, from: "own" };
}
