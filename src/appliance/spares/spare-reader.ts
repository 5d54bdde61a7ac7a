/**
 * Spares are read in a scrub, so that one that is dead is known before it is needed: the array's
 * own, and the shared ones that it could get, from end to end, one drive after the other.
 *
 * It goes on beside the scrub, which neither waits for it nor ends it by being through. It costs
 * the members nothing, and keeps to the speed that a scrub has while clients are at work
 * (`syncSpeedMin`), or to the limit of this scrub. A scrub that is paused or cancelled takes it
 * along; one that goes on lets it go on where it was.
 *
 *   a read fails   its own: it leaves the array (spare.failed, by the reactor), and is `faulty`
 *                  shared:  it is `failed`, durably (spare.failed): no array takes it until somebody
 *                           shares it again
 */
import type { ArrayStatus, JobStatus } from "../../array/protocol.ts";
import type { Log } from "../../base/log.ts";
import { isoTime } from "../../base/time.ts";
import { MIB, ROW_BYTES, roundDown } from "../../base/units.ts";
import type { ReactorClient } from "../reactor-client.ts";
import { type Alarms, sleep } from "../state/alarms.ts";
import type { EventLog } from "../state/event-log.ts";
import type { StateStore } from "../state/state-store.ts";
import type { SpareKeeper } from "./spare-keeper.ts";

/** Asked for at a time: at most so much, and about so many times a second. */
const PART_BYTES_MAX = 16 * MIB;
const PART_BYTES_MIN = MIB / 4;
const PARTS_PER_SECOND = 4;

interface Reading {
  readonly jobId: number;
  readonly array: ArrayStatus;
  readonly bytesPerSecond: number;
  /** Drives that are still to be read. */
  readonly left: string[];
  /** Of the first of these, what has been read. */
  doneBytes: number;
  isRunning: boolean;
}

export interface SpareReaderParts {
  readonly client: ReactorClient;
  readonly store: StateStore;
  readonly events: EventLog;
  readonly keeper: SpareKeeper;
  readonly alarms: Alarms;
  readonly log: Log;
}

export class SpareReader {
  private readonly parts: SpareReaderParts;
  /** By array: of its last scrub. */
  private readonly readings = new Map<string, Reading>();
  private isStopped = false;

  constructor(parts: SpareReaderParts) {
    this.parts = parts;
  }

  stop(): void {
    this.isStopped = true;
  }

  /** A scrub has begun, or goes on. */
  begin(array: ArrayStatus, job: JobStatus, limitBytesPerSecond: number | null): void {
    const before = this.readings.get(array.uuid);
    if (before?.jobId === job.id) {
      if (!before.isRunning) void this.read(before);
      return;
    }
    const usual = Math.max(PART_BYTES_MIN, Math.min(array.syncSpeedMin, array.syncSpeedMax));
    const reading: Reading = {
      jobId: job.id,
      array,
      bytesPerSecond: Math.min(usual, limitBytesPerSecond ?? usual),
      left: [...array.spares, ...this.parts.keeper.usableFor(array.uuid)],
      doneBytes: 0,
      isRunning: false,
    };
    this.readings.set(array.uuid, reading);
    void this.read(reading);
  }

  private async read(reading: Reading): Promise<void> {
    reading.isRunning = true;
    while (reading.left.length > 0 && this.isWanted(reading)) await this.readFirst(reading);
    reading.isRunning = false;
  }

  private isWanted({ jobId, array }: Reading): boolean {
    if (this.isStopped || this.readings.get(array.uuid)?.jobId !== jobId) return false;
    const state = this.parts.store.state.jobs.get(jobId)?.state;
    return state === "running" || state === "done";
  }

  /** Goes on with the first drive that is left, until it is through or the scrub is at rest. */
  private async readFirst(reading: Reading): Promise<void> {
    const { client, alarms } = this.parts;
    const { bytesPerSecond, left } = reading;
    const drive = left[0]!;
    const listed = await client.call({ kind: "list-drives" });
    const status = listed.ok ? listed.value.find(({ name }) => name === drive) : undefined;
    const sizeBytes = status?.sizeBytes ?? 0;
    const aPart = Math.min(PART_BYTES_MAX, bytesPerSecond / PARTS_PER_SECOND);
    const bytes = roundDown(Math.max(PART_BYTES_MIN, aPart), ROW_BYTES);
    while (reading.doneBytes < sizeBytes) {
      if (!this.isWanted(reading)) return;
      const beganMs = alarms.nowMs();
      const offset = reading.doneBytes;
      const answer = await client.call({ kind: "read-drive", drive, offset, bytes });
      // An array has it, or it is no drive here any more.
      if (!answer.ok) break;
      const { failure } = answer.value;
      if (failure !== null) {
        this.failed(drive, failure);
        break;
      }
      reading.doneBytes += bytes;
      const restMs = (bytes / bytesPerSecond) * 1_000 - (alarms.nowMs() - beganMs);
      // Polls: nothing. It keeps to the speed that is allowed.
      if (restMs > 0) await sleep(alarms, restMs);
    }
    if (sizeBytes > 0 && reading.doneBytes >= sizeBytes) this.wasRead(drive);
    left.shift();
    reading.doneBytes = 0;
  }

  private wasRead(drive: string): void {
    const { store, alarms, log } = this.parts;
    const spare = store.state.spares.get(drive);
    log.write("info", "a spare was read from end to end", { drive });
    const readAt = isoTime(alarms.wallMs());
    if (spare !== undefined) store.note({ kind: "put-spare", spare: { ...spare, readAt } });
  }

  /** An array tells of its own spare itself. */
  private failed(drive: string, failure: string): void {
    const { store, events, keeper, alarms } = this.parts;
    const spare = store.state.spares.get(drive);
    if (spare === undefined) return;
    store.note({ kind: "put-spare", spare: { ...spare, failure } });
    events.append({
      ...{ kind: "spare.failed", severity: "warning" },
      ...{ array: "", arrayUuid: null, drive, job: null, atMs: alarms.wallMs() },
      message: `shared spare ${drive} failed: ${failure}`,
    });
    keeper.lookout.soon();
  }
}
