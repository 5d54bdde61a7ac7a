/**
 * Goal: what state.db was told is there after the daemon has ended, however it ended, and ids are
 * never used twice.
 * Method: write, open the same file again, and compare; a damaged and a newer file are refused.
 */
import { Database } from "bun:sqlite";
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openStateDb, type StateDb } from "../../src/appliance/state-db.ts";
import type { ArrayEvent, JobStatus } from "../../src/array/protocol.ts";

const directory = mkdtempSync(join(tmpdir(), "parityd-state-"));
let fileCount = 0;
afterAll(() => rmSync(directory, { recursive: true }));

function newPath(): string {
  fileCount += 1;
  return join(directory, `state${fileCount}.db`);
}

function open(path: string): StateDb {
  const opened = openStateDb(path);
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}

const JOB: JobStatus = {
  id: 1,
  kind: "rebuild",
  array: "a",
  arrayUuid: "00000000:00000000:00000000:0000000a",
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
  arrayUuid: "00000000:00000000:00000000:0000000a",
  drive: null,
  job: 3,
  atMs: 1_700_000_000_123,
  message: "one member is gone",
};

test("state.db: everything written: there after it is opened again", () => {
  const path = newPath();
  const before = open(path);
  before.putDrive({ name: "d1", path: "/dev/b", direct: true });
  before.putDrive({ name: "d0", path: "/dev/a", direct: false });
  before.putDrive({ name: "d1", path: "/dev/c", direct: true });
  before.putExport({ name: "e", array: "a", readOnly: true });
  before.putArraySettings("u", { readDeadlineMs: 5 });
  before.putArraySettings("u", { syncSpeedMax: 7 });
  before.putJob(JOB);
  const event = before.addEvent(EVENT);
  const answer = { fingerprint: "f", status: 202, location: "/x", contentType: null, body: "{}" };
  before.putAnswer({ key: "k", answer, nowMs: 1_000 });
  before.close();

  const after = open(path);
  expect(after.listDrives()).toEqual([
    { name: "d0", path: "/dev/a", direct: false },
    { name: "d1", path: "/dev/c", direct: true },
  ]);
  expect(after.listExports()).toEqual([{ name: "e", array: "a", readOnly: true }]);
  expect(after.arraySettings("u")).toEqual({ readDeadlineMs: 5, syncSpeedMax: 7 });
  expect(after.getJob(1)).toEqual(JOB);
  expect(after.eventsSince(0, 10)).toEqual([{ ...EVENT, id: 1 }]);
  expect(event.id).toBe(1);
  expect(after.getAnswer("k")).toEqual(answer);
  after.deleteDrive("d0");
  after.deleteExport("e");
  after.deleteArraySettings("u");
  expect(after.listDrives()).toHaveLength(1);
  expect([after.listExports(), after.arraySettings("u")]).toEqual([[], {}]);
  after.close();
});

test("state.db: durability: WAL and synchronous=FULL", () => {
  const path = newPath();
  const db = open(path);
  const raw = new Database(path);
  expect(raw.query("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
  raw.close();
  const inside = (db as unknown as { database: Database }).database;
  expect(inside.query("PRAGMA synchronous").get()).toEqual({ synchronous: 2 });
  db.close();
});

test("state.db: ids: never reused, also when old rows have been pruned", () => {
  const path = newPath();
  const before = open(path);
  expect(before.nextJobId()).toBe(1);
  for (const id of [1, 2, 1_500]) before.putJob({ ...JOB, id });
  expect(before.listJobs().map((job) => job.id)).toEqual([1_500]);
  before.addEvent(EVENT);
  before.addEvent(EVENT);
  (before as unknown as { database: Database }).database.run("DELETE FROM events");
  (before as unknown as { database: Database }).database.run("DELETE FROM jobs");
  before.close();
  const after = open(path);
  expect(after.nextJobId()).toBe(1_501);
  expect(after.lastEventId()).toBe(2);
  expect(after.addEvent(EVENT).id).toBe(3);
  after.putJob({ ...JOB, id: 7 });
  expect(after.nextJobId()).toBe(1_501);
  after.close();
});

test("state.db: idempotency keys: gone after a day", () => {
  const db = open(newPath());
  const answer = { fingerprint: "f", status: 200, location: null, contentType: null, body: "" };
  db.putAnswer({ key: "old", answer, nowMs: 0 });
  db.putAnswer({ key: "new", answer, nowMs: 24 * 3_600_000 });
  expect(db.getAnswer("old")).not.toBeNull();
  db.putAnswer({ key: "newer", answer, nowMs: 24 * 3_600_000 + 1 });
  expect([db.getAnswer("old"), db.getAnswer("new")]).toEqual([null, answer]);
  db.close();
});

test("state.db: a file of a newer version, or no database at all: refused with the reason", () => {
  const newer = newPath();
  open(newer).close();
  const raw = new Database(newer);
  raw.run("PRAGMA user_version = 99");
  raw.close();
  const refused = openStateDb(newer);
  expect(refused).toMatchObject({ ok: false, error: expect.stringContaining("version 99") });
  const garbage = newPath();
  writeFileSync(garbage, "this is no database".repeat(100));
  expect(openStateDb(garbage)).toMatchObject({ ok: false });
  expect(openStateDb(join(directory, "no", "such", "folder"))).toMatchObject({ ok: false });
});
