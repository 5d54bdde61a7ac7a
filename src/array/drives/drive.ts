/**
 * A drive that parityd was told about: its stack of filters, what its superblock says, and how it
 * stands to the arrays.
 *
 *   aio device -> fault injection -> statistics -> retry      (bottom up)
 */

import { assert } from "../../base/assert.ts";
import { EBADE, EIO, errnoName } from "../../base/errno.ts";
import { type ErrorOf, err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { AsyncIo } from "../../block/async-io.ts";
import { FaultFilter } from "../../block/fault-filter.ts";
import { OUTCOME_NAMES, Outcome } from "../../block/io-error.ts";
import type { OutcomeRouter } from "../../block/outcome-router.ts";
import { SLAB_BYTES, type SlabPool } from "../../block/pool.ts";
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
import { badBlockLogArea } from "../../md/superblock-areas.ts";
import { Op } from "../../reactor/io-table.ts";
import type { MemberErrors, MemberStatus, OpenDrive } from "../protocol.ts";
import type { DriveDevice, ReactorContext } from "../reactor-context.ts";
import { hasRoomForData } from "./areas.ts";
import { type Counters, type Health, NEW_HEALTH } from "./suspicion.ts";

/** What was found where a superblock would be. */
export type Probe =
  | { readonly kind: "member"; readonly superblock: Superblock }
  | { readonly kind: "none" }
  /** There is a superblock, but it cannot be used. */
  | { readonly kind: "unusable"; readonly detail: string; readonly claim: MemberClaim | null };

export type ReadFailure = ErrorOf<"unreadable">;

const ANSWER_WAIT_MS = 10_000;
const GIVE_UP_MS = 100;

export class Drive {
  readonly info: OpenDrive;
  readonly device: DriveDevice;
  readonly faults: FaultFilter;
  readonly stats: StatsFilter;
  /** The top of the stack. */
  readonly io: RetryFilter;
  /** Its superblock could not be read when its array was started. */
  isUnreadable = false;
  /** What it did over the last day; whoever watches it keeps that up. */
  health: Health = NEW_HEALTH;
  /** Whoever watches for drives that do not answer keeps that up (commands/drive-silences.ts). */
  readonly silence = {
    sinceMs: null as number | null,
    toldMs: null as number | null,
    endedMs: Number.NEGATIVE_INFINITY,
  };
  /** What its content was when that was last looked at; null: nothing. */
  signature: string | null;
  private found: Probe = { kind: "none" };
  private failureCause = "";
  private badBlockLog = new BadBlockLog();
  /** Not one of its fellows: it, since it was opened. */
  hasToldFence = false;
  private isMarkedOurs = false;
  /** It reads zeros from this byte on. */
  private zerosFrom: number;
  private isReleased = false;
  private repairedBytes = 0;
  private lateReads = 0;
  private notedErrors = 0;
  private punches = 0;
  private holes: boolean;

  constructor(context: ReactorContext, router: OutcomeRouter, info: OpenDrive) {
    const { table, timers, clock, memory } = context;
    this.info = info;
    this.signature = info.signature;
    this.holes = info.canPunchHoles === true;
    this.zerosFrom = info.readsZeros ? 0 : Number.POSITIVE_INFINITY;
    this.device = context.openDevice(info);
    this.faults = new FaultFilter({ next: this.device, table, timers, memory });
    this.stats = new StatsFilter({ next: this.faults, table, clock });
    const pins = poolPins([context.enginePool, context.payloadPool]);
    this.io = new RetryFilter({ next: this.stats, table, timers, router, pins });
  }

  // The gate ---------------------------------------------------------------------------------

  /** Takes requests from now on, whatever was before. */
  open(): void {
    this.hasToldFence = false;
    this.io.accepts = "all";
  }

  /** Takes requests, unless another host has it. */
  admit(): void {
    if (!this.isShut) this.open();
  }

  /** Writes nothing any more: its array has lost two members (write-rules 15). */
  refuseWrites(): void {
    if (this.io.accepts === "all") this.io.accepts = "reads";
    this.device.cancelQueuedWrites(EIO);
  }

  /** Takes nothing any more. What it was asked before may still be under way. */
  refuseAll(): void {
    this.io.accepts = "nothing";
  }

  /** It has answered itself that another host has it. */
  tellFence(): void {
    this.hasToldFence = true;
    this.shut();
  }

  /**
   * Another host has it, or one of its fellows: nothing reaches it until its superblock is read
   * anew (write-rules 21).
   */
  shut(): void {
    this.io.accepts = "fenced";
    this.device.cancelQueuedWrites(EBADE);
  }

  get isShut(): boolean {
    return this.io.accepts === "fenced";
  }

  get holderText(): string {
    return `another host holds the reservation of drive ${this.name}`;
  }

  /** Takes nothing any more, for good: a defect was met about it. */
  seal(): void {
    this.io.seal();
    this.device.cancelQueuedWrites(EIO);
  }

  // What it owes -----------------------------------------------------------------------------

  /** Requests that may still act on the drive, given up or not (write-rules 10). */
  get outstanding(): number {
    return Math.max(this.device.outstanding, this.io.outstanding) + this.punches;
  }

  /** Waits for all that is outstanding, however long that takes. */
  untilAnswered(): Promise<void> {
    return this.io.answered.until(() => this.outstanding === 0);
  }

  /** Waits a while for what is outstanding. False: it hangs; nobody may use it or let go of it. */
  async hasAnswered({ timers, clock }: ReactorContext): Promise<boolean> {
    const limitMs = clock.nowMs() + ANSWER_WAIT_MS;
    const timer = timers.schedule(limitMs, () => this.io.answered.raise());
    await this.io.answered.until(() => this.outstanding === 0 || clock.nowMs() >= limitMs);
    timers.cancel(timer);
    return this.outstanding === 0;
  }

  /** What it still owes is given up after a moment, so that nobody waits. */
  giveUp({ timers, clock }: Pick<ReactorContext, "timers" | "clock">): void {
    const failedMs = clock.nowMs();
    timers.scheduleAfter(GIVE_UP_MS, () => {
      this.io.abandon("all", clock.nowMs() - failedMs, Outcome.memberLost);
    });
  }

  /** A hole is being punched in it (hole-puncher.ts). */
  punchBegins(): void {
    this.punches += 1;
  }

  punchEnds(): void {
    assert(this.punches > 0, "a punch ends once");
    this.punches -= 1;
    this.io.answered.raise();
  }

  // How it stands to an array ----------------------------------------------------------------

  /** Why it was taken out of an array; empty while it was not. */
  get failure(): string {
    return this.failureCause;
  }

  /** It is taken out of its array: it takes nothing more, and what it owes is given up. */
  fail(cause: string, context: Pick<ReactorContext, "timers" | "clock">): void {
    assert(cause !== "", "a failure has a cause");
    this.failureCause = cause;
    this.isReleased = false;
    if (!this.isShut) this.refuseAll();
    this.giveUp(context);
  }

  /** A defect was met about it. */
  setAside(cause: string): void {
    assert(cause !== "", "who is set aside is told why");
    this.io.seal();
    this.failureCause = cause;
  }

  /** It is about to be a member or a spare of an array, with this superblock and no bad block. */
  join(superblock: Superblock): void {
    assert(hasRoomForData(this, superblock), "who joins an array has room for its part of it");
    this.willHold(superblock);
    this.carry(superblock);
    this.forgetFailure();
    this.badBlockLog = emptyBadBlockLog(superblock);
  }

  forgetFailure(): void {
    this.failureCause = "";
    this.isReleased = false;
  }

  /** Somebody took it out of its array: it is no concern of that any more, faulty or not. */
  letGo(): void {
    assert(this.superblock !== null, "who is let go of was of an array");
    this.failureCause = "";
    this.isReleased = true;
  }

  /** It carries the superblock of an array that has let go of it. */
  get isLetGo(): boolean {
    return this.isReleased && this.superblock !== null;
  }

  /** Its superblock says this, or will with the next update. */
  carry(superblock: Superblock): void {
    this.found = { kind: "member", superblock };
  }

  /** It carries no superblock any more. */
  carryNothing(): void {
    this.found = { kind: "none" };
  }

  /** What a probe had found before. */
  carryAgain(probe: Probe): void {
    this.found = probe;
  }

  /** It was a member here: it no longer reads as zeros, and what it holds is ours. */
  get isOurs(): boolean {
    return this.isMarkedOurs;
  }

  becomeOurs(): void {
    this.isMarkedOurs = true;
  }

  /** It holds something again that somebody might miss. */
  leaveBehind(signature: string): void {
    assert(signature !== "", "what is left behind has a name");
    this.carryNothing();
    this.isMarkedOurs = false;
    this.signature = signature;
  }

  /** It is to hold so much of an array: nothing is known of that any more. */
  willHold({ dataOffsetSectors, sizeSectors }: Superblock): void {
    const end = (dataOffsetSectors + sizeSectors) * SECTOR_BYTES;
    this.zerosFrom = Math.max(this.zerosFrom, end);
  }

  /** Nobody has written behind what it holds of its array since it was known to read zeros. */
  get readsZerosBehindData(): boolean {
    const { superblock } = this;
    if (superblock === null) return false;
    const { dataOffsetSectors, sizeSectors } = superblock;
    return this.zerosFrom <= (dataOffsetSectors + sizeSectors) * SECTOR_BYTES;
  }

  /** Whether holes can be punched in it, and read zeros. */
  get canPunchHoles(): boolean {
    return this.holes;
  }

  /** The file system under it has no holes: it is not asked again. */
  refusedHoles(): void {
    this.holes = false;
  }

  // Errors -----------------------------------------------------------------------------------

  /** How many errors it has had now. */
  noteError(): number {
    this.notedErrors += 1;
    return this.notedErrors;
  }

  noteLateRead(): void {
    this.lateReads += 1;
  }

  /** Bytes of it that were repaired from parity so far. */
  noteRepaired(bytes: number): number {
    assert(bytes > 0, "what was repaired are bytes");
    this.repairedBytes += bytes;
    return this.repairedBytes;
  }

  // What it says -----------------------------------------------------------------------------

  get probe(): Probe {
    return this.found;
  }

  get badBlocks(): BadBlockLog {
    return this.badBlockLog;
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
    assert(this.outstanding === 0, "a drive that owes an answer is not read anew");
    this.badBlockLog = new BadBlockLog();
    this.open();
    this.io.overlay = null;
    if (this.info.sizeBytes < SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES) {
      this.carryNothing();
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
      this.found = isNone ? { kind: "none" } : { kind: "unusable", detail, claim: claimOf(bytes) };
      return ok();
    }
    const { dataOffsetSectors, dataSizeSectors } = decoded.value;
    const dataEnd = (dataOffsetSectors + dataSizeSectors) * SECTOR_BYTES;
    assert(dataEnd <= this.info.sizeBytes, "a superblock that is taken has its data on the drive");
    this.carry(decoded.value);
    this.badBlockLog = emptyBadBlockLog(decoded.value);
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
    assert(bytes > 0 && bytes <= SLAB_BYTES, "a superblock with bad blocks has a log of some rows");
    const answer = await asyncIo.read(this.io, { offset, bytes, address });
    if (answer.outcome !== Outcome.done) {
      const detail = `The bad-block log of ${this.name} cannot be read; check the drive.`;
      return err({ kind: "unreadable", detail });
    }
    const length = superblock.badBlockLogSectors * SECTOR_BYTES;
    assert(length <= bytes, "the whole log has been read");
    const decoded = decodeBadBlockLog(context.memory.bytes.slice(address, address + length));
    if (decoded.ok) this.badBlockLog = decoded.value;
    else this.found = { kind: "unusable", detail: decoded.error.detail, claim: this.claim };
    return ok();
  }

  errors(): MemberErrors {
    const { read, write, retried } = this.io.counters;
    return { read, write, fixed: this.repairedBytes / SECTOR_BYTES, slow: this.lateReads, retried };
  }

  /** What may make it suspect, as it stands. */
  get trouble(): Counters {
    const { write, fixed, slow } = this.errors();
    return { writeErrors: write, fixedSectors: fixed, lateReads: slow };
  }

  ioCounts(): MemberStatus["io"] {
    const { count, bytes, milliseconds } = this.stats;
    return {
      reads: count[Op.read]!,
      writes: count[Op.write]! + count[Op.writeZeroes]!,
      flushes: count[Op.flush]!,
      bytesRead: bytes[Op.read]!,
      bytesWritten: bytes[Op.write]! + bytes[Op.writeZeroes]!,
      readMs: milliseconds[Op.read]!,
      writeMs: milliseconds[Op.write]! + milliseconds[Op.writeZeroes]!,
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

/** Where the bad-block log lies on the device, in whole rows; 0 bytes: there is none. */
export function logArea(superblock: Superblock): { offset: number; bytes: number } {
  const area = badBlockLogArea(superblock);
  if (area === null) return { offset: 0, bytes: 0 };
  return { offset: area.start * SECTOR_BYTES, bytes: (area.end - area.start) * SECTOR_BYTES };
}
