/**
 * The rows of state.db: its schema, how rows become changes and changes rows.
 *
 *   drives, arrays, exports, spares,         key, facts (JSON, checked when it is read)
 *   smart, schedules, jobs, answers, alerts
 *   events                                   id, kind, severity, array, array_uuid, drive, job, ...
 *   counters                                 last_event_id, last_job_id: reserved, never reused
 */
import type { Database } from "bun:sqlite";
import type { EventKind, JobStatus } from "../../array/protocol.ts";
import { unreachable } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import {
  alertKey,
  EVENTS_IN_MEMORY,
  KEPT_EVENTS,
  KEPT_JOBS,
  ROW_SCHEMAS,
  State,
  type StateChange,
  type StoredEvent,
} from "./state.ts";

/**
 * A table more is no new version: where it is absent it is made (`SCHEMA`), and a version of parityd
 * that does not know it leaves it alone.
 */
export const SCHEMA_VERSION = 2;
const TABLES = [
  ...(["drives", "arrays", "exports", "spares", "smart", "schedules"] as const),
  ...(["jobs", "answers", "alerts"] as const),
] as const;
type Table = (typeof TABLES)[number];
const KEY_COLUMN: Readonly<Record<Table, string>> = {
  drives: "name",
  arrays: "uuid",
  exports: "name",
  spares: "drive",
  smart: "drive",
  schedules: "uuid",
  jobs: "id",
  answers: "key",
  alerts: "key",
};

export const SCHEMA = `
  CREATE TABLE IF NOT EXISTS drives (name TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS arrays (uuid TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS exports (name TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS spares (drive TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS smart (drive TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS schedules (uuid TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, facts TEXT NOT NULL,
    at_ms INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS alerts (key TEXT PRIMARY KEY, facts TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,
    severity TEXT NOT NULL, array TEXT NOT NULL, array_uuid TEXT, drive TEXT, job INTEGER,
    at_ms INTEGER NOT NULL, message TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
`;

/** Version 1 went by names: an export is bound to its array when that is seen. */
export const FROM_VERSION_1 = `
  ALTER TABLE drives RENAME TO drives_1;
  ALTER TABLE exports RENAME TO exports_1;
  ALTER TABLE jobs RENAME TO jobs_1;
  ALTER TABLE events RENAME TO events_1;
  ${SCHEMA}
  INSERT INTO drives SELECT name, json_object('name', name, 'path', path,
    'direct', json(iif(direct, 'true', 'false'))) FROM drives_1;
  INSERT INTO exports SELECT name, json_object('name', name, 'arrayUuid', NULL, 'array', array,
    'readOnly', json(iif(read_only, 'true', 'false'))) FROM exports_1;
  INSERT INTO arrays SELECT uuid, json_object('uuid', uuid, 'label', NULL, 'standing', 'known',
    'settings', json(settings)) FROM array_settings WHERE json_valid(settings);
  INSERT INTO jobs SELECT id, status FROM jobs_1;
  INSERT INTO events SELECT id, kind, severity, array, NULL, drive, job, at_ms, message
    FROM events_1;
  INSERT OR REPLACE INTO counters SELECT 'last_event_id', coalesce(max(seq), 0)
    FROM sqlite_sequence WHERE name IN ('events', 'events_1');
  DROP TABLE drives_1; DROP TABLE exports_1; DROP TABLE jobs_1; DROP TABLE events_1;
  DROP TABLE array_settings; DROP TABLE idempotency;
`;

export interface StateFileError {
  /** `busy` passes by itself; `damaged` and `gone` are cured by `remake`. */
  readonly kind: "busy" | "refused" | "damaged" | "gone";
  readonly detail: string;
}

export function attempt<T>(work: () => T): Result<T, StateFileError> {
  try {
    return ok(work());
  } catch (error) {
    return err(judge(error));
  }
}

function judge(error: unknown): StateFileError {
  const detail = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return { kind: "busy", detail };
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(code)) return { kind: "damaged", detail };
  return { kind: "refused", detail };
}

// Reading ---------------------------------------------------------------------------------------

