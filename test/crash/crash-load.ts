/**
 * The client of a crash scenario: reads, writes and flushes with the oracle, and every promise that
 * was made to it is a mark in the trace of the drives, so that the promises of each crash point are
 * known.
 */
import { SECTOR_BYTES } from "../../src/base/units.ts";
import type { DeviceTrace } from "../sim/world/device-trace.ts";
import type { OracleMark, SectorOracle, Violation } from "../sim/world/oracle.ts";
import { OracleClient } from "../sim/world/oracle-client.ts";
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
  private readonly client: OracleClient;

  constructor(options: {
    world: SimWorld;
    oracle: SectorOracle;
    trace: DeviceTrace<CrashMark> | null;
  }) {
    const { world, oracle, trace } = options;
    this.world = world;
    this.oracle = oracle;
    this.trace = trace;
    this.client = new OracleClient(oracle, world.client());
    if (trace !== null) oracle.onMark = (mark) => trace.mark({ kind: "oracle", mark });
  }

  /** Of the array, as clients see it now. */
  get sectorCount(): number {
    return this.world.status().sizeBytes / SECTOR_BYTES;
  }

  fact(facts: Partial<Facts>): void {
    this.trace?.mark({ kind: "facts", facts });
  }

  /** The answer is the status. */
  write(lba: number, sectors: number, options: { fua?: boolean } = {}): Promise<number> {
    return this.client.write({ lba, sectors }, options);
  }

  /** Writes zeros, and leaves no hole. */
  zero(lba: number, sectors: number, options: { fua?: boolean } = {}): Promise<number> {
    return this.client.zero({ lba, sectors }, { ...options, noHole: true });
  }

  flush(): Promise<number> {
    return this.client.flush();
  }

  /** Reads sectors: the status, or the first one that is wrong. */
  read(lba: number, sectors: number): Promise<number | Violation> {
    return this.client.read({ lba, sectors });
  }
}
