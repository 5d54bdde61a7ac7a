/** What the engine is given, and how it tells of a member that fails. */

import type { Guard } from "../base/guard.ts";
import type { SharedMemory } from "../base/memory.ts";
import type { OutcomeCode } from "../block/io-error.ts";
import type { OutcomeRegistrar } from "../block/outcome-router.ts";
import type { BufferPool, PoolShare } from "../block/pool.ts";
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
