/**
 * Goal: each event at or above `least` reaches each way at least once, in order, or is told of as
 * failed or dropped; over kills at any instant, and whatever state.db takes.
 * Method: the real queues and state in virtual time; receivers that fail, hang and come back; a
 * kill at each moment of a story; random lives, of which every event is accounted for.
 */
import { describe, expect, test } from "bun:test";
import { type Delivery, SEVERITIES } from "../../../src/appliance/alerts/alert.ts";
import { DAY_MS } from "../../../src/appliance/alerts/verdict.ts";
import { alertFindings } from "../../../src/appliance/findings.ts";
import { ALERTS_WAITING_MAX } from "../../../src/base/limits.ts";
import { nextBelow, nextFraction, SeededRandom } from "../../../src/base/random.ts";
import {
  AlertModel,
  ARRIVED,
  FAILED,
  REFUSED,
  type Receiver,
  receiver,
} from "../../helpers/alert-model.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

function ids(to: Receiver): number[] {
  return to.got.map(({ id }) => id);
}

/** Of those that came more than once, the first time. */
function firsts(to: Receiver): number[] {
  return [...new Set(ids(to))];
}

/** All fail until `delivery` is changed. */
function failing(to: Receiver): { delivery: Delivery } {
  const how = { delivery: FAILED as Delivery };
  to.answer = () => ({ delivery: how.delivery, afterMs: 1 });
  return how;
}

function model(...receivers: Receiver[]): AlertModel {
  const made = new AlertModel(receivers);
  made.start();
  return made;
}

test("alerts: each severity to each least, in order, once", () => {
  const all = SEVERITIES.map((least, index) => receiver(least, `webhook${index + 1}`));
  const daemon = model(...all);
  for (const severity of [...SEVERITIES, ...SEVERITIES]) daemon.emit(severity);
  daemon.runFor(100);
  expect(all.map(ids)).toEqual([
    [1, 2, 3, 4, 5, 6],
    [2, 3, 5, 6],
    [3, 6],
  ]);
  expect(daemon.now.alerts.counts.map(({ sent, pending }) => [sent, pending])).toEqual([
    ...[
      [6, 0],
      [4, 0],
      [2, 0],
    ],
  ]);
  expect(daemon.now.store.state.alerts.size).toBe(0);
});

test("alerts: one that fails is tried again, those behind it wait: order is kept", () => {
  const to = receiver("info");
  const daemon = model(to);
  const how = failing(to);
  daemon.emit("info");
  daemon.emit("critical");
  daemon.runFor(20_000);
  // After 0.75, 1.5, 3, 6 and 12 seconds, by the chance of the model.
  expect(to.got.map(({ atMs }) => Math.round(atMs))).toEqual([0, 751, 2_252, 5_253, 11_254]);
  expect(new Set(ids(to))).toEqual(new Set([1]));
  expect(daemon.counts()).toMatchObject({ sent: 0, failed: 0, pending: 2 });
  how.delivery = ARRIVED;
  daemon.runFor(20_000);
  expect(firsts(to)).toEqual([1, 2]);
  expect(daemon.counts()).toMatchObject({ sent: 2, failed: 0, pending: 0 });
  expect(daemon.logged.map(({ level, message }) => `${level} ${message}`)).toEqual([
    ...["warn alerts do not arrive", "warn alerts do not arrive", "warn alerts do not arrive"],
    "info alerts arrive again",
  ]);
});

