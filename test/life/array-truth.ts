/**
 * What must be true of one array, known from outside: its bytes, and how far its promise goes now.
 *
 * | trouble  | since                                           | what is still judged            |
 * |----------|-------------------------------------------------|---------------------------------|
 * | none     |                                                 | all: requests succeed, bytes    |
 * | may-fail | a disk's fault met a resync, or a crash the     | bytes that are read             |
 * |          | absence of a member (without the log)           |                                 |
 * | may-lose | two members were harmed, it was started by      | no byte is another array's      |
 * |          | force, or its drives were given away            |                                 |
 *
 * `out`: the disks that do not hold what the array holds, or may not: the budget of the promise is
 * one of them at a time.
 */

import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { assert } from "../../src/base/assert.ts";
import type { SectorContent } from "../../src/nbd/client/load/stamp.ts";
import { SectorOracle, type Violation } from "../sim/world/oracle.ts";

export type Trouble = "none" | "may-fail" | "may-lose";
/** A disk is of one array at a time, and a machine has few. */
const GROWTH_MAX = 8;

export interface ArraySize {
  readonly memberCount: number;
  readonly sectorCount: number;
}

const TROUBLES: readonly Trouble[] = ["none", "may-fail", "may-lose"];

export class ArrayTruth {
  readonly uuid: string;
  /** Of its stamps: what tells its bytes from those of other arrays. */
  readonly stampSeed: number;
  readonly oracle: SectorOracle;
  /** What it has grown to, as far as that was seen. */
  size: ArraySize;
  /** So many members were promised by the answer of a growth. */
  promisedMembers = 0;
  readonly out = new Set<string>();
  policy: ConsistencyPolicy;
  /** Its first resync has come to an end. */
  wasWhole = false;
  /** Without the log a crash is followed by a resync, which was not seen to have ended. */
  mayBeResynced = false;
  private level: Trouble = "none";

  constructor(options: {
    uuid: string;
    stampSeed: number;
    size: ArraySize;
    policy: ConsistencyPolicy;
    /** Its drives held zeros; else the arrays with these seeds, or anything. */
    isBlank: boolean;
    /** Whether a stamp was made by an array that had these drives before. */
    isFormer: (stampSeed: number) => boolean;
  }) {
    const { uuid, stampSeed, size, policy, isBlank, isFormer } = options;
    this.uuid = uuid;
    this.stampSeed = stampSeed;
    this.size = size;
    this.policy = policy;
    this.oracle = new SectorOracle({
      // With room for what it may grow to.
      ...{ seed: stampSeed, sectorCount: size.sectorCount * GROWTH_MAX },
      isInitial: (found: SectorContent): boolean => {
        if (found.kind === "zero" || this.hasUnproven) return true;
        if (found.kind === "garbage") return !isBlank || this.level === "may-lose";
        const { run } = found.stamp;
        if (run === this.stampSeed) return this.level === "may-lose" || this.wasForgotten;
        return isFormer(run);
      },
    });
  }

  private wasForgotten = false;
  private hasUnproven = false;

  /** What clients may ask for. */
  get sectorCount(): number {
    return this.size.sectorCount;
  }

  /** Sectors of it with so many members. */
  sectorsWith(memberCount: number): number {
    const { sectorCount, memberCount: now } = this.size;
    return (sectorCount / (now - 1)) * (memberCount - 1);
  }

  /** It has that many members now, and zeros behind its old end. */
  grow(memberCount: number): void {
    const { sectorCount: from } = this.size;
    const sectorCount = this.sectorsWith(memberCount);
    assert(sectorCount > from, "more members have more room");
    this.size = { memberCount, sectorCount };
    const version = this.oracle.beginWrite(from, sectorCount - from, "zero");
    this.oracle.endWrite(version, "done-fua");
    if (this.level === "may-lose") this.forgetAll();
  }

  get trouble(): Trouble {
    return this.level;
  }

  /** It only ever gets worse. */
  worsen(to: Trouble): void {
    if (TROUBLES.indexOf(to) <= TROUBLES.indexOf(this.level)) return;
    this.level = to;
    if (to === "may-lose") this.forgetAll();
  }

  /**
   * It lost a member before its (first) resync was through. A row that nobody was told of is what
   * its parity happens to say (MemberSet.inSyncBelowStripe): after a write that was refused that
   * may be what another sector of the row was to hold.
   */
  loseUnproven(): void {
    this.worsen("may-fail");
    this.hasUnproven = true;
  }

  forgetAll(): void {
    this.wasForgotten = true;
    this.oracle.forget(0, this.sectorCount);
  }

  /** The process or the machine has ended; `isTorn`: without a member, what was not durable is. */
  crash({ isTorn }: { isTorn: boolean }): void {
    if (isTorn) this.wasForgotten = true;
    this.oracle.crash({ isTorn });
  }

  judge(lba: number, bytes: Uint8Array): Violation | null {
    assert(lba * 512 + bytes.length <= this.sectorCount * 512, "reads lie in the array");
    return this.oracle.check(lba, bytes);
  }
}
