/**
 * `parityd serve`: the daemon.
 *
 * Order of the start: locks (two daemons never share a directory), state.db, reactor, NBD sockets,
 * API, then drives and arrays, each array as soon as its own drives are there. `ready` is printed
 * when all drives have answered, or after a moment: a drive that hangs keeps nothing else away, and
 * NBD clients of an array that is still awaited wait. The stop is the reverse:
 * refuse changes, drain and mark clean, close. What signals do is in ../signals.ts.
 */
import { existsSync, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { createApp } from "../../api/app.ts";
import { TokenFile } from "../../api/auth.ts";
import { loadPage } from "../../api/page/page-source.ts";
import { type ApiServer, listenTcp, listenUnix, type TcpServer } from "../../api/server.ts";
import { alertFiles } from "../../appliance/alerts/alert-config.ts";
import { type OpenWays, openWays } from "../../appliance/alerts/open-ways.ts";
import { Appliance } from "../../appliance/appliance.ts";
import { type Config, isApiExposed, isNbdExposed } from "../../appliance/config.ts";
import { takeLock } from "../../appliance/host/linux-lock.ts";
import { ProcessTools } from "../../appliance/host/linux-tool.ts";
import { type Logger, stderrLogger } from "../../appliance/host/logger.ts";
import { createNotifySend } from "../../appliance/linux-notify.ts";
import { listenNbdTls, type NbdTlsListener } from "../../appliance/nbd/nbd-tls.ts";
import { listenEverywhere } from "../../appliance/nbd-address.ts";
import { ReactorClient } from "../../appliance/reactor-client.ts";
import type { StartedReactor } from "../../appliance/start-reactor.ts";
import { processAlarms, sleep } from "../../appliance/state/alarms.ts";
import { EventLog } from "../../appliance/state/event-log.ts";
import { JobBook } from "../../appliance/state/job-book.ts";
import { randomArrayUuid } from "../../appliance/state/labels.ts";
import { SqliteStateFile } from "../../appliance/state/state-file.ts";
import { StateStore } from "../../appliance/state/state-store.ts";
import { Systemd } from "../../appliance/systemd.ts";
import { loadApiTls, loadNbdTls, type TlsFiles } from "../../appliance/tls-files.ts";
import type { CommandError, NbdAddress } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type CallError, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { CONFIG_OPTIONS, configOf } from "../config-options.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { readAgain } from "../read-again.ts";
import { watchSignals } from "../signals.ts";

const NBD_SOCKET_MODE = 0o660;
/** Drives that have not answered by then are awaited by their own arrays alone. */
const READY_WAIT_MS = 5_000;
const LOCK_NAME = "parityd.lock";

export const serveCommand: CommandSpec = {
  path: ["serve"],
  summary: "Run the daemon: arrays, NBD server, HTTP API",
  examples: ["parityd serve", "parityd serve --config parityd.toml --memory-mib 512"],
  operands: [],
  options: CONFIG_OPTIONS,
  run: serve,
};

async function serve(invocation: Invocation, host: CliHost): Promise<number> {
  const config = configOf(invocation);
  if (!config.ok) return fail(host, { exitCode: Exit.configuration, message: config.error });
  const log = stderrLogger({ format: config.value.logFormat, level: config.value.logLevel });
  const nbdFiles = loadNbdTls(config.value);
  if (!nbdFiles.ok) return fail(host, { exitCode: Exit.configuration, message: nbdFiles.error });
  const apiFiles = loadApiTls(config.value);
  if (!apiFiles.ok) return fail(host, { exitCode: Exit.configuration, message: apiFiles.error });
  const alerts = openWays(config.value, { alarms: processAlarms, log });
  if (!alerts.ok) return fail(host, { exitCode: Exit.configuration, message: alerts.error });
  const signals = watchSignals(host, "read-again", log);
  const opened = prepare(config.value);
  if (!opened.ok) return fail(host, opened.error);
  alerts.value.endLeft();
  const store = openState(config.value, log);
  const readConfig = (): Result<Config, string> => configOf(invocation);
  const secrets = { nbdFiles: nbdFiles.value, apiFiles: apiFiles.value, alerts: alerts.value };
  const parts = { config: config.value, readConfig, log, store, host, ...secrets };
  const daemon = await startDaemon(parts);
  if (!daemon.ok) return fail(host, daemon.error);
  const { appliance, client, systemd, apiPath, nbdPath } = daemon.value;
  systemd.watch(client);
  appliance.startLackingAfter(config.value.degradedStartSeconds * 1000);
  systemd.starting("waiting for drives");
  const restored = appliance.restore();
  await Promise.race([restored, sleep(processAlarms, READY_WAIT_MS), signals.stop]);
  host.print(`ready api=${apiPath} nbd=${nbdPath}`);
  const serving = `serving on ${apiPath} and ${nbdPath}`;
  systemd.ready(serving);
  void restored.then(() => systemd.status(serving));
  signals.onReadAgain(() => daemon.value.readAgain());
  await signals.stop;
  log.write("info", "stopping: draining requests and marking arrays clean");
  systemd.stopping();
  daemon.value.reactor.expectEnd();
  daemon.value.nbdTls?.stopListening();
  if (!(await hasEnded(appliance.shutdown(), config.value.stopSeconds))) {
    await appliance.leave(config.value.stopSeconds);
    host.exit(Exit.failed);
  }
  await daemon.value.nbdTls?.close();
  for (const server of daemon.value.servers) await server.close();
  store.close();
  systemd.stopped();
  log.write("info", "stopped");
  return Exit.ok;
}

/** Whether it has ended within so many seconds. */
function hasEnded(work: Promise<void>, seconds: number): Promise<boolean> {
  const isInTime = work.then(() => true);
  return Promise.race([isInTime, sleep(processAlarms, seconds * 1_000).then(() => false)]);
}

/** Directories and locks. */
function prepare(config: Config): Result<undefined, CallError> {
  for (const directory of new Set([resolve(config.stateDir), resolve(config.runDir)])) {
    const claimed = claimDirectory(directory);
    if (!claimed.ok) return unavailable(claimed.error);
  }
  return ok();
}

/** What is remembered, whatever has become of the file. */
function openState(config: Config, log: Logger): StateStore {
  const path = join(config.stateDir, "state.db");
  const file = new SqliteStateFile({ path, scratch: config.runDir });
  return new StateStore({ loaded: file.load(), file, alarms: processAlarms, log });
}

/** Makes a directory where it is missing, and takes it for this process alone. */
function claimDirectory(directory: string): Result<undefined, string> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
  } catch (error) {
    return err(`cannot make ${directory}: ${error instanceof Error ? error.message : error}`);
  }
  // Never released: the kernel does that when the process has ended.
  const lock = takeLock(join(directory, LOCK_NAME));
  if (lock.ok) return ok();
  if (lock.error !== "held") return err(`cannot lock ${directory} (${lock.error.errno})`);
  return err(
    `${directory} is in use by another parityd: ` +
      "stop that one, or choose --state-dir and --run-dir",
  );
}

