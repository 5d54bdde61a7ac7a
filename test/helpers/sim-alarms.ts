/** The alarms of a simulation: time and timers of what runs on the control thread. */
import type { Alarms } from "../../src/appliance/state/alarms.ts";
import type { Simulation } from "../sim/world/simulation.ts";

/** `isAlive` is false from when the process that set an alarm has ended. */
export function simAlarms(simulation: Simulation, isAlive: () => boolean = () => true): Alarms {
  return {
    nowMs: () => simulation.nowMs(),
    wallMs: () => simulation.wallMs(),
    after: (delayMs, callback) => {
      let isCancelled = false;
      simulation.scheduleAfter(delayMs, () => {
        if (!isCancelled && isAlive()) callback();
      });
      return () => {
        isCancelled = true;
      };
    },
  };
}
