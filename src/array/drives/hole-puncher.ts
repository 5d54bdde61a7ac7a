/**
 * Holes in member files: the reactor asks the control thread, whose helper thread makes the call,
 * because `fallocate` and the flush behind it can block.
 *
 *   reactor --{punch-hole id fd offset bytes}--> control --> helper: fallocate, fdatasync
 *   reactor <--{hole-punched id error}---------- control <--
 *
 * A call that misses its deadline may still punch its hole at any time later. Its member has to
 * leave the array, and it stays counted as outstanding on the drive: that drive takes part in no
 * array again before the daemon has been restarted (write-rules 10).
 */
import { assert } from "../../base/assert.ts";
import type { Guard } from "../../base/guard.ts";
import type { HolePuncher, PunchOutcome } from "../../raid5/zero/stripes.ts";
import type { CommandError, ReactorMessage } from "../protocol.ts";
import { isInData } from "./areas.ts";
import type { Drive } from "./drive.ts";

/** The calls that control has not answered. */
export class PunchCalls {
  private readonly post: (message: ReactorMessage) => void;
  private readonly waiting = new Map<number, (error: CommandError | null) => void>();
  private nextId = 1;

  constructor(post: (message: ReactorMessage) => void) {
    this.post = post;
  }

  call(fd: number, range: { offset: number; bytes: number }): Promise<CommandError | null> {
    assert(range.bytes > 0 && range.offset >= 0, "a hole has bytes");
    const id = this.nextId;
    this.nextId += 1;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      this.post({ kind: "punch-hole", id, fd, ...range });
    });
  }

  answered(id: number, error: CommandError | null): void {
    const resolve = this.waiting.get(id);
    assert(resolve !== undefined, "control answers a call once");
    this.waiting.delete(id);
    resolve(error);
  }
}

/** Which drive is in which role. */
export interface PunchedSeats {
  readonly memberCount: number;
  driveAt(role: number): Drive | null;
}

export class MemberPuncher implements HolePuncher {
  private readonly seats: PunchedSeats;
  private readonly calls: PunchCalls;
  private readonly guard: Guard;

  constructor(options: { seats: PunchedSeats; calls: PunchCalls; guard: Guard }) {
    this.seats = options.seats;
    this.calls = options.calls;
    this.guard = options.guard;
  }

  get canPunch(): boolean {
    for (let role = 0; role < this.seats.memberCount; role += 1) {
      if (this.seats.driveAt(role)?.canPunchHoles !== true) return false;
    }
    return true;
  }

  async punch(role: number, range: { offset: number; bytes: number }): Promise<PunchOutcome> {
    const drive = this.seats.driveAt(role);
    if (drive === null) return "not-punched";
    const { superblock } = drive;
    assert(superblock !== null && isInData(superblock, range), "a hole lies in a member's data");
    drive.punchBegins();
    const error = await this.calls.call(drive.info.fd, range);
    const outcome = outcomeOf(error, drive);
    if (error?.code !== TIMEOUT_CODE) drive.punchEnds();
    // A broken array is frozen: nobody is there to take the answer.
    return this.guard.isBroken ? new Promise(() => {}) : outcome;
  }
}

/** Codes of the helper. */
const TIMEOUT_CODE = "drive-timeout";
const FLUSH_CODE = "flush-failed";

function outcomeOf(error: CommandError | null, drive: Drive): PunchOutcome {
  if (error === null) return "punched";
  if (error.code === TIMEOUT_CODE || error.code === FLUSH_CODE) return "lost";
  if (error.kind === "unsupported") drive.refusedHoles();
  return "not-punched";
}
