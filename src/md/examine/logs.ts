/**
 * What the logs of one member say, for programs (reports) and for people: the bitmap as
 * `mdadm --examine-bitmap` prints it, the bad blocks as `mdadm --examine-badblocks` does, and the
 * partial parity log, for which mdadm has nothing.
 */
import { assert } from "../../base/assert.ts";
import { printable } from "../../base/printable.ts";
import { KIB, SECTOR_BYTES } from "../../base/units.ts";
import type { BadBlockLog, SectorRange } from "../bad-block-log.ts";
import { BITMAP_HEADER_BYTES, BITMAP_MAGIC, type BitmapHeader, bitmapBitCount } from "../bitmap.ts";
import { checkPplEntry, type PplEntryFault, type PplGeometry } from "../ppl.ts";
import type { PplScan } from "../ppl-replay.ts";
import type { Superblock } from "../superblock.ts";
import { bothSizes } from "./examine.ts";

export interface BitmapReport {
  readonly schema: "parityd.examine-bitmap/1";
  readonly path: string;
  readonly version: 4;
  readonly arrayUuid: string;
  readonly events: number;
  readonly eventsCleared: number;
  readonly state: "ok" | "out-of-date" | "unknown";
  readonly chunkBytes: number;
  readonly daemonSleepSeconds: number;
  readonly writeBehind: number;
  readonly syncSizeSectors: number;
  readonly bitCount: number;
  readonly setCount: number;
}

/** `area` is the bitmap with its header, `bitmapAreaBytes` long. */
export function bitmapReport(path: string, header: BitmapHeader, area: Uint8Array): BitmapReport {
  const { arrayUuid, events, eventsCleared, chunkBytes, daemonSleepSeconds } = header;
  const bitCount = bitmapBitCount(header);
  return {
    schema: "parityd.examine-bitmap/1",
    path,
    version: 4,
    arrayUuid,
    events,
    eventsCleared,
    state: header.state === 0 ? "ok" : header.state === 2 ? "out-of-date" : "unknown",
    chunkBytes,
    daemonSleepSeconds,
    writeBehind: header.writeBehind,
    syncSizeSectors: header.syncSizeSectors,
    bitCount,
    setCount: countSetBits(area, bitCount),
  };
}

/** As `mdadm --examine-bitmap`, without the line break at the end. */
export function renderBitmap(report: BitmapReport): string {
  const { syncSizeSectors, bitCount, setCount, writeBehind } = report;
  const states = { ok: "OK", "out-of-date": "Out of date", unknown: "Unknown" } as const;
  const percent = ((100 * setCount) / Math.max(bitCount, 1)).toFixed(1);
  return labelled([
    ["Filename", report.path],
    ["Magic", BITMAP_MAGIC.toString(16)],
    ["Version", String(report.version)],
    ["UUID", report.arrayUuid],
    ["Events", String(report.events)],
    ["Events Cleared", String(report.eventsCleared)],
    ["State", states[report.state]],
    ["Chunksize", wholeUnits(report.chunkBytes)],
    ["Daemon", `${report.daemonSleepSeconds}s flush period`],
    ["Write Mode", writeBehind === 0 ? "Normal" : `Allow write behind, max ${writeBehind}`],
    ["Sync Size", `${Math.floor(syncSizeSectors / 2)}${bothSizes(syncSizeSectors * SECTOR_BYTES)}`],
    ["Bitmap", `${bitCount} bits (chunks), ${setCount} dirty (${percent}%)`],
  ]);
}

export interface BadBlocksReport {
  readonly schema: "parityd.examine-badblocks/1";
  readonly path: string;
  readonly hasLog: boolean;
  /** In sectors from the start of the device. */
  readonly ranges: readonly SectorRange[];
}