test("alerts: stuck: told once the first has waited for two minutes, until it has arrived", () => {
  const [dead, alive] = [receiver("info", "webhook1"), receiver("info", "webhook2")];
  const daemon = model(dead, alive);
  const how = { delivery: FAILED as Delivery };
  dead.answer = () => ({ delivery: how.delivery, afterMs: 30_000 });
  daemon.emit("info");
  daemon.runFor(29_000);
  daemon.emit("info");
  daemon.runFor(90_000);
  expect(daemon.now.alerts.stuck).toEqual([]);
  daemon.runFor(2_000);
  const [stuck, ...others] = daemon.now.alerts.stuck;
  expect(others).toEqual([]);
  const known = { via: "webhook1", target: "webhook1", why: "status 500" };
  expect(stuck).toEqual({ ...known, waiting: 2, seconds: 121 });
  expect(alertFindings([stuck!, { ...stuck!, via: "onEvent", waiting: 1, why: null }])).toEqual([
    {
      status: "2 alerts wait for webhook1 (webhook1), for 2 min now (status 500).",
      action: "look after what should take it, then try it: parityd events test --webhook 1",
    },
    {
      status: "an alert waits for onEvent (webhook1), for 2 min now (it has not answered yet).",
      action: "look after what should take it, then try it: parityd events test",
    },
  ]);
  how.delivery = ARRIVED;
  daemon.runFor(10 * MINUTE_MS);
  expect(daemon.now.alerts.stuck).toEqual([]);
});

test("alerts: one way that fails holds no other up", () => {
  const [dead, alive] = [receiver("info", "webhook1"), receiver("info", "webhook2")];
  const daemon = model(dead, alive);
  dead.answer = () => ({ delivery: FAILED, afterMs: 10 * MINUTE_MS });
  for (let count = 0; count < 5; count += 1) daemon.emit("info");
  daemon.runFor(1_000);
  expect([ids(dead), ids(alive)]).toEqual([[1], [1, 2, 3, 4, 5]]);
});

test("alerts: one that is refused is not sent again; the next is sent at once", () => {
  const to = receiver("info");
  const daemon = model(to);
  to.answer = ({ id }) => ({ delivery: id === 1 ? REFUSED : ARRIVED, afterMs: 1 });
  daemon.emit("info");
  daemon.emit("info");
  daemon.runFor(10);
  expect(ids(to)).toEqual([1, 2]);
  expect(daemon.counts()).toMatchObject({ sent: 1, failed: 1, pending: 0 });
  expect(daemon.logged).toMatchObject([{ level: "error", fields: { id: 1, why: "status 404" } }]);
});

test("alerts: Retry-After is kept to, also over a restart, at most for a day", () => {
  const to = receiver("info");
  const daemon = model(to);
  const how = failing(to);
  how.delivery = { kind: "failed", detail: "status 429", retryAfterMs: HOUR_MS };
  daemon.emit("info");
  daemon.runFor(HOUR_MS - MINUTE_MS);
  expect(ids(to)).toEqual([1]);
  daemon.kill();
  daemon.start();
  daemon.runFor(MINUTE_MS - 1_000);
  expect(ids(to)).toEqual([1]);
  daemon.runFor(2_000);
  expect(ids(to)).toEqual([1, 1]);
  // A clock that was set back by years while nobody was there.
  daemon.kill();
  daemon.simulation.jumpWall(-1_000 * DAY_MS);
  daemon.start();
  daemon.runFor(DAY_MS + 1_000);
  expect(to.got.length).toBeGreaterThanOrEqual(3);
});

