/**
 * Goal: whenever the power is cut, every row that may be out of sync lies under a bit that is set
 * in the bitmap of every member; and bits do not stay for ever.
 *
 * Method: the life of a bit step by step; then random writes, failures, block writes, passes,
 * flushes, syncs and state changes against a disk whose blocks tear at sectors, with a list of the
 * bits that must be found set after a crash at this very moment. At the end all settles and is
 * cleared.
 */
import { expect, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB } from "../../../src/base/units.ts";
import {
  BITMAP_BLOCK_BYTES,
  BITMAP_HEADER_BYTES,
  type BitmapHeader,
  newBitmapHeader,
} from "../../../src/md/bitmap.ts";
import { newBitmap } from "../../../src/md/bitmap-load.ts";
import type { BitmapState } from "../../../src/md/bitmap-state.ts";
import { testSuperblock } from "../../helpers/md-members.ts";

const plain = testSuperblock(0, { policy: "bitmap" });

/** 40 000 bits of 8 sectors: two blocks. */
const superblock = { ...plain, sizeSectors: 320_000 };
const header: BitmapHeader = newBitmapHeader({ superblock, chunkBytes: 4 * KIB });

function writeBlocks(state: BitmapState, urgentOnly = false): number[] {
  const blocks: number[] = [];
  for (let block = state.nextBlock(0, urgentOnly); block >= 0; ) {
    state.beginBlockWrite(block);
    blocks.push(block);
    block = state.nextBlock(block + 1, urgentOnly);
  }
  for (const block of blocks) state.endBlockWrite(block);
  return blocks;
}

function settled(): BitmapState {
  const state = newBitmap(header, false);
  expect(writeBlocks(state)).toEqual([0, 1]);
  return state;
}

/** A pass with a flush that succeeds, and its blocks. */
function pass(state: BitmapState): number[] {
  if (state.startPass()) state.finishPass(true);
  return writeBlocks(state);
}

test("bitmap state: a write: waits for its block, the next one to the same bit does not", () => {
  const state = settled();
  expect(state.startWrite(80, 8)).toBe(false);
  expect(state.nextBlock(0, true)).toBe(0);
  state.beginBlockWrite(0);
  expect(state.startWrite(80, 1)).toBe(false);
  expect(state.nextBlock(0, true)).toBe(-1);
  state.endBlockWrite(0);
  expect(state.isDurable(80, 8)).toBe(true);
  expect(state.startWrite(87, 1)).toBe(true);
});

test("bitmap state: a bit set while its block is being written: the block is written again", () => {
  const state = settled();
  state.startWrite(0, 1);
  state.beginBlockWrite(0);
  expect(state.startWrite(8, 1)).toBe(false);
  state.endBlockWrite(0);
  expect([state.isDurable(0, 1), state.isDurable(8, 1)]).toEqual([true, false]);
  expect(writeBlocks(state, true)).toEqual([0]);
  expect(state.isDurable(8, 1)).toBe(true);
});

test("bitmap state: bits of both blocks: both are named", () => {
  const state = settled();
  const edge = (BITMAP_BLOCK_BYTES - BITMAP_HEADER_BYTES) * 8 * 8;
  expect(state.startWrite(edge - 1, 2)).toBe(false);
  expect(writeBlocks(state, true)).toEqual([0, 1]);
  expect(state.isDurable(edge - 1, 2)).toBe(true);
  expect(state.dirtyRanges()).toEqual([{ sector: edge - 8, lengthSectors: 16 }]);
});

test("bitmap state: clearing: two passes after the last write, behind a flush", () => {
  const state = settled();
  state.startWrite(80, 8);
  state.startWrite(80, 8);
  writeBlocks(state);
  state.endWrite(80, 8, true);
  expect([pass(state), pass(state), state.setCount]).toEqual([[], [], 1]);
  state.endWrite(80, 8, true);
  expect(state.startPass()).toBe(false);
  expect(state.startPass()).toBe(true);
  state.finishPass(false);
  expect(state.setCount).toBe(1);
  expect(state.startPass()).toBe(true);
  state.finishPass(true);
  expect(state.setCount).toBe(0);
  expect(writeBlocks(state, true)).toEqual([]);
  expect(writeBlocks(state)).toEqual([0]);
  expect(pass(state)).toEqual([]);
  expect(state.isSettled).toBe(true);
});

