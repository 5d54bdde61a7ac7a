/**
 * src/base: the vocabulary that every layer stands on.
 *
 * Method: small domains are enumerated; the generator is compared with an independent statement of
 * its algorithm in BigInt arithmetic; the carver is checked for overlap and bounds.
 */
import { describe, expect, test } from "bun:test";
import { AssertionError, assert, unreachable } from "../../../src/base/assert.ts";
import * as errnos from "../../../src/base/errno.ts";
import { silentLog } from "../../../src/base/log.ts";
import {
  Carver,
  CONTROL_BYTES,
  createMemory,
  SharedMemory,
  WASM_PAGE_BYTES,
} from "../../../src/base/memory.ts";
import {
  fillRandom,
  nextBelow,
  nextFraction,
  type Random,
  SeededRandom,
} from "../../../src/base/random.ts";
import { err, ok } from "../../../src/base/result.ts";
import {
  formatBytes,
  GIB,
  isPowerOfTwo,
  KIB,
  MIB,
  ROW_BYTES,
  roundDown,
  roundUp,
  SECTOR_BYTES,
  TIB,
} from "../../../src/base/units.ts";

describe("assert", () => {
  test("assert: holds: nothing happens", () => {
    assert(true, "holds");
  });

  test("assert: does not hold: AssertionError with the message and its name", () => {
    const attempt = (): void => assert(false, "two is even");
    expect(attempt).toThrow(AssertionError);
    expect(attempt).toThrow("two is even");
    expect(new AssertionError("x").name).toBe("AssertionError");
    expect(new AssertionError("x")).toBeInstanceOf(Error);
  });

  test("unreachable: reached: AssertionError that names the value", () => {
    expect(() => unreachable("odd" as never)).toThrow(new AssertionError("unreachable: odd"));
  });
});

describe("errno", () => {
  const exported: readonly [string, unknown][] = Object.entries(errnos);
  const known = exported.filter((entry): entry is [string, number] => typeof entry[1] === "number");

  test("errno: every constant: named by its number, found by its name", () => {
    expect(known.length).toBeGreaterThan(30);
    for (const [name, errno] of known) {
      expect(errnos.errnoName(errno)).toBe(name);
      expect(errnos.errnoByName(name)).toBe(errno);
    }
  });

  test("errno: every constant: the number of this Linux", async () => {
    const { errno: system } = (await import("node:os")).constants;
    const numbers = new Map(Object.entries(system));
    // node:os leaves out what is not in POSIX; those are in linux/errno.h as written here.
    const linuxOnly = new Map([
      ["ENOTBLK", 15],
      ["EBADE", 52],
      ["ESHUTDOWN", 108],
      ["EREMOTEIO", 121],
    ]);
    for (const [name, errno] of known) {
      expect([name, errno]).toEqual([name, numbers.get(name) ?? linuxOnly.get(name) ?? -1]);
    }
  });

  test("errno: unknown: the number stays visible, the name is undefined", () => {
    for (const errno of [-1, 41, 58, 134, 512]) {
      expect(errnos.errnoName(errno)).toBe(`errno ${errno}`);
    }
    expect(errnos.errnoName(0)).toBe("errno 0");
    for (const name of ["", "-", "EFOO", "toString", "eio", "5"]) {
      expect(errnos.errnoByName(name)).toBeUndefined();
    }
  });
});

describe("result", () => {
  test("result: ok and err: tagged, with value or error", () => {
    expect(ok(5)).toEqual({ ok: true, value: 5 });
    expect(ok()).toEqual({ ok: true, value: undefined });
    expect(err({ kind: "gone" })).toEqual({ ok: false, error: { kind: "gone" } });
  });
});

describe("log", () => {
  test("log: silent: takes everything, says nothing", () => {
    expect(silentLog.write("error", "x", { a: 1 })).toBeUndefined();
  });
});

