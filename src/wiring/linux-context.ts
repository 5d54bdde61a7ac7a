/**
 * A reactor on the real kernel, with the context that its service gets.
 *
 * Used by the composition roots. The pool behind the control area is cut in two halves, the
 * engine's first; the payload half also gets the one slab that the memory has beyond the pool.
 */

import { createPools } from "../array/memory-shares.ts";
import type { OpenDrive, ReactorConfig, ReactorMessage } from "../array/protocol.ts";
import type { ReactorContext } from "../array/reactor-context.ts";
import type { Log } from "../base/log.ts";
import { Carver, CONTROL_BYTES, SharedMemory } from "../base/memory.ts";
import { ok, type Result } from "../base/result.ts";
import { ROW_BYTES } from "../base/units.ts";
import { AioDevice } from "../block/aio-device.ts";
import { createParityKernels } from "../parity/kernels.ts";
import { AioQueue } from "../reactor/aio-queue.ts";
import { IoTable } from "../reactor/io-table.ts";
import { LinuxAio } from "../reactor/linux-aio.ts";
import { LinuxRandom, linuxClock } from "../reactor/linux-clock.ts";
import { sizeOf } from "../reactor/linux-descriptors.ts";
import { linuxLoopHost, openEventFd } from "../reactor/linux-mailbox.ts";
import { preferHugePages } from "../reactor/linux-memory.ts";
import { LinuxSockets } from "../reactor/linux-socket.ts";
import { Reactor } from "../reactor/reactor.ts";
import { Timers } from "../reactor/timers.ts";
import { TurnClock } from "../reactor/turn-clock.ts";

/** For one stripe operation of the largest array (raid5/engine.ts) and others beside it. */
export const REQUEST_COUNT = 8192;
/** iocbs of one reactor with the kernel at most. */
export const AIO_EVENT_COUNT = 2048;

/**
 * iocbs per drive with the kernel at most. io_submit blocks the whole reactor once a device queue
 * is full; SATA's holds 32 commands and 64 requests, and others hold more.
 */
const ROTATIONAL_IN_FLIGHT_MAX = 32;
const IN_FLIGHT_MAX = 64;

export interface LinuxReactor {
  readonly context: ReactorContext;
  readonly reactor: Reactor;
  readonly queue: AioQueue;
  readonly aio: LinuxAio;
  readonly eventFd: number;
}

/** The error is the positive errno of io_setup. */
export function createLinuxReactor(options: {
  config: ReactorConfig;
  parityModule?: WebAssembly.Module;
  log: Log;
  post: (message: ReactorMessage) => void;
  onWake: () => void;
  aioSource?: "libaio" | "syscall";
  usesAioRing?: boolean;
}): Result<LinuxReactor, number> {
  const { config, log, post } = options;
  const memory = new SharedMemory(config.memory);
  const carver = new Carver({ start: ROW_BYTES, end: CONTROL_BYTES });
  const aio = LinuxAio.open({
    memory,
    carver,
    eventCount: AIO_EVENT_COUNT,
    source: options.aioSource ?? "libaio",
    usesRing: options.usesAioRing ?? true,
  });
  if (!aio.ok) return aio;
  const eventFd = openEventFd();
  const table = new IoTable(REQUEST_COUNT);
  const queue = new AioQueue({
    kernel: aio.value,
    table,
    carver,
    memory,
    eventFd,
    slotCount: AIO_EVENT_COUNT,
  });
  const clock = new TurnClock(linuxClock);
  const timers = new Timers(clock);
  const reactor = new Reactor({
    clock,
    timers,
    queue,
    sockets: new LinuxSockets({ memory, carver }),
    host: linuxLoopHost,
    eventFd,
    wakeFd: config.wakeFd,
    onWake: options.onWake,
  });
  // The control area is used in places only, and huge pages would fill its gaps; pools are used
  // from their beginning on.
  preferHugePages(config.memory, CONTROL_BYTES);
  const context: ReactorContext = {
    memory,
    carver,
    table,
    ...createPools(config.poolBytes),
    timers,
    loop: reactor,
    clock,
    random: new LinuxRandom(),
    log,
    kernels: createParityKernels(config.memory, options.parityModule),
    config,
    openDevice: (drive) => openDevice(queue, table, drive),
    post,
  };
  return ok({ context, reactor, queue, aio: aio.value, eventFd });
}

function openDevice(queue: AioQueue, table: IoTable, drive: OpenDrive): AioDevice {
  const maxInFlight = drive.isRotational ? ROTATIONAL_IN_FLIGHT_MAX : IN_FLIGHT_MAX;
  const { name, fd, sizeBytes, logicalBlockBytes } = drive;
  const parts = { queue, table, sizeNow: () => sizeOf(fd), maxInFlight };
  return new AioDevice({ name, fd, sizeBytes, logicalBlockBytes, ...parts });
}
