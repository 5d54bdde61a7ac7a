/**
 * Knows for every sector of an array what a read may return, and what a crash may leave.
 *
 * Each write has a version, a begin and an end on one count of events. For a sector, a write is
 * superseded by another that began after it had ended. So, of the writes of a sector,
 *
 *   a read may return      those not superseded by one that was acknowledged before the read began
 *   a crash may leave      those not superseded by one that was made durable (FUA, or acknowledged
 *                          before a flush was submitted that has succeeded)
 *
 * - A write that failed may be there or not, until one that began later is acknowledged. One that
 *   was refused, as half of a request is, must not be there.
 * - After a crash every write that was not durable is like one that failed; the first read of a
 *   sector then decides which one it is (collapse): it must not change any more.
 * - A trim leaves zeros or what was there.
 *
 * A read of anything else is a violation, which says what was found: a stale version, a sector of
 * another place, zeros, garbage. Calls can be recorded as marks in a DeviceTrace and replayed, so
 * that the oracle of any crash point can be had (`applyMark`).
 */
import { assert } from "../../../src/base/assert.ts";
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  describeStamp,
  readStamp,
  type SectorContent,
  writeStamp,
} from "../../../src/nbd/client/load/stamp.ts";
import { notSuperseded } from "./superseded.ts";

export type OracleMark =
  | {
      readonly kind: "begin";
      readonly version: number;
      readonly content: WriteContent;
      readonly lba: number;
      readonly sectors: number;
    }
  | { readonly kind: "end"; readonly version: number; readonly how: WriteEnd }
  | { readonly kind: "flush-begin"; readonly flush: number }
  | { readonly kind: "flush-end"; readonly flush: number; readonly isDone: boolean };

/** "any": what `isInitial` lets pass; "garbage": anything at all. */
export type WriteContent = "stamp" | "zero" | "trim" | "any" | "garbage";
/** How a write ended: done, done and durable, with an error, or without a part of it being done. */
export type WriteEnd = "done" | "done-fua" | "failed" | "refused";

export interface Violation {
  readonly lba: number;
  readonly message: string;
}

interface Write {
  readonly version: number;
  readonly content: WriteContent;
  readonly beganAt: number;
  /** Infinity while in flight. */
  endedAt: number;
  /** Acknowledged, and no crash came before it was durable: it supersedes what ended before. */
  isCertain: boolean;
  isDurable: boolean;
  /** Nothing of it may ever be seen. */
  isRefused: boolean;
}

/** A read that is under way. */
export interface ReadToken {
  readonly lba: number;
  readonly sectors: number;
  readonly beganAt: number;
}

const LIST_MAX = 8;

export class SectorOracle {
  readonly seed: number;
  readonly sectorCount: number;
  /** Gets each call that changes the oracle. */
  onMark: (mark: OracleMark) => void;
  private readonly isInitial: ((found: SectorContent) => boolean) | null;
  /** By sector, in the order of the beginnings. */
  private readonly writesOf = new Map<number, Write[]>();
  private readonly initial: Write;
  private readonly open = new Map<number, Write>();
  /** Acknowledged, not yet durable. */
  private undurable: Write[] = [];
  private readonly flushes = new Map<number, number>();
  private readonly reads = new Set<ReadToken>();
  private count = 0;
  private nextVersion = 1;
  private crashedAt = -1;

  /** The array holds zeros at the start, or what `isInitial` lets pass. */
  constructor(options: {
    seed: number;
    sectorCount: number;
    onMark?: (mark: OracleMark) => void;
    isInitial?: (found: SectorContent) => boolean;
  }) {
    this.seed = options.seed >>> 0;
    this.sectorCount = options.sectorCount;
    this.onMark = options.onMark ?? (() => {});
    this.isInitial = options.isInitial ?? null;
    this.initial = {
      version: 0,
      content: this.isInitial === null ? "zero" : "any",
      beganAt: -1,
      endedAt: -1,
      isCertain: true,
      isDurable: true,
      isRefused: false,
    };
  }

