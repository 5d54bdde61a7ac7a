/**
 * The second act: the rebuild's target dies half way. The array must be exactly as degraded as
 * before, with the reason on record; then it rebuilds onto another drive, at full speed.
 */
import type { JobStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { findRollbackFaults, type MemberFacts, readMember } from "./member-files.ts";
import { DYING_DRIVE, LAST_DRIVE, SECOND_LOST_DRIVE } from "./options.ts";
import { followToEnd, pathOf, pause, type Stage, verifyAll, verifyWhole } from "./stage.ts";

/** The clean mark follows the last write within this time: the superblocks are at rest then. */
const REST_MS = 1_000;

interface Snapshot {
  readonly survivors: readonly MemberFacts[];
  readonly sha256: string;
}

export async function playSecondAct(stage: Stage): Promise<Result<undefined, string>> {
  const { api, ledger, timeline } = stage;
  ledger.begin("target-dies");
  const removed = await api.removeDrive(SECOND_LOST_DRIVE);
  if (!removed.ok) return removed;
  timeline.note(`second act: DELETE ${SECOND_LOST_DRIVE}; no writers in this stretch`);
  const array = await api.array();
  if (!array.ok) return array;
  const survivors = array.value.members.flatMap(({ drive, state }) =>
    drive !== null && state === "in-sync" ? [drive] : [],
  );
  if (survivors.length !== stage.plan.memberCount - 1) {
    return err(`${survivors.length} members are in sync where one alone should be missing`);
  }
  const before = await takeSnapshot(stage, survivors, "before");
  if (!before.ok) return before;
  const failed = await failRebuild(stage, before.value);
  if (!failed.ok) return failed;
  const after = await takeSnapshot(stage, survivors, "after");
  if (!after.ok) return after;
  await compareSnapshots(stage, before.value, after.value, survivors);

  ledger.begin("rebuild-again");
  const rebuilt = await rebuildAgain(stage);
  if (!rebuilt.ok) return rebuilt;
  ledger.begin("verify-again");
  const verified = await verifyWhole(stage, LAST_DRIVE);
  ledger.end();
  return verified;
}

async function takeSnapshot(
  stage: Stage,
  survivors: readonly string[],
  when: string,
): Promise<Result<Snapshot, string>> {
  await pause(REST_MS);
  const members: MemberFacts[] = [];
  for (const drive of survivors) {
    const member = readMember(pathOf(stage, drive));
    if (!member.ok) return member;
    members.push(member.value);
  }
  const sha256 = await verifyAll(stage, when);
  return sha256.ok ? ok({ survivors: members, sha256: sha256.value }) : sha256;
}

/** Adds a drive whose upper half refuses every write: the rebuild must fail, and say so. */
async function failRebuild(stage: Stage, before: Snapshot): Promise<Result<undefined, string>> {
  const { api, ledger, timeline, plan } = stage;
  const added = await api.addDrive(DYING_DRIVE, pathOf(stage, DYING_DRIVE));
  if (!added.ok) return added;
  // The files are of one size, so their data begins at one place.
  const offset = before.survivors[0]!.dataOffsetBytes + plan.memberBytes / 2;
  const fault = { drive: DYING_DRIVE, op: "write", at: "completion", errno: "ENXIO" } as const;
  const armed = await api.addFault({ ...fault, offset });
  if (!armed.ok) return armed;
  const job = await api.addMember(DYING_DRIVE);
  if (!job.ok) return job;
  const ended = await followToEnd(stage, job.value.id, "rebuild");
  if (!ended.ok) return ended;
  for (const fault of judgeFailedRebuild(ended.value)) ledger.fail(fault);
  const { done, total, error } = ended.value;
  const share = Math.floor((100 * done) / total);
  timeline.note(`the target died at ${share} %: the job says "${error ?? "nothing"}"`);
  return ok();
}

/** What is wrong with the end of a rebuild whose target died half way. */
export function judgeFailedRebuild({ state, error, done, total }: JobStatus): string[] {
  const faults: string[] = [];
  if (state !== "failed") faults.push(`the rebuild onto a dying drive ended ${state}`);
  if (error === null || error === "") faults.push("the failed rebuild gives no reason");
  // Several stripes are under way at a time, so less than half may be whole.
  if (done <= 0 || done > total / 2) {
    faults.push(`the rebuild ended at ${done} of ${total} bytes where about half was due`);
  }
  return faults;
}

async function compareSnapshots(
  stage: Stage,
  before: Snapshot,
  after: Snapshot,
  survivors: readonly string[],
): Promise<void> {
  const { ledger, timeline, api } = stage;
  const faults = findRollbackFaults(before.survivors, after.survivors);
  if (before.sha256 !== after.sha256) {
    faults.push("the failed rebuild changed what the array reads as (sha256)");
  }
  const array = await api.array();
  if (!array.ok) faults.push(array.error);
  else {
    const { state, degraded, members } = array.value;
    if (state !== "degraded" || degraded !== 1) {
      faults.push(`the array is ${state} with ${degraded} missing after the failed rebuild`);
    }
    for (const { drive, state: member } of members) {
      const isSurvivor = drive !== null && survivors.includes(drive);
      if (isSurvivor !== (member === "in-sync")) {
        faults.push(`${drive ?? "a role"} is ${member} after the failed rebuild`);
      }
    }
  }
  for (const fault of faults) ledger.fail(fault);
  if (faults.length === 0) {
    timeline.note(
      "exactly as degraded as before: same roles, later events, " +
        `sha256 ${after.sha256.slice(0, 12)}... before and after`,
    );
  }
}

async function rebuildAgain(stage: Stage): Promise<Result<undefined, string>> {
  const { api, timeline, nowMs, outcome, plan } = stage;
  const added = await api.addDrive(LAST_DRIVE, pathOf(stage, LAST_DRIVE));
  if (!added.ok) return added;
  const startedMs = nowMs();
  const job = await api.addMember(LAST_DRIVE);
  if (!job.ok) return job;
  const ended = await followToEnd(stage, job.value.id, "rebuild");
  if (!ended.ok) return ended;
  const { state, error } = ended.value;
  if (state !== "done") return err(`the second rebuild ended ${state}: ${error ?? "no reason"}`);
  const seconds = jobSeconds(ended.value) ?? (nowMs() - startedMs) / 1_000;
  outcome.rebuild = { bytes: plan.memberBytes, seconds };
  timeline.note(`rebuilt onto ${LAST_DRIVE}: ${formatBytes(plan.memberBytes)} at full speed`);
  const removed = await api.removeDrive(DYING_DRIVE);
  return removed.ok ? ok() : removed;
}

/** From the job's own times, which know nothing of how often it was asked. */
function jobSeconds({ startedAt, finishedAt }: JobStatus): number | null {
  if (finishedAt === null) return null;
  const seconds = (Date.parse(finishedAt) - Date.parse(startedAt)) / 1_000;
  return seconds > 0 ? seconds : null;
}
