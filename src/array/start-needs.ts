/** Whether an array that does not run could be started from the superblocks as they are known. */
import { judgeAssembly } from "../md/assemble.ts";
import type { ArrayStatus } from "./protocol.ts";
import type { ArrayRecord, Registry } from "./registry.ts";

export function judgeStart(
  registry: Registry,
  record: ArrayRecord,
  { force }: { force: boolean },
): ReturnType<typeof judgeAssembly> {
  const readable = registry.drivesOf(record.uuid).filter(({ isUnreadable, outstanding }) => {
    return !isUnreadable && outstanding === 0;
  });
  const candidates = readable.map((drive) => ({
    drive: drive.name,
    superblock: drive.superblock!,
    deviceBytes: drive.info.sizeBytes,
    logicalBlockBytes: drive.info.logicalBlockBytes,
  }));
  return judgeAssembly(candidates, { force });
}

/** What it takes to start an array that does not run. Asks the superblocks as they are known. */
export function startNeeds(
  registry: Registry,
  record: ArrayRecord,
): NonNullable<ArrayStatus["startNeeds"]> {
  if (judgeStart(registry, record, { force: false }).ok) return "nothing";
  return judgeStart(registry, record, { force: true }).ok ? "force" : "drives";
}
