/**
 * The state of the appliance: in memory, and in state.db as far as that can be written.
 *
 * Nothing that runs reads the file, and nothing waits for it that need not:
 *
 * | a change is | memory                    | file                                               |
 * |-------------|---------------------------|----------------------------------------------------|
 * | committed   | when it is durable        | at once; what the file does not take changes       |
 * |             |                           | nothing, and the caller is told (507)              |
 * | noted       | at once                   | at once, or later, in order, when it takes it      |
 *
 * A call that changes what the appliance is to remember commits. Events and jobs tell of what has
 * happened whether or not it can be written down: they are noted.
 */
import type { CommandError, JobStatus } from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type Alarms, sleep } from "./alarms.ts";
import type { State, StateChange, StoredEvent } from "./state.ts";
import type { LoadedState, StateFile } from "./state-file.ts";
import type { StateFileError } from "./state-rows.ts";

/** A lock of somebody else is waited for. */
const BUSY_WAIT_MS = 5_000;
const BUSY_POLL_MS = 50;
const RETRY_MS = 2_000;
/** Changes that wait for the file at most; of events and alerts the older half is dropped then. */
const WAITING_MAX = 20_000;
/** Ids are reserved in steps of so many: after a crash some are left out, none comes again. */
const RESERVED_IDS = 1_000;

export interface RecordingHealth {
  /** Null: everything is in the file. */
  readonly reason: string | null;
  /** Changes that wait for the file. */
  readonly waiting: number;
  /** What was wrong with the file when it was read. */
  readonly problems: readonly string[];
}

export class StateStore {
  readonly state: State;
  private readonly file: StateFile;
  private readonly alarms: Alarms;
  private readonly log: Log;
  private readonly problems: readonly string[];
  private waiting: StateChange[] = [];
  private failure: string | null;
  private droppedEvents = 0;
  private retryIsDue = false;
  private reservedEventId: number;
  private reservedJobId: number;
  private isClosed = false;

  constructor(options: { loaded: LoadedState; file: StateFile; alarms: Alarms; log: Log }) {
    const { loaded } = options;
    this.state = loaded.state;
    this.file = options.file;
    this.alarms = options.alarms;
    this.log = options.log;
    this.problems = loaded.problems;
    this.failure = loaded.readOnlyReason;
    for (const problem of loaded.problems) this.log.write("error", "state.db", { problem });
    if (this.failure !== null) {
      this.log.write("error", "state.db is not written", { cause: this.failure });
    }
    this.reservedEventId = this.state.lastEventId;
    this.reservedJobId = this.state.lastJobId;
    this.reserveIds();
  }

  get health(): RecordingHealth {
    const { failure, waiting, problems } = this;
    return { reason: failure, waiting: waiting.length, problems };
  }

  /** Makes the changes together, durably; where that cannot be, none of them. */
  async commit(...changes: readonly StateChange[]): Promise<Result<null, CommandError>> {
    const limitMs = this.alarms.nowMs() + BUSY_WAIT_MS;
    const isObligation = changes.some(({ kind }) => kind.startsWith("put-"));
    for (;;) {
      const room = isObligation ? this.file.hasRoom() : ok(null);
      const written = room.ok ? this.write(changes) : room;
      if (written.ok) {
        for (const change of changes) this.state.apply(change);
        return ok(null);
      }
      if (written.error.kind !== "busy" || this.alarms.nowMs() >= limitMs) {
        this.scheduleRetry();
        return err(notRecorded(written.error));
      }
      // Polls: SQLite tells nobody that another process has let go of its lock.
      await sleep(this.alarms, BUSY_POLL_MS);
    }
  }

  /** Whether a commit of these would be taken, as far as that can be known without a write. */
  foretell(...changes: readonly StateChange[]): Result<null, CommandError> {
    const isObligation = changes.some(({ kind }) => kind.startsWith("put-"));
    const room = isObligation ? this.file.hasRoom() : ok(null);
    if (!room.ok) return err(notRecorded(room.error));
    if (this.failure === null || changes.length === 0) return ok(null);
    return err(notRecorded({ detail: this.failure }));
  }

  /** Makes the changes in memory now, and in the file when it takes them. */
  note(...changes: readonly StateChange[]): void {
    for (const change of changes) this.state.apply(change);
    this.waiting.push(...changes);
    if (this.failure === null) this.flush();
    else this.waitOn();
  }

