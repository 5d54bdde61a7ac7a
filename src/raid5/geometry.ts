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
 * **While an array is reshaped** to more members (array/sync/reshape.ts) it has two layouts. The
 * data region of every member begins `shiftStripes` chunks before the old one, and a stripe is, in
 * both, the row of chunks at stripe * chunkBytes of that region: no two stripes share a row, and a
 * lock or a bad row is of one row, whichever layout that has. Array bytes below `positionBytes` are
 * found in the new layout:
 *
 *   row  0 .. a    new layout, all members
 *        a .. b    nothing: these rows may be written over
 *        b .. end  old layout, old members; what is moved in part is whole here
 *
 *   a = positionBytes / stripeBytes, b = shiftStripes + floor(positionBytes / old stripeBytes)
 *
 * A step writes to rows between a and b alone, and b grows when it is on record. So whatever a
 * superblock says of the position, the old rows that it needs are as they were.
 *
 * Offsets are plain numbers: everything below 2^53 is exact, and the constructor checks the
 * largest that can occur. Nothing here allocates, so the hot path may call all of it.
 * Source: algorithm_* in the Linux kernel's raid5.c, confirmed bit by bit against the kernel.
 */
import { assert } from "../base/assert.ts";
import { isPowerOfTwo, ROW_BYTES, roundDown } from "../base/units.ts";
import { isLayout } from "../md/layout.ts";

export interface GeometryOptions {
  readonly memberCount: number;
  readonly chunkBytes: number;
  /** md layout number, 0 to 5. */
  readonly layout: number;
  /** Bytes used of each member's data region; a part chunk at the end is not used. */
  readonly memberSizeBytes: number;
  /** Set while the array grows to `memberCount` members. */
  readonly reshape?: ReshapeZones | null;
}

/** How far a reshape has come. */
export interface ReshapeZones {
  /** Members before it. */
  readonly memberCount: number;
  /** Chunks by which the data region of each member has moved towards the begin of its device. */
  readonly shiftStripes: number;
  /** Array bytes below it are laid out over all members: whole stripes of theirs. */
  readonly positionBytes: number;
}

/** What of the array is still laid out as before the reshape. */
interface OldLayout {
  readonly memberCount: number;
  readonly dataCount: number;
  readonly stripeBytes: number;
  readonly shiftStripes: number;
  readonly sizeBytes: number;
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
  /** Rows of chunks of a member, of either layout. */
  rowCount = 0;
  /** Of the whole array; during a reshape as before it. */
  sizeBytes = 0;
  /** Array bytes below it are found in the new layout. */
  positionBytes = 0;
  /** Where the step ends that is under way: requests between the two wait. */
  private movingToBytes = 0;
  private before: OldLayout | null = null;
  /** Whether `before` is set: asked with every request. */
  isReshaping = false;
  /** Stripes from this one on are laid out as before the reshape. */
  private oldFromStripe = Number.POSITIVE_INFINITY;
  private readonly isLeft: boolean;
  private readonly isSymmetric: boolean;

  /** The caller has judged what it read from a disk (`md/assemble/assemble.ts`): wrong numbers are a bug. */
  constructor({ memberCount, chunkBytes, layout, memberSizeBytes, reshape }: GeometryOptions) {
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
    this.resize(memberSizeBytes);
    if (reshape !== undefined && reshape !== null) this.beginReshape(reshape);
  }

  /** More or fewer stripes, each where it was: of those that go nothing is under way. */
  resize(memberSizeBytes: number): void {
    assert(Number.isSafeInteger(memberSizeBytes), "the member size is an exact number");
    assert(memberSizeBytes >= this.chunkBytes, "a member holds at least one chunk");
    assert(this.before === null, "an array that is reshaped keeps its size");
    this.memberSizeBytes = roundDown(memberSizeBytes, this.chunkBytes);
    this.stripeCount = this.memberSizeBytes / this.chunkBytes;
    this.rowCount = this.stripeCount;
    this.sizeBytes = this.stripeCount * this.stripeBytes;
    assert(Number.isSafeInteger(this.sizeBytes), "the array size is an exact number");
  }

