/**
 * What a rebuild of each member would take now, and what it would meet: told before a drive is
 * pulled. From rates that were measured (sync/sync-rates.ts) and the bad-block logs; what was not
 * measured is null.
 *
 * `meets` is one list by kind: whatever else a rebuild might meet on a member is an entry more.
 */
import { assert } from "../../base/assert.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { Drive } from "../drives/drive.ts";
import type {
  ArrayForecast,
  ArrayTuning,
  ClientLoad,
  ForecastMeeting,
  MemberForecast,
  RebuildTimes,
} from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { unreadableBytesByRole } from "../running/lost-bytes.ts";
import { speedLimit } from "../sync/sync-pace.ts";
import type { SyncRates } from "../sync/sync-rates.ts";
import { removalObstacle } from "./removal.ts";

type Speeds = Pick<ArrayTuning, "syncSpeedMin" | "syncSpeedMax">;

/** Clients count as at work for so long after a request. */
const AT_WORK_MS = 1_000;

/** `tuning`: by which speeds; those that it has, unless a dry run asks for others. */
export function forecastOf(
  array: RaidArray,
  rates: SyncRates,
  tuning: Speeds = array.core.tuning,
): ArrayForecast {
  const { core } = array;
  const { roster } = core;
  const unreadable = unreadableBytesByRole(core);
  const members = roster.seats.map((_, role): MemberForecast => {
    const rebuildBytes = bytesToRebuild(array, role);
    const drive = roster.driveAt(role);
    const isNeeded = drive !== null && removalObstacle(array, drive, { canForce: false }) !== null;
    return {
      role,
      drive: drive?.name ?? null,
      rebuildBytes,
      rebuild: rebuildTimes(tuning, rates, rebuildBytes),
      meets: meetingsOf(array, role),
      unreadableBytes: isNeeded ? null : unreadable[role]!,
    };
  });
  return { load: loadOf(array), members };
}

function loadOf({ core, front }: RaidArray): ClientLoad {
  return core.context.clock.nowMs() - front.lastRequestMs < AT_WORK_MS ? "busy" : "idle";
}

/** Of a member that is being rebuilt or copied, what its drive or target lacks still. */
function bytesToRebuild({ core }: RaidArray, role: number): number {
  const { members, geometry } = core;
  const whole = geometry.memberSizeBytes;
  const { rebuild, copy } = members;
  let doneStripes = 0;
  if (role === members.rebuildingRole && rebuild !== null) doneStripes = rebuild.cursor;
  else if (role === members.copyRole && copy !== null) doneStripes = copy.progress.cursor;
  assert(doneStripes <= geometry.stripeCount, "no more is filled than there is");
  return whole - doneStripes * geometry.chunkBytes;
}

export function rebuildTimes(
  { syncSpeedMin: speedMin, syncSpeedMax: speedMax }: Speeds,
  rates: SyncRates,
  rebuildBytes: number,
): RebuildTimes {
  const timeFor = (load: ClientLoad) => {
    const limit = speedLimit({ speedMin, speedMax }, load === "busy");
    return rates.timeFor(rebuildBytes, { load, limit });
  };
  return { idle: timeFor("idle"), busy: timeFor("busy") };
}

/** What stands against the members that a rebuild of `role` has to read. */
function meetingsOf({ core }: RaidArray, role: number): ForecastMeeting[] {
  return [...core.presentMembers()].flatMap((other) => {
    return other.role === role ? [] : badBlocksOf(other.role, other.drive);
  });
}

function badBlocksOf(role: number, { name, badBlocks }: Drive): ForecastMeeting[] {
  if (badBlocks.isEmpty) return [];
  const bytes = badBlocks.totalSectors * SECTOR_BYTES;
  return [{ kind: "bad-blocks", role, drive: name, count: badBlocks.entryCount, bytes }];
}
