/**
 * Which writes go on where another one ended: what a client writes in order is a stream, by
 * whichever connection. Streams are told by where they end, and only the last few: with many random
 * writes under way none is seen, and nothing depends on it.
 */
import { assert } from "../base/assert.ts";

/** A write that belongs to no stream. */
export const NO_STREAM = -1;
const STREAM_COUNT = 16;

export class WriteStreams {
  /** Where the next write of each begins; -1: none. */
  private readonly end = new Float64Array(STREAM_COUNT).fill(-1);
  /** Writes that are not answered. */
  private readonly active = new Uint16Array(STREAM_COUNT);
  /** 1: the next write of it is being received. */
  private readonly isNextComing = new Uint8Array(STREAM_COUNT);
  private readonly answeredMs = new Float64Array(STREAM_COUNT);
  private hand = 0;

  /** The stream that a write of these bytes goes on with, or begins. */
  join(offset: number, bytes: number): number {
    const { active } = this;
    const known = this.endingAt(offset);
    if (known >= 0) return this.add(known, offset + bytes);
    for (let tries = 0; tries < STREAM_COUNT; tries += 1) {
      const stream = this.hand;
      this.hand = (this.hand + 1) % STREAM_COUNT;
      if (active[stream] === 0) return this.add(stream, offset + bytes);
    }
    return NO_STREAM;
  }

  private endingAt(offset: number): number {
    const { end } = this;
    for (let stream = 0; stream < STREAM_COUNT; stream += 1) {
      if (end[stream] === offset) return stream;
    }
    return NO_STREAM;
  }

  private add(stream: number, end: number): number {
    this.end[stream] = end;
    this.isNextComing[stream] = 0;
    this.active[stream]! += 1;
    return stream;
  }

  /** A write of the stream has been answered. */
  leave(stream: number, nowMs: number): void {
    assert(this.active[stream]! > 0, "a write leaves its stream once");
    this.active[stream]! -= 1;
    this.answeredMs[stream] = nowMs;
  }

  /** A write that begins at `offset` is being received, or will not come after all. */
  noteComing(offset: number, isComing: boolean): void {
    const stream = this.endingAt(offset);
    if (stream >= 0) this.isNextComing[stream] = isComing ? 1 : 0;
  }

  /** Whether the next write of the stream is being received. */
  hasNext(stream: number): boolean {
    return this.isNextComing[stream] === 1;
  }

  /** Writes of the stream that are not answered. */
  activeIn(stream: number): number {
    return this.active[stream]!;
  }

  /** When the last one was answered, of the monotonic clock. */
  lastAnswerMs(stream: number): number {
    return this.answeredMs[stream]!;
  }
}
