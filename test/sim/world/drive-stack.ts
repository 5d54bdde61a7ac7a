/** A simulated drive with the filters of the product over it, in the product's order. */
import type { SharedMemory } from "../../../src/base/memory.ts";
import { FaultFilter } from "../../../src/block/fault-filter.ts";
import type { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { RetryFilter, type RetryLimits } from "../../../src/block/retry-filter.ts";
import { StatsFilter } from "../../../src/block/stats-filter.ts";
import type { IoTable } from "../../../src/reactor/io-table.ts";
import type { DeviceTrace } from "./device-trace.ts";
import type { DeviceImage } from "./media.ts";
import { type Latency, SimDevice } from "./sim-device.ts";
import type { Simulation } from "./simulation.ts";

export interface DriveStack {
  readonly device: SimDevice;
  readonly faults: FaultFilter;
  readonly stats: StatsFilter;
  readonly retry: RetryFilter;
}

export function buildDriveStack(options: {
  simulation: Simulation;
  table: IoTable;
  memory: SharedMemory;
  router: OutcomeRouter;
  image: DeviceImage;
  latency?: Latency;
  limits?: RetryLimits;
  trace?: DeviceTrace;
}): DriveStack {
  const { simulation, table, memory, router, limits } = options;
  const { timers } = simulation;
  const device = new SimDevice(options);
  const faults = new FaultFilter({ next: device, table, timers, memory });
  const stats = new StatsFilter({ next: faults, table, clock: simulation });
  const retry = new RetryFilter({
    next: stats,
    table,
    timers,
    router,
    ...(limits === undefined ? {} : { limits }),
  });
  return { device, faults, stats, retry };
}
