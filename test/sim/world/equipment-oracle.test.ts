/**
 * Goal: the oracles call everything wrong that is wrong, by its name, and nothing else.
 * Method: histories of a few writes, written out by hand with what a read and a crash may show;
 * members built by hand, with arithmetic that a reader can follow.
 */
import { expect, test } from "bun:test";
import { encodeSuperblock } from "../../../src/md/superblock.ts";
import { readStamp, writeStamp } from "../../../src/nbd/client/load/stamp.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { testSuperblock } from "../../helpers/md-members.ts";
import { HandDrive, ROW } from "./equipment-helpers.ts";
import { blankImage, type DeviceImage, isEqual, patchImage, readImage } from "./media.ts";
import {
  areasOf,
  type MemberView,
  parityMismatches,
  readArraySector,
  strayWrites,
  stripesOf,
  superblockOf,
  viewMembers,
} from "./member-oracle.ts";
import { type OracleMark, SectorOracle } from "./oracle.ts";

const SEED = 42;

function makeOracle(onMark?: (mark: OracleMark) => void): SectorOracle {
  return new SectorOracle({ seed: SEED, sectorCount: 100, ...(onMark && { onMark }) });
}

function sectorOf(lba: number, version: number, seed = SEED): Uint8Array {
  const bytes = new Uint8Array(512);
  if (version > 0) writeStamp(bytes, 0, { run: seed, lba, version, writer: 0 });
  return bytes;
}

function written(oracle: SectorOracle, lba: number, how: "done" | "done-fua" | "failed"): number {
  const version = oracle.beginWrite(lba, 1);
  oracle.endWrite(version, how);
  return version;
}

function flushed(oracle: SectorOracle): void {
  oracle.endFlush(oracle.beginFlush(), { isDone: true });
}

test("stamp: written and read: the same; a bit changed anywhere: garbage", () => {
  const stamp = { run: 7, lba: 2 ** 40 + 3, version: 9, writer: 3 };
  const sector = new Uint8Array(512);
  writeStamp(sector, 0, stamp);
  expect(readStamp(sector)).toEqual({ kind: "stamp", stamp });
  for (let bit = 0; bit < 4096; bit += 1) {
    sector[bit >> 3]! ^= 1 << (bit & 7);
    expect(readStamp(sector).kind).toBe("garbage");
    sector[bit >> 3]! ^= 1 << (bit & 7);
  }
  expect(readStamp(new Uint8Array(512))).toEqual({ kind: "zero" });
});

test("stamp: the XOR of two or three sectors: garbage, not another sector", () => {
  for (const others of [[2], [2, 3]]) {
    const sum = sectorOf(1, 1);
    for (const lba of others) {
      sectorOf(lba, lba).forEach((byte, index) => {
        sum[index]! ^= byte;
      });
    }
    expect(readStamp(sum).kind).toBe("garbage");
  }
});

test("oracle: what was never written: zeros and nothing else", () => {
  const oracle = makeOracle();
  expect(oracle.check(5, sectorOf(5, 0))).toBeNull();
  expect(oracle.check(5, sectorOf(5, 1))?.message).toContain("never written");
});

test("oracle: a wrong sector: named as stale, foreign, of another run, torn, zeros", () => {
  const oracle = makeOracle();
  const first = written(oracle, 5, "done");
  const second = written(oracle, 5, "done");
  expect(oracle.check(5, sectorOf(5, second))).toBeNull();
  const torn = sectorOf(5, second);
  torn.fill(0, 256);
  const cases: [Uint8Array, string][] = [
    [sectorOf(5, first), "version 1 (stale); expected version 2"],
    [sectorOf(6, second), "version 2 of sector 6 (foreign)"],
    [sectorOf(5, second, 43), "of another run"],
    [torn, "torn at byte 256"],
    [new Uint8Array(512), "zeros"],
    [new Uint8Array(512).fill(1), "garbage (no stamp)"],
  ];
  for (const [bytes, message] of cases) {
    expect(oracle.check(5, bytes)?.message).toContain(message);
  }
});

