/**
 * Which stripes of an array are known to read as zeros, and which of them take no room.
 *
 * Two bits for a region, a power of two of stripes, so that the map of the largest array stays
 * small. A bit is set only where it is certain; not set means "perhaps data".
 *
 *   zero | hole |
 *   -----|------|------------------------------------------------------------------------
 *    0   |  0   | data, or not known: everything after an assemble
 *    1   |  0   | zeros were written over whole stripes
 *    1   |  1   | never written since the create on members that read zeros, or punched: durable
 *
 * Why a write may mark its stripes when it is answered, when it holds its stripe no more: zeros
 * are marked by who holds it, so a write that got it later is answered later, and one that got it
 * earlier only says "data" where zeros have followed.
 */
import { assert } from "../../base/assert.ts";
import type { Geometry } from "../geometry.ts";

/** The numbers of base:allocation in the NBD protocol. */
const Allocation = { data: 0, hole: 1, zero: 2 } as const;

export const REGIONS_MAX = 2 ** 23;

export class AllocationMap {
  private readonly stripeBytes: number;
  private stripeCount = 0;
  private regionStripes = 1;
  private regionCount = 0;
  private zeros = new Uint32Array(0);
  private holes = new Uint32Array(0);

  constructor({ stripeBytes, stripeCount }: Pick<Geometry, "stripeBytes" | "stripeCount">) {
    this.stripeBytes = stripeBytes;
    this.grow(stripeCount);
  }

  /** The array has so many stripes now: of the new ones nothing is known. */
  grow(stripeCount: number): void {
    assert(stripeCount >= this.stripeCount, "an array does not shrink");
    const before = { ...this };
    while (stripeCount / this.regionStripes > REGIONS_MAX) this.regionStripes *= 2;
    this.stripeCount = stripeCount;
    this.regionCount = Math.ceil(stripeCount / this.regionStripes);
    this.zeros = new Uint32Array(Math.ceil(this.regionCount / 32));
    this.holes = new Uint32Array(this.zeros.length);
    // What is known of a region is known of all its stripes: of the last one of before only where
    // that ended with the array as it was.
    const fitting = Math.floor(before.stripeCount / this.regionStripes);
    const merged = this.regionStripes / before.regionStripes;
    for (let region = 0; region < fitting; region += 1) {
      const bit = 1 << (region & 31);
      if (areSet(before.zeros, region, merged)) this.zeros[region >>> 5]! |= bit;
      if (areSet(before.holes, region, merged)) this.holes[region >>> 5]! |= bit;
    }
  }

  /** Nothing was ever written, and every member reads zeros. */
  noteEmpty(): void {
    this.zeros.fill(0xffff_ffff);
    this.holes.fill(0xffff_ffff);
  }

  /** Bytes [offset, offset + bytes) of the array may hold data from now on. */
  noteData(offset: number, bytes: number): void {
    if (bytes === 0) return;
    const { stripeCount, stripeBytes } = this;
    assert(offset + bytes <= stripeCount * stripeBytes, "data lies in the array");
    const last = this.regionAt(offset + bytes - 1);
    for (let region = this.regionAt(offset); region <= last; region += 1) {
      this.zeros[region >>> 5]! &= ~(1 << (region & 31));
      this.holes[region >>> 5]! &= ~(1 << (region & 31));
    }
  }

  /** Stripes [first, end) read zeros; the caller has locked them. */
  noteZeros(first: number, end: number, { isHole }: { isHole: boolean }): void {
    assert(first < end && end <= this.stripeCount, "zeros are of stripes of the array");
    const isToTheEnd = end === this.stripeCount;
    const from = Math.ceil(first / this.regionStripes);
    const to = isToTheEnd ? this.regionCount : Math.floor(end / this.regionStripes);
    for (let region = from; region < to; region += 1) {
      const bit = 1 << (region & 31);
      this.zeros[region >>> 5]! |= bit;
      if (isHole) this.holes[region >>> 5]! |= bit;
      else this.holes[region >>> 5]! &= ~bit;
    }
  }

  isHole(stripe: number): boolean {
    const region = Math.floor(stripe / this.regionStripes);
    return (this.holes[region >>> 5]! & (1 << (region & 31))) !== 0;
  }

  /** The state of the byte at `offset`: bits of Allocation. */
  stateAt(offset: number): number {
    return this.regionState(this.regionAt(offset));
  }

  /** Where the state of the byte at `offset` ends, `limit` at most. */
  endAt(offset: number, limit: number): number {
    const state = this.stateAt(offset);
    const regionBytes = this.regionStripes * this.stripeBytes;
    let region = this.regionAt(offset) + 1;
    while (region * regionBytes < limit && this.regionState(region) === state) {
      region += this.wordsAlike(region, state) ? 32 : 1;
    }
    assert(region * regionBytes > offset, "a state has an end behind its begin");
    return Math.min(limit, region * regionBytes);
  }

  /** Whether the 32 regions that begin at `region` are one word of `state`. */
  private wordsAlike(region: number, state: number): boolean {
    if ((region & 31) !== 0) return false;
    const zeros = (state & Allocation.zero) === 0 ? 0 : 0xffff_ffff;
    const holes = (state & Allocation.hole) === 0 ? 0 : 0xffff_ffff;
    return this.zeros[region >>> 5] === zeros && this.holes[region >>> 5] === holes;
  }

  private regionState(region: number): number {
    const bit = 1 << (region & 31);
    const zero = (this.zeros[region >>> 5]! & bit) === 0 ? 0 : Allocation.zero;
    const hole = (this.holes[region >>> 5]! & bit) === 0 ? 0 : Allocation.hole;
    return zero | hole;
  }

  private regionAt(offset: number): number {
    return Math.floor(offset / (this.regionStripes * this.stripeBytes));
  }
}

/** Whether all bits of `count` regions are set, which are one region now. */
function areSet(bits: Uint32Array, region: number, count: number): boolean {
  for (let index = region * count; index < (region + 1) * count; index += 1) {
    if ((bits[index >>> 5]! & (1 << (index & 31))) === 0) return false;
  }
  return true;
}
