/**
 * The drill: the real daemon on sparse files in a folder of its own, through failure and repair.
 *
 *   create, resync -> whole -> a member is taken out -> degraded -> rebuild under load and faults
 *   -> verify -> the next rebuild's target dies -> as degraded as before -> rebuild -> verify
 *
 * It ends the daemon that it started and removes what it made, whatever happens, also on a signal
 * and when nobody reads what it says.
 */
import { join } from "node:path";
import { stderrLogger } from "../../appliance/host/logger.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { Ledger } from "../../nbd/client/load/ledger.ts";
import { Shadow } from "../../nbd/client/load/shadow.ts";
import { answerText } from "../answers.ts";
import { DaemonClient } from "../client.ts";
import { Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { DEFAULT_TIMES } from "../patience.ts";
import { watchSignals } from "../signals.ts";
import { DrillDaemon, ownCommand } from "./daemon.ts";
import { within } from "./deadline.ts";
import { DrillApi } from "./drill-api.ts";
import { playFirstAct } from "./first-act.ts";
import { Ground } from "./ground.ts";
import { findStoppedFaults, type MemberFacts, readMember } from "./member-files.ts";
import { openNbd } from "./nbd-link.ts";
import { ARRAY_NAME, type DrillOptions, type DrillPlan, planDrill } from "./options.ts";
import { DRILL_SCHEMA, judgeDrill, renderReport } from "./report.ts";
import { playSecondAct } from "./second-act.ts";
import { memberPaths, newOutcome, type Outcome, type Stage } from "./stage.ts";
import { Timeline } from "./timeline.ts";

const GOODBYE_SECONDS = 10;

/** What a caller may put in; the verb leaves it out. */
export interface DrillParts {
  /** What runs parityd. */
  readonly command?: readonly string[];
  /** Called before everything is verified, with the member files by role. */
  readonly beforeVerify?: (paths: readonly string[]) => void | Promise<void>;
}

/** What is there before there is a daemon. */
interface Preparation {
  readonly plan: DrillPlan;
  readonly ledger: Ledger;
  readonly timeline: Timeline;
  readonly outcome: Outcome;
  readonly ground: Ground;
  readonly host: CliHost;
  readonly nowMs: () => number;
  readonly parts: DrillParts;
}

/** A drill loads its host on purpose. */
const SLOW_HOST = { ...DEFAULT_TIMES, answerMs: 60_000 };

export async function runDrill(
  options: DrillOptions,
  host: CliHost,
  parts: DrillParts = {},
): Promise<number> {
  const nowMs = (): number => performance.now();
  const ledger = new Ledger(nowMs);
  const timeline = new Timeline(host, { toStderr: options.json, nowMs });
  const outcome = newOutcome();
  const ground = new Ground(options.directory);
  const plan = planDrill(options);
  const breakOff = async (why: string): Promise<void> => {
    if (ground.isClearing) return;
    host.warn(`parityd: ${why}; it removes what it made`);
    await ground.clear();
    host.exit(Exit.failed);
  };
  const log = stderrLogger({ format: "logfmt", level: "info" });
  void watchSignals(host, "stop", log).stop.then(() => breakOff("the drill was interrupted"));
  host.onOutputClosed(() => void breakOff("nobody reads what the drill says"));
  let played: Result<undefined, string>;
  try {
    const prepared = ground.prepare(plan);
    const given = { plan, ledger, timeline, outcome, ground, host, nowMs, parts };
    played = prepared.ok ? await play(given) : prepared;
  } finally {
    await ground.clear();
  }
  timeline.clear();
  if (!played.ok) ledger.fail(played.error);
  ledger.end();
  const { phases, bytesWritten, bytesVerified, failures } = ledger;
  const sums = { phases, bytesWritten, bytesVerified, failures };
  const facts = { ...outcome, ...sums, isComplete: played.ok };
  const report = judgeDrill(facts);
  host.print(options.json ? answerText(DRILL_SCHEMA, report) : renderReport(facts, report));
  return report.verdict === "PASS" ? Exit.ok : Exit.failed;
}

async function play(given: Preparation): Promise<Result<undefined, string>> {
  const { ground, timeline, parts } = given;
  const { stateDir, runDir, logPath } = ground;
  const command = parts.command ?? ownCommand();
  const started = await DrillDaemon.start({ command, stateDir, runDir, logPath }, (end) => {
    ground.endDaemon = end;
  });
  if (!started.ok) return started;
  timeline.note(`the daemon runs on files in ${ground.directory}`);
  const played = await playActs(given, started.value);
  if (played.ok || ground.isClearing) return played;
  timeline.note("the last words of the daemon:");
  for (const line of started.value.logTail()) given.host.warn(`          ${line}`);
  return played;
}

async function playActs(
  given: Preparation,
  daemon: DrillDaemon,
): Promise<Result<undefined, string>> {
  const stage = await setUp(given, daemon);
  if (!stage.ok) return stage;
  const first = await playFirstAct(stage.value);
  if (!first.ok) return first;
  const second = await playSecondAct(stage.value);
  return second.ok ? tearDown(stage.value) : second;
}

/** Drives, array and export. */
async function setUp(given: Preparation, daemon: DrillDaemon): Promise<Result<Stage, string>> {
  const { plan, ground, timeline, host, ledger, outcome, nowMs, parts } = given;
  const { directory } = ground;
  const api = new DrillApi(
    new DaemonClient(host, new Invocation({ "run-dir": ground.runDir }, []), SLOW_HOST),
  );
  for (const name of plan.driveNames) {
    const added = await api.addDrive(name, join(directory, `${name}.img`));
    if (!added.ok) return added;
    if (!added.value.isDirect)
      timeline.note(`${name}: no O_DIRECT here, so through the page cache`);
  }
  const array = await api.createArray(plan.driveNames, plan.memberBytes);
  if (!array.ok) return array;
  const { sizeBytes, chunkBytes } = array.value;
  if (sizeBytes !== plan.sizeBytes) {
    return err(`the new array has ${sizeBytes} bytes where ${plan.sizeBytes} were asked for`);
  }
  const exported = await api.export();
  if (!exported.ok) return exported;
  const opened = await openNbd(daemon.nbdPath, ARRAY_NAME);
  if (!opened.ok) return opened;
  const size = `${formatBytes(sizeBytes)}, ${formatBytes(chunkBytes)} chunks`;
  timeline.note(`${ARRAY_NAME} of ${plan.memberCount} members (${size}) is created and exported`);
  const run = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const shadow = new Shadow({ sizeBytes, run });
  const beforeVerify = parts.beforeVerify ?? (() => {});
  const tools = { api, daemon, shadow, ledger, timeline, outcome, reader: opened.value };
  return ok({ plan, directory, nowMs, run, beforeVerify, ...tools });
}

/** Stops the daemon: exit 0, and the superblocks say that nothing is left to do. */
async function tearDown(stage: Stage): Promise<Result<undefined, string>> {
  const array = await stage.api.array();
  if (!array.ok) return array;
  const what = "the end of the NBD connection";
  const closed = await within(stage.reader.disconnect(), { seconds: GOODBYE_SECONDS, what });
  if (!closed.ok) return closed;
  const stopped = await stage.daemon.stop();
  if (!stopped.ok) return stopped;
  const members: MemberFacts[] = [];
  for (const path of memberPaths(stage, array.value)) {
    const member = readMember(path);
    if (!member.ok) return member;
    members.push(member.value);
  }
  for (const fault of findStoppedFaults(members)) stage.ledger.fail(fault);
  stage.timeline.note("SIGTERM: the daemon drained, marked the array clean and exited 0");
  return ok();
}
