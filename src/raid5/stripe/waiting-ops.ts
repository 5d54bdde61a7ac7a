/**
 * Operations that wait in the midst of their phases: for buffers, for member requests, or for the
 * failure of a member to be on record. Each goes on with the step that it waited to take.
 */
import { IndexQueue } from "../../base/index-queue.ts";
import { Phase } from "./ops.ts";
import type { StripeParts } from "./stripe-parts.ts";

/** Of the runner: what an operation goes on with. */
export interface WaitSteps {
  hasRequestsFor(op: number): boolean;
  startReading(op: number): void;
  startWriting(op: number): void;
  issueWrites(op: number): void;
  finishWrite(op: number): void;
}

export class WaitingOps {
  readonly forMemory: IndexQueue;
  readonly forRequests: IndexQueue;
  /** Writes that wait for a record before they begin: WritePolicy.waitsForRecord. */
  readonly toBegin: IndexQueue;
  /** Writes that are done, and wait for a record before they are acknowledged. */
  readonly toEnd: IndexQueue;
  private readonly parts: StripeParts;
  private readonly steps: WaitSteps;

  constructor(parts: StripeParts, steps: WaitSteps) {
    this.parts = parts;
    this.steps = steps;
    const { capacity } = parts.ops;
    this.forMemory = new IndexQueue(capacity);
    this.forRequests = new IndexQueue(capacity);
    this.toBegin = new IndexQueue(capacity);
    this.toEnd = new IndexQueue(capacity);
  }

  /** Once a turn: operations that waited for buffers or member requests try again. */
  turn(): void {
    const { forMemory, forRequests, steps } = this;
    while (forMemory.length > 0) {
      const op = forMemory.peek();
      if (!this.parts.parity.reserve(op)) break;
      forMemory.shift();
      steps.startReading(op);
    }
    while (forRequests.length > 0) {
      const op = forRequests.peek();
      if (!steps.hasRequestsFor(op)) break;
      forRequests.shift();
      if (this.parts.ops.phase[op] === Phase.reading) steps.startReading(op);
      else steps.issueWrites(op);
    }
  }

  /** The failed member is on record now (or the array has failed): writes may be acknowledged. */
  recordDone(): void {
    const { toBegin, toEnd, steps } = this;
    for (let count = toEnd.length; count > 0; count -= 1) {
      const op = toEnd.shift();
      if (this.parts.records.isPending) toEnd.push(op);
      else steps.finishWrite(op);
    }
    for (let count = toBegin.length; count > 0; count -= 1) {
      const op = toBegin.shift();
      if (this.parts.ops.isMarked[op] === 1) steps.issueWrites(op);
      else steps.startWriting(op);
    }
  }
}
