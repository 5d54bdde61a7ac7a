/**
 * Goal: the write rules hold in the order in which requests reach the drives, one by one.
 * Method: small arrays in the simulator whose drives record everything; what must come before what
 * is read off the trace. Rules about states and refusals are asked of the real service.
 */
import { expect, test } from "bun:test";
import { EIO } from "../../../src/base/errno.ts";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, ROW_BYTES } from "../../../src/base/units.ts";
import { SLAB_BYTES } from "../../../src/block/pool.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { TEST_POOL_BYTES } from "../../helpers/memory.ts";
import { DeviceTrace } from "../world/device-trace.ts";
import { blankImage, type DeviceImage, patchImage } from "../world/media.ts";
import { areasOf, parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import type { SimClient } from "../world/sim-clients.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const DRIVE_BYTES = 4 * MIB;
const DATA = MIB;
/** More requests than either pool has buffers, which are handed out in turn. */
const REUSE_COUNT = TEST_POOL_BYTES / SLAB_BYTES;

interface Made {
  readonly world: SimWorld;
  readonly client: SimClient;
  readonly trace: DeviceTrace;
  /** In the order of their roles. */
  readonly names: readonly string[];
}

interface MakeOptions {
  readonly count?: number;
  readonly chunkKib?: number;
  readonly stripes?: number;
  readonly isSettled?: boolean;
  readonly image?: (name: string) => DeviceImage;
}

function make(options: MakeOptions = {}): Made {
  const { count = 4, chunkKib = 4, stripes = 6, isSettled = true } = options;
  const trace = new DeviceTrace();
  const world = new SimWorld({ seed: 5, trace });
  const names = Array.from({ length: count }, (_, role) => `d${role}`);
  for (const name of names) {
    world.plug(options.image?.(name) ?? blankImage({ name, sizeBytes: DRIVE_BYTES }));
    world.attach(name);
  }
  const chunkBytes = chunkKib * KIB;
  const memberSizeBytes = stripes * chunkBytes;
  world.createArray({ drives: names, chunkBytes, memberSizeBytes, force: true });
  if (isSettled) world.settle();
  return { world, client: world.client(), trace, names };
}

function bytesOf(count: number, fill: number): Uint8Array {
  return new Uint8Array(count).fill(fill);
}

/** Data row `row` of the array, in chunks of one row: which drive has it, and the parity. */
function placeOf(count: number, row: number): { data: number; parity: number; memberRow: number } {
  const stripe = Math.floor(row / (count - 1));
  const parity = count - 1 - (stripe % count);
  return { data: (parity + 1 + (row % (count - 1))) % count, parity, memberRow: stripe };
}

/** What reached the drives since event `from`, as "submit d1 data 0" and so on. */
function storyOf(trace: DeviceTrace, world: SimWorld, from: number): string[] {
  const names = [...world.devices.keys()];
  const kindOf = (device: number, offset: number): string => {
    const areas = areasOf(world.device(names[device]!).image());
    const area = areas.find((each) => offset >= each.offset && offset < each.offset + each.bytes);
    if (area === undefined) return "nowhere";
    return area.name === "data" ? `data ${(offset - area.offset) / ROW_BYTES}` : area.name;
  };
  const writes = new Map<string, string>();
  return trace.events.flatMap((each, index) => {
    if (each.kind === "mark") return index < from ? [] : [String(each.mark)];
    const { device, event } = each;
    const name = names[device]!;
    if (event.kind === "submit") {
      writes.set(`${device} ${event.write}`, kindOf(device, event.offset));
    }
    if (index < from) return [];
    if (event.kind === "submit" || event.kind === "complete") {
      // With FUA a write that has completed is durable.
      const isDurable = event.kind === "complete" && event.isFua;
      const what = isDurable ? "durable" : event.kind;
      return [`${what} ${name} ${writes.get(`${device} ${event.write}`)}`];
    }
    return event.kind === "flush-submit" || event.kind === "flush-complete"
      ? [`${event.kind} ${name}`]
      : [];
  });
}

/** Whether each of these comes, in this order. */
function comesInOrder(story: readonly string[], wanted: readonly string[]): boolean {
  let at = 0;
  for (const line of story) if (line === wanted[at]) at += 1;
  return at === wanted.length;
}

function superblocks(world: SimWorld): (Superblock | string)[] {
  return world.images().map((image) => superblockOf(image));
}

function noisy(name: string): DeviceImage {
  const noise = new Uint8Array(256 * KIB);
  fillRandom(new SeededRandom(name.charCodeAt(1)), noise);
  return patchImage(blankImage({ name, sizeBytes: DRIVE_BYTES }), DATA, noise);
}

test("rule 1: a small write to a row that was never in sync: its parity is right at once", () => {
  const { world, client } = make({ count: 5, isSettled: false, image: noisy });
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 4 * KIB });
  const row = 4 * 5;
  expect(world.run(client.write(row * ROW_BYTES, bytesOf(ROW_BYTES, 7)))).toBe(0);
  expect(world.status().sync.action).toBe("resync");
  const wrong = parityMismatches(viewMembers(world.images()));
  expect(wrong).not.toContain(5 * ROW_BYTES);
  expect(wrong.length).toBeGreaterThan(0);
});

