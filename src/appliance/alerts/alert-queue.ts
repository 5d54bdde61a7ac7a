/**
 * The alerts that wait for one way: in order, one at a time, each until it has arrived or is told
 * of as failed or dropped.
 *
 *   event ─► take (recorded with the event) ─► deliver ─► arrived, refused ─► forget
 *                        │                        └─ failed ─► a wait, then again, for a day
 *                        └─ too many wait: the oldest of the least severe is dropped
 *
 * Order: an alert is in state.db before it is sent and leaves it after that, so that a crash in
 * between sends it twice at the worst (`id` tells). state.db is memory: where it does not take
 * something, what is in here is sent all the same, and only a crash would forget it.
 *
 * Ages and waits are measured by the monotonic clock, so that the clock on the wall may be set; it
 * only says how old an alert of an earlier run is, which is tried once in any case.
 */
import { assert } from "../../base/assert.ts";
import { ALERTS_WAITING_MAX } from "../../base/limits.ts";
import type { Log } from "../../base/log.ts";
import type { Alarms } from "../state/alarms.ts";
import type { StateChange, StoredAlert, StoredEvent } from "../state/state.ts";
import type { StateStore } from "../state/state-store.ts";
import {
  type AlertWay,
  alertOf,
  type Delivery,
  isAtLeast,
  SEVERITIES,
  type Teller,
} from "./alert.ts";
import { backOffMs, DAY_MS, victimOf } from "./verdict.ts";

export interface AlertCounts {
  readonly via: string;
  readonly sent: number;
  readonly failed: number;
  readonly dropped: number;
  readonly pending: number;
}

/** A way on which nothing has moved for a while. */
export interface StuckAlerts {
  readonly via: string;
  readonly target: string;
  readonly waiting: number;
  /** How long the first of them has waited. */
  readonly seconds: number;
  /** What came of the last try; null: it has not answered yet. */
  readonly why: string | null;
}

/** An alert that has waited for so long is worth telling of. */
export const STUCK_MS = 120_000;

export interface AlertQueueParts {
  readonly way: AlertWay;
  readonly store: StateStore;
  readonly alarms: Alarms;
  readonly log: Log;
  readonly teller: Teller;
  /** In [0, 1). */
  readonly chance: () => number;
}

interface Waiting {
  readonly stored: StoredAlert;
  /** On the monotonic clock. */
  readonly bornMs: number;
}

export class AlertQueue {
  readonly way: AlertWay;
  private readonly parts: AlertQueueParts;
  /** Oldest first. */
  private waiting: Waiting[] = [];
  private sent = 0;
  private failed = 0;
  private dropped = 0;
  private failuresInARow = 0;
  private lastFailure: string | null = null;
  private phase: "before" | "running" | "stopped" = "before";
  /** The first is on its way. */
  private isSending = false;
  /** Null: nothing is waited for. */
  private stopTimer: (() => void) | null = null;
  /** From the first alert that is dropped until there is room again. */
  private isOverflowing = false;
  private isOverflowUntold = false;
  private whenIdle: () => void = () => {};

  constructor(parts: AlertQueueParts) {
    this.parts = parts;
    this.way = parts.way;
    const { store, alarms } = parts;
    const wallMs = alarms.wallMs();
    for (const stored of store.state.alerts.values()) {
      if (stored.way !== this.way.key) continue;
      const ageMs = Math.min(DAY_MS, Math.max(0, wallMs - stored.queuedMs));
      this.waiting.push({ stored, bornMs: alarms.nowMs() - ageMs });
      this.failuresInARow = Math.max(this.failuresInARow, stored.failures);
    }
    this.waiting.sort((one, other) => one.stored.event.id - other.stored.event.id);
  }

  get counts(): AlertCounts {
    const { sent, failed, dropped } = this;
    return { via: this.way.via, sent, failed, dropped, pending: this.waiting.length };
  }

  /** Null: nothing waits, or not for long. */
  get stuck(): StuckAlerts | null {
    const [first] = this.waiting;
    if (first === undefined) return null;
    const { via, target } = this.way;
    const waitedMs = this.parts.alarms.nowMs() - first.bornMs;
    if (waitedMs < STUCK_MS) return null;
    const seconds = Math.floor(waitedMs / 1_000);
    return { via, target, waiting: this.waiting.length, seconds, why: this.lastFailure };
  }

  get isBusy(): boolean {
    return this.isSending;
  }

  /** What an event means here, to be recorded together with it. */
  take(event: StoredEvent): StateChange[] {
    if (!isAtLeast(event.severity, this.way.least)) return [];
    const { alarms } = this.parts;
    const queuedMs = alarms.wallMs();
    const stored = { way: this.way.key, event, queuedMs, failures: 0, notBeforeMs: 0 };
    this.waiting.push({ stored, bornMs: alarms.nowMs() });
    const victim = this.waiting.length > ALERTS_WAITING_MAX ? this.drop() : null;
    if (victim === null) return [{ kind: "put-alert", alert: stored }];
    if (victim === stored) return [];
    return [
      { kind: "delete-alert", way: victim.way, eventId: victim.event.id },
      { kind: "put-alert", alert: stored },
    ];
  }

