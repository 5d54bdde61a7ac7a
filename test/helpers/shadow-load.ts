/**
 * An array under many random requests at a time, against a shadow of what it must hold. Never two
 * of them overlap, so the shadow knows what each must find; what is written is read back at once.
 */
import { expect } from "bun:test";
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import { CheckedLoad, type LoadLink } from "../../src/nbd/client/load/checked-load.ts";
import { Ledger } from "../../src/nbd/client/load/ledger.ts";
import { Shadow } from "../../src/nbd/client/load/shadow.ts";
import type { ArrayHarness } from "./array-harness.ts";

const RUN = 1;
const WRITER = 1;

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
  readonly shadow: Shadow;
  private readonly link: LoadLink;
  private readonly load: CheckedLoad;
  private readonly ledger = new Ledger(() => 0);

  constructor(harness: ArrayHarness, options: { sizeBytes: number; random: SeededRandom }) {
    this.harness = harness;
    this.random = options.random;
    const shadow = new Shadow({ sizeBytes: options.sizeBytes, run: RUN });
    this.shadow = shadow;
    this.link = linkOf(harness);
    const { link: checking, ledger } = this;
    this.load = new CheckedLoad({ shadow, ledger, run: RUN, checking, checksMax: 0 });
  }

  /** `depth` requests at a time; `request` makes one, of a range that nobody else uses. */
  async run(
    { count, depth, pickBytes }: LoadWork,
    request: (from: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    const { random, shadow, load } = this;
    let started = 0;
    load.lanes.start(depth, async () => {
      if (started >= count) return false;
      started += 1;
      const { range, handle } = load.ranges.claim(() => {
        const bytes = pickBytes(random);
        return { offset: nextBelow(random, shadow.sizeBytes - bytes), bytes };
      });
      await request(range.offset, range.bytes);
      load.ranges.release(handle);
      return true;
    });
    await load.ended();
    this.expectNoFailure();
  }

  /** Writes and reads back. */
  async write(from: number, bytes: number, { fua }: { fua: boolean }): Promise<void> {
    const range = { offset: from, bytes };
    if (await this.load.submit(this.link, range, { writer: WRITER, fua })) {
      await this.load.check(range);
    }
  }

  flush(): Promise<void> {
    return this.load.flush(this.link);
  }

  read(from: number, bytes: number): Promise<void> {
    return this.load.check({ offset: from, bytes });
  }

  /** Every byte of the array. */
  async compareAll(): Promise<void> {
    await this.load.checkAll();
    this.expectNoFailure();
  }

  private expectNoFailure(): void {
    expect(this.ledger.failures).toEqual([]);
  }
}

function linkOf(harness: ArrayHarness): LoadLink {
  const resultOf = (status: number): Result<undefined, number> =>
    status === 0 ? ok() : err(status);
  return {
    write: async (offset, data, options) => resultOf(await harness.write(offset, data, options)),
    flush: async () => resultOf(await harness.flush()),
    read: async (offset, bytes) => {
      const { status, data } = await harness.read(offset, bytes);
      return status === 0 ? ok(data) : err(status);
    },
  };
}
