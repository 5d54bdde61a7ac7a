/** How a `BitmapState` begins: empty or full with a new array, or from what a member holds. */
import { assert } from "../base/assert.ts";
import { err, ok, type Result } from "../base/result.ts";
import {
  type BitmapError,
  type BitmapHeader,
  bitmapAreaBytes,
  decodeBitmapHeader,
  encodeBitmapHeader,
  isBitmapStale,
} from "./bitmap.ts";
import { cutBitmap } from "./bitmap-grow.ts";
import { BitmapState } from "./bitmap-state.ts";
import type { Superblock } from "./superblock.ts";

/**
 * The bitmap of a new array. `isAllSet`: parity is not known to be right anywhere, which is what
 * mdadm writes; the first resync then takes the bits away.
 */
export function newBitmap(header: BitmapHeader, isAllSet: boolean): BitmapState {
  const image = new Uint8Array(bitmapAreaBytes(header));
  image.set(encodeBitmapHeader(header));
  const state = new BitmapState({ header, image, isDegraded: false });
  if (isAllSet) state.markNeeded(0, header.syncSizeSectors);
  assert(
    state.setCount === (isAllSet ? state.bitCount : 0),
    "a new bitmap is all one or the other",
  );
  return state;
}

export interface LoadedBitmap {
  readonly state: BitmapState;
  /** The bits could not be believed: all are set, and everything is to be resynced. */
  readonly wasStale: boolean;
}

/**
 * Takes over the bitmap of one in-sync member. `area` is what lies at `bitmapOffsetBytes`, at
 * least `bitmapAreaBytes` long; more is not looked at.
 */
export function loadBitmap(
  area: Uint8Array,
  options: {
    readonly superblock: Superblock;
    readonly deviceBytes: number;
    /** Of the freshest superblock. */
    readonly events: number;
    /** In sync below this member sector; null: clean. */
    readonly resyncFromSector: number | null;
    readonly isDegraded: boolean;
  },
): Result<LoadedBitmap, BitmapError> {
  assert(Number.isSafeInteger(options.events), "the events of a superblock were decoded");
  const decoded = decodeBitmapHeader(area, options);
  if (!decoded.ok) return decoded;
  const areaBytes = bitmapAreaBytes(decoded.value);
  if (area.length < areaBytes) {
    const detail = `The write-intent bitmap takes ${areaBytes} bytes, of which ${area.length} exist.`;
    return err({ kind: "too-short", detail, advice: null });
  }
  const wasStale = isBitmapStale(decoded.value, options.events);
  const { events, isDegraded } = options;
  const { sizeSectors } = options.superblock;
  const { header: found, image } = cutBitmap(decoded.value, area, sizeSectors);
  const header = wasStale ? { ...found, eventsCleared: events } : found;
  const state = new BitmapState({ header, image, isDegraded });
  if (wasStale) {
    state.setEvents(events);
    state.markNeeded(0, header.syncSizeSectors);
    assert(state.setCount === state.bitCount, "of bits that are not believed all are set");
    return ok({ state, wasStale });
  }
  // As md: in a degraded array every set bit is kept for the member that may come back.
  const needFrom = isDegraded ? 0 : options.resyncFromSector;
  for (const { sector, lengthSectors } of needFrom === null ? [] : state.dirtyRanges()) {
    const from = Math.max(sector, needFrom ?? 0);
    const rest = sector + lengthSectors - from;
    if (rest > 0) state.markNeeded(from, rest);
  }
  assert(state.events >= events, "bits are believed only at the array's event or after it");
  return ok({ state, wasStale });
}
