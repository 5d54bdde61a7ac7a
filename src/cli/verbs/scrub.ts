/**
 * `parityd scrub start|pause|resume|stop ARRAY`. With --wait the exit code tells the outcome:
 * 0 nothing found, 1 mismatches or losses found, 2 not done to the end.
 */
import type { ArrayStatus, JobStatus, PausedScrub } from "../../array/protocol.ts";
import { formatPercent } from "../../base/quantity.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit, ScrubExit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { followJob } from "../progress.ts";
import { parseBytes } from "../quantity.ts";
import { tellDone } from "../tell.ts";
import { tellBegun, tellJob } from "./begun-job.ts";
import { explainedJob } from "./job.ts";
import { DRY_RUN, EXPLAIN, RUN_DIR, WAIT } from "./shared-options.ts";

const OPERANDS = [{ name: "ARRAY", names: "arrays" }] as const;
const LIMIT = {
  limit: { type: "string", value: "RATE", help: "at most so much a second (200MiB/s)" },
} as const;
const MODE = {
  mode: {
    type: "string",
    value: "MODE",
    choices: ["check", "repair"],
    help: "check (the default), or repair: rewrite parity",
  },
} as const;

export const scrubCommands: readonly CommandSpec[] = [
  {
    path: ["scrub", "start"],
    summary: "Read every stripe and compare its parity",
    examples: [
      "parityd scrub start tank --wait --limit 200MiB/s",
      "parityd scrub start tank --mode repair",
    ],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: {
      ...MODE,
      ...LIMIT,
      restart: { type: "boolean", help: "from the beginning, where one is paused" },
      ...WAIT,
      ...EXPLAIN,
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: (invocation, host) => startScrub(invocation, host, { isResume: false }),
  },
  {
    path: ["scrub", "resume"],
    summary: "Go on with a paused scrub",
    examples: ["parityd scrub resume tank"],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: { ...MODE, ...LIMIT, ...WAIT, ...EXPLAIN, ...DRY_RUN, ...RUN_DIR },
    run: (invocation, host) => startScrub(invocation, host, { isResume: true }),
  },
  {
    path: ["scrub", "pause"],
    summary: "Pause a scrub",
    examples: ["parityd scrub pause tank"],
    answers: ["parityd.job/1"],
    operands: OPERANDS,
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const paused = await client.call<JobStatus>("POST", `${scrubPath(invocation)}/pause`, {});
      if (!paused.ok) return fail(host, paused.error);
      tellJob(invocation, host, paused.value.value);
      return Exit.ok;
    },
  },
  {
    path: ["scrub", "stop"],
    summary: "End a scrub, running or paused",
    examples: ["parityd scrub stop tank"],
    answers: ["parityd.done/1"],
    operands: OPERANDS,
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const stopped = await new DaemonClient(host, invocation).call(
        "DELETE",
        scrubPath(invocation),
      );
      if (!stopped.ok) return fail(host, stopped.error);
      tellDone(invocation, host, { did: "scrub stop", of: invocation.operand(0) });
      return Exit.ok;
    },
  },
];

async function startScrub(
  invocation: Invocation,
  host: CliHost,
  { isResume }: { isResume: boolean },
): Promise<number> {
  const named = invocation.text("mode");
  if (named !== undefined && named !== "check" && named !== "repair") {
    return usageFailure(host, `--mode is check or repair, not "${named}"`);
  }
  const limit = invocation.text("limit");
  const rate = limit === undefined ? null : parseBytes(limit);
  if (rate !== null && !rate.ok) return usageFailure(host, rate.error);
  const isExplained = invocation.isSet("explain");
  if (isExplained && !invocation.isSet("wait")) {
    return usageFailure(host, "--explain needs --wait; later: parityd job show ID --explain");
  }
  const client = new DaemonClient(host, invocation);
  // What is wrong with the array is said by the call itself.
  const array = await client.get<ArrayStatus>(arrayPath(invocation));
  const paused = array.ok ? array.value.value.pausedScrub : null;
  const mode = named ?? (isResume ? paused?.mode : undefined) ?? "check";
  const restart = invocation.isSet("restart");
  const givenUp = paused !== null && (restart || paused.mode !== mode) ? pausedText(paused) : null;
  const started = await client.call<JobStatus>("POST", scrubPath(invocation), {
    mode,
    restart,
    limitBytesPerSecond: rate === null ? null : rate.value,
  });
  if (started.ok && invocation.isSet("dry-run")) {
    const { resumedFrom } = started.value.value.result;
    const how =
      resumedFrom === undefined ? "begin" : `go on from byte ${resumedFrom} of each member`;
    host.print(`a ${mode} job would ${how}`);
    if (givenUp !== null) host.print(`${givenUp} would be given up`);
    return Exit.ok;
  }
  if (started.ok && givenUp !== null) host.warn(`parityd: ${givenUp} is given up`);
  if (!invocation.isSet("wait")) {
    if (!started.ok) return fail(host, started.error);
    tellBegun(invocation, host, started.value.value);
    return Exit.ok;
  }
  if (!started.ok) {
    fail(host, started.error);
    return ScrubExit.notDone;
  }
  const ended = await followJob(host, client, started.value.value);
  const { id } = started.value.value;
  const job = ended.ok && isExplained ? await explainedJob(client, id) : ended;
  if (!job.ok) {
    fail(host, job.error);
    return ScrubExit.notDone;
  }
  tellJob(invocation, host, job.value);
  return scrubExit(job.value);
}

export function scrubExit(job: JobStatus): number {
  if (job.state !== "done") return ScrubExit.notDone;
  const found = Number(job.result["mismatchBytes"] ?? 0) + Number(job.result["lostBytes"] ?? 0);
  return found > 0 ? ScrubExit.found : ScrubExit.clean;
}

/** "the check paused at 41.3 %". */
function pausedText({ mode, doneBytes: done, totalBytes: total }: PausedScrub): string {
  return `the ${mode} paused at ${formatPercent({ done, total })} %`;
}

function arrayPath(invocation: Invocation): string {
  return `/v1/arrays/${encodeURIComponent(invocation.operand(0))}`;
}

function scrubPath(invocation: Invocation): string {
  return `${arrayPath(invocation)}/scrub`;
}
