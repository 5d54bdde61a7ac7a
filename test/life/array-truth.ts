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
const TROUBLES: readonly Trouble[] = ["none", "may-fail", "may-lose"];

export class ArrayTruth {
  readonly uuid: string;
  /** Of its stamps: what tells its bytes from those of other arrays. */
  readonly stampSeed: number;
  readonly sectorCount: number;
  readonly oracle: SectorOracle;
  readonly out = new Set<string>();
  policy: ConsistencyPolicy;
  /** Its first resync has come to an end. */
  wasWhole = false;
  private level: Trouble = "none";

  constructor(options: {
    uuid: string;
    stampSeed: number;
    sectorCount: number;
    policy: ConsistencyPolicy;
    /** Its drives held zeros; else the arrays with these seeds, or anything. */
    isBlank: boolean;
    /** Whether a stamp was made by an array that had these drives before. */
    isFormer: (stampSeed: number) => boolean;
  }) {
    const { uuid, stampSeed, sectorCount, policy, isBlank, isFormer } = options;
    this.uuid = uuid;
    this.stampSeed = stampSeed;
    this.sectorCount = sectorCount;
    this.policy = policy;
    this.oracle = new SectorOracle({
      ...{ seed: stampSeed, sectorCount },
      isInitial: (found: SectorContent): boolean => {
        if (found.kind === "zero") return true;
        if (found.kind === "garbage") return !isBlank || this.level === "may-lose";
        const { run } = found.stamp;
        if (run === this.stampSeed) return this.level === "may-lose" || this.wasForgotten;
        return isFormer(run);
      },
    });
  }

  private wasForgotten = false;

  get trouble(): Trouble {
    return this.level;
  }

  /** It only ever gets worse. */
  worsen(to: Trouble): void {
    if (TROUBLES.indexOf(to) <= TROUBLES.indexOf(this.level)) return;
    this.level = to;
    if (to === "may-lose") this.forgetAll();
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
