/**
 * Goal: what was committed is there after the daemon has ended, however it ended; what happens to
 * the file ends nothing and loses nothing that is in memory; ids are never used twice.
 * Method: a real file; every way in which it can be spoiled, before the start and at run time; a
 * file that refuses each write in turn.
 */
import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { processAlarms } from "../../../src/appliance/state/alarms.ts";
import type { StoredSmart } from "../../../src/appliance/state/smart-row.ts";
import type {
  StateChange,
  StoredAlert,
  StoredArray,
  StoredDrive,
  StoredSchedule,
} from "../../../src/appliance/state/state.ts";
import { State } from "../../../src/appliance/state/state.ts";
import { SqliteStateFile, type StateFile } from "../../../src/appliance/state/state-file.ts";
import type { StateFileError } from "../../../src/appliance/state/state-rows.ts";
import { StateStore } from "../../../src/appliance/state/state-store.ts";
import type { ArrayEvent, JobStatus } from "../../../src/array/protocol.ts";
import { ANSWERS_MAX, EVENTS_IN_MEMORY, KEPT_EVENTS } from "../../../src/base/limits.ts";
import { silentLog } from "../../../src/base/log.ts";
import { err, ok, type Result } from "../../../src/base/result.ts";

const directory = mkdtempSync(join(tmpdir(), "parityd-state-"));
let folderCount = 0;
afterAll(() => rmSync(directory, { recursive: true }));

function newFolder(): string {
  folderCount += 1;
  const folder = join(directory, `state${folderCount}`);
  mkdirSync(folder);
  return folder;
}

function pathIn(folder: string): string {
  return join(folder, "state.db");
}

function open(folder: string): StateStore {
  const file = new SqliteStateFile({ path: pathIn(folder), scratch: directory });
  return new StateStore({ loaded: file.load(), file, alarms: processAlarms, log: silentLog });
}

const UUID = "00000000:00000000:00000000:0000000a";
const JOB: JobStatus = {
  id: 1,
  kind: "rebuild",
  array: "a",
  arrayUuid: UUID,
  state: "running",
  done: 0,
  total: 10,
  unit: "bytes",
  rateBytesPerSecond: 0,
  etaSeconds: null,
  error: null,
  result: { drive: "d" },
  startedAt: "2026-01-01T00:00:00.000Z",
  finishedAt: null,
};
const EVENT: ArrayEvent = {
  kind: "array.degraded",
  severity: "critical",
  array: "a",
  arrayUuid: UUID,
  drive: null,
  job: 3,
  atMs: 1_700_000_000_123,
  message: "one member is gone",
};
const ARRAY: StoredArray = {
  uuid: UUID,
  label: "a",
  standing: "known",
  settings: { readDeadlineMs: 5 },
  trouble: { state: "degraded", sinceMs: 1_000, toldMs: 2_000 },
  seen: null,
};
const ALERT: StoredAlert = {
  ...{ way: "webhook-0-1", event: { ...EVENT, id: 7 } },
  ...{ queuedMs: 1_000, failures: 3, notBeforeMs: 2_000 },
};
const SPARE = { drive: "d1", arrays: [UUID], failure: null, readAt: "2026-01-01T00:00:00.000Z" };
const SCHEDULE: StoredSchedule = {
  ...{ arrayUuid: UUID, cron: "0 1 * * *", timezone: "UTC", windowMinutes: 360, maxAgeDays: 30 },
  ...{ mode: "check", limitBytesPerSecond: null },
  memory: {
    ...{ accountedMs: 1_000, pass: { jobId: 1, state: "paused" }, passedMs: null, isOwed: true },
    makeUp: { opensMs: 5, closesMs: 6 },
    last: { jobId: 1, endedAt: "2026-01-01T00:00:00.000Z", result: "clean", error: null },
  },
};
const SMART: StoredSmart = {
  ...{ drive: "d1", readAt: "2026-01-01T00:00:00.000Z", told: { failing: 1, pendingSectors: 2 } },
  reading: {
    ...{ kind: "ata", serial: "S1", health: "failing", failures: ["it is old"] },
    ...{ isOutsideTemperature: false, temperatureCelsius: -3, powerOnHours: 7 },
    ...{ reallocatedSectors: null, pendingSectors: 2, uncorrectableSectors: null },
    ...{ mediaErrors: null, percentageUsed: null, availableSparePercent: null },
  },
};
const ANSWER = { fingerprint: "f", status: 202, location: "/x", contentType: null, body: "{}" };

