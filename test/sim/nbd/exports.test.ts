/**
 * Goal: an export serves the array whose uuid it was made with, or nothing: whatever is plugged in,
 * deleted or created under the same name, in whatever order; clients wait while it starts; and no
 * array is taken from under its clients without force.
 * Method: the whole reactor over simulated drives and sockets. Two arrays of one name, told apart
 * by the byte that fills them, arrive in every order of their drives.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../../src/base/units.ts";
import { OptionReply } from "../../../src/nbd/wire-format.ts";
import type { DeviceImage } from "../world/media.ts";
import type { SocketClient } from "../world/sim-clients.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

interface Made {
  readonly uuid: string;
  readonly images: DeviceImage[];
  readonly fill: number;
}

const ROW = 4096;

function made(prefix: string, fill: number): Made {
  const world = new SimWorld({ seed: fill });
  const names = ["a", "b", "c"].map((name) => prefix + name);
  for (const name of names) world.addDrive({ name, sizeBytes: 4 * MIB });
  const { uuid } = world.createArray({ drives: names, chunkBytes: ROW, memberSizeBytes: 8 * ROW });
  world.settle();
  const client = world.client();
  expect(world.run(client.write(0, new Uint8Array(ROW).fill(fill), { fua: true }))).toBe(0);
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  return { uuid, images: world.images(), fill };
}

const ONE = made("one-", 17);
const TWO = made("two-", 34);
const BOTH = [ONE, TWO];

function put(world: SimWorld, name: string, array: string): void {
  world.must<"put-export">({ kind: "put-export", name, array, readOnly: false });
}

function isServed(world: SimWorld): Record<string, boolean> {
  const exports = world.must<"list-exports">({ kind: "list-exports" });
  return Object.fromEntries(exports.map((entry) => [entry.name, entry.isServed]));
}

/** What the first byte of an export reads, or why it cannot be opened. */
function firstByte(world: SimWorld, name: string): number | string {
  const dialled = world.run(world.dial(name));
  if (!dialled.ok) return dialled.error.kind === "refused" ? dialled.error.detail : "hung up";
  const read = world.run(dialled.value.read(0, ROW));
  dialled.value.transport.close();
  world.simulation.runFor(10);
  return read.status === 0 ? read.data[0]! : read.status;
}

/** All orders in which two drives of three of each, and then the rest, can come: by who is next. */
function arrivals(): string[] {
  const orders: string[] = [];
  for (let code = 0; code < 64; code += 1) {
    const order = code.toString(2).padStart(6, "0");
    if (order.replaceAll("0", "").length === 3) orders.push(order);
  }
  return orders;
}

test("exports: two arrays of one name, in every order of their drives: each serves its own", () => {
  const orders = arrivals();
  expect(orders.length).toBe(20);
  for (const order of orders) {
    const world = new SimWorld({ seed: 3, withNbd: true });
    // Before any drive is there, as at a start.
    put(world, "one", ONE.uuid);
    put(world, "two", TWO.uuid);
    expect(isServed(world)).toEqual({ one: false, two: false });
    const next = [0, 0];
    for (const digit of order) {
      const which = Number(digit);
      const image = BOTH[which]!.images[next[which]!]!;
      next[which] = next[which]! + 1;
      world.plug(image);
      expect(world.attach(image.name).ok).toBe(true);
      // Whoever has got the name: only a complete array is served, under its own export.
      expect(isServed(world)).toEqual({ one: next[0] === 3, two: next[1] === 3 });
    }
    expect([firstByte(world, "one"), firstByte(world, "two")]).toEqual([17, 34]);
  }
});

test("exports: an array that is deleted, and another of its name: nothing is served", () => {
  const world = SimWorld.restart(ONE.images, { seed: 4, withNbd: true });
  put(world, "x", ARRAY_NAME);
  world.must({ kind: "exports-settle" });
  expect(firstByte(world, "x")).toBe(17);
  world.must({ kind: "delete-array", array: ARRAY_NAME, zeroSuperblocks: true });
  expect(isServed(world)).toEqual({ x: false });
  for (const image of TWO.images) {
    world.plug(image);
    world.attach(image.name);
  }
  expect(world.status(ARRAY_NAME).uuid).toBe(TWO.uuid);
  expect(isServed(world)).toEqual({ x: false });
  expect(firstByte(world, "x")).toBe(`array ${ONE.uuid} is not here`);
  // On purpose, by the operator.
  put(world, "x", ARRAY_NAME);
  expect(firstByte(world, "x")).toBe(34);
});

test("exports: for an array that is not here: made; for a name that nobody has: refused", () => {
  const world = new SimWorld({ seed: 5, withNbd: true });
  put(world, "x", ONE.uuid);
  const [only] = world.must<"list-exports">({ kind: "list-exports" });
  expect(only).toEqual({
    ...{ name: "x", array: ONE.uuid, readOnly: false, connections: 0, isServed: false },
  });
  const request = { kind: "put-export", name: "y", array: ARRAY_NAME, readOnly: false } as const;
  const refused = world.call<"put-export">(request);
  expect(!refused.ok && [refused.error.kind, refused.error.code]).toEqual([
    "not-found",
    "unknown-array",
  ]);
});

