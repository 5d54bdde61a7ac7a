/**
 * What the kernel's table of TCP sockets says of the connections that a port of this host has
 * accepted: the timer that runs for each, and when it is due.
 */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { until } from "./until.ts";

const ESTABLISHED = "01";
const KEEP_ALIVE = 2;
/** The unit of the table, whatever the kernel's own tick is. */
const TICKS_PER_SECOND = 100;

/** Seconds until each idle connection of `port` is probed; NaN for one that will not be. */
function keepAliveSeconds(port: number): number[] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const rows = readFileSync("/proc/net/tcp", "utf8").split("\n").slice(1);
  const fields = rows.map((row) => row.trim().split(/\s+/));
  return fields
    .filter(([, address = "", , state]) => address.endsWith(local) && state === ESTABLISHED)
    .map(([, , , , , timer = ""]) => {
      const [kind, dueTicks] = timer.split(":").map((text) => Number.parseInt(text, 16));
      return kind === KEEP_ALIVE ? dueTicks! / TICKS_PER_SECOND : Number.NaN;
    });
}

/** There are connections, and an idle one is probed within a minute, not after two hours. */
export async function expectProbes(port: number): Promise<void> {
  // While something sent is not acknowledged, another timer stands there.
  await until("only idle connections", () => !keepAliveSeconds(port).some(Number.isNaN));
  const seconds = keepAliveSeconds(port);
  expect(seconds.length).toBeGreaterThan(0);
  for (const due of seconds) {
    expect(due).toBeGreaterThan(0);
    expect(due).toBeLessThanOrEqual(60);
  }
}