test("bitmap state: a write during the flush of a pass: its bit stays", () => {
  const state = settled();
  state.startWrite(80, 8);
  writeBlocks(state);
  state.endWrite(80, 8, true);
  state.startPass();
  expect(state.startPass()).toBe(true);
  expect(state.startWrite(80, 8)).toBe(true);
  state.endWrite(80, 8, true);
  state.finishPass(true);
  expect(state.setCount).toBe(1);
});

test("bitmap state: degraded or needed during the flush of a pass: its bits stay", () => {
  const state = settled();
  state.startWrite(80, 16);
  writeBlocks(state);
  state.endWrite(80, 16, true);
  state.startPass();
  expect(state.startPass()).toBe(true);
  state.setDegraded(true);
  state.finishPass(true);
  expect(state.setCount).toBe(2);
  for (let round = 0; round < 4; round += 1) expect(state.startPass()).toBe(false);
  state.setDegraded(false);
  expect(state.startPass()).toBe(true);
  state.markNeeded(80, 8);
  state.finishPass(true);
  expect(state.dirtyRanges()).toEqual([{ sector: 80, lengthSectors: 8 }]);
});

test("bitmap state: a bit being cleared on disk: a new write waits until it is set there again", () => {
  const state = settled();
  state.startWrite(80, 8);
  writeBlocks(state);
  state.endWrite(80, 8, true);
  state.startPass();
  state.startPass();
  state.finishPass(true);
  state.beginBlockWrite(0);
  expect(state.startWrite(80, 8)).toBe(false);
  expect(state.isDurable(80, 8)).toBe(false);
  state.endBlockWrite(0);
  expect(state.isDurable(80, 8)).toBe(false);
  expect(writeBlocks(state, true)).toEqual([0]);
  expect(state.isDurable(80, 8)).toBe(true);
});

test("bitmap state: degraded: nothing is cleared, bits of writes are needed until synced", () => {
  const state = settled();
  state.startWrite(0, 8);
  state.startWrite(80, 8);
  writeBlocks(state);
  state.endWrite(0, 8, true);
  state.setDegraded(true);
  state.endWrite(80, 8, true);
  for (let round = 0; round < 4; round += 1) expect(pass(state)).toEqual([]);
  expect(state.dirtyRanges("needed")).toEqual([{ sector: 80, lengthSectors: 8 }]);
  state.setEvents(105);
  state.setDegraded(false);
  for (let round = 0; round < 4; round += 1) pass(state);
  expect(state.dirtyRanges()).toEqual([{ sector: 80, lengthSectors: 8 }]);
  state.beginSync(0, 160);
  state.endSync(0, 160, true);
  for (let round = 0; round < 4; round += 1) pass(state);
  expect(state.setCount).toBe(0);
});

test("bitmap state: a write that fails while its range is synced: its bit stays needed", () => {
  const state = settled();
  state.markNeeded(80, 16);
  state.startWrite(80, 8);
  writeBlocks(state);
  state.beginSync(80, 16);
  state.endWrite(80, 8, false);
  state.endSync(80, 16, true);
  expect(state.dirtyRanges("needed")).toEqual([{ sector: 80, lengthSectors: 8 }]);
  state.beginSync(80, 8);
  state.endSync(80, 8, false);
  expect(state.dirtyRanges("needed")).toEqual([{ sector: 80, lengthSectors: 8 }]);
});

test("bitmap state: events_cleared (rule 19): durable at the present event before a bit is cleared", () => {
  const state = settled();
  state.setDegraded(true);
  state.setEvents(105);
  state.startWrite(80, 8);
  writeBlocks(state);
  state.endWrite(80, 8, true);
  expect([state.allowsPartialRebuild(99), state.allowsPartialRebuild(100)]).toEqual([false, true]);
  state.setEvents(107);
  state.setDegraded(false);
  state.beginSync(80, 8);
  state.endSync(80, 8, true);
  state.startPass();
  expect(state.header.eventsCleared).toBe(107);
  // The header is not written: no number of passes clears a bit.
  for (let round = 0; round < 4; round += 1) expect(state.startPass()).toBe(false);
  expect(state.allowsPartialRebuild(106)).toBe(false);
  expect(writeBlocks(state)).toEqual([0]);
  expect(pass(state)).toEqual([0]);
  expect(state.setCount).toBe(0);
  // From clean back by one, as md does.
  state.setEvents(106);
  expect(state.header.eventsCleared).toBe(106);
  expect(writeBlocks(state, true)).toEqual([0]);
});

