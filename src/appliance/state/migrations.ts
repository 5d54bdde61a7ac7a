/**
 * The schema of state.db, and the steps by which a file of an earlier version comes to it.
 *
 * | version | what is new                                                                      |
 * |---------|----------------------------------------------------------------------------------|
 * | 1       | drives and exports by name, settings of arrays                                   |
 * | 2       | arrays by UUID with their label, which exports, jobs and events refer to         |
 *
 * A table more is no new version: where it is absent it is made, and a version of parityd that does
 * not know it leaves it alone. A new version is for rows that an older parityd would misread.
 */
import type { Database } from "bun:sqlite";

/** What is in the file now, table by table. */
const TABLES: readonly string[] = [
  "CREATE TABLE IF NOT EXISTS drives (name TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS arrays (uuid TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS exports (name TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS spares (drive TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS smart (drive TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS schedules (uuid TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, facts TEXT NOT NULL)",
  `CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, facts TEXT NOT NULL,
    at_ms INTEGER NOT NULL)`,
  "CREATE TABLE IF NOT EXISTS alerts (key TEXT PRIMARY KEY, facts TEXT NOT NULL)",
  `CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL,
    severity TEXT NOT NULL, array TEXT NOT NULL, array_uuid TEXT, drive TEXT, job INTEGER,
    at_ms INTEGER NOT NULL, message TEXT NOT NULL)`,
  "CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL)",
];

/**
 * From each version to the next, in order. A step that has landed is never changed: it makes what
 * the next version was then, and TABLES what has come since.
 */
const STEPS: readonly { readonly from: number; readonly statements: readonly string[] }[] = [
  {
    from: 1,
    statements: [
      "ALTER TABLE drives RENAME TO drives_1",
      "ALTER TABLE exports RENAME TO exports_1",
      "ALTER TABLE jobs RENAME TO jobs_1",
      "ALTER TABLE events RENAME TO events_1",
      "CREATE TABLE drives (name TEXT PRIMARY KEY, facts TEXT NOT NULL)",
      "CREATE TABLE arrays (uuid TEXT PRIMARY KEY, facts TEXT NOT NULL)",
      "CREATE TABLE exports (name TEXT PRIMARY KEY, facts TEXT NOT NULL)",
      "CREATE TABLE jobs (id INTEGER PRIMARY KEY, facts TEXT NOT NULL)",
      "CREATE TABLE answers (key TEXT PRIMARY KEY, facts TEXT NOT NULL, at_ms INTEGER NOT NULL)",
      `CREATE TABLE events (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, severity TEXT NOT NULL,
        array TEXT NOT NULL, array_uuid TEXT, drive TEXT, job INTEGER, at_ms INTEGER NOT NULL,
        message TEXT NOT NULL)`,
      `INSERT INTO drives SELECT name, json_object('name', name, 'path', path,
        'direct', json(iif(direct, 'true', 'false'))) FROM drives_1`,
      // An export is bound to its array when that is seen.
      `INSERT INTO exports SELECT name, json_object('name', name, 'arrayUuid', NULL, 'array', array,
        'readOnly', json(iif(read_only, 'true', 'false'))) FROM exports_1`,
      `INSERT INTO arrays SELECT uuid, json_object('uuid', uuid, 'label', NULL,
        'standing', 'known', 'settings', json(settings)) FROM array_settings
        WHERE json_valid(settings)`,
      "INSERT INTO jobs SELECT id, status FROM jobs_1",
      "INSERT INTO answers SELECT key, answer, at_ms FROM idempotency",
      `INSERT INTO events SELECT id, kind, severity, array, NULL, drive, job, at_ms, message
        FROM events_1`,
      `INSERT OR REPLACE INTO counters SELECT 'last_event_id', coalesce(max(seq), 0)
        FROM sqlite_sequence WHERE name IN ('events', 'events_1')`,
      ...["drives_1", "exports_1", "jobs_1", "events_1", "array_settings", "idempotency"].map(
        (table) => `DROP TABLE ${table}`,
      ),
    ],
  },
];

export const SCHEMA_VERSION = 2;

/**
 * Brings a file up to date, in one transaction: what is cut short leaves it as it was. `run` does
 * one statement. A file of a newer version is not for this.
 */
export function migrate(
  database: Database,
  run: (statement: string) => void = (statement) => void database.run(statement),
): void {
  const found = versionOf(database);
  // Nothing is written where all is there, but a table that somebody dropped is made anew.
  if (found === SCHEMA_VERSION) for (const statement of TABLES) run(statement);
  if (found === SCHEMA_VERSION) return;
  database.transaction(() => {
    // A file of version 0 is a new one.
    const steps = found < 1 ? [] : STEPS.filter(({ from }) => from >= found);
    for (const { statements } of steps) for (const statement of statements) run(statement);
    for (const statement of TABLES) run(statement);
    run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
  })();
}

export function versionOf(database: Database): number {
  const row = database.query<{ user_version: number }, []>("PRAGMA user_version").get();
  return row?.user_version ?? 0;
}
