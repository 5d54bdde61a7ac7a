/** What one reactor knows of one array, whether it runs or not. */
import type { Superblock } from "../md/superblock.ts";
import type { Drive } from "./drives/drive.ts";
import type { ArrayTuning, CommandError, ScrubMemory } from "./protocol.ts";
import type { RaidArray } from "./raid-array.ts";
import type { RaidArrayFront } from "./running/raid-front.ts";
import type { SyncRates } from "./sync/sync-rates.ts";

export interface ArrayRecord {
  readonly uuid: string;
  /** Its label. Commands and exports go by the UUID. */
  name: string;
  /** It may start by itself, once all its members are here. */
  mayStart: boolean;
  running: RaidArray | null;
  /** While it is started anew: what its clients hold, and wait at. */
  front: RaidArrayFront | null;
  /** Why it does not run. */
  reason: string;
  /** Stopped by the user: it is not started again by itself. */
  isHeld: boolean;
  /** The last superblock that was known of it, for where no drive of it is left. */
  lastSeen: Superblock | null;
  /** An invariant broke in it: it does not run, and its drives are held. */
  broken: Broken | null;
  readonly tuning: ArrayTuning;
  /** How fast its rebuilds, resyncs and scrubs were. */
  readonly rates: SyncRates;
  /** Of its scrubs, while it does not run. */
  scrub: ScrubMemory;
}

/** An array that broke (broken-arrays.ts). */
export interface Broken {
  readonly reason: string;
  /** What ran; null: it had not come so far. */
  readonly array: RaidArray | null;
  readonly drives: ReadonlySet<Drive>;
}

export function commandError(
  kind: CommandError["kind"],
  code: string,
  detail: string,
): CommandError {
  return { kind, code, detail };
}
