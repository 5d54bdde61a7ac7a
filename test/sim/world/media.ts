/**
 * The bytes of one simulated drive: what is durable, and what its volatile cache may still lose.
 *
 * Storage is sparse, in pages of 4 KiB. A page has its durable bytes and, in the order of
 * submission, the versions that are not yet known to be durable:
 *
 *   durable ◄─ version (completed) ◄─ version (completed) ◄─ version (in flight)
 *
 * - A read sees every completed version. Of one in flight it sees each sector or not, by chance.
 * - A flush makes durable the versions that had completed when it was submitted, and no others.
 * - After a crash each sector is any one of its versions, the durable bytes, or garbage: a cache
 *   writes back in any order, and what was in flight may have landed. A sector is the unit that
 *   lands whole; its bits in `landed` say which sectors of a failed write reached the drive.
 *
 * Everything that changes a drive goes through `apply`, as an event that the trace keeps, so that
 * the crash images of `crash-images.ts` follow from the very same code.
 *
 * Pages are immutable: an image shares them with the drive that it was taken from.
 */
import { assert } from "../../../src/base/assert.ts";
import { fillRandom, nextBelow, type Random } from "../../../src/base/random.ts";
import { SECTOR_BYTES } from "../../../src/base/units.ts";

export const PAGE_BYTES = 4096;
const SECTORS_PER_PAGE = PAGE_BYTES / SECTOR_BYTES;
const ALL_SECTORS = (1 << SECTORS_PER_PAGE) - 1;
const ZERO_PAGE = new Uint8Array(PAGE_BYTES);
/** More versions of a page than this are written back, oldest first: real caches are finite. */
const VERSIONS_MAX = 16;

export type SectorBytes = 512 | 4096;

/** A drive at rest. `latent` has the errno of each unreadable 512-byte sector. */
export interface DeviceImage {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly sectorBytes: SectorBytes;
  readonly pages: ReadonlyMap<number, Uint8Array>;
  readonly latent: ReadonlyMap<number, number>;
}

export type MediaEvent =
  /** `bytes` null: zeros. `length` counts bytes and is a multiple of the page. */
  | {
      readonly kind: "submit";
      readonly write: number;
      readonly offset: number;
      readonly length: number;
      readonly bytes: Uint8Array | null;
    }
  /** `landed` null: all of it; else 1 for each sector (of `sectorBytes`) that reached the drive. */
  | {
      readonly kind: "complete";
      readonly write: number;
      readonly landed: Uint8Array | null;
      readonly isFua: boolean;
    }
  | { readonly kind: "flush-submit"; readonly flush: number }
  | { readonly kind: "flush-complete"; readonly flush: number }
  | { readonly kind: "latent"; readonly sector: number; readonly errno: number }
  /** The bytes at rest change, those that are completed and not yet written back too. */
  | { readonly kind: "rot"; readonly offset: number; readonly length: number }
  /** The drive lost its power, and is now as in `image`. */
  | { readonly kind: "reset"; readonly image: DeviceImage };

interface Write {
  readonly offset: number;
  readonly length: number;
  /** When it completed, as a number of the media's own count; Infinity while in flight. */
  completedAt: number;
}

interface Version {
  readonly write: Write;
  bytes: Uint8Array;
  /** A bit per 512-byte sector of the page. */
  landed: number;
}

/** A sector that a crash may leave in more than one state. */
export interface PendingSector {
  readonly page: number;
  /** Within the page. */
  readonly from: number;
  readonly bytes: number;
  /** What it may hold other than its durable bytes, oldest first; all differ. */
  readonly candidates: readonly Uint8Array[];
}

/** Index into `candidates`, or one of these. */
export const Fate = { durable: -1, garbage: -2 } as const;

export class Media {
  readonly name: string;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly sectorBytes: SectorBytes;
  private durable: Map<number, Uint8Array>;
  private latent: Map<number, number>;
  private readonly versions = new Map<number, Version[]>();
  private readonly inFlight = new Map<number, Write>();
  private readonly flushes = new Map<number, number>();
  private count = 0;

  constructor(image: DeviceImage) {
    assert(image.sizeBytes % PAGE_BYTES === 0, "drives are whole pages");
    this.name = image.name;
    this.sizeBytes = image.sizeBytes;
    this.logicalBlockBytes = image.logicalBlockBytes;
    this.sectorBytes = image.sectorBytes;
    this.durable = new Map(image.pages);
    this.latent = new Map(image.latent);
  }