  /** The largest power of two that divides a stripe's data: the best size of a request. */
  get preferredBytes(): number {
    let bytes = this.chunkBytes;
    while (this.stripeBytes % (bytes * 2) === 0) bytes *= 2;
    return bytes;
  }

  // A reshape --------------------------------------------------------------------------------

  private beginReshape({ memberCount, shiftStripes, positionBytes }: ReshapeZones): void {
    assert(memberCount >= 2 && memberCount < this.memberCount, "a reshape adds members");
    assert(Number.isInteger(shiftStripes) && shiftStripes > 0, "it has room for a stripe");
    assert(positionBytes % this.stripeBytes === 0, "what has been moved are whole stripes");
    const dataCount = memberCount - 1;
    const stripeBytes = dataCount * this.chunkBytes;
    const sizeBytes = this.stripeCount * stripeBytes;
    this.before = { memberCount, dataCount, stripeBytes, shiftStripes, sizeBytes };
    this.isReshaping = true;
    this.sizeBytes = sizeBytes;
    this.rowCount = this.stripeCount + shiftStripes;
    this.positionBytes = positionBytes;
    this.movingToBytes = positionBytes;
    this.oldFromStripe = positionBytes / this.stripeBytes;
    assert(this.oldFromStripe <= this.firstNeeded, "what has been moved lies before what has not");
  }

  /** Bytes of the array when the reshape is through. */
  get reshapedBytes(): number {
    return this.stripeCount * this.stripeBytes;
  }

  /** The first row that holds something which has not been moved. */
  private get firstNeeded(): number {
    const { before } = this;
    assert(before !== null, "a reshape is under way");
    const moved = Math.min(this.positionBytes, before.sizeBytes);
    return before.shiftStripes + Math.floor(moved / before.stripeBytes);
  }

  /** How far a step may go from here without touching a row that is needed. */
  get moveLimitBytes(): number {
    return Math.min(this.firstNeeded, this.stripeCount) * this.stripeBytes;
  }

  /** Requests in [positionBytes, toBytes) wait from now on; what it writes are whole stripes. */
  beginMove(toBytes: number): void {
    assert(this.before !== null && this.movingToBytes === this.positionBytes, "one step at a time");
    assert(
      toBytes > this.positionBytes && toBytes <= this.moveLimitBytes,
      "it touches nothing old",
    );
    assert(toBytes % this.stripeBytes === 0, "whole stripes are moved");
    this.movingToBytes = toBytes;
    this.oldFromStripe = toBytes / this.stripeBytes;
  }

  /** It is on record; or it has not been done, and all is where it was. */
  endMove({ isDone }: { readonly isDone: boolean }): void {
    assert(this.movingToBytes > this.positionBytes, "a step ends once");
    if (isDone) this.positionBytes = this.movingToBytes;
    else this.movingToBytes = this.positionBytes;
  }

  /** Whether bytes of this range are being moved. */
  isMoving(offset: number, bytes: number): boolean {
    const { positionBytes: from, movingToBytes: to } = this;
    return from < to && offset < to && offset + bytes > from;
  }

  /** All of it has been moved: the array has its new size. */
  endReshape(): void {
    assert(this.before !== null, "a reshape ends once");
    assert(this.positionBytes === this.reshapedBytes, "all of it has been moved");
    this.before = null;
    this.isReshaping = false;
    this.oldFromStripe = Number.POSITIVE_INFINITY;
    this.positionBytes = 0;
    this.movingToBytes = 0;
    this.resize(this.memberSizeBytes);
  }

  /** Whether a stripe holds nothing: its data have been moved, and others have not come yet. */
  isUnused(stripe: number): boolean {
    if (this.before === null) return false;
    return stripe >= this.positionBytes / this.stripeBytes && stripe < this.firstNeeded;
  }

