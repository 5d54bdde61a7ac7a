/**
 * What the logs of a dirty array say, read from the images with code of its own: an error in
 * src/md/ppl*.ts, src/md/bitmap*.ts or src/raid5 cannot hide itself here. From the format alone
 * (md-format B8, B9; Linux 6.1, raid5-ppl.c and md-bitmap.h):
 *
 *   ppl     units from the start of the area while checksum and signature are right and the
 *           generation does not fall; the last one counts. For each row of its entries whose
 *           modified chunks are all there: parity := XOR of these chunks, now on disk, XOR the
 *           partial parity. Where one is missing parity stays.
 *   bitmap  a bit for each bitmap chunk of a member; a row whose bit is 0 is in sync. A bitmap that
 *           is older than its superblock says nothing: every bit counts as 1.
 *
 * A row is 4 KiB of a member's data region, numbered from its start.
 */
import { SECTOR_BYTES } from "../../src/base/units.ts";
import type { AssemblyPlan } from "../../src/md/assemble/assembly-plan.ts";
import { SUPERBLOCK_OFFSET_BYTES, type Superblock } from "../../src/md/superblock.ts";
import { uuidBytes } from "../../src/md/uuid.ts";
import { crc32c } from "../helpers/crc32c.ts";
import { type DeviceImage, PAGE_BYTES, readImage } from "../sim/world/media.ts";

const SECTORS_PER_ROW = PAGE_BYTES / SECTOR_BYTES;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);
const ENTRIES_MAX = 148;
const BITMAP_HEADER_BYTES = 256;
const BITMAP_MAGIC = 0x6d74_6962;
const CHUNK_BYTES_MAX = 0x4000_0000;

/** Pages of a drive; those that are not there are zeros. */
export interface Pages {
  get(page: number): Uint8Array | undefined;
}

/** What a replay has changed, over what was there. */
class ReplayedPages implements Pages {
  private readonly base: Pages;
  private readonly changed = new Map<number, Uint8Array>();

  constructor(base: Pages) {
    this.base = base;
  }

  get(page: number): Uint8Array | undefined {
    return this.changed.get(page) ?? this.base.get(page);
  }

  set(page: number, bytes: Uint8Array): void {
    this.changed.set(page, bytes);
  }
}

/** By role: the pages of its drive, null where the member is missing. */
export interface LogView {
  readonly plan: AssemblyPlan;
  readonly pages: readonly (Pages | null)[];
  readonly images: readonly (DeviceImage | null)[];
  /** By role: the page of the drive at which the data region begins. */
  readonly firstPage: readonly number[];
  /** Whether a role's row is there: not missing, rebuilt, and not a bad block. */
  hasRow(role: number, row: number): boolean;
}

export interface Replayed {
  readonly pages: readonly (Pages | null)[];
  /** Every log was whole and there was something to replay: all parity is right now. */
  readonly isAllRight: boolean;
}

interface Entry {
  readonly dataSector: number;
  readonly partialBytes: number;
  readonly dataBytes: number;
  readonly parityRole: number;
  readonly checksum: number;
}

interface LoadedEntry extends Entry {
  readonly partial: readonly Uint8Array[];
  readonly isIntact: boolean;
}

interface Unit {
  readonly generation: bigint;
  readonly entries: readonly Entry[];
}

/** Whole pages of an area, by their number in it. */
export type PageReader = (index: number) => Uint8Array;

/** The last unit of an area; a sentence where the area must not look like that; null: no unit. */
export function lastUnit(
  pageOf: PageReader,
  { pageCount, signature }: { pageCount: number; signature: number },
): readonly LoadedEntry[] | string | null {
  let at = 0;
  let generation = -1n;
  let found: readonly LoadedEntry[] | null = null;
  while (at < pageCount) {
    const unit = unitAt(pageOf(at), signature);
    if (typeof unit === "string") return unit;
    if (unit === null || unit.generation < generation) break;
    generation = unit.generation;
    let next = at + 1;
    const entries: LoadedEntry[] = [];
    for (const entry of unit.entries) {
      const count = entry.partialBytes / PAGE_BYTES;
      if (next + count > pageCount) return "a unit of the log ends beyond its area";
      const partial = Array.from({ length: count }, (_, index) => pageOf(next + index));
      next += count;
      entries.push({ ...entry, partial, isIntact: checksumOf(...partial) === entry.checksum });
    }
    found = entries;
    at = next;
  }
  return found;
}

