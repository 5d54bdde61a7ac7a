/**
 * Goal: an array that is degraded, failed, broken or read-only by a loss is told of again each day
 * until it is not: not sooner, not twice, whatever restarts and clocks do.
 * Method: months of virtual time; the reactor is a list of statuses.
 */
import { describe, expect, test } from "bun:test";
import { standingOf } from "../../../src/appliance/alerts/reminders.ts";
import { DAY_MS } from "../../../src/appliance/alerts/verdict.ts";
import { ARRAY_STATES, type ArrayStatus } from "../../../src/array/protocol.ts";
import { AlertModel } from "../../helpers/alert-model.ts";

const HOUR_MS = 3_600_000;

function model(): AlertModel {
  const daemon = new AlertModel([]);
  daemon.start();
  return daemon;
}

function repeats(daemon: AlertModel) {
  return daemon.now.events.since(0, 10_000).filter(({ message }) => message.startsWith("still "));
}

const DEGRADED = { state: "degraded", degraded: 1 } as const;

test("reminders: every state: trouble, whole, or not running", () => {
  const standings = ARRAY_STATES.flatMap((state) =>
    [0, 1].map((degraded) => {
      const standing = standingOf({ state, degraded } as ArrayStatus);
      return `${state} ${degraded}: ${standing}`;
    }),
  );
  expect(standings).toEqual([
    ...["absent 0: not running", "absent 1: not running"],
    ...["inactive 0: not running", "inactive 1: not running"],
    ...["broken 0: broken", "broken 1: broken"],
    ...["fenced 0: not running", "fenced 1: not running"],
    ...["failed 0: failed", "failed 1: failed"],
    ...["read-only 0: whole", "read-only 1: read-only"],
    ...["degraded 0: degraded", "degraded 1: degraded"],
    ...["active 0: whole", "active 1: whole"],
    ...["clean 0: whole", "clean 1: whole"],
  ]);
});

test("reminders: degraded for ten days: nine repeats or ten, a day apart; whole: none any more", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(10 * DAY_MS + HOUR_MS);
  const told = repeats(daemon);
  expect(told).toHaveLength(10);
  expect(told[0]).toMatchObject({
    ...{ kind: "array.degraded", severity: "critical", array: "tank", drive: null, job: null },
    message: "still degraded since 2023-11-14T22:13:20.200Z: 1 of 3 members missing or rebuilding",
  });
  for (const [index, { atMs }] of told.entries()) {
    if (index > 0) expect(atMs - told[index - 1]!.atMs).toBe(DAY_MS);
  }
  daemon.setArray("tank", {});
  daemon.runFor(5 * DAY_MS);
  expect(repeats(daemon)).toHaveLength(10);
  // It begins anew: since then, and a day later.
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(DAY_MS - HOUR_MS);
  expect(repeats(daemon)).toHaveLength(10);
  daemon.runFor(2 * HOUR_MS);
  expect(repeats(daemon).at(-1)?.message).toContain("since 2023-11-29");
});

test("reminders: whole for a moment within the day: the day begins anew", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(DAY_MS - HOUR_MS);
  daemon.setArray("tank", {});
  daemon.runFor(1_000);
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(2 * HOUR_MS);
  expect(repeats(daemon)).toEqual([]);
});

test("reminders: what it is, how far its rebuild is, why it is read-only", () => {
  const daemon = model();
  const sync = { action: "rebuild", doneBytes: 419, totalBytes: 1_000 };
  daemon.setArray("a", { ...DEGRADED, sync: sync as ArrayStatus["sync"] });
  daemon.setArray("b", { state: "read-only", degraded: 1, reason: "it cannot be recorded" });
  daemon.setArray("c", { state: "failed", degraded: 2 });
  daemon.setArray("d", { state: "broken", degraded: 0, reason: "a defect" });
  daemon.setArray("e", { state: "read-only", degraded: 0, reason: "it was started read-only" });
  daemon.runFor(DAY_MS + HOUR_MS);
  const texts = repeats(daemon).map(({ kind, message }) => [kind, message.replace(/.*Z: /, "")]);
  expect(texts).toEqual([
    ["array.degraded", "1 of 3 members missing or rebuilding, a rebuild is at 41 %"],
    ["array.read-only", "it cannot be recorded; 1 of 3 members missing or rebuilding"],
    ["array.failed", "2 of 3 members missing or rebuilding"],
    ["array.broken", "a defect; 0 of 3 members missing or rebuilding"],
  ]);
});

