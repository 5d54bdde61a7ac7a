/**
 * The member I/O of one piece of a stripe under its lock: at most one request per member at a time,
 * and one promise for all of them.
 *
 * A rebuild moves thousands of pieces a second; a promise and a closure for each request of each
 * would cost it a tenth of its time. Errors take the slow way: they are judged in a microtask,
 * behind the reap that brought them.
 */
import { inBackground } from "../../base/background.ts";
import { ENOSPC } from "../../base/errno.ts";
import type { Guard } from "../../base/guard.ts";
import type { AsyncIo, IoWaiter } from "../../block/async-io.ts";
import { Outcome, type OutcomeCode } from "../../block/io-error.ts";
import { Op, type OpCode } from "../../reactor/io-table.ts";
import type { MemberError } from "../environment.ts";
import type { Geometry } from "../geometry.ts";
import type { MemberSet } from "../members/member-set.ts";

export interface PieceTools {
  readonly members: MemberSet;
  readonly geometry: Geometry;
  readonly asyncIo: AsyncIo;
  readonly guard: Guard;
  readonly memberFailed: (error: MemberError) => void;
  readonly pieceBytes: number;
}

export class PieceIo implements IoWaiter {
  private readonly tools: PieceTools;
  private readonly op: Uint8Array;
  /** By role: tells an answer of this drive from one of its predecessor. */
  private readonly epoch: Uint8Array;
  private stripe = 0;
  private column = 0;
  private left = 0;
  private error: MemberError | null = null;
  private resolve: ((error: MemberError | null) => void) | null = null;

  constructor(tools: PieceTools) {
    this.tools = tools;
    this.op = new Uint8Array(tools.geometry.memberCount);
    this.epoch = new Uint8Array(tools.geometry.memberCount);
  }

  /** What is started from now on is about this piece. */
  begin(stripe: number, column: number): void {
    this.stripe = stripe;
    this.column = column;
    this.error = null;
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

  answered(role: number, outcome: OutcomeCode, errno: number): void {
    const { members } = this.tools;
    const isCurrent = members.epoch[role] === this.epoch[role];
    if (this.op[role] === Op.write && isCurrent) members.needsFlush[role] = 1;
    if (outcome === Outcome.done) this.finish();
    else inBackground(this.judge(role, outcome, errno), this.tools.guard);
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
    const { members, asyncIo, pieceBytes } = this.tools;
    const op = this.op[role] as OpCode;
    const device = members.devices[role];
    if (!members.isPresent(role) || device === null || device === undefined) {
      this.fail(this.goneError(op, role));
      return;
    }
    this.epoch[role] = members.epoch[role]!;
    if (!asyncIo.start(device, op, this.offset(role), pieceBytes, address, this, role)) {
      inBackground(this.submitLater(role, address), this.tools.guard);
    }
  }

  private async submitLater(role: number, address: number): Promise<void> {
    await this.tools.asyncIo.waitForRoom();
    this.submit(role, address);
  }

  private async judge(role: number, outcome: OutcomeCode, errno: number): Promise<void> {
    await undefined;
    const { members, pieceBytes: bytes, memberFailed } = this.tools;
    const op = this.op[role] as OpCode;
    if (members.epoch[role] !== this.epoch[role]) {
      this.fail(this.goneError(op, role));
      return;
    }
    const error: MemberError = { role, op, outcome, errno, offset: this.offset(role), bytes };
    memberFailed(error);
    this.fail(error);
  }

  private fail(error: MemberError): void {
    // One that took a member out outweighs a bad sector.
    if (this.error === null || (isBadSector(this.error) && !isBadSector(error))) {
      this.error = error;
    }
    this.finish();
  }

  private finish(): void {
    this.left -= 1;
    if (this.left > 0 || this.resolve === null) return;
    const resolve = this.resolve;
    this.resolve = null;
    resolve(this.error);
  }

  /** Byte of the member's device that the piece begins at. */
  private offset(role: number): number {
    const { members, geometry } = this.tools;
    return members.dataOffset[role]! + this.stripe * geometry.chunkBytes + this.column;
  }
}

/** The piece can still be had row by row. */
export function isBadSector({ outcome }: MemberError): boolean {
  return outcome === Outcome.mediaError || outcome === Outcome.noSpace;
}
