/**
 * The write-intent bitmap of a running array: which bits are set, since when they could be cleared,
 * and which blocks must be written for that.
 *
 * Three images of the area on disk, header included, alike when nothing is under way:
 *
 *   live       what the disk ought to hold: changed by writes and by passes
 *   submitted  a block's content when its write began; never touched until that write has ended
 *   durable    what every member holds for certain
 *
 * A write may go to the members only while its bits are durable: set there, and not cleared by a
 * block write under way. A bit lives like this (md's counters, bitmap_daemon_work() in Linux 6.1):
 *
 *   clear -> busy (writes in flight) -> idle -> a pass later: rested -> a pass later: clear
 *
 * Clearing has three conditions. The array is whole. A flush that was submitted after the bit's
 * last write succeeded on every member (write-rules 7): the caller flushes between `startPass` and
 * `finishPass`. And `events_cleared` is durable at an event since which the array has been whole,
 * and which is not before the bit's last write (write-rules 19), or a member that left earlier, or
 * an older copy of one, could be taken back without what these bits knew.
 * A bit of which a write did not reach every member is needed: it stays until that range is synced.
 *
 * At first nothing counts as durable, since the copies of the members may differ after a crash:
 * all blocks are urgent, and are written before the array takes its first write.
 *
 * Nothing in startWrite, endWrite and isDurable allocates.
 */
import { assert } from "../base/assert.ts";
import { SECTOR_BYTES } from "../base/units.ts";
import type { SectorRange } from "./bad-block-log.ts";
import {
  BITMAP_BLOCK_BYTES,
  BITMAP_HEADER_BYTES,
  BitmapFlag,
  type BitmapHeader,
  bitmapAreaBytes,
  bitmapBitCount,
  encodeBitmapHeader,
} from "./bitmap.ts";

const Age = { none: 0, rested: 1, idle: 2, candidate: 3 } as const;
const Need = { none: 0, resync: 1, syncing: 2 } as const;
/** Outdated: not every present member gets it. */
const Writing = { none: 0, current: 1, outdated: 2 } as const;

const BLOCK_BITS = BITMAP_BLOCK_BYTES * 8;
const HEADER_BITS = BITMAP_HEADER_BYTES * 8;
/** A count of `inFlight` takes 32 bits. */
const IN_FLIGHT_MAX = 2 ** 32 - 1;

export interface BitmapStateOptions {
  readonly header: BitmapHeader;
  /** Whole blocks, header and bits; copied. */
  readonly image: Uint8Array;
  readonly isDegraded: boolean;
}

export class BitmapState {
  readonly chunkSectors: number;
  readonly bitCount: number;
  readonly blockCount: number;
  readonly daemonSleepMs: number;
  /** Blocks that are being written are sent from here. */
  readonly submitted: Uint8Array;
  private current: BitmapHeader;
  private readonly live: Uint8Array;
  private readonly durable: Uint8Array;
  private readonly inFlight: Uint32Array;
  private readonly age: Uint8Array;
  private readonly need: Uint8Array;
  /** A bit that a waiting write needs, or the header, has changed in the block. */
  private readonly urgent: Uint8Array;
  /** Something else has changed in the block. */
  private readonly lazy: Uint8Array;
  private readonly writing: Uint8Array;
  /** The block has a bit with an age. */
  private readonly aging: Uint8Array;
  private isDegraded: boolean;
  private isPassing = false;
  /** -1: not known. */
  private durableEventsCleared = -1;
  /** No member has been missing since this event. */
  private wholeSinceEvents: number;
  /** The event at the last pass. */
  private lastPassEvents = 0;

