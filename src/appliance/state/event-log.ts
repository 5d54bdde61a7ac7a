/**
 * The event log: gives each event its id, keeps it, then tells whoever listens.
 *
 * An event is in memory before any subscriber hears of it, and in state.db as soon as that takes
 * it, together with the alerts that it leads to. Ids are never given twice, so that one that was
 * seen can be replayed from (`Last-Event-ID`).
 */
import type { ArrayEvent, Severity } from "../../array/protocol.ts";
import type { Log, LogLevel } from "../../base/log.ts";
import type { StateChange, StoredEvent } from "./state.ts";
import type { StateStore } from "./state-store.ts";

const LEVEL: Readonly<Record<Severity, LogLevel>> = {
  critical: "error",
  warning: "warn",
  info: "info",
};

export class EventLog {
  private readonly store: StateStore;
  private readonly log: Log;
  private changesWith: (event: StoredEvent) => readonly StateChange[] = () => [];
  private readonly subscribers = new Set<(event: StoredEvent) => void>();

  constructor({ store, log }: { store: StateStore; log: Log }) {
    this.store = store;
    this.log = log;
  }

  append(event: ArrayEvent): StoredEvent {
    const stored: StoredEvent = { ...event, id: this.store.takeEventId() };
    // Order: an event and what is owed for it are durable together: a crash leaves both or none.
    this.store.note({ kind: "add-event", event: stored }, ...this.changesWith(stored));
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

  /** `changesWith` says what is recorded together with each later event. */
  recordWith(changesWith: (event: StoredEvent) => readonly StateChange[]): void {
    this.changesWith = changesWith;
  }

  /** Events above `id`, oldest first, at most `limit`. */
  since(id: number, limit: number): StoredEvent[] {
    return this.store.eventsSince(id, limit);
  }

  get lastId(): number {
    return this.store.state.lastEventId;
  }

  /** Calls `subscriber` for each later event; the answer ends that. */
  subscribe(subscriber: (event: StoredEvent) => void): () => void {
    this.subscribers.add(subscriber);
    return () => this.subscribers.delete(subscriber);
  }
}