test("rule 3: two merged writes far apart: no row between them is written", () => {
  const { world, client, trace } = make({ count: 4, chunkKib: 32, stripes: 2 });
  const chunk = 32 * KIB;
  const from = trace.events.length;
  const first = client.write(3 * ROW_BYTES, bytesOf(ROW_BYTES, 1));
  // These wait for the stripe and become one plan.
  const others = [
    client.write(0, bytesOf(ROW_BYTES, 2)),
    client.write(chunk + 6 * ROW_BYTES, bytesOf(ROW_BYTES, 3)),
  ];
  world.run(Promise.all([first, ...others]));
  const rows = storyOf(trace, world, from)
    .filter((line) => line.startsWith("submit") && line.includes(" data "))
    .map((line) => line.slice("submit ".length));
  expect(new Set(rows)).toEqual(
    new Set(["d0 data 3", "d3 data 3", "d0 data 0", "d3 data 0", "d1 data 6", "d3 data 6"]),
  );
  for (const each of trace.events.slice(from)) {
    if (each.kind !== "device" || each.event.kind !== "submit") continue;
    expect(each.event.length).toBe(ROW_BYTES);
  }
});

test("rule 4: a write takes long, and many others come and go: its buffers do not change", () => {
  const { world, client, names } = make({ count: 4 });
  for (const name of names) {
    const place = { op: Op.write, offset: DATA, bytes: ROW_BYTES };
    world.device(name).faults.plan({ ...place, fault: { kind: "slow", delayMs: 30_000 } });
  }
  const long = client.write(0, bytesOf(ROW_BYTES, 200));
  // More than there are buffers, so that each one is handed out again.
  for (let turn = 0; turn < REUSE_COUNT; turn += 1) {
    world.run(client.write((3 + (turn % 15)) * ROW_BYTES, bytesOf(1024, turn)));
  }
  // The simulated drives compare each buffer at completion with what was submitted.
  expect(world.run(long)).toBe(0);
  expect(world.check()).toBe(0);
});

test("rule 7: the clean mark: after a flush of every member that was written", () => {
  const { world, client, trace } = make();
  const from = trace.events.length;
  world.run(client.write(0, bytesOf(3 * ROW_BYTES, 9)));
  world.settle();
  const flushed = new Set<number>();
  const pending = new Set<number>();
  let cleanMarks = 0;
  for (const each of trace.events.slice(from)) {
    if (each.kind !== "device") continue;
    const { device, event } = each;
    if (event.kind === "complete") flushed.delete(device);
    if (event.kind === "flush-submit") pending.add(device);
    if (event.kind === "flush-complete" && pending.delete(device)) flushed.add(device);
    if (event.kind !== "submit") continue;
    if (event.offset !== SUPERBLOCK_OFFSET_BYTES) continue;
    const decoded = decodeSuperblock(event.bytes!, { deviceBytes: DRIVE_BYTES });
    if (!decoded.ok || decoded.value.resyncOffsetSectors !== null) continue;
    cleanMarks += 1;
    // The first of the marks: those after it see the completions of the marks themselves.
    if (cleanMarks === 1) expect([...flushed].sort()).toEqual([0, 1, 2, 3]);
  }
  expect(cleanMarks).toBe(4);
});

