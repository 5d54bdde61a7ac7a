/**
 * The member I/O of one piece of a stripe that is held: at most one request per member at a time,
 * and one promise for all of them.
 *
 * A rebuild moves thousands of pieces a second; a promise and a closure for each request of each
 * would cost it a tenth of its time.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { ENOSPC } from "../../base/errno.ts";
import { Outcome } from "../../block/io-error.ts";
import { Op, type OpCode } from "../../reactor/io-table.ts";
import type { EngineEnvironment, MemberError } from "../environment.ts";
import {
  Content,
  type IoUser,
  isForRows,
  Verdict,
  type VerdictCode,
  type VerdictHandler,
} from "../members/member-io.ts";
import type { MemberParts } from "../members/member-parts.ts";

type PieceParts = Pick<MemberParts, "geometry" | "members" | "memberIo"> & {
  readonly environment: Pick<EngineEnvironment, "guard">;
};

export class PieceIo {
  private readonly parts: PieceParts;
  private readonly pieceBytes: number;
  private readonly op: Uint8Array;
  private readonly user: IoUser;
  private readonly copyUser: IoUser;
  private stripe = 0;
  private column = 0;
  private left = 0;
  private error: MemberError | null = null;
  /** Of that error. */
  private verdict: VerdictCode = Verdict.done;
  private resolve: ((error: MemberError | null) => void) | null = null;

  constructor(parts: PieceParts, pieceBytes: number) {
    this.parts = parts;
    this.pieceBytes = pieceBytes;
    this.op = new Uint8Array(parts.geometry.memberCount);
    const answered: VerdictHandler = (_, __, verdict, failure) => {
      if (failure === null) this.finish();
      else this.fail(failure, verdict);
    };
    this.user = parts.memberIo.register(Content.data, answered);
    this.copyUser = parts.memberIo.register(Content.copy, answered);
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
    assert(this.left < this.op.length, "one request per member is under way");
    this.left += 1;
    this.op[role] = op;
    this.submit(role, address);
  }

  /** Writes the piece to the target of the member that is copied. */
  startOnTarget(address: number): void {
    this.left += 1;
    this.submitToTarget(address);
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
    const { pieceBytes: bytes } = this;
    return { role, op, outcome: Outcome.memberLost, errno: 0, offset: this.offset(role), bytes };
  }

  /** The error of a member that has no room for the piece. */
  refusedError(role: number): MemberError {
    return { ...this.goneError(Op.write, role), outcome: Outcome.noSpace, errno: ENOSPC };
  }

  private submit(role: number, address: number): void {
    const { pieceBytes } = this;
    const { members, memberIo } = this.parts;
    const op = this.op[role] as OpCode;
    if (!members.isPresent(role)) {
      this.fail(this.goneError(op, role), Verdict.gone);
      return;
    }
    if (!memberIo.start(this.user, op, role, this.place, pieceBytes, address, role, 0)) {
      inBackground(this.submitLater(role, address), this.parts.environment.guard);
    }
  }

  private async submitLater(role: number, address: number): Promise<void> {
    await this.parts.memberIo.untilRoom();
    this.submit(role, address);
  }

  private submitToTarget(address: number): void {
    const { members, memberIo } = this.parts;
    const { copy } = members;
    if (copy === null) {
      this.fail(this.goneError(Op.write, 0), Verdict.gone);
      return;
    }
    const { place, pieceBytes } = this;
    if (memberIo.startOnTarget(this.copyUser, Op.write, place, pieceBytes, address, 0, 0)) return;
    const later = memberIo.untilRoom().then(() => this.submitToTarget(address));
    inBackground(later, this.parts.environment.guard);
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
    return this.stripe * this.parts.geometry.chunkBytes + this.column;
  }

  /** Byte of the member's device. */
  private offset(role: number): number {
    return this.parts.members.dataOffset[role]! + this.place;
  }
}
