/**
 * The clients' side of a run: lanes that read, write, zero, trim and flush at random against the
 * oracle, over connections that may be cut.
 *
 * It also remembers which sectors are not stable: written, and not yet known to be durable. After a
 * crash while a member was missing these rows are in the write hole (see workload.ts).
 */
import { ECONNRESET, EIO, ENOSPC, EOPNOTSUPP, ESHUTDOWN } from "../../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import type { SectorOracle, WriteContent, WriteEnd } from "../world/oracle.ts";
import type { SimWorld } from "../world/sim-world.ts";
import type { Plan } from "./workload-plan.ts";
import type { Seat } from "./workload-seat.ts";

export interface Range {
  readonly lba: number;
  readonly sectors: number;
}

interface Unstable extends Range {
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
  /** A member may have no room for a write: until all are healed, and in the next life again. */
  mayRefuse: boolean;
  /** Two members are faulty: EIO is an answer to anything. */
  mayFail = false;
  /** Whether two members are known to be gone. */
  private readonly hasFailed: () => boolean;
  /** Nothing is promised any more: whatever is answered and read is taken. */
  isLawless = false;
  /** Every write is to be durable when it is answered. */
  isAllFua = false;
  /** Connections that were cut: in mid-request, and with requests under way. */
  halfWrites = 0;
  cuts = 0;
  private isOneCut = false;
  private hotLba = 0;
  private pausedUntilMs = 0;

  constructor(options: {
    plan: Plan;
    oracle: SectorOracle;
    random: SeededRandom;
    hasFailed: () => boolean;
  }) {
    this.hasFailed = options.hasFailed;
    this.plan = options.plan;
    this.mayRefuse = mayHaveNoRoom(this.plan);
    this.oracle = options.oracle;
    this.random = options.random;
  }

  get isRunning(): boolean {
    return this.lanes > 0;
  }