  /** Begins a write of whole sectors; the answer is its version, for `fill` and `endWrite`. */
  beginWrite(lba: number, sectors: number, content: WriteContent = "stamp"): number {
    const version = this.nextVersion;
    this.applyMark({ kind: "begin", version, content, lba, sectors });
    return version;
  }

  /** The bytes of a stamped write, or of the part of it that begins at `lba`. */
  fill(target: Uint8Array, lba: number, version: number): void {
    for (let at = 0; at < target.length; at += SECTOR_BYTES) {
      const stamp = { run: this.seed, lba: lba + at / SECTOR_BYTES, version, writer: 0 };
      writeStamp(target, at, stamp);
    }
  }

  endWrite(version: number, how: WriteEnd): void {
    this.applyMark({ kind: "end", version, how });
  }

  /** The answer is the flush's handle. */
  beginFlush(): number {
    this.applyMark({ kind: "flush-begin", flush: this.count });
    return this.count - 1;
  }

  endFlush(flush: number, { isDone }: { isDone: boolean }): void {
    this.applyMark({ kind: "flush-end", flush, isDone });
  }

  applyMark(mark: OracleMark): void {
    this.onMark(mark);
    switch (mark.kind) {
      case "begin":
        this.begin(mark);
        break;
      case "end":
        this.end(mark.version, mark.how);
        break;
      case "flush-begin":
        this.flushes.set(mark.flush, this.count);
        break;
      case "flush-end":
        this.flushed(mark.flush, mark.isDone);
        break;
    }
    this.count += 1;
  }

  beginRead(lba: number, sectors: number): ReadToken {
    assert(lba >= 0 && lba + sectors <= this.sectorCount, "reads lie in the array");
    const token = { lba, sectors, beganAt: this.count };
    this.reads.add(token);
    return token;
  }

  /** Ends a read that failed: nothing was returned. */
  dropRead(token: ReadToken): void {
    this.reads.delete(token);
  }

  /** Ends a read and judges its bytes; the first wrong sector, or null. */
  endRead(token: ReadToken, bytes: Uint8Array): Violation | null {
    assert(bytes.length === token.sectors * SECTOR_BYTES, "all of it was read");
    this.reads.delete(token);
    for (let index = 0; index < token.sectors; index += 1) {
      const sector = bytes.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
      const lba = token.lba + index;
      const violation = this.judge(lba, readStamp(sector), token.beganAt);
      if (violation !== null) return violation;
    }
    return null;
  }

  /** Judges what the array holds at this moment. */
  check(lba: number, bytes: Uint8Array): Violation | null {
    return this.endRead(this.beginRead(lba, bytes.length / SECTOR_BYTES), bytes);
  }

