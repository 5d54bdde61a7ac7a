/**
 * What a dry run is held against: all that there is on a simulated daemon (`snapshot`), and the
 * answer of the call itself (`sameAnswer`).
 */
import { expect } from "bun:test";
import type { Command } from "../../src/array/protocol.ts";
import type { SimAppliance } from "./sim-appliance.ts";

/** What is measured, or tells the time: no two looks at it are alike. */
const VOLATILE = new Set([
  ...["io", "forecast", "candidates", "syncRates", "sharedSpares", "rateBytesPerSecond"],
  ...[
    "trouble",
    "etaSeconds",
    "window",
    "next",
    "recording",
    "latencies",
    "answers",
    "doneBytes",
    "done",
  ],
]);
/** Absent from a dry run's answer, where only the doing gives it. */
const NOT_YET = new Set([
  "id",
  "uuid",
  "arrayUuid",
  "startedAt",
  "finishedAt",
  "eventCount",
  "smart",
]);
/** Commands that change nothing, whoever sends them. */
const READERS = /^(list-|get-|fit-drive|note-content|check-fail|nbd-stats|latencies)/;

const SHOWN = [
  ...["/v1/drives", "/v1/arrays", "/v1/exports", "/v1/spares", "/v1/schedules", "/v1/jobs"],
  ...["/v1/configuration", "/v1/log", "/v1/faults"],
];

export interface Snapshot {
  readonly rows: readonly string[];
  readonly disks: readonly string[];
  readonly shown: readonly unknown[];
}

export async function snapshot({ store, host, call }: SimAppliance): Promise<Snapshot> {
  const rows = [...store.state.asChanges()].map((row) => JSON.stringify(quiet(row)));
  const disks = [...host.disks.values()].map((disk) => {
    const { pages } = host.imageOf(disk);
    const sum = new Bun.CryptoHasher("sha256");
    for (const [page, bytes] of [...pages].sort(([one], [other]) => one - other)) {
      sum.update(`${page}`).update(bytes);
    }
    const { id, path, isAllocated } = disk;
    const changes = disk.device?.changeCount ?? 0;
    return JSON.stringify({
      id,
      path,
      isAllocated,
      isOpen: host.isOpen(disk),
      changes,
      sum: sum.digest("hex"),
    });
  });
  const shown: unknown[] = [];
  for (const path of SHOWN) shown.push([path, quiet(await (await call("GET", path)).json())]);
  return { rows, disks, shown };
}

/** What follows from what was done before has been done. */
export async function atRest(daemon: SimAppliance): Promise<void> {
  let before = "";
  for (;;) {
    // Longer than an event waits to be looked at (OBSERVE_MS); nothing says that there is none.
    await Bun.sleep(60);
    const rows = JSON.stringify([...daemon.store.state.asChanges()]);
    const now = `${daemon.reactor.commands.length} ${rows}`;
    if (now === before) return;
    before = now;
  }
}

/** Of the commands that were sent from `first` on: those that were carried out. */
export function carriedOut({ reactor }: SimAppliance, first: number): Command[] {
  return reactor.commands.slice(first).filter((command) => {
    return !READERS.test(command.kind) && !("dryRun" in command && command.dryRun === true);
  });
}

/** A value without what no two looks have alike. */
export function quiet(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, each: unknown) => (VOLATILE.has(key) ? undefined : each)) ?? "null",
  );
}

/** The body of the call with that of its dry run: alike but for what only the doing gives. */
export function sameBody(dry: unknown, real: unknown): void {
  expect(quiet(dry)).toEqual(withoutNotYet(quiet(dry), quiet(real)));
}

function withoutNotYet(dry: unknown, real: unknown): unknown {
  if (Array.isArray(dry) && Array.isArray(real)) {
    return real.map((each, index) => withoutNotYet(dry[index], each));
  }
  if (!isObject(dry) || !isObject(real)) return real;
  const known = Object.entries(real).filter(([key]) => key in dry || !NOT_YET.has(key));
  return Object.fromEntries(known.map(([key, each]) => [key, withoutNotYet(dry[key], each)]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