describe("a day", () => {
  test("a day of failures: given up then, told, and not before; later events go on", () => {
    const to = receiver("info");
    const daemon = model(to);
    const how = failing(to);
    daemon.emit("critical");
    daemon.runFor(DAY_MS - HOUR_MS);
    daemon.emit("info");
    expect(daemon.counts()).toMatchObject({ failed: 0, pending: 2 });
    daemon.runFor(2 * HOUR_MS);
    expect(daemon.counts()).toMatchObject({ failed: 1, pending: 1 });
    expect(daemon.logged.at(-1)).toMatchObject({
      ...{ level: "error", message: "an alert has failed for a day, and is not sent again" },
      fields: { id: 1, kind: "io.error", why: "status 500" },
    });
    // As many tries as a quarter of an hour allows, and no storm.
    expect(to.got.length).toBeGreaterThan(90);
    expect(to.got.length).toBeLessThan(250);
    how.delivery = ARRIVED;
    daemon.runFor(HOUR_MS);
    expect(daemon.counts()).toMatchObject({ sent: 1, failed: 1, pending: 0 });
  });

  test("a day: the clock on the wall is set: nothing is given up for that", () => {
    const to = receiver("info");
    const daemon = model(to);
    const how = failing(to);
    daemon.emit("critical");
    for (const byMs of [400 * DAY_MS, -900 * DAY_MS, 500 * DAY_MS]) {
      daemon.simulation.jumpWall(byMs);
      daemon.runFor(HOUR_MS);
    }
    expect(daemon.counts()).toMatchObject({ failed: 0, pending: 1 });
    how.delivery = ARRIVED;
    daemon.runFor(HOUR_MS);
    expect(daemon.counts()).toMatchObject({ sent: 1, pending: 0 });
  });

  test("a day: what is older when the daemon comes back is tried once all the same", () => {
    for (const delivery of [ARRIVED, FAILED]) {
      const to = receiver("info");
      const daemon = model(to);
      const how = failing(to);
      daemon.emit("critical");
      daemon.runFor(100);
      daemon.kill();
      daemon.runFor(30 * DAY_MS);
      how.delivery = delivery;
      daemon.start();
      daemon.runFor(1_000);
      expect(ids(to)).toEqual([1, 1]);
      const failed = delivery === FAILED ? 1 : 0;
      expect(daemon.counts()).toMatchObject({ sent: 1 - failed, failed, pending: 0 });
    }
  });
});

describe("kills", () => {
  /** Three events; the receiver fails twice. Everything is over after some seconds. */
  function story(killAtMs: number | null) {
    const to = receiver("info");
    const daemon = model(to);
    let tries = 0;
    to.answer = () => {
      tries += 1;
      return { delivery: tries <= 2 ? FAILED : ARRIVED, afterMs: 200 };
    };
    for (const atMs of [0, 300, 5_000]) {
      daemon.simulation.scheduleAt(atMs, () => {
        if (daemon.isThere) daemon.emit("warning");
      });
    }
    if (killAtMs !== null) {
      daemon.simulation.scheduleAt(killAtMs, () => daemon.kill());
      daemon.simulation.scheduleAt(killAtMs + 50, () => daemon.start());
    }
    daemon.runFor(60_000);
    return { to, daemon };
  }

  test("kills: at each 20 ms of a story: all that happened arrives, in order, nothing stays", () => {
    expect(ids(story(null).to)).toEqual([1, 1, 1, 2, 3]);
    let twice = 0;
    for (let atMs = 5; atMs < 6_000; atMs += 20) {
      const { to, daemon } = story(atMs);
      const { events, alerts } = daemon.now.store.state;
      const happened = events.map(({ id }) => id);
      expect([atMs, firsts(to)]).toEqual([atMs, happened]);
      expect([atMs, alerts.size, daemon.counts().pending]).toEqual([atMs, 0, 0]);
      const arrivals = to.got.length - happened.length - 2;
      expect([0, 1]).toContain(arrivals);
      twice += arrivals;
    }
    // Between the send and its record; also where a try was under way that would have failed.
    expect(twice).toBeGreaterThan(0);
  });

  test("kills: after the send and before its record: sent again by the next run", () => {
    const to = receiver("info");
    const daemon = model(to);
    to.answer = () => ({ delivery: ARRIVED, afterMs: 1_000 });
    daemon.emit("info");
    daemon.runFor(999);
    daemon.kill();
    daemon.start();
    daemon.runFor(5_000);
    expect(to.got.map(({ id, run }) => [id, run])).toEqual([
      [1, 1],
      [1, 2],
    ]);
    expect(daemon.counts()).toMatchObject({ sent: 1, pending: 0 });
  });

  test("kills: a stop lets what is under way come to its end, for a moment", () => {
    for (const [afterMs, isSentAgain] of [
      [1_500, false],
      [2_500, true],
    ] as const) {
      const to = receiver("info");
      const daemon = model(to);
      to.answer = () => ({ delivery: ARRIVED, afterMs });
      daemon.emit("info");
      daemon.emit("info");
      daemon.stop();
      expect(ids(to)).toEqual([1]);
      daemon.start();
      daemon.runFor(10_000);
      expect(ids(to)).toEqual(isSentAgain ? [1, 1, 2] : [1, 2]);
    }
  });
});

