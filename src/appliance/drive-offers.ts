/**
 * Which drive is offered for which member that should be replaced, over all arrays at once: each
 * drive once, so that whoever does one line after the other is not refused. Pure.
 *
 *   who comes first    a role without a member, in the array that misses most; then a member whose
 *                      disk is failing; then one that is suspect
 *   what it is offered a spare of its array, then a shared one (a role without a member gets those
 *                      by itself); then the smallest free drive that its array would take. None
 *                      that is failing
 */
import type { ArrayStatus, MemberStatus } from "../array/protocol.ts";
import { isFailing, type ShownDrive } from "./drives/shown-drive.ts";

/** The drive that is offered for a role of an array (its UUID); absent: none is left. */
export class DriveOffers {
  private readonly drives: ReadonlyMap<string, string>;

  constructor(drives: ReadonlyMap<string, string>) {
    this.drives = drives;
  }

  for({ uuid }: Pick<ArrayStatus, "uuid">, role: number): string | undefined {
    return this.drives.get(keyOf(uuid, role));
  }
}

/** In the order in which they are served. */
const URGENCIES = ["missing", "failing", "suspect"] as const;

interface Need {
  readonly array: ArrayStatus;
  readonly role: number;
  readonly urgency: (typeof URGENCIES)[number];
}

export function offerDrives(
  arrays: readonly ArrayStatus[],
  drives: readonly ShownDrive[],
): DriveOffers {
  const failing = new Set(drives.filter(isFailing).map(({ name }) => name));
  const free = drives
    .filter(({ state }) => state === "available")
    .sort((one, other) => one.sizeBytes - other.sizeBytes)
    .map(({ name }) => name);
  const given = new Map<string, string>();
  const taken = new Set<string>();
  const needs = arrays
    .flatMap((array) => needsOf(array, drives))
    .sort(
      (one, other) =>
        URGENCIES.indexOf(one.urgency) - URGENCIES.indexOf(other.urgency) ||
        other.array.degraded - one.array.degraded,
    );
  for (const { array, role, urgency } of needs) {
    const { spares, sharedSpares = [], candidates } = array;
    const ready = urgency === "missing" ? [] : [...spares, ...sharedSpares];
    const fitting = free.filter((name) => candidates.includes(name));
    const drive = [...ready, ...fitting].find((name) => !taken.has(name) && !failing.has(name));
    if (drive === undefined) continue;
    taken.add(drive);
    given.set(keyOf(array.uuid, role), drive);
  }
  return new DriveOffers(given);
}

/** A drive of this role that may come back as it is, or by force alone. */
export function ownStaleDrives(
  { uuid }: Pick<ArrayStatus, "uuid">,
  drives: readonly ShownDrive[],
  role: number,
): readonly ShownDrive[] {
  return drives.filter(
    ({ state, superblock }) =>
      state === "stale" && superblock?.arrayUuid === uuid && superblock.role === role,
  );
}

function needsOf(array: ArrayStatus, drives: readonly ShownDrive[]): Need[] {
  return array.members.flatMap((member) => {
    const urgency = urgencyOf(array, member, drives);
    return urgency === null ? [] : [{ array, role: member.role, urgency }];
  });
}

/** Null: no other drive is wanted for it. */
function urgencyOf(
  array: ArrayStatus,
  member: MemberStatus,
  drives: readonly ShownDrive[],
): Need["urgency"] | null {
  const { role, state, drive, replacement, suspect } = member;
  if (state === "faulty" || state === "missing") {
    const own = ownStaleDrives(array, drives, role);
    return own.some(({ needsForce }) => needsForce !== true) ? null : "missing";
  }
  if (drive === null || replacement !== undefined) return null;
  if (drives.some((shown) => shown.name === drive && isFailing(shown))) return "failing";
  return suspect === undefined ? null : "suspect";
}

function keyOf(arrayUuid: string, role: number): string {
  return `${arrayUuid} ${role}`;
}
