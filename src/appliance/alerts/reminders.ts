/**
 * An array that is degraded is told of again each day until it is not: who has missed one message
 * gets another. So it is with one that has failed, is broken, or became read-only by the loss of a
 * member.
 *
 * A repeat is the event of that state again (`array.degraded`, critical), whose message begins
 * "still degraded since ...". The day runs by the monotonic clock from when it was told of last; over
 * a restart by the clock on the wall, which may say anything: then at most a day more is waited,
 * and one is never told of twice. When it was told of last stands in its row of the state.
 *
 * An array that does not run (stopped, absent, fenced) is neither in trouble nor out of it.
 */
import type { ArrayStatus } from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { isoTime } from "../../base/time.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { Alarms } from "../state/alarms.ts";
import type { EventLog } from "../state/event-log.ts";
import { type ArrayTrouble, TROUBLE_STATES } from "../state/state.ts";
import type { StateStore } from "../state/state-store.ts";
import { DAY_MS } from "./verdict.ts";

/** What happens to an array is looked at once for all events of so long. */
const LOOK_SOON_MS = 200;

type Standing = ArrayTrouble["state"] | "whole" | "not running";

/** A read-only start of an array that is whole is somebody's wish, and no trouble. */
export function standingOf({ state, degraded }: ArrayStatus): Standing {
  if (state === "clean" || state === "active") return "whole";
  if (state === "read-only" && degraded === 0) return "whole";
  return TROUBLE_STATES.find((trouble) => trouble === state) ?? "not running";
}

export interface ReminderParts {
  readonly client: ReactorClient;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly alarms: Alarms;
  readonly log: Log;
}

export class Reminders {
  private readonly parts: ReminderParts;
  /** By array: when it is told of again, on the monotonic clock. */
  private readonly dueMs = new Map<string, number>();
  /** By array: ends the wait for the next look. */
  private readonly timers = new Map<string, () => void>();
  private readonly toLookAt = new Set<string>();
  private isStopped = false;

  constructor(parts: ReminderParts) {
    this.parts = parts;
    const { store, events, alarms } = parts;
    for (const { uuid, trouble } of store.state.arrays.values()) {
      if (trouble === undefined) continue;
      const leftMs = trouble.toldMs + DAY_MS - alarms.wallMs();
      this.dueMs.set(uuid, alarms.nowMs() + Math.min(DAY_MS, Math.max(0, leftMs)));
    }
    events.subscribe(({ arrayUuid }) => this.lookSoon(arrayUuid));
  }

  stop(): void {
    this.isStopped = true;
    for (const stopTimer of this.timers.values()) stopTimer();
  }

  private lookSoon(uuid: string | null): void {
    if (uuid === null || this.isStopped) return;
    if (this.toLookAt.size === 0)
      this.parts.alarms.after(LOOK_SOON_MS, () => void this.lookAtAll());
    this.toLookAt.add(uuid);
  }

  private async lookAtAll(): Promise<void> {
    const uuids = [...this.toLookAt];
    this.toLookAt.clear();
    for (const uuid of uuids) await this.look(uuid);
  }

  private async look(uuid: string): Promise<void> {
    const { client, store, alarms } = this.parts;
    if (this.isStopped) return;
    const status = await client.call({ kind: "get-array", array: uuid });
    const known = store.state.arrays.get(uuid);
    if (this.isStopped || !status.ok || known === undefined) return;
    const state = standingOf(status.value);
    if (state === "not running") return;
    if (state === "whole") {
      if (known.trouble !== undefined) this.forget(uuid);
    } else if (known.trouble?.state !== state) {
      // Its own event has told of that.
      this.remember(uuid, { state, sinceMs: alarms.wallMs(), toldMs: alarms.wallMs() });
    } else if (alarms.nowMs() >= (this.dueMs.get(uuid) ?? 0)) {
      this.repeat(status.value, known.trouble);
    } else this.lookWhenDue(uuid);
  }

  private repeat(status: ArrayStatus, trouble: ArrayTrouble): void {
    const { events, alarms } = this.parts;
    // Order: that it was told is remembered first; a crash in between costs one repeat, no storm.
    this.remember(status.uuid, { ...trouble, toldMs: alarms.wallMs() });
    events.append({
      ...{ kind: `array.${trouble.state}`, severity: "critical" },
      ...{ array: status.name, arrayUuid: status.uuid, drive: null, job: null },
      ...{ atMs: alarms.wallMs(), message: repeatText(status, trouble) },
    });
  }

  private remember(uuid: string, trouble: ArrayTrouble): void {
    const { store, alarms } = this.parts;
    const array = { ...store.state.arrays.get(uuid)!, trouble };
    store.note({ kind: "put-array", array });
    this.dueMs.set(uuid, alarms.nowMs() + DAY_MS);
    this.lookWhenDue(uuid);
  }

  private forget(uuid: string): void {
    const { store } = this.parts;
    const { trouble: _over, ...array } = store.state.arrays.get(uuid)!;
    store.note({ kind: "put-array", array });
    this.timers.get(uuid)?.();
    this.timers.delete(uuid);
    this.dueMs.delete(uuid);
  }

  private lookWhenDue(uuid: string): void {
    const { alarms } = this.parts;
    this.timers.get(uuid)?.();
    const waitMs = Math.max(0, (this.dueMs.get(uuid) ?? 0) - alarms.nowMs());
    this.timers.set(
      uuid,
      alarms.after(waitMs, () => void this.look(uuid)),
    );
  }
}

function repeatText({ degraded, members, sync, reason }: ArrayStatus, trouble: ArrayTrouble) {
  const since = `still ${trouble.state} since ${isoTime(trouble.sinceMs)}`;
  const share = Math.floor((100 * sync.doneBytes) / Math.max(1, sync.totalBytes));
  const work = sync.action === "rebuild" ? `, a rebuild is at ${share} %` : "";
  const missing = `${degraded} of ${members.length} members missing or rebuilding${work}`;
  return `${since}: ${reason === null ? "" : `${reason}; `}${missing}`;
}
