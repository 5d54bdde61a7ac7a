/**
 * Goal: the segments of merged writes cover just the rows that are touched, each with the right set
 * of chunks, and stripe locks are given in arrival order.
 * Method: all pairs of parts of small stripes, at row and at byte boundaries, against a model that
 * marks single bytes; lock tables against a model with plain arrays.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES } from "../../../src/base/units.ts";
import { RowSet } from "../../../src/raid5/members/proven-rows.ts";
import { SYNC_WINDOW_STRIPES, SyncProgress } from "../../../src/raid5/members/sync-progress.ts";
import { MERGE_LIMIT, OpKind, StripeOps } from "../../../src/raid5/stripe/ops.ts";
import { SegmentTable } from "../../../src/raid5/stripe/segments.ts";

interface Part {
  readonly from: number;
  readonly to: number;
}

function enter(ops: StripeOps, { from, to }: Part, stripe = 0): number {
  const op = ops.allocate(OpKind.write, stripe);
  ops.within[op] = from;
  ops.bytes[op] = to - from;
  ops.address[op] = 1_000_000 * ROW_BYTES * (op + 1) + (from % ROW_BYTES);
  return op;
}

/** The byte ranges of one row of one chunk that parts touch. */
function touchedBytes(parts: readonly Part[], rowStart: number): number {
  let bytes = 0;
  for (const { from, to } of parts) {
    bytes += Math.max(0, Math.min(to, rowStart + ROW_BYTES) - Math.max(from, rowStart));
  }
  return bytes;
}

function checkSegments(parts: readonly Part[], rowsPerChunk: number, dataCount: number): void {
  const ops = new StripeOps(8);
  const table = new SegmentTable(ops, rowsPerChunk);
  const leader = enter(ops, parts[0]!);
  expect(ops.hold(leader)).toBe(true);
  for (const part of parts.slice(1)) expect(ops.hold(enter(ops, part))).toBe(false);
  ops.mergeWaitingWrites(leader);
  const merged: Part[] = [];
  for (let op = leader; op >= 0; op = ops.mergeNext[op]!) {
    merged.push({ from: ops.within[op]!, to: ops.within[op]! + ops.bytes[op]! });
  }
  table.build(leader);
  const seen = new Set<number>();
  const first = table.first(leader);
  for (let slot = first; slot < first + table.count[leader]!; slot += 1) {
    for (let row = table.fromRow[slot]!; row < table.toRow[slot]!; row += 1) {
      expect(seen.has(row)).toBe(false);
      seen.add(row);
      for (let index = 0; index < dataCount; index += 1) {
        const bytes = touchedBytes(merged, (index * rowsPerChunk + row) * ROW_BYTES);
        expect((table.touched[slot]! & (1 << index)) !== 0).toBe(bytes > 0);
        const isPartial = (table.partial[slot]! & (1 << index)) !== 0;
        expect(isPartial).toBe(bytes > 0 && bytes < ROW_BYTES);
        if (bytes === 0) continue;
        const part = table.partAt(leader, index, row);
        const linear = index * rowsPerChunk + row;
        const expected = ops.address[part]! + linear * ROW_BYTES - ops.within[part]!;
        expect(table.dataAddress(leader, index, row)).toBe(expected);
      }
      if (table.partial[slot] !== 0) expect(table.toRow[slot]! - table.fromRow[slot]!).toBe(1);
    }
  }
  for (let row = 0; row < rowsPerChunk; row += 1) {
    let bytes = 0;
    for (let index = 0; index < dataCount; index += 1) {
      bytes += touchedBytes(merged, (index * rowsPerChunk + row) * ROW_BYTES);
    }
    expect(seen.has(row)).toBe(bytes > 0);
  }
}

test("rule 3: segments of one part, every row range of small stripes: touched rows, no hull", () => {
  for (const [rowsPerChunk, dataCount] of [
    [1, 2],
    [3, 2],
    [2, 4],
    [4, 3],
  ] as const) {
    const end = rowsPerChunk * dataCount;
    for (let from = 0; from < end; from += 1) {
      for (let to = from + 1; to <= end; to += 1) {
        for (const head of [0, 512, 4095]) {
          for (const tail of [0, 1, 3584]) {
            const part = { from: from * ROW_BYTES + head, to: to * ROW_BYTES - tail };
            if (part.from < part.to) checkSegments([part], rowsPerChunk, dataCount);
          }
        }
      }
    }
  }
});

