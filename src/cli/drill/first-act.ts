/**
 * The first act: SPDK issue 3620, played over the HTTP API and NBD. An array loses a member under
 * load, goes on degraded, gets the wiped drive back, and rebuilds onto it under load while faults
 * come from below.
 */
import type { ArrayStatus } from "../../array/protocol.ts";
import { errnoName } from "../../base/errno.ts";
import { SeededRandom } from "../../base/random.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { within } from "./deadline.ts";
import { errorKindsOf, FAULT_KINDS, findUnseen } from "./faults.ts";
import { wipeFile } from "./ground.ts";
import { Load } from "./load.ts";
import { openNbd } from "./nbd-link.ts";
import { ARRAY_NAME, LOST_DRIVE, NEW_DRIVE } from "./options.ts";
import { followToEnd, memberPaths, pathOf, pause, type Stage, verifyWhole } from "./stage.ts";
import { findTrouble, WatchedRebuild } from "./watched-rebuild.ts";

const POLL_MS = 100;
const DRAIN_SECONDS = 60;

export async function playFirstAct(stage: Stage): Promise<Result<undefined, string>> {
  const load = await startLoad(stage);
  if (!load.ok) return load;
  const played = await playUnderLoad(stage, load.value);
  const what = "the answers to what is under way";
  const drained = await within(load.value.stop(), { seconds: DRAIN_SECONDS, what });
  stage.ledger.end();
  if (!played.ok) return played;
  if (!drained.ok) return drained;
  await within(load.value.disconnect(), { seconds: DRAIN_SECONDS, what: "disconnecting" });
  const flushed = await within(stage.reader.flush(), { seconds: DRAIN_SECONDS, what: "FLUSH" });
  if (!flushed.ok) return flushed;
  if (!flushed.value.ok) return err(`FLUSH was refused with ${errnoName(flushed.value.error)}`);
  stage.timeline.note(
    `the writers have stopped: ${formatBytes(stage.ledger.bytesWritten)} acknowledged`,
  );
  const array = await stage.api.array();
  if (!array.ok) return array;
  await stage.beforeVerify(memberPaths(stage, array.value));
  stage.ledger.begin("verify");
  const verified = await verifyWhole(stage, NEW_DRIVE);
  stage.ledger.end();
  return verified;
}

async function startLoad(stage: Stage): Promise<Result<Load, string>> {
  const { daemon, shadow, ledger, run, nowMs, plan, timeline } = stage;
  const links = [];
  for (let link = 0; link < 3; link += 1) {
    const opened = await openNbd(daemon.nbdPath, ARRAY_NAME);
    if (!opened.ok) return opened;
    links.push(opened.value);
  }
  const load = new Load({
    links: { sequential: links[0]!, random: links[1]!, checking: links[2]! },
    shadow,
    ledger,
    random: new SeededRandom(run),
    run,
    memberCount: plan.memberCount,
    nowMs,
  });
  ledger.begin("whole");
  load.start();
  timeline.note("writing over NBD: 128 KiB in order at depth 64, 512 B to 256 KiB at any byte");
  return ok(load);
}

async function playUnderLoad(stage: Stage, load: Load): Promise<Result<undefined, string>> {
  const { api, ledger, timeline, plan, nowMs } = stage;
  const resynced = await finishResync(stage);
  if (!resynced.ok) return resynced;
  const whole = await letRun(stage, load, "whole", plan.wholeSeconds);
  if (!whole.ok) return whole;

  const removedMs = nowMs();
  const removed = await api.removeDrive(LOST_DRIVE);
  if (!removed.ok) return removed;
  ledger.begin("degraded");
  const tookMs = Math.round(nowMs() - removedMs);
  timeline.note(`DELETE ${LOST_DRIVE} under load: answered after ${tookMs} ms`);
  const degraded = await expectDegraded(stage);
  if (!degraded.ok) return degraded;
  const went = await letRun(stage, load, "degraded", plan.degradedSeconds);
  if (!went.ok) return went;

  const wiped = wipeFile(pathOf(stage, LOST_DRIVE), plan.fileBytes);
  if (!wiped.ok) return wiped;
  timeline.note(`wiped ${LOST_DRIVE}.img: it comes back as ${NEW_DRIVE}`);
  return rebuildUnderFaults(stage, load);
}