test("alerts: for a way that is configured no more: dropped, and told", () => {
  const [one, other] = [receiver("info", "webhook1"), receiver("info", "webhook2")];
  const daemon = model(one, other);
  failing(one);
  daemon.emit("info");
  daemon.emit("info");
  daemon.runFor(100);
  daemon.kill();
  daemon.start([other]);
  daemon.runFor(100);
  expect(daemon.logged.at(-1)).toMatchObject({
    ...{ level: "warn", message: "alerts are dropped", fields: { dropped: 2 } },
  });
  expect([daemon.now.store.state.alerts.size, ids(other)]).toEqual([0, [1, 2]]);
});

describe("overflow", () => {
  test("overflow: the oldest of the least severe go first; told once, by log, event and number", () => {
    const [to, other] = [receiver("info", "webhook1"), receiver("warning", "webhook2")];
    const daemon = model(to, other);
    to.answer = () => ({ delivery: FAILED, afterMs: 100 * DAY_MS });
    const critical = daemon.emit("critical").id;
    const infos = Array.from({ length: ALERTS_WAITING_MAX - 1 }, () => daemon.emit("info").id);
    daemon.runFor(1_000);
    expect(daemon.counts()).toMatchObject({ dropped: 0, pending: ALERTS_WAITING_MAX });
    const late = daemon.emit("critical").id;
    daemon.runFor(1_000);
    // The event that tells of it takes a place as well.
    expect(daemon.counts()).toMatchObject({ dropped: 2, pending: ALERTS_WAITING_MAX });
    const last = daemon.emit("info").id;
    const waiting = [...daemon.now.store.state.alerts.values()].map(({ event }) => event);
    const told = waiting.filter(({ kind }) => kind === "alerts.dropped");
    expect(told).toMatchObject([{ severity: "warning", array: "" }]);
    expect(waiting.map(({ id }) => id).sort((a, b) => a - b)).toEqual([
      ...[critical, ...infos.slice(3), late, told[0]!.id, last],
    ]);
    expect(other.got.map(({ id }) => id)).toEqual([critical, late, told[0]!.id]);
    expect(daemon.logged.filter(({ message }) => /are dropped/.test(message))).toHaveLength(1);
    expect(
      daemon.now.events.since(0, 10_000).filter(({ kind }) => kind === "alerts.dropped"),
    ).toHaveLength(1);
  });

  test("overflow: one that is less severe than all that wait is dropped itself", () => {
    const to = receiver("info");
    const daemon = model(to);
    failing(to);
    for (let count = 0; count < ALERTS_WAITING_MAX; count += 1) daemon.emit("critical");
    daemon.emit("info");
    expect(daemon.counts()).toMatchObject({ dropped: 2, pending: ALERTS_WAITING_MAX });
    const severities = [...daemon.now.store.state.alerts.values()].map(
      ({ event }) => event.severity,
    );
    expect(new Set(severities)).toEqual(new Set(["critical"]));
  });

  test("overflow: there is room again: said, and the next overflow is told anew", () => {
    const to = receiver("info");
    const daemon = model(to);
    const how = failing(to);
    const told = () =>
      daemon.now.events.since(0, 10_000).filter(({ kind }) => kind === "alerts.dropped").length;
    for (const round of [1, 2]) {
      how.delivery = FAILED;
      for (let count = 0; count < ALERTS_WAITING_MAX + 10; count += 1) daemon.emit("info");
      expect(told()).toBe(round);
      how.delivery = ARRIVED;
      daemon.runFor(2 * HOUR_MS);
      expect(daemon.counts().pending).toBe(0);
      expect(daemon.logged.filter(({ message }) => /dropped any more/.test(message))).toHaveLength(
        round,
      );
    }
  });
});

