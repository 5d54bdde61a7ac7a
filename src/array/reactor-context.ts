/**
 * What a reactor hands to the service that runs its arrays: everything from outside, as
 * constructor arguments, so that the same service runs on simulated drives and a virtual clock.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Carver, SharedMemory } from "../base/memory.ts";
import type { Random } from "../base/random.ts";
import type { BlockDevice } from "../block/device.ts";
import type { SlabPool } from "../block/pool.ts";
import type { ParityKernels } from "../parity/kernels.ts";
import type { IoTable } from "../reactor/io-table.ts";
import type { EventLoop } from "../reactor/loop.ts";
import type { Timers } from "../reactor/timers.ts";
import type {
  Command,
  CommandResult,
  OpenDrive,
  ReactorConfig,
  ReactorMessage,
} from "./protocol.ts";

/** The lowest block device of a drive, and what only that one can do. */
export interface DriveDevice extends BlockDevice {
  /** Requests that were submitted and not yet answered (write-rules 10). */
  readonly outstanding: number;
  /**
   * Answers writes, zeroings and flushes that the kernel has not got yet with `-errno`: once two
   * members are gone nothing more is submitted (write-rules 15). Answers how many there were.
   */
  cancelQueuedWrites(errno: number): number;
  /** Ends the use of the drive, with nothing outstanding. Control closes the fd afterwards. */
  close(): void;
}

export interface ReactorContext {
  readonly memory: SharedMemory;
  readonly carver: Carver;
  readonly table: IoTable;
  /** Old data, parity and logs. */
  readonly enginePool: SlabPool;
  /** Payloads of requests from outside. */
  readonly payloadPool: SlabPool;
  readonly timers: Timers;
  readonly loop: EventLoop;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly kernels: ParityKernels;
  readonly config: Omit<ReactorConfig, "memory" | "poolBytes" | "wakeFd">;
  /** The block device over an open drive. */
  openDevice(drive: OpenDrive): DriveDevice;
  /** Sends a message to the control thread. Never per I/O. */
  post(message: ReactorMessage): void;
}

/** What runs in a reactor. Commands are handled concurrently; each gets one answer. */
export interface ReactorService {
  handle(command: Command): Promise<CommandResult>;
}