/** Table by table, and in a table that is damaged as far as it goes. */
export class Reading {
  readonly state = new State();
  readonly problems: string[] = [];
  isDamaged = false;

  note(what: string, error: StateFileError): void {
    this.problems.push(`${what}: ${error.detail}`);
    if (error.kind === "damaged") this.isDamaged = true;
  }

  readAll(database: Database): void {
    for (const table of TABLES) {
      const read = attempt(() => this.readRows(database, table));
      if (!read.ok) this.note(`the ${table} cannot all be read`, read.error);
    }
    const newest = { sinceId: 0, beforeId: Number.MAX_SAFE_INTEGER, limit: EVENTS_IN_MEMORY };
    const events = attempt(() => readEvents(database, newest, "DESC"));
    if (!events.ok) this.note("the events cannot be read", events.error);
    else for (const event of events.value.reverse()) this.state.apply({ kind: "add-event", event });
    const counters = attempt(() => this.readCounters(database));
    if (!counters.ok) this.note("the counters cannot be read", counters.error);
  }

  private readRows(database: Database, table: Table): void {
    // A copy that cannot be written stays without the tables that are newer than it.
    if (!hasTable(database, table)) return;
    const key = KEY_COLUMN[table];
    const atMs = table === "answers" ? "at_ms" : "0 AS at_ms";
    const rows = database.query<{ key: string; facts: string; at_ms: number }, []>(
      `SELECT ${key} AS key, facts, ${atMs} FROM ${table} ORDER BY ${key}`,
    );
    for (const row of rows.iterate()) {
      const change = changeOf(table, row);
      if (change === null) this.problems.push(`${table}: the row of ${row.key} cannot be used`);
      else this.state.apply(change);
    }
  }

  private readCounters(database: Database): void {
    const rows = database
      .query<{ name: string; value: number }, []>("SELECT name, value FROM counters")
      .all();
    const { state } = this;
    for (const { name, value } of rows) {
      if (name === "last_event_id") state.lastEventId = Math.max(state.lastEventId, value);
      if (name === "last_job_id") state.lastJobId = Math.max(state.lastJobId, value);
    }
  }
}

function hasTable(database: Database, table: Table): boolean {
  const query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?";
  return database.query<{ name: string }, [string]>(query).get(table) !== null;
}

