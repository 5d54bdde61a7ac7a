/**
 * What a partial parity log asks for after a crash: the last unit of an area is found, its entries
 * are checked against the array, and each row of them becomes a step of the replay. Pure: the
 * array layer reads the area, carries the steps out, and then follows write-rules 5.
 *
 * The last unit is found as the kernel finds it (ppl_load_distributed in its raid5-ppl.c): from the
 * start of the area, header behind header, while checksum and signature are right and the
 * generation does not fall. What an older lap left behind has a lower generation. A newer unit
 * somewhere else means that the way to it is torn: the unit found is out of date, its replay would
 * put wrong parity under data at rest, and the log is refused.
 *
 *   the row's data chunks of the entry     replay
 *   all there                              parity := their XOR, now on disk, XOR partial parity
 *   one missing                            parity stays: it gives that chunk's old or new content
 *
 * "Missing" is also a chunk of a member that is rebuilding, at or above its recovery offset, and a
 * bad sector (write-rules 6). Parity that is itself in the bad-block log stays unknown: the rows
 * were written since without it (write-rules 8), so the partial parity is out of date.
 * An entry whose partial parity has a wrong checksum was torn; its data was never submitted.
 */
import { assert } from "../base/assert.ts";
import { type ErrorOf, err, ok, type Result } from "../base/result.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../base/units.ts";
import type { BadBlockLog } from "./bad-block-log.ts";
import { viewOf } from "./little-endian.ts";
import {
  type Crc32c,
  checkPplEntry,
  decodePplHeader,
  PPL_HEADER_BYTES,
  type PplEntry,
  type PplEntryFault,
  type PplExtent,
  type PplGeometry,
  type PplHeader,
  pplChecksum,
  pplExtentOf,
} from "./ppl.ts";

/** An entry as found in an area. */
export interface LoadedPplEntry {
  readonly entry: Readonly<PplEntry>;
  /** Byte offset of its partial parity in the area. */
  readonly partialParityOffset: number;
  /** The partial parity is what the entry was written with. */
  readonly isIntact: boolean;
}

export type PplScan =
  | {
      /** No unit begins at the start of the area. */
      readonly kind: "none";
      /** Blank: all zero, as after a replay that was cut short, or where a log was never begun. */
      readonly reason: "blank" | "bad-checksum" | "foreign-signature";
    }
  | {
      readonly kind: "found";
      /** Of the last unit, in the area. */
      readonly offsetBytes: number;
      readonly header: PplHeader;
      /** Units from the start to this one. */
      readonly unitCount: number;
      readonly entries: readonly LoadedPplEntry[];
    };

export type PplScanError = ErrorOf<
  "bad-entry-count" | "number-too-large" | "beyond-area" | "superseded"
>;

/** `area` is the whole area, in whole rows. */
export function scanPplArea(
  area: Uint8Array,
  options: { readonly signature: number; readonly crc32c: Crc32c },
): Result<PplScan, PplScanError> {
  let offset = 0;
  let unitCount = 0;
  let last: { header: PplHeader; offsetBytes: number } | null = null;
  // Each turn goes on by a header at least, so that the area bounds the work.
  while (offset + PPL_HEADER_BYTES < area.length) {
    const decoded = decodePplHeader(area.subarray(offset, offset + PPL_HEADER_BYTES), options);
    if (!decoded.ok) {
      const { kind, detail } = decoded.error;
      if (kind === "bad-entry-count" || kind === "number-too-large") return err({ kind, detail });
      if (last === null) return ok(noUnit(area, kind));
      break;
    }
    const header = decoded.value;
    if (last !== null && header.generation < last.header.generation) break;
    const endBytes = unitEnd(header, offset);
    if (endBytes > area.length || endBytes % SECTOR_BYTES !== 0) {
      const detail = `A unit of the log would end at byte ${endBytes} of ${area.length}.`;
      return err({ kind: "beyond-area", detail });
    }
    assert(endBytes >= offset + PPL_HEADER_BYTES, "each unit brings the search further");
    last = { header, offsetBytes: offset };
    unitCount += 1;
    offset = endBytes;
  }
  if (last === null) return ok(noUnit(area, "bad-checksum"));
  if (hasNewerUnit(area, last.header.generation, options)) {
    const detail =
      `The log leads to unit ${last.header.generation}, but holds a newer one: a write at its ` +
      "start was torn, and what it leads to is out of date.";
    return err({ kind: "superseded", detail });
  }
  assert(last.offsetBytes + PPL_HEADER_BYTES <= area.length, "the last unit lies in the area");
  const entries = loadEntries(area, last.header, last.offsetBytes, options.crc32c);
  return ok({ kind: "found", ...last, unitCount, entries });
}