  // Where things are -------------------------------------------------------------------------

  /** Roles of a stripe. */
  memberCountOf(stripe: number): number {
    return stripe < this.oldFromStripe ? this.memberCount : this.before!.memberCount;
  }

  /** Data chunks of a stripe. */
  dataCountOf(stripe: number): number {
    return stripe < this.oldFromStripe ? this.dataCount : this.before!.dataCount;
  }

  /** Data bytes of a stripe. */
  stripeBytesOf(stripe: number): number {
    return stripe < this.oldFromStripe ? this.stripeBytes : this.before!.stripeBytes;
  }

  /** The stripe that holds byte `arrayOffset`. */
  stripeOf(arrayOffset: number): number {
    assert(arrayOffset >= 0 && arrayOffset < this.sizeBytes, "the offset lies in the array");
    const { before } = this;
    if (before === null || arrayOffset < this.positionBytes) {
      return Math.floor(arrayOffset / this.stripeBytes);
    }
    return before.shiftStripes + Math.floor(arrayOffset / before.stripeBytes);
  }

  /** Where a stripe begins in the array. */
  firstByteOf(stripe: number): number {
    if (stripe < this.oldFromStripe) return stripe * this.stripeBytes;
    const { shiftStripes, stripeBytes } = this.before!;
    return (stripe - shiftStripes) * stripeBytes;
  }

  /** Where data chunk `dataIndex` of a stripe begins in the array. */
  arrayOffsetOf(stripe: number, dataIndex: number): number {
    this.checkIndexes(stripe, dataIndex, this.dataCountOf(stripe));
    return this.firstByteOf(stripe) + dataIndex * this.chunkBytes;
  }

  /** The role that holds the parity of a stripe. */
  parityRole(stripe: number): number {
    const memberCount = this.memberCountOf(stripe);
    this.checkIndexes(stripe, 0, memberCount);
    return this.parityOf(stripe, memberCount);
  }

  private parityOf(stripe: number, memberCount: number): number {
    if (this.layout === 4) return 0;
    if (this.layout === 5) return memberCount - 1;
    const within = stripe < this.oldFromStripe ? stripe : stripe - this.before!.shiftStripes;
    // Of what fits in 31 bits `%` is one instruction, and a call of the C library beyond.
    const turn = within < 0x8000_0000 ? (within | 0) % memberCount : within % memberCount;
    return this.isLeft ? memberCount - 1 - turn : turn;
  }

  /** The role that holds data chunk `dataIndex` of a stripe. */
  dataRole(stripe: number, dataIndex: number): number {
    const memberCount = this.memberCountOf(stripe);
    this.checkIndexes(stripe, dataIndex, memberCount - 1);
    const parity = this.parityOf(stripe, memberCount);
    if (!this.isSymmetric) return dataIndex >= parity ? dataIndex + 1 : dataIndex;
    const role = parity + 1 + dataIndex;
    return role >= memberCount ? role - memberCount : role;
  }

  /** Which data chunk of a stripe a role holds: -1 where it holds the parity. */
  dataIndexOf(stripe: number, role: number): number {
    const memberCount = this.memberCountOf(stripe);
    this.checkIndexes(stripe, role, memberCount);
    const parity = this.parityOf(stripe, memberCount);
    if (role === parity) return -1;
    if (!this.isSymmetric) return role > parity ? role - 1 : role;
    const dataIndex = role - parity - 1;
    return dataIndex < 0 ? dataIndex + memberCount : dataIndex;
  }

  private checkIndexes(stripe: number, index: number, bound: number): void {
    assert(Number.isInteger(stripe), "a stripe is a whole number");
    assert(stripe >= 0 && stripe < this.rowCount, "the stripe lies in the array");
    const isOfData = stripe < this.oldFromStripe || stripe >= this.before!.shiftStripes;
    assert(isOfData, "an old stripe lies in the old data");
    assert(Number.isInteger(index) && index >= 0 && index < bound, "the index is in range");
  }
}