  apply(event: MediaEvent): void {
    switch (event.kind) {
      case "submit":
        this.submitted(event);
        break;
      case "complete":
        this.completed(event.write, event.landed, event.isFua);
        break;
      case "flush-submit":
        this.count += 1;
        this.flushes.set(event.flush, this.count);
        break;
      case "flush-complete":
        this.flushed(event.flush);
        break;
      case "latent":
        this.latent.set(event.sector, event.errno);
        break;
      case "rot":
        this.rot(event.offset, event.length);
        break;
      case "reset":
        this.durable = new Map(event.image.pages);
        this.latent = new Map(event.image.latent);
        this.versions.clear();
        break;
    }
  }

  /** The errno of the first unreadable sector in a range, or 0. */
  latentErrno(offset: number, bytes: number): number {
    if (this.latent.size === 0) return 0;
    for (let at = offset; at < offset + bytes; at += SECTOR_BYTES) {
      const errno = this.latent.get(at / SECTOR_BYTES);
      if (errno !== undefined) return errno;
    }
    return 0;
  }

  /** Whether a page of the range was never written, or was punched out. */
  hasHole(offset: number, bytes: number): boolean {
    for (let at = offset; at < offset + bytes; at += PAGE_BYTES) {
      const page = at / PAGE_BYTES;
      const last = this.versions.get(page)?.findLast(({ landed }) => landed !== 0);
      if ((last?.bytes ?? this.durable.get(page) ?? ZERO_PAGE) === ZERO_PAGE) return true;
    }
    return false;
  }

  /** Copies what a read would see of one page. */
  readPage(page: number, target: Uint8Array, random: Random): void {
    target.set(this.durable.get(page) ?? ZERO_PAGE);
    for (const { write, bytes, landed } of this.versions.get(page) ?? []) {
      let seen = landed;
      if (write.completedAt === Number.POSITIVE_INFINITY) seen &= this.someSectors(random);
      overlay(target, bytes, seen);
    }
  }

  /** The sectors whose content a crash now would decide. */
  pendingSectors(): PendingSector[] {
    const pending: PendingSector[] = [];
    for (const [page, versions] of this.versions) {
      const isZero = !this.durable.has(page) && versions.every(({ bytes }) => bytes === ZERO_PAGE);
      for (let from = 0; !isZero && from < PAGE_BYTES; from += this.sectorBytes) {
        const candidates = this.candidatesOf(page, versions, from);
        if (candidates.length > 0) {
          pending.push({ page, from, bytes: this.sectorBytes, candidates });
        }
      }
    }
    return pending;
  }

  /** What a power cut leaves, where `fateOf` decides on each pending sector, in order. */
  crashImage(
    pending: readonly PendingSector[],
    fateOf: (index: number) => number,
    random: Random,
  ): DeviceImage {
    const pages = new Map(this.durable);
    const latent = this.latent.size === 0 ? this.latent : new Map(this.latent);
    const changed = new Map<number, Uint8Array>();
    for (const [index, sector] of pending.entries()) {
      const fate = fateOf(index);
      if (fate === Fate.durable) continue;
      let page = changed.get(sector.page);
      if (page === undefined) {
        page = (pages.get(sector.page) ?? ZERO_PAGE).slice();
        changed.set(sector.page, page);
        pages.set(sector.page, page);
      }
      if (fate === Fate.garbage) {
        fillRandom(random, page.subarray(sector.from, sector.from + sector.bytes));
      } else page.set(sector.candidates[fate]!, sector.from);
      for (let at = 0; at < sector.bytes; at += SECTOR_BYTES) {
        latent.delete((sector.page * PAGE_BYTES + sector.from + at) / SECTOR_BYTES);
      }
    }
    return this.imageOf(pages, latent);
  }

  /** Whether all pages of a range hold something. */
  isStored(offset: number, bytes: number): boolean {
    for (
      let page = Math.floor(offset / PAGE_BYTES);
      page * PAGE_BYTES < offset + bytes;
      page += 1
    ) {
      if (!this.durable.has(page) && !this.versions.has(page)) return false;
    }
    return true;
  }

