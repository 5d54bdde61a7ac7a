/**
 * `parityd drill`: proves on this host, on files of its own, that the promise holds; with --on it is
 * rehearsed on an array that serves.
 */
import { usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { runDrill } from "../drill/drill.ts";
import { readDrillOptions } from "../drill/options.ts";
import { runRehearsal } from "../drill/rehearsal.ts";
import type { CliHost } from "../host.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

/** By where the drill plays. */
const OF_FILES = ["members", "size", "dir"];
const OF_AN_ARRAY = ["fail", "dry-run", "run-dir", "timeout"];

export const drillCommand: CommandSpec = {
  path: ["drill"],
  summary: "Lose, rebuild, verify: on files of its own under load, or with --on one that serves",
  examples: ["parityd drill --members 4 --size 1GiB", "parityd drill --on tank --fail d1"],
  answers: ["parityd.drill/1", "parityd.rehearsal/1"],
  operands: [],
  options: {
    members: { type: "string", value: "N", help: "members of the array (3)" },
    size: { type: "string", value: "SIZE", help: "data size of the array (256MiB)" },
    dir: {
      ...{ type: "string", value: "DIR", names: "files" },
      help: "file system to try (that of temporary files)",
    },
    on: {
      type: "string",
      value: "ARRAY",
      names: "arrays",
      help: "rehearse a loss on this array, without a write to any drive; exits 0, 1, 2",
    },
    fail: {
      type: "string",
      value: "DRIVE",
      names: "drives",
      help: "with --on: who is lost (the member with the most errors)",
    },
    ...DRY_RUN,
    ...RUN_DIR,
  },
  run: drill,
};

function drill(invocation: Invocation, host: CliHost): Promise<number> | number {
  const isOn = invocation.text("on") !== undefined;
  const isGiven = (option: string) =>
    invocation.text(option) !== undefined || invocation.isSet(option);
  const strange = (isOn ? OF_FILES : OF_AN_ARRAY).find(isGiven);
  if (strange !== undefined) {
    const where = isOn ? "is of a drill on files" : "needs --on ARRAY";
    return usageFailure(host, `--${strange} ${where}`);
  }
  if (isOn) return runRehearsal(invocation, host);
  const options = readDrillOptions(invocation);
  return options.ok ? runDrill(options.value, host) : usageFailure(host, options.error);
}
