/**
 * The one place where the engine's I/O to its members is started and judged: what a completion
 * means for the member, and what its user is told.
 *
 * | the drive answers | to                                | told of the member as   | verdict    |
 * |-------------------|-----------------------------------|-------------------------|------------|
 * | done              | a read                            | -                       | done       |
 * | any other         | a drive that had the role earlier | -                       | gone       |
 * | done              | a write of data                   | -; it has to be flushed | done       |
 * | done              | all else                          | -                       | done       |
 * | unsupported       | a write of zeros (data)           | -: it is no fault       | bad-sector |
 * | media error       | a read of doubtful rows           | -: it is no news        | bad-sector |
 * | media error       | any other read, a write of data   | media error             | bad-sector |
 * | no space          | a write of data                   | no space                | no-space   |
 * | no space          | a write of metadata               | -                       | no-space   |
 * | timed out         | a read                            | timed out               | slow       |
 * | fenced            | any                               | fenced                  | gone       |
 * | any other error   | a write of metadata, a flush      | member lost             | gone       |
 * | any other error   | a read, a write of data           | as it is                | gone       |
 *
 * Whoever is told of a failure may take the member out, or the array may be fenced by then: the
 * verdict is "gone" in that case too. A verdict is about the I/O; whether the member stays is for
 * whoever is told. Each failure is told once, before the user has its verdict.
 *
 * Users register once, and give numbers; only a failure allocates. Work that can wait has `move`.
 *
 * A member that is being copied (member-copy.ts) has a twin for each write and flush of data, to
 * the target. The I/O is answered when both are: two writes of the same rows are never under way on
 * the target. What one of the two did not take makes their stripes doubtful; a target that fails is
 * told of once, by `targetFailed`, and is no matter of the I/O.
 */
import { assert } from "../../base/assert.ts";
import { ETIMEDOUT } from "../../base/errno.ts";
import type { Guard } from "../../base/guard.ts";
import { Outcome, type OutcomeCode } from "../../block/io-error.ts";
import type { OutcomeRegistrar } from "../../block/outcome-router.ts";
import { type IoTable, Op, type OpCode } from "../../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "../environment.ts";
import { IoTwins } from "./io-twins.ts";
import type { MemberSet } from "./member-set.ts";
import {
  Content,
  type ContentCode,
  isOfData,
  toldOf,
  Verdict,
  type VerdictCode,
  verdictOf,
} from "./verdicts.ts";

export {
  Content,
  type ContentCode,
  isForRows,
  Verdict,
  type VerdictCode,
} from "./verdicts.ts";

/** An I/O that was not done. */
export interface IoFailure extends MemberError {
  /** As it was started with. */
  readonly place: number;
  readonly address: number;
  /** The drive may still move it: its buffer is not to be used again (write-rules 10). */
  readonly isGivenUp: boolean;
}

/** `context` is that of `start`; `failure` is null when it is done. */
export type VerdictHandler = (
  context: number,
  role: number,
  verdict: VerdictCode,
  failure: IoFailure | null,
) => void;

/** Who starts I/O here. */
export interface IoUser {
  readonly content: ContentCode;
  readonly handler: VerdictHandler;
  /** Of the router. */
  readonly owner: number;
}

/** An I/O of work that can wait. */
export interface AwaitedIo {
  readonly content: ContentCode;
  readonly op: OpCode;
  readonly role: number;
  /** Byte of the member's data region, or of its device (metadata). */
  readonly place: number;
  readonly bytes: number;
  readonly address: number;
  readonly isFua: boolean;
}

type MemberIoEnvironment = Pick<EngineEnvironment, "table" | "router" | "guard">;

export class MemberIo {
  private readonly table: IoTable;
  private readonly guard: Guard;
  private readonly router: OutcomeRegistrar;
  private readonly members: MemberSet;
  /** Decides at once what a failed request means for its member. */
  private readonly memberFailed: (error: MemberError) => void;
  private readonly users = new Set<IoUser>();
  /** By content: the user for those who wait. */
  private readonly waiterUsers: IoUser[] = [];
  /** By ticket (the context of its I/O): who waits. */
  private readonly waiters: ((verdict: VerdictCode) => void)[] = [];
  private readonly freeTickets: number[] = [];
  private readonly targetFailed: (error: MemberError) => void;
  private readonly twinUser: IoUser;
  private readonly twins: IoTwins<IoUser>;
  private underWay = 0;
  private isClosed = false;

