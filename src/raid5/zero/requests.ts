/**
 * The trims and zeroings of an array between the engine's requests and the work on stripes.
 *
 * A bounded number runs at a time, the others wait in order of arrival. The edges of one are
 * written as inner requests, at most one at a time for each.
 */

import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import type { InnerRequest, InnerRequests } from "../inner-requests.ts";
import { RequestOp } from "../request-table.ts";
import type { CarefulRows } from "../rows/careful-rows.ts";
import type { EngineParts } from "../rows/row-parts.ts";
import { RangeLock } from "../stripe/range-lock.ts";
import { AllocationMap } from "./allocation.ts";
import { ZeroRows } from "./rows.ts";
import { StripeZero } from "./stripes.ts";

export const ZEROES_AT_ONCE = 16;

export class ZeroRequests {
  readonly allocation: AllocationMap;
  readonly stripes: StripeZero;
  private readonly parts: EngineParts;
  private readonly lock: RangeLock;
  /** Starts a request, whatever the gate. */
  private readonly admit: (request: number) => void;
  private readonly waiting: number[] = [];
  private readonly inner: InnerRequests;
  private running = 0;

  constructor(options: {
    parts: EngineParts;
    rows: CarefulRows;
    inner: InnerRequests;
    admit: (request: number) => void;
  }) {
    const { parts, rows } = options;
    this.parts = parts;
    this.inner = options.inner;
    this.admit = options.admit;
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
  private write(place: Omit<InnerRequest, "op">): Promise<number> {
    return this.inner.run({ ...place, op: RequestOp.write }, this.admit);
  }
}
