/** `parityd config export|import`: what this host remembers, as one document. */
import { readFileSync } from "node:fs";
import type { Configuration, ConfigurationChange } from "../../appliance/configuration.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { tell } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

const PATH = "/v1/configuration";

export const configurationCommands: readonly CommandSpec[] = [
  {
    path: ["config", "export"],
    isVerbatim: true,
    summary: "Print what this host remembers: drives, names, exports, schedules",
    examples: ["parityd config export > host.json"],
    answers: ["parityd.configuration/1"],
    operands: [],
    options: RUN_DIR,
    run: async (invocation, host) => {
      const answer = await new DaemonClient(host, invocation).get<Configuration>(PATH);
      if (!answer.ok) return fail(host, answer.error);
      const { value } = answer.value;
      const lines = (): readonly string[] => [JSON.stringify(value, null, 2)];
      tell(invocation, host, { schema: "parityd.configuration/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["config", "import"],
    summary: "Add what is missing of that document, and change what differs",
    examples: ["parityd config import host.json --dry-run"],
    answers: ["parityd.configuration-changes/1"],
    operands: [{ name: "FILE", names: "files" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: importFile,
  },
];

async function importFile(invocation: Invocation, host: CliHost): Promise<number> {
  const path = invocation.operand(0);
  let document: unknown;
  try {
    document = JSON.parse(readFileSync(path === "-" ? "/dev/stdin" : path, "utf8"));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return usageFailure(host, `${path} is no document of config export: ${why}`);
  }
  const client = new DaemonClient(host, invocation);
  const answer = await client.call<{ changes: ConfigurationChange[] }>(
    "PUT",
    PATH,
    document as object,
  );
  if (!answer.ok) return fail(host, answer.error);
  const { changes } = answer.value.value;
  const lines = changes.length === 0 ? ["nothing to change"] : changes.map(lineOf);
  tell(invocation, host, {
    ...{ schema: "parityd.configuration-changes/1", value: { changes }, lines: () => lines },
  });
  return Exit.ok;
}

function lineOf({ kind, name, action, outcome }: ConfigurationChange): string {
  const done = action === "add" ? "added" : "changed";
  return outcome === "planned" ? `would ${action} ${kind} ${name}` : `${done} ${kind} ${name}`;
}
