/**
 * An array under many random requests at a time, against a copy of what it must hold. Never two of
 * them overlap, so the copy knows what each must find.
 */
import { expect } from "bun:test";
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import { MIB } from "../../src/base/units.ts";
import type { ArrayHarness } from "./array-harness.ts";

export interface LoadWork {
  readonly count: number;
  readonly depth: number;
  /** Of the next request. */
  readonly pickBytes: (random: SeededRandom) => number;
}

export class ShadowLoad {
  readonly harness: ArrayHarness;
  readonly random: SeededRandom;
  /** What the array must hold. */
  readonly shadow: Uint8Array;

  constructor(harness: ArrayHarness, options: { sizeBytes: number; random: SeededRandom }) {
    this.harness = harness;
    this.random = options.random;
    this.shadow = new Uint8Array(options.sizeBytes);
  }

  /** `depth` requests at a time; `request` makes one, and brings the copy up to date. */
  async run(
    { count, depth, pickBytes }: LoadWork,
    request: (from: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    const { random, shadow } = this;
    const busy: { from: number; to: number }[] = [];
    let started = 0;
    const lanes = Array.from({ length: depth }, async () => {
      while (started < count) {
        started += 1;
        let from = 0;
        let to = 0;
        do {
          const bytes = pickBytes(random);
          from = nextBelow(random, shadow.length - bytes);
          to = from + bytes;
        } while (busy.some((range) => to > range.from && from < range.to));
        const range = { from, to };
        busy.push(range);
        await request(from, to - from);
        busy.splice(busy.indexOf(range), 1);
      }
    });
    await Promise.all(lanes);
  }

  async write(from: number, data: Uint8Array, options: { fua: boolean }): Promise<void> {
    expect(await this.harness.write(from, data, options)).toBe(0);
    this.shadow.set(data, from);
  }

  async expectRead(from: number, bytes: number): Promise<void> {
    const { status, data } = await this.harness.read(from, bytes);
    expect(status).toBe(0);
    this.expectSame(from, data);
  }

  expectSame(from: number, data: Uint8Array): void {
    expect(Buffer.compare(data, this.shadow.subarray(from, from + data.length))).toBe(0);
  }

  /** Every byte of the array. */
  async compareAll(): Promise<void> {
    for (let from = 0; from < this.shadow.length; from += MIB) {
      await this.expectRead(from, Math.min(MIB, this.shadow.length - from));
    }
  }
}