test("rule 8: a write to a lost row: parity entered first, data durable, then its own entry", () => {
  const { world, client, trace, names } = make();
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 3)));
  world.run(client.flush());
  world.settle();
  const { data, parity, memberRow } = placeOf(4, 0);
  const other = placeOf(4, 1).data;
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: names[other]! });
  world.device(names[data]!).addLatent(DATA + memberRow * ROW_BYTES);
  expect(world.run(client.read(0, ROW_BYTES)).status).toBe(EIO);
  const from = trace.events.length;
  expect(world.run(client.write(0, bytesOf(ROW_BYTES, 4)))).toBe(0);
  const story = storyOf(trace, world, from);
  const own = names[data]!;
  const wanted = [
    `submit ${names[parity]!} bad-block log`,
    `durable ${names[parity]!} bad-block log`,
    `submit ${own} data ${memberRow}`,
    `durable ${own} data ${memberRow}`,
    `submit ${own} bad-block log`,
    `durable ${own} bad-block log`,
  ];
  expect([story, comesInOrder(story, wanted)]).toEqual([story, true]);
  expect(world.run(client.read(0, ROW_BYTES)).data).toEqual(bytesOf(ROW_BYTES, 4));
});

test("rule 9: a row that cannot be written: its entry is durable before the acknowledgement", () => {
  const { world, client, trace, names } = make();
  const { data } = placeOf(4, 0);
  world.device(names[data]!).faults.plan({
    op: Op.write,
    offset: DATA,
    bytes: ROW_BYTES,
    fault: { kind: "result", result: -EIO },
    count: 100,
  });
  const from = trace.events.length;
  const written = client.write(0, bytesOf(ROW_BYTES, 5)).then((status) => {
    trace.mark(`answer ${status}`);
  });
  world.run(written);
  const story = storyOf(trace, world, from);
  const own = names[data]!;
  const wanted = [
    `durable ${own} bad-block log`,
    `submit ${own} superblock`,
    `durable ${own} superblock`,
    "answer 0",
  ];
  expect([story, comesInOrder(story, wanted)]).toEqual([story, true]);
  expect(world.status().degraded).toBe(0);
  expect(world.run(client.read(0, ROW_BYTES)).data).toEqual(bytesOf(ROW_BYTES, 5));
});

test("rule 9: a row without redundancy that cannot be written: EIO, the member stays", () => {
  const { world, client, names } = make();
  const { data, parity } = placeOf(4, 0);
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: names[parity]! });
  world.device(names[data]!).faults.plan({
    op: Op.write,
    offset: DATA,
    bytes: ROW_BYTES,
    fault: { kind: "result", result: -EIO },
    count: 100,
  });
  expect(world.run(client.write(0, bytesOf(ROW_BYTES, 5)))).toBe(EIO);
  expect(world.status().degraded).toBe(1);
  expect(world.status().state).not.toBe("failed");
});

test("rule 9: a resync cannot write a row of parity: nobody goes by what is there", () => {
  const image = (name: string) => {
    const noise = bytesOf(2 * MIB, name.charCodeAt(1));
    return patchImage(blankImage({ name, sizeBytes: DRIVE_BYTES }), DATA, noise);
  };
  const { world, client, names } = make({ count: 3, isSettled: false, image });
  const { data, parity } = placeOf(3, 0);
  const bad = { op: Op.write, offset: DATA, bytes: ROW_BYTES, count: 1000 } as const;
  world.device(names[parity]!).faults.plan({ ...bad, fault: { kind: "result", result: -EIO } });
  world.settle();
  expect(world.status().degraded).toBe(0);
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: names[data]! });
  expect(world.run(client.read(0, ROW_BYTES)).status).toBe(EIO);
  expect(world.run(client.read(2 * ROW_BYTES, ROW_BYTES)).status).toBe(0);
});

test("rule 10: a drive with a request outstanding: neither re-added nor let go", () => {
  const { world, client, names } = make();
  const drive = names[placeOf(4, 0).data]!;
  world.device(drive).hang();
  void client.write(0, bytesOf(ROW_BYTES, 6));
  world.simulation.runFor(500);
  const failed = world.command<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive });
  world.simulation.runFor(1000);
  void failed;
  const add = () =>
    world.call<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive, force: true });
  const refused = add();
  expect(refused.ok ? "added" : refused.error.code).toBe("drive-busy");
  world.call({ kind: "remove-member", array: ARRAY_NAME, drive });
  const kept = world.call<"detach-drive">({ kind: "detach-drive", name: drive, force: true });
  expect(kept.ok ? "let go" : kept.error.code).toBe("drive-busy");
  world.device(drive).release();
  world.simulation.runFor(1000);
  expect(add().ok).toBe(true);
});

