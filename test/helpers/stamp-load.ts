/**
 * A load that stamps every sector it writes over NBD; the oracle knows afterwards what may stand
 * there.
 *
 * Of a killed process every acknowledged write must be there (`survives: "answered"`): it takes
 * nothing with it that the kernel has completed. Of a power cut what was flushed must be. What was
 * under way is there or not, sector by sector; a sector that nobody wrote is zero.
 *
 * The exceptions are for an array that comes back dirty and without a member. Forced to start, what
 * lay on that member in rows that were being written is anything (`forgiveRole`); with `ppl` only
 * the very sectors that were being written there are (`forgiveWrittenOn`).
 */
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import { HeldRanges } from "../../src/nbd/client/load/held-ranges.ts";
import { Lanes } from "../../src/nbd/client/load/lanes.ts";
import type { Geometry } from "../../src/raid5/geometry.ts";
import { type OracleMark, SectorOracle } from "../sim/world/oracle.ts";
import { OracleClient, type Survival } from "../sim/world/oracle-client.ts";
import { type NbdLink, StatusClient } from "../sim/world/sim-clients.ts";

const ROW_SECTORS = ROW_BYTES / SECTOR_BYTES;
const WRITE_SECTORS_MAX = 512;
const READ_SECTORS = 2048;

/** A range of the array that the load keeps to. */
export interface Window {
  readonly offset: number;
  readonly bytes: number;
}

export interface StampLoadOptions {
  readonly seed: number;
  readonly windows: readonly Window[];
  readonly survives?: Survival;
  readonly onMark?: (mark: OracleMark) => void;
}

export class StampLoad {
  acknowledgedWrites = 0;
  private readonly random: SeededRandom;
  private readonly windows: readonly Window[];
  private readonly oracle: SectorOracle;
  private readonly survives: Survival;
  /** Of two writes to a sector that are under way the last could not be told: there are none. */
  private ranges = new HeldRanges();
  private readonly underWay = new Set<Window>();
  private lanes = new Lanes();

  constructor({ seed, windows, survives = "answered", onMark }: StampLoadOptions) {
    this.random = new SeededRandom(seed);
    this.windows = windows;
    this.survives = survives;
    const sizeBytes = Math.max(...windows.map(({ offset, bytes }) => offset + bytes));
    const sectorCount = sizeBytes / SECTOR_BYTES;
    this.oracle = new SectorOracle({ seed, sectorCount, ...(onMark && { onMark }) });
  }

  /** Writes until `stop` or until the connections are lost, `depth` at a time on each. */
  async run(clients: readonly NbdLink[], { depth }: { depth: number }): Promise<void> {
    this.lanes = new Lanes();
    for (const client of clients) this.lanes.start(depth, () => this.step(client));
    await this.lanes.ended();
  }

  /** Writes `count` times, one after the other. */
  async burst(client: NbdLink, count: number): Promise<void> {
    for (let index = 0; index < count; index += 1) if (!(await this.writeOnce(client))) return;
  }

  stop(): void {
    this.lanes.stop();
  }

  /** A flush of everything that is acknowledged by now, while the writes go on. */
  async flush(client: NbdLink): Promise<boolean> {
    return (await this.clientOf(client).flush()) === 0;
  }

  private async step(client: NbdLink): Promise<boolean> {
    if (!(await this.writeOnce(client))) return false;
    // Where only what was flushed counts, the test says when that is.
    if (this.survives === "flushed" || nextBelow(this.random, 12) > 0) return true;
    return this.flush(client);
  }

  /** False when the write was not acknowledged: it then counts as under way. */
  private async writeOnce(client: NbdLink): Promise<boolean> {
    const { range, handle } = this.ranges.claim(() => this.choose());
    this.underWay.add(range);
    const fua = this.survives === "answered" && nextBelow(this.random, 10) === 0;
    const sectors = { lba: range.offset / SECTOR_BYTES, sectors: range.bytes / SECTOR_BYTES };
    if ((await this.clientOf(client).write(sectors, { fua })) !== 0) return false;
    this.underWay.delete(range);
    this.ranges.release(handle);
    this.acknowledgedWrites += 1;
    return true;
  }

