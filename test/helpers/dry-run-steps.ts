/** How the situations of dry-run-situations.ts are made. */
import { expect } from "bun:test";
import type { FakeNbdDriver } from "./fake-nbd-driver.ts";
import {
  addTestArray,
  type SimAppliance,
  type SimApplianceOptions,
  startSimAppliance,
} from "./sim-appliance.ts";
import { diskAt, hostWithDisks, TEST_ARRAY, unplug } from "./sim-reactor.ts";

export interface Situation {
  readonly name: string;
  readonly make: () => Promise<SimAppliance>;
  readonly path: string;
  readonly body?: unknown;
  /** Where the body is of what was made. */
  readonly bodyOf?: (daemon: SimAppliance) => unknown;
  /** Of the problem; absent: it is taken. */
  readonly code?: string;
  /** How the bodies are held against each other, where they are not simply alike. */
  // biome-ignore lint/suspicious/noExplicitAny: bodies are whatever was answered.
  readonly same?: (dry: any, real: any) => void;
}

interface More extends Partial<Pick<Situation, "path" | "body" | "bodyOf" | "same">> {
  readonly query?: string;
}

/** Its path is that of the operation, where it has none of its own. */
type Entry = Omit<Situation, "path"> & More;

/** Situations of one operation. */
export function at(path: string, entries: readonly Entry[]): Situation[] {
  return entries.map(({ query, ...entry }) => {
    const to = entry.path ?? path;
    return { ...entry, path: query === undefined ? to : `${to}?${query}` };
  });
}

export function taken(name: string, make: Situation["make"], more: More = {}): Entry {
  return { name, make, ...more };
}

export function refused(name: string, code: string, make: Situation["make"], more?: More): Entry {
  return { name, code, make, ...more };
}

export const ARRAY = `/v1/arrays/${TEST_ARRAY}`;

const LIMIT = { limitMs: 60_000 };

type Step = (daemon: SimAppliance) => Promise<unknown> | unknown;

/** Drives a to d, the array raid_test of the first three, and then these steps. */
export function withArray(...steps: Step[]): () => Promise<SimAppliance> {
  return withArrayOn({}, ...steps);
}

/** On a host whose kernel has so many NBD devices, in memory. */
export function withDevices(driver: () => FakeNbdDriver, ...steps: Step[]) {
  return () => withArrayOn({ nbdDriver: driver() }, exported, ...steps)();
}

function withArrayOn(options: SimApplianceOptions, ...steps: Step[]): () => Promise<SimAppliance> {
  return async () => {
    const daemon = await startSimAppliance(options);
    await addTestArray(daemon);
    for (const step of steps) await step(daemon);
    return daemon;
  };
}

export function withDrives(...steps: Step[]): () => Promise<SimAppliance> {
  return async () => {
    const daemon = await startSimAppliance();
    for (const name of ["a", "b", "c", "d"]) await added(name)(daemon);
    for (const step of steps) await step(daemon);
    return daemon;
  };
}

/** Drives a to c are sparse files of one file system. */
export function withFiles(): () => Promise<SimAppliance> {
  return async () => {
    const host = hostWithDisks([]);
    const [fileSystem] = host.fileSystems;
    const daemon = await startSimAppliance({ host });
    for (const name of ["a", "b", "c"]) {
      const { path } = host.addDisk({ fileSystem });
      await does("POST", "/v1/drives", { name, path })(daemon);
    }
    return daemon;
  };
}

/** A call that must be taken. */
export function does(method: string, path: string, body?: unknown): Step {
  return async ({ call }) => {
    const response = await call(method, path, body);
    expect([method, path, response.status, response.ok ? "" : await response.text()]).toEqual([
      ...[method, path, response.status, ""],
    ]);
  };
}

export const added = (name: string): Step =>
  does("POST", "/v1/drives", { name, path: `/dev/${name}` });
