/**
 * Byte ranges that somebody is writing or reading: no two overlap, so that every byte has one
 * right content. Two ranges may well lie in the same sector.
 */
export interface Held<Range> {
  readonly range: Range;
  /** To release. */
  readonly handle: number;
}

export class HeldRanges {
  private readonly held = new Map<number, { start: number; end: number }>();
  private nextHandle = 1;
  private readonly waiters: (() => void)[] = [];

  /** A handle to release, or 0 where the range meets one that is held. */
  tryHold(offset: number, bytes: number): number {
    const end = offset + bytes;
    for (const range of this.held.values()) {
      if (offset < range.end && range.start < end) return 0;
    }
    const handle = this.nextHandle;
    this.nextHandle += 1;
    this.held.set(handle, { start: offset, end });
    return handle;
  }

  /** Waits until the range is free, then holds it. */
  async hold(offset: number, bytes: number): Promise<number> {
    for (;;) {
      const handle = this.tryHold(offset, bytes);
      if (handle !== 0) return handle;
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  /** Draws ranges until one is free, and holds that. */
  claim<Range extends { offset: number; bytes: number }>(draw: () => Range): Held<Range> {
    for (;;) {
      const range = draw();
      const handle = this.tryHold(range.offset, range.bytes);
      if (handle !== 0) return { range, handle };
    }
  }

  release(handle: number): void {
    this.held.delete(handle);
    for (const wake of this.waiters.splice(0)) wake();
  }

  get count(): number {
    return this.held.size;
  }
}
