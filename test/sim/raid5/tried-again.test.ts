/**
 * Goal: what a passing fault has put on a bad-block log comes off it in the next scrub, wherever
 * the truth still lies on the members; and nothing is believed that only looks right.
 * Method: a member is replaced while reads of a survivor fail, which enters each of those rows on
 * two logs; then the survivor is sound again, and what a scrub makes of it is compared row by row.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy, JobStatus, MismatchList } from "../../../src/array/protocol.ts";
import { explainJob } from "../../../src/array/sync/scrub-explain.ts";
import { EIO } from "../../../src/base/errno.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { decodeBadBlockLog } from "../../../src/md/bad-block-log.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { DeviceTrace } from "../world/device-trace.ts";
import { type DeviceImage, patchImage, readImage } from "../world/media.ts";
import { areasOf, parityMismatches, viewMembers } from "../world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const NAMES = ["a", "b", "c", "d"];
const CHUNK_BYTES = 8 * KIB;
const STRIPES = 6;
const DATA_BYTES = STRIPES * CHUNK_BYTES;
const ARRAY_BYTES = 3 * DATA_BYTES;
const AREA_BYTES = 4096;

interface Options {
  readonly policy?: ConsistencyPolicy;
  /** The content of row `row` of the array. Default: each its own. */
  readonly fill?: (row: number) => number;
  readonly trace?: DeviceTrace;
}

const ownFill = (row: number): number => 1 + (row % 251);

function make({ policy = "resync", fill = ownFill, trace }: Options = {}): SimWorld {
  const world = new SimWorld({ seed: 3, ...(trace === undefined ? {} : { trace }) });
  for (const name of [...NAMES, "new"]) world.addDrive({ name, sizeBytes: 3 * MIB });
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes: DATA_BYTES, consistencyPolicy: policy };
  world.createArray({ drives: NAMES, ...shape });
  world.settle();
  const bytes = new Uint8Array(ARRAY_BYTES);
  for (let row = 0; row < ARRAY_BYTES / ROW_BYTES; row += 1) {
    bytes.fill(fill(row), row * ROW_BYTES, (row + 1) * ROW_BYTES);
  }
  expect(world.run(world.client().write(0, bytes))).toBe(0);
  world.settle();
  return world;
}

/** "d" is replaced by "new" while reads of member rows [from, to) of `survivor` fail. */
function rebuildOverFault(world: SimWorld, survivor: string, from: number, to: number): void {
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "d" });
  const { faults } = world.device(survivor);
  faults.plan({
    op: Op.read,
    fault: { kind: "result", result: -EIO },
    offset: dataOffsetOf(world, survivor) + from * ROW_BYTES,
    bytes: (to - from) * ROW_BYTES,
    count: Number.POSITIVE_INFINITY,
  });
  world.must({ kind: "add-member", array: ARRAY_NAME, drive: "new", force: false });
  world.settle();
  expect(world.status()).toMatchObject({ state: "clean", degraded: 0 });
  expect(world.status().lostBytes).toBeGreaterThan(0);
}

function dataOffsetOf(world: SimWorld, name: string): number {
  return areasOf(world.device(name).image()).find((area) => area.name === "data")!.offset;
}

function logOffsetOf(image: DeviceImage): number {
  return areasOf(image).find(({ name }) => name === "bad-block log")!.offset;
}

function scrub(world: SimWorld, mode: "check" | "repair" = "check"): JobStatus {
  const start = { kind: "start-scrub", array: ARRAY_NAME, mode, restart: true } as const;
  const job = world.must<"start-scrub">({ ...start, limitBytesPerSecond: null });
  const ended = world.waitJob(job.id);
  expect([ended.state, ended.error]).toEqual(["done", null]);
  return ended;
}