const units = new WeakMap<Uint8Array, Unit | string | null>();

/** Pages never change, so what is in one is remembered. */
function unitAt(page: Uint8Array, signature: number): Unit | string | null {
  const known = units.get(page);
  if (known !== undefined) return known;
  const unit = decodeUnit(page, signature);
  units.set(page, unit);
  return unit;
}

function decodeUnit(page: Uint8Array, signature: number): Unit | string | null {
  const view = new DataView(page.buffer, page.byteOffset, PAGE_BYTES);
  if (view.getUint32(512, true) !== signature || !hasRightChecksum(page)) return null;
  const count = view.getUint32(528, true);
  if (count > ENTRIES_MAX) return `a unit of the log has ${count} entries`;
  const entries = Array.from({ length: count }, (_, index): Entry => {
    const from = 536 + index * 24;
    return {
      dataSector: Number(view.getBigUint64(from, true)),
      partialBytes: view.getUint32(from + 8, true),
      dataBytes: view.getUint32(from + 12, true),
      parityRole: view.getUint32(from + 16, true),
      checksum: view.getUint32(from + 20, true),
    };
  });
  if (entries.some(({ partialBytes }) => partialBytes % PAGE_BYTES !== 0)) {
    return "the partial parity of an entry is not in whole rows";
  }
  return { generation: view.getBigUint64(520, true), entries };
}

/** The pages after the replay of all logs that are there; a sentence where one cannot be. */
export function replayLogs(view: LogView): Replayed | string {
  const { freshest } = view.plan;
  const signature = checksumOf(uuidBytes(freshest.arrayUuid));
  const pages = view.pages.map((each) => (each === null ? null : new ReplayedPages(each)));
  let isAllRight = freshest.resyncOffsetSectors === 0;
  let rows = 0;
  for (const [role, image] of view.images.entries()) {
    const superblock = superblockOf(view.plan, role);
    if (image === null || superblock === null || superblock.log.kind !== "ppl") continue;
    const { offsetSectors, sizeSectors } = superblock.log;
    const from = SUPERBLOCK_OFFSET_BYTES + offsetSectors * SECTOR_BYTES;
    const first = from / PAGE_BYTES;
    const pageCount = Math.floor((sizeSectors * SECTOR_BYTES) / PAGE_BYTES);
    const pageOf = (index: number) => image.pages.get(first + index) ?? ZERO_PAGE;
    const unit = lastUnit(pageOf, { pageCount, signature });
    if (typeof unit === "string") return `${image.name}: ${unit}`;
    if (unit === null) {
      isAllRight = false;
      continue;
    }
    for (const entry of unit) {
      if (entry.parityRole !== role) return `${image.name}: an entry is of another role's parity`;
      if (!entry.isIntact) isAllRight = false;
      else rows += replayEntry(view, entry, pages);
    }
  }
  return { pages, isAllRight: isAllRight && rows > 0 };
}

/** The answer is how many rows it has. */
function replayEntry(
  view: LogView,
  entry: LoadedEntry,
  pages: readonly (ReplayedPages | null)[],
): number {
  const { memberCount, chunkSectors } = view.plan.freshest;
  const dataCount = memberCount - 1;
  const stripeSectors = chunkSectors * dataCount;
  const stripe = Math.floor(entry.dataSector / stripeSectors);
  const firstIndex = Math.floor((entry.dataSector % stripeSectors) / chunkSectors);
  const firstRow = (entry.dataSector % chunkSectors) / SECTORS_PER_ROW;
  const modified =
    entry.partialBytes === 0 ? dataCount : Math.floor(entry.dataBytes / entry.partialBytes);
  const rowCount = entry.dataBytes / modified / PAGE_BYTES;
  const parityRole = memberCount - 1 - (stripe % memberCount);
  for (let index = 0; index < rowCount; index += 1) {
    const row = (stripe * chunkSectors) / SECTORS_PER_ROW + firstRow + index;
    const sources: Uint8Array[] = [];
    for (let chunk = firstIndex; chunk < firstIndex + modified; chunk += 1) {
      const role = (parityRole + 1 + chunk) % memberCount;
      if (!view.hasRow(role, row)) break;
      sources.push(pages[role]!.get(view.firstPage[role]! + row) ?? ZERO_PAGE);
    }
    if (sources.length < modified || !view.hasRow(parityRole, row)) continue;
    const partial = entry.partial[index];
    if (partial !== undefined) sources.push(partial);
    pages[parityRole]!.set(view.firstPage[parityRole]! + row, xorOf(sources));
  }
  return rowCount;
}

