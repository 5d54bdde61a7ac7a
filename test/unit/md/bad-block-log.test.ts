/**
 * Goal: the log says exactly which sectors are bad, in memory and on disk, and never loses one.
 *
 * Method: hand-made cases for the on-disk form and the limits; then all adds and removes over a
 * small device, from many states, against a plain array of booleans.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import {
  BAD_BLOCK_LOG_ENTRIES_MAX,
  BadBlockLog,
  decodeBadBlockLog,
  encodeBadBlockLog,
} from "../../../src/md/bad-block-log.ts";

/** The words of an area, all ones where none is given. */
function area(...words: readonly bigint[]): Uint8Array {
  const bytes = new Uint8Array(4096).fill(0xff);
  const view = new DataView(bytes.buffer);
  words.forEach((word, index) => {
    view.setBigUint64(8 * index, word, true);
  });
  return bytes;
}

function entry(sector: number, length: number): bigint {
  return (BigInt(sector) << 10n) | BigInt(length);
}

function decoded(bytes: Uint8Array): BadBlockLog {
  const result = decodeBadBlockLog(bytes);
  if (!result.ok) throw new Error(result.error.detail);
  return result.value;
}

test("bad-block log: an empty one: is 4096 bytes of ones", () => {
  const log = new BadBlockLog();
  expect(encodeBadBlockLog(log)).toEqual(area());
  expect([log.isEmpty, log.entryCount, log.totalSectors]).toEqual([true, 0, 0]);
  expect(decoded(area()).isEmpty).toBe(true);
});

test("bad-block log: entries: sector and length in their bits, in ascending order", () => {
  const log = new BadBlockLog();
  expect(log.add(2 ** 40 + 5, 8)).toBe(true);
  expect(log.add(12_288, 16)).toBe(true);
  expect(encodeBadBlockLog(log)).toEqual(area(entry(12_288, 16), entry(2 ** 40 + 5, 8)));
  expect(decoded(encodeBadBlockLog(log)).ranges).toEqual(log.ranges);
});

test("bad-block log: a long range: one range in memory, entries of 511 sectors on disk", () => {
  const log = new BadBlockLog();
  log.add(1000, 1100);
  expect(log.ranges).toEqual([{ sector: 1000, lengthSectors: 1100 }]);
  expect(log.entryCount).toBe(3);
  expect(encodeBadBlockLog(log)).toEqual(area(entry(1000, 511), entry(1511, 511), entry(2022, 78)));
});

test("bad-block log: entries of md with 512 sectors, out of order, overlapping: one set", () => {
  const log = decoded(area(entry(512, 512), entry(0, 512), entry(1000, 50)));
  expect(log.ranges).toEqual([{ sector: 0, lengthSectors: 1050 }]);
});

test("bad-block log: what follows the end mark: not read", () => {
  expect(decoded(area(2n ** 64n - 1n, entry(5, 1))).isEmpty).toBe(true);
});

test.each([
  ["a length of 0", entry(5, 0)],
  ["a sector beyond any device", 2n ** 64n - 1024n],
])("bad-block log: %s: refused", (_, word) => {
  const result = decodeBadBlockLog(area(entry(1, 1), word));
  expect(result).toMatchObject({ ok: false, error: { kind: "bad-entry" } });
});

test("bad-block log: more than can be written back: refused", () => {
  const words = Array.from({ length: 512 }, (_, index) => entry(index * 2000, 1023));
  const result = decodeBadBlockLog(area(...words));
  expect(result).toMatchObject({ ok: false, error: { kind: "too-many-entries" } });
});

function fullLog(): BadBlockLog {
  const log = new BadBlockLog();
  for (let index = 0; index < BAD_BLOCK_LOG_ENTRIES_MAX; index += 1) {
    expect(log.add(index * 100, 10)).toBe(true);
  }
  return log;
}

test("bad-block log: full: takes nothing new and changes nothing, still merges and removes", () => {
  const log = fullLog();
  const before = log.ranges;
  expect(log.add(60, 1)).toBe(false);
  expect(log.remove(102, 2)).toBe(false);
  expect(log.ranges).toEqual(before);
  expect(log.add(10, 20)).toBe(true);
  expect(log.remove(100, 5)).toBe(true);
  expect(log.entryCount).toBe(512);
  expect(log.add(30, 80)).toBe(true);
  expect(log.entryCount).toBe(511);
  expect(decoded(encodeBadBlockLog(log)).ranges).toEqual(log.ranges);
});

test("bad-block log: a smaller area: its own limit", () => {
  const log = new BadBlockLog(64);
  for (let index = 0; index < 64; index += 1) log.add(index * 2, 1);
  expect(log.add(1000, 1)).toBe(false);
  expect(encodeBadBlockLog(log).length).toBe(512);
});

test("bad-block log: first bad, overlaps: at the edges of a range", () => {
  const log = new BadBlockLog();
  log.add(100, 8);
  log.add(200, 8);
  expect([log.overlaps(92, 8), log.overlaps(92, 9), log.overlaps(107, 1)]).toEqual([
    false,
    true,
    true,
  ]);
  expect([log.overlaps(108, 92), log.overlaps(108, 93)]).toEqual([false, true]);
  expect([log.firstBad(0, 1000), log.firstBad(104, 2), log.firstBad(108, 1000)]).toEqual([
    100, 104, 200,
  ]);
});

