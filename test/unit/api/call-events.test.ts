/**
 * Goal: whoever looks later sees each change that was asked for and each login that failed, and no
 * secret.
 * Method: calls over both transports against the real app; the events are read back as stored.
 */
import { expect, test } from "bun:test";
import { CallEvents } from "../../../src/api/call-events.ts";
import type { ArrayEvent } from "../../../src/array/protocol.ts";
import { other } from "../../helpers/dry-run-steps.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { TEST_ARRAY } from "../../helpers/sim-reactor.ts";

const TOKEN = "admin-token-0123456789";

const grantOf = (token: string) =>
  token === TOKEN ? ({ scope: "admin", name: "ops" } as const) : null;

async function startBoth() {
  const fake = await startSimAppliance({
    tcpGuard: { grantOf, hosts: [] },
  });
  await addTestArray(fake);
  const startId = fake.appliance.events.lastId;
  const overTcp = async (method: string, path: string, token: string) => {
    const headers = { Authorization: `Bearer ${token}`, Host: "127.0.0.1" };
    const bindings = { transport: "tcp", peer: "192.0.2.7" } as const;
    return (await fake.app.request(path, { method, headers }, bindings)).status;
  };
  const trail = () =>
    fake.appliance.events.since(startId, 1_000).filter(({ kind }) => kind.startsWith("api."));
  return { ...fake, overTcp, trail };
}

test("api events: a call that changed something, over each transport; none that only read", async () => {
  const { call, overTcp, trail } = await startBoth();
  await call("GET", "/v1/arrays");
  await call("POST", "/v1/arrays/raid_test/stop", {});
  expect(await overTcp("POST", "/v1/arrays/raid_test/start?x=secret", TOKEN)).toBe(422);
  expect(await overTcp("POST", "/v1/arrays/raid_test/start", TOKEN)).toBe(200);
  expect(await overTcp("DELETE", "/v1/exports/none", TOKEN)).toBe(404);
  expect(trail()).toMatchObject([
    {
      ...{ kind: "api.call", severity: "info", array: "raid_test", drive: null, job: null },
      message: "POST /v1/arrays/raid_test/stop: 200 (unix)",
    },
    { message: "POST /v1/arrays/raid_test/start: 200 (192.0.2.7, token ops)", array: "raid_test" },
  ]);
  expect(JSON.stringify(trail())).not.toMatch(/secret|token-0123/);
});

test("api events: a call on an export names its array, also one that withdraws or moves it", async () => {
  const daemon = await startBoth();
  const { call, trail, reactor } = daemon;
  await other(daemon);
  const before = trail().length;
  await call("PUT", "/v1/exports/disk", { array: TEST_ARRAY });
  await call("PUT", "/v1/exports/disk", { array: "other" });
  await call("DELETE", "/v1/exports/disk");
  await call("PUT", `/v1/schedules/${TEST_ARRAY}`, { cron: "0 2 * * *", windowMinutes: 30 });
  const uuidOf = (name: string) => reactor.world.status(name).uuid;
  const told = trail().slice(before);
  expect(told.map(({ message, array, arrayUuid }) => [message, array, arrayUuid])).toEqual([
    ["PUT /v1/exports/disk: 201 (unix)", TEST_ARRAY, uuidOf(TEST_ARRAY)],
    ["PUT /v1/exports/disk: 200 (unix)", "other", uuidOf("other")],
    ["DELETE /v1/exports/disk: 204 (unix)", "other", uuidOf("other")],
    [`PUT /v1/schedules/${TEST_ARRAY}: 201 (unix)`, TEST_ARRAY, null],
  ]);
});

test("api events: failed logins at the first and each power of two, without the token", async () => {
  const { overTcp, trail } = await startBoth();
  for (let count = 1; count <= 20; count += 1) {
    const status = await overTcp("GET", "/v1/arrays", "wrong-token-of-mine");
    expect([count, status]).toEqual([count, count <= 10 ? 401 : 429]);
  }
  expect(await overTcp("GET", "/-/healthy", "wrong-token-of-mine")).toBe(200);
  const messages = trail().map(({ kind, severity, message }) => `${kind} ${severity} ${message}`);
  const first = "api.login-failed warning login failed from 192.0.2.7";
  expect(messages).toEqual([
    `${first}: unauthorized`,
    ...[2, 4, 8].map((count) => `${first}: unauthorized, ${count} times so far`),
    `${first}: too-many-logins, 16 times so far`,
  ]);
});

test("api events: failures are counted per peer, of so many peers at most", () => {
  const appended: ArrayEvent[] = [];
  const events = {
    append: (event: ArrayEvent) => {
      appended.push(event);
      return { ...event, id: appended.length };
    },
  };
  const trail = new CallEvents({ events, exports: { arrayBehind: () => null } });
  const fail = (peer: string) => trail.loginFailed(peer, "x");
  for (let peer = 0; peer < 1_025; peer += 1) fail(`p${peer}`);
  expect(appended).toHaveLength(1_025);
  // p0 has been forgotten, p1024 has not: its second failure, and its third, which is not told.
  for (const peer of ["p0", "p1024", "p1024"]) fail(peer);
  expect(appended.slice(1_025).map(({ message }) => message)).toEqual([
    "login failed from p0: x",
    "login failed from p1024: x, 2 times so far",
  ]);
});
