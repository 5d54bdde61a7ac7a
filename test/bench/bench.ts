/** What the sections of the benchmark share: settings, the rows so far, what was left out. */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import type { Place } from "./ground.ts";
import { measure, type Quantity, type Row, type RowPlan } from "./statistics.ts";

export interface Settings {
  readonly mode: "smoke" | "quick" | "full";
  readonly rounds: number;
  /** How long each side of a ratio is measured in a round. */
  readonly sampleMs: number;
  readonly warmMs: number;
  /** Of each member; fio uses as much again behind it. */
  readonly memberBytes: number;
  readonly heapOperations: number;
  readonly idleMs: number;
}

export const SETTINGS: Readonly<Record<Settings["mode"], Settings>> = {
  smoke: {
    mode: "smoke",
    rounds: 1,
    sampleMs: 150,
    warmMs: 20,
    memberBytes: 16 * 1024 * 1024,
    heapOperations: 20_000,
    idleMs: 200,
  },
  quick: {
    mode: "quick",
    rounds: 3,
    sampleMs: 350,
    warmMs: 50,
    memberBytes: 64 * 1024 * 1024,
    heapOperations: 1_000_000,
    idleMs: 1500,
  },
  full: {
    mode: "full",
    rounds: 5,
    sampleMs: 600,
    warmMs: 100,
    memberBytes: 128 * 1024 * 1024,
    heapOperations: 1_000_000,
    idleMs: 10_000,
  },
};

/** Members of an array of the engine rows. */
export interface Shape {
  readonly place: Place;
  readonly memberCount: number;
  readonly chunkBytes: number;
  readonly policy: ConsistencyPolicy;
}

export interface LeftOut {
  readonly name: string;
  readonly reason: string;
}

export interface Section {
  readonly name: string;
  readonly run: (bench: Bench) => Promise<void>;
}

export class Bench {
  readonly settings: Settings;
  /** The executable under test. */
  readonly binary: string;
  /** The NBD rows are against every server that is here. */
  readonly hasAllPeers: boolean;
  /** Where CPU profiles of the load generator go; null: none are taken. */
  readonly profileFolder: string | null;
  /** The CPU that the clients of NBD servers stay on; null: any. */
  readonly clientCpu: number | null;
  readonly rows: Row[] = [];
  readonly leftOut: LeftOut[] = [];
  readonly failures: LeftOut[] = [];
  private readonly onRow: (row: Row) => void;

  constructor(options: {
    settings: Settings;
    binary: string;
    hasAllPeers: boolean;
    profileFolder: string | null;
    clientCpu: number | null;
    onRow: (row: Row) => void;
  }) {
    this.settings = options.settings;
    this.binary = options.binary;
    this.hasAllPeers = options.hasAllPeers;
    this.profileFolder = options.profileFolder;
    this.clientCpu = options.clientCpu;
    this.onRow = options.onRow;
  }

  get isSmoke(): boolean {
    return this.settings.mode === "smoke";
  }

  get isFull(): boolean {
    return this.settings.mode === "full";
  }

  async measure(quantities: readonly Quantity[], plans: readonly RowPlan[]): Promise<void> {
    this.add(await measure(quantities, plans, this.settings.rounds));
  }

  add(rows: readonly Row[]): void {
    for (const row of rows) {
      this.rows.push(row);
      this.onRow(row);
    }
  }

  leaveOut(name: string, reason: string): void {
    this.leftOut.push({ name, reason });
  }

  /** Runs the sections; one that fails does not keep the others from running. */
  async run(sections: readonly Section[]): Promise<void> {
    for (const { name, run } of sections) {
      try {
        await run(this);
      } catch (error) {
        const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
        this.failures.push({ name, reason });
      }
    }
  }
}