test("exports: clients that come during the start: served as soon as their array is there", () => {
  const world = new SimWorld({ seed: 6, withNbd: true });
  put(world, "one", ONE.uuid);
  put(world, "two", TWO.uuid);
  const early = [world.dial("one"), world.dial("two")];
  world.simulation.runFor(20_000);
  for (const image of ONE.images) {
    world.plug(image);
    world.attach(image.name);
  }
  const first = world.run(early[0]!);
  expect(first.ok && world.run(first.value.read(0, ROW)).data[0]).toBe(17);
  // The start is over: what has not come is not awaited any more.
  world.must({ kind: "exports-settle" });
  const second = world.run(early[1]!);
  expect(!second.ok && second.error).toEqual({
    kind: "refused",
    reply: OptionReply.errorUnknown,
    detail: `array ${TWO.uuid} is not here`,
  });
});

test("exports: an array that waits for a drive: its clients hear that, after a minute", () => {
  const world = new SimWorld({ seed: 7, withNbd: true });
  put(world, "one", ONE.uuid);
  for (const image of ONE.images.slice(0, 2)) {
    world.plug(image);
    world.attach(image.name);
  }
  const fromMs = world.nowMs;
  const dialled = world.run(world.dial("one"));
  expect(world.nowMs - fromMs).toBeWithin(60_000, 60_100);
  expect(!dialled.ok && dialled.error).toEqual({
    kind: "refused",
    reply: OptionReply.errorShutdown,
    detail:
      `array ${ARRAY_NAME} does not run: waiting for role 2: ` +
      "connect the drive, or start the array to run degraded",
  });
});

test("exports: while an array starts: its clients wait, also once the start phase is over", () => {
  const world = SimWorld.restart(ONE.images, { seed: 8, withNbd: true });
  put(world, "one", ONE.uuid);
  world.must({ kind: "exports-settle" });
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(firstByte(world, "one")).toBe(`array ${ARRAY_NAME} is stopped`);
  const start = { array: ARRAY_NAME, force: false, readOnly: false };
  const starting = world.command<"start-array">({ kind: "start-array", ...start });
  const dialled = world.run(world.dial("one"));
  expect(dialled.ok && world.run(dialled.value.read(0, ROW)).data[0]).toBe(17);
  expect(world.run(starting).ok).toBe(true);
});

test("exports: a start that fails: whoever waits for it is told why at once", () => {
  const world = SimWorld.restart(ONE.images, { seed: 9, withNbd: true });
  put(world, "one", ONE.uuid);
  world.must({ kind: "exports-settle" });
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  for (const { name } of ONE.images.slice(0, 2)) {
    world.must<"detach-drive">({ kind: "detach-drive", name, force: true });
  }
  const start = { array: ARRAY_NAME, force: false, readOnly: false };
  const starting = world.command<"start-array">({ kind: "start-array", ...start });
  const dialled = world.dial("one");
  expect(world.run(starting).ok).toBe(false);
  const fromMs = world.nowMs;
  const refused = world.run(dialled);
  expect(world.nowMs - fromMs).toBeLessThan(1000);
  expect(!refused.ok && refused.error).toMatchObject({
    reply: OptionReply.errorUnknown,
    detail: expect.stringContaining("does not run: "),
  });
});

function connected(world: SimWorld, name: string): SocketClient {
  const dialled = world.run(world.dial(name));
  if (!dialled.ok) throw new Error(JSON.stringify(dialled.error));
  return dialled.value;
}

for (const kind of ["stop-array", "delete-array"] as const) {
  test(`exports: ${kind} with clients: refused with how many, until they go or it is forced`, () => {
    const world = SimWorld.restart(ONE.images, { seed: 10, withNbd: true });
    put(world, "one", ONE.uuid);
    put(world, "other", ARRAY_NAME);
    const clients = [connected(world, "one"), connected(world, "other"), connected(world, "one")];
    const request = { array: ARRAY_NAME, zeroSuperblocks: true };
    const attempt = (force?: boolean) =>
      world.call<typeof kind>({ kind, ...request, ...(force === undefined ? {} : { force }) });
    const texts: string[] = [];
    for (const force of [undefined, false]) {
      const refused = attempt(force);
      expect(!refused.ok && [refused.error.kind, refused.error.code]).toEqual([
        "conflict",
        "clients-connected",
      ]);
      if (!refused.ok) texts.push(refused.error.detail);
    }
    expect(texts[0]).toBe(
      `3 clients are connected to export one, other of array ${ARRAY_NAME}: ` +
        "disconnect them, or say force=true",
    );
    expect(world.run(clients[1]!.read(0, ROW)).data[0]).toBe(17);
    for (const client of clients.slice(1)) client.transport.close();
    world.simulation.runFor(10);
    const one = attempt();
    expect(!one.ok && one.error.detail).toStartWith("1 client is connected to export one of");
    expect(attempt(true).ok).toBe(true);
    expect(world.run(clients[0]!.flush())).toBe(108);
  });

  test(`exports: ${kind} when the last client has gone: needs no force`, () => {
    const world = SimWorld.restart(ONE.images, { seed: 11, withNbd: true });
    put(world, "one", ONE.uuid);
    connected(world, "one").transport.close();
    world.simulation.runFor(10);
    const request = { array: ARRAY_NAME, zeroSuperblocks: false };
    expect(world.call<typeof kind>({ kind, ...request }).ok).toBe(true);
  });
}
