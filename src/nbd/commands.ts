/**
 * Judges a request header before anything is allocated for it, and maps errors to the wire.
 *
 * One row per command: the flags that it takes and what a range outside of the export is answered
 * with. FUA is valid on every command of a server that advertises it. A command without a row, or
 * whose row is not offered, is EINVAL.
 */
import {
  EACCES,
  EDQUOT,
  EFBIG,
  EINVAL,
  EIO,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  EROFS,
  ESHUTDOWN,
} from "../base/errno.ts";
import { Command, CommandFlag, type RequestHeader } from "./wire-format.ts";

/** What a connection has negotiated, as far as requests depend on it. */
export interface Negotiated {
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly isStructured: boolean;
  readonly hasAllocationContext: boolean;
  /** FAST_ZERO was advertised. */
  readonly hasFastZero: boolean;
  readonly maxRequestBytes: number;
}

interface CommandRule {
  readonly flags: number;
  readonly outOfRange: number;
  readonly isWrite: boolean;
  /** READ and WRITE carry their length in payload memory. */
  readonly hasPayload: boolean;
}

const RULES: readonly (CommandRule | null)[] = buildRules();

function buildRules(): (CommandRule | null)[] {
  const rules: (CommandRule | null)[] = new Array(Command.blockStatus + 1).fill(null);
  const { fua, dontFragment, requestOne, noHole, fastZero } = CommandFlag;
  rules[Command.read] = {
    flags: fua | dontFragment,
    outOfRange: EINVAL,
    isWrite: false,
    hasPayload: true,
  };
  rules[Command.write] = { flags: fua, outOfRange: ENOSPC, isWrite: true, hasPayload: true };
  rules[Command.writeZeroes] = {
    flags: fua | noHole | fastZero,
    outOfRange: ENOSPC,
    isWrite: true,
    hasPayload: false,
  };
  rules[Command.trim] = { flags: fua, outOfRange: EINVAL, isWrite: true, hasPayload: false };
  rules[Command.flush] = { flags: fua, outOfRange: EINVAL, isWrite: false, hasPayload: false };
  rules[Command.cache] = { flags: fua, outOfRange: EINVAL, isWrite: false, hasPayload: false };
  rules[Command.blockStatus] = {
    flags: fua | requestOne,
    outOfRange: EINVAL,
    isWrite: false,
    hasPayload: false,
  };
  return rules;
}

/** 0 where the request may run, or the wire error that answers it. */
export function judgeRequest(header: RequestHeader, negotiated: Negotiated): number {
  const rule = RULES[header.command];
  if (rule === undefined || rule === null) return EINVAL;
  if ((header.flags & ~rule.flags) !== 0) return EINVAL;
  if ((header.flags & CommandFlag.dontFragment) !== 0 && !negotiated.isStructured) return EINVAL;
  if ((header.flags & CommandFlag.fastZero) !== 0 && !negotiated.hasFastZero) return EINVAL;
  if (header.command === Command.flush) {
    return header.offset === 0 && header.bytes === 0 ? 0 : EINVAL;
  }
  if (header.command === Command.blockStatus) {
    if (!negotiated.hasAllocationContext || header.bytes === 0) return EINVAL;
  }
  if (rule.isWrite && negotiated.isReadOnly) return EPERM;
  if (rule.hasPayload && header.bytes > negotiated.maxRequestBytes) return EINVAL;
  // Both are safe integers (or the offset is Infinity), so the sum loses no bit that matters.
  if (header.offset + header.bytes > negotiated.sizeBytes) return rule.outOfRange;
  return 0;
}

/** The answer of an array (0 or a positive errno) as one of the eight errors of the protocol. */
export function wireError(status: number): number {
  switch (status) {
    case 0:
      return 0;
    case EPERM:
    case EACCES:
    case EROFS:
      return EPERM;
    case ENOMEM:
    case EINVAL:
    case EOVERFLOW:
    case EOPNOTSUPP:
    case ESHUTDOWN:
      return status;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return ENOSPC;
    default:
      // The protocol says EINVAL for the unknown, but a device error must not look like a bad call.
      return EIO;
  }
}