test("segments: merged parts, random: as the model marks them byte by byte", () => {
  const random = new SeededRandom(5);
  for (let round = 0; round < 3000; round += 1) {
    const rowsPerChunk = 1 + nextBelow(random, 6);
    const dataCount = 2 + nextBelow(random, 4);
    const bytes = rowsPerChunk * dataCount * ROW_BYTES;
    const parts = Array.from({ length: 1 + nextBelow(random, 6) }, () => {
      const isWhole = nextBelow(random, 2) === 0;
      const step = isWhole ? ROW_BYTES : 512;
      const from = nextBelow(random, bytes / step) * step;
      const length = (1 + nextBelow(random, 4)) * step;
      return { from, to: Math.min(bytes, from + length) };
    });
    checkSegments(parts, rowsPerChunk, dataCount);
  }
});

test("ops: locks: in arrival order, one owner for each stripe", () => {
  const random = new SeededRandom(9);
  const ops = new StripeOps(64);
  const queues = new Map<number, number[]>();
  for (let round = 0; round < 20_000; round += 1) {
    if (nextBelow(random, 2) === 0) {
      // Stripes that share a bucket of the hash table too.
      const stripe = nextBelow(random, 3) * 4096 + nextBelow(random, 2);
      const op = ops.allocate(OpKind.read, stripe);
      if (op < 0) continue;
      const queue = queues.get(stripe) ?? [];
      queues.set(stripe, queue);
      expect(ops.hold(op)).toBe(queue.length === 0);
      queue.push(op);
    } else {
      const waiting = [...queues.values()].filter((queue) => queue.length > 0);
      if (waiting.length === 0) continue;
      const queue = waiting[nextBelow(random, waiting.length)]!;
      const owner = queue.shift()!;
      expect(ops.giveUp(owner)).toBe(queue[0] ?? -1);
      ops.free(owner);
    }
  }
  let held = 0;
  for (const queue of queues.values()) held += queue.length;
  expect(ops.inUse).toBe(held);
});

test("ops: merging: writes right behind, other rows, within the limit; a read stops it", () => {
  const ops = new StripeOps(64);
  const leader = enter(ops, { from: 0, to: 4096 });
  ops.hold(leader);
  const beside = enter(ops, { from: 4096, to: 8192 });
  ops.isFua[beside] = 1;
  ops.hold(beside);
  const overlapping = enter(ops, { from: 7000, to: 7010 });
  ops.hold(overlapping);
  const behind = enter(ops, { from: 40_960, to: 45_056 });
  ops.hold(behind);
  ops.mergeWaitingWrites(leader);
  expect(ops.mergeNext[leader]).toBe(beside);
  expect(ops.mergeNext[beside]).toBe(-1);
  // Rule 16: a merged plan is durable if any of its writes must be.
  expect(ops.isFua[leader]).toBe(1);
  expect(ops.giveUp(leader)).toBe(overlapping);
  expect(ops.giveUp(overlapping)).toBe(behind);
  expect(ops.giveUp(behind)).toBe(-1);

  const many = new StripeOps(64);
  const first = enter(many, { from: 0, to: 4096 });
  many.hold(first);
  for (let row = 1; row < 60; row += 1) {
    many.hold(enter(many, { from: row * 4096, to: (row + 1) * 4096 }));
  }
  many.mergeWaitingWrites(first);
  let count = 0;
  for (let op = first; op >= 0; op = many.mergeNext[op]!) count += 1;
  expect(count).toBe(MERGE_LIMIT);
});

test("sync-progress: stripes out of order: done is what was marked, the cursor has no gap", () => {
  const random = new SeededRandom(2);
  const progress = new SyncProgress(17);
  const done = new Set<number>();
  for (let round = 0; round < 5000; round += 1) {
    const stripe = progress.cursor + nextBelow(random, 40);
    if (done.has(stripe)) continue;
    expect(progress.isDone(stripe)).toBe(false);
    progress.markDone(stripe);
    done.add(stripe);
    expect(progress.isDone(stripe)).toBe(true);
    expect(done.has(progress.cursor)).toBe(false);
    expect(progress.cursor === 17 || done.has(progress.cursor - 1)).toBe(true);
  }
  expect(progress.isDone(0)).toBe(true);
  expect(progress.isDone(progress.cursor + SYNC_WINDOW_STRIPES)).toBe(false);
  expect(progress.canStart(progress.cursor + SYNC_WINDOW_STRIPES)).toBe(false);
});

test("proven-rows: ranges over pages: has what was added", () => {
  const rows = new RowSet();
  rows.addRange(32_760, 32_775);
  rows.addRange(2 ** 36, 2 ** 36 + 3);
  expect(rows.hasRange(32_760, 32_775)).toBe(true);
  expect(rows.hasRange(32_759, 32_761)).toBe(false);
  expect(rows.hasRange(32_774, 32_776)).toBe(false);
  expect(rows.hasRange(2 ** 36, 2 ** 36 + 3)).toBe(true);
  expect(rows.hasRange(2 ** 36 + 3, 2 ** 36 + 4)).toBe(false);
});