const SECTORS = 24;

/** Whether the log says the same as one boolean a sector. */
function expectSame(log: BadBlockLog, bad: readonly boolean[]): void {
  const shown = new Array<boolean>(SECTORS).fill(false);
  let previousEnd = -1;
  for (const { sector, lengthSectors } of log.ranges) {
    if (sector <= previousEnd) throw new Error("ranges touch");
    previousEnd = sector + lengthSectors;
    shown.fill(true, sector, previousEnd);
  }
  expect(shown).toEqual([...bad]);
  expect(log.totalSectors).toBe(bad.filter(Boolean).length);
  expect(log.entryCount).toBe(log.ranges.length);
}

test("bad-block log: every add and remove on many states: as one boolean a sector", () => {
  const random = new SeededRandom(511);
  for (let round = 0; round < 12; round += 1) {
    const start = Array.from({ length: SECTORS }, () => nextBelow(random, 3) === 0);
    for (let sector = 0; sector < SECTORS; sector += 1) {
      for (let length = 1; sector + length <= SECTORS; length += 1) {
        const bad = [...start];
        const log = new BadBlockLog();
        for (const [index, isBad] of start.entries()) if (isBad) log.add(index, 1);
        const isAdd = (sector + length + round) % 2 === 0;
        expect(isAdd ? log.add(sector, length) : log.remove(sector, length)).toBe(true);
        bad.fill(isAdd, sector, sector + length);
        expectSame(log, bad);
        expect(log.overlaps(sector, length)).toBe(isAdd);
      }
    }
  }
});

test("bad-block log: why a sector is on it: kept on disk, behind md's list, where Linux stops", () => {
  const log = new BadBlockLog();
  log.add(800, 8, "unread");
  log.add(808, 8);
  log.add(4000, 16, "unread");
  const bytes = encodeBadBlockLog(log);
  expect(bytes.slice(0, 24)).toEqual(area(entry(800, 16), entry(4000, 16)).slice(0, 24));
  const again = decoded(bytes);
  expect(again.ranges).toEqual(log.ranges);
  expect(again.unreadRanges).toEqual([
    { sector: 800, lengthSectors: 8 },
    { sector: 4000, lengthSectors: 16 },
  ]);
  expect([again.isUnread(800, 8), again.isUnread(800, 16), again.isUnread(808, 8)]).toEqual([
    true,
    false,
    false,
  ]);
});

test("bad-block log: a sector that missed a write: another try to read it does not make it unread", () => {
  const log = new BadBlockLog();
  log.add(8, 8);
  log.add(8, 8, "unread");
  expect(log.isUnread(8, 8)).toBe(false);
  log.add(16, 8, "unread");
  expect(log.isUnread(16, 8)).toBe(true);
  log.add(16, 8);
  expect(log.isUnread(16, 8)).toBe(false);
  log.remove(16, 8);
  log.add(16, 8, "unread");
  expect(log.isUnread(16, 8)).toBe(true);
});

test("bad-block log: many entries: all or none of the unread ones have room, and the others stay", () => {
  for (let count = 1; count <= BAD_BLOCK_LOG_ENTRIES_MAX; count += 1) {
    const log = new BadBlockLog();
    for (let at = 0; at < count; at += 1)
      log.add(at * 16, 8, at % 2 === 0 ? "unread" : "unwritten");
    const again = decoded(encodeBadBlockLog(log));
    expect(again.ranges).toEqual(log.ranges);
    const unread = Math.ceil(count / 2);
    const hasRoom = count + 1 + unread + 2 <= BAD_BLOCK_LOG_ENTRIES_MAX;
    expect([count, again.unreadRanges.length]).toEqual([count, hasRoom ? unread : 0]);
  }
});

test("bad-block log: an area that is half an old and half a new one: none is believed", () => {
  const random = new SeededRandom(11);
  for (let turn = 0; turn < 300; turn += 1) {
    const log = new BadBlockLog();
    const draw = () =>
      log.add(nextBelow(random, 2000) * 8, 8, turn % 2 === 0 ? "unread" : "unwritten");
    for (let count = 1 + nextBelow(random, 160); count > 0; count -= 1) {
      log.add(nextBelow(random, 2000) * 8, 8, "unread");
    }
    const before = encodeBadBlockLog(log);
    for (let count = 1 + nextBelow(random, 8); count > 0; count -= 1) draw();
    log.remove(nextBelow(random, 2000) * 8, 8);
    const after = encodeBadBlockLog(log);
    const torn = before.slice();
    for (let at = 0; at < torn.length; at += 512) {
      if (nextBelow(random, 2) === 0) torn.set(after.subarray(at, at + 512), at);
    }
    const result = decodeBadBlockLog(torn);
    if (!result.ok || result.value.unreadRanges.length === 0) continue;
    // Then it is one of the two to the end of its list.
    const { ranges, unreadRanges } = result.value;
    const wholes = [before, after].map((bytes) => decoded(bytes));
    const known = wholes.map((each) => JSON.stringify([each.ranges, each.unreadRanges]));
    expect(known).toContain(JSON.stringify([ranges, unreadRanges]));
  }
});
