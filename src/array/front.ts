/**
 * An array as the faces above it see it (NBD today): plain numbers in, a tag and a status back.
 *
 * `address` is where the first byte asked for lies. It is congruent to `offset` modulo 4096 and the
 * caller owns whole rows around the range, because members are read and written in whole rows:
 * bytes of the first and last row outside the range may be overwritten until completion.
 */
import type { RequestOpCode } from "../raid5/request-table.ts";

export {
  RequestFlag as FrontFlag,
  RequestOp as FrontOp,
  type RequestOpCode as FrontOpCode,
} from "../raid5/request-table.ts";

/** Requests of one array that may be under way, over all clients: who admits them keeps to it. */
export const FRONT_REQUESTS_MAX = 32_768;

/**
 * Called once per request; `status` is 0 or a positive errno (EIO, ENOSPC, EPERM, ESHUTDOWN).
 * `address` is 0, or where the data of a read lies instead: a member hangs that may still write
 * into the rows that were given. The client owns the rows around `address` in their place, in a run
 * of the payload pool of the same size; those that it gave are not its own any more.
 */
export type FrontCompletion = (tag: number, status: number, address: number) => void;

export interface ArrayFront {
  readonly sizeBytes: number;
  /** Writes are answered EPERM while this holds. */
  readonly isReadOnly: boolean;
  /** The largest power of two that divides a full stripe. */
  readonly preferredBytes: number;
  /** Registers a client; the answer is its handle. */
  attach(onComplete: FrontCompletion): number;
  /** After this no completion is delivered. The client has no request under way. */
  detach(handle: number): void;
  /** A member seeks: clients do well to read and write in order. */
  readonly isRotational: boolean;
  /** Whether the whole stripes of a trim become holes, and a `fastZero` can succeed. */
  readonly canTrim: boolean;
  /** What the byte at `offset` is known to be: bits of Allocation (raid5/zero/allocation.ts). */
  allocationAt(offset: number): number;
  /** Where that ends, `limit` at most. */
  allocationEnd(offset: number, limit: number): number;
  /** A write that begins at `offset` is being received, or will not come after all: a hint. */
  noteComing(offset: number, isComing: boolean): void;
  /**
   * Takes a request in bounds; never completes it before it returns.
   *
   * trim is a hint about whole stripes, of which the rest of the array takes no notice. After
   * writeZeroes the range reads zeros: with `noHole` they take room, with `fastZero` they take no
   * longer than a hole, or the answer is EOPNOTSUPP and nothing has changed.
   */
  submit(
    handle: number,
    op: RequestOpCode,
    offset: number,
    bytes: number,
    address: number,
    flags: number,
    tag: number,
  ): void;
}
