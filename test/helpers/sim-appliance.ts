/**
 * A control thread over the real reactor service on simulated drives: the real appliance, helper
 * and API, with state.db in memory.
 */
import { createApp } from "../../src/api/app.ts";
import type { TcpGuard } from "../../src/api/auth.ts";
import type { PageFile } from "../../src/api/page/page-file.ts";
import type { ApiApp } from "../../src/api/route.ts";
import type { AlertWay } from "../../src/appliance/alerts/alert.ts";
import { Appliance } from "../../src/appliance/appliance.ts";
import { type NbdDriver, NO_NBD_DRIVER } from "../../src/appliance/attach/nbd-driver.ts";
import { NO_TOOLS, type ToolRunner } from "../../src/appliance/host/linux-tool.ts";
import { ReactorClient } from "../../src/appliance/reactor-client.ts";
import { type Alarms, processAlarms } from "../../src/appliance/state/alarms.ts";
import { EventLog } from "../../src/appliance/state/event-log.ts";
import { JobBook } from "../../src/appliance/state/job-book.ts";
import { State } from "../../src/appliance/state/state.ts";
import type { LoadedState, StateFile } from "../../src/appliance/state/state-file.ts";
import { StateStore } from "../../src/appliance/state/state-store.ts";
import { type Log, silentLog } from "../../src/base/log.ts";
import { ok } from "../../src/base/result.ts";
import type { SimHost } from "../life/sim-host.ts";
import { WALL_START_MS } from "../sim/world/simulation.ts";
import { judgeAnswer } from "./openapi-answers.ts";
import { hostWithDisks, SimReactor, TEST_ARRAY, testUuid } from "./sim-reactor.ts";
import { TestLog } from "./test-log.ts";

