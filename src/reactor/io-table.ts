/**
 * The requests to member devices that are under way in one reactor, as parallel typed arrays.
 *
 * A request is an index. Whoever allocates one owns it until it frees it, which it may do only
 * after the request has completed: the kernel may write to its buffer until then. `owner` says
 * which completion handler it belongs to (see BlockDevice.onComplete), `context` is that owner's
 * own number.
 */
import { assert } from "../base/assert.ts";
import { FreeList } from "../base/free-list.ts";
import { Signal } from "../base/signal.ts";
import { ROW_BYTES, SECTOR_BYTES, withinRow } from "../base/units.ts";

/** Operations of a block device. */
export const Op = { read: 0, write: 1, flush: 2, discard: 3, writeZeroes: 4 } as const;
export type OpCode = (typeof Op)[keyof typeof Op];
/** The kernel moves at most 2 GiB - 4 KiB in one call (MAX_RW_COUNT). */
const REQUEST_BYTES_MAX = 2 ** 31 - ROW_BYTES;

export const OP_NAMES = ["read", "write", "flush", "discard", "writeZeroes"] as const;
export type OpName = (typeof OP_NAMES)[number];

export class IoTable {
  readonly capacity: number;
  readonly op: Uint8Array;
  /** 1: durable when it completes (RWF_DSYNC). */
  readonly isFua: Uint8Array;
  /** Byte offset on the device. */
  readonly offset: Float64Array;
  /** Bytes to move; 0 for a flush. */
  readonly bytes: Uint32Array;
  /** Address of the buffer in the shared memory. */
  readonly address: Uint32Array;
  readonly context: Uint32Array;
  /** For the owner's use: the member role that it goes to. */
  readonly role: Uint8Array;
  /** For the owner's use: the byte of the member's data region that it begins at. */
  readonly place: Float64Array;
  /** For the owner's use: tells the drives apart that have had that role. */
  readonly epoch: Uint8Array;
  /** Index of the handler in the owner's completion list. */
  readonly owner: Uint16Array;
  private readonly list: FreeList;
  /** Raised when a request is freed, while somebody waits for that. */
  private readonly freed = new Signal();
  private hasWaiters = false;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.op = new Uint8Array(capacity);
    this.isFua = new Uint8Array(capacity);
    this.offset = new Float64Array(capacity);
    this.bytes = new Uint32Array(capacity);
    this.address = new Uint32Array(capacity);
    this.context = new Uint32Array(capacity);
    this.role = new Uint8Array(capacity);
    this.place = new Float64Array(capacity);
    this.epoch = new Uint8Array(capacity);
    this.owner = new Uint16Array(capacity);
    this.list = new FreeList(capacity);
  }

  get inUse(): number {
    return this.list.inUse;
  }

  get available(): number {
    return this.list.available;
  }

  /** A free request, or -1 when all are in use. */
  allocate(): number {
    return this.list.take();
  }

  /** For whoever can wait: resolves when a request has been freed, which may be taken by then. */
  untilFreed(): Promise<void> {
    this.hasWaiters = true;
    return this.freed.wait();
  }

  /** Makes `copy` the same request as `request` to whoever owns it. */
  copyTo(copy: number, request: number): void {
    this.op[copy] = this.op[request]!;
    this.isFua[copy] = this.isFua[request]!;
    this.offset[copy] = this.offset[request]!;
    this.bytes[copy] = this.bytes[request]!;
    this.address[copy] = this.address[request]!;
    this.context[copy] = this.context[request]!;
    this.role[copy] = this.role[request]!;
    this.place[copy] = this.place[request]!;
    this.epoch[copy] = this.epoch[request]!;
    this.owner[copy] = this.owner[request]!;
  }

  free(request: number): void {
    this.list.give(request);
    if (!this.hasWaiters) return;
    this.hasWaiters = false;
    this.freed.raise();
  }
}

/**
 * Whole rows only (write-rules 17); this also is what O_DIRECT asks for. They begin on a sector: on
 * drives with 512-byte blocks an array that mdadm made may have its data at any sector.
 */
export function checkRequest(table: IoTable, request: number): void {
  const op = table.op[request]!;
  const bytes = table.bytes[request]!;
  const offset = table.offset[request]!;
  if (op === Op.flush) {
    assert(bytes === 0, "a flush moves no bytes");
    return;
  }
  assert(bytes > 0 && withinRow(bytes) === 0, "requests are whole rows");
  assert(Number.isSafeInteger(offset) && offset >= 0, "offsets are safe integers");
  assert((offset & (SECTOR_BYTES - 1)) === 0, "requests begin on a sector");
  if (op === Op.discard || op === Op.writeZeroes) return;
  assert(bytes <= REQUEST_BYTES_MAX, "the kernel moves a request in one call");
  const address = table.address[request]!;
  assert(address > 0 && withinRow(address) === 0, "buffers are page aligned");
}