export function badBlocksReport(
  path: string,
  superblock: Superblock,
  log: BadBlockLog,
): BadBlocksReport {
  const { badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  const hasLog = badBlockLogSectors > 0 && badBlockLogOffsetSectors !== 0;
  return { schema: "parityd.examine-badblocks/1", path, hasLog, ranges: log.ranges };
}

/** As `mdadm --examine-badblocks`; neighbouring entries are one range here. */
export function renderBadBlocks({ path: found, hasLog, ranges }: BadBlocksReport): string {
  const path = printable(found);
  if (!hasLog) return `No bad-blocks list configured on ${path}`;
  if (ranges.length === 0) return `Bad-blocks list is empty in ${path}`;
  const lines = ranges.map(({ sector, lengthSectors }) => {
    return `${String(sector).padStart(20)} for ${lengthSectors} sectors`;
  });
  return [`Bad-blocks on ${path}:`, ...lines].join("\n");
}

export interface PplReport {
  readonly schema: "parityd.examine-ppl/1";
  readonly path: string;
  readonly state: "blank" | "bad-checksum" | "foreign-signature" | "unit";
  /** Of the last unit; null without one. */
  readonly unit: {
    readonly offsetBytes: number;
    readonly signature: number;
    readonly generation: number;
    readonly unitCount: number;
    readonly entries: readonly {
      readonly dataSector: number;
      readonly dataBytes: number;
      readonly partialParityBytes: number;
      readonly parityRole: number;
      readonly isIntact: boolean;
      /** Null: it fits the array. */
      readonly fault: PplEntryFault | null;
    }[];
  } | null;
}

export function pplReport(
  path: string,
  scan: PplScan,
  { geometry, logRole }: { geometry: PplGeometry; logRole: number },
): PplReport {
  const schema = "parityd.examine-ppl/1";
  if (scan.kind === "none") return { schema, path, state: scan.reason, unit: null };
  const { offsetBytes, header, unitCount } = scan;
  assert(scan.entries.length === header.entries.length, "each entry of the unit is reported");
  const entries = scan.entries.map(({ entry, isIntact }) => {
    const { dataSector, dataBytes, partialParityBytes, parityRole } = entry;
    const fault = checkPplEntry(entry, geometry, logRole);
    return { dataSector, dataBytes, partialParityBytes, parityRole, isIntact, fault };
  });
  const { signature, generation } = header;
  const unit = { offsetBytes, signature, generation, unitCount, entries };
  return { schema, path, state: "unit", unit };
}

export function renderPpl({ path, state, unit }: PplReport): string {
  const states = {
    blank: "no unit: the area is blank",
    "bad-checksum": "no unit: the first header is torn or damaged",
    "foreign-signature": "no unit: the first header is another array's",
    unit: "OK",
  } as const;
  const lines: [string, string][] = [
    ["Filename", path],
    ["Log State", states[state]],
  ];
  if (unit === null) return labelled(lines);
  lines.push(
    ["Signature", unit.signature.toString(16).padStart(8, "0")],
    ["Generation", String(unit.generation)],
    ["Last Unit", `number ${unit.unitCount}, at byte ${unit.offsetBytes}`],
    ["Entries", String(unit.entries.length)],
  );
  const entries = unit.entries.map((entry) => {
    const torn = entry.isIntact ? "" : ", torn";
    const wrong = entry.fault === null ? "" : `, wrong (${entry.fault})`;
    return (
      `${String(entry.dataSector).padStart(20)} for ${entry.dataBytes} bytes, partial parity ` +
      `${entry.partialParityBytes} bytes, parity on ${entry.parityRole}${torn}${wrong}`
    );
  });
  return [labelled(lines), ...entries].join("\n");
}

function countSetBits(area: Uint8Array, bitCount: number): number {
  let count = 0;
  for (let bit = 0; bit < bitCount; bit += 1) {
    if ((area[BITMAP_HEADER_BYTES + (bit >>> 3)]! & (1 << (bit & 7))) !== 0) count += 1;
  }
  return count;
}

function labelled(lines: readonly (readonly [string, string])[]): string {
  return lines.map(([label, value]) => `${label.padStart(16)} : ${printable(value)}`).join("\n");
}

/** "64 KB": mdadm divides by 1024 as long as something is left, and drops the rest. */
function wholeUnits(bytes: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= KIB && unit < units.length - 1) {
    value = Math.floor(value / KIB);
    unit += 1;
  }
  return `${value} ${units[unit]}`;
}