  /** Starts the lanes; they end when all requests are done. */
  start(world: SimWorld, seats: readonly Seat[]): void {
    this.left = this.plan.requestsPerEpoch;
    this.mayRefuse = mayHaveNoRoom(this.plan);
    this.hotLba = nextBelow(this.random, this.oracle.sectorCount);
    for (let lane = 0; lane < this.plan.depth; lane += 1) {
      this.lanes += 1;
      void this.runLane(world, seats[lane % seats.length]!).then(
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
    this.isOneCut = false;
  }

  /** Ends the lanes early; `isRunning` tells when the last one has its answer. */
  finish(): void {
    this.left = 0;
  }

  /** What a crash now leaves open; it is forgotten. */
  takeUnstable(): Range[] {
    const ranges = [...this.unstable.values()].map(({ lba, sectors }) => ({ lba, sectors }));
    this.unstable = new Map();
    return ranges;
  }

  async write(seat: Seat, lba: number, sectors: number, fua: boolean): Promise<number> {
    const content = "stamp";
    return this.change({ lba, sectors, content, fua }, (data) =>
      seat.write(lba * SECTOR_BYTES, data, { fua }),
    );
  }

  async read(seat: Seat, lba: number, sectors: number): Promise<number> {
    const token = this.oracle.beginRead(lba, sectors);
    const { status, data } = await seat.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES);
    this.judge("read", lba, sectors, status);
    if (status !== 0 || this.isLawless) {
      this.oracle.dropRead(token);
      return status;
    }
    const violation = this.oracle.endRead(token, data);
    if (violation !== null) this.violations.push(`read: ${violation.message}`);
    return status;
  }

  async flush(seat: Seat): Promise<void> {
    const covered = [...this.unstable].filter(([, { isEnded }]) => isEnded);
    const flush = this.oracle.beginFlush();
    const status = await seat.flush();
    this.oracle.endFlush(flush, { isDone: status === 0 });
    this.judge("flush", 0, 0, status);
    if (status === 0) for (const [version] of covered) this.unstable.delete(version);
  }

  /** Anything that changes sectors; `send` gets what is to be written, if anything is. */
  private async change(
    what: { lba: number; sectors: number; content: WriteContent; fua: boolean; isHalf?: boolean },
    send: (data: Uint8Array) => Promise<number>,
  ): Promise<number> {
    const { oracle } = this;
    const { lba, sectors, content, fua, isHalf = false } = what;
    const hadFailed = this.hasFailed();
    // Its answer may come when there is room again.
    const { mayRefuse } = this;
    const version = oracle.beginWrite(lba, sectors, content);
    const entry: Unstable = { lba, sectors, isEnded: false };
    this.unstable.set(version, entry);
    const data = new Uint8Array(content === "stamp" ? sectors * SECTOR_BYTES : 0);
    oracle.fill(data, lba, version);
    const status = await send(data);
    // One that was refused for want of space may still wait for room: no flush ends that.
    entry.isEnded = status !== ENOSPC;
    oracle.endWrite(version, endOf(status, fua, isHalf));
    if ((status === 0 && fua) || isHalf || status === EOPNOTSUPP) this.unstable.delete(version);
    const isRefused = status === ENOSPC && mayRefuse;
    if (!isRefused) this.judge(content === "stamp" ? "write" : content, lba, sectors, status);
    // Over a socket the answer of before may come after.
    const isTooLate = this.plan.withNbd ? hadFailed : this.hasFailed();
    if (status === 0 && isTooLate && content !== "trim") {
      this.violations.push(`a write at ${lba} is acknowledged, fenced or with two members gone`);
    }
    return status;
  }

  private async runLane(world: SimWorld, seat: Seat): Promise<void> {
    const { plan, random } = this;
    const { timers } = world.context;
    while (this.left > 0) {
      this.left -= 1;
      await this.think(world);
      if (this.mayBeStopped) await timers.sleep(5);
      await this.one(seat);
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

  private async one(seat: Seat): Promise<void> {
    const { plan, random } = this;
    this.requests += 1;
    if (plan.features.has("flush") && nextBelow(random, 12) === 0) {
      await this.flush(seat);
      return;
    }
    if (plan.features.has("disconnect") && nextBelow(random, 24) === 0 && this.mayCut(seat)) {
      await this.disconnect(seat);
      return;
    }
    const { lba, sectors } = this.drawRange();
    if (nextFraction(random) < plan.readShare) {
      await this.read(seat, lba, sectors);
      return;
    }
    const isSome = plan.features.has("fua") && nextBelow(random, 6) === 0;
    const fua = isSome || this.isAllFua;
    const isZero = plan.features.has("zero") && nextBelow(random, 4) === 0;
    const isTrim = plan.features.has("trim") && nextBelow(random, 6) === 0;
    if (isZero) await this.zero(seat, this.drawZeroRange(), fua);
    else if (isTrim) await this.trim(seat, this.drawZeroRange());
    else await this.write(seat, lba, sectors, fua);
  }

  private async zero(seat: Seat, { lba, sectors }: Range, fua: boolean): Promise<void> {
    const noHole = nextBelow(this.random, 4) === 0;
    const fastZero = !noHole && nextBelow(this.random, 4) === 0;
    await this.change({ lba, sectors, content: "zero", fua }, () =>
      seat.zero(lba * SECTOR_BYTES, sectors * SECTOR_BYTES, { fua, noHole, fastZero }),
    );
  }

  /** Of a trim only the whole stripes may change. */
  private async trim(seat: Seat, range: Range): Promise<void> {
    const { chunkBytes, memberCount } = this.plan;
    const stripe = (chunkBytes * (memberCount - 1)) / SECTOR_BYTES;
    const lba = Math.ceil(range.lba / stripe) * stripe;
    const sectors = Math.floor((range.lba + range.sectors) / stripe) * stripe - lba;
    const send = () => seat.trim(range.lba * SECTOR_BYTES, range.sectors * SECTOR_BYTES);
    if (sectors > 0) await this.change({ lba, sectors, content: "trim", fua: false }, send);
    else {
      const { mayRefuse } = this;
      const status = await send();
      if (status !== ENOSPC || !mayRefuse) this.judge("trim", range.lba, range.sectors, status);
    }
  }

  private mayCut(seat: Seat): boolean {
    return seat.canBeCut && !this.isOneCut;
  }

  /** A client dies: with half of a request sent, or with requests under way. */
  private async disconnect(seat: Seat): Promise<void> {
    this.isOneCut = true;
    if (nextBelow(this.random, 2) === 0) {
      this.cuts += 1;
      await seat.cut();
    } else {
      this.halfWrites += 1;
      const { lba, sectors } = this.drawRange();
      const what = { lba, sectors, content: "stamp", fua: false, isHalf: true } as const;
      const status = await this.change(what, (data) =>
        seat.cutWrite(lba * SECTOR_BYTES, data, this.random),
      );
      if (status === 0) this.violations.push("half of a write was answered");
    }
    this.isOneCut = false;
  }

  /** Mostly whole stripes: those are zeroed in another way than parts of them. */
  private drawZeroRange(): Range {
    const { plan, random, oracle } = this;
    const stripe = (plan.chunkBytes * (plan.memberCount - 1)) / SECTOR_BYTES;
    const stripes = oracle.sectorCount / stripe;
    if (nextBelow(random, 3) === 0) return this.drawRange();
    const first = nextBelow(random, stripes);
    const count = 1 + nextBelow(random, Math.min(4, stripes - first));
    const range = { lba: first * stripe, sectors: count * stripe };
    if (nextBelow(random, 2) === 0) return range;
    const before = Math.min(range.lba, nextBelow(random, 16));
    const room = oracle.sectorCount - range.lba - range.sectors;
    return {
      lba: range.lba - before,
      sectors: range.sectors + before + Math.min(room, nextBelow(random, 16)),
    };
  }

  private drawRange(): Range {
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
    const isExpected =
      status === 0 ||
      this.isLawless ||
      (status === ESHUTDOWN && this.mayBeStopped) ||
      (status === EIO && this.mayFail) ||
      (status === EOPNOTSUPP && what === "zero") ||
      (status === ECONNRESET && this.plan.features.has("disconnect"));
    if (isExpected) return;
    const where = sectors === 0 ? "" : ` of ${sectors} sectors at ${lba}`;
    this.violations.push(`a ${what}${where} is answered with errno ${status}`);
  }
}

function endOf(status: number, fua: boolean, isHalf: boolean): WriteEnd {
  if (isHalf || status === EOPNOTSUPP) return "refused";
  if (status !== 0) return "failed";
  return fua ? "done-fua" : "done";
}

function mayHaveNoRoom({ features }: Plan): boolean {
  return features.has("no-space") || features.has("full");
}