test("reminders: degraded becomes failed: a day from then", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(DAY_MS - HOUR_MS);
  daemon.setArray("tank", { state: "failed", degraded: 2 });
  daemon.runFor(2 * HOUR_MS);
  expect(repeats(daemon)).toEqual([]);
  daemon.runFor(DAY_MS);
  expect(repeats(daemon)).toMatchObject([{ kind: "array.failed" }]);
});

test("reminders: stopped for days: none, and none for the past when it runs again and is whole", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(HOUR_MS);
  daemon.setArray("tank", { state: "inactive", degraded: 1 });
  daemon.runFor(5 * DAY_MS);
  expect(repeats(daemon)).toEqual([]);
  daemon.setArray("tank", DEGRADED);
  daemon.runFor(HOUR_MS);
  expect(repeats(daemon)).toHaveLength(1);
  expect(repeats(daemon)[0]?.message).toContain("since 2023-11-14");
});

describe("restarts", () => {
  /** As after a start: the array comes up, and is told of as assembled. */
  function again(daemon: AlertModel): void {
    daemon.kill();
    daemon.start();
    daemon.setArray("tank", DEGRADED);
  }

  test("restarts: one each hour for a week: a repeat a day", () => {
    const daemon = model();
    daemon.setArray("tank", DEGRADED);
    for (let hour = 0; hour < 7 * 24; hour += 1) {
      daemon.runFor(HOUR_MS);
      again(daemon);
    }
    daemon.runFor(1_000);
    expect(repeats(daemon).length).toBeGreaterThanOrEqual(6);
    expect(repeats(daemon).length).toBeLessThanOrEqual(7);
  });

  test("restarts: a hundred in a row when one is due: one repeat", () => {
    const daemon = model();
    daemon.setArray("tank", DEGRADED);
    daemon.runFor(DAY_MS - 1_000);
    for (let count = 0; count < 100; count += 1) {
      again(daemon);
      daemon.runFor(500);
    }
    expect(repeats(daemon)).toHaveLength(1);
  });

  test("restarts: the clock was set meanwhile: at most a day more is waited, once at most at once", () => {
    for (const byMs of [-400 * DAY_MS, -DAY_MS, -HOUR_MS, HOUR_MS, DAY_MS, 400 * DAY_MS]) {
      const daemon = model();
      daemon.setArray("tank", DEGRADED);
      daemon.runFor(12 * HOUR_MS);
      daemon.simulation.jumpWall(byMs);
      again(daemon);
      daemon.runFor(HOUR_MS);
      expect(repeats(daemon).length).toBeLessThanOrEqual(1);
      daemon.runFor(DAY_MS);
      expect(repeats(daemon).length).toBeGreaterThanOrEqual(1);
      expect(repeats(daemon).length).toBeLessThanOrEqual(2);
    }
  });
});

test("reminders: the clock on the wall is set while it runs, to and fro: a repeat a day", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  for (let hour = 0; hour < 5 * 24; hour += 1) {
    daemon.simulation.jumpWall(hour % 2 === 0 ? 90 * DAY_MS : -90 * DAY_MS);
    daemon.setArray("tank", DEGRADED);
    daemon.runFor(HOUR_MS);
  }
  daemon.runFor(HOUR_MS);
  expect(repeats(daemon)).toHaveLength(5);
});

test("reminders: state.db takes nothing: a repeat a day all the same", () => {
  const daemon = model();
  daemon.setArray("tank", DEGRADED);
  daemon.file.trouble = "full";
  daemon.runFor(5 * DAY_MS + HOUR_MS);
  expect(repeats(daemon)).toHaveLength(5);
});
