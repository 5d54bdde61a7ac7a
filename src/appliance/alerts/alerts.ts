/**
 * Alerts: what happens is told to whoever is to hear of it, by a script and by webhooks.
 *
 *   event log ─► a queue for each way (alert-queue.ts) ─► script.ts, webhook.ts
 *       └─◄ repeats of arrays that are still degraded (reminders.ts)
 *
 * Nothing here holds anything up: an event is queued in memory as it is recorded, and everything
 * that waits for a receiver waits on the control thread's own loop.
 */
import { hostname } from "node:os";
import type { CommandError } from "../../array/protocol.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { sleep } from "../state/alarms.ts";
import type { Effects } from "../state/effects.ts";
import type { StateChange, StoredEvent } from "../state/state.ts";
import { VERSION } from "../version.ts";
import { type AlertWay, alertOf, type Delivery } from "./alert.ts";
import { type AlertCounts, AlertQueue, type StuckAlerts } from "./alert-queue.ts";
import { type ReminderParts, Reminders } from "./reminders.ts";

/** What is under way when the daemon stops has so long. */
const STOP_GRACE_MS = 2_000;
const TEST_LIMIT_MS = 60_000;

/** What came of a test, by one way. */
export interface WayOutcome {
  readonly via: string;
  readonly target: string;
  /** Absent where nothing was sent. */
  readonly arrived?: boolean;
  readonly detail: string;
}

export interface AlertsParts extends ReminderParts {
  readonly ways: readonly AlertWay[];
  /** In [0, 1); default: by chance. */
  readonly chance?: () => number;
}

export class Alerts {
  private readonly parts: AlertsParts;
  private readonly teller = { host: hostname(), version: VERSION };
  private readonly queues: readonly AlertQueue[];
  private readonly reminders: Reminders;

  constructor(parts: AlertsParts) {
    this.parts = parts;
    const { ways, store, events, alarms, log, chance = Math.random } = parts;
    const { teller } = this;
    this.queues = ways.map((way) => new AlertQueue({ way, store, alarms, log, teller, chance }));
    events.recordWith((event) => this.take(event));
    events.subscribe(() => this.recorded());
    this.reminders = new Reminders(parts);
  }

  get counts(): AlertCounts[] {
    return this.queues.map(({ counts }) => counts);
  }

  /** The ways by which nothing has arrived for a while. */
  get stuck(): StuckAlerts[] {
    return this.queues.flatMap(({ stuck }) => stuck ?? []);
  }

  /** From now on alerts are sent, those of former runs first. */
  begin(): void {
    this.dropOrphans();
    for (const queue of this.queues) queue.begin();
  }

  /** Sends no more: what waits is for the next run. */
  async stop(): Promise<void> {
    this.reminders.stop();
    const stopped = Promise.all(this.queues.map((queue) => queue.stop()));
    const isAtRest = this.queues.every((queue) => !queue.isBusy);
    const { alarms } = this.parts;
    const grace = new Promise<void>((resolve) => void alarms.after(STOP_GRACE_MS, resolve));
    if (!isAtRest) await Promise.race([stopped, grace]);
    for (const { way } of this.queues) way.abort();
    await stopped;
  }

  /** Sends an alert by each way, or by one webhook, past what waits; says what came of it. */
  async test(
    webhook: number | null,
    { isDry }: Pick<Effects, "isDry">,
  ): Promise<Result<WayOutcome[], CommandError>> {
    const via = webhook === null ? null : `webhook${webhook}`;
    const { ways } = this.parts;
    if (ways.length === 0) return err(NO_WAYS);
    const chosen = ways.filter((way) => via === null || way.via === via);
    if (chosen.length === 0) {
      const detail = `there is no ${via}: the configuration has ${ways.map((way) => way.via).join(", ")}`;
      return err({ kind: "not-found", code: "unknown-webhook", detail });
    }
    if (isDry) return ok(chosen.map(({ via, target }) => ({ via, target, detail: NOT_SENT })));
    return ok(await Promise.all(chosen.map((way) => this.testWay(way))));
  }

  private async testWay(way: AlertWay): Promise<WayOutcome> {
    const { alarms } = this.parts;
    const { via, target } = way;
    const late: Delivery = {
      kind: "failed",
      detail: `no answer within ${TEST_LIMIT_MS / 1_000} s`,
      retryAfterMs: null,
    };
    const { kind, detail } = await Promise.race([
      way.deliver(alertOf({ ...TEST_EVENT, atMs: alarms.wallMs() }, this.teller)),
      sleep(alarms, TEST_LIMIT_MS).then(() => late),
    ]);
    return { via, target, arrived: kind === "arrived", detail };
  }

  private take(event: StoredEvent): StateChange[] {
    return this.queues.flatMap((queue) => queue.take(event));
  }

  private recorded(): void {
    const { events, alarms } = this.parts;
    for (const queue of this.queues) {
      queue.kick();
      if (!queue.takeOverflow()) continue;
      const message = `alerts by ${queue.way.via} are dropped: too many wait, as none arrive`;
      events.append({
        ...{ kind: "alerts.dropped", severity: "warning", message, atMs: alarms.wallMs() },
        ...{ array: "", arrayUuid: null, drive: null, job: null },
      });
    }
  }

  /** Alerts for a way that is configured no more, or has another URL now. */
  private dropOrphans(): void {
    const { store, ways, log } = this.parts;
    const keys = new Set(ways.map(({ key }) => key));
    const orphans = [...store.state.alerts.values()].filter(({ way }) => !keys.has(way));
    if (orphans.length === 0) return;
    const why = "the way that they waited for is configured no more";
    log.write("warn", "alerts are dropped", { dropped: orphans.length, why });
    store.note(
      ...orphans.map(({ way, event }): StateChange => {
        return { kind: "delete-alert", way, eventId: event.id };
      }),
    );
  }
}

/** Of no array, and none of the event log: its id is 0. */
const TEST_EVENT: Omit<StoredEvent, "atMs"> = {
  ...{ id: 0, kind: "alerts.test", severity: "info", array: "", arrayUuid: null },
  ...{ drive: null, job: null, message: "a test of the alerts of parityd: nothing has happened" },
};

const NOT_SENT = "nothing was sent: whether it arrives only the sending tells";

const NO_WAYS: CommandError = {
  kind: "conflict",
  code: "no-alerts",
  detail: "no alerts are configured: set onEvent or [[webhook]] in the file of serve --config",
};
