/**
 * The partial parity log of one member: what the stripes whose parity it holds are about to write
 * is durable here before any of it is written (md's PPL; the format is md/ppl.ts).
 *
 *   queue -> filling -> writing (header, body) -> covering -> settled -> flushed
 *
 * | phase    | what happens                                                                     |
 * |----------|----------------------------------------------------------------------------------|
 * | filling  | users put their entries into the next unit; nothing is on disk                   |
 * | writing  | the unit goes to the log. Its users write nothing yet                            |
 * |          | (no room for it: they are refused, and have written nothing)                     |
 * | covering | the unit is durable: its users write data and parity                             |
 * | settled  | all of them are done; the unit may be superseded once that is durable            |
 *
 * One unit covers at a time: replay knows the last one only. While it covers, the next one fills,
 * so that under load many stripes share one write of the log. Users are numbers: see PplLogHost.
 *
 * Order: a unit is submitted only after a flush, submitted after all writes of the unit before it
 * had completed, has succeeded on every member that they touched (write-rules 7). Members without a
 * volatile cache need no such flush.
 */
import { assert } from "../../base/assert.ts";
import { IndexQueue } from "../../base/index-queue.ts";
import { ROW_BYTES } from "../../base/units.ts";
import {
  needsHeaderFirst,
  nextPplUnitOffset,
  PPL_ENTRIES_MAX,
  PPL_HEADER_BYTES,
  type PplSpace,
} from "../../md/ppl.ts";
import { PplUnitBuilder } from "../../md/ppl-builder.ts";
import { Op } from "../../reactor/io-table.ts";
import type { EngineEnvironment } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import {
  Content,
  type IoUser,
  type MemberIo,
  Verdict,
  type VerdictCode,
} from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";

/** The log of a member that has just been seated; its area holds an empty header. */
export interface PplSeat {
  readonly space: PplSpace;
  /** `pplSignature` of the array. */
  readonly signature: number;
}

export interface PplLogHost {
  /** Entries and bytes of partial parity that the user adds. */
  entryCount(user: number): number;
  partialParityBytes(user: number): number;
  /** Puts the user's entries into the unit, which has room for them. */
  addEntries(user: number, unit: PplUnitBuilder): void;
  /** The user's entries are durable: it may write, and calls `done` when it has. */
  logged(user: number): void;
  /** The log is gone, before the user has written anything; it need not call `done`. */
  dropped(user: number): void;
  /** The log has no room for the user's entries, which has written nothing and may not. */
  refused(user: number): void;
  /** Makes every write that has completed durable. */
  flush(whenDone: (isDurable: boolean) => void): void;
  /** The number of the next unit; counts over all logs of the array. */
  nextGeneration(): number;
  /** A log that was dropped has had its last answer. */
  left(log: PplLog): void;
}

const Phase = { idle: 0, header: 1, body: 2, covering: 3, flushing: 4 } as const;

export class PplLog {
  readonly role: number;
  readonly epoch: number;
  private readonly environment: EngineEnvironment;
  private readonly members: MemberSet;
  private readonly space: PplSpace;
  private readonly host: PplLogHost;
  private readonly memberIo: MemberIo;
  private readonly user: IoUser;
  private readonly builder: PplUnitBuilder;
  private readonly queue: IndexQueue;
  private filling: IndexQueue;
  private covering: IndexQueue;
  private readonly bufferBytes: number;
  private fillingAddress: number;
  private coveringAddress: number;
  private phase: number = Phase.idle;
  /** Users of the covering unit that are not done. */
  private usersPending = 0;
  private unitBytes = 0;
  private unitOffset = 0;
  /** Where the last unit ends in the area; 0: none was written. */
  private endBytes = 0;
  /** A unit at the start of the area was cut off: the next one goes there. */
  private startsOver = false;
  private mustFlush = false;
  private isDropped = false;