  /** A page of `cleanImage`. */
  cleanPage(page: number): Uint8Array {
    const bytes = (this.durable.get(page) ?? ZERO_PAGE).slice();
    for (const version of this.versions.get(page) ?? []) {
      if (version.write.completedAt !== Number.POSITIVE_INFINITY) {
        overlay(bytes, version.bytes, version.landed);
      }
    }
    return bytes;
  }

  /** As after a clean power-off: everything completed is kept. */
  cleanImage(): DeviceImage {
    const pages = new Map(this.durable);
    for (const page of this.versions.keys()) pages.set(page, this.cleanPage(page));
    return this.imageOf(pages, new Map(this.latent));
  }

  private imageOf(pages: Map<number, Uint8Array>, latent: Map<number, number>): DeviceImage {
    const { name, sizeBytes, logicalBlockBytes, sectorBytes } = this;
    return { name, sizeBytes, logicalBlockBytes, sectorBytes, pages, latent };
  }

  private submitted(event: MediaEvent & { kind: "submit" }): void {
    const { offset, length } = event;
    const write: Write = { offset, length, completedAt: Number.POSITIVE_INFINITY };
    this.inFlight.set(event.write, write);
    for (let at = 0; at < length; at += PAGE_BYTES) {
      const bytes = event.bytes === null ? ZERO_PAGE : event.bytes.subarray(at, at + PAGE_BYTES);
      const page = (offset + at) / PAGE_BYTES;
      const versions = this.versions.get(page);
      const version: Version = { write, bytes, landed: ALL_SECTORS };
      if (versions === undefined) this.versions.set(page, [version]);
      else versions.push(version);
      if (versions !== undefined && versions.length > VERSIONS_MAX) {
        this.settlePage(page, versions, versions[0]!.write.completedAt + 1);
      }
    }
  }

  private completed(id: number, landed: Uint8Array | null, isFua: boolean): void {
    const write = this.inFlight.get(id);
    if (write === undefined) return; // The drive was reset meanwhile.
    this.inFlight.delete(id);
    this.count += 1;
    write.completedAt = this.count;
    for (let at = 0; at < write.length; at += PAGE_BYTES) {
      const page = (write.offset + at) / PAGE_BYTES;
      const versions = this.versions.get(page);
      const version = versions?.find((candidate) => candidate.write === write);
      if (versions === undefined || version === undefined) continue;
      if (landed !== null) version.landed = this.landedBits(landed, at);
      this.cure(page, version.landed);
      if (isFua) this.settleVersion(page, versions, version);
      else if (version.landed === 0) this.drop(page, versions, version);
    }
  }

  private landedBits(landed: Uint8Array, at: number): number {
    let bits = 0;
    for (let sector = 0; sector < SECTORS_PER_PAGE; sector += 1) {
      const index = Math.floor((at + sector * SECTOR_BYTES) / this.sectorBytes);
      if (landed[index] === 1) bits |= 1 << sector;
    }
    return bits;
  }

