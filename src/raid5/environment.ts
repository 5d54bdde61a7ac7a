/** What the engine is given, and how it tells of a member that fails. */

import type { Guard } from "../base/guard.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { OutcomeCode } from "../block/io-error.ts";
import type { OutcomeRegistrar } from "../block/outcome-router.ts";
import type { BufferPool, PoolShare } from "../block/pool.ts";
import type { BadBlockCause } from "../md/bad-block-log.ts";
import type { ParityKernels } from "../parity/kernels.ts";
import type { IoTable, OpCode } from "../reactor/io-table.ts";
import type { Timers } from "../reactor/timers.ts";

/** What the engine needs from the reactor. */
export interface EngineEnvironment {
  /** For all that is thrown where nobody waits. */
  readonly guard: Guard;
  /** Where the rows of clients' requests lie. */
  readonly payloadPool: PoolShare;
  readonly memory: SharedMemory;
  readonly table: IoTable;
  readonly router: OutcomeRegistrar;
  readonly enginePool: BufferPool;
  readonly kernels: ParityKernels;
  readonly timers: Timers;
}

/** The rows of one member that cannot be read from it, by byte offset on its device. */
export interface BadRows {
  readonly isEmpty: boolean;
  has(offset: number, bytes: number): boolean;
  /** Whether all of them hold what belongs there, and could only not be read. */
  isUnread(offset: number, bytes: number): boolean;
  /** True when the rows are durably on record as bad, for this cause. */
  enter(offset: number, bytes: number, cause: BadBlockCause): Promise<boolean>;
  /** The rows have been written durably. True when the record is gone. */
  clear(offset: number, bytes: number): Promise<boolean>;
}

/** A member request that failed for good. */
export interface MemberError {
  readonly role: number;
  readonly op: OpCode;
  readonly outcome: OutcomeCode;
  readonly errno: number;
  /** Byte offset on the member's device. */
  readonly offset: number;
  readonly bytes: number;
}

/** What the engine tells of and asks for. */
export interface EngineHooks {
  /** A write waits at the closed gate: mark the array dirty, then `openGate`. */
  onWriteWaiting(): void;
  /**
   * A member request failed for good. The hook decides at once: where it takes the member out of
   * the MemberSet it also calls `beginRecord`, and `endRecord` once the failure is on disk.
   */
  onMemberError(error: MemberError): void;
  /** The same for the target of a member that is copied: its copy has ended when it returns. */
  onTargetError(error: MemberError): void;
  /**
   * Delivers a finished request: 0 or a positive errno. `address` is not 0 where the data of a read
   * lies in another run than was given, which is the client's after `handOver` (FrontCompletion).
   */
  onFinished(client: number, tag: number, status: number, address: number): void;
  /** A bad sector was rewritten from the others and reads again. */
  onRepaired(role: number, bytes: number): void;
  /** Data that no member can give any more. */
  onLost(stripe: number, row: number, roles: number): void;
}
