/**
 * Goal: what a load writes is told apart from everything else, what it expects of every byte is
 * what was acknowledged, and a store that lies in any way is found out.
 *
 * Method: stamped ranges at every alignment within a sector are compared with slices of whole
 * sectors; each way in which a sector can be wrong is made and named. The shadow is compared with
 * a plain array under seeded writes; pairs of ranges are enumerated. A checked load runs over a
 * store in memory, once for each way of lying.
 */
import { expect, test } from "bun:test";
import { EIO } from "../../../src/base/errno.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { err, ok } from "../../../src/base/result.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { CheckedLoad, type LoadLink } from "../../../src/nbd/client/load/checked-load.ts";
import { HeldRanges } from "../../../src/nbd/client/load/held-ranges.ts";
import { Lanes } from "../../../src/nbd/client/load/lanes.ts";
import { Ledger } from "../../../src/nbd/client/load/ledger.ts";
import { Shadow } from "../../../src/nbd/client/load/shadow.ts";
import {
  describeSector,
  readStamp,
  stampedBytes,
  writeStamp,
} from "../../../src/nbd/client/load/stamp.ts";

const STAMP = { run: 7, version: 3, writer: 2 };

test("stamp: a range at any byte: the slice of the whole sectors", () => {
  const whole = stampedBytes({ offset: 5 * 512, bytes: 4 * 512 }, STAMP);
  for (let from = 0; from < 512; from += 1) {
    for (const bytes of [1, 2, 511, 512, 513, 1024, 1500]) {
      const part = stampedBytes({ offset: 5 * 512 + from, bytes }, STAMP);
      expect(part.length).toBe(bytes);
      expect(Buffer.compare(part, whole.subarray(from, from + bytes))).toBe(0);
    }
  }
});

test("stamp: a whole sector: named with version and writer", () => {
  const sector = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
  expect(describeSector(sector, { run: 7, lba: 9 })).toBe("version 3 of writer 2");
});

test("stamp: each way of being wrong: named", () => {
  const place = { run: 7, lba: 9 };
  const changed = (at: number): Uint8Array => {
    const sector = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
    sector[at]! ^= 1;
    return sector;
  };
  expect(describeSector(new Uint8Array(512), place)).toBe("zeros");
  expect(describeSector(changed(0), place)).toBe("no stamp");
  for (let at = 4; at < 28; at += 1) {
    expect(describeSector(changed(at), place)).toBe("a stamp with a wrong checksum");
  }
  for (let at = 28; at < 512; at += 1) {
    const torn = `torn at byte ${at - (at % 4)} of version 3 of sector 9`;
    expect(describeSector(changed(at), place)).toBe(torn);
  }
  const whole = stampedBytes({ offset: 9 * 512, bytes: 512 }, STAMP);
  expect(describeSector(whole, { run: 8, lba: 9 })).toBe("a stamp of another run");
  expect(describeSector(whole, { run: 7, lba: 10 })).toContain("but of sector 9");
  expect(describeSector(whole.subarray(1), place)).not.toContain("version");
});

test("stamp: the XOR of three sectors: no stamp", () => {
  const one = stampedBytes({ offset: 0, bytes: 512 }, STAMP);
  const two = stampedBytes({ offset: 512, bytes: 512 }, { ...STAMP, version: 4 });
  const three = stampedBytes({ offset: 1024, bytes: 512 }, { ...STAMP, version: 5 });
  const sum = one.map((byte, at) => byte ^ two[at]! ^ three[at]!);
  for (const lba of [0, 1, 2, 3]) {
    expect(describeSector(sum, { run: 7, lba })).not.toMatch(/^version \d+ of writer \d+$/);
  }
});

