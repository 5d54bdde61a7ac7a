/**
 * Alerts in virtual time: the real log of events, queues and reminders over a state.db that is kept
 * over kills, with receivers that do what a test says.
 */
import type { Alert, AlertWay, Delivery } from "../../src/appliance/alerts/alert.ts";
import { Alerts } from "../../src/appliance/alerts/alerts.ts";
import type { ReactorClient } from "../../src/appliance/reactor-client.ts";
import { EventLog } from "../../src/appliance/state/event-log.ts";
import type { StoredEvent } from "../../src/appliance/state/state.ts";
import type { StateFile } from "../../src/appliance/state/state-file.ts";
import { StateStore } from "../../src/appliance/state/state-store.ts";
import type { ArrayEvent, ArrayStatus, Severity } from "../../src/array/protocol.ts";
import type { Log, LogFields } from "../../src/base/log.ts";
import { SeededRandom } from "../../src/base/random.ts";
import { err, ok } from "../../src/base/result.ts";
import { SimStateFile } from "../life/sim-state-file.ts";
import { Simulation } from "../sim/world/simulation.ts";
import { simAlarms } from "./sim-alarms.ts";
import { testUuid } from "./sim-reactor.ts";

/** Somebody who hears of alerts, over all runs of the daemon. */
export interface Receiver {
  readonly via: string;
  readonly least: Severity;
  /** What he answers, and after how long. */
  answer: (alert: Alert) => { readonly delivery: Delivery; readonly afterMs: number };
  /** All that reached him, in order; `run` counts the runs of the daemon from 1. */
  readonly got: { readonly id: number; readonly atMs: number; readonly run: number }[];
}

export const ARRIVED: Delivery = { kind: "arrived", detail: "status 204" };
export const REFUSED: Delivery = { kind: "refused", detail: "status 404" };
export const FAILED: Delivery = { kind: "failed", detail: "status 500", retryAfterMs: null };

export function receiver(least: Severity, via = "webhook1"): Receiver {
  return { via, least, got: [], answer: () => ({ delivery: ARRIVED, afterMs: 1 }) };
}

interface Run {
  readonly alerts: Alerts;
  readonly events: EventLog;
  readonly store: StateStore;
}

export class AlertModel {
  readonly simulation: Simulation;
  readonly file: SimStateFile;
  readonly logged: {
    readonly level: string;
    readonly message: string;
    readonly fields: LogFields;
  }[] = [];
  /** What the reactor says of arrays, by UUID. */
  readonly arrays = new Map<string, ArrayStatus>();
  chance = 0.5;
  runs = 0;
  private readonly receivers: readonly Receiver[];
  private run: Run | null = null;

  constructor(receivers: readonly Receiver[], seed = 1) {
    this.receivers = receivers;
    this.simulation = new Simulation({ seed });
    this.file = new SimStateFile({ random: new SeededRandom(seed) });
  }

  start(receivers: readonly Receiver[] = this.receivers): void {
    this.runs += 1;
    const number = this.runs;
    const isAlive = (): boolean => this.run !== null && this.runs === number;
    const alarms = simAlarms(this.simulation, isAlive);
    const log: Log = {
      write: (level, message, fields = {}) => void this.logged.push({ level, message, fields }),
    };
    const file: StateFile = this.file;
    const store = new StateStore({ loaded: this.file.load(), file, alarms, log });
    const events = new EventLog({ store, log: { write: () => {} } });
    const ways = receivers.map((to): AlertWay => {
      let leave: () => void = () => {};
      return {
        ...{ via: to.via, target: to.via, key: to.via, least: to.least },
        deliver: (alert) => {
          to.got.push({ id: alert.id, atMs: this.simulation.nowMs(), run: number });
          const { delivery, afterMs } = to.answer(alert);
          return new Promise((resolve) => {
            leave = () => resolve(FAILED);
            alarms.after(afterMs, () => resolve(delivery));
          });
        },
        abort: () => leave(),
      };
    });
    const client = {
      call: async ({ array = "" }: { array?: string }) => {
        const status = this.arrays.get(array);
        return status === undefined ? err({ kind: "not-found" }) : ok(structuredClone(status));
      },
    } as unknown as ReactorClient;
    const chance = (): number => this.chance;
    const alerts = new Alerts({ client, store, events, alarms, log, ways, chance });
    this.run = { alerts, events, store };
    alerts.begin();
  }

  get now(): Run {
    if (this.run === null) throw new Error("the daemon is not there");
    return this.run;
  }

  get isThere(): boolean {
    return this.run !== null;
  }

  /** SIGKILL, at this instant. */
  kill(): void {
    this.run = null;
  }

  /** SIGTERM, to its end. */
  stop(): void {
    this.simulation.settle(this.now.alerts.stop(), { limitMs: 60_000 });
    this.now.store.close();
    this.run = null;
  }

  emit(severity: Severity, rest: Partial<ArrayEvent> = {}): StoredEvent {
    return this.now.events.append({
      ...{ kind: "io.error", severity, array: "tank", arrayUuid: null, drive: null, job: null },
      ...{ atMs: this.simulation.wallMs(), message: "something has happened" },
      ...rest,
    });
  }

  runFor(forMs: number): void {
    this.simulation.runFor(forMs);
  }

  counts(via = "webhook1") {
    return this.now.alerts.counts.find((counts) => counts.via === via)!;
  }

  /** An array that stands so; the daemon is told that something has happened to it. */
  setArray(name: string, status: Partial<ArrayStatus>): void {
    const uuid = testUuid(name);
    const members = [{}, {}, {}] as unknown as ArrayStatus["members"];
    const sync = { action: "idle", doneBytes: 0, totalBytes: 0 };
    const whole = { name, uuid, state: "clean", degraded: 0, reason: null, members, sync };
    this.arrays.set(uuid, { ...whole, ...status } as ArrayStatus);
    if (this.now.store.state.arrays.get(uuid) === undefined) {
      const stored = { uuid, label: name, standing: "known", settings: {}, seen: null } as const;
      this.now.store.note({ kind: "put-array", array: stored });
    }
    this.emit("info", { arrayUuid: uuid, array: name });
  }
}
