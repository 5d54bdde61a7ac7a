/**
 * The one place that judges completions: bytes moved, or -errno, into what follows.
 *
 * | libaio says                       | outcome     | read          | write, writeZeroes      |
 * |-----------------------------------|-------------|---------------|-------------------------|
 * | res == bytes                      | done        | complete      | complete                |
 * | 0 < res < bytes                   | short       | resume        | resume                  |
 * | res > bytes                       | (our bug)   | assert        | assert                  |
 * | res == 0 before the end           | member-lost | fail member   | fail member             |
 * | -EAGAIN -EINTR -EBUSY -ENOMEM     | transient   | retry         | retry                   |
 * | -EIO -ENODATA -EILSEQ -EREMOTEIO  | media-error | retry, repair | retry, then log or fail |
 * | -ETIMEDOUT                        | timed-out   | from parity   | fail member             |
 * | -ENOSPC -EDQUOT, not on read      | no-space    |               | ENOSPC, no member fails |
 * | -EOPNOTSUPP, discard, writeZeroes | unsupported |               | write zeros             |
 * | -EBADE                            | fenced      | fence array   | fence array             |
 * | -EFAULT -EBADF                    | (our bug)   | assert        | assert                  |
 * | -EINVAL -ENODEV -ENXIO, any other | member-lost | fail member   | fail member             |
 *
 * A flush that fails at completion is member-lost whatever the errno: the drive's promise is
 * broken and it is never retried. One that io_submit refused never ran: the errnos of "transient"
 * are that here too, and any other is member-lost. EBADE is fenced wherever it comes from. So a
 * flush has four outcomes.
 *
 * ENOSPC is of a file system or a thin pool: that of a drive which was pulled comes here as ENXIO
 * (aio-device.ts).
 *
 * EBADE is how Linux spells a reservation conflict of SCSI or NVMe: another host has taken the
 * drive. The drive is sound, so it is never a fault of its member (write-rules 21).
 *
 * Codes are numbers, not objects: this runs for every I/O. An errno that is not listed is a lost
 * member, because guessing "transient" for an unknown fault risks acknowledging lost data.
 */
import { assertShared } from "../base/assert.ts";
import {
  EAGAIN,
  EBADE,
  EBADF,
  EBUSY,
  EDQUOT,
  EFAULT,
  EILSEQ,
  EINTR,
  EIO,
  ENODATA,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EREMOTEIO,
  ETIMEDOUT,
} from "../base/errno.ts";
import { Op, type OpCode } from "../reactor/io-table.ts";

export const Outcome = {
  done: 0,
  short: 1,
  transient: 2,
  mediaError: 3,
  timedOut: 4,
  noSpace: 5,
  unsupported: 6,
  memberLost: 7,
  fenced: 8,
} as const;
export type OutcomeCode = (typeof Outcome)[keyof typeof Outcome];

export const OUTCOME_NAMES = [
  "done",
  "short",
  "transient",
  "media-error",
  "timed-out",
  "no-space",
  "unsupported",
  "member-lost",
  "fenced",
] as const;

/** A result at or below this came from io_submit: the request never ran. */
const NEVER_RAN = -4096;

/** The result of a request that io_submit refused with `errno` (positive). */
export function submitFailure(errno: number): number {
  return NEVER_RAN - errno;
}

/** The positive errno of a failed completion, 0 for one that moved bytes. */
export function errnoOf(result: number): number {
  if (result >= 0) return 0;
  return result <= NEVER_RAN ? NEVER_RAN - result : -result;
}

export function classifyCompletion(
  op: OpCode,
  result: number,
  requestedBytes: number,
): OutcomeCode {
  if (op === Op.flush) return classifyFlush(result);
  // A longer transfer means that the iovec was longer than the request: our bug, no device error.
  assertShared(result <= requestedBytes, "the kernel moved no more than was asked for");
  if (result === requestedBytes) return Outcome.done;
  if (result > 0) return Outcome.short;
  if (result === 0) return Outcome.memberLost; // The device ends before its size.
  return classifyErrno(op, errnoOf(result));
}

function classifyFlush(result: number): OutcomeCode {
  assertShared(result <= 0, "a flush moves no bytes");
  if (result === 0) return Outcome.done;
  if (errnoOf(result) === EBADE) return Outcome.fenced;
  if (result > NEVER_RAN) return Outcome.memberLost;
  const outcome = classifyErrno(Op.flush, errnoOf(result));
  return outcome === Outcome.transient ? Outcome.transient : Outcome.memberLost;
}

function classifyErrno(op: OpCode, errno: number): OutcomeCode {
  switch (errno) {
    case EAGAIN: // XFS returns it for blocking reads too, so this is not only back-pressure.
    case EBUSY:
    case EINTR:
    case ENOMEM:
      return Outcome.transient;
    case EIO:
    case ENODATA: // Linux reports an unreadable (latent) sector as EIO or ENODATA.
    case EILSEQ: // Failed protection information: the sector is present but wrong.
    case EREMOTEIO:
      return Outcome.mediaError;
    case ETIMEDOUT:
      return Outcome.timedOut;
    case ENOSPC:
    case EDQUOT:
      return op === Op.read ? Outcome.memberLost : Outcome.noSpace;
    case EOPNOTSUPP:
      return op === Op.discard || op === Op.writeZeroes ? Outcome.unsupported : Outcome.memberLost;
    case EBADE:
      return Outcome.fenced;
    case EFAULT:
    case EBADF:
      assertShared(false, "buffers and file descriptors are valid");
      return Outcome.memberLost;
    default:
      return Outcome.memberLost;
  }
}