const XORS_MAX = 20_000;
const numbers = new WeakMap<Uint8Array, number>();
let nextNumber = 1;
const xors = new Map<string, Uint8Array>();

/** The same page for the same sources, so that whoever remembers by pages does so here too. */
function xorOf(sources: readonly Uint8Array[]): Uint8Array {
  const key = sources.map(numberOf).join();
  const known = xors.get(key);
  if (known !== undefined) return known;
  if (xors.size > XORS_MAX) xors.clear();
  const sum = new Uint8Array(PAGE_BYTES);
  for (const source of sources) {
    for (let at = 0; at < PAGE_BYTES; at += 1) sum[at]! ^= source[at]!;
  }
  xors.set(key, sum);
  return sum;
}

function numberOf(page: Uint8Array): number {
  const known = numbers.get(page);
  if (known !== undefined) return known;
  nextNumber += 1;
  numbers.set(page, nextNumber);
  return nextNumber;
}

/**
 * Whether a row may be out of sync by what every bitmap says: a kernel may believe that of any
 * member that is in sync.
 * A sentence where a bitmap cannot be one.
 */
export function dirtyRowsOf(view: LogView): ((row: number) => boolean) | string {
  const { freshest } = view.plan;
  const maps: { bits: Uint8Array; rowsPerBit: number }[] = [];
  for (const [role, image] of view.images.entries()) {
    const entry = view.plan.roles[role]!;
    if (image === null || entry.state !== "in-sync") continue;
    const { superblock } = entry;
    if (superblock.log.kind !== "bitmap") continue;
    const from = SUPERBLOCK_OFFSET_BYTES + superblock.log.offsetSectors * SECTOR_BYTES;
    const header = new DataView(readImage(image, from, BITMAP_HEADER_BYTES).buffer);
    if (header.getUint32(0, true) !== BITMAP_MAGIC) return `${image.name}: it has no bitmap`;
    const chunkBytes = header.getUint32(52, true);
    if (chunkBytes < PAGE_BYTES || chunkBytes > CHUNK_BYTES_MAX) {
      return `${image.name}: a bit of its bitmap stands for ${chunkBytes} bytes`;
    }
    const isStale = Number(header.getBigUint64(24, true)) < freshest.events;
    if (isStale) continue;
    const count = Math.ceil((freshest.sizeSectors * SECTOR_BYTES) / chunkBytes);
    const bits = readImage(image, from + BITMAP_HEADER_BYTES, Math.ceil(count / 8));
    maps.push({ bits, rowsPerBit: chunkBytes / PAGE_BYTES });
  }
  return (row) =>
    maps.every(({ bits, rowsPerBit }) => {
      const bit = Math.floor(row / rowsPerBit);
      return (bits[bit >> 3]! & (1 << (bit & 7))) !== 0;
    });
}

function superblockOf(plan: AssemblyPlan, role: number): Superblock | null {
  const entry = plan.roles[role]!;
  return entry.state === "missing" ? null : entry.superblock;
}

function hasRightChecksum(header: Uint8Array): boolean {
  const copy = header.slice();
  const view = new DataView(copy.buffer);
  const checksum = view.getUint32(532, true);
  view.setUint32(532, 0, true);
  return checksumOf(copy) === checksum;
}

function checksumOf(...parts: readonly Uint8Array[]): number {
  return ~parts.reduce((crc, part) => crc32c(crc, part), 0xffff_ffff) >>> 0;
}