/** The change that a row stands for; null: there is something else in it. */
function changeOf(
  table: Table,
  row: { key: string; facts: string; at_ms: number },
): StateChange | null {
  const parsed = ROW_SCHEMAS[table].safeParse(parseJson(row.facts));
  if (!parsed.success) return null;
  switch (table) {
    case "drives":
      return { kind: "put-drive", drive: ROW_SCHEMAS.drives.parse(parsed.data) };
    case "arrays":
      return { kind: "put-array", array: ROW_SCHEMAS.arrays.parse(parsed.data) };
    case "exports":
      return { kind: "put-export", entry: ROW_SCHEMAS.exports.parse(parsed.data) };
    case "spares":
      return { kind: "put-spare", spare: ROW_SCHEMAS.spares.parse(parsed.data) };
    case "smart":
      return { kind: "put-smart", smart: ROW_SCHEMAS.smart.parse(parsed.data) };
    case "schedules":
      return { kind: "put-schedule", schedule: ROW_SCHEMAS.schedules.parse(parsed.data) };
    case "jobs":
      return { kind: "put-job", job: parsed.data as unknown as JobStatus };
    case "answers": {
      const answer = ROW_SCHEMAS.answers.parse(parsed.data);
      return { kind: "put-answer", key: row.key, answer, atMs: row.at_ms };
    }
    case "alerts": {
      const { event, ...alert } = ROW_SCHEMAS.alerts.parse(parsed.data);
      const kind = event.kind as EventKind;
      return { kind: "put-alert", alert: { ...alert, event: { ...event, kind } } };
    }
    default:
      return unreachable(table);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

export function readEvents(
  database: Database,
  { sinceId, beforeId, limit }: { sinceId: number; beforeId: number; limit: number },
  order: "ASC" | "DESC",
): StoredEvent[] {
  return database
    .query<StoredEvent, [number, number, number]>(
      "SELECT id, kind, severity, array, array_uuid AS arrayUuid, drive, job, at_ms AS atMs, " +
        `message FROM events WHERE id > ? AND id < ? ORDER BY id ${order} LIMIT ?`,
    )
    .all(sinceId, beforeId, limit);
}

// Writing ---------------------------------------------------------------------------------------

export function writeAll(database: Database, changes: Iterable<StateChange>): void {
  // Immediate: a lock of somebody else is met before anything is done.
  database
    .transaction(() => {
      for (const change of changes) writeChange(database, change);
    })
    .immediate();
}

function writeChange(database: Database, change: StateChange): void {
  switch (change.kind) {
    case "put-drive":
      putRow(database, "drives", change.drive.name, change.drive);
      return;
    case "delete-drive":
      database.query("DELETE FROM drives WHERE name = ?").run(change.name);
      database.query("DELETE FROM smart WHERE drive = ?").run(change.name);
      return;
    case "put-array":
      putRow(database, "arrays", change.array.uuid, change.array);
      return;
    case "forget-array":
      database.query("DELETE FROM arrays WHERE uuid = ?").run(change.uuid);
      return;
    case "put-export":
      putRow(database, "exports", change.entry.name, change.entry);
      return;
    case "delete-export":
      database.query("DELETE FROM exports WHERE name = ?").run(change.name);
      return;
    case "put-spare":
      putRow(database, "spares", change.spare.drive, change.spare);
      return;
    case "delete-spare":
      database.query("DELETE FROM spares WHERE drive = ?").run(change.drive);
      return;
    case "put-smart":
      putRow(database, "smart", change.smart.drive, change.smart);
      return;
    case "put-schedule":
      putRow(database, "schedules", change.schedule.arrayUuid, change.schedule);
      return;
    case "delete-schedule":
      database.query("DELETE FROM schedules WHERE uuid = ?").run(change.arrayUuid);
      return;
    case "put-job":
      putRow(database, "jobs", change.job.id, change.job);
      database
        .query(
          "DELETE FROM jobs WHERE id <= (SELECT id FROM jobs ORDER BY id DESC LIMIT 1 OFFSET ?)",
        )
        .run(KEPT_JOBS);
      return;
    case "add-event":
      writeEvent(database, change.event);
      return;
    case "put-alert": {
      const { way, event } = change.alert;
      putRow(database, "alerts", alertKey(way, event.id), change.alert);
      return;
    }
    case "delete-alert": {
      const key = alertKey(change.way, change.eventId);
      database.query("DELETE FROM alerts WHERE key = ?").run(key);
      return;
    }
    case "put-answer": {
      const { key, answer, atMs } = change;
      database
        .query("INSERT OR REPLACE INTO answers (key, facts, at_ms) VALUES (?, ?, ?)")
        .run(key, JSON.stringify(answer), Math.round(atMs));
      database.query("DELETE FROM answers WHERE at_ms < ?").run(Math.round(atMs) - 86_400_000);
      return;
    }
    case "reserve-ids":
      putCounter(database, "last_event_id", change.lastEventId);
      putCounter(database, "last_job_id", change.lastJobId);
      return;
    default:
      unreachable(change);
  }
}

function putRow(database: Database, table: Table, key: string | number, facts: object): void {
  const column = KEY_COLUMN[table];
  database
    .query(`INSERT OR REPLACE INTO ${table} (${column}, facts) VALUES (?, ?)`)
    .run(key, JSON.stringify(facts));
}

function putCounter(database: Database, name: string, value: number): void {
  database.query("INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)").run(name, value);
}

function writeEvent(database: Database, event: StoredEvent): void {
  const { id, kind, severity, array, arrayUuid, drive, job, atMs, message } = event;
  database
    .query("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
    .run(id, kind, severity, array, arrayUuid, drive, job, Math.round(atMs), message);
  if (id % 1_000 === 0) database.query("DELETE FROM events WHERE id <= ?").run(id - KEPT_EVENTS);
}
