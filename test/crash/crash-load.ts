/**
 * The client of a crash scenario: reads, writes and flushes with the oracle, and every promise that
 * was made to it is a mark in the trace of the drives, so that the promises of each crash point are
 * known.
 */
import { SECTOR_BYTES } from "../../src/base/units.ts";
import type { DeviceTrace } from "../sim/world/device-trace.ts";
import type { OracleMark, SectorOracle, Violation } from "../sim/world/oracle.ts";
import type { SimClient } from "../sim/world/sim-clients.ts";
import type { SimWorld } from "../sim/world/sim-world.ts";

/** What is true from some moment on, beside what the oracle knows. */
export interface Facts {
  /** The create was answered: the array has to be there. */
  readonly doesExist: boolean;
  /** No fault was injected: with all drives there, the array assembles whole, by itself. */
  readonly isHealthy: boolean;
}

export type CrashMark =
  | { readonly kind: "oracle"; readonly mark: OracleMark }
  | { readonly kind: "facts"; readonly facts: Partial<Facts> };

export class CrashLoad {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  private readonly trace: DeviceTrace<CrashMark> | null;
  private readonly client: SimClient;

  constructor(options: {
    world: SimWorld;
    oracle: SectorOracle;
    trace: DeviceTrace<CrashMark> | null;
  }) {
    this.world = options.world;
    this.oracle = options.oracle;
    this.trace = options.trace;
    this.client = options.world.client();
  }

  fact(facts: Partial<Facts>): void {
    this.trace?.mark({ kind: "facts", facts });
  }

  /** The answer is the status. */
  async write(lba: number, sectors: number, { fua = false } = {}): Promise<number> {
    const version = this.begin(lba, sectors, "stamp");
    const data = new Uint8Array(sectors * SECTOR_BYTES);
    this.oracle.fill(data, lba, version);
    const status = await this.client.write(lba * SECTOR_BYTES, data, { fua });
    return this.end(version, status, fua);
  }

  /** Writes zeros, and leaves no hole. */
  async zero(lba: number, sectors: number, { fua = false } = {}): Promise<number> {
    const version = this.begin(lba, sectors, "zero");
    const [offset, bytes] = [lba * SECTOR_BYTES, sectors * SECTOR_BYTES];
    const status = await this.client.zero(offset, bytes, { fua, noHole: true });
    return this.end(version, status, fua);
  }

  private begin(lba: number, sectors: number, content: "stamp" | "zero"): number {
    const version = this.oracle.beginWrite(lba, sectors, content);
    this.mark({ kind: "begin", version, content, lba, sectors });
    return version;
  }

  private end(version: number, status: number, isFua: boolean): number {
    const how = status !== 0 ? "failed" : isFua ? "done-fua" : "done";
    this.oracle.endWrite(version, how);
    this.mark({ kind: "end", version, how });
    return status;
  }

  async flush(): Promise<number> {
    const flush = this.oracle.beginFlush();
    this.mark({ kind: "flush-begin", flush });
    const status = await this.client.flush();
    this.oracle.endFlush(flush, { isDone: status === 0 });
    this.mark({ kind: "flush-end", flush, isDone: status === 0 });
    return status;
  }

  /** Reads sectors: the status, or the first one that is wrong. */
  async read(lba: number, sectors: number): Promise<number | Violation> {
    const token = this.oracle.beginRead(lba, sectors);
    const { status, data } = await this.client.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES);
    if (status !== 0) {
      this.oracle.dropRead(token);
      return status;
    }
    return this.oracle.endRead(token, data) ?? 0;
  }

  private mark(mark: OracleMark): void {
    this.trace?.mark({ kind: "oracle", mark });
  }
}
