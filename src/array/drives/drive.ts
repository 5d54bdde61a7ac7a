/**
 * A drive that parityd was told about: its stack of filters, what its superblock says, and how it
 * stands to the arrays.
 *
 *   aio device -> fault injection -> statistics -> retry      (bottom up)
 */

import { errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { AsyncIo } from "../../block/async-io.ts";
import { FaultFilter } from "../../block/fault-filter.ts";
import { OUTCOME_NAMES, Outcome } from "../../block/io-error.ts";
import type { OutcomeRouter } from "../../block/outcome-router.ts";
import type { SlabPool } from "../../block/pool.ts";
import { type BufferPins, RetryFilter } from "../../block/retry-filter.ts";
import { StatsFilter } from "../../block/stats-filter.ts";
import { BadBlockLog, decodeBadBlockLog, emptyBadBlockLog } from "../../md/bad-block-log.ts";
import {
  claimOf,
  decodeSuperblock,
  type MemberClaim,
  roleOf,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../md/superblock.ts";
import { Op } from "../../reactor/io-table.ts";
import type { DriveDevice, ReactorContext } from "../context.ts";
import type { MemberErrors, MemberStatus, OpenDrive } from "../protocol.ts";
import { logArea } from "./bad-blocks.ts";

/** What was found where a superblock would be. */
export type Probe =
  | { readonly kind: "member"; readonly superblock: Superblock }
  | { readonly kind: "none" }
  /** There is a superblock, but it cannot be used. */
  | { readonly kind: "unusable"; readonly detail: string; readonly claim: MemberClaim | null };

export interface ReadFailure {
  readonly kind: "unreadable";
  readonly detail: string;
}

const ANSWER_WAIT_MS = 10_000;
const ANSWER_POLL_MS = 5;
const GIVE_UP_MS = 100;

export class Drive {
  readonly info: OpenDrive;
  readonly device: DriveDevice;
  readonly faults: FaultFilter;
  readonly stats: StatsFilter;
  /** The top of the stack. */
  readonly io: RetryFilter;
  probe: Probe = { kind: "none" };
  /** Why the drive was taken out of an array; empty while it was not. */
  failure = "";
  /** Sectors of this drive that were repaired from parity, in bytes. */
  fixedBytes = 0;
  slowCount = 0;
  /** Its superblock could not be read when its array was started. */
  isUnreadable = false;
  /** Errors that were met, for the events. */
  noted = 0;
  badBlocks = new BadBlockLog();
  /** Whether holes can be punched in it, and read zeros. */
  canPunchHoles: boolean;
  /** Holes that may still be punched (hole-puncher.ts). */
  punchesOutstanding = 0;
  /** What its content was when that was last looked at; null: nothing. */
  signature: string | null;
  /** It was a member here: it no longer reads as zeros, and what it holds is ours. */
  isOurs = false;

  constructor(context: ReactorContext, router: OutcomeRouter, info: OpenDrive) {
    const { table, timers, clock, memory } = context;
    this.info = info;
    this.signature = info.signature;
    this.canPunchHoles = info.canPunchHoles === true;
    this.device = context.openDevice(info);
    this.faults = new FaultFilter({ next: this.device, table, timers, memory });
    this.stats = new StatsFilter({ next: this.faults, table, clock });
    const pins = poolPins([context.enginePool, context.payloadPool]);
    this.io = new RetryFilter({ next: this.stats, table, timers, router, pins });
  }

  /** Requests that may still act on the drive, given up or not (write-rules 10). */
  get outstanding(): number {
    return Math.max(this.device.outstanding, this.io.outstanding) + this.punchesOutstanding;
  }

  /** Waits a while for what is outstanding. False: it hangs; nobody may use it or let go of it. */
  async hasAnswered({ timers, clock }: ReactorContext): Promise<boolean> {
    const limitMs = clock.nowMs() + ANSWER_WAIT_MS;
    while (this.outstanding > 0 && clock.nowMs() < limitMs) await timers.sleep(ANSWER_POLL_MS);
    return this.outstanding === 0;
  }

  /** What it still owes as a failed member is given up after a moment, so that nobody waits. */
  giveUp({ timers, clock }: Pick<ReactorContext, "timers" | "clock">): void {
    const failedMs = clock.nowMs();
    timers.scheduleAfter(GIVE_UP_MS, () => {
      this.io.abandon("all", clock.nowMs() - failedMs, Outcome.memberLost);
    });
  }

  get name(): string {
    return this.info.name;
  }

  /** The superblock of a member or spare, or null. */
  get superblock(): Superblock | null {
    return this.probe.kind === "member" ? this.probe.superblock : null;
  }

  /** Whose member it says that it is, also where it cannot be used. */
  get claim(): MemberClaim | null {
    const { probe } = this;
    if (probe.kind !== "member") return probe.kind === "unusable" ? probe.claim : null;
    const { arrayUuid, devNumber } = probe.superblock;
    return { arrayUuid, role: roleOf(probe.superblock, devNumber) };
  }

  /** Reads the superblock through a buffer of one row. */
  async readProbe(
    context: ReactorContext,
    asyncIo: AsyncIo,
    address: number,
  ): Promise<Result<undefined, ReadFailure>> {
    this.badBlocks = new BadBlockLog();
    this.io.accepts = "all";
    this.io.overlay = null;
    if (this.info.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES) {
      this.probe = { kind: "none" };
      return ok();
    }
    const range = { offset: SUPERBLOCK_OFFSET_BYTES, bytes: SUPERBLOCK_BYTES, address };
    const answer = await asyncIo.read(this.io, range);
    if (answer.outcome !== Outcome.done) {
      const cause = `${OUTCOME_NAMES[answer.outcome]}, ${errnoName(answer.errno)}`;
      return err({
        kind: "unreadable",
        detail: `The superblock of ${this.name} cannot be read (${cause}); check the drive.`,
      });
    }
    const bytes = context.memory.bytes.slice(address, address + SUPERBLOCK_BYTES);
    const decoded = decodeSuperblock(bytes, { deviceBytes: this.info.sizeBytes });
    if (!decoded.ok) {
      const { kind, detail } = decoded.error;
      const isNone = kind === "no-magic";
      this.probe = isNone ? { kind: "none" } : { kind: "unusable", detail, claim: claimOf(bytes) };
      return ok();
    }
    this.probe = { kind: "member", superblock: decoded.value };
    this.badBlocks = emptyBadBlockLog(decoded.value);
    return decoded.value.hasBadBlocks
      ? this.readBadBlocks(context, asyncIo, decoded.value, address)
      : ok();
  }

  /** The log counts only where the superblock says so. */
  private async readBadBlocks(
    context: ReactorContext,
    asyncIo: AsyncIo,
    superblock: Superblock,
    address: number,
  ): Promise<Result<undefined, ReadFailure>> {
    const { offset, bytes } = logArea(superblock);
    const answer = await asyncIo.read(this.io, { offset, bytes, address });
    if (answer.outcome !== Outcome.done) {
      const detail = `The bad-block log of ${this.name} cannot be read; check the drive.`;
      return err({ kind: "unreadable", detail });
    }
    const length = superblock.badBlockLogSectors * SECTOR_BYTES;
    const decoded = decodeBadBlockLog(context.memory.bytes.slice(address, address + length));
    if (decoded.ok) this.badBlocks = decoded.value;
    else this.probe = { kind: "unusable", detail: decoded.error.detail, claim: this.claim };
    return ok();
  }

  errors(): MemberErrors {
    const { read, write, retried } = this.io.counters;
    return { read, write, fixed: this.fixedBytes / 512, slow: this.slowCount, retried };
  }

  ioCounts(): MemberStatus["io"] {
    const { count, bytes } = this.stats;
    return {
      reads: count[Op.read]!,
      writes: count[Op.write]! + count[Op.writeZeroes]!,
      flushes: count[Op.flush]!,
      bytesRead: bytes[Op.read]!,
      bytesWritten: bytes[Op.write]! + bytes[Op.writeZeroes]!,
    };
  }
}

/** Pins in whichever pool the buffer lies. */
function poolPins(pools: readonly SlabPool[]): BufferPins {
  return {
    pin: (address, bytes) => {
      for (const pool of pools) if (pool.contains(address)) pool.pin(address, bytes);
    },
    unpin: (address, bytes) => {
      for (const pool of pools) if (pool.contains(address)) pool.unpin(address, bytes);
    },
  };
}
