/**
 * The end of an array on this host because another one has taken its drives (write-rules 21).
 *
 * A reservation is preempted drive by drive, so the first EBADE of any drive of the array, spares
 * and the one that is just being seated among them, stands for all of them:
 *
 * | what                    | becomes of it                                                      |
 * |-------------------------|--------------------------------------------------------------------|
 * | a request from now on   | reaches no drive: the gate is `accepts` of the retry filters       |
 * | a write that is queued  | is taken back before io_submit gets it                             |
 * | a client's request      | EIO, also where its answer only waited to be delivered             |
 * | superblock, bitmap, log | nothing more: members that are not fenced yet would tell the other |
 * |                         | host of a failure that never was, and leave it with a stale one    |
 * | rebuild, resync, scrub  | ends with this reason; what is on disk is what a crash leaves      |
 * | the members             | stay what they are: none of them is at fault                       |
 *
 * Reads are not served either. What a drive still gives is being changed by a host whose stripe
 * locks are not ours: a row that is reconstructed in the middle of its writes is what nobody ever
 * wrote, and a client would go on with a view that it does not share with its successor.
 *
 * The answer is EIO and not ESHUTDOWN: that one says that the server ends in good order, upon which
 * clients come again and send anew what they have not seen answered. Those who were fenced have to
 * stop like those whose drive is gone.
 */
import { EBADE, EIO } from "../../base/errno.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";

export class Fence {
  private readonly array: RaidArray;
  private text: string | null = null;

  constructor(array: RaidArray) {
    this.array = array;
  }

  /** Which drive told, or null: the array is ours. */
  get reason(): string | null {
    return this.text;
  }

  /** Why a command that would change the array is refused, or null. */
  get obstacle(): CommandError | null {
    if (this.text === null) return null;
    const { name } = this.array;
    const detail =
      `array ${name} is fenced: ${this.text}. When that host has let go of it, stop the array ` +
      "and start it";
    return { kind: "conflict", code: "fenced", detail };
  }

  /** A drive of the array has answered EBADE. Called in the reap, before the request's owner is. */
  raise(drive: Drive): void {
    if (this.text !== null) return;
    const { array } = this;
    this.text = holderText(drive);
    array.members.isFenced = true;
    for (const each of array.drives()) {
      shut(each);
      each.giveUp(array.context);
    }
    array.engine.refuseGated(EIO);
    array.synchronizer.endAll(this.text);
    array.emit(
      "array.fenced",
      "critical",
      `${this.text}: nothing more is written, read or acknowledged here, and no member is at ` +
        "fault. When that host has let go of it, stop the array and start it",
      { drive: drive.name },
    );
  }
}

/** From now on nothing reaches the drive; until its superblock is read anew. */
export function shut(drive: Drive): void {
  drive.io.accepts = "fenced";
  drive.device.cancelQueuedWrites(EBADE);
}

/** The drive takes requests, unless another host has it. */
export function admit(drive: Drive): void {
  if (!isShut(drive)) drive.io.accepts = "all";
}

export function isShut({ io }: Drive): boolean {
  return io.accepts === "fenced";
}

export function holderText({ name }: Drive): string {
  return `another host holds the reservation of drive ${name}`;
}
