/**
 * The configuration of the daemon: defaults < TOML file < environment < flags. An unknown key is an
 * error. It holds addresses, limits and memory; never what an array is.
 *
 * The schema says what a value may be, `SETTINGS` says it to people: flags, help, the manual page and
 * the file that is installed are made of it.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { z } from "zod";
import { MEMORY_MIB_MAX, MEMORY_MIB_MIN } from "../array/memory-shares.ts";
import { LOG_LEVELS } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import { SEVERITIES } from "./alerts/alert.ts";
import { alertSettings } from "./alerts/alert-config.ts";
import { issueText, syntaxProblem } from "./config-problem.ts";
import { parseNbdAddress } from "./nbd-address.ts";

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
}

function addressBy(parse: (text: string) => Result<TcpAddress, string>) {
  return z.string().transform((text, context): TcpAddress => {
    const parsed = parse(text);
    if (parsed.ok) return parsed.value;
    context.addIssue({ code: "custom", message: parsed.error });
    return z.NEVER;
  });
}

/** Absolute from here on: clients of the sockets have working directories of their own. */
const directory = z
  .string()
  .min(1)
  .transform((path) => resolve(path))
  .pipe(z.string());

/** sun_path of a socket address, less its final zero. */
export const SOCKET_PATH_BYTES_MAX = 107;

/** Why no client could connect to a socket of this path, or null. */
export function socketPathProblem(path: string): string | null {
  const bytes = Buffer.byteLength(path);
  if (bytes <= SOCKET_PATH_BYTES_MAX) return null;
  return `a socket path holds at most ${SOCKET_PATH_BYTES_MAX} bytes, and ${path} has ${bytes}`;
}

const runDirectory = directory.superRefine((path, context) => {
  // api.sock is as long as nbd.sock.
  const message = socketPathProblem(join(path, "api.sock"));
  if (message !== null) context.addIssue({ code: "custom", message: `${message}: take another` });
});

const settings = z.strictObject({
  stateDir: directory.default("/var/lib/parityd"),
  runDir: runDirectory.default("/run/parityd"),
  memoryMib: z.int().min(MEMORY_MIB_MIN).max(MEMORY_MIB_MAX).default(256),
  apiTcp: addressBy(parseTcpAddress).optional(),
  /** Names besides IP addresses and localhost under which the API may be called over TCP. */
  apiHosts: z.array(z.string().min(1)).default([]),
  /** Clients over TCP need TLS. Then with certificate and key. */
  apiTls: z.enum(["required"]).optional(),
  apiTlsCert: z.string().min(1).optional(),
  apiTlsKey: z.string().min(1).optional(),
  /** Clients need a certificate of this CA, besides their token. */
  apiTlsCa: z.string().min(1).optional(),
  /** Other hosts may send their tokens in the clear. */
  apiInsecure: z.boolean().default(false),
  nbdTcp: addressBy(parseNbdAddress).optional(),
  /** Whether clients over TCP must, or may, negotiate TLS. Then with certificate and key. */
  nbdTls: z.enum(["required", "optional"]).optional(),
  nbdTlsCert: z.string().min(1).optional(),
  nbdTlsKey: z.string().min(1).optional(),
  /** Clients need a certificate of this CA. */
  nbdTlsCa: z.string().min(1).optional(),
  /** After so long an array whose drive has not come is started without it. */
  degradedStartSeconds: z.int().min(0).max(86_400).default(30),
  /** After so long a stop waits no longer for drives that do not answer. */
  stopSeconds: z.int().min(1).max(86_400).default(300),
  allowFaultInjection: z.boolean().default(false),
  logFormat: z.enum(["logfmt", "json"]).default("logfmt"),
  logLevel: z.enum(LOG_LEVELS).default("info"),
  ...alertSettings,
});

export const configSchema = settings.superRefine((config, context) => {
  const { nbdTcp, nbdTls, nbdTlsCert, nbdTlsKey, nbdTlsCa } = config;
  const { apiTcp, apiTls, apiTlsCert, apiTlsKey, apiTlsCa } = config;
  const nbd = [nbdTcp, nbdTlsCert, nbdTlsKey, nbdTlsCa] as const;
  const api = [apiTcp, apiTlsCert, apiTlsKey, apiTlsCa] as const;
  for (const [face, mode, set, ask] of [
    ["nbd", nbdTls, nbd, 'say whether TLS is "required" or "optional"'],
    ["api", apiTls, api, 'say that TLS is "required"'],
  ] as const) {
    const message = mode === undefined ? unasked(set, ask) : missing(set, face);
    if (message !== null) context.addIssue({ code: "custom", path: [`${face}Tls`], message });
  }
  if (!isApiExposed(config) || config.apiInsecure) return;
  const message =
    "other hosts reach that address, and tokens would cross the network in the clear: " +
    'set apiTls = "required" with apiTlsCert and apiTlsKey, listen on 127.0.0.1, or say ' +
    "apiInsecure = true (--api-insecure)";
  context.addIssue({ code: "custom", path: ["apiTcp"], message });
});