function drive(name: string): StoredDrive {
  const path = `/dev/${name}`;
  return { name, path, direct: true, byId: null, deviceUuid: UUID, arrayUuid: null };
}

function addEvent(store: StateStore): number {
  const id = store.takeEventId();
  store.note({ kind: "add-event", event: { ...EVENT, id } });
  return id;
}

async function fill(store: StateStore): Promise<void> {
  const changes: StateChange[] = [
    { kind: "put-drive", drive: drive("d0") },
    { kind: "put-drive", drive: drive("d1") },
    { kind: "put-array", array: ARRAY },
    {
      kind: "put-export",
      entry: {
        ...{ name: "e", arrayUuid: UUID, array: "a", readOnly: true, allow: null },
        attachAtStart: "/dev/nbd0",
        detachedAtStop: null,
      },
    },
    { kind: "put-spare", spare: SPARE },
    { kind: "put-smart", smart: SMART },
    { kind: "put-schedule", schedule: SCHEDULE },
    { kind: "put-answer", key: "k", answer: ANSWER, atMs: 1_000 },
    { kind: "put-alert", alert: ALERT },
  ];
  expect(await store.commit(...changes)).toEqual(ok(null));
  store.putJob(JOB);
  addEvent(store);
}

function contentOf({ state }: StateStore): unknown {
  const { drives, arrays, exports, spares, smart, schedules, jobs, events, answers, alerts } =
    state;
  const tables = [drives, arrays, exports, spares, smart, schedules, jobs, answers, alerts];
  const kept = tables.map((rows) => [...rows]);
  return [...kept, events];
}

test("state.db: everything written: there after it is opened again", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  const content = contentOf(before);
  before.close();
  const after = open(folder);
  expect(contentOf(after)).toEqual(content);
  expect(after.health).toEqual({ reason: null, waiting: 0, problems: [] });
  await after.commit(
    { kind: "delete-drive", name: "d0" },
    { kind: "delete-export", name: "e" },
    { kind: "delete-spare", drive: "d1" },
    { kind: "forget-array", uuid: UUID },
    { kind: "delete-alert", way: ALERT.way, eventId: 7 },
  );
  after.close();
  const last = open(folder);
  const { drives, exports, spares, arrays, alerts } = last.state;
  expect([drives, exports, spares, arrays, alerts].map(({ size }) => size)).toEqual([
    1, 0, 0, 0, 0,
  ]);
  last.close();
});

test("state.db: a maximum of 0 for work, of a version that took it: is read as no limit", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  const settings = { syncSpeedMin: 0, syncSpeedMax: 0 };
  await before.commit({ kind: "put-array", array: { ...ARRAY, settings } });
  before.close();
  const after = open(folder);
  const read = { syncSpeedMin: 0, syncSpeedMax: Number.MAX_SAFE_INTEGER };
  expect(after.state.arrays.get(UUID)?.settings).toEqual(read);
  after.close();
});

test("state.db: a drive that is forgotten: what was told of its disk goes with it", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  await before.commit({ kind: "delete-drive", name: "d1" });
  expect(before.state.smart.size).toBe(0);
  before.close();
  const after = open(folder);
  expect([after.state.drives.size, after.state.smart.size]).toEqual([1, 0]);
  after.close();
});

test("state.db: an export of a version without allow is for all; one with a broken one for nobody", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  const allow = { addresses: ["10.0.0.0/8"], certificates: ["backup"] };
  const about = {
    arrayUuid: UUID,
    array: "a",
    readOnly: true,
    attachAtStart: null,
    detachedAtStop: null,
  };
  const entry = { name: "f", ...about, allow };
  await before.commit(
    { kind: "put-export", entry },
    { kind: "put-export", entry: { ...entry, name: "g" } },
  );
  before.close();
  const raw = new Database(pathIn(folder));
  raw.run("UPDATE exports SET facts = json_remove(facts, '$.allow') WHERE name = 'e'");
  raw.run("UPDATE exports SET facts = json_set(facts, '$.allow', 'nobody') WHERE name = 'g'");
  raw.close();
  const after = open(folder);
  expect([...after.state.exports.values()].map((kept) => [kept.name, kept.allow])).toEqual([
    ["e", null],
    ["f", allow],
  ]);
  expect(after.health.problems).toEqual([expect.stringContaining("the row of g cannot be used")]);
  after.close();
});