test("rule 10: the buffer of a hung read: nobody else gets it, and the answer does no harm", () => {
  const { world, client, names } = make();
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, readDeadlineMs: 100 });
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 8)));
  const device = world.device(names[placeOf(4, 0).data]!);
  device.faults.plan({ op: Op.read, fault: { kind: "hang" } });
  const { status, data } = world.run(client.read(0, ROW_BYTES));
  expect([status, data[0]]).toEqual([0, 8]);
  for (let turn = 0; turn < REUSE_COUNT; turn += 1) {
    world.run(client.write((turn % 18) * ROW_BYTES, bytesOf(ROW_BYTES, turn)));
    // The drive looks at the buffer of each request that is out: its poison has to be there.
    device.checkBuffers();
  }
  device.release();
  world.simulation.runFor(100);
  const last = REUSE_COUNT - 1 - ((REUSE_COUNT - 1) % 18);
  expect(world.run(client.read(0, ROW_BYTES)).data[0]).toBe(last % 256);
});

/** A crash with data and parity under way: dirty, and parity of the first rows is not known. */
function crashed(): { images: DeviceImage[]; names: readonly string[] } {
  const { world, client, names } = make();
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 1)));
  world.run(client.flush());
  void client.write(0, bytesOf(18 * ROW_BYTES, 2));
  world.simulation.runFor(0.2);
  return { images: world.crash("drop"), names };
}

test("rule 11: a bad sector in a row that awaits its resync: EIO, and it is not rewritten", () => {
  const { images, names } = crashed();
  const trace = new DeviceTrace();
  const world = new SimWorld({ seed: 6, trace });
  // The last row: the resync is not there yet.
  const { data, memberRow } = placeOf(4, 17);
  for (const image of images) {
    const device = world.plug(image);
    if (image.name === names[data]) device.addLatent(DATA + memberRow * ROW_BYTES);
  }
  for (const name of names)
    world
      .device(name)
      .faults.plan({ op: Op.read, offset: DATA, fault: { kind: "slow", delayMs: 1000 }, count: 4 });
  for (const { name } of images) world.attach(name);
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 4 * KIB });
  expect(world.status().sync.action).toBe("resync");
  const from = trace.events.length;
  const { status } = world.run(world.client().read(17 * ROW_BYTES, ROW_BYTES));
  expect(status).toBe(EIO);
  const rewritten = `submit ${names[data]!} data ${memberRow}`;
  expect(storyOf(trace, world, from)).not.toContain(rewritten);
});

test("rule 13: a superblock that cannot be written: that member fails, on record in the others", () => {
  const { world, client, names } = make();
  world.device(names[2]!).faults.plan({
    op: Op.write,
    offset: SUPERBLOCK_OFFSET_BYTES,
    bytes: ROW_BYTES,
    fault: { kind: "result", result: -6 },
    count: 100,
  });
  expect(world.run(client.write(0, bytesOf(ROW_BYTES, 5)))).toBe(0);
  const { degraded, members } = world.status();
  expect([degraded, members[2]!.state]).toEqual([1, "faulty"]);
  const [one, two, gone, four] = superblocks(world) as Superblock[];
  expect(one!.events).toBe(two!.events);
  expect(one!.events).toBe(four!.events);
  expect(one!.events).toBeGreaterThan(gone!.events);
  expect(one!.devRoles[2]).toBe(0xfffe);
});

test("rule 13: a write that a lost member missed: answered when the loss is on record", () => {
  const { world, client, trace, names } = make();
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  for (const name of names) {
    const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES };
    const fault = { kind: "slow", delayMs: 40 } as const;
    world.device(name).faults.plan({ ...place, fault, count: 100 });
  }
  const { data } = placeOf(4, 0);
  world.device(names[data]!).vanish("keep");
  const from = trace.events.length;
  world.run(
    client.write(0, bytesOf(ROW_BYTES, 2)).then((status) => trace.mark(`answer ${status}`)),
  );
  const story = storyOf(trace, world, from);
  const before = story.slice(0, story.indexOf("answer 0"));
  const recorded = before.filter((line) => /^durable .* superblock$/.test(line));
  expect([story, recorded.length]).toEqual([story, 3]);
});

