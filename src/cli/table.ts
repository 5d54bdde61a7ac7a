/** Every command, in the order of the help. */
import { VERSION } from "../appliance/version.ts";
import type { CommandSpec, OptionSpec } from "./command.ts";
import { Exit } from "./exit.ts";
import { tell } from "./tell.ts";
import { arrayCommands } from "./verbs/array.ts";
import { attachCommand } from "./verbs/attach.ts";
import { completeCommand } from "./verbs/complete.ts";
import { configCommands } from "./verbs/config.ts";
import { configurationCommands } from "./verbs/configuration.ts";
import { drillCommand } from "./verbs/drill.ts";
import { driveCommands } from "./verbs/drive.ts";
import { eventCommands } from "./verbs/events.ts";
import { examineCommand } from "./verbs/examine.ts";
import { exportCommands } from "./verbs/export.ts";
import { jobCommands } from "./verbs/job.ts";
import { keepsCommand } from "./verbs/keeps.ts";
import { logCommand } from "./verbs/log.ts";
import { memberCommands } from "./verbs/member.ts";
import { scheduleCommands } from "./verbs/schedule.ts";
import { schemaCommand } from "./verbs/schema.ts";
import { scrubCommands } from "./verbs/scrub.ts";
import { serveCommand } from "./verbs/serve.ts";
import { spareCommands } from "./verbs/spare.ts";
import { statusCommand } from "./verbs/status.ts";
import { uiCommand } from "./verbs/ui.ts";

const versionCommand: CommandSpec = {
  path: ["version"],
  summary: "Print the version",
  examples: ["parityd version"],
  answers: ["parityd.version/1"],
  operands: [],
  options: {},
  run: (invocation, host) => {
    const value = { version: VERSION };
    const lines = (): readonly string[] => [`parityd ${VERSION}`];
    tell(invocation, host, { schema: "parityd.version/1", value, lines });
    return Exit.ok;
  },
};

const JSON_OPTION: OptionSpec = {
  type: "boolean",
  help: "print JSON, exact and with every field, also of a refusal",
};

/** Whatever says what it answers has the flag for it. */
export function withJson(command: CommandSpec): CommandSpec {
  if (command.answers === undefined) return command;
  return { ...command, options: { json: JSON_OPTION, ...command.options } };
}

const ALL: readonly CommandSpec[] = [
  serveCommand,
  statusCommand,
  uiCommand,
  ...driveCommands,
  ...arrayCommands,
  ...memberCommands,
  ...spareCommands,
  ...exportCommands,
  ...scrubCommands,
  ...scheduleCommands,
  ...jobCommands,
  ...eventCommands,
  logCommand,
  attachCommand,
  examineCommand,
  drillCommand,
  ...configCommands,
  ...configurationCommands,
  schemaCommand,
  versionCommand,
  completeCommand,
  keepsCommand,
];

export const COMMANDS: readonly CommandSpec[] = ALL.map(withJson);