test("oracle: sectors given up: anything, until written anew; the others as before", () => {
  const oracle = makeOracle();
  const version = written(oracle, 5, "done-fua");
  const inFlight = oracle.beginWrite(6, 1);
  oracle.giveUp(5, 2);
  const noise = new Uint8Array(512).fill(9);
  for (const lba of [5, 6]) {
    for (const found of [noise, new Uint8Array(512), sectorOf(lba, 99), sectorOf(lba, inFlight)]) {
      expect(oracle.peek(lba, found)).toBeNull();
    }
  }
  expect(oracle.peek(4, noise)).not.toBeNull();
  expect(oracle.peek(7, noise)).not.toBeNull();
  oracle.crash();
  // What is found decides, as for any write that was in flight.
  expect(oracle.check(6, sectorOf(6, inFlight))).toBeNull();
  expect(oracle.check(6, noise)).not.toBeNull();
  expect(oracle.check(5, noise)).toBeNull();
  expect(oracle.check(5, sectorOf(5, version))).toBeNull();
  const newer = written(oracle, 5, "done");
  expect(oracle.check(5, noise)).not.toBeNull();
  expect(oracle.check(5, sectorOf(5, newer))).toBeNull();
});

test("oracle: the second of three sectors is wrong: that one is named", () => {
  const oracle = makeOracle();
  const version = oracle.beginWrite(10, 3);
  oracle.endWrite(version, "done");
  const bytes = new Uint8Array(1536);
  oracle.fill(bytes, 10, version);
  expect(oracle.check(10, bytes)).toBeNull();
  bytes[600] = 0;
  bytes[601] = 0;
  expect(oracle.check(10, bytes)?.lba).toBe(11);
});

/** A history of sector 1, what a read may show after it, and what a crash may. */
const HISTORIES: readonly [string, (oracle: SectorOracle) => void, number[], number[]][] = [
  ["a write in flight", (oracle) => oracle.beginWrite(1, 1), [0, 1], [0, 1]],
  ["an acknowledged write", (oracle) => written(oracle, 1, "done"), [1], [0, 1]],
  ["a durable write", (oracle) => written(oracle, 1, "done-fua"), [1], [1]],
  ["a failed write", (oracle) => written(oracle, 1, "failed"), [0, 1], [0, 1]],
  [
    "a write, a flush",
    (oracle) => {
      written(oracle, 1, "done");
      flushed(oracle);
    },
    [1],
    [1],
  ],
  [
    "a write, a flush that failed",
    (oracle) => {
      written(oracle, 1, "done");
      oracle.endFlush(oracle.beginFlush(), { isDone: false });
    },
    [1],
    [0, 1],
  ],
  [
    "a write acknowledged after the flush began",
    (oracle) => {
      const version = oracle.beginWrite(1, 1);
      const flush = oracle.beginFlush();
      oracle.endWrite(version, "done");
      oracle.endFlush(flush, { isDone: true });
    },
    [1],
    [0, 1],
  ],
  [
    "a write, a flush, two writes",
    (oracle) => {
      written(oracle, 1, "done");
      flushed(oracle);
      written(oracle, 1, "done");
      written(oracle, 1, "done");
    },
    [3],
    [1, 2, 3],
  ],
  [
    "a cached write, then a durable one",
    (oracle) => {
      written(oracle, 1, "done");
      written(oracle, 1, "done-fua");
    },
    [2],
    [2],
  ],
  [
    "two writes at once",
    (oracle) => {
      const first = oracle.beginWrite(1, 1);
      const second = oracle.beginWrite(1, 1);
      oracle.endWrite(first, "done");
      oracle.endWrite(second, "done");
    },
    [1, 2],
    [0, 1, 2],
  ],
  [
    "a failed write, then one that is done",
    (oracle) => {
      written(oracle, 1, "failed");
      written(oracle, 1, "done");
    },
    [2],
    [0, 1, 2],
  ],
  [
    "a durable write, then a trim: what it trimmed may still be there",
    (oracle) => {
      written(oracle, 1, "done-fua");
      oracle.endWrite(oracle.beginWrite(1, 1, "trim"), "done-fua");
    },
    [1, 2],
    [1, 2],
  ],
];

for (const [situation, happen, afterRead, afterCrash] of HISTORIES) {
  test(`oracle: ${situation}: reads and crashes as listed`, () => {
    const oracle = makeOracle();
    happen(oracle);
    const crashed = oracle.clone();
    expect(oracle.allowedVersions(1)).toEqual(afterRead);
    crashed.crash();
    expect(crashed.allowedVersions(1)).toEqual(afterCrash);
    expect(oracle.allowedVersions(1)).toEqual(afterRead); // The clone crashed, not this one.
  });
}