  constructor(options: {
    environment: MemberIoEnvironment;
    members: MemberSet;
    memberFailed: (error: MemberError) => void;
    /** The same for the target of a member that is copied. */
    targetFailed: (error: MemberError) => void;
  }) {
    this.table = options.environment.table;
    this.guard = options.environment.guard;
    this.router = options.environment.router;
    this.members = options.members;
    this.memberFailed = options.memberFailed;
    this.targetFailed = options.targetFailed;
    this.twins = new IoTwins(this.table.capacity);
    this.twinUser = this.register(Content.copy, (io, _, verdict) => this.twinAnswered(io, verdict));
    for (const content of Object.values(Content)) {
      this.waiterUsers[content] = this.register(content, (ticket, _, verdict) => {
        this.freeTickets.push(ticket);
        this.waiters[ticket]!(verdict);
      });
    }
  }

  register(content: ContentCode, handler: VerdictHandler): IoUser {
    assert(!this.isClosed, "nobody comes to an engine that was closed");
    const owner: number = this.router.register((io, outcome, errno) =>
      this.judge(user, io, outcome, errno),
    );
    const user: IoUser = { content, handler, owner };
    this.users.add(user);
    return user;
  }

  /** The user has nothing under way, and starts nothing more. */
  unregister(user: IoUser): void {
    assert(this.users.delete(user), "a user that leaves was registered");
    this.router.unregister(user.owner);
  }

  /** Nothing is under way. */
  get isIdle(): boolean {
    return this.underWay === 0;
  }

  close(): void {
    assert(this.isIdle, "an engine is closed with nothing under way");
    this.isClosed = true;
    for (const user of this.users) this.unregister(user);
  }

  /**
   * Starts a read or write of whole rows. `place` is a byte of the member's data region, or of its
   * device (metadata). False: the table is full.
   */
  start(
    user: IoUser,
    op: OpCode,
    role: number,
    place: number,
    bytes: number,
    address: number,
    context: number,
    isFua: number,
  ): boolean {
    // A frozen array starts nothing, and whoever waits for the answer waits for ever.
    if (this.guard.isBroken) return true;
    const { table, members } = this;
    const hasTwin = role === members.copyRole && op !== Op.read && isOfData(user.content);
    if (hasTwin && table.available < 2) return false;
    const io = table.allocate();
    if (io < 0) return false;
    assert(role >= 0 && role < members.memberCount, "I/O goes to a role");
    assert(op === Op.flush ? bytes === 0 : bytes > 0, "all but a flush moves bytes");
    const isMetadata = user.content === Content.metadata;
    if (hasTwin) this.startTwin(io, op, role, place, bytes, address, isFua);
    this.fill(io, user, op, place, bytes, address, context, isFua);
    table.offset[io] = isMetadata ? place : members.dataOffset[role]! + place;
    this.submit(io, role);
    return true;
  }

  /** As `start`, to the target of the member that is copied. */
  startOnTarget(
    user: IoUser,
    op: OpCode,
    place: number,
    bytes: number,
    address: number,
    context: number,
    isFua: number,
  ): boolean {
    if (this.guard.isBroken) return true;
    const { table, members } = this;
    const { copy } = members;
    assert(user.content === Content.copy, "a target is written to by those who copy");
    assert(copy !== null && op !== Op.read, "nothing is read from a target");
    const io = table.allocate();
    if (io < 0) return false;
    this.fill(io, user, op, place, bytes, address, context, isFua);
    table.offset[io] = copy.target.dataOffset + place;
    table.role[io] = copy.role;
    table.epoch[io] = members.copyEpoch;
    this.underWay += 1;
    copy.target.device.submit(io);
    return true;
  }

  /** The columns of a row that do not depend on whose device it goes to. */
  private fill(
    io: number,
    user: IoUser,
    op: OpCode,
    place: number,
    bytes: number,
    address: number,
    context: number,
    isFua: number,
  ): void {
    const { table } = this;
    table.op[io] = op;
    table.isFua[io] = isFua;
    table.place[io] = place;
    table.bytes[io] = bytes;
    table.address[io] = address;
    table.owner[io] = user.owner;
    table.context[io] = context;
  }

  private startTwin(
    io: number,
    op: OpCode,
    role: number,
    place: number,
    bytes: number,
    address: number,
    isFua: number,
  ): void {
    assert(role === this.members.copyRole, "a twin goes to the target of its member");
    this.twins.begin(io);
    // What `start` says of the member's I/O is not there yet; a twin is never answered in here.
    const { twinUser } = this;
    const isStarted = this.startOnTarget(twinUser, op, place, bytes, address, io, isFua);
    assert(isStarted, "there is room for both");
  }

