/** `parityd status`: the table, the exit code of a health check, or JSON. */
import type { ArrayStatus, DriveStatus } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { CheckExit, Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { checkExit, findingOf, renderArray, renderLostDrives } from "../status-text.ts";
import { JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

export const statusCommand: CommandSpec = {
  path: ["status"],
  summary: "Show the arrays, what is wrong with them and what to do",
  operands: [{ name: "ARRAY", optional: true }],
  options: {
    check: {
      type: "boolean",
      help: "exit 0 fine, 1 degraded, 2 unusable, 4 cannot be told",
    },
    unhealthy: { type: "boolean", short: "x", help: "only what is not clean" },
    ...JSON_OUTPUT,
    ...RUN_DIR,
  },
  run: status,
};

async function status(invocation: Invocation, host: CliHost): Promise<number> {
  const isCheck = invocation.isSet("check");
  const client = new DaemonClient(host, invocation);
  const arrays = await client.get<ArrayStatus[]>("/v1/arrays");
  const drives = arrays.ok ? await client.get<DriveStatus[]>("/v1/drives") : arrays;
  if (!arrays.ok || !drives.ok) {
    const error = arrays.ok ? drives : arrays;
    const exitCode = error.ok ? Exit.failed : fail(host, error.error);
    return isCheck ? CheckExit.cannotTell : exitCode;
  }
  const name = invocation.operands[0];
  const wanted = arrays.value.value.filter((array) => name === undefined || array.name === name);
  if (name !== undefined && wanted.length === 0) {
    const exitCode = isCheck ? CheckExit.cannotTell : Exit.failed;
    return fail(host, { exitCode, message: `there is no array ${name}` });
  }
  // The drives of other arrays are no concern of a question about one.
  const judged = name === undefined ? drives.value.value : [];
  show(invocation, host, { wanted, drives: drives.value.value, judged });
  return isCheck ? checkExit(wanted, judged) : Exit.ok;
}

function show(
  invocation: Invocation,
  host: CliHost,
  known: {
    readonly wanted: readonly ArrayStatus[];
    readonly drives: readonly DriveStatus[];
    readonly judged: readonly DriveStatus[];
  },
): void {
  const isOnlyUnhealthy = invocation.isSet("unhealthy");
  const shown = known.wanted.filter((array) => !isOnlyUnhealthy || findingOf(array) !== null);
  if (invocation.isSet("json")) {
    const document = { schema: "parityd.status/1", arrays: shown, drives: known.drives };
    host.print(JSON.stringify(document));
    return;
  }
  const blocks = shown.map((array) => renderArray(array, known.drives).join("\n"));
  const lost = renderLostDrives(known.judged);
  if (lost.length > 0) blocks.push(lost.join("\n"));
  if (blocks.length > 0) host.print(blocks.join("\n\n"));
  else host.print(isOnlyUnhealthy ? "all arrays are healthy" : "no arrays: parityd array create");
}
