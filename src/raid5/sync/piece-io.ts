/**
 * The member I/O of one piece of a stripe under its lock: at most one request per member at a time,
 * and one promise for all of them.
 *
 * A rebuild moves thousands of pieces a second; a promise and a closure for each request of each
 * would cost it a tenth of its time.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { ENOSPC } from "../../base/errno.ts";
import type { Guard } from "../../base/guard.ts";
import { Outcome } from "../../block/io-error.ts";
import { Op, type OpCode } from "../../reactor/io-table.ts";
import type { MemberError } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import {
  Content,
  type IoUser,
  isForRows,
  type MemberIo,
  Verdict,
  type VerdictCode,
} from "../members/member-io.ts";
import type { MemberSet } from "../members/member-set.ts";

export interface PieceTools {
  readonly members: MemberSet;
  readonly geometry: Geometry;
  readonly memberIo: MemberIo;
  readonly guard: Guard;
  readonly pieceBytes: number;
}

export class PieceIo {
  private readonly tools: PieceTools;
  private readonly op: Uint8Array;
  private readonly user: IoUser;
  private stripe = 0;
  private column = 0;
  private left = 0;
  private error: MemberError | null = null;
  /** Of that error. */
  private verdict: VerdictCode = Verdict.done;
  private resolve: ((error: MemberError | null) => void) | null = null;

  constructor(tools: PieceTools) {
    this.tools = tools;
    this.op = new Uint8Array(tools.geometry.memberCount);
    this.user = tools.memberIo.register(Content.data, (_, verdict, failure) => {
      if (failure === null) this.finish();
      else this.fail(failure, verdict);
    });
  }

  /** What is started from now on is about this piece. */
  begin(stripe: number, column: number): void {
    assert(this.left === 0, "a piece begins when the one before has been answered");
    this.stripe = stripe;
    this.column = column;
    this.error = null;
    this.verdict = Verdict.done;
  }

  /** Moves the piece of one member to or from `address`. */
  start(op: OpCode, role: number, address: number): void {
    this.left += 1;
    this.op[role] = op;
    this.submit(role, address);
  }

  /** Resolves when all that was started is answered: null, or the worst error. */
  wait(): Promise<MemberError | null> {
    if (this.left === 0) return Promise.resolve(this.error);
    return new Promise((resolve) => {
      this.resolve = resolve;
    });
  }

  /** What the piece met leaves its rows to be had one by one. */
  get isForRows(): boolean {
    return isForRows(this.verdict);
  }

  /** The error of a member that is not there (any more). */
  goneError(op: OpCode, role: number): MemberError {
    const { pieceBytes: bytes } = this.tools;
    return { role, op, outcome: Outcome.memberLost, errno: 0, offset: this.offset(role), bytes };
  }

  /** The error of a member that has no room for the piece. */
  refusedError(role: number): MemberError {
    return { ...this.goneError(Op.write, role), outcome: Outcome.noSpace, errno: ENOSPC };
  }

  private submit(role: number, address: number): void {
    const { members, memberIo, pieceBytes } = this.tools;
    const op = this.op[role] as OpCode;
    if (!members.isPresent(role)) {
      this.fail(this.goneError(op, role), Verdict.gone);
      return;
    }
    if (!memberIo.start(this.user, op, role, this.place, pieceBytes, address, role, 0)) {
      inBackground(this.submitLater(role, address), this.tools.guard);
    }
  }

  private async submitLater(role: number, address: number): Promise<void> {
    await this.tools.memberIo.untilRoom();
    this.submit(role, address);
  }

  private fail({ role, op, outcome, errno, offset, bytes }: MemberError, is: VerdictCode): void {
    // One that took a member out outweighs a bad sector.
    if (this.error === null || (isForRows(this.verdict) && !isForRows(is))) {
      this.error = { role, op, outcome, errno, offset, bytes };
      this.verdict = is;
    }
    this.finish();
  }

  private finish(): void {
    assert(this.left > 0, "what was started is answered once");
    this.left -= 1;
    if (this.left > 0 || this.resolve === null) return;
    const resolve = this.resolve;
    this.resolve = null;
    resolve(this.error);
  }

  /** Byte of the members' data regions that the piece begins at. */
  private get place(): number {
    return this.stripe * this.tools.geometry.chunkBytes + this.column;
  }

  /** Byte of the member's device. */
  private offset(role: number): number {
    return this.tools.members.dataOffset[role]! + this.place;
  }
}
