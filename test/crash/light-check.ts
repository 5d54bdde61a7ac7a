/**
 * Judges a crash image without starting an engine: what the superblocks make of it, and whether
 * every sector is then one that the oracle allows. Thousands of images a second, so that the
 * matrix can be large; the same images, sampled, go through the real engine (real-check.ts).
 *
 * The product's own judgement of superblocks is used, and compared with a second, short one that
 * is written down from the rules (expected-assembly.ts). The bytes are read with the arithmetic of
 * zones.ts.
 *
 * Pages of images are shared and never change, so whatever follows from pages is remembered by the
 * numbers that they get here.
 */
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { judgeAssembly } from "../../src/md/assemble/assemble.ts";
import type { AssemblyPlan, AssemblyRefusal } from "../../src/md/assemble/assembly-plan.ts";
import { decodeBadBlockLog } from "../../src/md/bad-block-log.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../src/md/superblock.ts";
import { describeStamp, readStamp, type SectorContent } from "../../src/nbd/client/load/stamp.ts";
import { expectedAssembly, isReplayed } from "../sim/world/expected-assembly.ts";
import { type DeviceImage, PAGE_BYTES, readImage } from "../sim/world/media.ts";
import type { SectorOracle } from "../sim/world/oracle.ts";
import { dirtyRowsOf, type Pages, replayLogs } from "./log-model.ts";
import { firstRowOf, firstSectorOf, roleOf, sectorOf, type Zone, zonesOf } from "./zones.ts";

const SECTORS_PER_ROW = PAGE_BYTES / SECTOR_BYTES;
const REMEMBERED_MAX = 20_000;
const NO_PAGE = new Uint8Array(PAGE_BYTES);

/** What has to come of a set of drives, and the plan where there is one. */
export type Expected =
  /** No drive has a superblock. */
  | { readonly kind: "nothing" }
  | { readonly kind: "whole"; readonly plan: AssemblyPlan }
  | { readonly kind: "degraded"; readonly plan: AssemblyPlan }
  /** Dirty and degraded: `plan` is what force makes of it. */
  | { readonly kind: "refused"; readonly plan: AssemblyPlan }
  | { readonly kind: "too-few"; readonly refusal: AssemblyRefusal }
  /** The two judgements differ, or the product refuses for a reason that cannot be. */
  | { readonly kind: "wrong"; readonly message: string };

/** What a forced start gave up: sectors of the missing member in rows that were in flight. */
export interface Hole {
  readonly sectors: ReadonlySet<number>;
  /** The last version before that start: what is written later counts again. */
  readonly lastVersion: number;
}

/** The promises of one crash point. */
export class Promises {
  readonly oracle: SectorOracle;
  readonly seed: number;
  /** By sector: the versions that may be there. */
  readonly allowed: readonly (readonly number[])[];

  private readonly allowsZeros: readonly boolean[];
  private readonly wasOpen: (lba: number) => boolean;
  private readonly hole: Hole | null;

  /** `oracle` has crashed. `earlier`: of the crash from which this run was recovering. */
  constructor(oracle: SectorOracle, earlier: Promises | null = null, hole: Hole | null = null) {
    this.oracle = oracle;
    this.hole = hole;
    this.wasOpen = earlier === null ? () => false : (lba) => earlier.isOpen(lba);
    this.seed = oracle.seed;
    const sectors = Array.from({ length: oracle.sectorCount }, (_, lba) => lba);
    this.allowed = sectors.map((lba) => oracle.allowedVersions(lba));
    this.allowsZeros = sectors.map((lba) => oracle.allowsZeros(lba));
  }

  /** It was being written at a crash, and parity over it may not have been made right since. */
  isOpen(lba: number): boolean {
    return this.allowed[lba]!.length > 1 || this.wasOpen(lba);
  }

  /** It was given up by a forced start, and has not been written since. */
  isFree(lba: number): boolean {
    const { hole } = this;
    if (hole === null || !hole.sectors.has(lba)) return false;
    return this.allowed[lba]!.some((version) => version <= hole.lastVersion);
  }