test("rule 14: one drive hangs: its write fails it after the deadline", () => {
  const { world, client, names } = make();
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, writeDeadlineMs: 5000 });
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  world.device(names[placeOf(4, 0).data]!).hang();
  const startMs = world.nowMs;
  expect(world.run(client.write(0, bytesOf(3 * ROW_BYTES, 2)))).toBe(0);
  expect(world.nowMs - startMs).toBeGreaterThanOrEqual(5000);
  expect(world.nowMs - startMs).toBeLessThan(7000);
  expect(world.status().degraded).toBe(1);
});

test("rule 14: all drives hang together: all wait, and nobody fails", () => {
  const { world, client, names } = make();
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, writeDeadlineMs: 5000 });
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  for (const name of names) world.device(name).hang();
  const written = client.write(0, bytesOf(3 * ROW_BYTES, 2));
  world.simulation.runFor(60_000);
  for (const name of names) world.device(name).release();
  expect(world.run(written)).toBe(0);
  expect(world.status().degraded).toBe(0);
});

test("rule 10: a request of before hangs: its drive takes part in no start and no create", () => {
  const { world, client, names } = make();
  const drive = world.device(names[0]!);
  drive.faults.plan({ op: Op.write, offset: DATA, fault: { kind: "hang" } });
  const write = client.write(0, bytesOf(9 * ROW_BYTES, 1));
  world.simulation.runFor(20);
  // A second one fails, and it is with that record that this one goes.
  const area = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES } as const;
  drive.faults.plan({ ...area, fault: { kind: "result", result: -6 }, count: 100 });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: names[1]! });
  world.simulation.runFor(200);
  expect(world.run(write)).toBe(EIO);
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const refused = world.startArray();
  expect(refused.ok ? "" : refused.error.code).toBe("too-few-members");
  const created = world.call<"create-array">({
    ...{ kind: "create-array", name: "another", drives: names, spares: [], chunkBytes: 4 * KIB },
    ...{ consistencyPolicy: "resync", assumeClean: false, force: true },
  });
  expect(created.ok ? "" : created.error.code).toBe("drive-busy");
  drive.faults.quiet();
  drive.release();
  world.simulation.runFor(20);
  expect(world.startArray({ force: true })).toMatchObject({ ok: true, value: { degraded: 1 } });
});

test("rule 15: two members go in one tick: no write goes out, none is acknowledged or recorded", () => {
  const { world, client, trace, names } = make();
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  const written = [client.write(3 * ROW_BYTES, bytesOf(3 * ROW_BYTES, 2))];
  for (const name of names.slice(0, 2)) world.device(name).vanish("keep");
  world.simulation.runFor(50);
  written.push(client.write(6 * ROW_BYTES, bytesOf(3 * ROW_BYTES, 3)));
  expect(world.run(Promise.all(written))).toEqual([EIO, EIO]);
  expect(world.status().state).toBe("failed");
  const from = trace.events.length;
  expect(world.run(client.write(9 * ROW_BYTES, bytesOf(3 * ROW_BYTES, 4)))).toBe(EIO);
  world.simulation.runFor(10_000);
  expect(storyOf(trace, world, from)).toEqual([]);
  for (const device of world.devices.values()) device.comeBack();
  const after = SimWorld.restart(world.images(), { seed: 9 });
  expect(after.status().degraded).toBeLessThanOrEqual(1);
});

test("rule 15: the second member goes while the first is recorded: no further round is written", () => {
  const { world, client, trace, names } = make();
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  world.device(names[0]!).vanish("keep");
  world.device(names[1]!).faults.plan({
    op: Op.write,
    offset: SUPERBLOCK_OFFSET_BYTES,
    bytes: ROW_BYTES,
    fault: { kind: "result", result: -6 },
    count: 100,
  });
  const from = trace.events.length;
  expect(world.run(client.write(0, bytesOf(18 * ROW_BYTES, 2)))).toBe(EIO);
  world.simulation.runFor(10_000);
  expect(world.status().state).toBe("failed");
  const updates = storyOf(trace, world, from).filter((line) => line === "submit d2 superblock");
  expect(updates).toEqual(["submit d2 superblock"]);
});