/** Rows of the array that cannot be read; the others hold what `fill` says. */
function unreadable(world: SimWorld, fill: (row: number) => number = ownFill): number[] {
  const rows: number[] = [];
  for (let row = 0; row < ARRAY_BYTES / ROW_BYTES; row += 1) {
    const { status, data } = world.run(world.client().read(row * ROW_BYTES, ROW_BYTES));
    if (status !== 0) rows.push(row);
    else expect([row, data.every((byte) => byte === fill(row))]).toEqual([row, true]);
  }
  return rows;
}

function expectWhole(world: SimWorld): void {
  expect(world.status()).toMatchObject({ lostBytes: 0, lastScrub: { lostBytes: 0 } });
  expect(unreadable(world)).toEqual([]);
  world.settle();
  const used = new Set(world.status().members.map(({ drive }) => drive));
  const members = world.images().filter(({ name }) => used.has(name));
  expect(parityMismatches(viewMembers(members))).toEqual([]);
  for (const image of members) {
    const area = readImage(image, logOffsetOf(image), AREA_BYTES);
    expect(area.every((byte) => byte === 0xff)).toBe(true);
  }
}

for (const policy of POLICIES) {
  for (const mode of ["check", "repair"] as const) {
    test(`a fault in a rebuild passes, ${policy}: a ${mode} has every row back`, () => {
      for (const survivor of ["a", "b", "c"]) {
        const world = make({ policy });
        rebuildOverFault(world, survivor, 1, 9);
        expect(unreadable(world).length).toBeGreaterThan(0);
        world.device(survivor).faults.quiet();
        expect(scrub(world, mode).result).toMatchObject({ mismatchBytes: 0, lostBytes: 0 });
        expectWhole(world);
      }
    });
  }
}

test("a fault in a rebuild passes, and the machine is restarted: a check has every row back", () => {
  const before = make();
  rebuildOverFault(before, "b", 0, STRIPES * 2);
  before.settle();
  const world = SimWorld.restart(before.crash("keep"), { seed: 4 });
  world.settle();
  expect(world.status().lostBytes).toBeGreaterThan(0);
  expect(scrub(world).result).toMatchObject({ mismatchBytes: 0, lostBytes: 0 });
  expectWhole(world);
});

test("a log without a list of what was only unread: its rows stay lost, and are told", () => {
  const before = make();
  rebuildOverFault(before, "b", 3, 5);
  before.settle();
  // As Linux writes it: md's entries, and ones to the end.
  const images = before.crash("keep").map((image) => {
    if (image.name === "d") return image;
    const offset = logOffsetOf(image);
    const area = readImage(image, offset, AREA_BYTES);
    const log = decodeBadBlockLog(area);
    if (!log.ok) throw new Error(log.error.detail);
    area.fill(0xff, log.value.entryCount * 8);
    return patchImage(image, offset, area);
  });
  const world = SimWorld.restart(images, { seed: 4 });
  world.settle();
  const { lostBytes } = world.status();
  expect(lostBytes).toBeGreaterThan(0);
  const job = scrub(world, "repair");
  expect(job.result).toMatchObject({ mismatchBytes: 0, lostBytes });
  const explained = explainJob(job);
  if (!explained.ok) throw new Error(explained.error.detail);
  const { ranges } = explained.value.result["lostRanges"] as MismatchList;
  // Rows 3 and 4, of two each stripe, which neither the survivor nor the new drive could give.
  const rows = { firstSector: 3 * 8, sectorCount: 2 * 8, stripe: 1, stripeCount: 2 };
  expect(ranges).toMatchObject([{ ...rows, roles: [1, 3] }]);
  expect(world.status().lastScrub).toMatchObject({ lostBytes });
  const told = world.events.findLast(({ kind }) => kind === "scrub.finished")!;
  expect(told.severity).toBe("critical");
  expect(told.message).toContain(`${lostBytes} bytes are lost`);
  // What is explained are exactly the bytes that no client can read.
  const bad = unreadable(world);
  const concerned = ranges[0]!.exportRanges!.ranges.flatMap(({ offset, bytes }) =>
    Array.from({ length: bytes / ROW_BYTES }, (_, index) => offset / ROW_BYTES + index),
  );
  expect(concerned).toEqual(bad);
  expect([bad.length, bad[0]]).toEqual([lostBytes / ROW_BYTES, ranges[0]!.arrayOffset / ROW_BYTES]);
});

