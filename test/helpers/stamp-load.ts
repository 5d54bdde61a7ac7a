/**
 * A load that stamps every sector it writes over NBD, and knows afterwards what may stand there.
 *
 * Per sector it keeps the version that was last acknowledged. After a crash a sector must hold
 * that version, or one of a write to it that was under way; a sector that nobody wrote is zero.
 * That is stricter than what a power cut allows (last flushed or later): a killed process takes
 * nothing with it that the kernel has completed, so acknowledged is as good as flushed here.
 *
 * The exceptions are for an array that comes back dirty and without a member. Forced to start, what
 * lay on that member in rows that were being written is anything (`forgiveRole`); with `ppl` only
 * the very sectors that were being written there are (`forgiveWrittenOn`).
 */
import { assert } from "../../src/base/assert.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import type { Geometry } from "../../src/raid5/geometry.ts";
import { readStamp, writeStamp } from "../sim/world/sector-stamp.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;
const WRITE_SECTORS_MAX = 512;
const READ_SECTORS = 2048;
/** Stands for a sector of which nothing can be said. */
const ANYTHING = 0xffff_ffff;

/** A range of the array that the load keeps to. */
export interface Window {
  readonly offset: number;
  readonly bytes: number;
}

interface WriteUnderWay {
  /** Array sectors. */
  readonly from: number;
  readonly to: number;
  readonly version: number;
}

interface Track {
  readonly from: number;
  readonly to: number;
  /** Per sector: the version that must be there. */
  readonly versions: Uint32Array;
}

export class StampLoad {
  acknowledgedWrites = 0;
  private readonly seed: number;
  private readonly random: SeededRandom;
  private readonly tracks: readonly Track[];
  private readonly underWay = new Set<WriteUnderWay>();
  private lastVersion = 0;
  private isStopping = false;

  constructor({ seed, windows }: { seed: number; windows: readonly Window[] }) {
    this.seed = seed >>> 0;
    this.random = new SeededRandom(seed);
    this.tracks = windows.map(({ offset, bytes }) => ({
      from: offset / SECTOR_BYTES,
      to: (offset + bytes) / SECTOR_BYTES,
      versions: new Uint32Array(bytes / SECTOR_BYTES),
    }));
  }

  /** Writes until `stop` or until the connections are lost, `depth` at a time on each. */
  async run(clients: readonly NbdClient[], { depth }: { depth: number }): Promise<void> {
    this.isStopping = false;
    const lanes = clients.flatMap((client) => Array.from({ length: depth }, () => client));
    await Promise.all(lanes.map((client) => this.lane(client)));
  }