describe("state.db", () => {
  for (const trouble of ["full", "read-only", "locked", "damaged", "gone"] as const) {
    test(`state.db ${trouble}: alerts are sent all the same, once in a run`, () => {
      const to = receiver("info");
      const daemon = model(to);
      daemon.file.trouble = trouble;
      for (let count = 0; count < 50; count += 1) daemon.emit("info");
      daemon.runFor(1_000);
      expect(ids(to)).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
      expect(daemon.counts()).toMatchObject({ sent: 50, pending: 0 });
    });
  }

  test("state.db is full for long: what waits for it is bounded", () => {
    const to = receiver("info");
    const daemon = model(to);
    failing(to);
    daemon.emit("info");
    daemon.file.trouble = "full";
    for (let round = 0; round < 21; round += 1) {
      for (let count = 0; count < 1_500; count += 1) daemon.emit("info");
      daemon.runFor(MINUTE_MS);
    }
    expect(daemon.now.store.health.waiting).toBeLessThanOrEqual(20_000);
    expect(daemon.counts().pending).toBeLessThanOrEqual(ALERTS_WAITING_MAX);
    daemon.file.trouble = "none";
    daemon.runFor(MINUTE_MS);
    expect(daemon.now.store.health).toMatchObject({ reason: null, waiting: 0 });
  });
});

const REALLY = { isDry: false };

describe("tests of ways", () => {
  test("a test goes past what waits, to each way or to one; neither log nor queue has it", async () => {
    const [dead, alive] = [receiver("critical", "webhook1"), receiver("info", "webhook2")];
    const daemon = model(dead, alive);
    failing(dead);
    daemon.emit("critical");
    daemon.runFor(10);
    const { alerts } = daemon.now;
    const both = daemon.simulation.settle(alerts.test(null, REALLY), { limitMs: MINUTE_MS });
    expect(both).toEqual({
      ok: true,
      value: [
        { via: "webhook1", target: "webhook1", arrived: false, detail: "status 500" },
        { via: "webhook2", target: "webhook2", arrived: true, detail: "status 204" },
      ],
    });
    const one = daemon.simulation.settle(alerts.test(2, REALLY), { limitMs: MINUTE_MS });
    expect(one).toMatchObject({ ok: true, value: [{ via: "webhook2" }] });
    expect(ids(alive)).toEqual([1, 0, 0]);
    expect(daemon.counts()).toMatchObject({ sent: 0, pending: 1 });
    const none = daemon.simulation.settle(alerts.test(3, REALLY), { limitMs: MINUTE_MS });
    expect(none).toMatchObject({
      ok: false,
      error: { kind: "not-found", code: "unknown-webhook" },
    });
  });

  test("a test of a way that does not answer ends after a minute", () => {
    const to = receiver("info");
    const daemon = model(to);
    to.answer = () => ({ delivery: ARRIVED, afterMs: HOUR_MS });
    const tested = daemon.simulation.settle(daemon.now.alerts.test(null, REALLY), {
      limitMs: HOUR_MS,
    });
    expect(tested).toMatchObject({ value: [{ arrived: false, detail: "no answer within 60 s" }] });
    expect(daemon.simulation.nowMs()).toBeLessThan(61_000);
  });

  test("no way is configured: refused, with the way out", () => {
    const daemon = model();
    const tested = daemon.simulation.settle(daemon.now.alerts.test(null, REALLY), {
      limitMs: 1_000,
    });
    expect(tested).toMatchObject({ ok: false, error: { kind: "conflict", code: "no-alerts" } });
  });
});