  /** No client can have written it, or nobody knows any more whether one has. */
  isUnwritten(lba: number): boolean {
    return this.isFree(lba) || this.allowed[lba]!.every((version) => version === 0);
  }

  /** Null, or what is wrong with it. */
  judge(lba: number, found: SectorContent): string | null {
    const allowed = this.allowed[lba]!;
    const isAllowed =
      found.kind === "zero"
        ? this.allowsZeros[lba]!
        : found.kind === "stamp" &&
          found.stamp.run === this.seed &&
          found.stamp.lba === lba &&
          allowed.includes(found.stamp.version);
    if (isAllowed) return null;
    return `sector ${lba} holds ${nameOf(found)}; expected version ${allowed.join(" or ")}`;
  }
}

export function nameOf(found: SectorContent): string {
  if (found.kind === "zero") return "zeros";
  if (found.kind === "garbage") return `garbage (${found.detail})`;
  return describeStamp(found.stamp);
}

interface Reader {
  readonly pages: readonly (Pages | null)[];
  readonly firstPage: readonly number[];
  /** By role: rows of the member from here on are not rebuilt. */
  readonly rebuiltRows: readonly number[];
  readonly badRows: readonly ReadonlySet<number>[];
  /** Whether parity has to be right in a row of the members, with nothing done about it. */
  readonly isSynced: (row: number) => boolean;
  /** A log was replayed: only sectors that were in flight may be wrong, not their rows. */
  readonly isReplayed: boolean;
}

export interface LightOptions {
  readonly images: readonly DeviceImage[];
  readonly promises: Promises;
  /** Rows with a bad sector on one member, where another one is lost, have no content. */
  readonly mayLose?: boolean;
  /** Sectors that were in flight may hold garbage. */
  readonly isTorn: boolean;
}

export class LightCheck {
  /** Rows that no member could give, of those that were read. */
  lostRows = 0;
  private readonly pageNumbers = new WeakMap<Uint8Array, number>();
  private nextPage = 1;
  private readonly superblocks = new Map<number, Superblock | null>();
  private readonly rows = new Map<string, readonly SectorContent[]>();
  private readonly judged = new Map<string, Expected>();

  /** What has to come of these drives. */
  expect(images: readonly DeviceImage[]): Expected {
    const key = images.map((image) => `${image.name}:${this.superblockPage(image)}`).join();
    const known = this.judged.get(key);
    if (known !== undefined) return known;
    const expected = this.judge(images);
    if (this.judged.size > REMEMBERED_MAX) this.judged.clear();
    this.judged.set(key, expected);
    return expected;
  }

