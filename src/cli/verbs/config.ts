/** `parityd config [check|show]`: the configuration, without a daemon. */
import { openWays } from "../../appliance/alerts/open-ways.ts";
import { type Config, defaultConfig } from "../../appliance/config.ts";
import { configText, defaultConfigText } from "../../appliance/config-text.ts";
import { processAlarms } from "../../appliance/state/alarms.ts";
import { loadApiTls, loadNbdTls } from "../../appliance/tls-files.ts";
import type { Log } from "../../base/log.ts";
import type { Result } from "../../base/result.ts";
import { fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { CONFIG_OPTIONS, configOf } from "../config-options.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { tell } from "../tell.ts";

export const configCommands: readonly CommandSpec[] = [
  {
    path: ["config", "check"],
    summary: "Check the configuration as serve would, with certificates and secrets",
    examples: ["parityd config check /etc/parityd/parityd.toml"],
    answers: ["parityd.config-check/1"],
    operands: [{ name: "FILE", optional: true, names: "files" }],
    options: CONFIG_OPTIONS,
    run: (invocation, host) => {
      const path = invocation.operands[0] ?? invocation.text("config");
      return withConfig(configOf(invocation, path), host, (config) => {
        const log: Log = {
          write: (_level, message, { why = "" } = {}) => host.warn(`${message}: ${why}`),
        };
        const alerts = openWays(config, { alarms: processAlarms, log });
        const parts = [loadNbdTls(config), loadApiTls(config), alerts];
        const problems = parts.flatMap((part) => (part.ok ? [] : [part.error]));
        if (problems.length > 0) {
          return fail(host, { exitCode: Exit.configuration, message: problems.join("; ") });
        }
        const lines = (): readonly string[] => ["the configuration can be used"];
        const value = { isUsable: true };
        tell(invocation, host, { schema: "parityd.config-check/1", value, lines });
        return Exit.ok;
      });
    },
  },
  {
    path: ["config", "show"],
    isVerbatim: true,
    summary: "Print what serve would use, or a file of the defaults",
    examples: ["parityd config show", "parityd config show --defaults"],
    answers: ["parityd.config/1"],
    operands: [],
    options: {
      defaults: { type: "boolean", help: "the file that is installed: every setting, explained" },
      ...CONFIG_OPTIONS,
    },
    run: show,
  },
  {
    path: ["config"],
    isVerbatim: true,
    summary: "Check the configuration and print what serve would use",
    examples: ["parityd config --memory-mib 512"],
    answers: ["parityd.config/1"],
    operands: [],
    options: CONFIG_OPTIONS,
    run: (invocation, host) =>
      withConfig(configOf(invocation), host, (config) =>
        tellConfig(invocation, host, { config, text: JSON.stringify(config, null, 2) }),
      ),
  },
];

function show(invocation: Invocation, host: CliHost): number {
  if (invocation.isSet("defaults")) {
    if (invocation.text("config") !== undefined) {
      return usageFailure(host, "--defaults are those of no file: leave --config away");
    }
    const config = defaultConfig();
    return tellConfig(invocation, host, { config, text: defaultConfigText().trimEnd() });
  }
  return withConfig(configOf(invocation), host, (config) =>
    tellConfig(invocation, host, { config, text: configText(config).trimEnd() }),
  );
}

function tellConfig(
  invocation: Invocation,
  host: CliHost,
  { config, text }: { config: Config; text: string },
): number {
  tell(invocation, host, { schema: "parityd.config/1", value: config, lines: () => [text] });
  return Exit.ok;
}

function withConfig(
  config: Result<Config, string>,
  host: CliHost,
  use: (config: Config) => number,
): number {
  if (config.ok) return use(config.value);
  return fail(host, { exitCode: Exit.configuration, message: config.error });
}
