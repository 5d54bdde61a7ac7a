/**
 * Where the bytes of an array lie on its members: all six RAID5 layouts of md.
 *
 * With n members a stripe has n - 1 data chunks (data index i, in array order) and one parity
 * chunk (P). Stripe s lies at byte s * chunkBytes of the data region of every member.
 *
 *   layout              parity role P        role of data index i
 *   0 left-asymmetric   n - 1 - (s mod n)    i + (i >= P ? 1 : 0)
 *   1 right-asymmetric  s mod n              i + (i >= P ? 1 : 0)
 *   2 left-symmetric    n - 1 - (s mod n)    (P + 1 + i) mod n
 *   3 right-symmetric   s mod n              (P + 1 + i) mod n
 *   4 parity-first      0                    i + 1
 *   5 parity-last       n - 1                i
 *
 * Offsets are plain numbers: everything below 2^53 is exact, and the constructor checks the
 * largest that can occur. Nothing here allocates, so the hot path may call all of it.
 * Source: algorithm_* in the Linux kernel's raid5.c, confirmed bit by bit against the kernel.
 */
import { assert } from "../base/assert.ts";
import { isPowerOfTwo, ROW_BYTES, roundDown } from "../base/units.ts";
import { isLayout } from "../md/layout.ts";

export {
  LAYOUT_LEFT_ASYMMETRIC,
  LAYOUT_LEFT_SYMMETRIC,
  LAYOUT_PARITY_FIRST,
  LAYOUT_PARITY_LAST,
  LAYOUT_RIGHT_ASYMMETRIC,
  LAYOUT_RIGHT_SYMMETRIC,
  type LayoutName,
  layoutByName,
  layoutName,
} from "../md/layout.ts";

export interface GeometryOptions {
  readonly memberCount: number;
  readonly chunkBytes: number;
  /** md layout number, 0 to 5. */
  readonly layout: number;
  /** Bytes used of each member's data region; a part chunk at the end is not used. */
  readonly memberSizeBytes: number;
}

export class Geometry {
  readonly memberCount: number;
  /** Data chunks per stripe: memberCount - 1. */
  readonly dataCount: number;
  readonly chunkBytes: number;
  readonly layout: number;
  /** Data bytes per stripe. */
  readonly stripeBytes: number;
  /** Rounded down to whole chunks. This and the next two are changed by `resize` alone. */
  memberSizeBytes = 0;
  stripeCount = 0;
  /** Of the whole array. */
  sizeBytes = 0;
  private readonly isLeft: boolean;
  private readonly isSymmetric: boolean;
  /** -1 where parity moves from stripe to stripe. */
  private readonly fixedParityRole: number;

  /** The caller has judged what it read from a disk (`md/assemble/assemble.ts`): wrong numbers are a bug. */
  constructor({ memberCount, chunkBytes, layout, memberSizeBytes }: GeometryOptions) {
    assert(Number.isInteger(memberCount) && memberCount >= 2, "an array has at least two members");
    assert(isPowerOfTwo(chunkBytes) && chunkBytes >= ROW_BYTES, "chunks are 2^n rows");
    assert(isLayout(layout), "the layout is one of the six of RAID5");
    this.memberCount = memberCount;
    this.dataCount = memberCount - 1;
    this.chunkBytes = chunkBytes;
    this.layout = layout;
    this.stripeBytes = this.dataCount * chunkBytes;
    this.isLeft = layout === 0 || layout === 2;
    this.isSymmetric = layout === 2 || layout === 3;
    this.fixedParityRole = layout === 4 ? 0 : layout === 5 ? this.dataCount : -1;
    this.resize(memberSizeBytes);
  }

  /** More or fewer stripes, each where it was: of those that go nothing is under way. */
  resize(memberSizeBytes: number): void {
    assert(Number.isSafeInteger(memberSizeBytes), "the member size is an exact number");
    assert(memberSizeBytes >= this.chunkBytes, "a member holds at least one chunk");
    this.memberSizeBytes = roundDown(memberSizeBytes, this.chunkBytes);
    this.stripeCount = this.memberSizeBytes / this.chunkBytes;
    this.sizeBytes = this.stripeCount * this.stripeBytes;
    assert(Number.isSafeInteger(this.sizeBytes), "the array size is an exact number");
  }

  /** The largest power of two that divides a stripe's data: the best size of a request. */
  get preferredBytes(): number {
    let bytes = this.chunkBytes;
    while (this.stripeBytes % (bytes * 2) === 0) bytes *= 2;
    return bytes;
  }

  /** The stripe that holds byte `arrayOffset`. */
  stripeOf(arrayOffset: number): number {
    assert(arrayOffset >= 0 && arrayOffset < this.sizeBytes, "the offset lies in the array");
    return Math.floor(arrayOffset / this.stripeBytes);
  }

  /** Where data chunk `dataIndex` of a stripe begins in the array. */
  arrayOffsetOf(stripe: number, dataIndex: number): number {
    this.checkIndexes(stripe, dataIndex, this.dataCount);
    return stripe * this.stripeBytes + dataIndex * this.chunkBytes;
  }

  /** Where a stripe begins in the data region of every member. */
  memberOffsetOf(stripe: number): number {
    this.checkIndexes(stripe, 0, 1);
    return stripe * this.chunkBytes;
  }

  /** The role that holds the parity of a stripe. */
  parityRole(stripe: number): number {
    this.checkIndexes(stripe, 0, 1);
    if (this.fixedParityRole >= 0) return this.fixedParityRole;
    const turn = stripe % this.memberCount;
    return this.isLeft ? this.dataCount - turn : turn;
  }

  /** The role that holds data chunk `dataIndex` of a stripe. */
  dataRole(stripe: number, dataIndex: number): number {
    this.checkIndexes(stripe, dataIndex, this.dataCount);
    const parity = this.parityRole(stripe);
    if (!this.isSymmetric) return dataIndex >= parity ? dataIndex + 1 : dataIndex;
    const role = parity + 1 + dataIndex;
    return role >= this.memberCount ? role - this.memberCount : role;
  }

  /** Which data chunk of a stripe a role holds: -1 where it holds the parity. */
  dataIndexOf(stripe: number, role: number): number {
    this.checkIndexes(stripe, role, this.memberCount);
    const parity = this.parityRole(stripe);
    if (role === parity) return -1;
    if (!this.isSymmetric) return role > parity ? role - 1 : role;
    const dataIndex = role - parity - 1;
    return dataIndex < 0 ? dataIndex + this.memberCount : dataIndex;
  }

  private checkIndexes(stripe: number, index: number, bound: number): void {
    assert(Number.isInteger(stripe), "a stripe is a whole number");
    assert(stripe >= 0 && stripe < this.stripeCount, "the stripe lies in the array");
    assert(Number.isInteger(index) && index >= 0 && index < bound, "the index is in range");
  }
}