test("shadow: seeded writes over page borders: every byte as in a plain array", () => {
  const sizeBytes = 3 * MIB;
  const shadow = new Shadow({ sizeBytes, run: 7 });
  const plain = new Uint8Array(sizeBytes);
  const random = new SeededRandom(11);
  for (let version = 1; version <= 200; version += 1) {
    const bytes = 1 + nextBelow(random, 200_000);
    const offset = nextBelow(random, sizeBytes - bytes);
    const data = stampedBytes({ offset, bytes }, { ...STAMP, version });
    shadow.record(offset, data);
    plain.set(data, offset);
  }
  expect(shadow.findWrong(0, plain)).toBeNull();
  for (let turn = 0; turn < 300; turn += 1) {
    const offset = nextBelow(random, sizeBytes - 5_000);
    const bytes = 1 + nextBelow(random, 5_000);
    const actual = plain.slice(offset, offset + bytes);
    expect(shadow.findWrong(offset, actual)).toBeNull();
    const at = nextBelow(random, bytes);
    actual[at]! ^= 0x40;
    expect(shadow.findWrong(offset, actual)).toContain(`byte ${offset + at} `);
  }
});

test("shadow: zeros over stamps, across a page: zeros, and nothing around them", () => {
  const shadow = new Shadow({ sizeBytes: 4 * MIB, run: 7 });
  const all = stampedBytes({ offset: 0, bytes: 4 * MIB }, STAMP);
  shadow.record(0, all);
  shadow.recordZeros(MIB - 3, 2 * MIB + 5);
  expect(shadow.findWrong(0, all)).toContain(`byte ${MIB - 3} `);
  all.fill(0, MIB - 3, 3 * MIB + 2);
  expect(shadow.findWrong(0, all)).toBeNull();
});

test("shadow: what was never written: zero, and stale data is named", () => {
  const shadow = new Shadow({ sizeBytes: 2 * MIB, run: 7 });
  expect(shadow.findWrong(MIB - 100, new Uint8Array(200))).toBeNull();
  const old = stampedBytes({ offset: 4096, bytes: 512 }, STAMP);
  expect(shadow.findWrong(4096, old)).toBe(
    "byte 4096 (sector 8) holds version 3 of writer 2 where zeros was acknowledged",
  );
  shadow.record(4096, stampedBytes({ offset: 4096, bytes: 512 }, { ...STAMP, version: 4 }));
  expect(shadow.findWrong(4096, old)).toContain("holds version 3 of writer 2 where version 4 of");
});

test("held ranges: every pair of ranges in 8 bytes: refused exactly where they overlap", () => {
  for (let start = 0; start < 8; start += 1) {
    for (let bytes = 1; start + bytes <= 8; bytes += 1) {
      for (let other = 0; other < 8; other += 1) {
        for (let otherBytes = 1; other + otherBytes <= 8; otherBytes += 1) {
          const ranges = new HeldRanges();
          const handle = ranges.tryHold(start, bytes);
          const overlaps = start < other + otherBytes && other < start + bytes;
          expect(ranges.tryHold(other, otherBytes) === 0).toBe(overlaps);
          ranges.release(handle);
          if (overlaps) expect(ranges.tryHold(other, otherBytes)).not.toBe(0);
        }
      }
    }
  }
});

test("held ranges: a claim with the first draws taken: the first that is free", () => {
  const ranges = new HeldRanges();
  ranges.tryHold(0, 10);
  const draws = [0, 9, 10, 20].map((offset) => ({ offset, bytes: 4 }));
  const { range, handle } = ranges.claim(() => draws.shift()!);
  expect(range.offset).toBe(10);
  expect(draws.length).toBe(1);
  expect(ranges.tryHold(12, 1)).toBe(0);
  ranges.release(handle);
  expect(ranges.tryHold(12, 1)).not.toBe(0);
});

test("held ranges: two wait for one range: one after the other", async () => {
  const ranges = new HeldRanges();
  const first = ranges.tryHold(0, 10);
  const got: number[] = [];
  const waiting = [1, 2].map(async (name) => {
    const handle = await ranges.hold(5, 10);
    got.push(name);
    expect(ranges.count).toBe(1);
    await Promise.resolve();
    ranges.release(handle);
  });
  expect(got).toEqual([]);
  ranges.release(first);
  await Promise.all(waiting);
  expect(got).toEqual([1, 2]);
  expect(ranges.count).toBe(0);
});

