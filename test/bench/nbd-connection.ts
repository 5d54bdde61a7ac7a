/** One connection of an NBD load (nbd-load.ts): what is free, leaves, is under way and comes in. */

/** Room before received bytes for what came too early: a part of a reply's head, or of a stamp. */
export const CARRY_BYTES = 64;

/** Addresses are bytes in the arena. */
export class Connection {
  readonly fd: number;
  readonly headers: number;
  readonly vectors: number;
  readonly payloads: number;
  /** Of sequential traffic: the first block, how many, and which comes next. */
  readonly firstBlock: number;
  readonly blockCount: number;
  nextBlock = 0;
  /** The cookies that are free, on a stack. */
  readonly free: Int32Array;
  freeCount: number;
  /** By cookie: the block asked for, and when. */
  readonly blockOf: Float64Array;
  readonly sentNs: Float64Array;
  /** The batch that leaves now; none when both are equal. */
  batchBytes = 0;
  sentBytes = 0;
  waitsForRoom = false;
  /** The reply whose payload comes in. */
  cookie = 0;
  payloadLeft = 0;
  readonly carry = new Uint8Array(CARRY_BYTES);
  carryBytes = 0;

  constructor(options: {
    fd: number;
    depth: number;
    headers: number;
    vectors: number;
    payloads: number;
    firstBlock: number;
    blockCount: number;
  }) {
    const { depth } = options;
    this.fd = options.fd;
    this.headers = options.headers;
    this.vectors = options.vectors;
    this.payloads = options.payloads;
    this.firstBlock = options.firstBlock;
    this.blockCount = options.blockCount;
    this.free = Int32Array.from({ length: depth }, (_, index) => depth - 1 - index);
    this.freeCount = depth;
    this.blockOf = new Float64Array(depth);
    this.sentNs = new Float64Array(depth);
  }
}
