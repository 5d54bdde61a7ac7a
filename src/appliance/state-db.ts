/**
 * state.db: what the appliance remembers between runs. What an array *is* stands in the
 * superblocks of its members alone, never here.
 *
 *   drives           name, path, direct           opened again at start
 *   exports          name, array, read_only       offered again when the array is there
 *   array_settings   array uuid -> deadlines and speeds that were patched
 *   jobs             id -> the job's last known status, as JSON
 *   events           id (AUTOINCREMENT: never reused), the event's fields
 *   idempotency      key -> fingerprint of the request, and the answer it got
 *   counters         last_job_id: survives the pruning of old jobs
 *
 * WAL with synchronous=FULL: what was answered "done" is there after a power cut.
 */
import { Database } from "bun:sqlite";
import type { ArrayEvent, JobStatus } from "../array/protocol.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { ConsistencyPolicy } from "../md/create.ts";

const SCHEMA_VERSION = 1;
const KEPT_EVENTS = 100_000;
const KEPT_JOBS = 1_000;
const IDEMPOTENCY_KEPT_MS = 24 * 3_600_000;

export interface StoredDrive {
  readonly name: string;
  readonly path: string;
  readonly direct: boolean;
}

export interface StoredExport {
  readonly name: string;
  readonly array: string;
  readonly readOnly: boolean;
}

export interface StoredEvent extends ArrayEvent {
  readonly id: number;
}

export interface ArraySettings {
  readonly syncSpeedMin?: number;
  readonly syncSpeedMax?: number;
  readonly readDeadlineMs?: number;
  readonly writeDeadlineMs?: number;
}

/** What a PATCH may change: settings that are remembered here, and what the superblocks say. */
export interface ArrayPatch extends ArraySettings {
  readonly consistencyPolicy?: ConsistencyPolicy;
}

/** The answer that a POST with an Idempotency-Key got. */
export interface StoredAnswer {
  readonly fingerprint: string;
  readonly status: number;
  readonly location: string | null;
  readonly contentType: string | null;
  readonly body: string;
}

const SCHEMA = `
  CREATE TABLE drives (name TEXT PRIMARY KEY, path TEXT NOT NULL UNIQUE, direct INTEGER NOT NULL);
  CREATE TABLE exports (name TEXT PRIMARY KEY, array TEXT NOT NULL, read_only INTEGER NOT NULL);
  CREATE TABLE array_settings (uuid TEXT PRIMARY KEY, settings TEXT NOT NULL);
  CREATE TABLE jobs (id INTEGER PRIMARY KEY, status TEXT NOT NULL);
  CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
    severity TEXT NOT NULL, array TEXT NOT NULL, drive TEXT, job INTEGER, at_ms INTEGER NOT NULL,
    message TEXT NOT NULL);
  CREATE TABLE idempotency (key TEXT PRIMARY KEY, answer TEXT NOT NULL, at_ms INTEGER NOT NULL);
  CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** Opens or creates the database; the error is a sentence. */
export function openStateDb(path: string): Result<StateDb, string> {
  try {
    const database = new Database(path, { create: true, strict: true });
    database.run("PRAGMA journal_mode = WAL");
    database.run("PRAGMA synchronous = FULL");
    database.run("PRAGMA busy_timeout = 2000");
    const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get();
    const found = version?.user_version ?? 0;
    if (found === 0) database.transaction(() => database.run(SCHEMA))();
    else if (found !== SCHEMA_VERSION) {
      database.close();
      return err(
        `${path} has schema version ${found}, this parityd knows ${SCHEMA_VERSION}: ` +
          "start the version that wrote it, or move the file away",
      );
    }
    return ok(new StateDb(database));
  } catch (error) {
    return err(`cannot open ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

export class StateDb {
  private readonly database: Database;
  private eventsSincePrune = 0;

  constructor(database: Database) {
    this.database = database;
  }

  close(): void {
    this.database.close();
  }

  // Drives --------------------------------------------------------------------------------------

  listDrives(): StoredDrive[] {
    return this.database
      .query<{ name: string; path: string; direct: number }, []>(
        "SELECT name, path, direct FROM drives ORDER BY name",
      )
      .all()
      .map((row) => ({ name: row.name, path: row.path, direct: row.direct === 1 }));
  }

  putDrive(drive: StoredDrive): void {
    this.database
      .query(
        "INSERT INTO drives (name, path, direct) VALUES (?1, ?2, ?3) " +
          "ON CONFLICT (name) DO UPDATE SET path = ?2, direct = ?3",
      )
      .run(drive.name, drive.path, drive.direct ? 1 : 0);
  }

  deleteDrive(name: string): void {
    this.database.query("DELETE FROM drives WHERE name = ?").run(name);
  }

  // Exports -------------------------------------------------------------------------------------

  listExports(): StoredExport[] {
    return this.database
      .query<{ name: string; array: string; read_only: number }, []>(
        "SELECT name, array, read_only FROM exports ORDER BY name",
      )
      .all()
      .map((row) => ({ name: row.name, array: row.array, readOnly: row.read_only === 1 }));
  }

