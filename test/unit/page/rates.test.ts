/** Goal: throughput and latency are those of the time between two looks, or nothing. */
import { expect, test } from "bun:test";
import type { ArrayStatus, MemberStatus } from "../../../src/array/statuses.ts";
import { arrayKey, memberKey, pointBetween, RateHistory, sumOf } from "../../../src/page/rates.ts";

const ZERO = {
  ...{ reads: 0, writes: 0, flushes: 0, bytesRead: 0, bytesWritten: 0, readMs: 0, writeMs: 0 },
};
const member = (role: number, io: Partial<typeof ZERO>): MemberStatus =>
  ({ role, io: { ...ZERO, ...io } }) as MemberStatus;
const array = (...members: MemberStatus[]): ArrayStatus =>
  ({ uuid: "u", members }) as unknown as ArrayStatus;

test("rates: two looks: bytes a second, and milliseconds a request", () => {
  const before = { ...ZERO, reads: 10, bytesRead: 1_000, readMs: 5 };
  const after = { ...before, reads: 14, bytesRead: 5_000, readMs: 13 };
  expect(pointBetween(before, after, { beforeMs: 1_000, afterMs: 3_000 })).toEqual({
    ...{ at: 3, read: 2_000, write: 0, readMs: 2, writeMs: null },
  });
});

test("rates: a counter that became smaller, and no time between: nothing", () => {
  const times = { beforeMs: 0, afterMs: 1_000 };
  expect(pointBetween({ ...ZERO, flushes: 1 }, ZERO, times)).toBeNull();
  expect(pointBetween(ZERO, ZERO, { beforeMs: 5, afterMs: 5 })).toBeNull();
});

test("rates: an array: the sum of its members", () => {
  const sum = sumOf([member(0, { reads: 1, readMs: 2 }), member(1, { reads: 3, writes: 4 })]);
  expect(sum).toEqual({ ...ZERO, reads: 4, readMs: 2, writes: 4 });
});

test("rates: a history: points for the array and each member, bounded; who is gone is gone", () => {
  const history = new RateHistory();
  for (let second = 0; second <= 400; second += 1) {
    const bytesRead = second * 100;
    history.look([array(member(0, { bytesRead }), member(1, {}))], second * 1_000);
  }
  const points = history.pointsOf(arrayKey("u"));
  expect(points).toHaveLength(300);
  expect([points[0]?.at, points.at(-1)?.at, points.at(-1)?.read]).toEqual([101, 400, 100]);
  expect(history.pointsOf(memberKey("u", 1)).at(-1)?.read).toBe(0);
  history.look([array(member(0, {}))], 401_000);
  expect(history.pointsOf(memberKey("u", 1))).toEqual([]);
  expect(history.pointsOf(memberKey("u", 0))).toHaveLength(300);
});
