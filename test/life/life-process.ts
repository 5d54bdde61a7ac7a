/**
 * One life of the daemon, put together as cli/verbs/serve.ts does it, over a simulated machine: the
 * real Appliance, API, Helper, ReactorClient, NBD server and arrays.
 *
 * It is a process as far as anybody outside can tell: `kill` and `cutPower` end it at any moment,
 * and what it had not written is lost. Messages between its two threads take time, arrive in order,
 * and are copies. A defect (an assertion, a rejection, `onDefect`) is thrown out of the call that
 * turned the simulation.
 */

import { createApp } from "../../src/api/app.ts";
import type { ApiApp } from "../../src/api/route.ts";
import { Appliance } from "../../src/appliance/appliance.ts";
import { NO_NBD_DRIVER } from "../../src/appliance/attach/nbd-driver.ts";
import { Helper } from "../../src/appliance/helper/helper.ts";
import { NO_TOOLS } from "../../src/appliance/host/linux-tool.ts";
import { ReactorClient } from "../../src/appliance/reactor-client.ts";
import { EventLog } from "../../src/appliance/state/event-log.ts";
import { JobBook } from "../../src/appliance/state/job-book.ts";
import { StateStore } from "../../src/appliance/state/state-store.ts";
import type { Command, Envelope, ReactorMessage } from "../../src/array/protocol.ts";
import { inBackground } from "../../src/base/background.ts";
import type { Log } from "../../src/base/log.ts";
import { nextFraction, type SeededRandom } from "../../src/base/random.ts";
import { type CommandOutcome, runCli } from "../helpers/fake-host.ts";
import { simAlarms } from "../helpers/sim-alarms.ts";
import type { SimAppliance } from "../helpers/sim-appliance.ts";
import { TestLog } from "../helpers/test-log.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import type { Simulation } from "../sim/world/simulation.ts";
import type { SimHost } from "./sim-host.ts";
import type { SimStateFile } from "./sim-state-file.ts";

const DEGRADED_START_MS = 30_000;
const MESSAGE_MS = 0.02;
/** A drive that hangs costs its write deadline. */
const STOP_LIMIT_MS = 300_000;
const STOP_STEP_MS = 50;

export interface ApiAnswer {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: what the API answers is judged by its fields.
  readonly body: any;
}

export interface ProcessOptions {
  readonly host: SimHost;
  readonly stateFile: SimStateFile;
  readonly random: SeededRandom;
  readonly newUuid: () => string;
  readonly wallAheadMs: number;
}

export class LifeProcess {
  readonly world: SimWorld;
  readonly appliance: Appliance;
  readonly app: ApiApp;
  private readonly store: StateStore;
  private readonly random: SeededRandom;
  private readonly host: SimHost;

  constructor({ host, stateFile, random, newUuid, wallAheadMs }: ProcessOptions) {
    this.random = random;
    this.host = host;
    const loaded = stateFile.load();
    let receive: (message: ReactorMessage) => void = () => {};
    const toControl = this.inOrder(() => this.world.simulation);
    this.world = new SimWorld({
      seed: random.nextU32(),
      withNbd: true,
      autoAssemble: false,
      wallAheadMs,
      firstJobId: loaded.state.lastJobId + 1,
      onMessage: (message) => {
        const copy = structuredClone(message);
        toControl(() => receive(copy));
      },
      deviceOf: (drive) => host.deviceOf(drive),
    });
    host.begin(this.world);
    const { simulation } = this.world;
    const alarms = simAlarms(simulation);
    const log: Log = {
      write: (level, message, fields) => {
        simulation.note(`log ${level} ${message} ${JSON.stringify(fields ?? {})}`);
      },
    };
    this.store = new StateStore({ loaded, file: stateFile, alarms, log });
    const opener = new Helper({
      startThread: () => host.startThread(),
      setTimer: (afterMs, run) => alarms.after(afterMs, run),
    });
    const toReactor = this.inOrder(() => simulation);
    const channel = {
      post: (envelope: Envelope) => {
        const { id, command } = structuredClone(envelope);
        toReactor(() => {
          const answered = this.world.command(command as Command).then((result) => {
            const reply = structuredClone({ kind: "reply", id, result } as ReactorMessage);
            toControl(() => receive(reply));
          });
          inBackground(answered, null);
        });
      },
      onMessage: (listener: (message: ReactorMessage) => void) => {
        receive = listener;
      },
    };
    const client = new ReactorClient({ channel, log, opener });
    const jobs = new JobBook({ store: this.store, client, alarms });
    jobs.closeFormerRun(new Date(simulation.wallMs()).toISOString());
    this.appliance = new Appliance({
      ...{ client, opener, store: this.store, jobs, alarms, log, newUuid },
      events: new EventLog({ store: this.store, log }),
      tools: NO_TOOLS,
      nbdDriver: NO_NBD_DRIVER,
      allowFaultInjection: false,
    });
    this.app = createApp({
      appliance: this.appliance,
      log: new TestLog(log.write),
      onDefect: (error) => inBackground(Promise.reject(error), null),
    });
    inBackground(this.start(client), null);
  }

  get nowMs(): number {
    return this.world.nowMs;
  }

  /** A call of an operator; for code that runs inside the simulation. */
  async call(method: string, path: string, body?: unknown): Promise<ApiAnswer> {
    const init =
      body === undefined
        ? { method }
        : {
            method,
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify(body),
          };
    const response = await this.app.request(path, init, { transport: "unix" });
    const text = await response.text();
    const isJson = (response.headers.get("content-type") ?? "").includes("json");
    return { status: response.status, body: isJson ? JSON.parse(text) : text };
  }

  /** The same from outside, to its end. */
  ask(method: string, path: string, body?: unknown): ApiAnswer {
    return this.world.run(this.call(method, path, body));
  }

  /** `parityd <line>`, against this daemon. */
  cli(line: string): CommandOutcome {
    const daemon = { app: this.app } as unknown as SimAppliance;
    return this.world.run(runCli(line, { daemon }));
  }

  /** SIGTERM: drains, marks clean, ends; false: not within the time that systemd gives it. */
  stop(): boolean {
    let isStopped = false;
    const stopped = this.appliance.shutdown().then(() => {
      isStopped = true;
    });
    inBackground(stopped, null);
    const endMs = this.nowMs + STOP_LIMIT_MS;
    while (!isStopped && this.nowMs < endMs) this.world.simulation.runFor(STOP_STEP_MS);
    if (isStopped) this.store.close();
    this.host.end();
    return isStopped;
  }

  /** SIGKILL. The machine goes on. */
  kill(): void {
    this.host.end();
  }

  cutPower(policy: "keep" | "drop" | "random"): void {
    this.host.cutPower(policy);
  }

  private async start(client: ReactorClient): Promise<void> {
    await this.appliance.announce();
    const address = { kind: "unix", path: "/run/parityd/nbd.sock" } as const;
    await client.call({ kind: "listen-nbd", address, mode: 0o660 });
    this.appliance.exports.setNbdAddresses([address]);
    this.appliance.startLackingAfter(DEGRADED_START_MS);
    await this.appliance.restore();
  }

  /** Messages between two threads: late, and in the order in which they were posted. */
  private inOrder(simulationNow: () => Simulation): (deliver: () => void) => void {
    let lastAtMs = 0;
    return (deliver) => {
      const simulation = simulationNow();
      const atMs = simulation.nowMs() + MESSAGE_MS * nextFraction(this.random);
      lastAtMs = Math.max(lastAtMs, atMs);
      simulation.scheduleAt(lastAtMs, deliver);
    };
  }
}
