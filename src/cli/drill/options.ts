/** What `parityd drill` is told, and the sizes and names that follow from it. Pure. */
import {
  NEW_ARRAY_MEMBERS_MAX as MEMBERS_MAX,
  NEW_ARRAY_MEMBERS_MIN as MEMBERS_MIN,
} from "../../base/limits.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { GIB, KIB, MIB, roundUp } from "../../base/units.ts";
import type { Invocation } from "../command.ts";
import { parseBytes } from "../quantity.ts";

export const CHUNK_BYTES = 64 * KIB;
export const ARRAY_NAME = "raid_test";
/** The member that is taken out, wiped and added back. */
export const LOST_DRIVE = "drive2";
export const NEW_DRIVE = "drive_new";
/**
 * The second act: the member that is taken out, the target that dies, and the one that does not.
 */
export const SECOND_LOST_DRIVE = "drive0";
export const DYING_DRIVE = "drive_dying";
export const LAST_DRIVE = "drive_last";

const SIZE_BYTES_MIN = 16 * MIB;
const SIZE_BYTES_MAX = 1024 * GIB;
const DEFAULT_SIZE_BYTES = 256 * MIB;
/** The rebuild takes about so long while it is throttled. */
const THROTTLED_REBUILD_SECONDS = 10;

export interface DrillOptions {
  readonly members: number;
  /** Data size of the array. */
  readonly sizeBytes: number;
  /** Where the folder of the drill is made; null: where temporary files go. */
  readonly directory: string | null;
  readonly json: boolean;
}

export interface DrillPlan {
  readonly memberCount: number;
  /** Of the array. */
  readonly sizeBytes: number;
  /** Bytes used of every member, in whole chunks. */
  readonly memberBytes: number;
  /** Size of a member file: what is used, and room for the superblock and mdadm's headroom. */
  readonly fileBytes: number;
  readonly driveNames: readonly string[];
  /** Seconds of load while the array is whole, and while it is degraded. */
  readonly wholeSeconds: number;
  readonly degradedSeconds: number;
  /** The rebuild's speed while faults are injected, in bytes per second of a member. */
  readonly throttledSpeed: number;
}

export function readDrillOptions(invocation: Invocation): Result<DrillOptions, string> {
  const members = Number(invocation.text("members") ?? MEMBERS_MIN);
  if (!Number.isInteger(members) || members < MEMBERS_MIN || members > MEMBERS_MAX) {
    return err(`--members takes a number from ${MEMBERS_MIN} to ${MEMBERS_MAX}`);
  }
  const size = invocation.text("size");
  const sizeBytes = size === undefined ? ok(DEFAULT_SIZE_BYTES) : parseBytes(size);
  if (!sizeBytes.ok) return err(`--size ${sizeBytes.error}`);
  if (sizeBytes.value < SIZE_BYTES_MIN || sizeBytes.value > SIZE_BYTES_MAX) {
    return err("--size takes a size from 16MiB to 1TiB");
  }
  return ok({
    members,
    sizeBytes: sizeBytes.value,
    directory: invocation.text("dir") ?? null,
    json: invocation.isSet("json"),
  });
}

export function planDrill(options: Pick<DrillOptions, "members" | "sizeBytes">): DrillPlan {
  const { members: memberCount } = options;
  const memberBytes = roundUp(Math.ceil(options.sizeBytes / (memberCount - 1)), CHUNK_BYTES);
  return {
    memberCount,
    sizeBytes: memberBytes * (memberCount - 1),
    memberBytes,
    // The data begins behind a thousandth of the drive, rounded up to 1 MiB, and a log space.
    fileBytes: roundUp(memberBytes + memberBytes / 256 + 8 * MIB, MIB),
    driveNames: Array.from({ length: memberCount }, (_, role) => `drive${role}`),
    wholeSeconds: 5,
    degradedSeconds: 5,
    throttledSpeed: Math.max(CHUNK_BYTES, Math.ceil(memberBytes / THROTTLED_REBUILD_SECONDS)),
  };
}
