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
import { JSON_OUTPUT } from "./shared-options.ts";

export const configCommands: readonly CommandSpec[] = [
  {
    path: ["config", "check"],
    summary: "Check the configuration as serve would, with certificates and secrets",
    operands: [{ name: "FILE", optional: true, names: "files" }],
    options: CONFIG_OPTIONS,
    run: (invocation, host) => {
      const path = invocation.operands[0] ?? invocation.text("config");
      return withConfig(configOf(invocation, path), host, (config) => {
        for (const files of [loadNbdTls(config), loadApiTls(config)]) {
          if (files.ok) continue;
          return fail(host, { exitCode: Exit.configuration, message: files.error });
        }
        const log: Log = {
          write: (_level, message, { why = "" } = {}) => host.warn(`${message}: ${why}`),
        };
        const alerts = openWays(config, { alarms: processAlarms, log });
        if (!alerts.ok) return fail(host, { exitCode: Exit.configuration, message: alerts.error });
        host.print("the configuration can be used");
        return Exit.ok;
      });
    },
  },
  {
    path: ["config", "show"],
    summary: "Print what serve would use, or a file of the defaults",
    operands: [],
    options: {
      defaults: { type: "boolean", help: "the file that is installed: every setting, explained" },
      ...JSON_OUTPUT,
      ...CONFIG_OPTIONS,
    },
    run: show,
  },
  {
    path: ["config"],
    summary: "Check the configuration and print what serve would use",
    operands: [],
    options: CONFIG_OPTIONS,
    run: (invocation, host) => withConfig(configOf(invocation), host, printJson(host)),
  },
];

function show(invocation: Invocation, host: CliHost): number {
  const isJson = invocation.isSet("json");
  if (invocation.isSet("defaults")) {
    if (invocation.text("config") !== undefined) {
      return usageFailure(host, "--defaults are those of no file: leave --config away");
    }
    if (isJson) return printJson(host)(defaultConfig());
    host.print(defaultConfigText().trimEnd());
    return Exit.ok;
  }
  return withConfig(configOf(invocation), host, (config) => {
    if (isJson) return printJson(host)(config);
    host.print(configText(config).trimEnd());
    return Exit.ok;
  });
}

function printJson(host: CliHost): (config: Config) => number {
  return (config) => {
    host.print(JSON.stringify(config, null, 2));
    return Exit.ok;
  };
}

function withConfig(
  config: Result<Config, string>,
  host: CliHost,
  use: (config: Config) => number,
): number {
  if (config.ok) return use(config.value);
  return fail(host, { exitCode: Exit.configuration, message: config.error });
}
