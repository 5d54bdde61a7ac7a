/**
 * Turns chunks of a stream into the buffers that somebody asks for, each byte copied once.
 *
 * One buffer is wanted at a time. When it is full its callback runs, which usually asks for the
 * next; what arrives while nothing is wanted is kept.
 */
import { assert } from "../base/assert.ts";

export class ByteSource {
  private target: Uint8Array | null = null;
  private filledBytes = 0;
  private onFilled: () => void = () => {};
  private readonly kept: Uint8Array[] = [];

  /** Fills `target` (not empty), then calls `onFilled`. */
  expect(target: Uint8Array, onFilled: () => void): void {
    assert(this.target === null && target.length > 0, "one buffer is wanted at a time");
    this.target = target;
    this.filledBytes = 0;
    this.onFilled = onFilled;
    while (this.target !== null && this.kept.length > 0) this.consume(this.kept.shift()!);
  }

  push(chunk: Uint8Array): void {
    if (this.kept.length > 0) this.kept.push(chunk.slice());
    else this.consume(chunk);
  }

  private consume(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const target = this.target;
      if (target === null) {
        // The chunk may be the transport's own buffer, which it uses again.
        this.kept.unshift(chunk.slice(at));
        return;
      }
      const bytes = Math.min(target.length - this.filledBytes, chunk.length - at);
      target.set(chunk.subarray(at, at + bytes), this.filledBytes);
      at += bytes;
      this.filledBytes += bytes;
      if (this.filledBytes < target.length) return;
      this.target = null;
      this.onFilled();
    }
  }
}