  /** The id of the next event. */
  takeEventId(): number {
    const id = this.state.lastEventId + 1;
    this.state.lastEventId = id;
    if (id > this.reservedEventId) this.reserveIds();
    return id;
  }

  putJob(job: JobStatus): void {
    this.note({ kind: "put-job", job });
    if (job.id > this.reservedJobId) this.reserveIds();
  }

  /** The first id that no job ever had. */
  get firstJobId(): number {
    return this.state.lastJobId + 1;
  }

  /** Events with an id above `sinceId`, oldest first. */
  eventsSince(sinceId: number, limit: number): StoredEvent[] {
    const { events } = this.state;
    const oldest = events[0]?.id ?? this.state.lastEventId + 1;
    const older =
      sinceId + 1 < oldest ? this.file.eventsBetween({ sinceId, beforeId: oldest, limit }) : [];
    if (older.length >= limit) return older;
    // Ids ascend: search from the end, since that is where who listens reads.
    let first = events.length;
    while (first > 0 && events[first - 1]!.id > sinceId) first -= 1;
    return [...older, ...events.slice(first, first + limit - older.length)];
  }

  /** Writes what waits, if it can be, and lets go of the file. */
  close(): void {
    this.isClosed = true;
    const { lastEventId } = this.state;
    // Ids that were reserved and not given are free again.
    this.waiting.push({ kind: "reserve-ids", lastEventId, lastJobId: this.state.lastJobId });
    this.flush();
    this.file.close();
  }

  private reserveIds(): void {
    this.reservedEventId = this.state.lastEventId + RESERVED_IDS;
    this.reservedJobId = this.state.lastJobId + RESERVED_IDS;
    const { reservedEventId: lastEventId, reservedJobId: lastJobId } = this;
    // In memory nothing changes: these are for who reads the file after a crash.
    this.waiting.push({ kind: "reserve-ids", lastEventId, lastJobId });
    this.flush();
  }

  private flush(): void {
    if (this.waiting.length === 0) return;
    if (!this.write([]).ok) this.waitOn();
  }

  private waitOn(): void {
    this.limitWaiting();
    this.scheduleRetry();
  }

  /** What waits, then `changes`, in one transaction. */
  private write(changes: readonly StateChange[]): Result<null, StateFileError> {
    const all = [...this.waiting, ...changes];
    let written = this.file.write(all);
    if (!written.ok && (written.error.kind === "damaged" || written.error.kind === "gone")) {
      this.log.write("error", "state.db is made anew", { cause: written.error.detail });
      // What waits is in memory already.
      written = this.file.remake([...this.state.asChanges(), ...changes]);
    }
    if (written.ok) this.waiting = [];
    this.tell(written);
    return written;
  }

  private tell(written: Result<null, StateFileError>): void {
    const before = this.failure;
    this.failure = written.ok ? null : written.error.detail;
    if (written.ok && before !== null) {
      const { droppedEvents } = this;
      this.droppedEvents = 0;
      this.log.write("warn", "state.db is written again", { droppedEvents });
    }
    // A lock that passes is nothing to report.
    if (written.ok || written.error.kind === "busy" || before !== null) return;
    this.log.write("error", "state.db is not written", { cause: written.error.detail });
  }

  private limitWaiting(): void {
    const { length } = this.waiting;
    if (length <= WAITING_MAX) return;
    const kept = this.waiting.filter((change, index) => !isOfEvent(change) || index >= length / 2);
    this.droppedEvents += length - kept.length;
    this.waiting = kept;
  }

  private scheduleRetry(): void {
    if (this.retryIsDue || this.isClosed) return;
    this.retryIsDue = true;
    const delayMs = this.failure === null ? BUSY_POLL_MS : RETRY_MS;
    this.alarms.after(delayMs, () => {
      this.retryIsDue = false;
      if (!this.isClosed) this.flush();
    });
  }
}

/**
 * What happened, or is to be told: in memory that goes on. An alert whose end the file was not told
 * of is sent once more after a restart.
 */
function isOfEvent({ kind }: StateChange): boolean {
  return kind === "add-event" || kind === "put-alert" || kind === "delete-alert";
}

function notRecorded({ detail }: Pick<StateFileError, "detail">): CommandError {
  return {
    kind: "unrecorded",
    code: "not-recorded",
    detail:
      `state.db does not take it (${detail}), and nothing was changed: make room in the state ` +
      "directory, or give it back to parityd, and try again",
  };
}
