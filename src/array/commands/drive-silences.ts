/**
 * Tells of drives that do not answer: long before one is failed for that (deadline-watch.ts,
 * drive-deadlines.ts), clients or a start wait for it, and who looks should see for what.
 *
 * A silence begins with the request that has waited too long, and ends when the drive owes nothing
 * for long: that it answers others meanwhile changes nothing. Its begin and its end are an event
 * each; a drive that falls silent again and again is told of once a minute.
 */
import type { Drive } from "../drives/drive.ts";
import { type DriveSilence, silenceText } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import type { ArrayRecord } from "../record.ts";
import type { Registry } from "../registry.ts";
import { deadlineOf } from "./drive-deadlines.ts";

const PERIOD_MS = 1_000;
export const SILENCE_MS = 5_000;
/** What is so late after a silence is late for the same reason. */
const LATE_STILL_MS = 1_000;
const TELL_AGAIN_MS = 60_000;

/** Looks again and again, for as long as the service lives. */
export function watchSilences(registry: Registry): void {
  registry.context.timers.every(PERIOD_MS, () => {
    for (const drive of registry.allDrives()) look(registry, drive);
  });
}

function look(registry: Registry, drive: Drive): void {
  const { silence } = drive;
  const nowMs = registry.context.clock.nowMs();
  silence.sinceMs = sinceOf(drive, nowMs);
  const told = silence.toldMs !== null;
  if (silence.sinceMs !== null) {
    if (told || nowMs - silence.endedMs < TELL_AGAIN_MS) return;
    silence.toldMs = nowMs;
    emit(registry, drive, silenceText(silenceOf(registry, drive)!));
    return;
  }
  if (!told) return;
  silence.toldMs = null;
  silence.endedMs = nowMs;
  // Of one that failed that is told, and it has not answered.
  if (drive.failure === "") emit(registry, drive, null);
}

/** Since when it owes an answer for too long; null: it does not. */
function sinceOf({ io, failure, silence }: Drive, nowMs: number): number | null {
  if (failure !== "") return null;
  const ageMs = io.oldestAgeMs("owed");
  if (silence.sinceMs === null) return ageMs >= SILENCE_MS ? nowMs - ageMs : null;
  return ageMs > LATE_STILL_MS ? silence.sinceMs : null;
}

/** What the outside is told of a drive that is silent; null: it is not. */
export function silenceOf(registry: Registry, drive: Drive): DriveSilence | null {
  const { sinceMs } = drive.silence;
  if (sinceMs === null || drive.failure !== "") return null;
  const seconds = Math.floor((registry.context.clock.nowMs() - sinceMs) / 1_000);
  const waits = drive.io.oldestAgeMs("write") > LATE_STILL_MS ? "write" : "read";
  const holder = registry.holderOf(drive);
  const follows = followsOf(holder?.running ?? null, drive, waits);
  return { seconds, waits, follows };
}

function followsOf(array: RaidArray | null, drive: Drive, waits: DriveSilence["waits"]): string {
  if (!drive.info.isDirect) return "what needs it waits until it answers";
  const deadlineMs = deadlineOf(drive, array);
  if (deadlineMs !== null) {
    const after = `after ${deadlineMs / 1_000} s`;
    if (array === null) return `it is given up ${after}`;
    if (!array.core.hasStarted) return `the start of the array waits, and does without it ${after}`;
    return `it is let go of ${after}`;
  }
  const { core } = array!;
  const { members, tuning, roster } = core;
  const others = [...core.presentMembers()].filter((member) => member.drive !== drive);
  if (others.some((other) => other.drive.silence.sinceMs !== null)) {
    return "other members are silent too: while they are none is failed, and all waits";
  }
  const isNeeded = members.degradedCount > 0 && members.rebuildingRole !== roster.roleOf(drive);
  if (waits === "write") {
    const fails = isNeeded ? "it is failed, and the array with it," : "it is failed";
    return `${fails} after ${tuning.writeDeadlineMs / 1_000} s, until then clients wait`;
  }
  if (isNeeded) return "no other member has what it holds: what needs it waits until it answers";
  return `reads are answered from parity after ${tuning.readDeadlineMs / 1_000} s`;
}

/** `text`: of a silence that begins; null: it has ended. */
function emit(registry: Registry, drive: Drive, text: string | null): void {
  const record: ArrayRecord | null = registry.holderOf(drive) ?? registry.recordOf(drive);
  registry.emit({
    kind: text === null ? "drive.answers" : "drive.silent",
    severity: text === null ? "info" : "warning",
    array: record?.name ?? "",
    arrayUuid: record?.uuid ?? null,
    drive: drive.name,
    job: null,
    atMs: registry.context.clock.wallMs(),
    message: `drive ${drive.name} ${text ?? "answers again"}`,
  });
}
