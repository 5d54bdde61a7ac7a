/**
 * The ArrayFront of a running array: answers requests itself or hands them to the engine.
 *
 * It keeps a book of what is not answered, of its own and not the engine's: where the array breaks,
 * whatever state the engine is in, each request is answered EIO exactly once. Such a front stays,
 * and answers EIO to all that comes.
 */
import { assert, assertShared } from "../../base/assert.ts";
import { EIO, EPERM, ESHUTDOWN } from "../../base/errno.ts";
import { FreeList } from "../../base/free-list.ts";
import { withinRow } from "../../base/units.ts";
import type { StripeEngine } from "../../raid5/engine.ts";
import type { ArrayGuard } from "../array-guard.ts";
import {
  type ArrayFront,
  FRONT_REQUESTS_MAX,
  type FrontCompletion,
  FrontFlag,
  FrontOp,
  type FrontOpCode,
} from "../front.ts";
import { driveOf, type Roster } from "./roster.ts";

/** What a front hands requests to. */
interface ArrayBehind {
  readonly engine: StripeEngine;
  readonly roster: Roster;
  readonly guard: ArrayGuard;
}

interface HeldRequest {
  readonly entry: number;
  readonly op: FrontOpCode;
  readonly offset: number;
  readonly bytes: number;
  readonly address: number;
  readonly flags: number;
}

export class RaidArrayFront implements ArrayFront {
  /** What clients may ask for: a size that is durable on the members. */
  sizeBytes: number;
  preferredBytes: number;
  isReadOnly = false;
  /** Set when the array stops: what comes from now on is refused. */
  isStopping = false;
  /** Requests taken, of any kind: shows whether clients are at work. */
  requestCount = 0;
  writeCount = 0;
  /** When the last of them came. */
  lastRequestMs = Number.NEGATIVE_INFINITY;
  private engine: StripeEngine;
  private guard: ArrayGuard;
  private roster: Roster;
  private zeroes: StripeEngine["zeroes"];
  /** Requests that wait until the array is started anew, in order; null: none does. */
  private held: HeldRequest[] | null = null;
  private readonly clients: (FrontCompletion | null)[] = [];
  private readonly book = new RequestBook();
  /** Requests answered without the engine wait here for the end of the turn: entry, status. */
  private readonly early = new Uint32Array(FRONT_REQUESTS_MAX * 2);
  private earlyCount = 0;

  constructor(options: ArrayBehind) {
    const { geometry } = options.engine;
    this.engine = options.engine;
    this.guard = options.guard;
    this.roster = options.roster;
    this.zeroes = options.engine.zeroes;
    this.sizeBytes = geometry.sizeBytes;
    this.preferredBytes = geometry.preferredBytes;
  }

  /** The array is about to be started anew: what comes from now on waits for that. */
  hold(): void {
    assert(this.held === null, "clients are kept waiting by one");
    this.held = [];
  }

  /** From now on it is the front of this array, which has the same bytes. */
  moveTo({ engine, roster, guard }: ArrayBehind): void {
    assert(this.held !== null, "an array takes over while the clients of the last one wait");
    assert(engine.geometry.sizeBytes === this.sizeBytes, "clients find what they know");
    this.engine = engine;
    this.roster = roster;
    this.guard = guard;
    this.zeroes = engine.zeroes;
    this.preferredBytes = engine.geometry.preferredBytes;
  }

  /** What waited goes to the array. */
  goOn(): void {
    const { held } = this;
    this.held = null;
    for (const { entry, op, offset, bytes, address, flags } of held ?? []) {
      this.take(entry, op, offset, bytes, address, flags);
    }
  }

  /** There is no array any more: what waited is refused. */
  dismiss(): void {
    this.isStopping = true;
    this.goOn();
    this.turn();
  }

  /** The array has its new size, durably. */
  grow(): void {
    const { geometry } = this.engine;
    assert(geometry.sizeBytes >= this.sizeBytes, "an array does not shrink");
    this.zeroes.allocation.grow(geometry.stripeCount);
    this.sizeBytes = geometry.sizeBytes;
  }

  get isRotational(): boolean {
    return this.roster.seats.some((seat) => driveOf(seat)?.info.isRotational === true);
  }

  get canTrim(): boolean {
    if (this.guard.isBroken) return false;
    try {
      return this.zeroes.stripes.canPunch;
    } catch (error) {
      this.guard.caught(error);
      return false;
    }
  }

  allocationAt(offset: number): number {
    if (this.guard.isBroken) return 0;
    try {
      return this.zeroes.allocation.stateAt(offset);
    } catch (error) {
      this.guard.caught(error);
      return 0;
    }
  }

  allocationEnd(offset: number, limit: number): number {
    if (this.guard.isBroken) return limit;
    try {
      return this.zeroes.allocation.endAt(offset, limit);
    } catch (error) {
      this.guard.caught(error);
      return limit;
    }
  }

  attach(onComplete: FrontCompletion): number {
    const free = this.clients.indexOf(null);
    const handle = free >= 0 ? free : this.clients.length;
    this.clients[handle] = onComplete;
    return handle;
  }

  detach(handle: number): void {
    const client = this.clients[handle];
    assert(client !== null && client !== undefined, "a client leaves once");
    this.clients[handle] = null;
  }

