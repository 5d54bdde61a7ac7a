/** `parityd log`: how much the daemon says, now or from now on. */
import type { LogSettings } from "../../appliance/host/logger.ts";
import { LOG_LEVELS } from "../../base/log.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { tell } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

export const logCommand: CommandSpec = {
  path: ["log"],
  summary: "Show the level of the daemon's log, or change it until SIGHUP or a restart",
  examples: ["parityd log --level debug"],
  answers: ["parityd.log/1"],
  operands: [],
  options: {
    level: {
      ...{ type: "string", value: "LEVEL", choices: LOG_LEVELS },
      help: "error, warn, info or debug",
    },
    ...DRY_RUN,
    ...RUN_DIR,
  },
  run: showOrChange,
};

async function showOrChange(invocation: Invocation, host: CliHost): Promise<number> {
  const level = invocation.text("level");
  if (level !== undefined && !LOG_LEVELS.some((known) => known === level)) {
    return usageFailure(host, `"${level}" is no level: ${LOG_LEVELS.join(", ")}`);
  }
  const client = new DaemonClient(host, invocation);
  const path = "/v1/log";
  const answer =
    level === undefined
      ? await client.get<LogSettings>(path)
      : await client.call<LogSettings>("PUT", path, { level });
  if (!answer.ok) return fail(host, answer.error);
  const settings = answer.value.value;
  const lines = (): readonly string[] => [`level ${settings.level}, format ${settings.format}`];
  tell(invocation, host, { schema: "parityd.log/1", value: settings, lines });
  return Exit.ok;
}
