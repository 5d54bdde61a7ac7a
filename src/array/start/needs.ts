/** Whether an array that does not run could be started from the superblocks as they are known. */
import { assert } from "../../base/assert.ts";
import { err } from "../../base/result.ts";
import { judgeAssembly } from "../../md/assemble/assemble.ts";
import { type AssemblyRefusal, refusal } from "../../md/assemble/assembly-plan.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayStatus } from "../protocol.ts";
import type { ArrayRecord } from "../record.ts";
import type { Registry } from "../registry.ts";

/** Nothing is known of it, or what it still owes may land on what is written from now on. */
function isUnusable({ isUnreadable, outstanding }: Drive): boolean {
  return isUnreadable || outstanding > 0;
}

export function judgeStart(
  registry: Registry,
  record: ArrayRecord,
  { force }: { force: boolean },
): ReturnType<typeof judgeAssembly> {
  const readable = registry.drivesOf(record.uuid).filter((drive) => !isUnusable(drive));
  const candidates = readable.map(({ name, superblock, info }) => {
    assert(superblock !== null, "the drives of an array carry its superblocks");
    const { sizeBytes: deviceBytes, logicalBlockBytes } = info;
    return { drive: name, superblock, deviceBytes, logicalBlockBytes };
  });
  if (candidates.length === 0) return err(noneAnswers(registry, record));
  const judged = judgeAssembly(candidates, { force });
  if (judged.ok) {
    const { arrayUuid, freshest, roles } = judged.value;
    assert(arrayUuid === record.uuid, "a plan is of the array that was judged");
    assert(roles.length === freshest.memberCount, "a plan has an entry for each role");
  }
  return judged;
}

function noneAnswers(registry: Registry, { uuid, name }: ArrayRecord): AssemblyRefusal {
  const drives = registry.drivesOf(uuid).map((drive) => drive.name);
  const detail = `No drive of array ${name} answers. Check them and their cables.`;
  return refusal("too-few-members", drives, detail);
}

/** What it takes to start an array that does not run. Asks the superblocks as they are known. */
export function startNeeds(
  registry: Registry,
  record: ArrayRecord,
): NonNullable<ArrayStatus["startNeeds"]> {
  const judged = judgeStart(registry, record, { force: false });
  if (judged.ok) return "nothing";
  if (judged.error.kind === "duplicate-member") return "fewer-drives";
  return judgeStart(registry, record, { force: true }).ok ? "force" : "drives";
}