test("oracle: a read under way at an acknowledgement: old or new; a later one: new", () => {
  const oracle = makeOracle();
  const early = oracle.beginRead(1, 1);
  const alsoEarly = oracle.beginRead(1, 1);
  const version = written(oracle, 1, "done");
  const late = oracle.beginRead(1, 1);
  expect(oracle.endRead(early, sectorOf(1, 0))).toBeNull();
  expect(oracle.endRead(alsoEarly, sectorOf(1, version))).toBeNull();
  expect(oracle.endRead(late, sectorOf(1, 0))?.message).toContain("zeros");
});

test("oracle: a crash, then a read: what was seen stays, until the next write", () => {
  const oracle = makeOracle();
  for (let turn = 0; turn < 3; turn += 1) written(oracle, 1, "done");
  oracle.crash();
  expect(oracle.check(1, sectorOf(1, 2))).toBeNull();
  expect(oracle.allowedVersions(1)).toEqual([2]);
  for (const version of [0, 1, 3]) expect(oracle.check(1, sectorOf(1, version))).not.toBeNull();
  oracle.crash();
  expect(oracle.allowedVersions(1)).toEqual([2]);
  const next = written(oracle, 1, "done");
  expect(oracle.allowedVersions(1)).toEqual([next]);
  oracle.crash();
  expect(oracle.allowedVersions(1)).toEqual([2, next]);
});

test("oracle: a newer write is seen in flight: decides nothing about the older ones", () => {
  const oracle = makeOracle();
  written(oracle, 1, "done");
  oracle.crash();
  const newer = oracle.beginWrite(1, 1);
  expect(oracle.check(1, sectorOf(1, newer))).toBeNull();
  oracle.crash();
  expect(oracle.allowedVersions(1)).toEqual([0, 1, newer]);
});

test("oracle: many writes of one sector: the list stays short, the answers the same", () => {
  const oracle = makeOracle();
  for (let turn = 1; turn <= 1000; turn += 1) written(oracle, 1, "done-fua");
  written(oracle, 1, "done");
  expect(oracle.allowedVersions(1)).toEqual([1001]);
  oracle.crash();
  expect(oracle.allowedVersions(1)).toEqual([1000, 1001]);
});

test("oracle: its marks replayed: the same oracle at each point", () => {
  const marks: OracleMark[] = [];
  const live = makeOracle((mark) => marks.push(mark));
  const expected: number[][] = [];
  const noteAllowed = (oracle: SectorOracle) => {
    const crashed = oracle.clone();
    crashed.crash();
    return crashed.allowedVersions(1);
  };
  for (const [, happen] of HISTORIES) {
    happen(live);
    expected.push([marks.length, ...noteAllowed(live)]);
  }
  const replayed = makeOracle();
  let next = 0;
  for (const [index, mark] of marks.entries()) {
    replayed.applyMark(mark);
    if (expected[next]![0] !== index + 1) continue;
    expect(noteAllowed(replayed)).toEqual(expected[next]!.slice(1));
    next += 1;
  }
  expect(next).toBe(HISTORIES.length);
});

const CHUNK = 8192;

/**
 * Three members, two stripes, chunks of 8 KiB; data regions begin at 4096, 8192 and 0. By hand:
 *
 *   stripe   role 0      role 1      role 2
 *   0        sectors 0-  16-31       parity
 *            15
 *   1        48-63       parity      32-47
 */
function makeMembers(): MemberView {
  const dataOffsets = [4096, 8192, 0];
  const chunk = (first: number) => {
    const bytes = new Uint8Array(CHUNK);
    for (let sector = 0; sector < 16; sector += 1) {
      bytes.set(sectorOf(first + sector, 1), sector * 512);
    }
    return bytes;
  };
  const xor = (left: Uint8Array, right: Uint8Array) =>
    left.map((byte, index) => byte ^ right[index]!);
  const [first, second, third, fourth] = [chunk(0), chunk(16), chunk(32), chunk(48)] as const;
  const content = [
    [first, fourth],
    [second, xor(third, fourth)],
    [xor(first, second), third],
  ];
  const images = content.map((chunks, role) => {
    let image = blankImage({ name: `m${role}`, sizeBytes: 65_536 });
    for (const [stripe, bytes] of chunks.entries()) {
      image = patchImage(image, dataOffsets[role]! + stripe * CHUNK, bytes);
    }
    return image;
  });
  return { chunkBytes: CHUNK, memberCount: 3, memberSizeBytes: 2 * CHUNK, images, dataOffsets };
}

