/**
 * The writers: sequential 128 KiB writes at depth 64 on one connection, random writes of 512 B to
 * 256 KiB at any byte on another, random reads on a third. Every range that was written is read
 * back over the third connection and compared, and nobody else touches it before that.
 *
 * It runs through hot removal, degraded operation and rebuild without a pause: a write that is
 * refused, a wrong byte, or no answer for a while is a failure.
 */
import { errnoName } from "../../base/errno.ts";
import { nextBelow, nextFraction, type Random } from "../../base/random.ts";
import { GIB, KIB, MIB, roundDown } from "../../base/units.ts";
import type { NbdClient } from "../../nbd/client/client.ts";
import { type CursorTally, stripeSpan } from "./cursor-tally.ts";
import { HeldRanges } from "./held-ranges.ts";
import type { Ledger } from "./ledger.ts";
import { CHUNK_BYTES } from "./options.ts";
import type { Shadow } from "./shadow.ts";
import { stampedBytes } from "./stamp.ts";

export const SEQUENTIAL_BYTES = 128 * KIB;
export const SEQUENTIAL_DEPTH = 64;
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

interface Write {
  readonly client: NbdClient;
  readonly writer: number;
  readonly offset: number;
  readonly bytes: number;
  readonly fua: boolean;
  /** Of the held range. */
  readonly handle: number;
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
  private readonly shadow: Shadow;
  private readonly ledger: Ledger;
  private readonly random: Random;
  private readonly run: number;
  private readonly memberCount: number;
  private readonly nowMs: () => number;
  private readonly region: WrittenRegion;
  private readonly ranges = new HeldRanges();
  private readonly checks = new Set<Promise<void>>();
  private lanes: Promise<void>[] = [];
  private isStopping = false;
  private nextPosition = 0;
  private version = 0;
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
    this.links = options.links;
    this.shadow = options.shadow;
    this.ledger = options.ledger;
    this.random = options.random;
    this.run = options.run;
    this.memberCount = options.memberCount;
    this.nowMs = options.nowMs;
    this.lastAnswerMs = options.nowMs();
    this.region = new WrittenRegion(options.shadow.sizeBytes);
  }

  start(): void {
    const lanes: (() => Promise<void>)[] = [];
    for (let lane = 0; lane < SEQUENTIAL_DEPTH; lane += 1) lanes.push(() => this.writeInOrder());
    for (let lane = 0; lane < RANDOM_DEPTH; lane += 1) lanes.push(() => this.writeAnywhere());
    for (let lane = 0; lane < READER_COUNT; lane += 1) lanes.push(() => this.readAnywhere());
    this.lanes = lanes.map((lane) => lane());
  }

  /** Resolves when everything was answered and read back. */
  async stop(): Promise<void> {
    this.isStopping = true;
    await Promise.all(this.lanes);
    await Promise.all(this.checks);
  }

  async disconnect(): Promise<void> {
    const { sequential, random, checking } = this.links;
    for (const client of [sequential, random, checking]) await client.disconnect();
  }

  private get mayGoOn(): boolean {
    return !this.isStopping && this.ledger.failures.length === 0;
  }

  private async writeInOrder(): Promise<void> {
    while (this.mayGoOn) {
      const range = this.region.place(this.nextPosition, SEQUENTIAL_BYTES);
      this.nextPosition += range.bytes;
      const handle = await this.ranges.hold(range.offset, range.bytes);
      const client = this.links.sequential;
      await this.write({ ...range, client, writer: SEQUENTIAL_WRITER, fua: false, handle });
    }
  }

  private async writeAnywhere(): Promise<void> {
    while (this.mayGoOn) {
      const range = this.randomRange();
      const handle = await this.ranges.hold(range.offset, range.bytes);
      this.randomCount += 1;
      const fua = this.randomCount % FUA_EVERY === 0;
      const client = this.links.random;
      const mustFlush = this.randomCount % FLUSH_EVERY === 0;
      await this.write({ ...range, client, writer: RANDOM_WRITER, fua, handle });
      if (!mustFlush || !this.mayGoOn) continue;
      const flushed = await client.flush();
      if (!flushed.ok) this.ledger.fail(`FLUSH was refused with ${errnoName(flushed.error)}`);
    }
  }

  /** Old data is checked too, which reads from parity while the array is degraded. */
  private async readAnywhere(): Promise<void> {
    while (this.mayGoOn) {
      const range = this.randomRange();
      const handle = await this.ranges.hold(range.offset, range.bytes);
      await this.check(range);
      this.ranges.release(handle);
    }
  }

  private randomRange(): { offset: number; bytes: number } {
    return this.region.place(
      nextBelow(this.random, this.region.spanBytes),
      randomBytes(this.random),
    );
  }

  private async write({ client, writer, offset, bytes, fua, handle }: Write): Promise<void> {
    const { ledger, tally } = this;
    this.version += 1;
    const data = stampedBytes({ offset, bytes }, { run: this.run, version: this.version, writer });
    const phase = ledger.phase;
    const cursor = tally?.cursorBytes ?? 0;
    const written = await client.write(offset, data, { fua });
    this.lastAnswerMs = this.nowMs();
    if (!written.ok) {
      const why = errnoName(written.error);
      ledger.fail(`the write of ${bytes} bytes at ${offset} was refused with ${why}`);
      this.ranges.release(handle);
      return;
    }
    this.shadow.record(offset, data);
    ledger.acknowledged(bytes, phase);
    if (tally !== null && tally === this.tally) {
      const { memberCount } = this;
      const span = stripeSpan({ offset, bytes, chunkBytes: CHUNK_BYTES, memberCount });
      tally.acknowledged(span, cursor);
    }
    const check = this.check({ offset, bytes }).then(() => {
      this.ranges.release(handle);
      this.checks.delete(check);
    });
    this.checks.add(check);
    if (this.checks.size > CHECKS_MAX) await Promise.race(this.checks);
  }

  /** Reads a held range and compares it. */
  private async check({ offset, bytes }: { offset: number; bytes: number }): Promise<void> {
    const read = await this.links.checking.read(offset, bytes);
    this.lastAnswerMs = this.nowMs();
    if (!read.ok) {
      const why = errnoName(read.error);
      this.ledger.fail(`the read of ${bytes} bytes at ${offset} was refused with ${why}`);
      return;
    }
    const wrong = this.shadow.findWrong(offset, read.value);
    if (wrong === null) this.ledger.verified(bytes);
    else this.ledger.fail(`under load: ${wrong}`);
  }
}
