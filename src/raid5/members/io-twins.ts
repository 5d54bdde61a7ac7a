/**
 * The I/Os of a member that is copied, each of which has a twin that goes to the target. The first
 * of the two that is answered waits for the other.
 */
import { assert } from "../../base/assert.ts";
import type { OutcomeCode } from "../../block/io-error.ts";

/** How the two stand. */
const Twin = { none: 0, bothOut: 1, targetOut: 2, memberOut: 3 } as const;

/** An answer of the member that waits for that of the target, and whose it is. */
export interface HeldAnswer<U> {
  readonly user: U;
  readonly outcome: OutcomeCode;
  readonly errno: number;
}

export class IoTwins<U> {
  /** By I/O of the member. */
  private readonly state: Uint8Array;
  private readonly held: (HeldAnswer<U> | null)[];
  private count = 0;

  constructor(capacity: number) {
    this.state = new Uint8Array(capacity);
    this.held = new Array<HeldAnswer<U> | null>(capacity).fill(null);
  }

  begin(io: number): void {
    assert(this.state[io] === Twin.none, "an I/O has one twin");
    this.state[io] = Twin.bothOut;
    this.count += 1;
  }

  has(io: number): boolean {
    return this.count > 0 && this.state[io] !== Twin.none;
  }

  /** False: the target's answer is for both. */
  memberAnswered(io: number, answer: HeldAnswer<U>): boolean {
    if (this.state[io] === Twin.bothOut) {
      this.state[io] = Twin.targetOut;
      this.held[io] = answer;
      return false;
    }
    assert(this.state[io] === Twin.memberOut, "an I/O is answered once");
    this.end(io);
    return true;
  }

  /** The answer of the member; null: it is for both. */
  targetAnswered(io: number): HeldAnswer<U> | null {
    if (this.state[io] === Twin.bothOut) {
      this.state[io] = Twin.memberOut;
      return null;
    }
    assert(this.state[io] === Twin.targetOut, "a twin is answered once");
    const answer = this.held[io];
    assert(answer !== null && answer !== undefined, "what waits for its twin was answered");
    this.held[io] = null;
    this.end(io);
    return answer;
  }

  /** Those of which one or both are not answered. */
  *underWay(): Generator<number> {
    for (let io = 0; this.count > 0 && io < this.state.length; io += 1) {
      if (this.state[io] !== Twin.none) yield io;
    }
  }

  private end(io: number): void {
    this.state[io] = Twin.none;
    this.count -= 1;
    assert(this.count >= 0, "who ends had begun");
  }
}
