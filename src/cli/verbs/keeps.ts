/**
 * `parityd keeps UUID`: for the rules of udev (src/install/files/parityd.rules), without a daemon.
 * Prints `PARITYD_ARRAY=label` and exits 0 where this host keeps the array; else exit 1.
 */
import { join } from "node:path";
import { keptArrayLabel } from "../../appliance/state/kept-array.ts";
import type { CommandSpec } from "../command.ts";
import { CONFIG_OPTIONS, configOf } from "../config-options.ts";
import { Exit } from "../exit.ts";

export const keepsCommand: CommandSpec = {
  path: ["keeps"],
  summary: "Say whether this host keeps the array of a member",
  operands: [{ name: "UUID" }],
  options: CONFIG_OPTIONS,
  isHidden: true,
  run: (invocation, host) => {
    const config = configOf(invocation);
    if (!config.ok) return Exit.configuration;
    const label = keptArrayLabel(join(config.value.stateDir, "state.db"), invocation.operand(0));
    if (label === null) return Exit.failed;
    host.print(`PARITYD_ARRAY=${label}`);
    return Exit.ok;
  },
};
