/**
 * A client of an export: opens it by name, writes stamps, flushes, reads back, and goes away.
 *
 * Whose bytes it may see is decided when it has connected: those of the array that an operator put
 * there. Where an operator is just changing that, nobody can say, and it leaves again.
 */
import { ECONNRESET, EIO, ENOSPC, EPERM, ESHUTDOWN } from "../../src/base/errno.ts";
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { OracleClient } from "../sim/world/oracle-client.ts";
import type { SocketClient } from "../sim/world/sim-clients.ts";
import type { ArrayTruth } from "./array-truth.ts";
import type { LifeProcess } from "./life-process.ts";

const SECTORS_MAX = 24;

/** What the client needs to know of the rest of the world. */
export interface ClientGround {
  readonly process: LifeProcess;
  readonly random: SeededRandom;
  /** The array that is offered there, for certain; null: there is none, or nobody can say. */
  truthOf(exportName: string): ArrayTruth | null;
  /** Whether a write may be refused for want of space. */
  mayLackSpace(): boolean;
  /** Another host has its disks, or has had them and it has not been started again. */
  mayBeFenced(truth: ArrayTruth): boolean;
  bump(what: string): void;
  violate(message: string): void;
  /** A violation, unless the array turns out to be beyond its promise. */
  suspect(truth: ArrayTruth, message: string): void;
}

export class LifeClient {
  readonly exportName: string;
  private readonly ground: ClientGround;
  private isLeaving = false;
  private socket: SocketClient | null = null;
  isDone = false;

  constructor(ground: ClientGround, exportName: string) {
    this.ground = ground;
    this.exportName = exportName;
  }

  /** Runs inside the simulation, until it has made its requests or has lost its connection. */
  async run(requestCount: number): Promise<void> {
    const { ground, exportName } = this;
    const before = ground.truthOf(exportName);
    const dialled = await ground.process.world.dial(exportName);
    if (!dialled.ok) {
      ground.bump("client refused");
      this.isDone = true;
      return;
    }
    this.socket = dialled.value;
    const truth = ground.truthOf(exportName);
    if (truth === null || truth !== before) {
      ground.bump("client unsure");
      this.close();
      return;
    }
    ground.bump("client connected");
    for (let turn = 0; turn < requestCount && !this.isLeaving; turn += 1) {
      if (!(await this.request(truth))) break;
      const { timers } = ground.process.world.context;
      if (nextBelow(ground.random, 3) === 0) await timers.sleep(nextBelow(ground.random, 30));
    }
    this.close();
  }

  /** It ends after the request that is under way. */
  leave(): void {
    this.isLeaving = true;
  }

  close(): void {
    this.isDone = true;
    this.socket?.transport.cutAfter(0);
  }

  /** False: there is nobody any more. */
  private async request(truth: ArrayTruth): Promise<boolean> {
    const { random } = this.ground;
    const sectors = 1 + nextBelow(random, SECTORS_MAX);
    const lba = nextBelow(random, this.sectorsOf(truth) - sectors);
    switch (nextBelow(random, 5)) {
      case 0:
      case 1:
        return this.read(truth, lba, sectors);
      case 2:
        return this.flush(truth);
      default:
        return this.write(truth, lba, sectors);
    }
  }

  /** Connects and reads every sector, a part at a time; false where one could not be read. */
  async readThrough(): Promise<boolean> {
    const { ground, exportName } = this;
    const truth = ground.truthOf(exportName);
    const dialled = await ground.process.world.dial(exportName);
    if (truth === null || !dialled.ok) return false;
    this.socket = dialled.value;
    const isRead = await this.readAll(truth);
    this.close();
    return isRead;
  }

  private async readAll(truth: ArrayTruth): Promise<boolean> {
    const step = 64;
    const count = this.sectorsOf(truth);
    if (count < truth.sectorCount) {
      this.ground.violate(`export ${this.exportName} (${truth.uuid}) has ${count} sectors`);
    }
    for (let lba = 0; lba < count; lba += step) {
      if (!(await this.read(truth, lba, Math.min(step, count - lba)))) return false;
    }
    return true;
  }

  /** Of an array that has grown since it connected it sees its old size. */
  private sectorsOf(truth: ArrayTruth): number {
    return Math.min(truth.sectorCount, this.socket!.sizeBytes / SECTOR_BYTES);
  }

  private async read(truth: ArrayTruth, lba: number, sectors: number): Promise<boolean> {
    const found = await this.clientOf(truth).read({ lba, sectors });
    if (typeof found === "number" && found !== 0) {
      this.judgeStatus(truth, "read", found);
      return false;
    }
    this.ground.bump("read");
    if (typeof found !== "number") {
      this.ground.violate(`export ${this.exportName} (${truth.uuid}): ${found.message}`);
    }
    return true;
  }

  private async write(truth: ArrayTruth, lba: number, sectors: number): Promise<boolean> {
    const fua = nextBelow(this.ground.random, 4) === 0;
    const status = await this.clientOf(truth).write({ lba, sectors }, { fua });
    if (status === 0) this.ground.bump("write");
    return status === 0 || this.judgeStatus(truth, "write", status);
  }

  private async flush(truth: ArrayTruth): Promise<boolean> {
    const status = await this.clientOf(truth).flush();
    if (status === 0) this.ground.bump("flush");
    return status === 0 || this.judgeStatus(truth, "flush", status);
  }

  private clientOf({ oracle }: ArrayTruth): OracleClient {
    return new OracleClient(oracle, this.socket!);
  }

  private judgeStatus(truth: ArrayTruth, what: string, status: number): boolean {
    const { ground } = this;
    ground.bump(`${what} refused ${status}`);
    // Its array is stopped, or its connection was cut.
    if (status === ESHUTDOWN || status === ECONNRESET || this.socket!.transport.isCut) return false;
    // The export is read-only.
    if (status === EPERM && what === "write") return true;
    if (status === ENOSPC && ground.mayLackSpace()) return true;
    if (status === EIO && ground.mayBeFenced(truth)) return true;
    const message = `export ${this.exportName} (${truth.uuid}): ${what}: errno ${status}`;
    ground.suspect(truth, message);
    return true;
  }
}