  /** Writes `count` times, one after the other. */
  async burst(client: NbdClient, count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) if (!(await this.writeOnce(client))) return;
  }

  stop(): void {
    this.isStopping = true;
  }

  private async lane(client: NbdClient): Promise<void> {
    while (!this.isStopping) {
      if (!(await this.writeOnce(client))) return;
      if (nextBelow(this.random, 12) === 0 && !(await client.flush()).ok) return;
    }
  }

  /** False when the write was not acknowledged: it then counts as under way. */
  private async writeOnce(client: NbdClient): Promise<boolean> {
    const write = this.choose();
    this.underWay.add(write);
    const data = new Uint8Array((write.to - write.from) * SECTOR_BYTES);
    for (let sector = write.from; sector < write.to; sector += 1) {
      const stamp = { seed: this.seed, lba: sector, version: write.version };
      writeStamp(data, (sector - write.from) * SECTOR_BYTES, stamp);
    }
    const fua = nextBelow(this.random, 10) === 0;
    const written = await client.write(write.from * SECTOR_BYTES, data, { fua });
    if (!written.ok) return false;
    this.underWay.delete(write);
    const { track } = this.locate(write.from);
    track.versions.fill(write.version, write.from - track.from, write.to - track.from);
    this.acknowledgedWrites += 1;
    return true;
  }

  /** A range that overlaps with no write under way: of two the last could not be told. */
  private choose(): WriteUnderWay {
    const { random } = this;
    for (;;) {
      const track = this.tracks[nextBelow(random, this.tracks.length)]!;
      const isSmall = nextBelow(random, 4) > 0;
      let count = 1 + nextBelow(random, isSmall ? 2 * ROW_SECTORS : WRITE_SECTORS_MAX);
      let from = track.from + nextBelow(random, track.to - track.from - count);
      if (nextBelow(random, 2) === 0) {
        from -= from % ROW_SECTORS;
        count = Math.max(ROW_SECTORS, count - (count % ROW_SECTORS));
      }
      const to = Math.min(from + count, track.to);
      const isFree = [...this.underWay].every((other) => to <= other.from || from >= other.to);
      if (!isFree || from < track.from) continue;
      this.lastVersion += 1;
      return { from, to, version: this.lastVersion };
    }
  }

  private locate(sector: number): { track: Track; index: number } {
    const track = this.tracks.find(({ from, to }) => sector >= from && sector < to);
    assert(track !== undefined, "the load keeps to its windows");
    return { track, index: sector - track.from };
  }

  /** What role `role` held in rows with a write under way is not known any more. */
  forgiveRole(role: number, geometry: Geometry): void {
    for (const { from, to } of this.underWay) {
      for (let sector = from; sector < to; sector += 1) {
        const offset = sector * SECTOR_BYTES;
        const stripe = geometry.stripeOf(offset);
        const dataIndex = geometry.dataIndexOf(stripe, role);
        if (dataIndex < 0) continue;
        const inChunk = offset % geometry.chunkBytes;
        const row = inChunk - (inChunk % ROW_BYTES);
        this.forgiveRow((geometry.arrayOffsetOf(stripe, dataIndex) + row) / SECTOR_BYTES);
      }
    }
  }

  /** Sectors of role `role` that were being written may hold anything (promise 2). */
  forgiveWrittenOn(role: number, geometry: Geometry): void {
    for (const { from, to } of this.underWay) {
      for (let sector = from; sector < to; sector += 1) {
        const offset = sector * SECTOR_BYTES;
        const stripe = geometry.stripeOf(offset);
        const inStripe = offset - stripe * geometry.stripeBytes;
        const dataIndex = Math.floor(inStripe / geometry.chunkBytes);
        if (geometry.dataRole(stripe, dataIndex) === role) this.forgive(sector);
      }
    }
  }

  private forgive(sector: number): void {
    const track = this.tracks.find((known) => sector >= known.from && sector < known.to);
    if (track !== undefined) track.versions[sector - track.from] = ANYTHING;
  }

  private forgiveRow(from: number): void {
    for (let sector = from; sector < from + ROW_SECTORS; sector += 1) this.forgive(sector);
  }

  /**
   * Reads all windows and answers with what is wrong. What is found right is what must be there
   * from now on, and nothing is under way any more.
   */
  async verify(client: NbdClient): Promise<string[]> {
    const wrong: string[] = [];
    for (const track of this.tracks) {
      for (let from = track.from; from < track.to; from += READ_SECTORS) {
        const to = Math.min(from + READ_SECTORS, track.to);
        const read = await client.read(from * SECTOR_BYTES, (to - from) * SECTOR_BYTES);
        if (read.ok) this.judge({ from, to, data: read.value, wrong });
        else wrong.push(`sectors ${from} to ${to}: errno ${read.error}`);
      }
    }
    this.underWay.clear();
    return wrong;
  }

  private judge(read: { from: number; to: number; data: Uint8Array; wrong: string[] }): void {
    for (let sector = read.from; sector < read.to; sector += 1) {
      const at = (sector - read.from) * SECTOR_BYTES;
      const content = readStamp(read.data.subarray(at, at + SECTOR_BYTES));
      const { track, index } = this.locate(sector);
      const wanted = track.versions[index]!;
      if (wanted === ANYTHING) continue;
      if (content.kind === "zero" && wanted === 0) continue;
      if (content.kind === "stamp") {
        const { seed, lba, version } = content.stamp;
        const isOwn = seed === this.seed && lba === sector;
        if (isOwn && (version === wanted || this.wasUnderWay(sector, version))) {
          track.versions[index] = version;
          continue;
        }
        const found = `version ${version} of sector ${lba} (seed ${seed})`;
        read.wrong.push(`sector ${sector}: ${found} instead of version ${wanted}`);
        continue;
      }
      const found = content.kind === "zero" ? "zeros" : content.detail;
      read.wrong.push(`sector ${sector}: ${found} instead of version ${wanted}`);
    }
  }

  private wasUnderWay(sector: number, version: number): boolean {
    for (const write of this.underWay) {
      if (write.version === version && sector >= write.from && sector < write.to) return true;
    }
    return false;
  }
}