  /**
   * Starts a flush of all that has completed on a member. False: the table is full.
   *
   * Rule 16: a flush covers only what completed before it was submitted, so whatever completes from
   * here on has to be flushed again.
   */
  flush(user: IoUser, role: number): boolean {
    this.members.needsFlush[role] = 0;
    return this.start(user, Op.flush, role, 0, 0, 0, role, 0);
  }

  /** Moves rows when there is a request for it, and is answered with the verdict. */
  async move(io: AwaitedIo): Promise<VerdictCode> {
    const { role, op, place, bytes, address } = io;
    const user = this.waiterUsers[io.content]!;
    const ticket = this.freeTickets.pop() ?? this.waiters.push(() => {}) - 1;
    for (;;) {
      if (this.isClosed || !this.members.isPresent(role)) {
        this.freeTickets.push(ticket);
        return Verdict.gone;
      }
      if (this.start(user, op, role, place, bytes, address, ticket, io.isFua ? 1 : 0)) break;
      await this.untilRoom();
    }
    return new Promise((resolve) => {
      this.waiters[ticket] = resolve;
    });
  }

  /** Writes rows to the target of the member that is copied, durably. */
  async moveToTarget(io: Pick<AwaitedIo, "place" | "bytes" | "address">): Promise<VerdictCode> {
    const user = this.waiterUsers[Content.copy]!;
    const ticket = this.freeTickets.pop() ?? this.waiters.push(() => {}) - 1;
    for (;;) {
      if (this.isClosed || this.members.copy === null) {
        this.freeTickets.push(ticket);
        return Verdict.gone;
      }
      if (this.startOnTarget(user, Op.write, io.place, io.bytes, io.address, ticket, 1)) break;
      await this.untilRoom();
    }
    return new Promise((resolve) => {
      this.waiters[ticket] = resolve;
    });
  }

  /** A moment in which requests may have become free. */
  untilRoom(): Promise<void> {
    return this.table.untilFreed();
  }

  /** The member failed in a way that no answer of its drive has told. */
  lose(role: number, op: OpCode, range: { offset: number; bytes: number }): void {
    this.memberFailed({ role, op, outcome: Outcome.memberLost, errno: 0, ...range });
  }

  private submit(io: number, role: number): void {
    const { table, members } = this;
    const device = members.devices[role];
    assert(device !== null && device !== undefined, "I/O goes to a role that had a drive");
    table.role[io] = role;
    // Of the drive that has the role now: what another one answers means nothing.
    table.epoch[io] = members.epoch[role]!;
    this.underWay += 1;
    // Rule 15: once two members are gone nothing is written, whoever is in the middle of what: that
    // gate is at the bottom, `accepts` of the member's retry filter.
    device.submit(io);
  }

  /** Rule 15: in the reap itself, so that all of one reap are judged before a turn answers any. */
  private judge(user: IoUser, io: number, outcome: OutcomeCode, errno: number): void {
    if (user.content === Content.copy) {
      this.judgeTarget(user, io, outcome, errno);
      return;
    }
    if (this.twins.has(io) && !this.isAnsweredWithTwin(user, io, outcome, errno)) return;
    this.judgeOne(user, io, outcome, errno, false);
  }

  private judgeOne(
    user: IoUser,
    io: number,
    outcome: OutcomeCode,
    errno: number,
    isTold: boolean,
  ): void {
    const { table, members } = this;
    assert(this.underWay > 0, "an I/O is answered once");
    this.underWay -= 1;
    const context = table.context[io]!;
    const role = table.role[io]!;
    const op = table.op[io]!;
    const isCurrent = table.epoch[io] === members.epoch[role];
    // Also where it failed: some of it may lie in the drive's cache, whatever it asked for.
    const isWritten = op === Op.write || op === Op.writeZeroes;
    const isVolatile = user.content === Content.rows && outcome !== Outcome.done;
    if (isWritten && isCurrent && (isVolatile || user.content === Content.data)) {
      members.needsFlush[role] = 1;
    }
    // What a drive has given is right, also where it has left since; what it has taken is not on
    // the one that has its role now.
    if (outcome === Outcome.done && (isCurrent || op === Op.read)) {
      table.free(io);
      user.handler(context, role, Verdict.done, null);
      return;
    }
    const failure = this.failureOf(io, isCurrent, outcome, errno);
    this.judgeFailure(user, io, failure, isCurrent, isTold);
  }