describe("lives", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    test(`life ${seed}: every event is accounted for by each way, in order`, () => {
      const random = new SeededRandom(seed);
      const all = [receiver("info", "a"), receiver("warning", "b"), receiver("critical", "c")];
      const daemon = new AlertModel(all, seed);
      const accounts = { failed: 0, dropped: 0 };
      const weights = [0.9, 0.6, 0.3].map((share) => share * nextFraction(random));
      for (const [index, to] of all.entries()) {
        to.answer = () => {
          const isFailing = nextFraction(random) < weights[index]!;
          const outcome = isFailing ? FAILED : nextFraction(random) < 0.05 ? REFUSED : ARRIVED;
          return { delivery: outcome, afterMs: nextBelow(random, 3_000) };
        };
      }
      /** What one run knows of it is gone with it: noted before it ends. */
      const close = (): void => {
        for (const { failed, dropped } of daemon.now.alerts.counts) {
          accounts.failed += failed;
          accounts.dropped += dropped;
        }
      };
      daemon.start();
      for (let turn = 0; turn < 200; turn += 1) {
        const what = nextBelow(random, 20);
        if (what < 12) daemon.emit(SEVERITIES[nextBelow(random, 3)]!);
        else if (what < 18) daemon.runFor(nextBelow(random, 20_000));
        else {
          close();
          if (what === 18) daemon.kill();
          else daemon.stop();
          daemon.runFor(nextBelow(random, 10_000));
          daemon.start();
        }
      }
      for (const to of all) to.answer = () => ({ delivery: ARRIVED, afterMs: 1 });
      daemon.runFor(2 * HOUR_MS);
      close();
      const events = daemon.now.events.since(0, 10_000);
      for (const [index, to] of all.entries()) {
        const due = events
          .filter(({ severity }) => SEVERITIES.indexOf(severity) >= index)
          .map(({ id }) => id);
        // None was given up for its age: each was sent at least once, and in the order of events.
        expect(firsts(to)).toEqual(due);
      }
      expect(accounts.dropped).toBe(0);
      expect(daemon.now.store.state.alerts.size).toBe(0);
    });
  }
});

describe("bursts", () => {
  for (let seed = 1; seed <= 12; seed += 1) {
    test(`burst ${seed}: what has not arrived is counted, as failed or dropped; order is kept`, () => {
      const random = new SeededRandom(seed);
      const all = [receiver("info", "a"), receiver("warning", "b")];
      const arrived = all.map((): number[] => []);
      const daemon = new AlertModel(all, seed);
      let isUp = true;
      for (const [index, to] of all.entries()) {
        to.answer = ({ id }) => {
          const isGood = isUp && nextFraction(random) < 0.9;
          const delivery = nextFraction(random) < 0.02 ? REFUSED : isGood ? ARRIVED : FAILED;
          if (delivery === ARRIVED) arrived[index]!.push(id);
          return { delivery, afterMs: nextBelow(random, 30) };
        };
      }
      daemon.start();
      const ofTrouble = ["none", "full", "locked"] as const;
      for (let round = 0; round < 5; round += 1) {
        isUp = nextFraction(random) < 0.4;
        daemon.file.trouble = ofTrouble[nextBelow(random, 3)]!;
        for (let left = nextBelow(random, 1_800); left > 0; left -= 1) {
          daemon.emit(SEVERITIES[nextBelow(random, 3)]!);
          if (nextBelow(random, 20) === 0) daemon.runFor(nextBelow(random, 200));
        }
        daemon.runFor(nextBelow(random, 600_000));
      }
      isUp = true;
      daemon.file.trouble = "none";
      daemon.runFor(8 * HOUR_MS);
      const events = daemon.now.events.since(0, 10_000);
      for (const [index, to] of all.entries()) {
        const due = events.filter(({ severity }) => SEVERITIES.indexOf(severity) >= index);
        const { sent, failed, dropped, pending } = daemon.counts(to.via);
        expect(due.length).toBe(sent + failed + dropped);
        expect([pending, sent]).toEqual([0, arrived[index]!.length]);
        expect(arrived[index]).toEqual([...new Set(arrived[index])].sort((a, b) => a - b));
      }
      expect(daemon.now.store.state.alerts.size).toBe(0);
    });
  }
});
