/**
 * A load that survives the machine it runs on: what it does stands in a ledger, a file that a power
 * cut of the guest does not touch. Afterwards the ledger says what each sector may hold.
 *
 *   w VERSION FROM TO   before a write of array sectors [FROM, TO) is sent
 *   f VERSION ...       these writes were acknowledged before a flush was sent that has succeeded
 *
 * Writes that are under way at once never overlap, so that of two to a sector the higher version
 * came later. A sector holds its last flushed version or a later one; that is promise 1 with
 * promise 2, sector by sector.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { readStamp, writeStamp } from "../sim/world/sector-stamp.ts";

const WRITE_SECTORS_MAX = 64;
const READ_SECTORS = 2048;

interface Write {
  readonly version: number;
  readonly from: number;
  readonly to: number;
}

export class FlushLoad {
  private readonly seed: number;
  private readonly sectorCount: number;
  private readonly random: SeededRandom;
  private readonly ledger: number;
  private readonly underWay = new Set<Write>();
  private acknowledged: number[] = [];
  private lastVersion = 0;

  constructor(options: { seed: number; sizeBytes: number; ledgerPath: string }) {
    this.seed = options.seed;
    this.sectorCount = options.sizeBytes / SECTOR_BYTES;
    this.random = new SeededRandom(options.seed);
    this.ledger = openSync(options.ledgerPath, "ax");
  }

  /** Writes, `depth` at a time, until the connection ends. */
  async run(client: NbdClient, { depth }: { depth: number }): Promise<void> {
    await Promise.all(Array.from({ length: depth }, () => this.lane(client)));
    closeSync(this.ledger);
  }

  /** A flush of everything that is acknowledged by now, while the writes go on. */
  async flush(client: NbdClient): Promise<boolean> {
    const covered = this.acknowledged;
    this.acknowledged = [];
    const { ok } = await client.flush();
    if (ok && covered.length > 0) writeSync(this.ledger, `f ${covered.join(" ")}\n`);
    return ok;
  }

  private async lane(client: NbdClient): Promise<void> {
    for (;;) {
      const write = this.choose();
      const { version, from, to } = write;
      this.underWay.add(write);
      writeSync(this.ledger, `w ${version} ${from} ${to}\n`);
      const data = new Uint8Array((to - from) * SECTOR_BYTES);
      for (let sector = from; sector < to; sector += 1) {
        const stamp = { seed: this.seed, lba: sector, version };
        writeStamp(data, (sector - from) * SECTOR_BYTES, stamp);
      }
      if (!(await client.write(from * SECTOR_BYTES, data)).ok) return;
      this.underWay.delete(write);
      this.acknowledged.push(version);
    }
  }

  private choose(): Write {
    for (;;) {
      const count = 1 + nextBelow(this.random, WRITE_SECTORS_MAX);
      const from = nextBelow(this.random, this.sectorCount - count);
      const to = from + count;
      const isFree = [...this.underWay].every((other) => to <= other.from || from >= other.to);
      if (!isFree) continue;
      this.lastVersion += 1;
      return { version: this.lastVersion, from, to };
    }
  }
}

/** What a ledger allows each sector of an array to hold that was all zeros before. */
export class FlushOracle {
  readonly flushedCount: number;
  readonly writeCount: number;
  private readonly seed: number;
  /** Per sector: the last version that was flushed, 0 for none. */
  private readonly flushed: Uint32Array;
  private readonly writes = new Map<number, Write>();

  constructor(options: { seed: number; sizeBytes: number; ledger: string }) {
    this.seed = options.seed;
    this.flushed = new Uint32Array(options.sizeBytes / SECTOR_BYTES);
    let flushedCount = 0;
    for (const line of options.ledger.split("\n")) {
      const [kind, ...words] = line.split(" ");
      const numbers = words.map(Number);
      if (kind === "w") {
        const [version, from, to] = numbers;
        this.writes.set(version!, { version: version!, from: from!, to: to! });
      } else if (kind === "f") {
        for (const version of numbers) this.noteFlushed(version);
        flushedCount += numbers.length;
      }
    }
    this.flushedCount = flushedCount;
    this.writeCount = this.writes.size;
  }

  private noteFlushed(version: number): void {
    const { from, to } = this.writes.get(version)!;
    for (let sector = from; sector < to; sector += 1) {
      this.flushed[sector] = Math.max(this.flushed[sector]!, version);
    }
  }

  /** Reads the whole array; what is wrong, and how many sectors are newer than they had to be. */
  async judge(client: NbdClient): Promise<{ wrong: string[]; newer: number }> {
    const wrong: string[] = [];
    let newer = 0;
    for (let from = 0; from < this.flushed.length; from += READ_SECTORS) {
      const count = Math.min(READ_SECTORS, this.flushed.length - from);
      const read = await client.read(from * SECTOR_BYTES, count * SECTOR_BYTES);
      if (!read.ok) {
        wrong.push(`sectors from ${from}: errno ${read.error}`);
        continue;
      }
      for (let index = 0; index < count; index += 1) {
        const at = index * SECTOR_BYTES;
        const found = this.versionOf(from + index, read.value.subarray(at, at + SECTOR_BYTES));
        if (typeof found === "string") wrong.push(`sector ${from + index}: ${found}`);
        else if (found > this.flushed[from + index]!) newer += 1;
      }
    }
    return { wrong, newer };
  }

  /** The version that a sector holds, or why it may not. */
  private versionOf(sector: number, bytes: Uint8Array): number | string {
    const least = this.flushed[sector]!;
    const content = readStamp(bytes);
    if (content.kind === "garbage") return content.detail;
    if (content.kind === "zero") return least === 0 ? 0 : `zeros instead of version ${least}`;
    const { seed, lba, version } = content.stamp;
    const write = this.writes.get(version);
    const isWritten = write !== undefined && sector >= write.from && sector < write.to;
    if (seed === this.seed && lba === sector && isWritten && version >= least) return version;
    return `version ${version} of sector ${lba} (seed ${seed}) where ${least} was flushed`;
  }
}
