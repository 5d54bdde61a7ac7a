/**
 * The shadow of an array under load: what every byte of it must read as.
 *
 * Pages are made when something is written to them; what was never written reads as zero. A write
 * is entered when it was acknowledged, and nothing reads or writes its bytes before that (the
 * caller holds the range), so there is exactly one right answer for every byte at all times.
 */
import { assert } from "../../../base/assert.ts";
import { MIB, roundDown, SECTOR_BYTES } from "../../../base/units.ts";
import { describeSector } from "./stamp.ts";

const PAGE_BYTES = MIB;

export class Shadow {
  readonly sizeBytes: number;
  private readonly run: number;
  private readonly pages: (Uint8Array | undefined)[];
  private readonly zeros = new Uint8Array(PAGE_BYTES);

  constructor({ sizeBytes, run }: { sizeBytes: number; run: number }) {
    this.sizeBytes = sizeBytes;
    this.run = run;
    this.pages = new Array(Math.ceil(sizeBytes / PAGE_BYTES)).fill(undefined);
  }

  /** Enters a write that was acknowledged. */
  record(offset: number, data: Uint8Array): void {
    assert(offset >= 0 && offset + data.length <= this.sizeBytes, "a write lies within the array");
    for (let at = 0; at < data.length; ) {
      const index = Math.floor((offset + at) / PAGE_BYTES);
      const within = (offset + at) % PAGE_BYTES;
      const bytes = Math.min(PAGE_BYTES - within, data.length - at);
      this.pages[index] ??= new Uint8Array(PAGE_BYTES);
      this.pages[index]!.set(data.subarray(at, at + bytes), within);
      at += bytes;
    }
  }

  /** Enters zeros that were acknowledged. */
  recordZeros(offset: number, bytes: number): void {
    for (let at = 0; at < bytes; at += PAGE_BYTES) {
      this.record(offset + at, this.zeros.subarray(0, Math.min(PAGE_BYTES, bytes - at)));
    }
  }

  /** Compares what was read at `offset`: the sentence that names the first wrong byte, or null. */
  findWrong(offset: number, actual: Uint8Array): string | null {
    for (let at = 0; at < actual.length; ) {
      const within = (offset + at) % PAGE_BYTES;
      const bytes = Math.min(PAGE_BYTES - within, actual.length - at);
      const expected = this.expected(offset + at, bytes);
      const found = actual.subarray(at, at + bytes);
      if (Buffer.compare(expected, found) !== 0) return this.describe(offset, actual, at);
      at += bytes;
    }
    return null;
  }

  /** The bytes at `offset`, of one page. */
  expected(offset: number, bytes: number): Uint8Array {
    const within = offset % PAGE_BYTES;
    assert(within + bytes <= PAGE_BYTES, "the range lies in one page");
    const page = this.pages[Math.floor(offset / PAGE_BYTES)] ?? this.zeros;
    return page.subarray(within, within + bytes);
  }

  private describe(offset: number, actual: Uint8Array, from: number): string {
    let at = from;
    while (at < actual.length && this.expected(offset + at, 1)[0] === actual[at]) at += 1;
    const lba = Math.floor((offset + at) / SECTOR_BYTES);
    const start = roundDown(offset + at, SECTOR_BYTES);
    const wanted = this.expected(start, SECTOR_BYTES);
    const found = actual.subarray(Math.max(0, start - offset), start - offset + SECTOR_BYTES);
    const place = { run: this.run, lba };
    return (
      `byte ${offset + at} (sector ${lba}) holds ${describeSector(found, place)} ` +
      `where ${describeSector(wanted, place)} was acknowledged`
    );
  }
}
