/** The settings of the daemon as flags, made of their texts in appliance/config.ts. */
import {
  type Config,
  type ConfigInput,
  defaultConfig,
  loadConfig,
  SETTINGS,
  type SettingKey,
} from "../appliance/config.ts";
import type { Result } from "../base/result.ts";
import type { CommandSpec, Invocation, OptionSpec } from "./command.ts";
import { RUN_DIR_VARIABLE } from "./run-dir.ts";

/** `degradedStartSeconds` is `--degraded-start-seconds`. */
export function flagOf(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function settingKeys(): SettingKey[] {
  return Object.keys(SETTINGS) as SettingKey[];
}

/** `dir and more (default)`, with the choices where there are few. */
function helpOf(key: SettingKey): string {
  const { help, choices } = SETTINGS[key];
  const value = defaultConfig()[key];
  const isShown = typeof value === "string" || typeof value === "number";
  const few = choices === undefined ? "" : `: ${choices.join(", ")}`;
  return `${help}${few}${isShown ? ` (${value})` : ""}`;
}

function optionOf(key: SettingKey): OptionSpec | null {
  const { flagValue, choices } = SETTINGS[key];
  if (flagValue === null) return null;
  const help = helpOf(key);
  if (flagValue === "") return { type: "boolean", help };
  const isPath = flagValue === "FILE" || flagValue === "DIR";
  return {
    ...{ type: "string", value: flagValue, help },
    ...(isPath ? { names: "files" } : {}),
    ...(choices === undefined ? {} : { choices }),
  };
}

export const CONFIG_OPTIONS: CommandSpec["options"] = {
  config: {
    ...{ type: "string", value: "FILE", names: "files" },
    help: "TOML file; flags win over it (/etc/parityd/parityd.toml)",
  },
  ...Object.fromEntries(
    settingKeys().flatMap((key) => {
      const option = optionOf(key);
      return option === null ? [] : [[flagOf(key), option] as const];
    }),
  ),
};

/** The configuration that file, environment and flags make, or why there is none. */
export function configOf(
  invocation: Invocation,
  path: string | undefined = invocation.text("config"),
): Result<Config, string> {
  const runDir = process.env[RUN_DIR_VARIABLE];
  const flags: Record<string, unknown> = runDir === undefined ? {} : { runDir };
  for (const key of settingKeys()) {
    const flag = flagOf(key);
    const text = invocation.text(flag);
    if (invocation.isSet(flag)) flags[key] = true;
    // A word that is no number stays what it is: the schema then says what is wrong with it.
    else if (text !== undefined) flags[key] = isNumber(key) && /^\d+$/.test(text) ? +text : text;
  }
  return loadConfig(path, flags as Partial<ConfigInput>);
}

function isNumber(key: SettingKey): boolean {
  return typeof defaultConfig()[key] === "number";
}