test("bitmap state: events_cleared (rule 19): raised with each clear, so that no older copy fits", () => {
  const state = settled();
  const cleared = state.header.eventsCleared;
  for (const events of [103, 105, 107]) {
    state.setEvents(events);
    state.startWrite(80, 8);
    writeBlocks(state);
    state.endWrite(80, 8, true);
    for (let round = 0; round < 6 && state.setCount > 0; round += 1) pass(state);
    expect([events, state.setCount, state.header.eventsCleared]).toEqual([events, 0, events]);
    expect([events, state.allowsPartialRebuild(events - 1)]).toEqual([events, false]);
  }
  expect(cleared).toBeLessThan(103);
});

test("bitmap state: a member is added: nothing is durable until all blocks are written again", () => {
  const state = settled();
  state.startWrite(80, 8);
  state.beginBlockWrite(0);
  state.rewriteAll();
  state.endBlockWrite(0);
  expect(state.isDurable(80, 8)).toBe(false);
  expect(writeBlocks(state, true)).toEqual([0, 1]);
  expect(state.isDurable(80, 8)).toBe(true);
});

// Crashes ------------------------------------------------------------------------------------

interface ModelWrite {
  readonly sector: number;
  readonly lengthSectors: number;
  isStarted: boolean;
}

/** Bits that a crash now must find set on every member, and the disk that it finds. */
class CrashModel {
  readonly state: BitmapState;
  readonly random: SeededRandom;
  readonly disk: Uint8Array;
  /** The content that a block being written may have got. */
  readonly coming = new Map<number, Uint8Array>();
  readonly writes: ModelWrite[] = [];
  /** By bit: writes whose rows a crash may tear, in flight or not flushed. */
  readonly unflushed = new Map<number, number>();
  /** Ended writes by bit, since the last flush was submitted. */
  ended: number[] = [];
  /** Bits of which a write did not reach every member. */
  readonly needed = new Set<number>();
  isDegraded = false;
  events = 100;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.state = newBitmap(header, false);
    writeBlocks(this.state);
    this.disk = this.state.image();
  }

  private bitsOf({ sector, lengthSectors }: ModelWrite): number[] {
    const first = Math.floor(sector / 8);
    const last = Math.floor((sector + lengthSectors - 1) / 8);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  }

  private start(write: ModelWrite): void {
    write.isStarted = true;
    for (const bit of this.bitsOf(write)) {
      this.unflushed.set(bit, (this.unflushed.get(bit) ?? 0) + 1);
    }
  }

  startSome(): void {
    // Few places, so that bits meet; the edge between the two blocks among them.
    const sector = [0, 8, 16, 30_720 * 8 - 12, 319_980][nextBelow(this.random, 5)]!;
    const write = { sector, lengthSectors: 1 + nextBelow(this.random, 20), isStarted: false };
    this.writes.push(write);
    if (this.state.startWrite(write.sector, write.lengthSectors)) this.start(write);
  }

  startDurable(): void {
    for (const write of this.writes) {
      const { sector, lengthSectors, isStarted } = write;
      if (!isStarted && this.state.isDurable(sector, lengthSectors)) this.start(write);
    }
  }

  endSome(): void {
    const index = this.writes.findIndex(({ isStarted }) => isStarted);
    if (index < 0) return;
    const write = this.writes.splice(index, 1)[0]!;
    const isWhole = !this.isDegraded && nextBelow(this.random, 10) > 0;
    this.state.endWrite(write.sector, write.lengthSectors, isWhole);
    for (const bit of this.bitsOf(write)) {
      if (!isWhole) this.needed.add(bit);
      this.ended.push(bit);
    }
  }

  beginBlock(urgentOnly: boolean): void {
    const block = this.state.nextBlock(0, urgentOnly);
    if (block < 0) return;
    this.state.beginBlockWrite(block);
    const start = block * BITMAP_BLOCK_BYTES;
    this.coming.set(block, this.state.submitted.slice(start, start + BITMAP_BLOCK_BYTES));
  }

  endBlock(): void {
    const [block, bytes] = [...this.coming][0] ?? [];
    if (block === undefined || bytes === undefined) return;
    this.coming.delete(block);
    this.disk.set(bytes, block * BITMAP_BLOCK_BYTES);
    this.state.endBlockWrite(block);
  }

  /** A pass, with things going on while its flush is under way. */
  pass(): void {
    if (!this.state.startPass()) return;
    const covered = this.ended;
    this.ended = [];
    const steps = nextBelow(this.random, 4);
    for (let step = 0; step < steps; step += 1) this.step(6);
    const isFlushed = nextBelow(this.random, 5) > 0;
    if (isFlushed) {
      for (const bit of covered) this.unflushed.set(bit, this.unflushed.get(bit)! - 1);
    } else {
      this.ended.push(...covered);
    }
    this.state.finishPass(isFlushed);
  }

  sync(): void {
    if (this.isDegraded) return;
    this.state.beginSync(0, 320_000);
    this.needed.clear();
    for (let step = nextBelow(this.random, 4); step > 0; step -= 1) this.step(6);
    this.state.endSync(0, 320_000, true);
  }

  changeState(): void {
    if (nextBelow(this.random, 3) > 0) return;
    this.events += 1;
    this.state.setEvents(this.events);
    this.isDegraded = !this.isDegraded;
    this.state.setDegraded(this.isDegraded);
  }

  step(kinds: number): void {
    const steps = [
      () => this.startSome(),
      () => this.startDurable(),
      () => this.endSome(),
      () => this.beginBlock(true),
      () => this.beginBlock(false),
      () => this.endBlock(),
      () => this.pass(),
      () => this.pass(),
      () => this.sync(),
      () => this.changeState(),
    ];
    steps[nextBelow(this.random, kinds)]!();
  }

  /** The bits that a crash at this moment must find, and does not. */
  lost(): number[] {
    const must = new Set([
      ...[...this.unflushed].filter(([, count]) => count > 0).map(([bit]) => bit),
      ...this.needed,
    ]);
    return [...must].filter((bit) => {
      const at = BITMAP_HEADER_BYTES + (bit >>> 3);
      const mask = 1 << (bit & 7);
      const block = Math.floor(at / BITMAP_BLOCK_BYTES);
      const coming = this.coming.get(block);
      const isOnDisk = (this.disk[at]! & mask) !== 0;
      const isComing = coming === undefined || (coming[at % BITMAP_BLOCK_BYTES]! & mask) !== 0;
      return !isOnDisk || !isComing;
    });
  }

  finish(): void {
    if (this.isDegraded) {
      this.events += 1;
      this.state.setEvents(this.events);
      this.state.setDegraded(false);
      this.isDegraded = false;
    }
    for (let round = 0; round < 400 && this.writes.length > 0; round += 1) {
      this.startDurable();
      this.endSome();
      this.beginBlock(false);
      this.endBlock();
    }
    this.state.beginSync(0, 320_000);
    this.state.endSync(0, 320_000, true);
    while (this.coming.size > 0) this.endBlock();
    for (let round = 0; round < 5; round += 1) pass(this.state);
  }
}

test("bitmap state: rule 7 and B8: random lives of 300 steps: no crash loses a bit, all settles", () => {
  let cleared = 0;
  for (let seed = 1; seed <= 400; seed += 1) {
    const model = new CrashModel(seed);
    let setBefore = 0;
    for (let step = 0; step < 300; step += 1) {
      model.step(10);
      if (model.lost().length > 0) throw new Error(`seed ${seed} step ${step}: ${model.lost()}`);
      const { setCount } = step % 50 === 49 ? model.state : { setCount: setBefore };
      if (setCount < setBefore) cleared += 1;
      setBefore = setCount;
    }
    model.finish();
    expect({ seed, writes: model.writes.length, set: model.state.setCount }).toEqual({
      seed,
      writes: 0,
      set: 0,
    });
    expect(model.state.isSettled).toBe(true);
  }
  expect(cleared).toBeGreaterThan(50);
});