/** An address, and the paths of certificate, key and CA: each as far as it is set. */
type TlsSettings = readonly [TcpAddress | undefined, ...(string | undefined)[]];

// Half of a TLS set-up would leave clients without what the other half promises.

function unasked([, ...paths]: TlsSettings, ask: string): string | null {
  return paths.some((path) => path !== undefined) ? ask : null;
}

function missing([address, cert, key]: TlsSettings, face: "nbd" | "api"): string | null {
  if (address === undefined) return `TLS is for ${face}Tcp: give an address`;
  if (cert !== undefined && key !== undefined) return null;
  return `TLS needs ${face}TlsCert and ${face}TlsKey`;
}

export type Config = z.infer<typeof configSchema>;

/** What a file or flags may say: any part, addresses still as text. */
export type ConfigInput = z.input<typeof configSchema>;

export type SettingKey = keyof ConfigInput;

/** One setting in words. */
export interface SettingText {
  /** What stands for its value in a help text; null: it has no flag of its own. */
  readonly flagValue: string | null;
  /** Beside its flag: part of a line, without the default. */
  readonly help: string;
  /** What the manual and the file say beyond `help`, in sentences. */
  readonly more: string;
  /** The values that there are, where they are few. */
  readonly choices?: readonly string[];
  /** A value to show where nothing is the default. */
  readonly example?: string;
}

const TLS_FILE = "A PEM file, read again at SIGHUP.";

/** Every setting, in the order of the manual. */
export const SETTINGS: Readonly<Record<SettingKey, SettingText>> = {
  stateDir: {
    flagValue: "DIR",
    help: "where state.db and tokens lie",
    more:
      "That is what is remembered: names, exports, schedules, events. Another folder than the " +
      "default has to be named to systemd too, by ReadWritePaths= in a drop-in of the service.",
  },
  runDir: {
    flagValue: "DIR",
    help: "where api.sock and nbd.sock lie",
    more: "The commands look for the daemon here too, unless --run-dir or PARITYD_RUN_DIR say where.",
  },
  memoryMib: {
    flagValue: "N",
    help: `I/O memory in MiB, ${MEMORY_MIB_MIN} to ${MEMORY_MIB_MAX}`,
    more: "All buffers of clients and members come from it; it is taken at the start.",
  },
  apiTcp: {
    flagValue: "ADDR:PORT",
    help: "the API over TCP too, with a token",
    more:
      "Callers need a token of the file api-token in the state directory, which is made with one " +
      'where it is missing: a line each, "read TOKEN [NAME]" or "admin TOKEN [NAME]", the token of ' +
      "16 characters or more; nobody else may write the file.",
    example: "127.0.0.1:8080",
  },
  apiHosts: {
    flagValue: null,
    help: "names under which the API may be called over TCP",
    more: "Besides IP addresses and localhost. A call for any other name is refused.",
  },
  apiTls: {
    flagValue: "MODE",
    help: "TLS for the API over TCP",
    more: "That listener then speaks nothing else; it needs a certificate and a key.",
    choices: ["required"],
    example: "required",
  },
  apiTlsCert: {
    flagValue: "FILE",
    help: "the API's certificate",
    more: TLS_FILE,
    example: "/etc/parityd/api.crt",
  },
  apiTlsKey: {
    flagValue: "FILE",
    help: "the key of the API's certificate",
    more: TLS_FILE,
    example: "/etc/parityd/api.key",
  },
  apiTlsCa: {
    flagValue: "FILE",
    help: "callers need a certificate of this CA, besides a token",
    more: TLS_FILE,
    example: "/etc/parityd/api-ca.crt",
  },
  apiInsecure: {
    flagValue: "",
    help: "tokens of other hosts may come in the clear",
    more: "Without TLS an address that other hosts reach is refused, unless this is set.",
  },
  nbdTcp: {
    flagValue: "ADDR[:PORT]",
    help: "NBD over TCP too (a name, or *)",
    more: "Without TLS whoever reaches that address reads and writes the arrays. The port is 10809.",
    example: "127.0.0.1:10809",
  },
  nbdTls: {
    flagValue: "MODE",
    help: "TLS for NBD over TCP",
    more: "Whether its clients must, or may, negotiate TLS; then with a certificate and a key.",
    choices: ["required", "optional"],
    example: "required",
  },
  nbdTlsCert: {
    flagValue: "FILE",
    help: "the server's certificate",
    more: TLS_FILE,
    example: "/etc/parityd/nbd.crt",
  },
  nbdTlsKey: {
    flagValue: "FILE",
    help: "the key of that certificate",
    more: TLS_FILE,
    example: "/etc/parityd/nbd.key",
  },
  nbdTlsCa: {
    flagValue: "FILE",
    help: "clients need a certificate of this CA",
    more: TLS_FILE,
    example: "/etc/parityd/nbd-ca.crt",
  },
  degradedStartSeconds: {
    flagValue: "N",
    help: "start an array without a drive that has not come by then",
    more: "In seconds from the start of the daemon, 0 to 86400. Until then its clients wait.",
  },
  stopSeconds: {
    flagValue: "N",
    help: "leave at a stop though a drive has not answered by then",
    more:
      "In seconds, 1 to 86400. A member that hangs is failed after its writeDeadlineMs, and the stop " +
      "ends by itself. What waits longer cannot do without its drive: it is left as at a power cut.",
  },
  allowFaultInjection: {
    flagValue: "",
    help: "let /v1/faults inject errors: for tests",
    more: "Whoever may call the API can then make members fail. Not for data that matter.",
  },
  logFormat: {
    flagValue: "FORMAT",
    help: "how a log line looks",
    more: "One line each on stderr, with the level as journald reads it. Read again at SIGHUP.",
    choices: ["logfmt", "json"],
  },
  logLevel: {
    flagValue: "LEVEL",
    help: "what is logged at least",
    more: "Read again at SIGHUP.",
    choices: ["error", "warn", "info", "debug"],
  },
  onEvent: {
    flagValue: null,
    help: "a program that each event is told to",
    more: "One line of JSON on its standard input; one run at a time, in order.",
    example: "/usr/local/sbin/parityd-mail",
  },
  onEventLeast: {
    flagValue: null,
    help: "which events it is told",
    more: "Those of this severity, and of the higher ones.",
    choices: SEVERITIES,
  },
  onEventTimeoutSeconds: {
    flagValue: null,
    help: "how long the program may take",
    more: "Then it is ended, with all that it has started.",
  },
  webhook: {
    flagValue: null,
    help: "where events are posted",
    more:
      "A table each ([[webhook]]): url, least, caFile (certificates of its authority), secretFile " +
      "(the key of the signature), template (a text with {{fields}}), headers, timeoutSeconds. " +
      "Tries go on for a day, over restarts.",
  },
};