test("state.db: of a version without spares: all of it is read, and one can be shared", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  before.close();
  const raw = new Database(pathIn(folder));
  for (const table of ["spares", "smart"]) raw.run(`DROP TABLE ${table}`);
  raw.close();
  const after = open(folder);
  expect(after.health).toEqual({ reason: null, waiting: 0, problems: [] });
  expect([after.state.drives.size, after.state.spares.size]).toEqual([2, 0]);
  expect(await after.commit({ kind: "put-spare", spare: SPARE })).toEqual(ok(null));
  after.close();
  const last = open(folder);
  expect([...last.state.spares.values()]).toEqual([SPARE]);
  last.close();
});

test("state.db: of a version without alerts: all of it is read, and one can wait", async () => {
  const folder = newFolder();
  const before = open(folder);
  await fill(before);
  before.close();
  const raw = new Database(pathIn(folder));
  raw.run("DROP TABLE alerts");
  raw.close();
  const after = open(folder);
  expect(after.health).toEqual({ reason: null, waiting: 0, problems: [] });
  expect([after.state.drives.size, after.state.alerts.size]).toEqual([2, 0]);
  after.note({ kind: "put-alert", alert: ALERT });
  after.close();
  const raw2 = new Database(pathIn(folder));
  const hostile = { ...ALERT, event: { ...ALERT.event, id: 8, atMs: -1 } };
  raw2.run("INSERT INTO alerts VALUES ('x/8', ?)", [JSON.stringify(hostile)]);
  raw2.close();
  const last = open(folder);
  expect([...last.state.alerts.values()]).toEqual([ALERT]);
  expect(last.health.problems).toEqual(["alerts: the row of x/8 cannot be used"]);
  last.close();
});

