/**
 * What a scan makes of each thing that it has found: which are members that it may add, and why it
 * leaves the others alone. Pure.
 *
 * | found                                           | it is                                  |
 * |-------------------------------------------------|----------------------------------------|
 * | a block device that somebody has (also parityd) | left, with what it is used for         |
 * | nothing that could be a superblock              | left; of a file nothing is said at all |
 * | a superblock that cannot be used, or no RAID5   | left, with the reason                  |
 * | a member of an array that was deleted here      | left: that starts only when asked      |
 * | the device UUID of a drive that is known        | left: that drive, or a copy of it      |
 * | a member of an array that runs without it, in a | left: a former member, and nothing is  |
 * | role that another drive has                     | lacking                                |
 * | one device UUID twice, on one disk (by its WWN) | the first is taken: another way to it  |
 * | one device UUID twice otherwise                 | all are left: one is a copy            |
 * | a network block device                          | left: it may be an export of our own   |
 * | a path that did not answer                      | left                                   |
 * | a folder that cannot be read                    | left, with the reason                  |
 * | any other member                                | to be added, under a name made for it  |
 */
import type { DriveIdentity, DriveState } from "../../array/protocol.ts";
import { arrayNameOf } from "../../md/create.ts";
import { Role } from "../../md/superblock.ts";
import { isDevicePath } from "../drive-places.ts";
import type { FoundDevice, FoundMember, LookResult } from "../helper/drive-opener.ts";

export const SCAN_OUTCOMES = ["added", "would-be-added", "left"] as const;
export type ScanOutcome = (typeof SCAN_OUTCOMES)[number];

/** One thing that was found. What is not known of it is null. */
export interface ScanEntry extends DriveIdentity {
  readonly path: string;
  readonly sizeBytes: number | null;
  readonly outcome: ScanOutcome;
  /** The name of the drive that it is, or would be. */
  readonly drive: string | null;
  /** Of the array that its superblock names: the label here, else the name on disk. */
  readonly array: string | null;
  readonly arrayUuid: string | null;
  readonly role: number | "spare" | "faulty" | null;
  readonly eventCount: number | null;
  /** How it stands since it was added. */
  readonly state: DriveState | null;
  /** Why it was left alone, or what there is to say of one that was added. */
  readonly reason: string | null;
}

/** An array that runs: what it does not lack. */
export interface RunningArray {
  readonly eventCount: number;
  /** Drives by role, of members that serve or are being rebuilt. */
  readonly holders: ReadonlyMap<number, string>;
  readonly isWhole: boolean;
}

/** What this host knows already. */
export interface ScanScene {
  /** Drives by the device UUIDs that they carry. */
  readonly driveByUuid: ReadonlyMap<string, string>;
  /** Of the drives that are known and not there: why. */
  readonly missing: ReadonlyMap<string, string>;
  /** Of the arrays that are known, by UUID. */
  readonly labels: ReadonlyMap<string, string>;
  readonly deleted: ReadonlySet<string>;
  /** The arrays that run, by UUID. */
  readonly running: ReadonlyMap<string, RunningArray>;
  /** Names that a drive cannot have. */
  readonly takenNames: ReadonlySet<string>;
}

const RAID5 = 5;
const NAME_CHARACTERS_MAX = 64;
const UNKNOWN: Omit<ScanEntry, "path" | "outcome"> = {
  ...{ byId: null, wwn: null, serial: null, model: null, sizeBytes: null, drive: null },
  ...{ array: null, arrayUuid: null, role: null, eventCount: null, state: null, reason: null },
};

/** By path. */
export function judgeScan(
  { found, taken, unanswered, unreadable }: LookResult,
  scene: ScanScene,
): ScanEntry[] {
  const names = new Set(scene.takenNames);
  const entries: ScanEntry[] = taken.map(({ path, sizeBytes, claim, drive }) => {
    const reason = drive === null ? `in use: ${claim}` : `open here as drive ${drive}`;
    return { ...UNKNOWN, path, sizeBytes, drive, outcome: "left", reason };
  });
  for (const path of unanswered) {
    const reason = "it did not answer, or too many others did not: look at the drive and its cable";
    entries.push({ ...UNKNOWN, path, outcome: "left", reason });
  }
  for (const { path, reason } of unreadable) {
    entries.push({ ...UNKNOWN, path, outcome: "left", reason });
  }
  for (const device of found) {
    const { member, unusable, ...known } = device;
    const entry: ScanEntry = {
      ...UNKNOWN,
      ...known,
      ...memberFacts(member, scene),
      outcome: "left",
    };
    const reason = obstacleTo(device, found, scene);
    if (member === null && unusable === null && !isDevicePath(device.path)) continue;
    if (reason !== null) {
      const drive = member === null ? null : (scene.driveByUuid.get(member.deviceUuid) ?? null);
      entries.push({ ...entry, drive, reason });
      continue;
    }
    const drive = nameFor(device, names);
    names.add(drive);
    entries.push({ ...entry, drive, outcome: "would-be-added" });
  }
  return entries.sort((left, right) => (left.path < right.path ? -1 : 1));
}

