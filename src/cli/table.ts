/** Every command, in the order of the help. */
import { VERSION } from "../appliance/version.ts";
import type { CommandSpec } from "./command.ts";
import { Exit } from "./exit.ts";
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
import { scrubCommands } from "./verbs/scrub.ts";
import { serveCommand } from "./verbs/serve.ts";
import { spareCommands } from "./verbs/spare.ts";
import { statusCommand } from "./verbs/status.ts";
import { uiCommand } from "./verbs/ui.ts";

const versionCommand: CommandSpec = {
  path: ["version"],
  summary: "Print the version",
  operands: [],
  options: {},
  run: (_invocation, host) => {
    host.print(`parityd ${VERSION}`);
    return Exit.ok;
  },
};

export const COMMANDS: readonly CommandSpec[] = [
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
  versionCommand,
  completeCommand,
  keepsCommand,
];