/** Read by `serve` and by the commands where it is there and no other is named. */
export const DEFAULT_CONFIG_PATH = "/etc/parityd/parityd.toml";

/** What a setting is where nobody says anything. */
export function defaultConfig(): Config {
  return configSchema.parse({});
}

/** Whether other hosts may read and write the arrays in the clear, or anybody who can reach us. */
export function isNbdExposed({ nbdTcp, nbdTls }: Pick<Config, "nbdTcp" | "nbdTls">): boolean {
  if (nbdTcp === undefined || nbdTls === "required") return false;
  return !isLoopback(nbdTcp.host);
}

/** Whether other hosts may read and use the tokens of whoever calls the API. */
export function isApiExposed({ apiTcp, apiTls }: Pick<Config, "apiTcp" | "apiTls">): boolean {
  return apiTcp !== undefined && apiTls === undefined && !isLoopback(apiTcp.host);
}

function isLoopback(host: string): boolean {
  return /^(127\.[\d.]+|::1|localhost)$/.test(host);
}

/** `ADDR:PORT`, with an IPv6 address in brackets. */
export function parseTcpAddress(text: string): Result<TcpAddress, string> {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || port > 65_535) {
    return err(`"${text}" is not ADDR:PORT (127.0.0.1:8080, [::1]:8080)`);
  }
  return ok({ host, port });
}

/** `{ key: value }` of flags that were given, over the text of the file. The error is one line. */
export function parseConfig(
  toml: string | null,
  flags: Partial<ConfigInput>,
): Result<Config, string> {
  let fromFile: object = {};
  if (toml !== null) {
    try {
      fromFile = Bun.TOML.parse(toml);
    } catch (error) {
      return err(syntaxProblem(toml, error));
    }
  }
  const given = { ...fromFile, ...flags };
  const parsed = configSchema.safeParse(given);
  if (parsed.success) return ok(parsed.data);
  const shape = { given, settings: Object.keys(SETTINGS) };
  return err(parsed.error.issues.map((issue) => issueText(issue, shape)).join("; "));
}

/** Without a path: the default file where it is there, else none. */
export function loadConfig(
  given: string | undefined,
  flags: Partial<ConfigInput>,
): Result<Config, string> {
  const path = given ?? DEFAULT_CONFIG_PATH;
  if (given === undefined && !existsSync(path)) return parseConfig(null, flags);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    return err(`cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
  const config = parseConfig(text, flags);
  if (config.ok) return config;
  // Where the file alone can be used, it is the flags that cannot.
  return err(parseConfig(text, {}).ok ? config.error : `${path}: ${config.error}`);
}