/** Units begin at whole rows. */
function hasNewerUnit(
  area: Uint8Array,
  generation: number,
  options: { readonly signature: number; readonly crc32c: Crc32c },
): boolean {
  const view = viewOf(area);
  for (let at = 0; at + PPL_HEADER_BYTES <= area.length; at += ROW_BYTES) {
    // Only what has the signature is worth a checksum over 4 KiB.
    if (view.getUint32(at + 512, true) !== options.signature) continue;
    const decoded = decodePplHeader(area.subarray(at, at + PPL_HEADER_BYTES), options);
    if (decoded.ok && decoded.value.generation > generation) return true;
  }
  return false;
}

function noUnit(area: Uint8Array, kind: string): PplScan {
  if (kind === "foreign-signature") return { kind: "none", reason: "foreign-signature" };
  const isBlank = area.every((byte) => byte === 0);
  return { kind: "none", reason: isBlank ? "blank" : "bad-checksum" };
}

function unitEnd(header: PplHeader, offsetBytes: number): number {
  return header.entries.reduce(
    (end, { partialParityBytes }) => end + partialParityBytes,
    offsetBytes + PPL_HEADER_BYTES,
  );
}

function loadEntries(
  area: Uint8Array,
  header: PplHeader,
  offsetBytes: number,
  crc32c: Crc32c,
): LoadedPplEntry[] {
  let next = offsetBytes + PPL_HEADER_BYTES;
  return header.entries.map((entry) => {
    const partialParityOffset = next;
    next += entry.partialParityBytes;
    assert(next <= area.length, "the partial parity of a unit lies in the area");
    const bytes = area.subarray(partialParityOffset, next);
    const isIntact = pplChecksum(bytes, crc32c) === entry.checksum;
    return { entry, partialParityOffset, isIntact };
  });
}

// Plan ---------------------------------------------------------------------------------------

/** A member that is there; missing ones are null in `ReplayOptions`. */
export interface ReplayMember {
  /** Of its data region on its device. */
  readonly dataOffsetSectors: number;
  /** Valid below this sector of its data region; null: all of it. */
  readonly recoveryOffsetSectors: number | null;
  readonly badBlocks: BadBlockLog;
}

export interface ReplayOptions {
  readonly entries: readonly LoadedPplEntry[];
  readonly geometry: PplGeometry;
  /** The role whose log it is: it holds the parity of every row. */
  readonly logRole: number;
  /** By role. */
  readonly members: readonly (ReplayMember | null)[];
}

export interface ReplayStep extends PplExtent {
  /**
   * recompute: parity := XOR of the extent's data chunks now on disk, XOR partial parity.
   * keep: nothing is read or written.
   */
  readonly action: "recompute" | "keep";
  readonly reason: "all-present" | "data-missing" | "parity-unknown";
  /** Byte offset in the area of the first row's partial parity; null: there is none (a XOR of all
   * data). */
  readonly partialParityOffset: number | null;
}

export interface PplReplay {
  /** In the order of the entries; rows next to each other with one fate are one step. */
  readonly steps: readonly ReplayStep[];
  /** Entries whose partial parity is torn. */
  readonly tornCount: number;
}

export type PplReplayError = ErrorOf<PplEntryFault | "overlapping-entries">;

/** Refuses the whole unit when one entry is wrong: nothing that stands beside it is trusted. */
export function planReplay(options: ReplayOptions): Result<PplReplay, PplReplayError> {
  const { entries, geometry, logRole, members } = options;
  assert(members.length === geometry.dataCount + 1, "each role has its member, or misses it");
  assert(logRole >= 0 && logRole < members.length, "the log is that of a member");
  const extents: PplExtent[] = [];
  for (const [index, { entry }] of entries.entries()) {
    const kind = checkPplEntry(entry, geometry, logRole);
    if (kind !== null) {
      const detail =
        `Entry ${index} of the partial parity log of role ${logRole} (array sector ` +
        `${entry.dataSector}, ${entry.dataBytes} bytes, parity on role ${entry.parityRole}) does ` +
        "not fit the array: the log is not replayed.";
      return err({ kind, detail });
    }
    const extent = pplExtentOf(entry, geometry);
    if (extents.some((other) => overlaps(extent, other))) {
      const detail =
        `Entry ${index} of the partial parity log of role ${logRole} has rows of another entry: ` +
        "the log is not replayed.";
      return err({ kind: "overlapping-entries", detail });
    }
    extents.push(extent);
  }
  const intact = entries.flatMap(({ isIntact }, index) => (isIntact ? [index] : []));
  const steps = intact.flatMap((index) => stepsOf(extents[index]!, entries[index]!, options));
  assert(
    steps.every(({ action, reason }) => (action === "recompute") === (reason === "all-present")),
    "parity is recomputed only from all that it is made of",
  );
  return ok({ steps, tornCount: entries.length - intact.length });
}