test("stamp: every field at its largest, written anywhere: read back the same", () => {
  const stamp = { run: 2 ** 32 - 1, lba: 2 ** 53 - 1, version: 2 ** 32 - 2, writer: 2 ** 32 - 3 };
  const target = new Uint8Array(1100);
  for (const at of [0, 1, 4, 511, 588]) {
    writeStamp(target, at, stamp);
    expect(readStamp(target.subarray(at, at + 512))).toEqual({ kind: "stamp", stamp });
  }
  const whole = stampedBytes({ offset: 5 * 512, bytes: 512 }, STAMP);
  writeStamp(target, 0, { ...STAMP, lba: 5 });
  expect(Buffer.compare(whole, target.subarray(0, 512))).toBe(0);
});

test("lanes: stopped, ended by a step, or not to go on: no step begins after that", async () => {
  let mayGoOn = true;
  const lanes = new Lanes(() => mayGoOn);
  const steps = { ending: 0, failing: 0, stopped: 0 };
  lanes.start(2, async () => {
    steps.ending += 1;
    return steps.ending < 5;
  });
  await lanes.ended();
  expect(steps.ending).toBe(6); // The other lane had begun its step.
  lanes.start(3, async () => {
    steps.failing += 1;
    if (steps.failing === 10) mayGoOn = false;
    return true;
  });
  await lanes.ended();
  expect(steps.failing).toBeGreaterThanOrEqual(10);
  expect(steps.failing).toBeLessThan(13);
  mayGoOn = true;
  lanes.start(1, async () => {
    steps.stopped += 1;
    if (steps.stopped === 3) lanes.stop();
    return true;
  });
  await lanes.ended();
  expect(steps.stopped).toBe(3);
});

const STORE_BYTES = 256 * KIB;

type Lie = "lost" | "misplaced" | "torn" | "stale" | "other-run" | "flipped";

/** A store in memory; with one of its writes it lies. */
class LyingStore implements LoadLink {
  readonly bytes = new Uint8Array(STORE_BYTES);
  refuses: "write" | "read" | "flush" | null = null;
  private readonly lie: Lie | null;
  private readonly lieAt: number;
  private writes = 0;

  constructor(lie: Lie | null, lieAt = 0) {
    this.lie = lie;
    this.lieAt = lieAt;
  }

  async write(offset: number, data: Uint8Array) {
    await Promise.resolve();
    this.writes += 1;
    if (this.refuses === "write") return err(EIO);
    const isLying = this.writes === this.lieAt;
    if (isLying && this.lie === "lost") return ok();
    if (isLying && this.lie === "misplaced") {
      this.bytes.set(data, offset === 0 ? 1 : offset - 1);
      return ok();
    }
    if (isLying && this.lie === "torn") {
      this.bytes.set(data.subarray(0, Math.floor(data.length / 2)), offset);
      return ok();
    }
    this.bytes.set(data, offset);
    if (isLying && this.lie === "flipped") this.bytes[offset + data.length - 1]! ^= 1;
    if (isLying && this.lie === "other-run") {
      const range = { offset, bytes: data.length };
      this.bytes.set(stampedBytes(range, { run: 8, version: 40, writer: 1 }), offset);
    }
    if (isLying && this.lie === "stale") {
      const range = { offset, bytes: data.length };
      this.bytes.set(stampedBytes(range, { run: 7, version: 1, writer: 1 }), offset);
    }
    return ok();
  }

  async read(offset: number, bytes: number) {
    await Promise.resolve();
    if (this.refuses === "read") return err(EIO);
    return ok(this.bytes.slice(offset, offset + bytes));
  }

