/**
 * The trims and zeroings of an array between the engine's requests and the work on stripes.
 *
 * A bounded number runs at a time, the others wait in order of arrival. The edges of one are
 * written as requests of their own, at most one at a time for each, by a client that only the
 * engine knows.
 */

import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { RequestOp } from "../request-table.ts";
import type { CarefulRows } from "../rows/careful-rows.ts";
import type { EngineParts } from "../rows/row-parts.ts";
import { RangeLock } from "../stripe/range-lock.ts";
import { AllocationMap } from "./allocation.ts";
import { ZeroRows } from "./rows.ts";
import { StripeZero } from "./stripes.ts";

export const ZEROES_AT_ONCE = 16;

/** Requests of this client are the writes of zeroings. */
export const INNER_CLIENT = 0xffff_ffff;

export class ZeroRequests {
  readonly allocation: AllocationMap;
  readonly stripes: StripeZero;
  private readonly parts: EngineParts;
  private readonly lock: RangeLock;
  /** Starts a request, whatever the gate. */
  private readonly admit: (request: number) => void;
  private readonly waiting: number[] = [];
  private readonly writes = new Map<number, (status: number) => void>();
  private nextTag = 0;
  private running = 0;

  constructor(parts: EngineParts, rows: CarefulRows, admit: (request: number) => void) {
    this.parts = parts;
    this.admit = admit;
    const { ops, runner } = parts;
    this.allocation = new AllocationMap(parts.geometry);
    this.lock = new RangeLock({
      ops,
      enter: (op, granted) => runner.holds.enter(op, granted),
      leave: (op) => runner.release(op),
    });
    this.stripes = new StripeZero({
      parts,
      allocation: this.allocation,
      lock: this.lock,
      rows: new ZeroRows(parts, rows),
      write: (place) => this.write(place),
    });
  }

  /** Stripe operations are kept back for a run of stripes: nobody else gets any. */
  get isStarved(): boolean {
    return this.lock.isStarved;
  }

  /** Once a turn: stripe operations may have become free. */
  turn(): void {
    this.lock.start();
  }

  /** A write is about to be answered. */
  noteData(request: number): void {
    this.allocation.noteData(
      this.parts.requests.offset[request]!,
      this.parts.requests.bytes[request]!,
    );
  }

  /** Takes a request that is past the gate. */
  start(request: number): void {
    // It is not split.
    this.parts.requests.splitBytes[request] = this.parts.requests.bytes[request]!;
    assert(this.running <= ZEROES_AT_ONCE, "a bounded number runs at a time");
    if (this.running === ZEROES_AT_ONCE) {
      this.waiting.push(request);
      return;
    }
    this.running += 1;
    inBackground(this.run(request), this.parts.environment.guard);
  }

  /** A write of the inner client is answered. */
  writeFinished(tag: number, status: number): void {
    const resolve = this.writes.get(tag);
    assert(resolve !== undefined, "an inner write is answered once");
    this.writes.delete(tag);
    resolve(status);
  }

  private async run(first: number): Promise<void> {
    for (let request: number | undefined = first; request !== undefined; ) {
      const { op, offset, bytes, flags } = this.parts.requests;
      const status = await this.stripes.run({
        isTrim: op[request] === RequestOp.trim,
        offset: offset[request]!,
        bytes: bytes[request]!,
        flags: flags[request]!,
      });
      this.answer(request, status);
      request = this.waiting.shift();
    }
    assert(this.running > 0 && this.waiting.length === 0, "who ends has looked for the next one");
    this.running -= 1;
  }

  /** In a turn: what this finishes is delivered at the end of one. */
  private answer(request: number, status: number): void {
    this.parts.environment.timers.scheduleAfter(0, () =>
      this.parts.requests.partFinished(request, status),
    );
  }

  /** Passes no gate: the request that it belongs to keeps that open. */
  private write(place: {
    offset: number;
    bytes: number;
    address: number;
    isFua: boolean;
  }): Promise<number> {
    const { requests } = this.parts;
    const request = requests.allocate();
    const tag = this.nextTag;
    this.nextTag = (tag + 1) >>> 0;
    requests.op[request] = RequestOp.write;
    requests.offset[request] = place.offset;
    requests.bytes[request] = place.bytes;
    requests.address[request] = place.address;
    requests.isFua[request] = place.isFua ? 1 : 0;
    requests.flags[request] = 0;
    requests.client[request] = INNER_CLIENT;
    requests.tag[request] = tag;
    return new Promise((resolve) => {
      this.writes.set(tag, resolve);
      this.admit(request);
    });
  }
}