test("state.db: durability: WAL and synchronous=FULL", async () => {
  const folder = newFolder();
  const store = open(folder);
  const raw = new Database(pathIn(folder));
  expect(raw.query("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  raw.close();
  const file = (store as unknown as { file: { database: Database } }).file;
  expect(file.database.query("PRAGMA synchronous").get()).toEqual({ synchronous: 2 });
  store.close();
});

test("state.db: ids: never reused, after a stop, a crash, and with old rows pruned", async () => {
  const folder = newFolder();
  const before = open(folder);
  expect(before.firstJobId).toBe(1);
  for (const id of [1, 2, 1_500]) before.putJob({ ...JOB, id });
  expect([...before.state.jobs.keys()]).toEqual([1, 2, 1_500]);
  expect([addEvent(before), addEvent(before)]).toEqual([1, 2]);
  before.close();
  const after = open(folder);
  expect([after.firstJobId, addEvent(after)]).toEqual([1_501, 3]);
  // A crash: what was given and not written must not come again.
  const given = Array.from({ length: 5 }, () => after.takeEventId()).at(-1)!;
  const crashed = open(folder);
  expect(crashed.takeEventId()).toBeGreaterThan(given);
  expect(crashed.firstJobId).toBeGreaterThan(1_501);
  after.close();
  crashed.close();
});

test("jobs: a thousand are kept, whatever ids a crash has left out between them", async () => {
  const folder = newFolder();
  const store = open(folder);
  const ids = [7, ...Array.from({ length: 1_000 }, (_, index) => 50_000 + index)];
  const changes = ids.map((id): StateChange => ({ kind: "put-job", job: { ...JOB, id } }));
  await store.commit(...changes.slice(0, -1));
  const first = [...store.state.jobs.keys()].slice(0, 2);
  expect([first, store.state.jobs.size]).toEqual([[7, 50_000], 1_000]);
  await store.commit(changes.at(-1)!);
  const kept = [...store.state.jobs.keys()];
  expect([kept[0], kept.length]).toEqual([50_000, 1_000]);
  store.close();
  const after = open(folder);
  expect([...after.state.jobs.keys()]).toEqual(kept);
  after.close();
});

test("events: as many as the limit are kept, in the file and in memory, whatever ids are left out", () => {
  const folder = newFolder();
  const file = new SqliteStateFile({ path: pathIn(folder), scratch: directory });
  const { state } = file.load();
  const events = (first: number, count: number): StateChange[] =>
    Array.from({ length: count }, (_, index) => ({
      kind: "add-event",
      event: { ...EVENT, id: first + index },
    }));
  // Ids jump, as after a damaged file.
  const all = [...events(1, 60_000), ...events(1_000_001, KEPT_EVENTS - 60_000)];
  const reserve = { kind: "reserve-ids", lastEventId: 2_000_000, lastJobId: 0 } as const;
  const count = () => file.eventsBetween({ sinceId: 0, beforeId: 10 ** 9, limit: 10 ** 6 });
  expect(file.write([...all, reserve]).ok).toBe(true);
  expect([count().length, count()[0]!.id]).toEqual([KEPT_EVENTS, 1]);
  expect(file.write([...events(1_500_000, 7), reserve]).ok).toBe(true);
  expect([count().length, count()[0]!.id]).toEqual([KEPT_EVENTS, 8]);
  for (const change of all) state.apply(change);
  expect(state.events).toHaveLength(EVENTS_IN_MEMORY);
  expect(state.events.at(-1)!.id).toBe(1_000_000 + KEPT_EVENTS - 60_000);
  file.close();
});

test("idempotency keys: as many as the limit are kept, in the file and in memory", () => {
  const folder = newFolder();
  const file = new SqliteStateFile({ path: pathIn(folder), scratch: directory });
  const { state } = file.load();
  const changes = Array.from({ length: ANSWERS_MAX + 3 }, (_, index): StateChange => {
    return { kind: "put-answer", key: `key${index}`, answer: ANSWER, atMs: 5 };
  });
  expect(file.write(changes.slice(0, ANSWERS_MAX)).ok).toBe(true);
  expect(file.write(changes.slice(ANSWERS_MAX)).ok).toBe(true);
  file.close();
  for (const change of changes) state.apply(change);
  const database = new Database(pathIn(folder));
  const rows = database.query<{ key: string }, []>("SELECT key FROM answers ORDER BY rowid").all();
  database.close();
  const kept = changes.slice(3).map((change) => (change.kind === "put-answer" ? change.key : ""));
  expect(rows.map(({ key }) => key)).toEqual(kept);
  expect([...state.answers.keys()]).toEqual(kept);
});

test("events: those that are no longer in memory: read from the file", async () => {
  const folder = newFolder();
  const store = open(folder);
  for (let count = 0; count < 20; count += 1) addEvent(store);
  store.state.events.splice(0, 12);
  const ids = (since: number, limit: number) => store.eventsSince(since, limit).map(({ id }) => id);
  expect(ids(9, 100)).toEqual([10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
  expect(ids(9, 2)).toEqual([10, 11]);
  expect(ids(11, 3)).toEqual([12, 13, 14]);
  expect(ids(18, 9)).toEqual([19, 20]);
  expect(ids(20, 9)).toEqual([]);
  store.close();
});

test("idempotency keys: gone after a day", () => {
  const state = new State();
  const day = 24 * 3_600_000;
  for (const [key, atMs] of [
    ["old", 0],
    ["new", day],
  ] as const) {
    state.apply({ kind: "put-answer", key, answer: ANSWER, atMs });
  }
  expect([...state.answers.keys()]).toEqual(["old", "new"]);
  state.apply({ kind: "put-answer", key: "newer", answer: ANSWER, atMs: day + 1 });
  expect([...state.answers.keys()]).toEqual(["new", "newer"]);
});

test("state.db: no database at all: set aside, the start goes on with a new file", async () => {
  const folder = newFolder();
  writeFileSync(pathIn(folder), "this is no database".repeat(100));
  const store = open(folder);
  expect(store.health.problems[0]).toContain("state.db cannot be opened");
  expect(store.health.reason).toBeNull();
  expect(readdirSync(folder)).toContain("state.db.damaged-1");
  await fill(store);
  store.close();
  // It is told of until the file that was set aside is gone.
  const later = open(folder);
  expect(later.state.drives.size).toBe(2);
  expect(later.health.problems).toEqual([expect.stringContaining("state.db.damaged-1")]);
  later.close();
  unlinkSync(`${pathIn(folder)}.damaged-1`);
  expect(open(folder).health.problems).toEqual([]);
});

test("state.db: of no byte: the start goes on, and it is told", () => {
  const folder = newFolder();
  writeFileSync(pathIn(folder), "");
  expect(open(folder).health.problems).toEqual([expect.stringContaining("was empty")]);
});

test("state.db: a pipe, or a link to a device: never opened, and said", () => {
  for (const make of [
    (path: string) => Bun.spawnSync(["mkfifo", path]),
    (path: string) => symlinkSync("/dev/full", path),
  ]) {
    const folder = newFolder();
    make(pathIn(folder));
    expect(open(folder).health.reason).toContain("is no regular file: move it away");
  }
});

test("state.db: each page damaged in turn: what can be read is kept, nothing throws", async () => {
  const folder = newFolder();
  const store = open(folder);
  await fill(store);
  for (let count = 0; count < 200; count += 1) addEvent(store);
  store.close();
  const sound = readFileSync(pathIn(folder));
  let keptDrives = 0;
  const pages = sound.length / 4096;
  for (let page = 0; page < pages; page += 1) {
    const spoiled = newFolder();
    const bytes = Buffer.from(sound);
    bytes.fill(0xa5, page * 4096, (page + 1) * 4096);
    writeFileSync(pathIn(spoiled), bytes);
    const opened = open(spoiled);
    keptDrives += opened.state.drives.size;
    // It can be written again, whatever was lost.
    expect(await opened.commit({ kind: "put-drive", drive: drive("new") })).toEqual(ok(null));
    opened.close();
    expect(open(spoiled).state.drives.has("new")).toBe(true);
  }
  // Only the first page and that of the drives themselves cost the drives.
  expect(keptDrives).toBeGreaterThanOrEqual((pages - 3) * 2);
});

test("state.db: one bad row: left out and told of, the rest is there", async () => {
  const folder = newFolder();
  const store = open(folder);
  await fill(store);
  store.close();
  const raw = new Database(pathIn(folder));
  raw.run("UPDATE drives SET facts = '{\"name\":7' WHERE name = 'd0'");
  raw.run("UPDATE exports SET facts = '[]'");
  raw.close();
  const after = open(folder);
  expect([...after.state.drives.keys()]).toEqual(["d1"]);
  expect(after.health.problems).toEqual([
    "drives: the row of d0 cannot be used",
    "exports: the row of e cannot be used",
  ]);
  after.close();
});

test("state.db: of before there were schedules: taken as it is, and takes one", async () => {
  const folder = newFolder();
  const first = open(folder);
  await fill(first);
  first.close();
  const raw = new Database(pathIn(folder));
  raw.run("DROP TABLE schedules");
  raw.close();
  const store = open(folder);
  expect(store.health).toEqual({ reason: null, waiting: 0, problems: [] });
  expect([store.state.exports.size, store.state.schedules.size]).toEqual([1, 0]);
  const change = { kind: "put-schedule", schedule: SCHEDULE } as const;
  expect(await store.commit(change)).toEqual(ok(null));
  store.close();
  const after = open(folder);
  expect([...after.state.schedules.values()]).toEqual([SCHEDULE]);
  expect(await after.commit({ kind: "delete-schedule", arrayUuid: UUID })).toEqual(ok(null));
  after.close();
  const last = open(folder);
  expect(last.state.schedules.size).toBe(0);
  last.close();
});

test("state.db: deleted, or its folder, while it is open: made anew with all that was known", async () => {
  for (const victim of ["file", "folder"] as const) {
    const folder = newFolder();
    const store = open(folder);
    await fill(store);
    rmSync(victim === "file" ? pathIn(folder) : folder, { recursive: true });
    expect(await store.commit({ kind: "put-drive", drive: drive("d2") })).toEqual(ok(null));
    const content = contentOf(store);
    store.close();
    const after = open(folder);
    expect(contentOf(after)).toEqual(content);
    after.close();
  }
});

test("state.db: locked by another program: a commit waits for it, a note is written later", async () => {
  const folder = newFolder();
  const store = open(folder);
  const other = new Database(pathIn(folder));
  other.run("BEGIN IMMEDIATE");
  addEvent(store);
  expect(store.health).toMatchObject({ waiting: 1 });
  const committed = store.commit({ kind: "put-drive", drive: drive("d0") });
  await Bun.sleep(120);
  expect(store.state.drives.size).toBe(0);
  other.run("COMMIT");
  other.close();
  expect(await committed).toEqual(ok(null));
  expect(store.health).toEqual({ reason: null, waiting: 0, problems: [] });
  store.close();
  const after = open(folder);
  expect([after.state.drives.size, after.state.events.length]).toEqual([1, 1]);
  after.close();
});

// A file that refuses -------------------------------------------------------------------------

/** Keeps what it takes as SQLite would, and refuses while `refusal` is set. */
class RefusingFile implements StateFile {
  kept = new State();
  refusal: StateFileError | null = null;
  remakes = 0;

  hasRoom(): Result<null, StateFileError> {
    return ok(null);
  }

  write(changes: readonly StateChange[]): Result<null, StateFileError> {
    if (this.refusal !== null) return err(this.refusal);
    for (const change of changes) this.kept.apply(change);
    return ok(null);
  }

  remake(changes: Iterable<StateChange>): Result<null, StateFileError> {
    this.remakes += 1;
    this.refusal = null;
    this.kept = new State();
    return this.write([...changes]);
  }

  eventsBetween(): [] {
    return [];
  }

  close(): void {}
}

function storeOver(file: RefusingFile): StateStore {
  const loaded = { state: new State(), problems: [], readOnlyReason: null };
  return new StateStore({ loaded, file, alarms: processAlarms, log: silentLog });
}

const FULL: StateFileError = { kind: "refused", detail: "database or disk is full" };

test("store: full at each step in turn: what was committed is there, what was refused is not", async () => {
  for (let refused = 0; refused < 6; refused += 1) {
    const file = new RefusingFile();
    const store = storeOver(file);
    const expected = new Set<string>();
    for (let step = 0; step < 6; step += 1) {
      file.refusal = step === refused ? FULL : null;
      const name = `d${step}`;
      const done = await store.commit({ kind: "put-drive", drive: drive(name) });
      expect(done.ok).toBe(step !== refused);
      if (done.ok) expected.add(name);
      else {
        expect(done.error).toMatchObject({ kind: "unrecorded", code: "not-recorded" });
        expect(store.health.reason).toContain("full");
      }
      addEvent(store);
      expect(new Set(store.state.drives.keys())).toEqual(expected);
    }
    file.refusal = null;
    await store.commit();
    expect(new Set(file.kept.drives.keys())).toEqual(expected);
    // Events are written in order, those of the full moment among them.
    expect(file.kept.events.map(({ id }) => id)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(store.health).toEqual({ reason: null, waiting: 0, problems: [] });
  }
});

test("store: damaged or gone when it is written: made anew from memory, once", async () => {
  for (const kind of ["damaged", "gone"] as const) {
    const file = new RefusingFile();
    const store = storeOver(file);
    await store.commit({ kind: "put-drive", drive: drive("d0") });
    addEvent(store);
    file.refusal = { kind, detail: "the page is gone" };
    expect(await store.commit({ kind: "put-drive", drive: drive("d1") })).toEqual(ok(null));
    expect([file.remakes, file.kept.drives.size, file.kept.events.length]).toEqual([1, 2, 1]);
  }
});

test("store: what waits for the file for long: bounded, and only events are dropped", async () => {
  const file = new RefusingFile();
  const store = storeOver(file);
  file.refusal = FULL;
  store.note({ kind: "put-array", array: ARRAY });
  for (let count = 0; count < 25_000; count += 1) addEvent(store);
  expect(store.health.waiting).toBeLessThanOrEqual(20_000);
  file.refusal = null;
  const last = addEvent(store);
  await store.commit();
  expect([file.kept.arrays.size, file.kept.events.at(-1)?.id]).toEqual([1, last]);
});