  async flush() {
    await Promise.resolve();
    return this.refuses === "flush" ? err(EIO) : ok();
  }
}

/** Writes of any bytes, four at a time, over a store; the failures. */
async function runChecked(store: LyingStore, checksMax: number): Promise<CheckedLoad> {
  const shadow = new Shadow({ sizeBytes: STORE_BYTES, run: 7 });
  const ledger = new Ledger(() => 0);
  const load = new CheckedLoad({ shadow, ledger, run: 7, checking: store, checksMax });
  const random = new SeededRandom(3);
  let left = 200;
  load.lanes.start(4, async () => {
    left -= 1;
    const { range, handle } = load.ranges.claim(() => {
      const bytes = 2 + nextBelow(random, 5000);
      return { offset: nextBelow(random, STORE_BYTES - bytes), bytes };
    });
    if (await load.submit(store, range, { writer: 1, fua: false })) {
      await load.readBack(range, handle);
      if (left % 20 === 0) await load.flush(store);
    } else load.ranges.release(handle);
    return left > 0;
  });
  await load.ended();
  await load.checkAll();
  return load;
}

test("checked load: a store that is honest: no failure, every write is read back", async () => {
  for (const checksMax of [0, 1, 8]) {
    const { ledger, ranges } = await runChecked(new LyingStore(null), checksMax);
    expect(ledger.failures).toEqual([]);
    expect(ledger.writesAcknowledged).toBeGreaterThanOrEqual(200);
    expect(ledger.bytesVerified).toBe(ledger.bytesWritten + STORE_BYTES);
    expect(ranges.count).toBe(0);
  }
});

test.each(["lost", "misplaced", "torn", "stale", "other-run", "flipped"] as const)(
  "checked load: a store that lies once (%s): found at once, and the load ends",
  async (lie) => {
    for (let lieAt = 40; lieAt < 60; lieAt += 1) {
      const { ledger } = await runChecked(new LyingStore(lie, lieAt), 0);
      expect(ledger.failures[0]).toContain("under load: byte ");
      expect(ledger.writesAcknowledged).toBeLessThan(lieAt + 10);
    }
  },
);

test.each([
  ["write", "the write of "],
  ["read", "the read of "],
  ["flush", "FLUSH was refused with EIO"],
] as const)("checked load: a %s that is refused: a failure", async (what, text) => {
  const store = new LyingStore(null);
  store.refuses = what;
  const { ledger, ranges } = await runChecked(store, 4);
  expect(ledger.failures[0]).toContain(text);
  expect(ledger.failures[0]).toContain("EIO");
  expect(ranges.count).toBe(0);
});

test("checked load: checks that hang: no more than may wait, and one for each lane", async () => {
  const store = new LyingStore(null);
  const waiting: (() => void)[] = [];
  const checking: LoadLink = {
    write: (offset, data) => store.write(offset, data),
    flush: () => store.flush(),
    read: async (offset, bytes) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return store.read(offset, bytes);
    },
  };
  const shadow = new Shadow({ sizeBytes: STORE_BYTES, run: 7 });
  const ledger = new Ledger(() => 0);
  const load = new CheckedLoad({ shadow, ledger, run: 7, checking, checksMax: 5 });
  let next = 0;
  load.lanes.start(3, async () => {
    const range = { offset: next * 512, bytes: 512 };
    next += 1;
    const handle = load.ranges.tryHold(range.offset, range.bytes);
    if (await load.submit(store, range, { writer: 1, fua: false })) {
      await load.readBack(range, handle);
    }
    return next < 100;
  });
  let most = 0;
  for (let turn = 0; turn < 20_000 && next < 100; turn += 1) {
    await Promise.resolve();
    most = Math.max(most, load.ranges.count);
    if (turn % 50 === 49) waiting.shift()!();
  }
  while (waiting.length > 0) {
    waiting.shift()!();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await load.ended();
  expect(most).toBe(8);
  expect(ledger.failures).toEqual([]);
});
