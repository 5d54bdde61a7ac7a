/** What both acts of the drill work with, and the steps that they share. */
import { join } from "node:path";
import type { ArrayStatus, JobStatus } from "../../array/protocol.ts";
import { formatProgress } from "../../base/quantity.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import type { NbdClient } from "../../nbd/client/client.ts";
import type { Ledger } from "../../nbd/client/load/ledger.ts";
import type { Shadow } from "../../nbd/client/load/shadow.ts";
import type { DrillDaemon } from "./daemon.ts";
import type { DrillApi } from "./drill-api.ts";
import { type FaultCounts, noFaults } from "./faults.ts";
import { compareMembers } from "./member-files.ts";
import { type DrillPlan, LOST_DRIVE, NEW_DRIVE } from "./options.ts";
import { readAll } from "./read-all.ts";
import type { Timeline } from "./timeline.ts";

const POLL_MS = 100;
/** A job that has not moved for so long hangs. */
const STANDSTILL_MS = 60_000;

export interface Stage {
  readonly plan: DrillPlan;
  /** Where the member files are. */
  readonly directory: string;
  readonly daemon: DrillDaemon;
  readonly api: DrillApi;
  readonly shadow: Shadow;
  readonly ledger: Ledger;
  readonly timeline: Timeline;
  /** For reading everything; it carries no load. */
  readonly reader: NbdClient;
  readonly outcome: Outcome;
  readonly nowMs: () => number;
  readonly run: number;
  /** Called before all is verified for the first time, with the member files by role. */
  readonly beforeVerify: (paths: readonly string[]) => void | Promise<void>;
}

/** What the acts measure, for the report. */
export interface Outcome {
  faults: FaultCounts;
  retries: number;
  rebuild: { bytes: number; seconds: number };
  loadedRebuildSeconds: number;
}

export function newOutcome(): Outcome {
  const rebuild = { bytes: 0, seconds: 0 };
  return { faults: noFaults(), retries: 0, rebuild, loadedRebuildSeconds: 0 };
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** The file of a drive; the wiped file goes on under a new name of the drive. */
export function pathOf({ directory }: Stage, drive: string): string {
  return join(directory, `${drive === NEW_DRIVE ? LOST_DRIVE : drive}.img`);
}

/** Follows a job until it has ended, however. */
export async function followToEnd(
  stage: Stage,
  id: number,
  label: string,
): Promise<Result<JobStatus, string>> {
  let seenDone = -1;
  let movedMs = stage.nowMs();
  for (;;) {
    const job = await stage.api.job(id);
    if (!job.ok || job.value.state !== "running") return job;
    stage.timeline.progress(label, job.value, formatProgress(job.value));
    if (job.value.done !== seenDone) {
      seenDone = job.value.done;
      movedMs = stage.nowMs();
    } else if (stage.nowMs() - movedMs > STANDSTILL_MS) {
      return err(`the ${job.value.kind} stands still at ${formatBytes(seenDone)}`);
    }
    await pause(POLL_MS);
  }
}

/** Reads every byte over NBD and compares it; the sha256 of all of them. */
export async function verifyAll(stage: Stage, label: string): Promise<Result<string, string>> {
  const { ledger, shadow, timeline, reader } = stage;
  if (reader.sizeBytes !== shadow.sizeBytes) {
    return err(`the export has ${reader.sizeBytes} bytes where ${shadow.sizeBytes} are due`);
  }
  const hash = new Bun.CryptoHasher("sha256");
  const read = await readAll(reader, (offset, data) => {
    hash.update(data);
    const wrong = shadow.findWrong(offset, data);
    if (wrong === null) ledger.verified(data.length);
    else ledger.fail(`${label}: ${wrong}`);
    timeline.progress(label, { done: offset, total: reader.sizeBytes });
  });
  return read.ok ? ok(hash.digest("hex")) : read;
}

/** Every byte over NBD, the rebuilt member against a computation of its own, and a check. */
export async function verifyWhole(
  stage: Stage,
  rebuiltDrive: string,
): Promise<Result<undefined, string>> {
  const { api, ledger, timeline, shadow } = stage;
  const array = await api.array();
  if (!array.ok) return array;
  expectWhole(stage, array.value);
  const paths = memberPaths(stage, array.value);
  const read = await verifyAll(stage, "verify");
  if (!read.ok) return read;
  timeline.note(`read all ${formatBytes(shadow.sizeBytes)} over NBD and compared every byte`);
  const rebuiltRole = array.value.members.findIndex(({ drive }) => drive === rebuiltDrive);
  const compared = await compareMembers({
    paths,
    rebuiltRole,
    shadow,
    onProgress: (done) => timeline.progress("members", { done, total: stage.plan.memberBytes }),
  });
  if (!compared.ok) return compared;
  const { wrong, comparedBytes } = compared.value;
  if (wrong !== null) ledger.fail(wrong);
  else if (comparedBytes < stage.plan.memberBytes)
    ledger.fail("not all of the member was compared");
  else {
    ledger.verified(comparedBytes);
    timeline.note(`${rebuiltDrive} is the XOR of the others, computed from the files themselves`);
  }
  return check(stage);
}

/** The member files, by role. */
export function memberPaths(stage: Stage, array: ArrayStatus): string[] {
  return array.members.map(({ drive }) => pathOf(stage, drive ?? "nothing"));
}

function expectWhole({ ledger }: Stage, { state, degraded, members }: ArrayStatus): void {
  if (degraded !== 0 || (state !== "clean" && state !== "active")) {
    ledger.fail(`the array is ${state} with ${degraded} members missing where it should be whole`);
  }
  for (const { role, state: member } of members) {
    if (member !== "in-sync") ledger.fail(`role ${role} is ${member} where it should be in sync`);
  }
}

async function check(stage: Stage): Promise<Result<undefined, string>> {
  const { api, ledger, timeline } = stage;
  const started = await api.startCheck();
  if (!started.ok) return started;
  const ended = await followToEnd(stage, started.value.id, "check");
  if (!ended.ok) return ended;
  const { state, error, result } = ended.value;
  if (state !== "done") return err(`the check ended ${state}: ${error ?? "no reason on record"}`);
  const mismatchBytes = Number(result["mismatchBytes"]);
  if (mismatchBytes === 0) timeline.note("check: 0 mismatches");
  else ledger.fail(`check found ${mismatchBytes} bytes in rows that do not match`);
  return ok();
}
