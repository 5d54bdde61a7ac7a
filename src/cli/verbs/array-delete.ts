/**
 * `parityd array delete`. What would be lost is said before: every drive of which the superblock
 * would be erased, also those that the array has no role for any more.
 */

import type { ArrayStatus, DriveStatus } from "../../array/protocol.ts";
import { wordFor } from "../../base/counted.ts";
import { ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { type CallError, DaemonClient, fail, usageFailure } from "../client.ts";
import type { Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { tell } from "../tell.ts";

export async function deleteArray(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const name = invocation.operand(0);
  const doesErase = invocation.isSet("zero-superblocks");
  const planned = await planOf(client, name, { doesErase });
  if (!planned.ok) return fail(host, planned.error);
  const { plan, done } = planned.value;
  const query = `?zeroSuperblocks=${doesErase}&force=${invocation.isSet("force")}`;
  const remove = () => client.call("DELETE", `/v1/arrays/${encodeURIComponent(name)}${query}`);
  const given = invocation.text("yes");
  const isDry = invocation.isSet("dry-run");
  const question = `This will ${plan}.\nType the array's name to go on: `;
  const confirmed = given ?? (isDry ? name : await host.ask(question));
  if (confirmed === null) return usageFailure(host, `to ${plan}, add --yes ${name}`);
  if (confirmed !== name) {
    return usageFailure(host, `"${confirmed}" is not the array's name: nothing was changed`);
  }
  const deleted = await remove();
  if (!deleted.ok) return fail(host, deleted.error);
  const line = isDry ? `would ${plan}` : done;
  const value = { did: "array delete", of: name };
  tell(invocation, host, { schema: "parityd.done/1", value, lines: () => [line] });
  return Exit.ok;
}

/** In words: what is to be done ("stop and forget ..."), and that it is done. */
interface Plan {
  readonly plan: string;
  readonly done: string;
}

async function planOf(
  client: DaemonClient,
  name: string,
  { doesErase }: { doesErase: boolean },
): Promise<Result<Plan, CallError>> {
  const found = await client.get<ArrayStatus>(`/v1/arrays/${encodeURIComponent(name)}`);
  if (!found.ok) return found;
  const array = found.value.value;
  // One that was deleted is still found by its name, and is not among those that are known.
  const known = await client.get<ArrayStatus[]>("/v1/arrays");
  if (!known.ok) return known;
  const isDeleted = !known.value.value.some(({ uuid }) => uuid === array.uuid);
  const drives = doesErase ? await client.get<DriveStatus[]>("/v1/drives") : null;
  if (drives !== null && !drives.ok) return drives;
  const erased = drives === null ? "" : eraseText(array, drives.value.value);
  const on = array.members.map(({ drive }) => drive ?? "(missing)").join(", ");
  const what = `${name} (${formatBytes(array.sizeBytes)} on ${on})`;
  const doesRun = !["inactive", "absent"].includes(array.state);
  const first = isDeleted
    ? `leave ${name} as it is, which was deleted already`
    : `${doesRun ? "stop and forget" : "forget"} ${what}`;
  return ok({
    plan: erased === "" ? first : `${first}, and erase ${erased}`,
    done: `${name} is deleted${isDeleted ? " already" : ""}${erased === "" ? "" : `; erased: ${erased}`}`,
  });
}

/** The drives that the call erases: all that carry a superblock of this array. */
function eraseText(array: ArrayStatus, drives: readonly DriveStatus[]): string {
  const serving = new Set(array.spares);
  for (const { drive, state } of array.members) {
    if (drive !== null && state !== "faulty" && state !== "missing") serving.add(drive);
  }
  const carriers = drives
    .filter(({ state, superblock }) => state !== "missing" && superblock?.arrayUuid === array.uuid)
    .map((drive) => drive.name);
  const members = carriers.filter((drive) => serving.has(drive));
  const former = carriers.filter((drive) => !serving.has(drive));
  const texts = members.length === 0 ? [] : [superblocksOf(members)];
  if (former.length > 0) {
    const are = wordFor(former.length, "is no member", "are no members");
    texts.push(`${superblocksOf(former)}, which ${are} any more (may be the last old copy)`);
  }
  return texts.join(", and also ") || "no superblock, as no drive here carries one of it";
}

function superblocksOf(drives: readonly string[]): string {
  return `the ${wordFor(drives.length, "superblock")} of ${drives.join(", ")}`;
}