export const stopped = (array: string = TEST_ARRAY) => does("POST", `/v1/arrays/${array}/stop`);
export const degraded = does("POST", `${ARRAY}/members/b/fail`);
export const readOnly: Step = async (daemon) => {
  await stopped()(daemon);
  await does("POST", `${ARRAY}/start`, { readOnly: true })(daemon);
};
export const deleted = does("DELETE", ARRAY);
export const slow = { limitBytesPerSecond: 1 };
export const scrubbed = does("POST", `${ARRAY}/scrub`, slow);
export const exported = does("PUT", "/v1/exports/disk", { array: TEST_ARRAY });
/** It is attached at each start, too. */
export const attached = does("POST", "/v1/exports/disk/attach", { atStart: true });
export const spare = does("POST", `${ARRAY}/members`, { drive: "d", force: true });
export const shared = does("PUT", "/v1/spares/d", {});
export const scheduled = does("PUT", `/v1/schedules/${TEST_ARRAY}`, { cron: "0 1 * * *" });
/** A client has the export open. */
export const client: Step = async ({ reactor }) => {
  const { world } = reactor;
  const dialled = world.simulation.settle(world.dial("disk"), LIMIT);
  expect(dialled.ok).toBe(true);
};
export const smallDrive: Step = async (daemon) => {
  daemon.host.addDisk({ tellsId: false, sizeBytes: 64 * 1024 }).path = "/dev/small";
  await does("POST", "/v1/drives", { name: "small", path: "/dev/small" })(daemon);
};
/** Another array of the drives e, f and g. */
export const other: Step = async (daemon) => {
  for (const name of ["e", "f", "g"]) {
    daemon.host.addDisk({ tellsId: false }).path = `/dev/${name}`;
    await added(name)(daemon);
  }
  const made = { name: "other", drives: ["e", "f", "g"], assumeClean: true, force: true };
  await does("POST", "/v1/arrays", made)(daemon);
  daemon.reactor.world.settle({ array: "other" });
};
/** The array is away: its drives are not there at this start. */
export async function absent(): Promise<SimAppliance> {
  const before = await withArray()();
  for (const path of ["/dev/a", "/dev/b", "/dev/c"]) unplug(before.host, path);
  return startSimAppliance({ host: before.host, store: before.store });
}
/** Stopped, and a member is gone. */
export const lacking: Step = async (daemon) => {
  await stopped()(daemon);
  await does("DELETE", "/v1/drives/b")(daemon);
};
export const twoGone: Step = async (daemon) => {
  await lacking(daemon);
  await does("DELETE", "/v1/drives/c")(daemon);
};
/** An array that is another installation's. */
export async function takenOver(): Promise<SimAppliance> {
  const before = await withArray(stopped())();
  return startSimAppliance({ host: before.host });
}
export async function almostTakenOver(): Promise<SimAppliance> {
  const daemon = await takenOver();
  for (const name of ["a", "b"]) await added(name)(daemon);
  return daemon;
}
/** The daemon was killed while clients wrote, and a member is gone since. */
export function killed(policy: "ppl" | "bitmap" | "resync"): () => Promise<SimAppliance> {
  return async () => {
    const policyIs = does("PATCH", ARRAY, { consistencyPolicy: policy });
    const before = await withArray(policyIs, exported)();
    const { world } = before.reactor;
    const dialled = world.simulation.settle(world.dial("disk"), LIMIT);
    const written = dialled.ok ? dialled.value.write(0, new Uint8Array(4096)) : Promise.resolve(-1);
    expect(world.simulation.settle(written, LIMIT)).toBe(0);
    unplug(before.host, "/dev/b");
    return startSimAppliance({ host: before.host, store: before.store });
  };
}
/** Another host holds the reservation of the disk there. */
export function withFence(make: Situation["make"], path: string): Situation["make"] {
  return async () => {
    const daemon = await make();
    diskAt(daemon.host, path).isFenced = true;
    return daemon;
  };
}
/** state.db is full. */
export function full(make: () => Promise<SimAppliance>): () => Promise<SimAppliance> {
  return async () => {
    const daemon = await make();
    const { store } = daemon;
    const room = { ok: false, error: { kind: "full", detail: "no room" } };
    Object.assign((store as unknown as { file: object }).file, { hasRoom: () => room });
    return daemon;
  };
}

/** Of an array that nobody knows. */
export function unknown(path: string, body?: unknown): Situation {
  const name = "unknown array";
  return { name, make: withArray(), path, body, code: "unknown-array" };
}

const documents = new WeakMap<SimAppliance, object>();

/** The document that a daemon is to be given. */
export function bodyOf(daemon: SimAppliance): unknown {
  return documents.get(daemon);
}

async function documentOf({ call }: SimAppliance): Promise<object> {
  return (await (await call("GET", "/v1/configuration")).json()) as object;
}

export const kept: Step = async (daemon) => documents.set(daemon, await documentOf(daemon));
export const renamed = does("PATCH", ARRAY, { name: "tank", syncSpeedMax: 5_000 });

/** A host that has lost its state.db, and is given what was in it. */
export async function forgotten(): Promise<SimAppliance> {
  const before = await withArray(exported, scheduled, shared, renamed, stopped("tank"))();
  const document = await documentOf(before);
  const daemon = await startSimAppliance({ host: before.host });
  documents.set(daemon, document);
  return daemon;
}

/** The document has an export read-only that a client has open for writing. */
export const toReadOnly: Step = async (daemon) => {
  await does("PUT", "/v1/exports/disk", { array: TEST_ARRAY, readOnly: true })(daemon);
  await kept(daemon);
  await exported(daemon);
  await client(daemon);
};

/** One drive of the document cannot be found, the others can. */
export async function aDriveIsAway(): Promise<SimAppliance> {
  const daemon = await forgotten();
  unplug(daemon.host, "/dev/d");
  return daemon;
}

export const CREATE = { name: "tank", drives: ["a", "b", "c"], force: true };
