/** `parityd status`: the page, once or again and again; the exit code of a health check; JSON. */

import { offerDrives } from "../../appliance/drive-offers.ts";
import { findingsOf } from "../../appliance/findings.ts";
import type { SpareView } from "../../appliance/spares/shared-spares.ts";
import type { StatusDocument } from "../../appliance/status-document.ts";
import type { ArrayStatus, DriveStatus } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { answerText } from "../answers.ts";
import { type CallError, DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { CheckExit, Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { refusalText } from "../refusal.ts";
import {
  checkExit,
  renderArray,
  renderDaemonTroubles,
  renderFailingDrives,
  renderLostDrives,
  renderSilentDrives,
  renderSpares,
} from "../status-text.ts";
import { columnsOf } from "../tell.ts";
import { watchPages } from "../watch.ts";
import { RUN_DIR } from "./shared-options.ts";

export const statusCommand: CommandSpec = {
  path: ["status"],
  summary: "Show the arrays, what is wrong with them and what to do",
  examples: [
    "parityd status",
    "parityd status -x",
    "parityd status tank --check",
    "parityd status --watch 5",
  ],
  answers: ["parityd.status/1"],
  operands: [{ name: "ARRAY", optional: true, names: "arrays" }],
  options: {
    check: {
      type: "boolean",
      help: "exit 0 fine, 1 degraded, 2 unusable, 4 cannot be told",
    },
    unhealthy: { type: "boolean", short: "x", help: "only what is not clean" },
    watch: {
      ...{ type: "string", value: "SECONDS", fallback: "2" },
      help: "again and again, until Ctrl-C or --timeout",
    },
    ...RUN_DIR,
  },
  run: (invocation, host) =>
    invocation.text("watch") === undefined ? status(invocation, host) : watch(invocation, host),
};

/** What is asked for of what there is. */
interface Seen {
  readonly document: StatusDocument;
  readonly wanted: readonly ArrayStatus[];
  /** With an array named: its drives and its troubles alone are asked for. */
  readonly isOne: boolean;
}

async function status(invocation: Invocation, host: CliHost): Promise<number> {
  const isCheck = invocation.isSet("check");
  const seen = await look(invocation, new DaemonClient(host, invocation));
  if (!seen.ok) {
    const exitCode = fail(host, seen.error);
    return isCheck && exitCode !== Exit.usage ? CheckExit.cannotTell : exitCode;
  }
  for (const line of pageOf(invocation, seen.value, columnsOf(host))) host.print(line);
  if (!isCheck) return Exit.ok;
  const { document, wanted, isOne } = seen.value;
  const { drives, recording, alerts } = document;
  return isOne
    ? checkExit(wanted, seatedIn(wanted, drives))
    : checkExit(wanted, drives, recording, alerts);
}

async function watch(invocation: Invocation, host: CliHost): Promise<number> {
  const seconds = Number(invocation.text("watch"));
  if (!(seconds >= 0.1 && seconds <= 86_400)) {
    return usageFailure(host, `--watch ${invocation.text("watch")} is no time in seconds`);
  }
  if (invocation.isSet("check")) {
    return usageFailure(host, "--check answers once: it does not go with --watch");
  }
  const client = new DaemonClient(host, invocation);
  const first = await look(invocation, client);
  if (!first.ok) return fail(host, first.error);
  let seen: Result<Seen, CallError> = first;
  const isText = !invocation.isSet("json");
  await watchPages(host, {
    everyMs: seconds * 1_000,
    isText,
    timeIsUp: client.timeIsUp,
    // The daemon may be back at the next look.
    page: () => {
      if (seen.ok) return pageOf(invocation, seen.value, columnsOf(host));
      return [isText ? seen.error.message : refusalText(seen.error)];
    },
    look: async () => {
      seen = await look(invocation, client);
    },
  });
  return Exit.ok;
}

async function look(
  invocation: Invocation,
  client: DaemonClient,
): Promise<Result<Seen, CallError>> {
  const answer = await client.get<StatusDocument>("/v1/status");
  if (!answer.ok) return answer;
  const document = answer.value.value;
  const name = invocation.operands[0];
  const wanted = document.arrays.filter(
    (array) => name === undefined || array.name === name || array.uuid === name,
  );
  if (name === undefined || wanted.length > 0) {
    return ok({ document, wanted, isOne: name !== undefined });
  }
  return err({ exitCode: Exit.failed, message: `there is no array ${name}` });
}

/** The drives that serve in these arrays. */
function seatedIn(arrays: readonly ArrayStatus[], drives: readonly DriveStatus[]): DriveStatus[] {
  const seated = new Set(arrays.flatMap(({ members }) => members.map(({ drive }) => drive)));
  return drives.filter(({ name }) => seated.has(name));
}

function pageOf(
  invocation: Invocation,
  { document, wanted, isOne }: Seen,
  columns: number,
): readonly string[] {
  const { arrays, drives, recording, alerts, schedules, exports, jobs } = document;
  const spares = isOne ? [] : document.spares;
  const isOnlyUnhealthy = invocation.isSet("unhealthy");
  const offers = offerDrives(arrays, drives);
  const shown = wanted.filter(
    (array) => !isOnlyUnhealthy || findingsOf(array, drives, offers).length > 0,
  );
  if (invocation.isSet("json")) {
    const known = { arrays: shown, drives, spares, exports, jobs, recording, alerts, schedules };
    return [answerText("parityd.status/1", known)];
  }
  const blocks = shown.map((array) =>
    renderArray(array, { drives, schedules, exports, jobs, offers, columns }).join("\n"),
  );
  const troubles = renderDaemonTroubles(recording, alerts);
  if (troubles.length > 0) blocks.unshift(troubles.join("\n"));
  const isUsable = ({ state }: SpareView) => state === "ready" || state === "seating";
  const told = isOnlyUnhealthy ? spares.filter((spare) => !isUsable(spare)) : spares;
  if (told.length > 0) blocks.push(renderSpares(told).join("\n"));
  // The drives of other arrays are no concern of a question about one.
  const judged = isOne ? [] : drives;
  const lost = [renderLostDrives, renderFailingDrives, renderSilentDrives].flatMap((render) =>
    render(judged),
  );
  if (lost.length > 0) blocks.push(lost.join("\n"));
  if (blocks.length > 0) return blocks.join("\n\n").split("\n");
  if (wanted.length > 0) return ["all arrays are healthy"];
  return ["no arrays: parityd drive scan finds members, parityd array create makes one"];
}
