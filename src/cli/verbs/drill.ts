/** `parityd drill`: proves on this host, on files of its own, that the promise holds. */
import { usageFailure } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { runDrill } from "../drill/drill.ts";
import { readDrillOptions } from "../drill/options.ts";
import { JSON_OUTPUT } from "./shared-options.ts";

export const drillCommand: CommandSpec = {
  path: ["drill"],
  summary: "Lose, rebuild and verify an array of files on this host, under load and faults",
  operands: [],
  options: {
    members: { type: "string", value: "N", help: "members of the array (3)" },
    size: { type: "string", value: "SIZE", help: "data size of the array (256MiB)" },
    dir: { type: "string", value: "DIR", help: "file system to try (that of temporary files)" },
    ...JSON_OUTPUT,
  },
  run: (invocation, host) => {
    const options = readDrillOptions(invocation);
    return options.ok ? runDrill(options.value, host) : usageFailure(host, options.error);
  },
};