  /** Whether alerts began to be dropped since this was asked last. */
  takeOverflow(): boolean {
    const wasUntold = this.isOverflowUntold;
    this.isOverflowUntold = false;
    return wasUntold;
  }

  begin(): void {
    assert(this.phase === "before", "a queue begins once");
    this.phase = "running";
    const notBeforeMs = this.waiting[0]?.stored.notBeforeMs ?? 0;
    const waitMs = Math.min(DAY_MS, notBeforeMs - this.parts.alarms.wallMs());
    if (waitMs > 0) this.rest(waitMs);
    else this.kick();
  }

  /** Sends no more. Ends when what is under way has, or at once by the way's `abort`. */
  async stop(): Promise<void> {
    const isIdle = new Promise<void>((resolve) => {
      this.whenIdle = resolve;
    });
    this.phase = "stopped";
    this.stopTimer?.();
    if (this.isSending) await isIdle;
  }

  /** Sends the first that waits, unless one is on its way or its time has not come. */
  kick(): void {
    if (this.phase !== "running" || this.isSending || this.stopTimer !== null) return;
    const first = this.waiting[0];
    if (first !== undefined) void this.send(first);
  }

  private async send(first: Waiting): Promise<void> {
    const { teller } = this.parts;
    this.isSending = true;
    const delivery = await this.way.deliver(alertOf(first.stored.event, teller));
    assert(this.waiting[0] === first, "what is on its way keeps its place");
    this.isSending = false;
    this.settle(first, delivery);
    this.whenIdle();
    this.kick();
  }

  private settle(first: Waiting, delivery: Delivery): void {
    const { event } = first.stored;
    switch (delivery.kind) {
      case "arrived":
        this.sent += 1;
        if (this.failuresInARow > 0) this.tell("info", "alerts arrive again");
        this.failuresInARow = 0;
        this.lastFailure = null;
        this.forgetFirst();
        return;
      case "refused":
        this.failed += 1;
        this.failuresInARow = 0;
        this.tell("error", "an alert has failed, and is not sent again", {
          ...{ kind: event.kind, id: event.id, why: delivery.detail },
        });
        this.forgetFirst();
        return;
      case "failed":
        // The daemon stops: the next run goes on.
        if (this.phase !== "stopped") this.failedFor(first, delivery);
    }
  }

  private failedFor({ stored, bornMs }: Waiting, delivery: Delivery & { kind: "failed" }): void {
    const { alarms, chance } = this.parts;
    this.failuresInARow += 1;
    const failures = this.failuresInARow;
    const waitMs = Math.max(backOffMs(failures, chance()), delivery.retryAfterMs ?? 0);
    const why = delivery.detail;
    this.lastFailure = why;
    if (alarms.nowMs() - bornMs >= DAY_MS) {
      this.failed += 1;
      const { kind, id } = stored.event;
      this.tell("error", "an alert has failed for a day, and is not sent again", { kind, id, why });
      this.forgetFirst();
    } else {
      const notBeforeMs = Math.round(alarms.wallMs() + waitMs);
      const alert = { ...stored, failures, notBeforeMs };
      this.waiting[0] = { stored: alert, bornMs };
      this.parts.store.note({ kind: "put-alert", alert });
    }
    this.rest(waitMs);
    if ((failures & (failures - 1)) !== 0) return;
    const seconds = Math.ceil(waitMs / 1_000);
    this.tell("warn", "alerts do not arrive", { why, failures, againInSeconds: seconds });
  }

  private rest(waitMs: number): void {
    this.stopTimer?.();
    this.stopTimer = this.parts.alarms.after(waitMs, () => {
      this.stopTimer = null;
      this.kick();
    });
  }

  private forgetFirst(): void {
    const { stored } = this.waiting.shift()!;
    this.parts.store.note({ kind: "delete-alert", way: stored.way, eventId: stored.event.id });
    if (!this.isOverflowing || this.waiting.length > ALERTS_WAITING_MAX / 2) return;
    this.isOverflowing = false;
    this.tell("warn", "alerts are not dropped any more", { dropped: this.dropped });
  }

  /** Makes room for one, which may be the last that came itself. */
  private drop(): StoredAlert {
    const ranks = this.waiting.map(({ stored }) => SEVERITIES.indexOf(stored.event.severity));
    const [victim] = this.waiting.splice(victimOf(ranks, this.isSending ? 1 : 0), 1);
    assert(victim !== undefined, "a queue that is too long has one to drop");
    this.dropped += 1;
    if (!this.isOverflowing) {
      this.isOverflowing = true;
      this.isOverflowUntold = true;
      this.tell("error", "alerts are dropped: too many wait", { waiting: ALERTS_WAITING_MAX });
    }
    return victim.stored;
  }

  private tell(
    level: "info" | "warn" | "error",
    message: string,
    fields: Readonly<Record<string, string | number>> = {},
  ): void {
    const { via, target } = this.way;
    this.parts.log.write(level, message, { via, target, ...fields });
  }
}
