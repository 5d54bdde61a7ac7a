/**
 * Goal: a schedule is set, shown, listed and removed as documented; what is none is refused with
 * the value that is wrong and the way out, and changes nothing; it follows its array, whatever that
 * is called, and goes with it.
 * Method: the real app and services on simulated drives.
 */
import { expect, test } from "bun:test";
import { err } from "../../../src/base/result.ts";
import {
  addTestArray,
  memoryStore,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { hostWithDisks, testUuid } from "../../helpers/sim-reactor.ts";
import { WALL_START_MS } from "../../sim/world/simulation.ts";

const PATH = "/v1/schedules/raid_test";
/** No window of some hours is open at WALL_START_MS, which is in the late evening. */
const HOUR = 10;
const NIGHTLY = {
  ...{ cron: `0 ${HOUR} * * *`, timezone: "Europe/Berlin", windowMinutes: 240, maxAgeDays: 14 },
  ...{ mode: "repair", limitBytesPerSecond: 1_048_576 },
};

async function withArray(options: Parameters<typeof startSimAppliance>[0] = {}) {
  const daemon = await startSimAppliance(options);
  await addTestArray(daemon);
  return daemon;
}

// biome-ignore lint/suspicious/noExplicitAny: what the API answers is judged by its fields.
async function body(answer: Response | Promise<Response>): Promise<any> {
  return (await answer).json();
}

test("schedules: put: 201 with a Location, then 200; shown, listed, remembered", async () => {
  const { call, store } = await withArray();
  const put = await call("PUT", PATH, NIGHTLY);
  expect([put.status, put.headers.get("location")]).toEqual([201, PATH]);
  const shown = await body(put);
  expect(shown).toMatchObject({
    ...{ array: "raid_test", arrayUuid: testUuid("raid_test"), ...NIGHTLY },
    ...{ isDue: true, pass: "none", job: null, isMissed: false, last: null, lastResult: null },
  });
  const berlin = new Intl.DateTimeFormat("sv-SE", {
    timeZone: "Europe/Berlin",
    timeStyle: "short",
  });
  expect(berlin.format(Date.parse(shown.next))).toBe(`${String(HOUR).padStart(2, "0")}:00`);
  const untilNextMs = Date.parse(shown.next) - WALL_START_MS;
  expect(untilNextMs).toBeGreaterThan(0);
  expect(untilNextMs).toBeLessThanOrEqual(25 * 3_600_000);
  const again = await call("PUT", PATH, { cron: "@weekly" });
  const rest = { timezone: "UTC", windowMinutes: 360, maxAgeDays: 30, mode: "check" };
  expect(again.status).toBe(200);
  expect(await body(again)).toMatchObject({ cron: "@weekly", ...rest, limitBytesPerSecond: null });
  expect(await body(call("GET", PATH))).toMatchObject({ cron: "@weekly" });
  expect(await body(call("GET", "/v1/schedules"))).toMatchObject([{ array: "raid_test" }]);
  expect(store.state.schedules.get(testUuid("raid_test"))).toMatchObject({ cron: "@weekly" });
});

test("schedules: delete: 204, then 404; none there, no such array: 404", async () => {
  const { call } = await withArray();
  await call("PUT", PATH, NIGHTLY);
  expect((await call("DELETE", PATH)).status).toBe(204);
  for (const method of ["GET", "DELETE"]) {
    const none = await call(method, PATH);
    expect([none.status, (await body(none)).type]).toEqual([
      404,
      "urn:parityd:problem:no-schedule",
    ]);
  }
  expect(await body(call("GET", "/v1/schedules"))).toEqual([]);
  for (const method of ["GET", "DELETE", "PUT"]) {
    const sent = method === "PUT" ? NIGHTLY : undefined;
    const unknown = await call(method, "/v1/schedules/nothing", sent);
    expect([unknown.status, (await body(unknown)).type]).toEqual([
      404,
      "urn:parityd:problem:unknown-array",
    ]);
  }
});

for (const [name, wrong, pointer, says] of [
  ["no expression", { cron: undefined }, "#/cron", "expected string"],
  ["30 February", { cron: "0 1 30 2 *" }, "#/cron", "never fires"],
  ["four fields", { cron: "0 1 * *" }, "#/cron", "no cron expression"],
  ["an unknown zone", { timezone: "Mars/Olympus" }, "#/timezone", "IANA"],
  ["a window of a day and more", { windowMinutes: 1_441 }, "#/windowMinutes", "at most 1440"],
  ["a window of nothing", { windowMinutes: 0 }, "#/windowMinutes", ">=1"],
  ["windows that overlap", { cron: "0 1,3 * * *" }, "#/windowMinutes", "at most 120"],
  ["an age of no day", { maxAgeDays: 0 }, "#/maxAgeDays", ">=1"],
  ["another mode", { mode: "verify" }, "#/mode", "check"],
  ["a key too many", { window: 5 }, "#/window", "there is no such value"],
] as const) {
  test(`schedules: ${name}: 422 at ${pointer}, and nothing changed`, async () => {
    const { call, store } = await withArray();
    await call("PUT", PATH, NIGHTLY);
    const before = store.state.schedules.get(testUuid("raid_test"));
    const refused = await call("PUT", PATH, { ...NIGHTLY, ...wrong });
    expect([refused.status, refused.headers.get("content-type")]).toEqual([
      422,
      "application/problem+json",
    ]);
    const problem = await body(refused);
    expect(problem.errors).toMatchObject([{ pointer, detail: expect.stringContaining(says) }]);
    expect(store.state.schedules.get(testUuid("raid_test"))).toBe(before!);
  });
}

test("schedules: state.db takes nothing: 507, and nothing changed", async () => {
  let isFull = false;
  const full = err({ kind: "refused", detail: "it is full" } as const);
  const store = memoryStore({ write: () => (isFull ? full : { ok: true, value: null }) });
  const { call } = await withArray({ store });
  isFull = true;
  expect((await call("PUT", PATH, NIGHTLY)).status).toBe(507);
  expect(store.state.schedules.size).toBe(0);
  isFull = false;
  expect((await call("PUT", PATH, NIGHTLY)).status).toBe(201);
  isFull = true;
  expect((await call("DELETE", PATH)).status).toBe(507);
  expect(store.state.schedules.size).toBe(1);
});

test("schedules: by UUID or label, also after the array was renamed", async () => {
  const { call } = await withArray();
  await call("PUT", `/v1/schedules/${testUuid("raid_test")}`, NIGHTLY);
  expect((await call("PATCH", "/v1/arrays/raid_test", { name: "pool" })).status).toBe(200);
  expect(await body(call("GET", "/v1/schedules/pool"))).toMatchObject({
    array: "pool",
    ...NIGHTLY,
  });
  expect((await call("GET", PATH)).status).toBe(404);
});

test("schedules: a deleted array has none; where the deletion is refused it stays", async () => {
  const { call, store, reactor } = await withArray();
  await call("PUT", PATH, NIGHTLY);
  const detail = "a client is connected";
  reactor.refusals.set("delete-array", { kind: "conflict", code: "in-use", detail });
  expect((await call("DELETE", "/v1/arrays/raid_test")).status).toBe(409);
  expect(await body(call("GET", PATH))).toMatchObject(NIGHTLY);
  expect((await call("DELETE", "/v1/arrays/raid_test")).status).toBe(204);
  expect(store.state.schedules.size).toBe(0);
  const put = await call("PUT", PATH, NIGHTLY);
  expect([put.status, (await body(put)).type]).toEqual([409, "urn:parityd:problem:array-deleted"]);
  expect((await call("POST", "/v1/arrays/raid_test/start")).status).toBe(200);
  expect((await call("GET", PATH)).status).toBe(404);
});

/** Two arrays, each with one of three disks in common with the other. */
async function twoArrays(spindles: readonly string[]): Promise<SimAppliance> {
  const paths = ["/dev/a", "/dev/b", "/dev/c", "/dev/d", "/dev/e", "/dev/f"];
  const host = hostWithDisks([]);
  for (const spindle of spindles) host.addDisk({ spindle });
  const daemon = await startSimAppliance({ host });
  const { call } = daemon;
  for (const [index, disk] of [...host.disks.values()].entries()) {
    await call("POST", "/v1/drives", { name: paths[index]!.slice(5), path: disk.path });
  }
  for (const [name, drives] of [
    ["one", ["a", "b", "c"]],
    ["two", ["d", "e", "f"]],
  ] as const) {
    const request = { name, drives, assumeClean: true, force: true };
    expect((await call("POST", "/v1/arrays", request)).status).toBe(201);
  }
  return daemon;
}

test("schedules: two arrays on one disk at one time: 422 at #/cron, unless with force", async () => {
  const { call } = await twoArrays(["p", "q", "r", "s", "t", "p"]);
  expect((await call("PUT", "/v1/schedules/one", { cron: "0 1 * * *" })).status).toBe(201);
  const refused = await call("PUT", "/v1/schedules/two", { cron: "0 6 * * *" });
  expect(refused.status).toBe(422);
  const { errors } = await body(refused);
  expect(errors).toMatchObject([{ pointer: "#/cron" }]);
  expect(errors[0].detail).toContain(
    "overlaps the schedule of array one, which lies on disk p too",
  );
  expect(await body(call("GET", "/v1/schedules"))).toHaveLength(1);
  expect((await call("PUT", "/v1/schedules/two", { cron: "0 7 * * *" })).status).toBe(201);
  expect((await call("PUT", "/v1/schedules/two?force=true", { cron: "0 6 * * *" })).status).toBe(
    200,
  );
  // Its own schedule is in nobody's way.
  await call("DELETE", "/v1/schedules/two");
  expect((await call("PUT", "/v1/schedules/one", { cron: "0 2 * * *" })).status).toBe(200);
});

test("schedules: two arrays on disks of their own: at one time", async () => {
  const { call } = await twoArrays(["p", "q", "r", "s", "t", "u"]);
  for (const array of ["one", "two"]) {
    expect((await call("PUT", `/v1/schedules/${array}`, { cron: "0 1 * * *" })).status).toBe(201);
  }
});

test("schedules: metrics: the next window, the last result, due and missed", async () => {
  const { call } = await withArray();
  const next = Date.parse((await body(call("PUT", PATH, NIGHTLY))).next) / 1_000;
  const metrics = await (await call("GET", "/metrics")).text();
  const lines = metrics.split("\n").filter((line) => line.startsWith("parityd_schedule_"));
  expect(lines).toEqual([
    `parityd_schedule_next_timestamp_seconds{array="raid_test"} ${next}`,
    ...["clean", "mismatches", "lost", "failed", "cancelled"].map(
      (result) => `parityd_schedule_last_result{array="raid_test",result="${result}"} 0`,
    ),
    'parityd_schedule_due{array="raid_test"} 1',
    'parityd_schedule_missed{array="raid_test"} 0',
  ]);
});

test("schedules: in the OpenAPI document, with their bodies", async () => {
  const { call } = await startSimAppliance();
  const { paths } = await body(call("GET", "/openapi.json"));
  expect(Object.keys(paths["/v1/schedules/{array}"]).sort()).toEqual(["delete", "get", "put"]);
  const { properties } =
    paths["/v1/schedules/{array}"].put.requestBody.content["application/json"].schema;
  expect(Object.keys(properties)).toEqual(Object.keys(NIGHTLY));
});