test("member-oracle: every sector, each member lost: from its chunk or the others", () => {
  const view = makeMembers();
  for (let lba = 0; lba < 64; lba += 1) {
    for (const lost of [-1, 0, 1, 2]) {
      expect(isEqual(readArraySector(view, lba, lost), sectorOf(lba, 1))).toBe(true);
      const images = view.images.map((image, role) => (role === lost ? null : image));
      expect(isEqual(readArraySector({ ...view, images }, lba), sectorOf(lba, 1))).toBe(true);
    }
  }
});

test("member-oracle: a byte changes on any member: that row, and only in the data region", () => {
  const view = makeMembers();
  expect(parityMismatches(view)).toEqual([]);
  for (let role = 0; role < 3; role += 1) {
    for (let row = 0; row < 4; row += 1) {
      const image = view.images[role]!;
      const at = view.dataOffsets[role]! + row * ROW + 77;
      const byte = readImage(image, at, 1).map((value) => value ^ 1);
      const images = view.images.with(role, patchImage(image, at, byte));
      const rows = parityMismatches({ ...view, images });
      expect(rows).toEqual([row * ROW]);
      expect(stripesOf(view, rows)).toEqual([row >> 1]);
    }
    const outside = patchImage(view.images[role]!, 40_000, new Uint8Array([1]));
    expect(parityMismatches({ ...view, images: view.images.with(role, outside) })).toEqual([]);
  }
});

function memberImage(devNumber: number, policy: "ppl" | "bitmap" | "resync", events = 100) {
  const superblock = { ...testSuperblock(devNumber, { policy }), events };
  const bytes = encodeSuperblock(superblock);
  const blank = blankImage({ name: `d${devNumber}`, sizeBytes: 64 * 1024 * 1024 });
  return patchImage(blank, 4096, bytes);
}

test("member-oracle: drives in any order: by role; foreign and blank ones are left out", () => {
  const images: DeviceImage[] = [2, 0, 1, 3].map((devNumber) => memberImage(devNumber, "resync"));
  images.push(blankImage({ name: "blank", sizeBytes: 65_536 }));
  const view = viewMembers(images);
  expect(view.images.map((image) => image?.name)).toEqual(["d0", "d1", "d2"]);
  expect(view.chunkBytes).toBe(65_536);
  expect(view.dataOffsets).toEqual([1, 1, 1].map(() => view.dataOffsets[0]!));
  expect(superblockOf(images[4]!)).toBe("blank: no-magic");
});

test("member-oracle: writes to and beside each area: only those beside are stray", () => {
  for (const policy of ["ppl", "bitmap", "resync"] as const) {
    let image = memberImage(0, policy);
    if (policy === "bitmap") {
      const header = new Uint8Array(256);
      new DataView(header.buffer).setUint32(52, 65_536, true);
      image = patchImage(image, 8192, header);
    }
    const areas = areasOf(image);
    const names = areas.map(({ name }) => name).sort();
    const log = policy === "resync" ? [] : [policy];
    expect(names).toEqual(["bad-block log", "data", "superblock", ...log].sort());
    const drive = new HandDrive({ image });
    for (const { offset, bytes } of areas) {
      for (const at of [offset, offset + bytes - ROW]) drive.run(Op.write, { offset: at });
    }
    expect(strayWrites(drive.trace, 0, areas)).toEqual([]);
    drive.run(Op.write, { offset: 0 });
    const data = areas.find(({ name }) => name === "data")!;
    drive.run(Op.write, { offset: data.offset - ROW, bytes: 2 * ROW });
    drive.run(Op.write, { offset: 4096, bytes: 2 * ROW }); // From one area into the next.
    expect(strayWrites(drive.trace, 0, areas).map(({ offset }) => offset)).toEqual([
      0,
      data.offset - ROW,
      4096,
    ]);
  }
});