  constructor({ header, image, isDegraded }: BitmapStateOptions) {
    const areaBytes = bitmapAreaBytes(header);
    assert(Number.isInteger(header.chunkBytes / SECTOR_BYTES), "a bit stands for whole sectors");
    assert(header.daemonSleepSeconds > 0, "passes have time between them");
    assert(image.length === areaBytes, "the image is the area in whole blocks");
    this.current = header;
    this.chunkSectors = header.chunkBytes / SECTOR_BYTES;
    this.bitCount = bitmapBitCount(header);
    this.blockCount = areaBytes / BITMAP_BLOCK_BYTES;
    this.daemonSleepMs = header.daemonSleepSeconds * 1000;
    this.live = image.slice();
    this.durable = new Uint8Array(areaBytes);
    this.submitted = new Uint8Array(areaBytes);
    this.inFlight = new Uint32Array(this.bitCount);
    this.age = new Uint8Array(this.bitCount);
    this.need = new Uint8Array(this.bitCount);
    this.urgent = new Uint8Array(this.blockCount).fill(1);
    this.lazy = new Uint8Array(this.blockCount);
    this.writing = new Uint8Array(this.blockCount);
    this.aging = new Uint8Array(this.blockCount);
    this.isDegraded = isDegraded;
    this.wholeSinceEvents = header.events;
    for (let bit = 0; bit < this.bitCount; bit += 1) if (this.isSet(bit)) this.rest(bit);
  }

  get events(): number {
    return this.current.events;
  }

  /** It says, among other things, how much room the blocks take on a member. */
  get header(): BitmapHeader {
    return this.current;
  }

  /** How many bits are set. */
  get setCount(): number {
    let count = 0;
    for (let bit = 0; bit < this.bitCount; bit += 1) if (this.isSet(bit)) count += 1;
    return count;
  }

  /** No bit grows old and no block waits to be written: no pass is due. */
  get isSettled(): boolean {
    return !this.aging.includes(1) && !this.urgent.includes(1) && !this.lazy.includes(1);
  }

  /** What the disk ought to hold, as a copy. */
  image(): Uint8Array {
    return this.live.slice();
  }

  // Writes -----------------------------------------------------------------------------------

