/**
 * The rows of state.db (migrations.ts has the schema): how rows become changes, and changes rows.
 *
 *   drives, arrays, exports, spares,         key, facts (JSON, checked when it is read)
 *   smart, schedules, jobs, answers, alerts
 *   events                                   id, kind, severity, array, array_uuid, drive, job, ...
 *   counters                                 last_event_id, last_job_id: reserved, never reused
 */
import type { Database } from "bun:sqlite";
import type { EventKind, JobStatus } from "../../array/protocol.ts";
import { unreachable } from "../../base/assert.ts";
import {
  ANSWER_KEPT_MS,
  ANSWERS_MAX,
  EVENTS_IN_MEMORY,
  KEPT_EVENTS,
  KEPT_JOBS,
} from "../../base/limits.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { alertKey, ROW_SCHEMAS, State, type StateChange, type StoredEvent } from "./state.ts";

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
      prune(database, { table: "jobs", column: "id", kept: KEPT_JOBS });
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
      database.query("DELETE FROM answers WHERE at_ms < ?").run(Math.round(atMs) - ANSWER_KEPT_MS);
      prune(database, { table: "answers", column: "rowid", kept: ANSWERS_MAX });
      return;
    }
    case "reserve-ids":
      putCounter(database, "last_event_id", change.lastEventId);
      putCounter(database, "last_job_id", change.lastJobId);
      // Ids are reserved for so many events at a time: often enough to look for old ones.
      prune(database, { table: "events", column: "id", kept: KEPT_EVENTS });
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
}

/** By their number: a crash and a damaged file leave ids out, and what is before is no older. */
function prune(
  database: Database,
  what: { readonly table: string; readonly column: "id" | "rowid"; readonly kept: number },
): void {
  const { table, column, kept } = what;
  const first = `SELECT ${column} FROM ${table} ORDER BY ${column} DESC LIMIT 1 OFFSET ?`;
  database.query(`DELETE FROM ${table} WHERE ${column} <= (${first})`).run(kept);
}
