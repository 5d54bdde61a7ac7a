/**
 * The log: one line per message on stderr.
 *
 *   terminal or file   time=2026-11-22T13:02:11.123Z level=warn msg="..." array=raid_test
 *   under journald     <4>msg="..." array=raid_test       (journald has time and level of its own)
 *   --log-format json  {"time":"...","level":"warn","msg":"...","array":"raid_test"}
 *
 * `<N>` is the syslog priority (sd-daemon(3)). journald is known by JOURNAL_STREAM, which systemd
 * sets where it has connected stderr to the journal. Control characters of names and messages are
 * escaped in every form (\u001b): no name makes a line of its own, or moves a terminal's cursor.
 */

import type { Log, LogFields, LogLevel } from "../../base/log.ts";
import { printable } from "../../base/printable.ts";

export const LOG_FORMATS = ["logfmt", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** What can be changed while the daemon runs. */
export interface ConfigurableLog extends Log {
  readonly settings: LogSettings;
  configure(settings: LogSettings): void;
}

export interface LogSettings {
  readonly format: LogFormat;
  readonly level: LogLevel;
}

export interface LoggerOptions extends LogSettings {
  readonly isUnderJournald: boolean;
  readonly now: () => Date;
  readonly writeLine: (line: string) => void;
}

const SYSLOG_PRIORITY: Readonly<Record<LogLevel, number>> = {
  error: 3,
  warn: 4,
  info: 6,
  debug: 7,
};
const RANK: Readonly<Record<LogLevel, number>> = { error: 0, warn: 1, info: 2, debug: 3 };

export class Logger implements ConfigurableLog {
  private options: LoggerOptions;

  constructor(options: LoggerOptions) {
    this.options = options;
  }

  get settings(): LogSettings {
    const { format, level } = this.options;
    return { format, level };
  }

  configure({ format, level }: LogSettings): void {
    this.options = { ...this.options, format, level };
  }

  write(level: LogLevel, message: string, fields: LogFields = {}): void {
    if (RANK[level] > RANK[this.options.level]) return;
    this.options.writeLine(formatLine(this.options, { level, message, fields }));
  }
}

/** A logger on this process's stderr. */
export function stderrLogger(options: LogSettings): Logger {
  return new Logger({
    ...options,
    isUnderJournald: process.env["JOURNAL_STREAM"] !== undefined,
    now: () => new Date(),
    writeLine: (line) => process.stderr.write(`${line}\n`),
  });
}

function formatLine(
  options: LoggerOptions,
  entry: { level: LogLevel; message: string; fields: LogFields },
): string {
  const time = options.now().toISOString();
  const prefix = options.isUnderJournald ? `<${SYSLOG_PRIORITY[entry.level]}>` : "";
  if (options.format === "json") {
    const record = { time, level: entry.level, msg: entry.message, ...entry.fields };
    return prefix + printable(JSON.stringify(record));
  }
  const parts = options.isUnderJournald ? [] : [`time=${time}`, `level=${entry.level}`];
  parts.push(`msg=${quote(entry.message)}`);
  for (const [key, value] of Object.entries(entry.fields)) parts.push(`${key}=${quote(value)}`);
  return prefix + parts.join(" ");
}

/** A bare word stays bare; anything else is quoted, so that a line stays one line. */
function quote(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  return /^[\w./:@%+,-]+$/.test(value) ? value : printable(JSON.stringify(value));
}