function memberFacts(member: FoundMember | null, { labels }: ScanScene): Partial<ScanEntry> {
  if (member === null) return {};
  const { arrayUuid, role, events: eventCount, setName } = member;
  return {
    array: labels.get(arrayUuid) ?? arrayNameOf(setName),
    arrayUuid,
    role: role < Role.limit ? role : role === Role.spare ? "spare" : "faulty",
    eventCount,
  };
}

function obstacleTo(
  device: FoundDevice,
  found: readonly FoundDevice[],
  scene: ScanScene,
): string | null {
  const { member, unusable, path } = device;
  if (unusable !== null) return `its md superblock cannot be used: ${unusable}`;
  if (member === null) return "it carries no md superblock";
  if (member.level !== RAID5) {
    return `a member of an array of level ${member.level}, and parityd runs RAID5 alone`;
  }
  if (scene.deleted.has(member.arrayUuid)) {
    const label = scene.labels.get(member.arrayUuid) ?? member.arrayUuid;
    return `of array ${label}, which was deleted here: start that first, or add the drive by name`;
  }
  const drive = scene.driveByUuid.get(member.deviceUuid);
  if (drive !== undefined) {
    const missing = scene.missing.get(drive);
    if (missing === undefined) return `it has the device UUID of drive ${drive}: a copy of that`;
    return `it has the device UUID of drive ${drive}, which is missing: ${missing}`;
  }
  if (/^\/dev\/nbd\d/.test(path)) {
    return "a network block device, perhaps of this daemon: add it by name where it is meant";
  }
  return formerObstacle(member, scene) ?? twinObstacle(device, member, found);
}

/** As a drive it would be stale for good, and look like something that somebody has to see to. */
function formerObstacle(
  { arrayUuid, role, events }: FoundMember,
  { running, labels }: ScanScene,
): string | null {
  const array = running.get(arrayUuid);
  if (array === undefined || role === Role.spare) return null;
  const label = labels.get(arrayUuid) ?? arrayUuid;
  const holder = array.holders.get(role);
  // One that says itself that it failed has no role; where one is free it may be wanted.
  if (holder === undefined) {
    return role >= Role.limit && array.isWhole
      ? `former member of array ${label}: not taken`
      : null;
  }
  // The step from dirty to clean may count down by one.
  if (events > array.eventCount + 1) {
    const apart = `it was written to apart from array ${label}, in which drive ${holder} has its role`;
    return `${apart}: not taken; what it has of its own is lost where it is added and taken`;
  }
  return `former member of array ${label}, in which drive ${holder} has its role: not taken`;
}

function twinObstacle(
  device: FoundDevice,
  { deviceUuid }: FoundMember,
  found: readonly FoundDevice[],
): string | null {
  const twins = found.filter(({ member }) => member?.deviceUuid === deviceUuid);
  const other = twins.find((twin) => twin !== device);
  if (other === undefined) return null;
  const isOneDisk = device.wwn !== null && twins.every(({ wwn }) => wwn === device.wwn);
  if (!isOneDisk) return `it has the device UUID of ${other.path}: one of them is a copy`;
  return twins[0] === device ? null : `another way to ${twins[0]!.path}`;
}

/**
 * A name that stays with the disk: the serial that is printed on it; else that of the file or
 * device. Where it is taken, with a number.
 */
function nameFor({ serial, path }: FoundDevice, taken: ReadonlySet<string>): string {
  const usable = (text: string): string =>
    text.replaceAll(/[^a-zA-Z0-9._-]+/g, "-").replaceAll(/^[-.]+|[-.]+$/g, "");
  const base = usable(serial ?? "") || usable(path.slice(path.lastIndexOf("/") + 1)) || "drive";
  for (let count = 1; ; count += 1) {
    const tail = count === 1 ? "" : `-${count}`;
    const name = `${base.slice(0, NAME_CHARACTERS_MAX - tail.length)}${tail}`;
    if (!taken.has(name)) return name;
  }
}
