/**
 * The event log: stores each event, then tells whoever listens.
 *
 * Order: an event is in state.db before any subscriber hears of it, so that an id once seen can be
 * replayed from (`Last-Event-ID`) also after a crash.
 */
import type { ArrayEvent, Severity } from "../array/protocol.ts";
import type { Log, LogLevel } from "../base/log.ts";
import type { StateDb, StoredEvent } from "./state-db.ts";

const LEVEL: Readonly<Record<Severity, LogLevel>> = {
  critical: "error",
  warning: "warn",
  info: "info",
};

export class EventLog {
  private readonly db: StateDb;
  private readonly log: Log;
  private readonly subscribers = new Set<(event: StoredEvent) => void>();

  constructor({ db, log }: { db: StateDb; log: Log }) {
    this.db = db;
    this.log = log;
  }

  append(event: ArrayEvent): StoredEvent {
    const stored = this.db.addEvent(event);
    const drive = event.drive === null ? {} : { drive: event.drive };
    const job = event.job === null ? {} : { job: event.job };
    this.log.write(LEVEL[event.severity], event.message, {
      event: event.kind,
      array: event.array,
      ...drive,
      ...job,
    });
    for (const subscriber of [...this.subscribers]) subscriber(stored);
    return stored;
  }

  /** Events above `id`, oldest first, at most `limit`. */
  since(id: number, limit: number): StoredEvent[] {
    return this.db.eventsSince(id, limit);
  }

  get lastId(): number {
    return this.db.lastEventId();
  }

  /** Calls `subscriber` for each later event; the answer ends that. */
  subscribe(subscriber: (event: StoredEvent) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }
}