  noteComing(offset: number, isComing: boolean): void {
    this.engine.parts.streams.noteComing(offset, isComing);
  }

  submit(
    handle: number,
    op: FrontOpCode,
    offset: number,
    bytes: number,
    address: number,
    flags: number,
    tag: number,
  ): void {
    const { guard } = this;
    this.requestCount += 1;
    this.lastRequestMs = guard.context.clock.nowMs();
    const entry = this.book.enter(handle, tag);
    // A client may submit while it takes a completion.
    const wasOutside = guard.isOutside;
    guard.isOutside = false;
    try {
      assert(this.clients[handle] !== null && handle < this.clients.length, "a client is attached");
      this.take(entry, op, offset, bytes, address, flags);
    } catch (error) {
      guard.caught(error);
    }
    guard.isOutside = wasOutside;
  }

  /** Delivers an answer of the engine. */
  finished(entry: number, status: number, address: number): void {
    assert(status >= 0, "a status is 0 or a positive errno");
    const onComplete = this.clients[this.book.clientOf(entry)];
    assert(onComplete !== null && onComplete !== undefined, "a client stays until it is answered");
    if (address !== 0) this.engine.handOver(address);
    const tag = this.book.leave(entry);
    this.guard.isOutside = true;
    onComplete(tag, status, address);
    this.guard.isOutside = false;
  }

  /** There are answers for the next turn. */
  get isDue(): boolean {
    return this.earlyCount > 0;
  }

  /** Once a turn: answers what the engine did not get. */
  turn(): void {
    for (let index = 0; index < this.earlyCount; index += 1) {
      const at = index * 2;
      this.finished(this.early[at]!, this.early[at + 1]!, 0);
    }
    this.earlyCount = 0;
  }

  /** The array is broken: answers everything that was under way. */
  answerAll(status: number): void {
    assert(this.guard.isBroken && status > 0, "all are refused only where the array is broken");
    this.earlyCount = 0;
    this.held = null;
    for (const entry of this.book.open()) this.finished(entry, status, 0);
  }

  private take(
    entry: number,
    op: FrontOpCode,
    offset: number,
    bytes: number,
    address: number,
    flags: number,
  ): void {
    assert(offset >= 0 && bytes >= 0, "a request has an offset and a length");
    assert(offset + bytes <= this.sizeBytes, "a request lies in the array");
    // Trims and zeroings bring no rows, and a flush has no place.
    const isAligned = op > FrontOp.write || withinRow(address) === withinRow(offset);
    assert(isAligned, "a payload is congruent to its offset modulo a row");
    if (this.held !== null) {
      this.held.push({ entry, op, offset, bytes, address, flags });
      return;
    }
    if (this.guard.isBroken) {
      this.answerLater(entry, EIO);
      return;
    }
    if (this.isStopping) {
      this.answerLater(entry, ESHUTDOWN);
      return;
    }
    if (this.engine.members.isFenced) {
      this.answerLater(entry, EIO);
      return;
    }
    const isWrite = op !== FrontOp.read && op !== FrontOp.flush;
    if (isWrite && this.isReadOnly) {
      this.answerLater(entry, EPERM);
      return;
    }
    if (op === FrontOp.trim || op === FrontOp.writeZeroes) {
      const isTrim = op === FrontOp.trim;
      const status = this.zeroes.stripes.judge({ isTrim, offset, bytes, flags });
      if (status >= 0) {
        this.answerLater(entry, status);
        return;
      }
    }
    if (isWrite) this.writeCount += 1;
    const isFua = (flags & FrontFlag.fua) !== 0;
    this.engine.submit(0, op, offset, bytes, address, isFua, entry, flags);
  }

  private answerLater(entry: number, status: number): void {
    assert(this.earlyCount < FRONT_REQUESTS_MAX, "a request is answered early once");
    const at = this.earlyCount * 2;
    this.early[at] = entry;
    this.early[at + 1] = status;
    this.earlyCount += 1;
  }
}

/** The requests that are not answered: of which client, and under which tag of it. */
class RequestBook {
  private readonly client = new Uint32Array(FRONT_REQUESTS_MAX);
  private readonly tag = new Uint32Array(FRONT_REQUESTS_MAX);
  private readonly isOpen = new Uint8Array(FRONT_REQUESTS_MAX);
  private readonly list = new FreeList(FRONT_REQUESTS_MAX);

  enter(client: number, tag: number): number {
    const entry = this.list.take();
    assertShared(entry >= 0, "clients keep below the request limit");
    this.client[entry] = client;
    this.tag[entry] = tag;
    this.isOpen[entry] = 1;
    return entry;
  }

  clientOf(entry: number): number {
    assert(this.isOpen[entry] === 1, "a request is answered once");
    return this.client[entry]!;
  }

  /** Its tag. */
  leave(entry: number): number {
    this.isOpen[entry] = 0;
    this.list.give(entry);
    return this.tag[entry]!;
  }

  open(): number[] {
    const entries: number[] = [];
    for (let entry = 0; entry < FRONT_REQUESTS_MAX; entry += 1) {
      if (this.isOpen[entry] === 1) entries.push(entry);
    }
    return entries;
  }
}
