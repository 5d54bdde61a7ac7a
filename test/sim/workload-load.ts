/**
 * The clients' side of a run: lanes that read, write and flush at random against the oracle.
 *
 * It also remembers which sectors are not stable: written, and not yet known to be durable. After a
 * crash while a member was missing these rows are in the write hole (see workload.ts).
 */
import { ESHUTDOWN } from "../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import type { SectorOracle } from "./oracle.ts";
import type { SimClient, SimWorld } from "./sim-world.ts";
import type { Plan } from "./workload-plan.ts";

interface Unstable {
  readonly lba: number;
  readonly sectors: number;
  isEnded: boolean;
}

const SECTORS_PER_ROW = ROW_BYTES / SECTOR_BYTES;

export class Load {
  readonly violations: string[] = [];
  requests = 0;
  private readonly plan: Plan;
  private readonly oracle: SectorOracle;
  private readonly random: SeededRandom;
  /** By version. */
  private unstable = new Map<number, Unstable>();
  private left = 0;
  private lanes = 0;
  /** Requests are refused while the array is stopped. */
  mayBeStopped = false;
  /** Every write is to be durable when it is answered. */
  isAllFua = false;
  private hotLba = 0;
  private pausedUntilMs = 0;

  constructor(options: { plan: Plan; oracle: SectorOracle; random: SeededRandom }) {
    this.plan = options.plan;
    this.oracle = options.oracle;
    this.random = options.random;
  }

  get isRunning(): boolean {
    return this.lanes > 0;
  }

  /** Starts the lanes; they end when all requests are done. */
  start(world: SimWorld, clients: readonly SimClient[]): void {
    this.left = this.plan.requestsPerEpoch;
    this.hotLba = nextBelow(this.random, this.oracle.sectorCount);
    for (let lane = 0; lane < this.plan.depth; lane += 1) {
      this.lanes += 1;
      void this.runLane(world, clients[lane % clients.length]!).then(
        () => {
          this.lanes -= 1;
        },
        (error: unknown) => this.violations.push(String(error)),
      );
    }
  }

  /** The world was left: nothing is answered any more. */
  abandon(): void {
    this.lanes = 0;
  }

  /** Ends the lanes early; `isRunning` tells when the last one has its answer. */
  finish(): void {
    this.left = 0;
  }

  /** First sectors of the rows that a crash now leaves open, and forgets them. */
  takeUnstableRows(): number[] {
    const rows = new Set<number>();
    for (const { lba, sectors } of this.unstable.values()) {
      const first = Math.floor(lba / SECTORS_PER_ROW);
      const last = Math.floor((lba + sectors - 1) / SECTORS_PER_ROW);
      for (let row = first; row <= last; row += 1) rows.add(row * SECTORS_PER_ROW);
    }
    this.unstable = new Map();
    return [...rows];
  }

  async write(client: SimClient, lba: number, sectors: number, fua: boolean): Promise<number> {
    const { oracle } = this;
    const version = oracle.beginWrite(lba, sectors);
    const entry: Unstable = { lba, sectors, isEnded: false };
    this.unstable.set(version, entry);
    const data = new Uint8Array(sectors * SECTOR_BYTES);
    oracle.fill(data, lba, version);
    const status = await client.write(lba * SECTOR_BYTES, data, { fua });
    entry.isEnded = true;
    const isDurable = status === 0 && fua;
    oracle.endWrite(version, status !== 0 ? "failed" : fua ? "done-fua" : "done");
    if (isDurable) this.unstable.delete(version);
    this.judge("write", lba, sectors, status);
    return status;
  }

  async read(client: SimClient, lba: number, sectors: number): Promise<void> {
    const token = this.oracle.beginRead(lba, sectors);
    const { status, data } = await client.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES);
    this.judge("read", lba, sectors, status);
    if (status !== 0) {
      this.oracle.dropRead(token);
      return;
    }
    const violation = this.oracle.endRead(token, data);
    if (violation !== null) this.violations.push(`read: ${violation.message}`);
  }

  async flush(client: SimClient): Promise<void> {
    const covered = [...this.unstable].filter(([, { isEnded }]) => isEnded);
    const flush = this.oracle.beginFlush();
    const status = await client.flush();
    this.oracle.endFlush(flush, { isDone: status === 0 });
    this.judge("flush", 0, 0, status);
    if (status === 0) for (const [version] of covered) this.unstable.delete(version);
  }

  private async runLane(world: SimWorld, client: SimClient): Promise<void> {
    const { plan, random } = this;
    const { timers } = world.context;
    while (this.left > 0) {
      this.left -= 1;
      await this.think(world);
      if (this.mayBeStopped) await timers.sleep(5);
      await this.one(client);
      if (plan.features.has("pauses") && nextBelow(random, 60) === 0) {
        this.pausedUntilMs = world.nowMs + nextBelow(random, 1000);
      }
    }
  }

  private async think(world: SimWorld): Promise<void> {
    const { timers } = world.context;
    const mean = this.plan.thinkMsMean;
    const thinkMs = mean * -Math.log(1 - nextFraction(this.random));
    const untilMs = Math.max(world.nowMs + thinkMs, this.pausedUntilMs);
    if (untilMs > world.nowMs) await timers.sleep(untilMs - world.nowMs);
  }

  private async one(client: SimClient): Promise<void> {
    const { plan, random } = this;
    this.requests += 1;
    if (plan.features.has("flush") && nextBelow(random, 12) === 0) {
      await this.flush(client);
      return;
    }
    const { lba, sectors } = this.drawRange();
    if (nextFraction(random) < plan.readShare) {
      await this.read(client, lba, sectors);
      return;
    }
    const isSome = plan.features.has("fua") && nextBelow(random, 6) === 0;
    const fua = isSome || this.isAllFua;
    await this.write(client, lba, sectors, fua);
  }

  private drawRange(): { lba: number; sectors: number } {
    const { plan, random, oracle } = this;
    const isLarge = nextBelow(random, 5) === 0;
    let sectors = 1 + nextBelow(random, isLarge ? plan.sectorsMax : Math.min(24, plan.sectorsMax));
    let lba = nextBelow(random, oracle.sectorCount);
    if (plan.features.has("hot-spot") && nextBelow(random, 3) > 0) {
      lba = this.hotLba + nextBelow(random, 64);
    }
    if (!plan.features.has("unaligned")) {
      lba -= lba % SECTORS_PER_ROW;
      sectors = Math.max(SECTORS_PER_ROW, sectors - (sectors % SECTORS_PER_ROW));
    }
    lba = Math.min(lba, oracle.sectorCount - sectors);
    return { lba: Math.max(0, lba), sectors };
  }

  private judge(what: string, lba: number, sectors: number, status: number): void {
    if (status === 0 || (status === ESHUTDOWN && this.mayBeStopped)) return;
    const where = sectors === 0 ? "" : ` of ${sectors} sectors at ${lba}`;
    this.violations.push(`a ${what}${where} is answered with errno ${status}`);
  }
}
