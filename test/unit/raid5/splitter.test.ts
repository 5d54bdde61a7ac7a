/**
 * Goal: a request is split whole where it is small, whoever has large ones under way; large ones
 * get their pieces in turn, few in a turn beside small ones; what is used up stops all, in order.
 * Method: the splitter over a table of requests, with a clock that is moved by hand. A part has
 * 64 KiB.
 */
import { expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import { RequestTable } from "../../../src/raid5/request-table.ts";
import { Splitter } from "../../../src/raid5/splitter.ts";
import { Timers } from "../../../src/reactor/timers.ts";

const PART = 64 * KIB;

class Bench {
  nowMs = 1_000;
  readonly requests = new RequestTable(64);
  /** Requests whose parts were started, in order. */
  started: number[] = [];
  isUsedUp = false;
  readonly splitter: Splitter;

  constructor() {
    const { requests } = this;
    this.splitter = new Splitter({
      requests,
      timers: new Timers({ nowMs: () => this.nowMs, wallMs: () => 0 }),
      startPart: (request) => {
        if (this.isUsedUp) return false;
        requests.parts[request]! += 1;
        const left = requests.bytes[request]! - requests.splitBytes[request]!;
        requests.splitBytes[request]! += Math.min(PART, left);
        this.started.push(request);
        return true;
      },
    });
  }

  add(bytes: number): number {
    const request = this.requests.allocate();
    this.requests.bytes[request] = bytes;
    this.splitter.add(request);
    return request;
  }

  /** The requests whose parts began in this turn. */
  turn(): number[] {
    this.started = [];
    this.splitter.turn();
    return this.started;
  }

  /** Split to its end: nothing but its parts is under way. */
  isSplit(request: number): boolean {
    return this.requests.splitBytes[request] === this.requests.bytes[request];
  }
}

test("splitter: large requests alone: 4 MiB a turn", () => {
  const bench = new Bench();
  bench.turn();
  const large = bench.add(9 * MIB);
  expect(bench.started.length * PART).toBe(4 * MIB);
  expect(bench.splitter.isDue).toBe(true);
  expect([bench.turn().length * PART, bench.splitter.isDue]).toEqual([4 * MIB, true]);
  expect([bench.turn().length * PART, bench.splitter.isDue]).toEqual([MIB, false]);
  expect(bench.isSplit(large)).toBe(true);
  // No part of it has finished, and it is not being split any more.
  expect(bench.requests.parts[large]).toBe(9 * 16);
});

test("splitter: a small one beside a large one: whole, at once; the large one a part a turn", () => {
  const bench = new Bench();
  bench.add(4 * KIB);
  bench.turn();
  const large = bench.add(32 * MIB);
  for (let turns = 0; turns < 20; turns += 1) {
    bench.started = [];
    const small = bench.add(128 * KIB);
    expect(bench.started.filter((request) => request === small).length).toBe(2);
    expect(bench.isSplit(small)).toBe(true);
    expect(bench.turn()).toEqual([large]);
    expect(bench.splitter.isDue).toBe(true);
  }
});

test("splitter: 20 ms behind the last small one: at full speed again", () => {
  const bench = new Bench();
  bench.add(4 * KIB);
  bench.turn();
  bench.add(32 * MIB);
  bench.nowMs += 19;
  expect(bench.turn().length).toBe(1);
  bench.nowMs += 2;
  expect(bench.turn().length * PART).toBe(4 * MIB);
});

test("splitter: two large ones: in turn", () => {
  const bench = new Bench();
  bench.add(4 * KIB);
  bench.turn();
  const [first, second] = [bench.add(MIB), bench.add(MIB)];
  bench.turn();
  const turns = Array.from({ length: 6 }, () => bench.turn());
  expect(new Set(turns.flat())).toEqual(new Set([first, second]));
  for (const [index, turn] of turns.entries()) {
    if (index > 0) expect(turn).not.toEqual(turns[index - 1]!);
  }
});

test("splitter: what is needed is used up: all wait, in order, and nothing is due", () => {
  const bench = new Bench();
  bench.isUsedUp = true;
  const [first, second] = [bench.add(MIB), bench.add(4 * KIB)];
  expect([bench.started, bench.splitter.isDue]).toEqual([[], false]);
  expect(bench.turn()).toEqual([]);
  bench.isUsedUp = false;
  bench.nowMs += 100;
  const started = bench.turn();
  expect([started[0], started.at(-1), started.length]).toEqual([first, second, 17]);
  expect([bench.isSplit(first), bench.isSplit(second)]).toEqual([true, true]);
});