test("a write to the survivor's row meanwhile: the rebuilt chunk is lost, never made up", () => {
  // All chunks of a row hold the same; the new drive is blank, so zeros make a row look whole.
  const same = () => 9;
  const world = make({ fill: same });
  rebuildOverFault(world, "a", 0, 2 * STRIPES);
  world.device("a").faults.quiet();
  const lostBefore = unreadable(world, same);
  const fill = (row: number): number => (lostBefore.includes(row) && isZeroed.has(row) ? 0 : 9);
  const isZeroed = new Set<number>();
  // Of the two rows that a stripe has lost the one of "a" comes last; where it is one, parity was
  // the other.
  const columns = new Map<string, number[]>();
  for (const row of lostBefore) {
    const stripe = Math.floor(row / 6);
    const key = `${stripe} ${row % 2}`;
    columns.set(key, [...(columns.get(key) ?? []), row]);
  }
  for (const rows of columns.values()) {
    if (rows.length < 2) continue;
    isZeroed.add(rows[1]!);
    const zeros = new Uint8Array(ROW_BYTES);
    expect(world.run(world.client().write(rows[1]! * ROW_BYTES, zeros))).toBe(0);
  }
  expect(isZeroed.size).toBeGreaterThan(0);
  const { result } = scrub(world, "repair");
  const lost = unreadable(world, fill);
  expect(lost.length).toBe(isZeroed.size);
  expect(result).toMatchObject({ lostBytes: lost.length * ROW_BYTES });
});

for (const order of ["the rebuilt chunk", "the survivor's chunk"]) {
  test(`rule 8: ${order} of an unread row is written first: it is not believed any more`, () => {
    const trace = new DeviceTrace();
    const world = make({ trace });
    rebuildOverFault(world, "a", 0, 2 * STRIPES);
    world.device("a").faults.quiet();
    const lost = unreadable(world);
    if (order === "the survivor's chunk") lost.reverse();
    const image = world.device("a").image();
    const logOffset = logOffsetOf(image);
    let log = decodeBadBlockLog(readImage(image, logOffset, AREA_BYTES));
    const from = trace.events.length;
    for (const row of lost) {
      expect(world.run(world.client().write(row * ROW_BYTES, new Uint8Array(ROW_BYTES)))).toBe(0);
    }
    let wasUnread = log.ok ? log.value.unreadRanges.length : 0;
    expect(wasUnread).toBeGreaterThan(0);
    for (const each of trace.events.slice(from)) {
      if (each.kind !== "device" || each.device !== 0 || each.event.kind !== "submit") continue;
      const { offset, bytes, length } = each.event;
      if (offset === logOffset) log = decodeBadBlockLog(bytes!);
      if (!log.ok) throw new Error(log.error.detail);
      wasUnread = log.value.unreadRanges.length;
      if (offset < dataOffsetOf(world, "a")) continue;
      expect([offset, log.value.isUnread(offset / 512, length / 512)]).toEqual([offset, false]);
    }
    expect(wasUnread).toBe(0);
  });
}

test("sectors that stay bad, more than md's limit: a scrub tells of them, and fails no member", () => {
  const chunkBytes = MIB;
  const world = new SimWorld({ seed: 3 });
  for (const name of [...NAMES, "new"]) world.addDrive({ name, sizeBytes: 6 * MIB });
  world.createArray({ drives: NAMES, chunkBytes, memberSizeBytes: 2 * chunkBytes });
  world.settle();
  rebuildOverFault(world, "a", 0, 300);
  for (let turn = 0; turn < 2; turn += 1) {
    const { lostBytes } = world.status();
    expect(scrub(world).result).toMatchObject({ lostBytes });
    expect(world.status()).toMatchObject({ degraded: 0, state: "clean" });
  }
});
