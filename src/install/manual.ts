/** parityd(1) and parityd.toml(5): from the command table and from the settings. */
import { DEFAULT_CONFIG_PATH } from "../appliance/config.ts";
import { sentences, settings, tomlValue } from "../appliance/config-text.ts";
import type { CommandSpec, OptionSpec } from "../cli/command.ts";
import { EXIT_MEANINGS } from "../cli/exit.ts";
import { RUN_DIR_VARIABLE } from "../cli/run-dir.ts";
import { synopsis, valueText } from "../cli/usage.ts";
import { bold, heading, italic, literal, manualPage, tagged, text } from "./roff.ts";

const DESCRIPTION = [
  "parityd keeps RAID5 arrays on drives or files, in the on-disk format of Linux md (metadata 1.2), and " +
    "exports them as network block devices (NBD). The daemon, parityd serve, is driven by the other " +
    "commands here, or with curl: its HTTP API listens on api.sock in its run directory.",
  "Long work is a job. A command that begins one ends at once, unless --wait is given; then its exit " +
    "status is that of the job.",
];

const EXAMPLE = [
  "parityd drive add d0 /dev/sdb",
  "parityd drive add d1 /dev/sdc",
  "parityd drive add d2 /dev/sdd",
  "parityd array create tank d0 d1 d2",
  "parityd export add tank",
  "parityd schedule set tank --cron '0 1 * * *' --window 6h",
  "parityd status",
];

const FILES: readonly (readonly [path: string, meaning: string])[] = [
  [DEFAULT_CONFIG_PATH, "The configuration: parityd.toml(5). Read where no --config is given."],
  ["/var/lib/parityd/state.db", "What is remembered: names, exports, schedules, jobs, events."],
  [
    "/var/lib/parityd/api-token",
    "Who may call the API over TCP: a line each, read TOKEN [NAME] or admin TOKEN [NAME].",
  ],
  ["/run/parityd/api.sock", "The HTTP API."],
  ["/run/parityd/nbd.sock", "The exports, over NBD."],
];

const SIGNALS: readonly (readonly [signal: string, meaning: string])[] = [
  [
    "SIGTERM, SIGINT",
    "Drain what is asked for, mark the arrays clean, end. Asked again: leave at once.",
  ],
  ["SIGHUP", "parityd serve reads the log settings, the certificates and the tokens again."],
];

/** parityd(1). */
export function commandManual(table: readonly CommandSpec[], version: string): string {
  const shown = table.filter(({ isHidden }) => isHidden !== true);
  return manualPage({
    ...{ name: "parityd", section: 1, version },
    summary: "RAID5 arrays in the format of Linux md, served over NBD",
    lines: [
      heading("SYNOPSIS"),
      `${bold("parityd")} ${italic("VERB")} [${italic("WORDS")}] [${italic("FLAGS")}]`,
      heading("DESCRIPTION"),
      ...DESCRIPTION.flatMap((paragraph, index) =>
        index === 0 ? [text(paragraph)] : [".PP", text(paragraph)],
      ),
      heading("COMMANDS"),
      ...shown.flatMap(commandEntry),
      heading("EXIT STATUS"),
      ...EXIT_MEANINGS.flatMap(({ of, meaning }) => tagged(bold(of), text(meaning))),
      heading("ENVIRONMENT"),
      ...tagged(
        bold(RUN_DIR_VARIABLE),
        text("The run directory of the daemon, where --run-dir does not say it."),
      ),
      heading("SIGNALS"),
      ...SIGNALS.flatMap(([signal, meaning]) => tagged(bold(signal), text(meaning))),
      heading("FILES"),
      ...FILES.flatMap(([path, meaning]) => tagged(italic(path), text(meaning))),
      heading("EXAMPLES"),
      text("An array of three drives, exported, and scrubbed at night:"),
      ...literal(EXAMPLE),
      heading("SEE ALSO"),
      `${bold("parityd.toml")}(5), ${bold("md")}(4), ${bold("mdadm")}(8), ${bold("nbd-client")}(8)`,
    ],
  });
}

function commandEntry(command: CommandSpec): string[] {
  const flags = Object.entries(command.options).flatMap(([name, option]) =>
    tagged(flagTag(name, option), text(option.help)),
  );
  const indented = flags.length === 0 ? [] : [".RS", ...flags, ".RE"];
  const { examples = [] } = command;
  const shown = examples.length === 0 ? [] : [".RS", ...literal(examples), ".RE"];
  return [...tagged(bold(synopsis(command)), text(command.summary)), ...indented, ...shown];
}

function flagTag(name: string, option: OptionSpec): string {
  const short = option.short === undefined ? "" : `${bold(`-${option.short}`)}, `;
  const value = valueText(option).trim();
  return `${short}${bold(`--${name}`)}${value === "" ? "" : ` ${italic(value)}`}`;
}

/** parityd.toml(5). */
export function configManual(version: string): string {
  return manualPage({
    ...{ name: "parityd.toml", section: 5, version },
    summary: "configuration of parityd",
    lines: [
      heading("SYNOPSIS"),
      italic(DEFAULT_CONFIG_PATH),
      heading("DESCRIPTION"),
      text(
        "A TOML file of addresses, limits and memory. What an array is stands on its members alone. " +
          "An unknown key is an error, and the daemon does not start (exit status 78): " +
          "parityd config check says why, parityd config show prints what is in use.",
      ),
      ".PP",
      text(
        "Each setting but apiHosts is a flag of parityd serve as well, and flags win: stateDir is " +
          "--state-dir.",
      ),
      heading("SETTINGS"),
      ...settings().flatMap(({ key, text: words, value }) => [
        ...tagged(bold(key), text(sentences(words))),
        ".br",
        value === undefined
          ? `Not set by default; an example: ${bold(tomlValue(words.example))}`
          : `Default: ${bold(tomlValue(value))}`,
      ]),
      heading("FILES OF MEMBERS"),
      text(
        "The service of systemd lets parityd write to block devices and below /srv. Members that are " +
          "files elsewhere need a drop-in (systemctl edit parityd):",
      ),
      ...literal(["[Service]", "ReadWritePaths=/data/raid"]),
      heading("SEE ALSO"),
      `${bold("parityd")}(1), ${bold("systemctl")}(1)`,
    ],
  });
}
