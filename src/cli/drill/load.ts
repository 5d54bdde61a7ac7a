/**
 * The writers: sequential 128 KiB writes at depth 64 on one connection, random writes of 512 B to
 * 256 KiB at any byte on another, random reads on a third. Every range that was written is read
 * back over the third connection and compared, and nobody else touches it before that.
 *
 * It runs through hot removal, degraded operation and rebuild without a pause: a write that is
 * refused, a wrong byte, or no answer for a while is a failure.
 */
import { nextBelow, nextFraction, type Random } from "../../base/random.ts";
import { GIB, KIB, MIB, roundDown } from "../../base/units.ts";
import type { NbdClient } from "../../nbd/client/client.ts";
import { type ByteRange, CheckedLoad } from "../../nbd/client/load/checked-load.ts";
import type { Ledger } from "../../nbd/client/load/ledger.ts";
import type { Shadow } from "../../nbd/client/load/shadow.ts";
import { type CursorTally, stripeSpan } from "./cursor-tally.ts";
import { CHUNK_BYTES } from "./options.ts";

const SEQUENTIAL_BYTES = 128 * KIB;
const SEQUENTIAL_DEPTH = 64;
const RANDOM_DEPTH = 16;
const READER_COUNT = 4;
export const RANDOM_BYTES_MIN = 512;
export const RANDOM_BYTES_MAX = 256 * KIB;
/** Acknowledged ranges that wait for being read back. */
const CHECKS_MAX = 96;
/** Larger arrays are written in windows, so that what must be remembered stays below this. */
const WRITTEN_BYTES_MAX = GIB;
const WINDOW_BYTES = 16 * MIB;
/** One random write in so many is FUA, and after one in so many comes a FLUSH. */
const FUA_EVERY = 16;
const FLUSH_EVERY = 128;

const SEQUENTIAL_WRITER = 1;
const RANDOM_WRITER = 2;

export interface LoadLinks {
  readonly sequential: NbdClient;
  readonly random: NbdClient;
  readonly checking: NbdClient;
}

/**
 * Where writers write: all of a small array, windows spread over a large one. Positions count
 * through the windows; a range does not leave the window that it begins in.
 */
export class WrittenRegion {
  readonly spanBytes: number;
  private readonly windowBytes: number;
  private readonly strideBytes: number;

  constructor(sizeBytes: number) {
    const isWhole = sizeBytes <= WRITTEN_BYTES_MAX;
    const windowCount = isWhole ? 1 : WRITTEN_BYTES_MAX / WINDOW_BYTES;
    this.windowBytes = isWhole ? sizeBytes : WINDOW_BYTES;
    this.strideBytes = roundDown(Math.floor(sizeBytes / windowCount), 512);
    this.spanBytes = windowCount * this.windowBytes;
  }

  place(position: number, bytesMax: number): { offset: number; bytes: number } {
    const wrapped = position % this.spanBytes;
    const within = wrapped % this.windowBytes;
    const window = (wrapped - within) / this.windowBytes;
    const bytes = Math.min(bytesMax, this.windowBytes - within);
    return { offset: window * this.strideBytes + within, bytes };
  }
}

/** Log-uniform, so that small writes are as common as large ones; any number of bytes. */
export function randomBytes(random: Random): number {
  const octaves = Math.log2(RANDOM_BYTES_MAX / RANDOM_BYTES_MIN);
  return Math.floor(RANDOM_BYTES_MIN * 2 ** (nextFraction(random) * octaves));
}

export class Load {
  /** Set while a rebuild runs. */
  tally: CursorTally | null = null;
  /** When the latest answer came: tells a hang. */
  lastAnswerMs: number;
  private readonly links: LoadLinks;
  private readonly random: Random;
  private readonly memberCount: number;
  private readonly region: WrittenRegion;
  private readonly checked: CheckedLoad;
  private nextPosition = 0;
  private randomCount = 0;

  constructor(options: {
    links: LoadLinks;
    shadow: Shadow;
    ledger: Ledger;
    random: Random;
    run: number;
    memberCount: number;
    nowMs: () => number;
  }) {
    const { links, shadow, ledger, run, nowMs } = options;
    this.links = links;
    this.random = options.random;
    this.memberCount = options.memberCount;
    this.lastAnswerMs = nowMs();
    this.region = new WrittenRegion(shadow.sizeBytes);
    this.checked = new CheckedLoad({
      ...{ shadow, ledger, run, checking: links.checking, checksMax: CHECKS_MAX },
      onAnswer: () => {
        this.lastAnswerMs = nowMs();
      },
    });
  }

  start(): void {
    const { lanes } = this.checked;
    lanes.start(SEQUENTIAL_DEPTH, () => this.writeInOrder());
    lanes.start(RANDOM_DEPTH, () => this.writeAnywhere());
    lanes.start(READER_COUNT, () => this.readAnywhere());
  }

  /** Resolves when everything was answered and read back. */
  async stop(): Promise<void> {
    this.checked.lanes.stop();
    await this.checked.ended();
  }

  async disconnect(): Promise<void> {
    const { sequential, random, checking } = this.links;
    for (const client of [sequential, random, checking]) await client.disconnect();
  }

  private async writeInOrder(): Promise<boolean> {
    const range = this.region.place(this.nextPosition, SEQUENTIAL_BYTES);
    this.nextPosition += range.bytes;
    await this.write(this.links.sequential, range, { writer: SEQUENTIAL_WRITER, fua: false });
    return true;
  }

  private async writeAnywhere(): Promise<boolean> {
    const range = this.randomRange();
    this.randomCount += 1;
    const fua = this.randomCount % FUA_EVERY === 0;
    const mustFlush = this.randomCount % FLUSH_EVERY === 0;
    const client = this.links.random;
    await this.write(client, range, { writer: RANDOM_WRITER, fua });
    if (mustFlush && this.checked.lanes.isGoing) await this.checked.flush(client);
    return true;
  }

  /** Old data is checked too, which reads from parity while the array is degraded. */
  private async readAnywhere(): Promise<boolean> {
    const { ranges } = this.checked;
    const range = this.randomRange();
    const handle = await ranges.hold(range.offset, range.bytes);
    await this.checked.check(range);
    ranges.release(handle);
    return true;
  }

  private randomRange(): ByteRange {
    return this.region.place(
      nextBelow(this.random, this.region.spanBytes),
      randomBytes(this.random),
    );
  }

  private async write(
    client: NbdClient,
    range: ByteRange,
    how: { writer: number; fua: boolean },
  ): Promise<void> {
    const { ranges } = this.checked;
    const handle = await ranges.hold(range.offset, range.bytes);
    const { tally, memberCount } = this;
    const cursor = tally?.cursorBytes ?? 0;
    if (!(await this.checked.submit(client, range, how))) {
      ranges.release(handle);
      return;
    }
    if (tally !== null && tally === this.tally) {
      const span = stripeSpan({ ...range, chunkBytes: CHUNK_BYTES, memberCount });
      tally.acknowledged(span, cursor);
    }
    await this.checked.readBack(range, handle);
  }
}
