/** Every command of the executable: those of cli/, and the installation's, which knows all of them. */
import type { CommandSpec } from "../cli/command.ts";
import { COMMANDS, withJson } from "../cli/table.ts";
import { installFilesCommand } from "./install-files.ts";

export const ALL_COMMANDS: readonly CommandSpec[] = [...COMMANDS, withJson(installFilesCommand)];
