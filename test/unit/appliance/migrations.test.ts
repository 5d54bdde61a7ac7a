/**
 * Goal: a state.db of any earlier landing is taken over with all that is in it, or stays as it was;
 * one of a newer version is read and left alone, to the byte.
 * Method: files that the daemons of these landings wrote (fixtures/state), opened by the store; a
 * migration that is killed, or refused, at each of its statements in turn.
 */
import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { copyFileSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { processAlarms } from "../../../src/appliance/state/alarms.ts";
import { migrate, SCHEMA_VERSION } from "../../../src/appliance/state/migrations.ts";
import { SqliteStateFile } from "../../../src/appliance/state/state-file.ts";
import { StateStore } from "../../../src/appliance/state/state-store.ts";
import { silentLog } from "../../../src/base/log.ts";
import { sha256 } from "../../helpers/daemon.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const FIXTURES = join(import.meta.dir, "../../fixtures/state");
const NAMES = readdirSync(FIXTURES)
  .filter((name) => name.endsWith(".sql"))
  .map((name) => name.slice(0, -4));

/** What make.sh asked for, by the version that knew it first. */
const HAS: Readonly<Record<string, { schedules: number; spares: number; alerts: boolean }>> = {
  v1: { schedules: 0, spares: 0, alerts: false },
  v2: { schedules: 0, spares: 0, alerts: false },
  // The calls that set one came later.
  "v2-schedules": { schedules: 0, spares: 0, alerts: false },
  "v2-spares": { schedules: 1, spares: 1, alerts: false },
  "v2-alerts": { schedules: 1, spares: 1, alerts: true },
  "v2-smart": { schedules: 1, spares: 1, alerts: true },
};

/** A folder with the state.db of a fixture. */
function folderOf(name: string): string {
  const folder = makeTempDir("migrations");
  const database = new Database(join(folder, "state.db"), { create: true });
  database.run(readFileSync(join(FIXTURES, `${name}.sql`), "utf8"));
  // As the daemons leave it.
  database.run("PRAGMA journal_mode = WAL");
  database.close();
  return folder;
}

function open(folder: string): StateStore {
  const file = new SqliteStateFile({ path: join(folder, "state.db"), scratch: folder });
  return new StateStore({ loaded: file.load(), file, alarms: processAlarms, log: silentLog });
}

/** All of a file: its version, schema and rows. */
function contentOf(path: string): string {
  const database = new Database(path);
  const tables = database
    .query<{ name: string; sql: string }, []>(
      "SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY name",
    )
    .all();
  const rows = tables.map(({ name }) => database.query(`SELECT * FROM ${name}`).all());
  const version = database.query("PRAGMA user_version").get();
  database.close();
  return JSON.stringify({ version, tables, rows });
}

/** The statements that a migration of a fixture runs. */
function statementsOf(name: string): string[] {
  const statements: string[] = [];
  const database = new Database(join(folderOf(name), "state.db"));
  migrate(database, (statement) => {
    statements.push(statement);
    database.run(statement);
  });
  database.close();
  return statements;
}

test("migrations: there is a file of each landing, and of each version", () => {
  expect(NAMES.sort()).toEqual(Object.keys(HAS).sort());
  const versions = NAMES.map((name) => {
    const text = readFileSync(join(FIXTURES, `${name}.sql`), "utf8");
    return Number(/PRAGMA user_version = (\d+);\n$/.exec(text)?.[1]);
  });
  const all = Array.from({ length: SCHEMA_VERSION }, (_, index) => index + 1);
  expect([...new Set(versions)].sort()).toEqual(all);
});

test.each(Object.entries(HAS))(
  "migrations: %s: all that was in it is there, and again",
  (name, has) => {
    const folder = folderOf(name);
    const database = new Database(join(folder, "state.db"));
    const count = (table: string): number =>
      database.query<{ n: number }, []>(`SELECT count(*) AS n FROM ${table}`).get()!.n;
    const before = { events: count("events"), jobs: count("jobs"), alerts: 0 };
    if (has.alerts) before.alerts = count("alerts");
    database.close();
    expect(before.events).toBeGreaterThan(4);
    for (const _time of ["the first", "again"]) {
      const store = open(folder);
      const { state } = store;
      expect(store.health).toEqual({ reason: null, waiting: 0, problems: [] });
      expect([...state.drives.values()].map(({ name: drive, path }) => [drive, path])).toEqual(
        [0, 1, 2, 3].map((index) => [`drive${index}`, `/srv/m${index}.img`]),
      );
      const [array, ...others] = state.arrays.values();
      expect(others).toEqual([]);
      expect(array).toMatchObject({ standing: "known", settings: { readDeadlineMs: 7_000 } });
      expect(array!.label).toBe(name === "v1" ? null : "tank");
      expect([...state.exports.values()]).toEqual([
        {
          ...{
            name: "tank",
            array: "tank",
            readOnly: true,
            allow: null,
            attachAtStart: null,
            detachedAtStop: null,
          },
          arrayUuid: name === "v1" ? null : array!.uuid,
        },
      ]);
      expect(state.events.map(({ kind }) => kind)).toContain("scrub.finished");
      expect(state.jobs.get(2)).toMatchObject({ kind: "check", state: "done", array: "tank" });
      expect([...state.answers.keys()]).toEqual(["k1"]);
      expect({
        ...{ events: state.events.length, jobs: state.jobs.size, alerts: state.alerts.size },
      }).toEqual(before);
      expect([state.schedules.size, state.spares.size]).toEqual([has.schedules, has.spares]);
      expect(store.takeEventId()).toBeGreaterThan(state.events.at(-1)!.id);
      expect(store.firstJobId).toBeGreaterThan(2);
      store.close();
    }
  },
);

describe("a migration that is cut short", () => {
  const old = NAMES.filter((name) => name === "v1");
  const statements = statementsOf("v1");

  test("migrations: refused at each statement: the file is as it was, and what was read is served", () => {
    expect(statements.length).toBeGreaterThan(20);
    for (const name of old) {
      const folder = folderOf(name);
      const path = join(folder, "state.db");
      const before = contentOf(path);
      for (const at of statements.keys()) {
        const database = new Database(path);
        let ran = 0;
        const cut = (statement: string): void => {
          if (ran === at) throw new Error("no room");
          ran += 1;
          database.run(statement);
        };
        expect(() => migrate(database, cut)).toThrow("no room");
        database.close();
        expect([at, contentOf(path) === before]).toEqual([at, true]);
      }
      const store = open(folder);
      expect([store.state.drives.size, store.health.reason]).toEqual([4, null]);
      store.close();
    }
  });

  test("migrations: killed at each statement: the old file or the new, and the next start has all", async () => {
    const folder = folderOf("v1");
    const path = join(folder, "state.db");
    const before = contentOf(path);
    const module = join(import.meta.dir, "../../../src/appliance/state/migrations.ts");
    const code = `
      import { Database } from "bun:sqlite";
      import { migrate } from "${module}";
      const database = new Database(process.argv[1]);
      let left = Number(process.argv[2]);
      migrate(database, (statement) => {
        database.run(statement);
        if (left-- === 0) process.kill(process.pid, "SIGKILL");
      });
    `;
    for (const at of statements.keys()) {
      const copy = join(folder, `killed${at}.db`);
      copyFileSync(path, copy);
      const child = Bun.spawn([process.execPath, "-e", code, copy, String(at)]);
      await child.exited;
      expect([at, child.signalCode]).toEqual([at, "SIGKILL"]);
      expect([at, contentOf(copy) === before]).toEqual([at, true]);
    }
    const store = open(folder);
    expect([store.state.drives.size, store.state.exports.size, store.health.problems]).toEqual([
      ...[4, 1, []],
    ]);
    store.close();
  });
});

test("state.db: of a newer version: read, said, and never touched, nor a log beside it", async () => {
  const folder = folderOf("v2-smart");
  const path = join(folder, "state.db");
  const raw = new Database(path);
  raw.run(`PRAGMA user_version = ${SCHEMA_VERSION + 1}`);
  // A journal of another kind than ours, which opening for writing would change.
  raw.run("PRAGMA journal_mode = DELETE");
  raw.close();
  const before = sha256(path);
  const store = open(folder);
  expect(store.state.drives.size).toBe(4);
  expect(store.health.reason).toBe(
    `${path} was written by a newer parityd (schema ${SCHEMA_VERSION + 1}, this one knows ` +
      `${SCHEMA_VERSION}): start that version, or move the file away`,
  );
  const refused = await store.commit({ kind: "delete-drive", name: "drive0" });
  expect(refused).toMatchObject({ ok: false, error: { kind: "unrecorded" } });
  expect(store.state.drives.size).toBe(4);
  store.putJob({ ...store.state.jobs.get(1)!, id: 99 });
  store.close();
  expect(sha256(path)).toBe(before);
  expect(readdirSync(folder)).toEqual(["state.db"]);
});