  /** False: its twin is not answered yet, and answers for both. */
  private isAnsweredWithTwin(
    user: IoUser,
    io: number,
    outcome: OutcomeCode,
    errno: number,
  ): boolean {
    if (outcome !== Outcome.done) this.doubt(io);
    if (this.twins.memberAnswered(io, { user, outcome, errno })) return true;
    // Rule 15: at once, whatever the target does meanwhile.
    const isCurrent = this.table.epoch[io] === this.members.epoch[this.table.role[io]!];
    if (outcome !== Outcome.done && isCurrent) {
      this.tell(user.content, this.failureOf(io, isCurrent, outcome, errno));
    }
    return false;
  }

  /** `io` is that of the member. */
  private twinAnswered(io: number, verdict: VerdictCode): void {
    if (verdict !== Verdict.done) this.doubt(io);
    const held = this.twins.targetAnswered(io);
    if (held === null) return;
    const { user, outcome, errno } = held;
    this.judgeOne(user, io, outcome, errno, outcome !== Outcome.done);
  }

  /** One of the two did not take it: its stripes are copied again. */
  private doubt(io: number): void {
    const { table, members } = this;
    const { copy } = members;
    if (copy === null || table.role[io] !== copy.role || table.op[io] === Op.flush) return;
    const first = Math.floor(table.place[io]! / members.chunkBytes);
    copy.doubt(first, Math.ceil((table.place[io]! + table.bytes[io]!) / members.chunkBytes));
  }

  /** What is under way on the member that is copied and its target: whoever takes over lacks it. */
  doubtAllUnderWay(): void {
    for (const io of this.twins.underWay()) this.doubt(io);
  }

  /** An answer of the target of a member that is copied. */
  private judgeTarget(user: IoUser, io: number, outcome: OutcomeCode, errno: number): void {
    const { table, members } = this;
    assert(this.underWay > 0, "an I/O is answered once");
    this.underWay -= 1;
    const context = table.context[io]!;
    const isCurrent = members.copy !== null && table.epoch[io] === members.copyEpoch;
    if (outcome === Outcome.done) {
      if (isCurrent && table.op[io] !== Op.flush) members.needsFlush[table.role[io]!] = 1;
      table.free(io);
      user.handler(context, members.copyRole, isCurrent ? Verdict.done : Verdict.gone, null);
      return;
    }
    const failure = this.failureOf(io, isCurrent, outcome, errno);
    table.free(io);
    // Without room for it, or for the call, the target is as good as before.
    const isRefused = outcome === Outcome.noSpace && failure.op !== Op.flush;
    const isSpared = isRefused || outcome === Outcome.unsupported;
    if (isCurrent && !isSpared) this.targetFailed(failure);
    const isStill = isCurrent && members.copyEpoch === table.epoch[io];
    const verdict = isStill && isSpared ? Verdict.noSpace : Verdict.gone;
    user.handler(context, failure.role, verdict, failure);
  }

  private judgeFailure(
    user: IoUser,
    io: number,
    failure: IoFailure,
    isCurrent: boolean,
    isTold: boolean,
  ): void {
    const { table, members } = this;
    const context = table.context[io]!;
    const epoch = table.epoch[io]!;
    const { role } = failure;
    // Before anybody is told: what that ends needs requests of its own.
    table.free(io);
    let verdict: VerdictCode = Verdict.gone;
    if (isCurrent) {
      if (!isTold) this.tell(user.content, failure);
      const hasLeft = members.isFenced || members.epoch[role] !== epoch;
      if (!hasLeft) verdict = verdictOf(user.content, failure);
    }
    user.handler(context, role, verdict, failure);
  }

  /** On the drive that has the role now. */
  private tell(content: ContentCode, failure: IoFailure): void {
    const { role, op, outcome } = failure;
    if (content === Content.doubtful && op === Op.read && outcome === Outcome.mediaError) {
      // It is on record as bad, and still is: that does not count among its errors in a row.
      const { counters } = this.members.devices[role]!;
      counters.readErrorsInARow = Math.max(0, counters.readErrorsInARow - 1);
      return;
    }
    const told = toldOf(content, failure);
    if (told !== null) this.memberFailed(told);
  }

  private failureOf(
    io: number,
    isCurrent: boolean,
    outcome: OutcomeCode,
    errno: number,
  ): IoFailure {
    const { table } = this;
    return {
      role: table.role[io]!,
      op: table.op[io] as OpCode,
      // What a drive says that has left is nobody's error.
      outcome: isCurrent ? outcome : Outcome.memberLost,
      errno: isCurrent ? errno : 0,
      offset: table.offset[io]!,
      bytes: table.bytes[io]!,
      place: table.place[io]!,
      address: table.address[io]!,
      // Rule 10: a request that was given up is outstanding still, whatever its owner was told.
      isGivenUp: errno === ETIMEDOUT,
    };
  }
}
