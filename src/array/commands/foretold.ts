/**
 * How an array or a drive would be shown behind a command that is only told of (`dryRun`). What a
 * run of the array would find out is not there: candidates, a forecast.
 */
import { assert } from "../../base/assert.ts";
import { LAYOUT_LEFT_SYMMETRIC, layoutName } from "../../md/layout.ts";
import { Role, roleOf } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import {
  type ArrayStatus,
  type CreateArrayRequest,
  type DriveStatus,
  type MemberStatus,
  NOT_YET,
  type SyncAction,
} from "../protocol.ts";
import type { ArrayRecord } from "../record.ts";
import { DEFAULT_TUNING, type Registry } from "../registry.ts";
import type { ForetoldStart } from "../start/start.ts";
import { driveStatus, IDLE, inactiveStatus, NO_ERRORS, NO_IO, pausedScrubOf } from "./status.ts";

const NO_WRITES = { full: 0, partial: 0 } as const;

/** Of a drive that is open and read, but no drive here. */
export function foretoldDriveStatus(registry: Registry, drive: Drive): DriveStatus {
  const { superblock } = drive;
  const status = driveStatus(registry, drive);
  if (superblock === null || registry.recordOf(drive) !== null) return status;
  // Its array is new here, and gets the name that it says.
  const { detail: _unknown, ...rest } = status;
  const role = roleOf(superblock, superblock.devNumber);
  const array = status.superblock?.arrayName ?? "";
  return role < Role.limit
    ? { ...rest, state: "member", member: { array, role } }
    : { ...rest, state: "spare" };
}

export function newArrayStatus(
  request: CreateArrayRequest,
  chosen: { memberBytes: number; drives: readonly Drive[]; spares: readonly Drive[] },
): ArrayStatus {
  const { memberBytes, drives, spares } = chosen;
  const isClean = request.assumeClean;
  const sizeBytes = memberBytes * (drives.length - 1);
  return {
    ...{ name: request.name, uuid: NOT_YET.uuid, nameOnDisk: null, level: "raid5" },
    state: isClean ? "clean" : "active",
    layout: layoutName(LAYOUT_LEFT_SYMMETRIC) ?? "",
    ...{ chunkBytes: request.chunkBytes, sizeBytes, eventCount: NOT_YET.eventCount },
    ...{ consistencyPolicy: request.consistencyPolicy, degraded: 0, reason: null, isHeld: false },
    startNeeds: null,
    members: drives.map(({ name }, role) => memberOf(role, name, "in-sync")),
    spares: spares.map(({ name }) => name),
    candidates: [],
    sync: isClean ? IDLE : { ...IDLE, action: "resync", totalBytes: memberBytes },
    stripeWrites: NO_WRITES,
    ...{ mismatchBytes: 0, lostBytes: 0, lastScrub: null, pausedScrub: null, syncRates: [] },
    ...{ forecast: null, ...DEFAULT_TUNING },
  };
}

export function stoppedStatus(registry: Registry, record: ArrayRecord): ArrayStatus {
  const { running } = record;
  assert(running !== null, "an array that is stopped runs");
  const { mismatchBytes, last, paused } = running.synchronizer.scrubs.memory;
  return {
    ...inactiveStatus(registry, record),
    ...{ eventCount: NOT_YET.eventCount, isHeld: true, reason: "stopped" },
    ...{ mismatchBytes, lastScrub: last, pausedScrub: pausedScrubOf(paused) },
  };
}

export function startedStatus(
  registry: Registry,
  record: ArrayRecord,
  { plan, leftOut, resyncFromSector }: ForetoldStart,
  { readOnly }: { readonly readOnly: boolean },
): ArrayStatus {
  const members = plan.roles.map((entry, role) => {
    if (entry.state === "missing" || (leftOut && entry.state === "rebuilding")) {
      return memberOf(role, null, "missing");
    }
    return memberOf(role, entry.drive, entry.state === "in-sync" ? "in-sync" : "rebuilding");
  });
  const degraded = members.filter(({ state }) => state !== "in-sync").length;
  const isWhole = degraded === 0;
  const running = isWhole ? (resyncFromSector === null ? "clean" : "active") : "degraded";
  return {
    ...inactiveStatus(registry, record),
    ...{ state: readOnly ? "read-only" : running, degraded, members },
    ...{ eventCount: NOT_YET.eventCount, isHeld: false, startNeeds: null },
    reason: readOnly ? "it was started read-only" : null,
    spares: plan.spares.map(({ drive }) => drive),
    sync: { ...IDLE, action: readOnly ? "idle" : actionAtStart() },
    stripeWrites: NO_WRITES,
  };

  function actionAtStart(): SyncAction {
    if (plan.reshape !== null) return "reshape";
    if (members.some(({ state }) => state === "rebuilding")) return "rebuild";
    if (!isWhole) return "idle";
    if (resyncFromSector !== null) return "resync";
    const isCopied = plan.roles.some((entry) => {
      return entry.state === "in-sync" && entry.replacement !== null;
    });
    return isCopied ? "replace" : "idle";
  }
}

function memberOf(role: number, drive: string | null, state: MemberStatus["state"]): MemberStatus {
  return { role, drive, state, errors: NO_ERRORS, errorKinds: {}, errorsByOp: {}, io: NO_IO };
}