/** For a run directory that was claimed, and may have been removed since. */
function claimAgain(directory: string): Result<undefined, string> {
  return existsSync(join(directory, LOCK_NAME)) ? ok() : claimDirectory(directory);
}

interface Daemon {
  /** What SIGHUP does. */
  readAgain(): void;
  readonly appliance: Appliance;
  readonly client: ReactorClient;
  readonly reactor: StartedReactor;
  readonly systemd: Systemd;
  readonly servers: readonly ApiServer[];
  readonly apiPath: string;
  readonly nbdPath: string;
  readonly nbdTls: NbdTlsListener | null;
}

interface DaemonParts {
  readonly config: Config;
  readonly readConfig: () => Result<Config, string>;
  readonly log: Logger;
  readonly store: StateStore;
  readonly host: CliHost;
  /** Null: what comes over TCP is plain, or nothing does. */
  readonly nbdFiles: TlsFiles | null;
  readonly apiFiles: TlsFiles | null;
  readonly alerts: OpenWays;
}

async function startDaemon(parts: DaemonParts): Promise<Result<Daemon, CallError>> {
  const { config, log, store, host } = parts;
  const alarms = processAlarms;
  const started = await host.startReactor({
    memoryMib: config.memoryMib,
    firstJobId: store.firstJobId,
    allowFaultInjection: config.allowFaultInjection,
    autoAssemble: false,
    protectedPaths: protectedPaths(config),
  });
  if (!started.ok) return unavailable(started.error);
  const reactor = started.value;
  const client = new ReactorClient({ ...reactor, log });
  const jobs = new JobBook({ store, client, alarms });
  jobs.closeFormerRun(new Date().toISOString());
  const appliance = new Appliance({
    client,
    opener: reactor.opener,
    tools: new ProcessTools(),
    nbdDriver: reactor.nbdDriver,
    store,
    events: new EventLog({ store, log }),
    jobs,
    alarms,
    log,
    newUuid: randomArrayUuid,
    allowFaultInjection: config.allowFaultInjection,
    alertWays: parts.alerts.ways,
  });
  await appliance.announce();
  const nbdPath = join(config.runDir, "nbd.sock");
  const nbd = await listenNbd(parts, client, nbdPath);
  if (!nbd.ok) return nbd;
  appliance.exports.setNbdAddresses(nbd.value.addresses);
  const apiPath = join(config.runDir, "api.sock");
  const servers = await listenApi(parts, appliance, apiPath);
  if (!servers.ok) {
    reactor.expectEnd();
    await appliance.shutdown();
    return servers;
  }
  const watchdog = process.env["WATCHDOG_USEC"];
  const systemd = new Systemd({
    send: createNotifySend(process.env["NOTIFY_SOCKET"]),
    watchdogMicroseconds: watchdog === undefined ? undefined : Number(watchdog),
  });
  const { nbdTls } = nbd.value;
  const { tokens, tcp } = servers.value;
  const apiTls = parts.apiFiles === null ? null : tcp;
  return ok({
    ...{ appliance, client, reactor, systemd, apiPath, nbdPath, nbdTls },
    servers: servers.value.servers,
    readAgain: () => readAgain({ ...parts, nbdTls, apiTls, tokens }),
  });
}

