/** Where a command looks for the daemon: flag, environment, configuration, default. */
import { readFileSync } from "node:fs";
import { DEFAULT_CONFIG_PATH, defaultConfig } from "../appliance/config.ts";

export const RUN_DIR_VARIABLE = "PARITYD_RUN_DIR";

/**
 * Of the file only this key is read: a daemon that runs is to be found also while its file is being
 * edited, and by those who may not read it.
 */
function configuredRunDir(path: string): string | undefined {
  try {
    const { runDir } = Bun.TOML.parse(readFileSync(path, "utf8")) as { runDir?: unknown };
    return typeof runDir === "string" && runDir !== "" ? runDir : undefined;
  } catch {
    return undefined;
  }
}

export function runDirOf(
  flag: string | undefined,
  {
    environment = process.env,
    configPath = DEFAULT_CONFIG_PATH,
  }: { environment?: Readonly<Record<string, string | undefined>>; configPath?: string } = {},
): string {
  const named = flag ?? environment[RUN_DIR_VARIABLE];
  return named ?? configuredRunDir(configPath) ?? defaultConfig().runDir;
}