  constructor(options: {
    environment: EngineEnvironment;
    geometry: Geometry;
    members: MemberSet;
    memberIo: MemberIo;
    role: number;
    seat: PplSeat;
    /** Users at a time. */
    capacity: number;
    /** `logBufferBytes` of the engine's pool. */
    bufferAddress: number;
    host: PplLogHost;
  }) {
    const { environment, geometry, members, role, seat, host } = options;
    this.environment = environment;
    this.members = members;
    this.role = role;
    this.epoch = members.epoch[role]!;
    this.space = seat.space;
    this.host = host;
    this.memberIo = options.memberIo;
    this.user = options.memberIo.register(Content.metadata, (_, verdict) =>
      this.completed(verdict),
    );
    this.bufferBytes = unitBufferBytes(seat.space);
    this.fillingAddress = options.bufferAddress;
    this.coveringAddress = options.bufferAddress + this.bufferBytes;
    this.queue = new IndexQueue(options.capacity);
    this.filling = new IndexQueue(options.capacity);
    this.covering = new IndexQueue(options.capacity);
    this.builder = new PplUnitBuilder({
      memory: environment.memory,
      crc32c: (seed, address, bytes) => environment.kernels.crc32c(seed, address, bytes),
      signature: seat.signature,
      geometry,
      logRole: role,
      partialParityBytesMax: seat.space.partialParityBytesMax,
    });
  }

  /** Nobody waits for it or is covered by it. */
  get isIdle(): boolean {
    return (
      this.queue.length === 0 &&
      this.filling.length === 0 &&
      (this.phase === Phase.idle || (this.phase === Phase.covering && this.usersPending === 0))
    );
  }

  /** Its member is there: what enters is logged or dropped in the end. */
  get isUsable(): boolean {
    const { members, role } = this;
    // Rule 15: once two members are gone no log is written either.
    return !this.isDropped && members.epoch[role] === this.epoch && !members.isFailed;
  }

  /** The next turn submits a unit, or drops what waits. */
  get isDue(): boolean {
    if (this.isDropped || this.filling.length + this.queue.length === 0) return false;
    const isFree =
      this.phase === Phase.idle || (this.phase === Phase.covering && this.usersPending === 0);
    return isFree && this.environment.table.available > 0;
  }

  /** A write of the log is under way. */
  get isWriting(): boolean {
    return this.phase === Phase.header || this.phase === Phase.body;
  }

  /** Logs what the user is about to write. Users come to their turn in order. */
  enter(user: number): void {
    assert(this.isUsable, "the log is there");
    this.queue.push(user);
    this.fill();
  }

  /** The user has written what it logged, or will not. */
  done(): void {
    assert(this.usersPending > 0, "a user of the unit is done once");
    this.usersPending -= 1;
  }

  /** Once a turn, after all completions: submits the unit that has filled. */
  turn(): void {
    if (this.isDropped) return;
    if (!this.isUsable) {
      this.drop();
      return;
    }
    this.fill();
    if (this.filling.length === 0) return;
    if (this.phase === Phase.covering && this.usersPending === 0) this.settle();
    if (this.phase === Phase.idle) this.submit();
  }

  /** The unit that covers will stand for long: those that wait for the next one are refused. */
  refuseWaiting(): void {
    if (this.isDropped) return;
    this.refuse(this.filling);
    this.refuse(this.queue);
  }

  /** Memory goes back; for the end of the array, with nothing under way. */
  close(): void {
    if (this.isDropped) return;
    assert(this.isIdle && !this.isWriting, "a log is closed with nothing under way");
    this.isDropped = true;
    this.leave();
  }

  private fill(): void {
    while (this.queue.length > 0) {
      const user = this.queue.peek();
      if (this.filling.length === 0) {
        this.builder.begin(this.fillingAddress, this.host.nextGeneration());
      } else if (!this.hasRoomFor(user)) {
        return;
      }
      this.queue.shift();
      this.filling.push(user);
      this.host.addEntries(user, this.builder);
    }
  }

  private hasRoomFor(user: number): boolean {
    return (
      this.builder.entryCount + this.host.entryCount(user) <= PPL_ENTRIES_MAX &&
      this.builder.hasRoomFor(this.host.partialParityBytes(user))
    );
  }

  /** The writes of the last unit have completed: they must be durable before it is superseded. */
  private settle(): void {
    if (!this.mustFlush) {
      this.phase = Phase.idle;
      return;
    }
    this.phase = Phase.flushing;
    this.host.flush((isDurable) => {
      if (this.isDropped) return;
      // Where the array has failed the users find that out when they plan again.
      if (!isDurable) {
        this.drop();
        return;
      }
      this.phase = Phase.idle;
      this.turn();
    });
  }

