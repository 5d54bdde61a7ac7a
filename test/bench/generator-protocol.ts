/**
 * What the benchmark and its load generators say to each other: a line of JSON each way. One of
 * them has the array in itself (reactor-main.ts), one is a client of an NBD server
 * (nbd-load-main.ts).
 *
 * A generator answers every command once, in order: `{ok: true, value}`, or `{ok: false, error}`
 * after which it ends.
 */
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import type { LoadResult, RunLimits, Workload } from "./load.ts";
import type { RawMove } from "./member-load.ts";
import type { NbdLimits, NbdResult, NbdWorkload } from "./nbd-load.ts";
import type { Pace } from "./paced-device.ts";

/** A job that runs beside a load. */
export type BesideJob = "scrub" | "rebuild";

export interface GeneratorCommands {
  /** Creates an array over empty members. */
  readonly open: {
    readonly request: {
      readonly members: readonly string[];
      readonly chunkBytes: number;
      /** Data bytes of each member; absent: as much as there is room for. */
      readonly memberSizeBytes: number | null;
      /** Bytes at the end of the array that the load goes to; absent: all of it. */
      readonly windowBytes: number | null;
      readonly memoryMib: number;
      readonly policy: ConsistencyPolicy;
      /** Members lose what was not flushed when the power fails: ppl then flushes them. */
      readonly hasVolatileCache: boolean;
      /** Times the parity kernels, which costs a little. */
      readonly timesKernels: boolean;
      /** A drive that is no member, for raw writes and for `replace`. */
      readonly outsider?: string;
      /** Makes all drives this slow. */
      readonly pace?: Pace;
      /** Time is the CPU time of the reactor (stopwatch.ts). */
      readonly takesThreadTime?: boolean;
    };
    readonly value: { readonly stripeBytes: number; readonly sizeBytes: number };
  };
  /** Writes the window once, by full stripes. */
  readonly fill: { readonly request: object; readonly value: null };
  readonly run: {
    readonly request: { readonly workload: Workload; readonly limits: Limits };
    readonly value: LoadResult;
  };
  /** Stamps a file, for `read-raw`. */
  readonly "stamp-raw": {
    readonly request: { readonly path: string; readonly bytes: number };
    readonly value: null;
  };
  readonly "read-raw": {
    readonly request: { readonly depth: number; readonly warmMs: number; readonly ms: number };
    readonly value: LoadResult;
  };
  /** Checks rows all over the window, whole. */
  readonly verify: {
    readonly request: { readonly rowCount: number };
    readonly value: { readonly rowCount: number };
  };
  /** The last member leaves the array for good. */
  readonly fail: { readonly request: object; readonly value: null };
  /** Rebuilds the last member, again and again for about `ms`. Bytes are those of one member. */
  readonly rebuild: { readonly request: { readonly ms: number }; readonly value: LoadResult };
  readonly scrub: {
    readonly request: { readonly ms: number };
    readonly value: LoadResult & { readonly mismatchBytes: number };
  };
  /** Copies the first member to the outsider, again and again for about `ms`. */
  readonly replace: { readonly request: { readonly ms: number }; readonly value: LoadResult };
  /** Lays the array out over the outsider, too: once, since there is no way back. */
  readonly reshape: { readonly request: object; readonly value: LoadResult };
  /** Reads the first `count` members at once, or writes the outsider, without the array. */
  readonly "move-raw": {
    readonly request: RawMove & { readonly count: number; readonly ms: number };
    readonly value: LoadResult;
  };
  /** How long requests take, with a job at work or without one, and how fast the job is. */
  readonly beside: {
    readonly request: {
      readonly workload: Workload;
      readonly limits: Limits;
      readonly job: BesideJob | null;
    };
    readonly value: { readonly p50: number; readonly p99: number; readonly jobRate: number };
  };
  /** Bytes that the heap has grown by over `operations` requests, after full collections. */
  readonly heap: {
    readonly request: { readonly workload: Workload; readonly operations: number };
    readonly value: { readonly grownBytes: number; readonly operations: number };
  };
  /**
   * Bytes that the heap has grown by over `operations` requests in a generator that never collects.
   */
  readonly allocated: {
    readonly request: { readonly workload: Workload; readonly operations: number };
    readonly value: { readonly allocatedBytes: number; readonly operations: number };
  };
  /** System calls of the reactor over a run. */
  readonly "system-calls": {
    readonly request: { readonly workload: Workload; readonly limits: Limits };
    readonly value: LoadResult & { readonly calls: number };
  };
  /** Share of a run that passed inside of the parity kernels. */
  readonly "kernel-share": {
    readonly request: { readonly workload: Workload; readonly limits: Limits };
    readonly value: { readonly share: number };
  };
  /** All drives leave and come back: seconds until the array runs again. */
  readonly assemble: { readonly request: object; readonly value: { readonly seconds: number } };
  /** Seconds that one checkpoint takes: a flush and an update of all superblocks. */
  readonly checkpoint: {
    readonly request: { readonly count: number };
    readonly value: { readonly seconds: number };
  };
  readonly quit: { readonly request: object; readonly value: null };
}

export interface NbdCommands {
  /** Chooses the server: nbd+unix:///EXPORT?socket=PATH. The CPU is one to stay on. */
  readonly open: {
    readonly request: { readonly uri: string; readonly cpu: number | null };
    readonly value: { readonly sizeBytes: number };
  };
  /** Writes the export once, in order: it has a stamp in each row from then on. */
  readonly fill: { readonly request: object; readonly value: NbdResult };
  /** Reads the export once, in order. */
  readonly check: { readonly request: object; readonly value: NbdResult };
  readonly run: {
    readonly request: { readonly workload: NbdWorkload; readonly limits: NbdLimits };
    readonly value: NbdResult;
  };
  readonly quit: { readonly request: object; readonly value: null };
}

/** JSON has no infinity. */
export type Limits = Omit<RunLimits, "operations">;

export type GeneratorKind = keyof GeneratorCommands;
export type RequestOf<K extends GeneratorKind> = GeneratorCommands[K]["request"];
export type ValueOf<K extends GeneratorKind> = GeneratorCommands[K]["value"];

/** What a set of commands is made of. */
export type Commands<C> = {
  readonly [K in keyof C]: { readonly request: object; readonly value: unknown };
};

export type GeneratorAnswer =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: string };