/** None of these is ever a drive. */
function protectedPaths(config: Config): string[] {
  const { stateDir, runDir, nbdTlsCert, nbdTlsKey, nbdTlsCa } = config;
  const { apiTlsCert, apiTlsKey, apiTlsCa } = config;
  const files = [nbdTlsCert, nbdTlsKey, nbdTlsCa, apiTlsCert, apiTlsKey, apiTlsCa];
  const given = files.filter((path) => path !== undefined);
  return [stateDir, runDir, ...given, ...alertFiles(config)].map((path) => resolve(path));
}

interface NbdListeners {
  readonly addresses: readonly NbdAddress[];
  readonly nbdTls: NbdTlsListener | null;
}

async function listenNbd(
  { config, nbdFiles, log }: DaemonParts,
  client: ReactorClient,
  path: string,
): Promise<Result<NbdListeners, CallError>> {
  if (isNbdExposed(config)) {
    const { host } = config.nbdTcp!;
    log.write("warn", "NBD without TLS: whoever reaches it reads and writes the arrays", { host });
  }
  const listen = async (address: NbdAddress): Promise<Result<NbdAddress, CommandError>> => {
    const bound = await client.call({ kind: "listen-nbd", address, mode: NBD_SOCKET_MODE });
    return bound.ok ? ok(bound.value.address) : bound;
  };
  const local = await listen({ kind: "unix", path });
  if (!local.ok) return unavailable(local.error.detail);
  const addresses = [local.value];
  if (config.nbdTcp === undefined) return ok({ addresses, nbdTls: null });
  if (nbdFiles === null || config.nbdTls === undefined) {
    const plain = await listenEverywhere(config.nbdTcp, listen);
    if (!plain.ok) return unavailable(plain.error);
    return ok({ addresses: [...addresses, ...plain.value], nbdTls: null });
  }
  const { nbdTcp: address, nbdTls: mode } = config;
  const secure = await listenNbdTls({ address, mode, tls: nbdFiles, client, log });
  if (!secure.ok) return unavailable(secure.error);
  return ok({ addresses: [...addresses, ...secure.value.addresses], nbdTls: secure.value });
}

interface ApiListeners {
  readonly servers: readonly ApiServer[];
  /** Null: nothing is let in over TCP. */
  readonly tokens: TokenFile | null;
  readonly tcp: TcpServer | null;
}

async function listenApi(
  { config, log, host, apiFiles }: DaemonParts,
  appliance: Appliance,
  apiPath: string,
): Promise<Result<ApiListeners, CallError>> {
  let tokens: TokenFile | null = null;
  if (config.apiTcp !== undefined) {
    const opened = TokenFile.open(join(config.stateDir, "api-token"), { log });
    if (!opened.ok) return err({ exitCode: Exit.configuration, message: opened.error });
    tokens = opened.value;
  }
  const hosts = [...(config.apiTcp === undefined ? [] : [config.apiTcp.host]), ...config.apiHosts];
  const app = createApp({
    appliance,
    log,
    page: await loadPage(),
    ...(tokens === null ? {} : { tcpGuard: { grantOf: (token) => tokens.grantOf(token), hosts } }),
    onDefect: () => host.exit(Exit.internal),
  });
  const claim = (): Result<undefined, string> => claimAgain(config.runDir);
  const unix = await listenUnix(app, { path: apiPath, log, claimDirectory: claim });
  if (!unix.ok) return unavailable(unix.error);
  if (config.apiTcp === undefined) return ok({ servers: [unix.value], tokens, tcp: null });
  if (isApiExposed(config)) {
    const { host: address } = config.apiTcp;
    log.write("warn", "the API without TLS: tokens cross the network in the clear", { address });
  }
  const tcp = await listenTcp(app, { ...config.apiTcp, log, tls: apiFiles });
  if (tcp.ok) return ok({ servers: [unix.value, tcp.value], tokens, tcp: tcp.value });
  await unix.value.close();
  return unavailable(tcp.error);
}

function unavailable(message: string): Result<never, CallError> {
  return err({ exitCode: Exit.unavailable, message });
}