test("rule 16: a flush asked for while one is under way: it has a flush of its own", () => {
  const { world, client, trace, names } = make();
  world.run(client.write(0, bytesOf(ROW_BYTES, 1)));
  for (const name of names) {
    world.device(name).faults.plan({ op: Op.flush, fault: { kind: "slow", delayMs: 30 } });
  }
  const first = client.flush().then(() => trace.mark("first"));
  world.simulation.runFor(5);
  const from = trace.events.length;
  world.run(client.write(0, bytesOf(ROW_BYTES, 2)));
  const second = client.flush().then(() => trace.mark("second"));
  world.run(Promise.all([first, second]));
  const story = storyOf(trace, world, from);
  for (const role of [placeOf(4, 0).data, placeOf(4, 0).parity]) {
    const name = names[role]!;
    const wanted = [
      `complete ${name} data 0`,
      `flush-submit ${name}`,
      `flush-complete ${name}`,
      "second",
    ];
    expect([story, comesInOrder(story, wanted)]).toEqual([story, true]);
  }
});

test("rule 17: writes of any bytes: members get whole rows only", () => {
  const { world, client, trace } = make();
  const from = trace.events.length;
  const writes = [
    client.write(512, bytesOf(512, 1)),
    client.write(3 * ROW_BYTES - 1, bytesOf(2, 2)),
    client.write(7 * ROW_BYTES + 100, bytesOf(9000, 3)),
  ];
  world.run(Promise.all(writes));
  world.settle();
  let count = 0;
  for (const each of trace.events.slice(from)) {
    if (each.kind !== "device" || each.event.kind !== "submit") continue;
    count += 1;
    expect([each.event.offset % ROW_BYTES, each.event.length % ROW_BYTES]).toEqual([0, 0]);
  }
  expect(count).toBeGreaterThan(6);
  // A simulated drive does not take a read of anything else either.
  expect(world.run(client.read(512, 512)).data).toEqual(bytesOf(512, 1));
  expect(world.run(client.read(7 * ROW_BYTES + 100, 9000)).data).toEqual(bytesOf(9000, 3));
});

test("rule 19: a member that was failed and comes back: not read from, and not a member", () => {
  const { world, client, names } = make();
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 1)));
  world.settle();
  const { data } = placeOf(4, 0);
  const drive = names[data]!;
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive });
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 2)));
  world.run(client.flush());
  world.simulation.runFor(1000);
  const after = SimWorld.restart(world.images(), { seed: 9 });
  after.startArray();
  expect(after.status().degraded).toBe(1);
  const read = after.run(after.client().read(0, 18 * ROW_BYTES));
  expect(read.data).toEqual(bytesOf(18 * ROW_BYTES, 2));
  after.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive, force: false });
  after.settle();
  expect([after.status().degraded, after.check()]).toEqual([0, 0]);
});

test("retries: a drive that answers EAGAIN for ever: it fails, and the write is answered", () => {
  const { world, client, names } = make();
  const fault = { kind: "result", result: -11 } as const;
  world.device(names[1]!).faults.plan({ op: Op.write, fault, count: Number.POSITIVE_INFINITY });
  expect(world.run(client.write(0, bytesOf(18 * ROW_BYTES, 1)), 60_000)).toBe(0);
  expect(world.status().members[1]!.state).toBe("faulty");
});

test("a check: a row whose parity is wrong: counted, and nothing is written", () => {
  const { world, client } = make();
  world.run(client.write(0, bytesOf(18 * ROW_BYTES, 1)));
  world.settle();
  const images = world.images();
  const harmed = images.map((image, role) =>
    role === 1 ? patchImage(image, DATA + ROW_BYTES, bytesOf(ROW_BYTES, 9)) : image,
  );
  const trace = new DeviceTrace();
  const after = new SimWorld({ seed: 8, trace });
  for (const image of harmed) {
    after.plug(image);
    after.attach(image.name);
  }
  const from = trace.events.length;
  expect(after.check()).toBe(ROW_BYTES);
  expect(storyOf(trace, after, from).filter((line) => line.startsWith("submit"))).toEqual([]);
  expect(after.check()).toBe(ROW_BYTES);
});

test("rule 18: io_destroy waits for what hangs: nothing in the product calls it", async () => {
  const callers: string[] = [];
  const folder = new URL("../../../src/", import.meta.url).pathname;
  for (const layer of ["reactor", "block", "raid5", "array", "nbd", "wiring"]) {
    for (const file of new Bun.Glob(`${layer}/**/*.ts`).scanSync({ cwd: folder })) {
      if (file === "reactor/linux-aio.ts") continue;
      if ((await Bun.file(folder + file).text()).includes(".destroy(")) callers.push(file);
    }
  }
  expect(callers).toEqual([]);
});
