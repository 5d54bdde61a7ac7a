/**
 * The configuration as the text of a TOML file: what is in use, and the file of defaults that is
 * installed, in which every setting stands as a comment.
 */
import {
  type Config,
  defaultConfig,
  SETTINGS,
  type SettingKey,
  type SettingText,
  type TcpAddress,
} from "./config.ts";

const TEXT_COLUMNS = 90;

const HEADER = [
  "Configuration of parityd: parityd.toml(5). All settings are here, each with its default.",
  "",
  "Flags of `parityd serve` win over this file. `parityd config check` checks it, and",
  "`parityd config show` prints what is in use. `systemctl reload parityd` reads the log settings, the",
  "certificates and the tokens again; everything else needs `systemctl restart parityd`.",
];

/** Every setting in its order: key, words and default (undefined: none). */
export function settings(): { key: SettingKey; text: SettingText; value: unknown }[] {
  const defaults = defaultConfig();
  return (Object.keys(SETTINGS) as SettingKey[]).map((key) => ({
    key,
    text: SETTINGS[key],
    value: defaults[key],
  }));
}

/** A value as the file says it. */
export function tomlValue(value: unknown): string {
  if (isAddress(value)) return tomlValue(addressText(value));
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const set = Object.entries(value).filter(([, part]) => part !== undefined);
    const parts = set.map(([key, part]) => `${JSON.stringify(key)} = ${tomlValue(part)}`);
    return parts.length === 0 ? "{}" : `{ ${parts.join(", ")} }`;
  }
  // What JSON writes of strings, numbers and booleans is TOML as well.
  return JSON.stringify(value);
}

function isAddress(value: unknown): value is TcpAddress {
  return typeof value === "object" && value !== null && "port" in value;
}

function addressText({ host, port }: TcpAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** What is in use; settings that are not set are comments. */
export function configText(config: Config): string {
  const lines = settings().map(({ key }) =>
    config[key] === undefined ? `#${key} =` : `${key} = ${tomlValue(config[key])}`,
  );
  return `${lines.join("\n")}\n`;
}

/** A sentence of `help`, the choices, and what there is to say beyond. */
export function sentences({ help, choices, more }: SettingText): string {
  const few = choices === undefined ? "" : `: ${choices.map(tomlValue).join(" or ")}`;
  return `${help[0]?.toUpperCase()}${help.slice(1)}${few}. ${more}`;
}

/** The file that is installed. */
export function defaultConfigText(): string {
  const blocks = settings().map(({ key, text, value }) => {
    const comment = wrap(sentences(text)).map((line) => `# ${line}`);
    if (value !== undefined) return [...comment, `#${key} = ${tomlValue(value)}`];
    return [...comment, "# Not set; an example:", `#${key} = ${tomlValue(text.example)}`];
  });
  const header = HEADER.map((line) => `# ${line}`.trimEnd());
  return `${[header, ...blocks].map((lines) => lines.join("\n")).join("\n\n")}\n`;
}

function wrap(text: string): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > TEXT_COLUMNS) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
