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
import { assert } from "../../base/assert.ts";
import { EIO } from "../../base/errno.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { ArrayCore } from "./array-core.ts";

/**
 * A drive of the array has answered EBADE: shuts all of them. Called in the reap, before the
 * request's owner is told. False: that is known.
 */
export function raiseFence(core: ArrayCore, drive: Drive): boolean {
  if (core.fencedBy !== null) return false;
  core.fencedBy = drive.holderText;
  core.members.isFenced = true;
  for (const each of core.roster.fence()) {
    each.shut();
    each.giveUp(core.context);
  }
  for (const each of core.roster.drives())
    assert(each.isShut, "no drive of a fenced array is open");
  assert(drive.isShut, "the drive that told of the fence is shut");
  core.engine.refuseGated(EIO);
  core.emit(
    "array.fenced",
    "critical",
    `${core.fencedBy}: nothing more is written, read or acknowledged here, and no member is at ` +
      "fault. When that host has let go of it, stop the array and start it",
    { drive },
  );
  return true;
}

/** Why a command that would change the array is refused, or null. */
export function fenceObstacle({ fencedBy, name }: ArrayCore): CommandError | null {
  if (fencedBy === null) return null;
  const detail =
    `array ${name} is fenced: ${fencedBy}. When that host has let go of it, stop the array ` +
    "and start it";
  return { kind: "conflict", code: "fenced", detail };
}