  /**
   * Sets the bits of member sectors that are about to be written. True: they are durable, and the
   * write may go on. False: write the urgent blocks (`nextBlock`) and ask `isDurable` again.
   */
  startWrite(sector: number, lengthSectors: number): boolean {
    const last = this.lastBit(sector, lengthSectors);
    let isDurable = true;
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      assert(this.inFlight[bit]! < IN_FLIGHT_MAX, "the writes of a bit can be counted");
      this.inFlight[bit]! += 1;
      this.age[bit] = Age.none;
      if (!this.set(bit)) isDurable = false;
      assert(this.isSet(bit), "the bit of a write that begins is set");
    }
    return isDurable;
  }

  isDurable(sector: number, lengthSectors: number): boolean {
    const last = this.lastBit(sector, lengthSectors);
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      if (!this.isBitDurable(bit)) return false;
    }
    return true;
  }

  /**
   * The same range as in `startWrite`. `isWhole`: the write succeeded on every member it was for.
   */
  endWrite(sector: number, lengthSectors: number, isWhole: boolean): void {
    const last = this.lastBit(sector, lengthSectors);
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      assert(this.inFlight[bit]! > 0, "a write ends once");
      assert(this.isSet(bit), "the bit of a write in flight stays set");
      assert(this.age[bit] === Age.none, "a bit with writes in flight does not grow old");
      this.inFlight[bit]! -= 1;
      if (!isWhole || this.isDegraded) this.need[bit] = Need.resync;
      if (this.inFlight[bit] === 0) this.rest(bit);
    }
  }

  /** Sets bits and keeps them until the range is synced. */
  markNeeded(sector: number, lengthSectors: number): void {
    const last = this.lastBit(sector, lengthSectors);
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      this.set(bit);
      this.need[bit] = Need.resync;
    }
  }

  // Sync -------------------------------------------------------------------------------------

  /** Member sectors under set bits (`needed`: those that must be synced), merged, ascending. */
  dirtyRanges(which: "set" | "needed" = "set"): SectorRange[] {
    const ranges: { sector: number; lengthSectors: number }[] = [];
    for (let bit = 0; bit < this.bitCount; bit += 1) {
      if (which === "set" ? !this.isSet(bit) : this.need[bit] === Need.none) continue;
      const sector = bit * this.chunkSectors;
      const end = Math.min(sector + this.chunkSectors, this.current.syncSizeSectors);
      assert(end > sector, "a bit stands for sectors of the member");
      const previous = ranges.at(-1);
      if (previous !== undefined && previous.sector + previous.lengthSectors === sector) {
        previous.lengthSectors = end - previous.sector;
      } else {
        ranges.push({ sector, lengthSectors: end - sector });
      }
    }
    return ranges;
  }

  /** A resync or rebuild takes up the bits that begin in this range of member sectors. */
  beginSync(sector: number, lengthSectors: number): void {
    const last = this.lastBit(sector, lengthSectors);
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      if (this.need[bit] === Need.resync) this.need[bit] = Need.syncing;
    }
  }

  /**
   * It has ended with all of the range durable, or not. A bit of which another write failed in the
   * meantime stays needed. A rebuild ends a bit only when no member is missing any more.
   */
  endSync(sector: number, lengthSectors: number, isDone: boolean): void {
    const last = this.lastBit(sector, lengthSectors);
    for (let bit = this.firstBit(sector); bit <= last; bit += 1) {
      if (this.need[bit] !== Need.syncing) continue;
      assert(this.isSet(bit), "a bit stays set until its range is synced");
      this.need[bit] = isDone ? Need.none : Need.resync;
      if (isDone && this.inFlight[bit] === 0) this.rest(bit);
    }
  }

  /** Whether a member that left at this event may come back with only the set bits rebuilt. */
  allowsPartialRebuild(memberEvents: number): boolean {
    assert(Number.isSafeInteger(memberEvents), "the events of a member were decoded");
    return memberEvents >= Math.max(this.current.eventsCleared, this.durableEventsCleared);
  }

  /** With false, after the event count that goes with it (`setEvents`). */
  setDegraded(isDegraded: boolean): void {
    if (this.isDegraded && !isDegraded) this.wholeSinceEvents = this.current.events;
    this.isDegraded = isDegraded;
  }

  /** A member has been added: its copy holds nothing yet, so all blocks are written again. */
  rewriteAll(): void {
    this.durable.fill(0);
    this.urgent.fill(1);
    for (let block = 0; block < this.blockCount; block += 1) {
      if (this.writing[block] !== Writing.none) this.writing[block] = Writing.outdated;
    }
  }

  // Header -----------------------------------------------------------------------------------

  /**
   * Order: the header with the new event count is durable before the superblocks with it are
   * written; otherwise a crash in between makes the bitmap stale.
   */
  setEvents(events: number): void {
    assert(Number.isSafeInteger(events) && events >= 0, "an event count is a whole number");
    const eventsCleared = Math.min(this.current.eventsCleared, events);
    this.current = {
      ...this.current,
      events,
      eventsCleared,
      state: this.current.state & ~(BitmapFlag.stale | BitmapFlag.writeError),
    };
    this.wholeSinceEvents = Math.min(this.wholeSinceEvents, events);
    this.live.set(encodeBitmapHeader(this.current));
    this.urgent[0] = 1;
    assert(this.wholeSinceEvents <= events, "the array has been whole since an event that was");
  }

  // Clearing ---------------------------------------------------------------------------------

  /**
   * Every `daemonSleepMs`. True: there are bits to clear; flush every member, then `finishPass`
   * with whether that succeeded on all of them. False: no flush, no `finishPass`. In both cases
   * the blocks that `nextBlock` then names are written.
   */
  startPass(): boolean {
    assert(!this.isPassing, "a pass ends before the next one begins");
    if (this.isDegraded) return false;
    const mayClear = this.advanceEventsCleared();
    let hasCandidates = false;
    for (let block = 0; block < this.blockCount; block += 1) {
      if (this.aging[block] === 0) continue;
      if (this.agePast(block, mayClear)) hasCandidates = true;
    }
    assert(mayClear || !hasCandidates, "bits are to be cleared only where that may be");
    this.isPassing = hasCandidates;
    return hasCandidates;
  }

  finishPass(isFlushed: boolean): void {
    assert(this.isPassing, "a pass has begun");
    this.isPassing = false;
    const mayClear = isFlushed && !this.isDegraded;
    for (let block = 0; block < this.blockCount; block += 1) {
      if (this.aging[block] === 0) continue;
      const end = this.endBit(block);
      for (let bit = this.startBit(block); bit < end; bit += 1) {
        if (this.age[bit] !== Age.candidate) continue;
        if (mayClear && this.need[bit] === Need.none) this.clear(bit);
        else this.age[bit] = Age.rested;
      }
    }
  }

  /**
   * True: the durable `events_cleared` shuts out every member that left before the bits that rest
   * were written, and every older copy of one.
   */
  private advanceEventsCleared(): boolean {
    const { events, eventsCleared } = this.current;
    // What rests now has rested since the last pass at the latest.
    const restedEvents = Math.max(this.wholeSinceEvents, Math.min(this.lastPassEvents, events));
    this.lastPassEvents = events;
    if (eventsCleared < events && this.aging.includes(1)) {
      this.current = { ...this.current, eventsCleared: events };
      this.live.set(encodeBitmapHeader(this.current));
      this.lazy[0] = 1;
    }
    assert(restedEvents <= events, "what rests was written at an event that was");
    // A header under way counts only when it has arrived.
    return this.durableEventsCleared >= restedEvents && this.writing[0] === Writing.none;
  }

  private agePast(block: number, mayClear: boolean): boolean {
    let hasCandidates = false;
    let isAging = 0;
    const end = this.endBit(block);
    for (let bit = this.startBit(block); bit < end; bit += 1) {
      if (this.age[bit] === Age.none || this.need[bit] !== Need.none) continue;
      isAging = 1;
      if (this.age[bit] === Age.idle) {
        this.age[bit] = Age.rested;
      } else if (mayClear) {
        this.age[bit] = Age.candidate;
        hasCandidates = true;
      }
    }
    this.aging[block] = isAging;
    return hasCandidates;
  }

  // Blocks -----------------------------------------------------------------------------------

  /** The next block from `from` on that is to be written and is not being written; or -1. */
  nextBlock(from: number, urgentOnly: boolean): number {
    assert(from >= 0, "blocks are counted from 0");
    for (let block = from; block < this.blockCount; block += 1) {
      if (this.writing[block] !== Writing.none) continue;
      if (this.urgent[block] === 1 || (!urgentOnly && this.lazy[block] === 1)) return block;
    }
    return -1;
  }

  /** Puts the block's content into `submitted`. */
  beginBlockWrite(block: number): void {
    assert(block >= 0 && block < this.blockCount, "the bitmap has the block");
    assert(this.writing[block] === Writing.none, "a block is written once at a time");
    assert(this.urgent[block] === 1 || this.lazy[block] === 1, "a block is written for a change");
    this.copyBlock(this.submitted, this.live, block);
    this.urgent[block] = 0;
    this.lazy[block] = 0;
    this.writing[block] = Writing.current;
  }

  /** Some members hold the block, others what they held before: it is to be written again. */
  refuseBlockWrite(block: number): void {
    assert(this.writing[block] !== Writing.none, "the write of the block had begun");
    this.writing[block] = Writing.none;
    this.urgent[block] = 1;
    const end = (block + 1) * BITMAP_BLOCK_BYTES;
    for (let index = block * BITMAP_BLOCK_BYTES; index < end; index += 1) {
      this.durable[index]! &= this.submitted[index]!;
    }
    if (block === 0) this.durableEventsCleared = -1;
  }

  /** Every member holds the block durably; one that does not has been failed. */
  endBlockWrite(block: number): void {
    assert(this.writing[block] !== Writing.none, "the write of the block had begun");
    const isCurrent = this.writing[block] === Writing.current;
    this.writing[block] = Writing.none;
    if (!isCurrent) return;
    this.copyBlock(this.durable, this.submitted, block);
    if (block === 0) this.durableEventsCleared = this.submittedEventsCleared();
    assert(this.durableEventsCleared < Number.MAX_SAFE_INTEGER, "the header was encoded here");
  }

  private submittedEventsCleared(): number {
    const bytes = this.submitted;
    let value = 0;
    for (let index = 39; index >= 32; index -= 1) value = value * 256 + bytes[index]!;
    return value;
  }

  private copyBlock(to: Uint8Array, from: Uint8Array, block: number): void {
    const end = (block + 1) * BITMAP_BLOCK_BYTES;
    for (let index = block * BITMAP_BLOCK_BYTES; index < end; index += 1) to[index] = from[index]!;
  }

  // Bits -------------------------------------------------------------------------------------

  private firstBit(sector: number): number {
    return Math.floor(sector / this.chunkSectors);
  }

  private lastBit(sector: number, lengthSectors: number): number {
    assert(sector >= 0 && lengthSectors > 0, "a range has sectors");
    const last = Math.floor((sector + lengthSectors - 1) / this.chunkSectors);
    assert(last < this.bitCount, "the range lies in the member");
    return last;
  }

  private startBit(block: number): number {
    return Math.max(0, block * BLOCK_BITS - HEADER_BITS);
  }

  private endBit(block: number): number {
    return Math.min(this.bitCount, (block + 1) * BLOCK_BITS - HEADER_BITS);
  }

  private blockOf(bit: number): number {
    return Math.floor((bit + HEADER_BITS) / BLOCK_BITS);
  }

  private isSet(bit: number): boolean {
    return hasBit(this.live, bit);
  }

  private isBitDurable(bit: number): boolean {
    if (!hasBit(this.durable, bit)) return false;
    return this.writing[this.blockOf(bit)] === Writing.none || hasBit(this.submitted, bit);
  }

  /** True: it is durable. */
  private set(bit: number): boolean {
    this.live[BITMAP_HEADER_BYTES + (bit >>> 3)]! |= 1 << (bit & 7);
    if (this.isBitDurable(bit)) return true;
    // Being written already, with this bit in it: no second write is needed.
    const block = this.blockOf(bit);
    const isUnderWay = this.writing[block] === Writing.current && hasBit(this.submitted, bit);
    if (!isUnderWay) this.urgent[block] = 1;
    return false;
  }

  private clear(bit: number): void {
    assert(this.inFlight[bit] === 0, "a bit with writes in flight is not cleared");
    assert(this.need[bit] === Need.none, "a bit is not cleared before its range is synced");
    assert(
      this.age[bit] === Age.candidate,
      "a bit is cleared after a flush that followed its rest",
    );
    this.live[BITMAP_HEADER_BYTES + (bit >>> 3)]! &= ~(1 << (bit & 7));
    this.age[bit] = Age.none;
    this.lazy[this.blockOf(bit)] = 1;
  }

  private rest(bit: number): void {
    assert(this.inFlight[bit] === 0, "a bit rests when its last write has ended");
    assert(this.isSet(bit), "a bit that rests is set");
    this.age[bit] = Age.idle;
    this.aging[this.blockOf(bit)] = 1;
  }
}

function hasBit(image: Uint8Array, bit: number): boolean {
  return (image[BITMAP_HEADER_BYTES + (bit >>> 3)]! & (1 << (bit & 7))) !== 0;
}