  putExport(entry: StoredExport): void {
    this.database
      .query("INSERT OR REPLACE INTO exports (name, array, read_only) VALUES (?, ?, ?)")
      .run(entry.name, entry.array, entry.readOnly ? 1 : 0);
  }

  deleteExport(name: string): void {
    this.database.query("DELETE FROM exports WHERE name = ?").run(name);
  }

  // Settings of arrays --------------------------------------------------------------------------

  arraySettings(uuid: string): ArraySettings {
    const row = this.database
      .query<{ settings: string }, [string]>("SELECT settings FROM array_settings WHERE uuid = ?")
      .get(uuid);
    return row === null ? {} : (JSON.parse(row.settings) as ArraySettings);
  }

  putArraySettings(uuid: string, settings: ArraySettings): void {
    const merged = { ...this.arraySettings(uuid), ...settings };
    this.database
      .query("INSERT OR REPLACE INTO array_settings (uuid, settings) VALUES (?, ?)")
      .run(uuid, JSON.stringify(merged));
  }

  deleteArraySettings(uuid: string): void {
    this.database.query("DELETE FROM array_settings WHERE uuid = ?").run(uuid);
  }

  // Jobs ----------------------------------------------------------------------------------------

  putJob(job: JobStatus): void {
    this.database.transaction(() => {
      this.database
        .query("INSERT OR REPLACE INTO jobs (id, status) VALUES (?, ?)")
        .run(job.id, JSON.stringify(job));
      this.database
        .query(
          "INSERT INTO counters (name, value) VALUES ('last_job_id', ?1) " +
            "ON CONFLICT (name) DO UPDATE SET value = max(value, ?1)",
        )
        .run(job.id);
      this.database.query("DELETE FROM jobs WHERE id <= ?").run(job.id - KEPT_JOBS);
    })();
  }

  getJob(id: number): JobStatus | null {
    const row = this.database
      .query<{ status: string }, [number]>("SELECT status FROM jobs WHERE id = ?")
      .get(id);
    return row === null ? null : (JSON.parse(row.status) as JobStatus);
  }

  /** Oldest first. */
  listJobs(): JobStatus[] {
    return this.database
      .query<{ status: string }, []>("SELECT status FROM jobs ORDER BY id")
      .all()
      .map((row) => JSON.parse(row.status) as JobStatus);
  }

  /** The first id that no job ever had. */
  nextJobId(): number {
    const row = this.database
      .query<{ value: number }, []>("SELECT value FROM counters WHERE name = 'last_job_id'")
      .get();
    return (row?.value ?? 0) + 1;
  }

  // Events --------------------------------------------------------------------------------------

  addEvent(event: ArrayEvent): StoredEvent {
    const { lastInsertRowid } = this.database
      .query(
        "INSERT INTO events (kind, severity, array, drive, job, at_ms, message) " +
          "VALUES (?, ?, ?, ?, ?, ?, ?)",
      )
      .run(
        event.kind,
        event.severity,
        event.array,
        event.drive,
        event.job,
        Math.round(event.atMs),
        event.message,
      );
    const id = Number(lastInsertRowid);
    this.eventsSincePrune += 1;
    if (this.eventsSincePrune >= 1_000) {
      this.eventsSincePrune = 0;
      this.database.query("DELETE FROM events WHERE id <= ?").run(id - KEPT_EVENTS);
    }
    return { ...event, id };
  }

  /** Events with an id above `sinceId`, oldest first. */
  eventsSince(sinceId: number, limit: number): StoredEvent[] {
    return this.database
      .query<StoredEvent, [number, number]>(
        "SELECT id, kind, severity, array, drive, job, at_ms AS atMs, message FROM events " +
          "WHERE id > ? ORDER BY id LIMIT ?",
      )
      .all(sinceId, limit);
  }

  /** The id of the newest event ever stored; 0 before the first. */
  lastEventId(): number {
    const row = this.database
      .query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
      .get();
    return row?.seq ?? 0;
  }

  // Idempotency keys ----------------------------------------------------------------------------

  getAnswer(key: string): StoredAnswer | null {
    const row = this.database
      .query<{ answer: string }, [string]>("SELECT answer FROM idempotency WHERE key = ?")
      .get(key);
    return row === null ? null : (JSON.parse(row.answer) as StoredAnswer);
  }

  /** Keeps the answer for a day; older ones go. */
  putAnswer({ key, answer, nowMs }: { key: string; answer: StoredAnswer; nowMs: number }): void {
    this.database.transaction(() => {
      this.database
        .query("DELETE FROM idempotency WHERE at_ms < ?")
        .run(Math.round(nowMs) - IDEMPOTENCY_KEPT_MS);
      this.database
        .query("INSERT OR REPLACE INTO idempotency (key, answer, at_ms) VALUES (?, ?, ?)")
        .run(key, JSON.stringify(answer), Math.round(nowMs));
    })();
  }
}
