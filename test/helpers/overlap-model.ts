/**
 * What a read may return while writes are under way that overlap each other and the read.
 *
 * Every byte is a register with several writers. A read may find, at each byte, what was written by
 *   - a write that it overlaps in time, or
 *   - a write that had ended, unless a later one (begun after the end of that) had ended too before
 *     the read began.
 * So of two writes that overlapped in time either may have won, byte by byte. When nothing is under
 * way, `settle` takes what is read as the truth: from then on every reader must see the same.
 *
 * A trim may zero the range that is given, or not: it allows zeros, and rules nothing out.
 */
import { assert } from "../../src/base/assert.ts";
import { notSuperseded, type WriteSpan } from "../sim/world/superseded.ts";

const NOT_YET = Number.POSITIVE_INFINITY;

export interface Change extends WriteSpan {
  readonly from: number;
  readonly to: number;
  /** What it puts there; null for zeros. */
  readonly data: Uint8Array | null;
  readonly isOptional: boolean;
  readonly beganAt: number;
  endedAt: number;
}

export class OverlapModel {
  private readonly base: Uint8Array;
  private changes: Change[] = [];
  private now = 0;

  constructor(bytes: number) {
    this.base = new Uint8Array(bytes);
  }

  /** A write begins; of zeros without `data`. */
  begin(range: { from: number; to: number }, data: Uint8Array | null, isOptional = false): Change {
    const beganAt = this.tick();
    const change = { ...range, data, isOptional, beganAt, endedAt: NOT_YET };
    this.changes.push(change);
    return change;
  }

  end(change: Change): void {
    change.endedAt = this.tick();
  }

  /** The write was refused, and has changed nothing. */
  undo(change: Change): void {
    this.changes.splice(this.changes.indexOf(change), 1);
  }

  /** The moment at which a read begins. */
  tick(): number {
    this.now += 1;
    return this.now;
  }

  /**
   * The first byte of a read that ends now and that no order of the writes explains, or -1. The
   * read began at `startedAt`; without `data` it found zeros.
   */
  unexplained(range: { from: number; to: number; startedAt: number }, data: Uint8Array | null) {
    const { from, to, startedAt } = range;
    const near = this.changes.filter((change) => change.from < to && change.to > from);
    const borders = near.flatMap((change) => [change.from, change.to]);
    const cuts = [from, ...borders.filter((at) => at > from && at < to), to].sort((a, b) => a - b);
    for (let index = 1; index < cuts.length; index += 1) {
      const [start, end] = [cuts[index - 1]!, cuts[index]!];
      // Between two cuts all bytes have the same changes.
      const here = near.filter((change) => change.from <= start && change.to >= end);
      const candidates = notSuperseded(here, startedAt, ({ isOptional }) => !isOptional);
      const hasBase = !here.some((change) => !change.isOptional && change.endedAt < startedAt);
      for (let at = start; at < end; at += 1) {
        const found = data === null ? 0 : data[at - from]!;
        if (hasBase && this.base[at] === found) continue;
        if (!candidates.some((change) => valueAt(change, at) === found)) return at;
      }
    }
    return -1;
  }

  /** Nothing is under way: what was read of everything is what everybody must read from now on. */
  settle(data: Uint8Array): void {
    assert(data.length === this.base.length, "the whole of it was read");
    assert(
      this.changes.every(({ endedAt }) => endedAt !== NOT_YET),
      "nothing is under way",
    );
    this.base.set(data);
    this.changes = [];
  }
}

function valueAt({ from, data }: Change, at: number): number {
  return data === null ? 0 : data[at - from]!;
}