  private rot(offset: number, length: number): void {
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / PAGE_BYTES);
      const from = at % PAGE_BYTES;
      const to = Math.min(PAGE_BYTES, from + offset + length - at);
      this.durable.set(page, rotten(this.durable.get(page) ?? ZERO_PAGE, from, to));
      for (const version of this.versions.get(page) ?? []) {
        if (version.write.completedAt === Number.POSITIVE_INFINITY) continue;
        version.bytes = rotten(version.bytes, from, to);
      }
      at += to - from;
    }
  }

  private cure(page: number, landed: number): void {
    if (this.latent.size === 0) return;
    for (let sector = 0; sector < SECTORS_PER_PAGE; sector += 1) {
      if ((landed & (1 << sector)) !== 0) this.latent.delete(page * SECTORS_PER_PAGE + sector);
    }
  }

  private flushed(flush: number): void {
    const submittedAt = this.flushes.get(flush);
    assert(submittedAt !== undefined, "a flush that completes was submitted");
    this.flushes.delete(flush);
    for (const [page, versions] of this.versions) this.settlePage(page, versions, submittedAt);
  }

  /** Makes durable the versions of a page that completed before `before`. */
  private settlePage(page: number, versions: Version[], before: number): void {
    let index = 0;
    while (index < versions.length) {
      const version = versions[index]!;
      if (version.write.completedAt < before) this.settleVersion(page, versions, version);
      else index += 1;
    }
  }

  private settleVersion(page: number, versions: Version[], version: Version): void {
    // A page that is not there is zeros: logs are emptied by the MiB, and images stay small.
    if (version.landed === ALL_SECTORS && version.bytes === ZERO_PAGE) this.durable.delete(page);
    else if (version.landed === ALL_SECTORS) this.durable.set(page, version.bytes);
    else {
      const bytes = (this.durable.get(page) ?? ZERO_PAGE).slice();
      overlay(bytes, version.bytes, version.landed);
      this.durable.set(page, bytes);
    }
    // The drive does not go back to a version older than one that is durable.
    for (const older of versions.slice(0, versions.indexOf(version))) {
      older.landed &= ~version.landed;
      if (older.landed === 0) this.drop(page, versions, older);
    }
    this.drop(page, versions, version);
  }

  private drop(page: number, versions: Version[], version: Version): void {
    versions.splice(versions.indexOf(version), 1);
    if (versions.length === 0) this.versions.delete(page);
  }

  private candidatesOf(page: number, versions: readonly Version[], from: number): Uint8Array[] {
    const durable = (this.durable.get(page) ?? ZERO_PAGE).subarray(from, from + this.sectorBytes);
    const candidates: Uint8Array[] = [];
    for (const { bytes, landed } of versions) {
      if ((landed & (1 << (from / SECTOR_BYTES))) === 0) continue;
      const candidate = bytes.subarray(from, from + this.sectorBytes);
      const isNew = [durable, ...candidates].every((known) => !isEqual(known, candidate));
      if (isNew) candidates.push(candidate);
    }
    return candidates;
  }

  private someSectors(random: Random): number {
    if (this.sectorBytes === PAGE_BYTES) return nextBelow(random, 2) === 0 ? 0 : 0xff;
    return nextBelow(random, 256);
  }
}

/** A drive of zeros. */
export function blankImage(options: {
  name: string;
  sizeBytes: number;
  logicalBlockBytes?: number;
  sectorBytes?: SectorBytes;
}): DeviceImage {
  const { name, sizeBytes, logicalBlockBytes = 512, sectorBytes = 512 } = options;
  return { name, sizeBytes, logicalBlockBytes, sectorBytes, pages: new Map(), latent: new Map() };
}

/** Bytes of a drive at rest, latent sectors as if they were readable. */
export function readImage(image: DeviceImage, offset: number, bytes: number): Uint8Array {
  assert(offset >= 0 && offset + bytes <= image.sizeBytes, "the range lies on the drive");
  const target = new Uint8Array(bytes);
  let at = 0;
  while (at < bytes) {
    const inPage = (offset + at) % PAGE_BYTES;
    const part = Math.min(PAGE_BYTES - inPage, bytes - at);
    const page = image.pages.get((offset + at - inPage) / PAGE_BYTES);
    if (page !== undefined) target.set(page.subarray(inPage, inPage + part), at);
    at += part;
  }
  return target;
}

/** The same drive with other bytes at `offset`, as if they had always been there. */
export function patchImage(image: DeviceImage, offset: number, bytes: Uint8Array): DeviceImage {
  const pages = new Map(image.pages);
  let at = 0;
  while (at < bytes.length) {
    const inPage = (offset + at) % PAGE_BYTES;
    const part = Math.min(PAGE_BYTES - inPage, bytes.length - at);
    const index = (offset + at - inPage) / PAGE_BYTES;
    const page = (pages.get(index) ?? ZERO_PAGE).slice();
    page.set(bytes.subarray(at, at + part), inPage);
    pages.set(index, page);
    at += part;
  }
  return { ...image, pages };
}

export function isEqual(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}

function rotten(bytes: Uint8Array, from: number, to: number): Uint8Array {
  return bytes.map((byte, index) => (index >= from && index < to ? byte ^ 0x5a : byte));
}

function overlay(target: Uint8Array, source: Uint8Array, landed: number): void {
  if (landed === ALL_SECTORS) {
    target.set(source);
    return;
  }
  for (let sector = 0; sector < SECTORS_PER_PAGE; sector += 1) {
    if ((landed & (1 << sector)) === 0) continue;
    const from = sector * SECTOR_BYTES;
    target.set(source.subarray(from, from + SECTOR_BYTES), from);
  }
}