  private clientOf(client: NbdLink): OracleClient {
    return new OracleClient(this.oracle, new StatusClient(client), this.survives);
  }

  /** Mostly small, a half of them whole rows. */
  private choose(): Window {
    const { random } = this;
    const window = this.windows[nextBelow(random, this.windows.length)]!;
    const windowSectors = window.bytes / SECTOR_BYTES;
    const isSmall = nextBelow(random, 4) > 0;
    let count = 1 + nextBelow(random, isSmall ? 2 * ROW_SECTORS : WRITE_SECTORS_MAX);
    let from = nextBelow(random, windowSectors - count);
    if (nextBelow(random, 2) === 0) {
      from -= from % ROW_SECTORS;
      count = Math.max(ROW_SECTORS, count - (count % ROW_SECTORS));
    }
    count = Math.min(count, windowSectors - from);
    return { offset: window.offset + from * SECTOR_BYTES, bytes: count * SECTOR_BYTES };
  }

  /** What role `role` held in rows with a write under way is not known any more. */
  forgiveRole(role: number, geometry: Geometry): void {
    for (const offset of this.offsetsUnderWay()) {
      const stripe = geometry.stripeOf(offset);
      const dataIndex = geometry.dataIndexOf(stripe, role);
      if (dataIndex < 0) continue;
      const inChunk = offset % geometry.chunkBytes;
      const row = geometry.arrayOffsetOf(stripe, dataIndex) + inChunk - (inChunk % ROW_BYTES);
      this.oracle.giveUp(row / SECTOR_BYTES, ROW_SECTORS);
    }
  }

  /** Sectors of role `role` that were being written may hold anything (promise 2). */
  forgiveWrittenOn(role: number, geometry: Geometry): void {
    for (const offset of this.offsetsUnderWay()) {
      const stripe = geometry.stripeOf(offset);
      const inStripe = offset - stripe * geometry.stripeBytes;
      const dataIndex = Math.floor(inStripe / geometry.chunkBytes);
      if (geometry.dataRole(stripe, dataIndex) === role) {
        this.oracle.giveUp(offset / SECTOR_BYTES, 1);
      }
    }
  }

  /** Of each sector. */
  private *offsetsUnderWay(): Iterable<number> {
    for (const { offset, bytes } of this.underWay) {
      for (let at = offset; at < offset + bytes; at += SECTOR_BYTES) yield at;
    }
  }

  /**
   * Reads all windows and answers with what is wrong. What is found right is what must be there
   * from now on, and nothing is under way any more.
   */
  async verify(client: NbdLink): Promise<string[]> {
    this.oracle.crash();
    this.underWay.clear();
    this.ranges = new HeldRanges();
    const wrong: string[] = [];
    for (const window of this.windows) {
      const found = await judgeSectors(client, window, (lba, sector) => {
        const violation = this.oracle.check(lba, sector);
        if (violation !== null) wrong.push(violation.message);
      });
      wrong.push(...found);
    }
    return wrong;
  }
}

/** Reads a window and hands out its sectors; what cannot be read. */
export async function judgeSectors(
  client: NbdLink,
  { offset, bytes }: Window,
  judge: (lba: number, sector: Uint8Array) => void,
): Promise<string[]> {
  const unread: string[] = [];
  const end = (offset + bytes) / SECTOR_BYTES;
  for (let from = offset / SECTOR_BYTES; from < end; from += READ_SECTORS) {
    const count = Math.min(READ_SECTORS, end - from);
    const read = await client.read(from * SECTOR_BYTES, count * SECTOR_BYTES);
    if (!read.ok) {
      unread.push(`sectors ${from} to ${from + count}: errno ${read.error}`);
      continue;
    }
    for (let index = 0; index < count; index += 1) {
      const at = index * SECTOR_BYTES;
      judge(from + index, read.value.subarray(at, at + SECTOR_BYTES));
    }
  }
  return unread;
}