/** The first resync makes all parity right; before that a lost member could not be made up. */
async function finishResync(stage: Stage): Promise<Result<undefined, string>> {
  const { api, timeline } = stage;
  const jobs = await api.jobs();
  if (!jobs.ok) return jobs;
  const resync = jobs.value.find(({ kind }) => kind === "resync");
  if (resync === undefined) return err("the new array has not begun its first resync");
  const ended = await followToEnd(stage, resync.id, "resync");
  if (!ended.ok) return ended;
  const { state, error } = ended.value;
  if (state !== "done") return err(`the first resync ended ${state}: ${error ?? "no reason"}`);
  timeline.note("the first resync is through: parity is in sync");
  return ok();
}

/** Lets the load run, and watches that it does. */
async function letRun(
  stage: Stage,
  load: Load,
  label: string,
  seconds: number,
): Promise<Result<undefined, string>> {
  const untilMs = stage.nowMs() + seconds * 1_000;
  const { timeline, ledger, nowMs } = stage;
  for (;;) {
    const trouble = findTrouble(stage, load);
    if (trouble !== null) return err(trouble);
    const leftMs = untilMs - nowMs();
    if (leftMs <= 0) break;
    const state = { done: seconds * 1_000 - leftMs, total: seconds * 1_000 };
    timeline.progress(label, state, `${formatBytes(ledger.bytesWritten)} written`);
    await pause(Math.min(POLL_MS, leftMs));
  }
  timeline.note(`${label}: ${ledger.phase?.writesAcknowledged ?? 0} writes acknowledged`);
  return ok();
}

async function expectDegraded({ api, ledger, timeline }: Stage): Promise<Result<null, string>> {
  const array = await api.array();
  if (!array.ok) return array;
  const { state, degraded } = array.value;
  if (state === "degraded" && degraded === 1) timeline.note("the array goes on degraded");
  else ledger.fail(`the array is ${state} with ${degraded} missing where it should be degraded`);
  return ok(null);
}

// The rebuild -----------------------------------------------------------------------------------

async function rebuildUnderFaults(stage: Stage, load: Load): Promise<Result<undefined, string>> {
  const { api, ledger, timeline, plan, nowMs, outcome } = stage;
  const throttled = await api.setSyncSpeed(plan.throttledSpeed);
  if (!throttled.ok) return throttled;
  const added = await api.addDrive(NEW_DRIVE, pathOf(stage, LOST_DRIVE));
  if (!added.ok) return added;
  ledger.end();
  const before = await api.array();
  if (!before.ok) return before;
  const startedMs = nowMs();
  const below = ledger.begin("rebuild-before-cursor");
  const job = await api.addMember(NEW_DRIVE);
  if (!job.ok) return job;
  const speed = `${formatBytes(plan.throttledSpeed)}/s`;
  timeline.note(`rebuild onto ${NEW_DRIVE} begins, throttled to ${speed} under load`);
  const rebuild = new WatchedRebuild(stage, load, below);
  const ended = await rebuild.watch(job.value, sourcesOf(before.value));
  load.tally = null;
  ledger.end();
  rebuild.splitPhase();
  outcome.loadedRebuildSeconds = (nowMs() - startedMs) / 1_000;
  if (!ended.ok) return ended;
  const after = await api.array();
  if (!after.ok) return after;
  const cleared = await api.clearFaults();
  if (!cleared.ok) return cleared;
  outcome.retries = retriesOf(after.value) - retriesOf(before.value);
  const kinds = {
    before: errorKindsOf(before.value.members),
    after: errorKindsOf(after.value.members),
  };
  for (const unseen of findUnseen(outcome.faults, kinds)) ledger.fail(unseen);
  const text = FAULT_KINDS.map((kind) => `${kind} ${outcome.faults[kind]}`).join(", ");
  timeline.note(`rebuilt under load; injected below the array: ${text}`);
  return ok();
}

function sourcesOf({ members }: ArrayStatus): string[] {
  return members.flatMap(({ drive, state }) =>
    drive !== null && state === "in-sync" ? [drive] : [],
  );
}

function retriesOf({ members }: ArrayStatus): number {
  return members.reduce((sum, { errors }) => sum + errors.retried, 0);
}
