/**
 * SIGHUP to `serve`: the files that may change under a running daemon are read again.
 *
 *   log level and format   from the configuration file
 *   certificates           of NBD and of the API, for clients that come from now on
 *   secrets of alerts      for those that are sent from now on
 *   the token file         also read at each call when it has changed; here the log says how it is
 *
 * What cannot be used is told as an error, and the former stays, except tokens: a token that the
 * file does not hold any more opens nothing. Other settings need a restart, and are named.
 */
import { isDeepStrictEqual } from "node:util";
import type { TokenFile } from "../api/auth.ts";
import type { OpenWays } from "../appliance/alerts/open-ways.ts";
import type { Config } from "../appliance/config.ts";
import type { Logger } from "../appliance/host/logger.ts";
import { type LoadedTls, loadApiTls, loadNbdTls, type TlsFiles } from "../appliance/tls-files.ts";
import type { Result } from "../base/result.ts";

const TAKEN_AT_ONCE: ReadonlySet<string> = new Set([
  ...["logLevel", "logFormat"],
  ...["nbdTlsCert", "nbdTlsKey", "nbdTlsCa"],
  ...["apiTlsCert", "apiTlsKey", "apiTlsCa"],
]);

/** A listener of which clients get these files from now on. */
interface TlsListener {
  setFiles(files: TlsFiles): void;
}

export interface ReadAgainParts {
  readonly config: Config;
  /** File and flags, as at the start. */
  readonly readConfig: () => Result<Config, string>;
  readonly log: Logger;
  readonly nbdTls: TlsListener | null;
  readonly apiTls: TlsListener | null;
  readonly tokens: Pick<TokenFile, "readAgain"> | null;
  readonly alerts: Pick<OpenWays, "readAgain">;
}

export function readAgain(parts: ReadAgainParts): void {
  const { config, readConfig, log, nbdTls, apiTls, tokens, alerts } = parts;
  const done: string[] = [];
  const refuse = (what: string, why: string): void =>
    log.write("error", `SIGHUP: ${what}: the former stay in use`, { why });
  const read = readConfig();
  const wanted = read.ok ? read.value : config;
  if (read.ok) {
    log.configure({ format: wanted.logFormat, level: wanted.logLevel });
    done.push(`log (level ${wanted.logLevel}, format ${wanted.logFormat})`);
  } else refuse("the configuration cannot be used", read.error);
  // Whether clients need TLS is settled at the start, with the addresses.
  const withModes = {
    ...wanted,
    nbdTls: wanted.nbdTls ?? config.nbdTls,
    apiTls: wanted.apiTls ?? config.apiTls,
  };
  if (nbdTls !== null) take("certificates of NBD", nbdTls, loadNbdTls(withModes));
  if (apiTls !== null) take("certificates of the API", apiTls, loadApiTls(withModes));
  const secrets = alerts.readAgain();
  if (!secrets.ok) refuse("secrets of alerts cannot be used", secrets.error);
  else if (secrets.value > 0) done.push(`secrets of alerts (${secrets.value})`);
  const count = tokens?.readAgain();
  if (count?.ok) done.push(`token file (${count.value})`);
  const waiting = Object.keys({ ...config, ...wanted }).filter((key) => !isTaken(key));
  const rest = waiting.length === 0 ? {} : { needsRestart: waiting.join(",") };
  const level = done.length > 0 ? "info" : "warn";
  log.write(level, `SIGHUP: read again: ${done.join(", ") || "nothing"}`, rest);

  function take(what: string, listener: TlsListener, files: LoadedTls): void {
    if (files.ok && files.value !== null) {
      listener.setFiles(files.value);
      done.push(what);
    } else refuse(`the ${what} cannot be used`, files.ok ? "none set" : files.error);
  }

  function isTaken(key: string): boolean {
    if (TAKEN_AT_ONCE.has(key)) return true;
    return isDeepStrictEqual(config[key as keyof Config], wanted[key as keyof Config]);
  }
}
