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
 * so that under load many stripes share one write of the log. Users are numbers: see ppl-users.ts.
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
import { Content, type IoUser, Verdict, type VerdictCode } from "../members/member-io.ts";
import type { MemberParts } from "../members/member-parts.ts";
import type { PplCover, PplUsers } from "./ppl-users.ts";

/** The log of a member that has just been seated; its area holds an empty header. */
export interface PplSeat {
  readonly space: PplSpace;
  /** `pplSignature` of the array. */
  readonly signature: number;
}

const Phase = { idle: 0, header: 1, body: 2, covering: 3, flushing: 4 } as const;

export class PplLog implements PplCover {
  readonly role: number;
  private readonly epoch: number;
  private readonly parts: MemberParts;
  private readonly users: PplUsers;
  private readonly space: PplSpace;
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
    parts: MemberParts;
    users: PplUsers;
    role: number;
    seat: PplSeat;
    /** `logBufferBytes` of the engine's pool. */
    bufferAddress: number;
  }) {
    const { parts, users, role, seat, bufferAddress } = options;
    const { environment, geometry, members } = parts;
    this.parts = parts;
    this.users = users;
    this.role = role;
    this.epoch = members.epoch[role]!;
    this.space = seat.space;
    this.bufferBytes = unitBufferBytes(seat.space);
    this.fillingAddress = bufferAddress;
    this.coveringAddress = bufferAddress + this.bufferBytes;
    this.queue = new IndexQueue(users.capacity);
    this.filling = new IndexQueue(users.capacity);
    this.covering = new IndexQueue(users.capacity);
    this.user = parts.memberIo.register(Content.metadata, (_, __, verdict) =>
      this.completed(verdict),
    );
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
    const { members } = this.parts;
    // Rule 15: once two members are gone no log is written either.
    return !this.isDropped && members.epoch[this.role] === this.epoch && !members.isFailed;
  }

  /** The next turn submits a unit, or drops what waits. */
  get isDue(): boolean {
    if (this.isDropped || this.filling.length + this.queue.length === 0) return false;
    const isFree =
      this.phase === Phase.idle || (this.phase === Phase.covering && this.usersPending === 0);
    return isFree && this.parts.environment.table.available > 0;
  }

  /** A write of the log is under way. */
  get isWriting(): boolean {
    return this.phase === Phase.header || this.phase === Phase.body;
  }

  /** Logs what the user is about to write. Users come to their turn in order. */
  enter(user: number): void {
    assert(this.isUsable, "the log is there");
    assert(this.users.coverOf[user] === null, "a user is in one log at a time");
    this.users.coverOf[user] = this;
    this.queue.push(user);
    this.fill();
  }

  /** The user has written what it logged, or will not. */
  done(): void {
    assert(this.usersPending > 0, "a user of the unit is done once");
    assert(
      this.isDropped || this.phase === Phase.covering,
      "a unit covers until its users are done",
    );
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
        // All users of the one that was being filled may have been refused.
        this.builder.discard();
        this.builder.begin(this.fillingAddress, this.users.nextGeneration());
      } else if (!this.hasRoomFor(user)) {
        return;
      }
      this.queue.shift();
      this.filling.push(user);
      this.users.sourceOf[user]!.addEntries(user, this.builder);
    }
  }

  private hasRoomFor(user: number): boolean {
    const { builder } = this;
    const source = this.users.sourceOf[user]!;
    return (
      builder.entryCount + source.entryCount(user) <= PPL_ENTRIES_MAX &&
      builder.hasRoomFor(source.partialParityBytes(user))
    );
  }

  /** The writes of the last unit have completed: they must be durable before it is superseded. */
  private settle(): void {
    assert(this.phase === Phase.covering && this.usersPending === 0, "its users are done");
    if (!this.mustFlush) {
      this.phase = Phase.idle;
      return;
    }
    this.phase = Phase.flushing;
    this.parts.flusher.request((isDurable) => {
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
    if (this.parts.environment.table.available === 0) return;
    assert(
      this.phase === Phase.idle && this.filling.length > 0,
      "a unit follows one that is settled",
    );
    assert(this.covering.length === 0, "whoever is covered has been told");
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
    const { role, user } = this;
    const { members, memberIo } = this.parts;
    assert(members.epoch[role] === this.epoch, "a log is written to its own drive");
    assert(bytes > 0 && from + bytes <= this.bufferBytes, "a unit fits in its buffer");
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
    this.mustFlush = this.parts.members.hasVolatileMember;
    this.usersPending = this.covering.length;
    assert(this.usersPending > 0, "a unit has users");
    while (this.covering.length > 0) {
      const user = this.covering.shift();
      this.users.waiterOf[user]!.logged(user);
    }
  }

  /** The member is gone. Those that wait for the log plan again; those that write go on. */
  private drop(): void {
    assert(!this.isDropped, "a log is dropped once");
    this.isDropped = true;
    for (const queue of [this.covering, this.filling, this.queue]) {
      while (queue.length > 0) {
        const user = this.leaveFrom(queue);
        this.users.waiterOf[user]!.dropped(user);
      }
    }
    // Nobody waits for the answer of its flush any more.
    if (this.phase === Phase.flushing) this.phase = Phase.idle;
    if (!this.isWriting) this.leave();
  }

  private refuse(queue: IndexQueue): void {
    // What a refusal frees may enter at once.
    for (let left = queue.length; left > 0; left -= 1) {
      const user = this.leaveFrom(queue);
      this.users.waiterOf[user]!.refused(user);
    }
  }

  private leaveFrom(queue: IndexQueue): number {
    const user = queue.shift();
    assert(this.users.coverOf[user] === this, "whoever waits in a log is its user");
    this.users.coverOf[user] = null;
    return user;
  }

  /** Nothing of it is under way any more. */
  private leave(): void {
    assert(this.isDropped && !this.isWriting, "a log leaves when its last write is answered");
    const { environment, memberIo } = this.parts;
    memberIo.unregister(this.user);
    const start = Math.min(this.fillingAddress, this.coveringAddress);
    environment.enginePool.free(start, 2 * this.bufferBytes);
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