export interface SimAppliance {
  readonly reactor: SimReactor;
  readonly host: SimHost;
  readonly store: StateStore;
  readonly appliance: Appliance;
  readonly client: ReactorClient;
  readonly app: ApiApp;
  /**
   * A call over the Unix socket; an object becomes a JSON body. Throws where the answer is not what
   * /openapi.json says.
   */
  call(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<Response>;
}

export interface SimApplianceOptions {
  readonly store?: StateStore;
  /** What was there before is ended as by SIGKILL; default: a new one with DRIVE_PATHS. */
  readonly host?: SimHost;
  /** Default: none is installed. */
  readonly tools?: ToolRunner;
  /** Default: the host has none. */
  readonly nbdDriver?: NbdDriver;
  /** Of the appliance. */
  readonly log?: Log;
  readonly allowFaultInjection?: boolean;
  readonly tcpGuard?: TcpGuard;
  /** The clock of the limit of wrong tokens. */
  readonly nowMs?: () => number;
  readonly commentMs?: number;
  readonly page?: readonly PageFile[];
  readonly onDefect?: (error: unknown) => void;
  readonly alertWays?: readonly AlertWay[];
}

/** A state that is in no file. */
/**
 * Its timers are the process's own. On the wall it begins when the simulated reactor does, so that
 * no test depends on the time of day at which it runs.
 */
function alarmsFromStart(): Alarms {
  const startMs = processAlarms.nowMs();
  const wallMs = () => WALL_START_MS + Math.floor(processAlarms.nowMs() - startMs);
  return { ...processAlarms, wallMs };
}

export function memoryStore(file: Partial<StateFile> = {}): StateStore {
  const loaded: LoadedState = { state: new State(), problems: [], readOnlyReason: null };
  const noFile: StateFile = {
    hasRoom: () => ok(null),
    write: () => ok(null),
    remake: () => ok(null),
    eventsBetween: () => [],
    close: () => {},
  };
  const log = silentLog;
  return new StateStore({ loaded, file: { ...noFile, ...file }, alarms: processAlarms, log });
}

export async function startSimAppliance(options: SimApplianceOptions = {}): Promise<SimAppliance> {
  const host = options.host ?? hostWithDisks(DRIVE_PATHS);
  const store = options.store ?? memoryStore();
  const reactor = new SimReactor(host, { firstJobId: store.firstJobId });
  const { opener } = reactor;
  const alarms = alarmsFromStart();
  let arrayCount = 0;
  const newUuid = (): string => {
    arrayCount += 1;
    return testUuid(arrayCount === 1 ? TEST_ARRAY : `array${arrayCount}`);
  };
  const client = new ReactorClient({ channel: reactor, opener, log: silentLog });
  const events = new EventLog({ store, log: silentLog });
  const jobs = new JobBook({ store, client, alarms });
  const appliance = new Appliance({
    client,
    opener,
    tools: options.tools ?? NO_TOOLS,
    nbdDriver: options.nbdDriver ?? NO_NBD_DRIVER,
    store,
    events,
    jobs,
    alarms,
    newUuid,
    log: options.log ?? silentLog,
    allowFaultInjection: options.allowFaultInjection ?? true,
    alertWays: options.alertWays ?? [],
  });
  appliance.exports.setNbdAddresses([{ kind: "unix", path: "/run/parityd/nbd.sock" }]);
  await appliance.announce();
  await appliance.restore();
  const app = createApp({
    appliance,
    // A defect is the only thing that the app itself logs: a test must not pass over it.
    log: new TestLog((level, message, fields) => {
      // A defect, which no test may pass over.
      if (level === "error") console.error(message, fields);
    }),
    onDefect: options.onDefect ?? (() => {}),
    ...(options.tcpGuard === undefined ? {} : { tcpGuard: options.tcpGuard }),
    ...(options.page === undefined ? {} : { page: options.page }),
    ...(options.nowMs === undefined ? {} : { nowMs: options.nowMs }),
    ...(options.commentMs === undefined ? {} : { commentMs: options.commentMs }),
  });
  const call = async (
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Response> => {
    const hasBody = body !== undefined;
    const type = hasBody ? { "Content-Type": "application/json" } : {};
    const init = {
      method,
      headers: { ...type, ...headers } as Record<string, string>,
      ...(hasBody ? { body: typeof body === "string" ? body : JSON.stringify(body) } : {}),
    };
    const answer = await app.request(path, init, { transport: "unix" });
    await judgeAnswer(app, { method, path, answer });
    return answer;
  };
  return { reactor, host, store, appliance, client, app, call };
}

export const DRIVE_PATHS = ["/dev/a", "/dev/b", "/dev/c", "/dev/d"];

/** Adds the drives a, b, c and d, and makes the array raid_test of the first three, at rest. */
export async function addTestArray({ call, reactor }: SimAppliance): Promise<void> {
  for (const path of DRIVE_PATHS) {
    await expectStatus(call("POST", "/v1/drives", { name: path.slice(5), path }), 201);
  }
  const body = { name: TEST_ARRAY, drives: ["a", "b", "c"], assumeClean: true, force: true };
  await expectStatus(call("POST", "/v1/arrays", body), 201);
  reactor.world.settle({ array: TEST_ARRAY });
}

async function expectStatus(answer: Promise<Response>, status: number): Promise<void> {
  const response = await answer;
  if (response.status !== status) {
    throw new Error(`${response.status}: ${await response.text()}`);
  }
}

/** One of which every metric has something to tell. */
export async function startMeasuredAppliance(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await daemon.call("PUT", "/v1/exports/raid_test", { array: "raid_test" });
  await daemon.call("PUT", "/v1/schedules/raid_test", { cron: "0 1 * * *" });
  await daemon.call("POST", "/v1/faults", { drive: "a", op: "read", errno: "EIO", count: 1 });
  await daemon.call("POST", "/v1/arrays/raid_test/scrub");
  daemon.reactor.world.waitJob(1);
  daemon.reactor.world.settle({ array: "raid_test" });
  return daemon;
}