  private submit(): void {
    if (this.environment.table.available === 0) return;
    const { space } = this;
    this.unitBytes = this.builder.finish();
    const { endBytes, unitBytes, startsOver } = this;
    this.unitOffset = startsOver ? 0 : nextPplUnitOffset(space, { endBytes, unitBytes });
    const { fillingAddress, filling } = this;
    this.fillingAddress = this.coveringAddress;
    this.coveringAddress = fillingAddress;
    this.filling = this.covering;
    this.covering = filling;
    const isHeaderFirst =
      this.unitBytes > PPL_HEADER_BYTES &&
      (startsOver || needsHeaderFirst(space, { endBytes, offset: this.unitOffset }));
    this.phase = isHeaderFirst ? Phase.header : Phase.body;
    this.write(0, isHeaderFirst ? PPL_HEADER_BYTES : this.unitBytes);
  }

  private write(from: number, bytes: number): void {
    const { members, role, memberIo, user } = this;
    assert(members.epoch[role] === this.epoch, "a log is written to its own drive");
    const place = this.space.offsetBytes + this.unitOffset + from;
    const address = this.coveringAddress + from;
    // Order: the partial parity is durable before any data of these stripes is written.
    const isFua = members.isVolatile[role]!;
    const isStarted = memberIo.start(user, Op.write, role, place, bytes, address, role, isFua);
    assert(isStarted, "there is a request for the log");
  }

  private completed(verdict: VerdictCode): void {
    assert(this.isWriting, "a write of the log is answered in its phase");
    if (this.isDropped) {
      this.phase = Phase.idle;
      this.leave();
      return;
    }
    if (verdict === Verdict.noSpace && this.isUsable) {
      // The unit before it is settled, so what is there now is what a crash leaves in its place.
      // The search begins at the start of the area: the next unit mends that first.
      if (this.unitOffset === 0) this.startsOver = true;
      this.phase = Phase.idle;
      this.refuse(this.covering);
      return;
    }
    if (verdict !== Verdict.done || !this.isUsable) {
      this.phase = Phase.idle;
      this.drop();
      return;
    }
    if (this.phase === Phase.header) {
      this.phase = Phase.body;
      this.write(PPL_HEADER_BYTES, this.unitBytes - PPL_HEADER_BYTES);
      return;
    }
    this.startsOver = false;
    this.endBytes = this.unitOffset + this.unitBytes;
    this.phase = Phase.covering;
    this.mustFlush = this.members.hasVolatileMember;
    this.usersPending = this.covering.length;
    while (this.covering.length > 0) this.host.logged(this.covering.shift());
  }

  /** The member is gone. Those that wait for the log plan again; those that write go on. */
  private drop(): void {
    this.isDropped = true;
    for (const queue of [this.covering, this.filling, this.queue]) {
      while (queue.length > 0) this.host.dropped(queue.shift());
    }
    // Nobody waits for the answer of its flush any more.
    if (this.phase === Phase.flushing) this.phase = Phase.idle;
    if (!this.isWriting) this.leave();
  }

  private refuse(users: IndexQueue): void {
    // What a refusal frees may enter at once.
    for (let left = users.length; left > 0; left -= 1) this.host.refused(users.shift());
  }

  /** Nothing of it is under way any more. */
  private leave(): void {
    assert(this.isDropped && !this.isWriting, "a log leaves when its last write is answered");
    this.memberIo.unregister(this.user);
    const start = Math.min(this.fillingAddress, this.coveringAddress);
    this.environment.enginePool.free(start, 2 * this.bufferBytes);
    this.host.left(this);
  }
}

/** What the log of a member takes of the engine's pool: two units. */
export function logBufferBytes(space: PplSpace): number {
  return 2 * unitBufferBytes(space);
}

/** Header and partial parity of the largest unit. */
function unitBufferBytes(space: PplSpace): number {
  return PPL_HEADER_BYTES + Math.max(ROW_BYTES, space.partialParityBytesMax);
}
