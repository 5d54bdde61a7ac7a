/**
 * Goal: whoever sends wrong tokens is told to wait after ten of them a minute, and nobody with a
 * good one waits for that, not even behind the same address.
 * Method: the limit on a clock by hand, its edges enumerated; then the real app.
 */
import { expect, test } from "bun:test";
import {
  ADDRESSES_MAX,
  FAILURES_MAX,
  LoginLimit,
  WINDOW_MS,
} from "../../../src/api/login-limit.ts";
import { startSimAppliance } from "../../helpers/sim-appliance.ts";

const A = "192.0.2.7";
const TOKEN = "admin-token-0123456789";

function limitAt(startMs = 1_000) {
  const clock = { nowMs: startMs };
  return { clock, limit: new LoginLimit(() => clock.nowMs) };
}

test("login limit: the last failure that is let through, and each second of the wait", () => {
  const { clock, limit } = limitAt();
  for (let count = 1; count <= FAILURES_MAX; count += 1) {
    expect(limit.waitSeconds(A)).toBe(0);
    limit.failed(A);
  }
  for (let passedMs = 0; passedMs < WINDOW_MS; passedMs += 500) {
    clock.nowMs = 1_000 + passedMs;
    expect(limit.waitSeconds(A)).toBe(Math.ceil((WINDOW_MS - passedMs) / 1_000));
  }
  clock.nowMs = 1_000 + WINDOW_MS;
  expect(limit.waitSeconds(A)).toBe(0);
  limit.failed(A);
  expect(limit.waitSeconds(A)).toBe(0);
});

test("login limit: never more than so many in any minute, however they are spread", () => {
  for (const everyMs of [1, 700, 4_000, 5_999, 6_000, 7_000]) {
    const { clock, limit } = limitAt();
    const looked: number[] = [];
    for (; clock.nowMs < 300_000; clock.nowMs += everyMs) {
      if (limit.waitSeconds(A) > 0) continue;
      looked.push(clock.nowMs);
      limit.failed(A);
    }
    expect(looked.length).toBeGreaterThan(FAILURES_MAX);
    for (let at = FAILURES_MAX; at < looked.length; at += 1) {
      expect(looked[at]! - looked[at - FAILURES_MAX]!).toBeGreaterThanOrEqual(WINDOW_MS);
    }
  }
});

test("login limit: what is one address and what is another", () => {
  for (const [one, other, isSame] of [
    [A, `::ffff:${A}`, true],
    [A, "192.0.2.8", false],
    ["2001:db8::1", "2001:db8::2", true],
    ["2001:db8::1", "2001:db8:0:0:ffff::1", true],
    ["2001:db8::1", "2001:db8:0:1::1", false],
    ["fe80::1%eth0", "fe80::1%eth1", true],
    ["::1", A, false],
  ] as const) {
    const { limit } = limitAt();
    for (let count = 0; count < FAILURES_MAX; count += 1) limit.failed(one);
    expect([one, other, limit.waitSeconds(other) > 0]).toEqual([one, other, isSame]);
  }
});

test("login limit: so many addresses are remembered, the one that failed longest ago goes", () => {
  const { limit } = limitAt();
  const address = (index: number): string => `10.0.${index >> 8}.${index & 255}`;
  for (let index = 0; index < ADDRESSES_MAX; index += 1) {
    for (let count = 0; count < FAILURES_MAX; count += 1) limit.failed(address(index));
  }
  limit.failed(address(0));
  limit.failed(A);
  expect(limit.waitSeconds(address(0))).toBeGreaterThan(0);
  expect(limit.waitSeconds(address(1))).toBe(0);
  expect(limit.waitSeconds(address(2))).toBeGreaterThan(0);
});

test("api: too many wrong tokens: 429 for wrong ones alone; a good one passes from there", async () => {
  const clock = { nowMs: 0 };
  const fake = await startSimAppliance({
    tcpGuard: {
      grantOf: (token) => (token === TOKEN ? { scope: "admin", name: "ops" } : null),
      hosts: [],
    },
    nowMs: () => clock.nowMs,
  });
  const get = (token: string | null, peer: string, path = "/v1/arrays") => {
    const headers: Record<string, string> =
      token === null ? {} : { Authorization: `Bearer ${token}` };
    return fake.app.request(path, { headers }, { transport: "tcp", peer });
  };
  // Without a token nothing was guessed.
  for (let count = 0; count < 30; count += 1) expect((await get(null, A)).status).toBe(401);
  for (let count = 0; count < FAILURES_MAX; count += 1) {
    expect((await get("wrong-token-of-mine", A)).status).toBe(401);
    expect((await get(TOKEN, A)).status).toBe(200);
  }
  // A good one in between neither is refused nor begins the count anew.
  for (let count = 0; count < 2 * FAILURES_MAX; count += 1) {
    const refused = await get("wrong-token-of-mine", A);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("Retry-After")).toBe("60");
    expect(await refused.json()).toMatchObject({
      type: "urn:parityd:problem:too-many-logins",
      detail: expect.stringContaining("60 seconds"),
    });
    expect((await get(TOKEN, A)).status).toBe(200);
  }
  expect((await get(null, A)).status).toBe(401);
  expect((await get(null, A, "/-/ready")).status).toBe(200);
  expect((await get("wrong-token-of-mine", "192.0.2.8")).status).toBe(401);
  expect((await fake.call("GET", "/v1/arrays")).status).toBe(200);
  clock.nowMs = WINDOW_MS;
  expect((await get("wrong-token-of-mine", A)).status).toBe(401);
});