  /** The same, and decides nothing: for many crash images against one oracle that has crashed. */
  peek(lba: number, bytes: Uint8Array): Violation | null {
    for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
      const found = readStamp(bytes.subarray(at, at + SECTOR_BYTES));
      const sector = lba + at / SECTOR_BYTES;
      const allowed = this.allowedAt(sector, this.count);
      if (!allowed.some((write) => this.isContent(write, sector, found))) {
        return this.violationOf(sector, found, allowed);
      }
    }
    return null;
  }

  /**
   * Nothing that was in flight will be answered; what was not durable may be lost. `isTorn`: and
   * its sectors may be neither old nor new.
   */
  crash({ isTorn = false }: { isTorn?: boolean } = {}): void {
    const torn: number[] = [];
    if (isTorn) {
      for (const lba of this.writesOf.keys()) {
        if (this.allowedAt(lba, this.count).some(({ isDurable }) => !isDurable)) torn.push(lba);
      }
    }
    this.count += 1;
    this.crashedAt = this.count;
    for (const write of this.open.values()) {
      write.endedAt = this.count;
      write.isCertain = false;
    }
    for (const write of this.undurable) write.isCertain = false;
    this.open.clear();
    this.undurable = [];
    this.flushes.clear();
    this.reads.clear();
    this.count += 1;
    for (const lba of torn) this.forget(lba, 1);
  }

  /** A copy to crash and to read from, while this one goes on. It records no marks. */
  clone(): SectorOracle {
    const { seed, sectorCount, isInitial } = this;
    const initial = isInitial === null ? {} : { isInitial };
    const copy = new SectorOracle({ seed, sectorCount, ...initial });
    const copies = new Map<Write, Write>([[this.initial, copy.initial]]);
    const copyOf = (write: Write): Write => {
      const known = copies.get(write) ?? { ...write };
      copies.set(write, known);
      return known;
    };
    for (const [lba, writes] of this.writesOf) copy.writesOf.set(lba, writes.map(copyOf));
    for (const [version, write] of this.open) copy.open.set(version, copyOf(write));
    for (const [flush, at] of this.flushes) copy.flushes.set(flush, at);
    copy.undurable = this.undurable.map(copyOf);
    copy.count = this.count;
    copy.nextVersion = this.nextVersion;
    copy.crashedAt = this.crashedAt;
    return copy;
  }

  /** Nobody can say any more what these sectors hold, until they are written anew. */
  forget(lba: number, sectors: number): void {
    assert(this.isInitial !== null, "it says what may be there then");
    this.restart(lba, sectors, this.initial);
  }

  /** Whatever is found in these sectors is right, until they are written anew. */
  giveUp(lba: number, sectors: number): void {
    this.restart(lba, sectors, { ...this.initial, content: "garbage" });
  }

  /** Of these sectors only `first` has been, and what is in flight. */
  private restart(lba: number, sectors: number, first: Write): void {
    for (let index = lba; index < lba + sectors; index += 1) {
      const inFlight = (this.writesOf.get(index) ?? []).filter(
        ({ endedAt }) => endedAt === Number.POSITIVE_INFINITY,
      );
      this.writesOf.set(index, [first, ...inFlight]);
    }
  }

  /** The sectors that were ever written, in no order: the others hold what they held at first. */
  writtenSectors(): Iterable<number> {
    return this.writesOf.keys();
  }

  /** The version of the last write that has begun. */
  get lastVersion(): number {
    return this.nextVersion - 1;
  }

  /** The versions that a read which began now may return; 0 is "zeros, as at the start". */
  allowedVersions(lba: number): number[] {
    return this.allowedAt(lba, this.count).map(({ version }) => version);
  }

  /** Whether zeros are among what a read which began now may return. */
  allowsZeros(lba: number): boolean {
    return this.allowedAt(lba, this.count).some(({ content }) => content !== "stamp");
  }

  private begin(mark: OracleMark & { kind: "begin" }): void {
    const { lba, sectors, version, content } = mark;
    assert(lba >= 0 && lba + sectors <= this.sectorCount, "writes lie in the array");
    this.nextVersion = version + 1;
    const write: Write = {
      version,
      content,
      beganAt: this.count,
      endedAt: Number.POSITIVE_INFINITY,
      isCertain: false,
      isDurable: false,
      isRefused: false,
    };
    this.open.set(version, write);
    for (let index = lba; index < lba + sectors; index += 1) {
      const writes = this.writesOf.get(index);
      if (writes === undefined) this.writesOf.set(index, [this.initial, write]);
      else {
        if (writes.length >= LIST_MAX) this.prune(writes);
        writes.push(write);
      }
    }
  }

  private end(version: number, how: WriteEnd): void {
    const write = this.open.get(version);
    assert(write !== undefined, "a write ends once");
    this.open.delete(version);
    write.endedAt = this.count;
    write.isRefused = how === "refused";
    if (how === "failed" || how === "refused") return;
    write.isCertain = true;
    if (how === "done-fua") write.isDurable = true;
    else this.undurable.push(write);
  }

  private flushed(flush: number, isDone: boolean): void {
    const beganAt = this.flushes.get(flush);
    assert(beganAt !== undefined, "a flush ends once");
    this.flushes.delete(flush);
    if (!isDone) return;
    this.undurable = this.undurable.filter((write) => {
      if (write.endedAt < beganAt) write.isDurable = true;
      return !write.isDurable;
    });
  }

  /** Drops the writes that neither a read nor a crash can bring up any more. */
  private prune(writes: Write[]): void {
    let oldestRead = this.count;
    for (const { beganAt } of this.reads) oldestRead = Math.min(oldestRead, beganAt);
    const last = writes.findLast(
      ({ isDurable, content, endedAt }) => isDurable && content !== "trim" && endedAt < oldestRead,
    );
    if (last === undefined) return;
    const kept = writes.filter((write) => write.endedAt >= last.beganAt);
    writes.splice(0, writes.length, ...kept);
  }

  private allowedAt(lba: number, readBeganAt: number): Write[] {
    const writes = this.writesOf.get(lba);
    if (writes === undefined) return [this.initial];
    // A trim supersedes nothing: what it trimmed may still be there.
    const canSupersede = ({ isCertain, content }: Write) => isCertain && content !== "trim";
    const allowed = notSuperseded(writes, readBeganAt, canSupersede);
    return allowed.filter(({ isRefused }) => !isRefused);
  }

  private judge(lba: number, found: SectorContent, readBeganAt: number): Violation | null {
    const allowed = this.allowedAt(lba, readBeganAt);
    const matches = allowed.filter((write) => this.isContent(write, lba, found));
    if (matches.length > 0) {
      if (this.crashedAt >= 0) this.collapse(lba, matches);
      return null;
    }
    return this.violationOf(lba, found, allowed);
  }

  private violationOf(lba: number, found: SectorContent, allowed: readonly Write[]): Violation {
    const expected = allowed.map(({ version }) => version).join(" or ");
    const message = `sector ${lba} holds ${this.nameOf(lba, found)}; expected version ${expected}`;
    return { lba, message };
  }

  private isContent(write: Write, lba: number, found: SectorContent): boolean {
    if (write.content === "garbage") return true;
    if (write.content === "any") return this.isInitial!(found);
    if (write.content !== "stamp") return found.kind === "zero";
    if (found.kind !== "stamp") return false;
    const { stamp } = found;
    return stamp.run === this.seed && stamp.lba === lba && stamp.version === write.version;
  }

  /** After a crash, what is read decides between the writes from before it. */
  private collapse(lba: number, matches: readonly Write[]): void {
    const writes = this.writesOf.get(lba);
    if (writes === undefined) return;
    const isOld = (write: Write) => write.endedAt <= this.crashedAt;
    const isDecided = writes.filter(isOld).length <= 1;
    const isNewer = !matches.every(isOld);
    if (isDecided || isNewer) return;
    const match = matches[matches.length - 1]!;
    const decided: Write = { ...match, isCertain: true, isDurable: true };
    if (match.content === "trim") Object.assign(decided, { content: "zero" });
    this.writesOf.set(lba, [decided, ...writes.filter((write) => !isOld(write))]);
  }

  private nameOf(lba: number, found: SectorContent): string {
    if (found.kind === "zero") return "zeros";
    if (found.kind === "garbage") return `garbage (${found.detail})`;
    const { stamp } = found;
    if (stamp.run !== this.seed) return `${describeStamp(stamp)} of another run (foreign)`;
    if (stamp.lba !== lba) return `${describeStamp(stamp)} (foreign)`;
    return stamp.version < this.nextVersion
      ? `version ${stamp.version} (stale)`
      : `version ${stamp.version} (never written)`;
  }
}