describe("units", () => {
  test("units: sizes: powers of 1024; a row is whole sectors", () => {
    expect([KIB, MIB, GIB, TIB]).toEqual([1, 2, 3, 4].map((power) => 1024 ** power));
    expect(ROW_BYTES % SECTOR_BYTES).toBe(0);
  });

  test("units: rounding: every value to 64 by every multiple to 16", () => {
    for (let multiple = 1; multiple <= 16; multiple += 1) {
      for (let value = 0; value <= 64; value += 1) {
        const down = roundDown(value, multiple);
        const up = roundUp(value, multiple);
        expect(down).toBe(Math.floor(value / multiple) * multiple);
        expect(up).toBe(Math.ceil(value / multiple) * multiple);
      }
    }
  });

  test("units: rounding: exact above 32 bits, up to the largest safe integer", () => {
    expect(roundDown(2 ** 53 - 1, ROW_BYTES)).toBe(2 ** 53 - ROW_BYTES);
    expect(roundUp(2 ** 45 + 1, ROW_BYTES)).toBe(2 ** 45 + ROW_BYTES);
    expect(roundUp(2 ** 45, ROW_BYTES)).toBe(2 ** 45);
  });

  test("units: powers of two: all 53 and their neighbours", () => {
    for (let power = 0; power <= 52; power += 1) expect(isPowerOfTwo(2 ** power)).toBe(true);
    for (let power = 2; power <= 48; power += 1) {
      expect([power, isPowerOfTwo(2 ** power - 1)]).toEqual([power, false]);
      expect([power, isPowerOfTwo(2 ** power + 1)]).toEqual([power, false]);
    }
    for (const value of [0, -1, -2, 0.5, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect([value, isPowerOfTwo(value)]).toEqual([value, false]);
    }
  });

  test("units: sizes for people: one decimal from KiB on", () => {
    const samples: [number, string][] = [
      [0, "0 B"],
      [1023, "1023 B"],
      [1024, "1.0 KiB"],
      [1536, "1.5 KiB"],
      [MIB, "1.0 MiB"],
      [8 * TIB, "8.0 TiB"],
      [2 ** 50, "1.0 PiB"],
      [2 ** 62, "4096.0 PiB"],
    ];
    for (const [bytes, text] of samples) expect(formatBytes(bytes)).toBe(text);
  });
});

describe("random", () => {
  /** sfc32 as published, with the seeding of SeededRandom, in BigInt arithmetic modulo 2^32. */
  function* reference(seed: number): Generator<number, never> {
    const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
    let [a, b, c, counter] = [0x9e3779b9n, 0x243f6a88n, u32(BigInt(seed)), 1n];
    for (let turn = 0; ; turn += 1) {
      const sum = u32(a + b + counter);
      counter = u32(counter + 1n);
      a = b ^ (b >> 9n);
      b = u32(c + (c << 3n));
      c = u32((u32(c << 21n) | (c >> 11n)) + sum);
      if (turn >= 16) yield Number(sum);
    }
  }

  test("random: a thousand numbers of several seeds: sfc32's", () => {
    for (const seed of [0, 1, 42, 0x7fffffff, 0x80000000, 0xffffffff]) {
      const random = new SeededRandom(seed);
      const expected = reference(seed);
      for (let turn = 0; turn < 1000; turn += 1) {
        expect(random.nextU32()).toBe(expected.next().value);
      }
    }
  });

  test("random: split: repeatable, and apart from its parent", () => {
    const take = (random: Random): number[] => Array.from({ length: 8 }, () => random.nextU32());
    expect(take(new SeededRandom(7).split())).toEqual(take(new SeededRandom(7).split()));
    const parent = new SeededRandom(7);
    const child = parent.split();
    expect(take(child)).not.toEqual(take(parent));
  });

  const fixed = (value: number): Random => ({ nextU32: () => value });

  test("random: fraction: from 0 to below 1", () => {
    expect(nextFraction(fixed(0))).toBe(0);
    expect(nextFraction(fixed(0x80000000))).toBe(0.5);
    expect(nextFraction(fixed(0xffffffff))).toBeLessThan(1);
  });

  test("random: below a bound: both ends reached, never the bound", () => {
    for (const bound of [1, 2, 3, 1000, 2 ** 32]) {
      expect(nextBelow(fixed(0), bound)).toBe(0);
      expect(nextBelow(fixed(0xffffffff), bound)).toBe(bound - 1);
    }
  });

  test("random: fill: every byte set, from the low byte of each number", () => {
    const bytes = new Uint8Array(5).fill(0xee);
    let next = 0x0f0;
    fillRandom({ nextU32: () => (next += 0x10b) }, bytes);
    expect([...bytes]).toEqual([1, 2, 3, 4, 5].map((turn) => (0xf0 + turn * 0x0b) & 0xff));
  });
});

describe("memory", () => {
  const memory = new SharedMemory(createMemory(3 * WASM_PAGE_BYTES));

  test("memory: size: control area, pool and one spare slab; fixed and shared", () => {
    expect(memory.bytes.length).toBe(CONTROL_BYTES + 4 * WASM_PAGE_BYTES);
    expect(memory.memory.buffer).toBeInstanceOf(SharedArrayBuffer);
    expect(() => memory.memory.grow(1)).toThrow();
  });

  test("memory: views: all on the same bytes", () => {
    memory.view.setUint32(64, 0x80000001, true);
    expect([...memory.bytes.subarray(64, 68)]).toEqual([1, 0, 0, 0x80]);
    expect(memory.u32[16]).toBe(0x80000001);
    expect(memory.i32[16]).toBe(0x80000001 | 0);
  });

  test("carver: every mix of sizes and alignments: aligned, in order, no overlap", () => {
    const carver = new Carver({ start: ROW_BYTES, end: MIB });
    let end = ROW_BYTES;
    for (const bytes of [1, 7, 8, 64, 4096]) {
      for (let alignment = 1; alignment <= ROW_BYTES; alignment *= 2) {
        const address = carver.carve({ bytes, alignment });
        expect(address % alignment).toBe(0);
        expect(address).toBeGreaterThanOrEqual(end);
        expect(address).toBeLessThan(end + alignment);
        end = address + bytes;
      }
    }
  });

  test("carver: to the last byte and past it: given, then an assertion", () => {
    const carver = new Carver({ start: ROW_BYTES, end: ROW_BYTES + 16 });
    expect(carver.carve({ bytes: 16, alignment: 8 })).toBe(ROW_BYTES);
    expect(() => carver.carve({ bytes: 1, alignment: 1 })).toThrow(AssertionError);
    expect(() => carver.carve({ bytes: 0, alignment: 3 })).toThrow(AssertionError);
  });

  test("carver: a start at address 0: refused", () => {
    for (const start of [0, 1, ROW_BYTES - 1]) {
      expect(() => new Carver({ start, end: MIB })).toThrow(AssertionError);
    }
  });
});
