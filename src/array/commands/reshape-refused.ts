/**
 * A growth in members that is refused on its way, by what has happened meanwhile: the drives that
 * it had made spares are nobody's again, and what cannot be taken back is told with the refusal.
 *
 * | such a drive                              | becomes                                         |
 * |-------------------------------------------|-------------------------------------------------|
 * | has not joined                            | left as it is                                   |
 * | is a spare                                | free: its superblock is erased                  |
 * | has the role of a member that failed      | stays what it is                                |
 * | cannot be written, or another host has it | stays a spare by what is on it                  |
 * | is named a member by some superblock      | one, when the array starts                      |
 */
import type { Drive } from "../drives/drive.ts";
import { eraseSuperblock } from "../drives/erase-superblock.ts";
import type { CommandError } from "../protocol.ts";
import type { ArrayRecord } from "../record.ts";
import type { Registry } from "../registry.ts";

/** A drive that is about to join, and what is lost with that; null: nothing. */
export interface Joining {
  readonly drive: Drive;
  readonly loses: string | null;
}

export function joiningOf(drive: Drive): Joining {
  const { name, signature, probe, isOurs } = drive;
  if (probe.kind === "member") return { drive, loses: `drive ${name} was a member of an array` };
  const isHeld = signature !== null && !isOurs;
  return { drive, loses: isHeld ? `drive ${name} held ${signature}` : null };
}

/**
 * Whether the array has so many members, or will when it starts: one drive that says so is enough,
 * as it is the freshest.
 */
export function isBegun(
  registry: Registry,
  { uuid, running }: ArrayRecord,
  memberCount: number,
): boolean {
  if (running !== null) return running.core.geometry.memberCount === memberCount;
  const superblocks = registry.drivesOf(uuid).flatMap(({ superblock }) => superblock ?? []);
  const [freshest] = superblocks.sort((one, other) => other.events - one.events);
  return freshest?.memberCount === memberCount;
}

/** The refusal, with what could not be taken back. */
export async function takeBack(
  registry: Registry,
  record: ArrayRecord,
  joining: readonly Joining[],
  error: CommandError,
): Promise<CommandError> {
  const texts: string[] = [];
  for (const each of joining) {
    const { drive, loses } = each;
    if (drive.superblock?.arrayUuid !== record.uuid) continue;
    const kept = await letGo(registry, record, drive);
    if (kept !== null) texts.push(kept);
    else if (loses !== null) texts.push(`${loses}, which is written over`);
  }
  return texts.length === 0 ? error : { ...error, detail: [error.detail, ...texts].join("; ") };
}

/** Null: the drive is nobody's. Otherwise what it is, and the way out. */
async function letGo(
  registry: Registry,
  record: ArrayRecord,
  drive: Drive,
): Promise<string | null> {
  const { name } = drive;
  const core = record.running?.core ?? null;
  if (core !== null) {
    await core.changed.until(() => core.roster.arriving === null);
    const role = core.roster.roleOf(drive);
    if (role >= 0) return `drive ${name} has role ${role}, whose member failed meanwhile`;
    if (core.roster.isSpare(drive)) await record.running!.seating.remove(drive, "not needed");
  }
  const isErased = !drive.isShut && (await eraseSuperblock(registry, drive));
  if (isErased) return null;
  drive.letGo();
  return `drive ${name} is a spare of the array by what is on it, and cannot be written`;
}