function overlaps(one: PplExtent, other: PplExtent): boolean {
  return (
    one.stripe === other.stripe &&
    one.firstRow < other.firstRow + other.rowCount &&
    other.firstRow < one.firstRow + one.rowCount
  );
}

function stepsOf(
  extent: PplExtent,
  { entry, partialParityOffset }: LoadedPplEntry,
  options: ReplayOptions,
): ReplayStep[] {
  const steps: { -readonly [K in keyof ReplayStep]: ReplayStep[K] }[] = [];
  const hasPartialParity = entry.partialParityBytes > 0;
  for (let index = 0; index < extent.rowCount; index += 1) {
    const row = extent.firstRow + index;
    const reason = reasonOf(extent, row, options);
    const previous = steps.at(-1);
    if (previous?.reason === reason) {
      previous.rowCount += 1;
      continue;
    }
    steps.push({
      ...extent,
      firstRow: row,
      rowCount: 1,
      reason,
      action: reason === "all-present" ? "recompute" : "keep",
      partialParityOffset: hasPartialParity ? partialParityOffset + index * ROW_BYTES : null,
    });
  }
  const rowCount = steps.reduce((sum, step) => sum + step.rowCount, 0);
  assert(rowCount === extent.rowCount, "each row of an entry has its fate");
  return steps;
}

function reasonOf(extent: PplExtent, row: number, options: ReplayOptions): ReplayStep["reason"] {
  const { geometry, logRole, members } = options;
  const sector = (extent.stripe * geometry.chunkBytes + row * ROW_BYTES) / SECTOR_BYTES;
  for (let index = 0; index < extent.dataCount; index += 1) {
    const role = geometry.dataRole(extent.stripe, extent.firstDataIndex + index);
    if (!hasRow(members[role] ?? null, sector)) return "data-missing";
  }
  return hasRow(members[logRole] ?? null, sector) ? "all-present" : "parity-unknown";
}

/** Whether the member has the row's content; `sector` counts in its data region. */
function hasRow(member: ReplayMember | null, sector: number): boolean {
  if (member === null) return false;
  const { recoveryOffsetSectors, dataOffsetSectors, badBlocks } = member;
  const rowSectors = ROW_BYTES / SECTOR_BYTES;
  if (recoveryOffsetSectors !== null && sector + rowSectors > recoveryOffsetSectors) return false;
  return !badBlocks.overlaps(dataOffsetSectors + sector, rowSectors);
}

// Outcome ------------------------------------------------------------------------------------

/** What became of the log of one present member. */
export type PplLogOutcome =
  | { readonly kind: "replayed"; readonly entryCount: number; readonly tornCount: number }
  /** No unit, for any reason but a foreign signature. */
  | { readonly kind: "none" }
  /** It is foreign, could not be read, or was refused by `scanPplArea` or `planReplay`. */
  | { readonly kind: "unusable" };

/**
 * What follows for a dirty array once every step is durable (write-rules 6): clean; or a resync
 * from the checkpoint; or, when degraded, a start without one.
 *
 * A log without a unit, or a torn entry, means that a unit was being written: no data of it had
 * been submitted, and the units before it were complete. So it costs a resync where one is
 * possible, and nothing where it is not. An unusable log proves nothing: that start is refused.
 */
export function judgeReplay({
  logs,
  resyncFromSector,
  isDegraded,
}: {
  readonly logs: readonly PplLogOutcome[];
  /** Of the superblock; not null: dirty. */
  readonly resyncFromSector: number;
  readonly isDegraded: boolean;
}): "clean" | "resync" | "degraded" | "refuse" {
  assert(resyncFromSector >= 0, "a dirty array says from where on it is");
  const isUnusable = logs.some(({ kind }) => kind === "unusable");
  if (isDegraded) return isUnusable || resyncFromSector !== 0 ? "refuse" : "degraded";
  const isWhole = logs.every((log) => log.kind === "replayed" && log.tornCount === 0);
  const hasEntries = logs.some((log) => log.kind === "replayed" && log.entryCount > 0);
  return isWhole && hasEntries && resyncFromSector === 0 ? "clean" : "resync";
}