  superblockOf(image: DeviceImage): Superblock | null {
    const page = this.superblockPage(image);
    const known = this.superblocks.get(page);
    if (known !== undefined) return known;
    const bytes = readImage(image, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
    const decoded = decodeSuperblock(bytes, { deviceBytes: image.sizeBytes });
    const superblock = decoded.ok ? decoded.value : null;
    if (this.superblocks.size > REMEMBERED_MAX) this.superblocks.clear();
    this.superblocks.set(page, superblock);
    return superblock;
  }

  /** Null, or the first thing that is wrong in what `plan` gives of these drives. */
  readAll(plan: AssemblyPlan, options: LightOptions): string | null {
    const { images, promises, isTorn, mayLose = false } = options;
    const reader = this.readerOf(plan, images, isTorn);
    if (typeof reader === "string") return reader;
    const zones = zonesOf(plan.freshest);
    // Of an array that was to grow: whoever wrote behind the old end was told of the new size.
    const count = Math.max(...zones.map(({ toSector }) => toSector));
    for (let lba = count; lba < promises.allowed.length; lba += 1) {
      if (!promises.isUnwritten(lba)) return `sector ${lba} is behind the end of the array`;
    }
    for (const zone of zones) {
      const chunkRows = zone.chunkSectors / SECTORS_PER_ROW;
      for (let stripe = zone.fromStripe; stripe < zone.toStripe; stripe += 1) {
        for (let row = 0; row < chunkRows; row += 1) {
          for (let dataIndex = 0; dataIndex < zone.memberCount - 1; dataIndex += 1) {
            const place = { zone, stripe, row, dataIndex };
            const wrong = this.judgeRow({ reader, plan, promises, isTorn, mayLose, ...place });
            if (wrong !== null) return wrong;
          }
        }
      }
    }
    return null;
  }

  private judgeRow(at: {
    reader: Reader;
    plan: AssemblyPlan;
    promises: Promises;
    isTorn: boolean;
    mayLose: boolean;
    zone: Zone;
    stripe: number;
    row: number;
    dataIndex: number;
  }): string | null {
    const { reader, plan, promises, isTorn, mayLose, zone, stripe, row, dataIndex } = at;
    const { memberCount } = zone;
    const role = roleOf(zone, stripe, dataIndex);
    const memberRow = firstRowOf(zone, stripe) + row;
    const first = sectorOf(zone, stripe, dataIndex) + row * SECTORS_PER_ROW;
    // Of the stripe that was moved in part: it is read elsewhere, and its parity has to hold.
    const isMoved = first < zone.fromSector;
    const unknown = this.unknownRoles(reader, memberRow, memberCount);
    const isDirect = !unknown.includes(role);
    const others = unknown.filter((each) => each !== role);
    const isSynced = reader.isSynced(memberRow);
    const direct = isDirect ? this.direct(reader, role, memberRow) : null;
    const sum = others.length === 0 ? this.sum(reader, role, memberRow, memberCount) : null;
    const found = direct ?? sum;
    if (found === null) {
      this.lostRows += 1;
      const isDouble = mayLose && plan.degraded > 0;
      return isDouble || isMoved ? null : `sector ${first} is lost`;
    }
    // Where nothing proves that parity is right, a chunk that was being written may be anything.
    const isUnproven = !isDirect && plan.resyncFromSector !== null;
    const isHole = isUnproven && !reader.isReplayed && isRowOpen(promises, zone, stripe, row);
    for (let sector = 0; sector < SECTORS_PER_ROW; sector += 1) {
      const lba = first + sector;
      const isInFlight = isUnproven && promises.isOpen(lba);
      const isFree =
        isMoved || isHole || isInFlight || promises.isFree(lba) || (isTorn && promises.isOpen(lba));
      const wrong = isFree ? null : promises.judge(lba, found[sector]!);
      if (wrong !== null) return wrong;
      if (!isSynced || direct === null || sum === null || isTorn) continue;
      if (!isSame(direct[sector]!, sum[sector]!)) {
        const parity = nameOf(sum[sector]!);
        return `sector ${lba}: parity of a clean row gives ${parity}, not ${nameOf(direct[sector]!)}`;
      }
    }
    return null;
  }

  private readerOf(
    plan: AssemblyPlan,
    images: readonly DeviceImage[],
    isTorn: boolean,
  ): Reader | string {
    const { chunkSectors } = plan.freshest;
    const chunkRows = chunkSectors / SECTORS_PER_ROW;
    const pages: (Pages | null)[] = [];
    const firstPage: number[] = [];
    const rebuiltRows: number[] = [];
    const badRows: ReadonlySet<number>[] = [];
    for (const entry of plan.roles) {
      if (entry.state === "missing") {
        pages.push(null);
        firstPage.push(0);
        rebuiltRows.push(0);
        badRows.push(new Set());
        continue;
      }
      const image = images.find(({ name }) => name === entry.drive)!;
      pages.push(image.pages);
      firstPage.push(firstSectorOf(entry.superblock) / SECTORS_PER_ROW);
      rebuiltRows.push(
        entry.state === "in-sync"
          ? Number.POSITIVE_INFINITY
          : Math.floor(entry.recoveryOffsetSectors / chunkSectors) * chunkRows,
      );
      badRows.push(badRowsOf(image, entry.superblock));
    }
    const from = plan.resyncFromSector;
    const syncedRows = from === null ? Number.POSITIVE_INFINITY : from / SECTORS_PER_ROW;
    const reader: Reader = {
      pages,
      firstPage,
      rebuiltRows,
      badRows,
      isSynced: (row) => row < syncedRows,
      isReplayed: false,
    };
    if (plan.resyncFromSector === null) return reader;
    const read = this.withLogs(reader, plan, images);
    // A log that is torn says nothing.
    return typeof read === "string" && isTorn ? reader : read;
  }

  /** The same, after what a start does with the logs of a dirty array. */
  private withLogs(
    reader: Reader,
    plan: AssemblyPlan,
    images: readonly DeviceImage[],
  ): Reader | string {
    const { memberCount } = plan.freshest;
    const view = {
      ...reader,
      plan,
      images: plan.roles.map((entry) => {
        if (entry.state === "missing") return null;
        return images.find(({ name }) => name === entry.drive)!;
      }),
      hasRow: (role: number, row: number) => {
        return !this.unknownRoles(reader, row, memberCount).includes(role);
      },
    };
    if (plan.policy === "bitmap") {
      const isDirtyRow = dirtyRowsOf(view);
      if (typeof isDirtyRow === "string") return isDirtyRow;
      return { ...reader, isSynced: (row) => reader.isSynced(row) || !isDirtyRow(row) };
    }
    if (plan.policy !== "ppl") return reader;
    const replayed = replayLogs(view);
    if (typeof replayed === "string") return replayed;
    const { pages, isAllRight } = replayed;
    // Where the first resync has not ended replay makes right what it had done, and goes on there.
    const isSynced = (row: number) => isAllRight || reader.isSynced(row);
    return { ...reader, pages, isReplayed: isReplayed(plan.freshest), isSynced };
  }

  private unknownRoles(reader: Reader, memberRow: number, memberCount: number): number[] {
    const unknown: number[] = [];
    for (let role = 0; role < memberCount; role += 1) {
      const isThere =
        reader.pages[role] !== null &&
        memberRow < reader.rebuiltRows[role]! &&
        !reader.badRows[role]!.has(memberRow);
      if (!isThere) unknown.push(role);
    }
    return unknown;
  }

  private pageOf(reader: Reader, role: number, memberRow: number): Uint8Array {
    return reader.pages[role]!.get(reader.firstPage[role]! + memberRow) ?? NO_PAGE;
  }

  private direct(reader: Reader, role: number, memberRow: number): readonly SectorContent[] {
    const page = this.pageOf(reader, role, memberRow);
    return this.remembered(String(this.numberOf(page)), () => page);
  }

  /** The XOR of all roles but one. */
  private sum(
    reader: Reader,
    without: number,
    memberRow: number,
    memberCount: number,
  ): readonly SectorContent[] {
    const pages: Uint8Array[] = [];
    let key = "^";
    for (let role = 0; role < memberCount; role += 1) {
      if (role === without) continue;
      const page = this.pageOf(reader, role, memberRow);
      pages.push(page);
      key += `${this.numberOf(page)},`;
    }
    return this.remembered(key, () => xorOf(pages));
  }

  private remembered(key: string, pageOf: () => Uint8Array): readonly SectorContent[] {
    const known = this.rows.get(key);
    if (known !== undefined) return known;
    if (this.rows.size > REMEMBERED_MAX) this.rows.clear();
    const page = pageOf();
    const contents: SectorContent[] = [];
    for (let at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
      contents.push(readStamp(page.subarray(at, at + SECTOR_BYTES)));
    }
    this.rows.set(key, contents);
    return contents;
  }

  private numberOf(page: Uint8Array): number {
    const known = this.pageNumbers.get(page);
    if (known !== undefined) return known;
    const number = this.nextPage;
    this.nextPage += 1;
    this.pageNumbers.set(page, number);
    return number;
  }

  private superblockPage(image: DeviceImage): number {
    return this.numberOf(image.pages.get(SUPERBLOCK_OFFSET_BYTES / PAGE_BYTES) ?? NO_PAGE);
  }

  private judge(images: readonly DeviceImage[]): Expected {
    const candidates = images.flatMap((image) => {
      const superblock = this.superblockOf(image);
      if (superblock === null) return [];
      const { name, sizeBytes, logicalBlockBytes } = image;
      return [{ drive: name, superblock, deviceBytes: sizeBytes, logicalBlockBytes }];
    });
    if (candidates.length === 0) return { kind: "nothing" };
    const expected = expectedAssembly(candidates.map(({ superblock }) => superblock));
    const judged = judgeAssembly(candidates, { force: false });
    if (!judged.ok) {
      const { kind, detail } = judged.error;
      const refusal = { "dirty-and-degraded": "refused", "too-few-members": "too-few" } as const;
      const own = kind in refusal ? refusal[kind as keyof typeof refusal] : kind;
      if (own !== expected) {
        return { kind: "wrong", message: `is to be ${expected}, but: ${kind}: ${detail}` };
      }
      if (own === "too-few") return { kind: "too-few", refusal: judged.error };
      const forced = judgeAssembly(candidates, { force: true });
      if (!forced.ok) return { kind: "wrong", message: `forced: ${forced.error.detail}` };
      return { kind: "refused", plan: forced.value };
    }
    const kind = judged.value.degraded === 0 ? "whole" : "degraded";
    if (kind !== expected)
      return { kind: "wrong", message: `is to be ${expected}, but is ${kind}` };
    return { kind, plan: judged.value };
  }
}

/** Rows of the member's data region. */
export function badRowsOf(image: DeviceImage, superblock: Superblock): ReadonlySet<number> {
  const bad = new Set<number>();
  if (!superblock.hasBadBlocks) return bad;
  const at = SUPERBLOCK_OFFSET_BYTES + superblock.badBlockLogOffsetSectors * SECTOR_BYTES;
  const bytes = readImage(image, at, superblock.badBlockLogSectors * SECTOR_BYTES);
  const log = decodeBadBlockLog(bytes);
  if (!log.ok) return bad;
  for (const { sector, lengthSectors } of log.value.ranges) {
    const from = sector - firstSectorOf(superblock);
    const last = Math.floor((from + lengthSectors - 1) / SECTORS_PER_ROW);
    for (let row = Math.floor(from / SECTORS_PER_ROW); row <= last; row += 1) bad.add(row);
  }
  return bad;
}

/** Whether any sector in the same sectors of a stripe's rows was being written. */
function isRowOpen(promises: Promises, zone: Zone, stripe: number, row: number): boolean {
  for (let dataIndex = 0; dataIndex < zone.memberCount - 1; dataIndex += 1) {
    const first = sectorOf(zone, stripe, dataIndex) + row * SECTORS_PER_ROW;
    for (let sector = 0; sector < SECTORS_PER_ROW; sector += 1) {
      if (promises.isOpen(first + sector)) return true;
    }
  }
  return false;
}

function xorOf(pages: readonly Uint8Array[]): Uint8Array {
  const sum = new Uint32Array(PAGE_BYTES / 4);
  for (const page of pages) {
    if (page === NO_PAGE) continue;
    const words =
      page.byteOffset % 4 === 0
        ? new Uint32Array(page.buffer, page.byteOffset, sum.length)
        : new Uint32Array(page.slice().buffer);
    for (let index = 0; index < sum.length; index += 1) sum[index]! ^= words[index]!;
  }
  return new Uint8Array(sum.buffer);
}

function isSame(one: SectorContent, other: SectorContent): boolean {
  if (one.kind !== "stamp" || other.kind !== "stamp") return one.kind === other.kind;
  return one.stamp.lba === other.stamp.lba && one.stamp.version === other.stamp.version;
}
