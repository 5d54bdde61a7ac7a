/**
 * Goal: what the simulator has found once is not lost again.
 * Method: each violation as the shortest story that shows it, named after what it was; seeds that
 * found one are run too, although a change of the workload gives them another story.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { EIO, ENOSPC, ESHUTDOWN, errnoName } from "../../src/base/errno.ts";
import { MIB, ROW_BYTES } from "../../src/base/units.ts";
import { Role, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { liveSmallLife } from "./workload/small-life.ts";
import { runSeed } from "./workload/workload.ts";
import { DeviceTrace } from "./world/device-trace.ts";
import { blankImage } from "./world/media.ts";
import { superblockOf } from "./world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "./world/sim-world.ts";

const CHUNK_BYTES = 8192;
const DATA_OFFSET = MIB;

function threeMembers(
  seed = 1,
  trace = new DeviceTrace(),
  consistencyPolicy: ConsistencyPolicy = "resync",
): SimWorld {
  const world = new SimWorld({ seed, trace });
  for (const name of ["a", "b", "c", "spare"]) world.addDrive({ name, sizeBytes: 3 * MIB });
  const memberSizeBytes = 4 * CHUNK_BYTES;
  const shape = { chunkBytes: CHUNK_BYTES, memberSizeBytes, consistencyPolicy };
  world.createArray({ drives: ["a", "b", "c"], ...shape });
  world.settle();
  return world;
}

function add(world: SimWorld, drive: string): void {
  world.must({ kind: "add-member", array: ARRAY_NAME, drive, force: false });
}

test("seed 31: a member fails while a spare waits: the spare is rebuilt", () => {
  const world = threeMembers();
  add(world, "spare");
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  world.simulation.runFor(60_000);
  expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
  expect(world.check()).toBe(0);
});

test("seed 11: a superblock write stalls and is given up: its buffer stays as it was", () => {
  for (const name of ["a", "b", "c"]) {
    const world = threeMembers();
    const fault = { kind: "slow", delayMs: 3000 } as const;
    world.device(name).faults.plan({ fault, op: Op.write, offset: 4096, bytes: 4096 });
    // The write waits for the dirty mark, which waits for the stalled drive.
    const write = world.client().write(0, new Uint8Array(4096));
    world.simulation.runFor(5);
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: name });
    expect(world.run(write)).toBe(0);
    // The simulated drive asserts it when the stalled write lands.
    world.simulation.runFor(5000);
    const superblock = superblockOf(world.device(name).image());
    if (typeof superblock === "string") throw new Error(superblock);
    expect(superblock.devNumber).toBe(["a", "b", "c"].indexOf(name));
  }
});

test("seed 18: a request of a failed drive is late: neither its rows nor its successor suffer", () => {
  for (const op of [Op.read, Op.write]) {
    const world = threeMembers();
    const client = world.client();
    expect(world.run(client.write(0, new Uint8Array(8 * CHUNK_BYTES).fill(7)))).toBe(0);
    const fault = { kind: "slow", delayMs: 3000 } as const;
    const { faults } = world.device("a");
    faults.plan({ fault, op, offset: DATA_OFFSET, bytes: 4 * CHUNK_BYTES, count: 8 });
    const bytes = 8 * CHUNK_BYTES;
    const old = new Uint8Array(bytes).fill(7);
    const wanted = op === Op.read ? old : new Uint8Array(bytes).fill(8);
    const isRead = op === Op.read;
    const late = isRead ? client.read(0, bytes) : client.write(0, wanted);
    world.simulation.runFor(5);
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
    add(world, "spare");
    world.simulation.runFor(10_000);
    expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
    // What the hung read was asked for is right too, not only what is read now.
    const answer = world.run<number | { status: number; data: Uint8Array }>(late);
    const first = typeof answer === "number" ? world.run(client.read(0, bytes)) : answer;
    expect(first.status).toBe(0);
    expect(Buffer.compare(first.data, wanted)).toBe(0);
    expect(world.check()).toBe(0);
  }
});

test("seed 280: a restart attaches the spare last: it is a spare again, and the array starts", () => {
  const world = threeMembers();
  add(world, "spare");
  world.settle();
  const after = SimWorld.restart(world.crash("keep"), { seed: 2 });
  expect(after.settle()).toMatchObject({ state: "clean", spares: ["spare"] });
  after.addDrive({ name: "second", sizeBytes: 3 * MIB });
  add(after, "second");
  after.must({ kind: "stop-array", array: ARRAY_NAME });
  const started = after.startArray();
  expect(started.ok && started.value.spares).toEqual(["spare", "second"]);
});

test("seed 5865: a resync waits for a stripe while its member is replaced: parity stays", () => {
  const world = new SimWorld({ seed: 5 });
  for (const name of ["a", "b", "c"]) world.addDrive({ name, sizeBytes: 3 * MIB });
  const used = blankImage({ name: "used", sizeBytes: 3 * MIB });
  const pages = new Map<number, Uint8Array>();
  for (let page = 2; page < 768; page += 1) pages.set(page, new Uint8Array(4096).fill(page));
  world.plug({ ...used, pages });
  expect(world.attach("used").ok).toBe(true);
  const stripes = 100;
  const memberSizeBytes = stripes * 4096;
  world.createArray({ drives: ["a", "b", "c"], chunkBytes: 4096, memberSizeBytes });
  // The write holds the last stripe, because the drive does not answer; the resync waits for it.
  const offset = DATA_OFFSET + (stripes - 1) * 4096;
  const fault = { kind: "slow", delayMs: 3000 } as const;
  world.device("a").faults.plan({ fault, op: Op.write, offset, bytes: 4096 });
  const client = world.client();
  const data = new Uint8Array(8192).fill(7);
  const write = client.write((stripes - 1) * 8192, data);
  world.simulation.runFor(20);
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
  const added = world.command<"add-member">({
    kind: "add-member",
    array: ARRAY_NAME,
    drive: "used",
    force: true,
  });
  expect(world.run(write)).toBe(0);
  expect(world.run(added).ok).toBe(true);
  expect(world.settle()).toMatchObject({ state: "clean", degraded: 0 });
  const { status, data: found } = world.run(client.read((stripes - 1) * 8192, 8192));
  expect(status).toBe(0);
  expect(found.every((byte) => byte === 7)).toBe(true);
});

test("seed 1019: a parity write of the careful path is given up: the next takes another buffer", () => {
  const world = threeMembers();
  const client = world.client();
  expect(world.run(client.write(0, new Uint8Array(8 * CHUNK_BYTES).fill(7)))).toBe(0);
  // A bad sector in the first row takes both rows to the careful path; parity is on the last role.
  world.device("a").addLatent(DATA_OFFSET);
  const fault = { kind: "slow", delayMs: 3000 } as const;
  const { faults } = world.device("c");
  faults.plan({ fault, op: Op.write, offset: DATA_OFFSET, bytes: 4096 });
  const data = new Uint8Array(CHUNK_BYTES - 1024).fill(8);
  const write = client.write(512, data);
  world.simulation.runFor(50);
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  expect(world.run(write)).toBe(0);
  // The simulated drive compares the buffer when the late write lands.
  world.simulation.runFor(5000);
  expect(world.run(client.read(512, data.length)).data).toEqual(data);
});

test("seed 15: the second member goes while a write reads: it is not written, nor flushed", () => {
  const trace = new DeviceTrace();
  const world = threeMembers(1, trace);
  const client = world.client();
  expect(world.run(client.write(0, new Uint8Array(8 * CHUNK_BYTES).fill(7)))).toBe(0);
  // A part of a row is completed with what the member holds; that read is on its way for a while.
  const fault = { kind: "slow", delayMs: 20 } as const;
  world.device("a").faults.plan({ fault, op: Op.read, offset: DATA_OFFSET, bytes: 4096 });
  const small = client.write(0, new Uint8Array(512).fill(8));
  world.simulation.runFor(2);
  for (const name of ["b", "c"]) world.device(name).vanish("keep");
  const lost = [CHUNK_BYTES, 4 * CHUNK_BYTES].map((offset) => client.read(offset, CHUNK_BYTES));
  world.simulation.runFor(8);
  expect(world.status().state).toBe("failed");
  const before = trace.events.length;
  const flush = client.flush();
  expect(world.run(Promise.all([small, flush]))).toEqual([EIO, EIO]);
  world.run(Promise.all(lost));
  world.simulation.runFor(1000);
  expect(trace.events.slice(before)).toEqual([]);
});

test("seed 11: every sector of two members is bad: who works row by row stops with the array", () => {
  for (let seed = 1; seed <= 20; seed += 1) {
    for (const policy of ["resync", "bitmap", "ppl"] as const) {
      const trace = new DeviceTrace();
      const world = threeMembers(seed, trace, policy);
      const client = world.client();
      const old = new Uint8Array(8 * CHUNK_BYTES).fill(7);
      expect(world.run(client.write(0, old))).toBe(0);
      for (const name of ["b", "c"]) {
        const fault = { kind: "result", result: -EIO } as const;
        world.device(name).faults.plan({ fault, count: Number.POSITIVE_INFINITY });
      }
      // Of each chunk the first sectors; and whole rows beside them.
      const small = Array.from({ length: 8 }, (_, chunk) => [
        client.write(chunk * CHUNK_BYTES, new Uint8Array(2560).fill(8)),
        client.write(chunk * CHUNK_BYTES + 4096, new Uint8Array(4096).fill(8)),
      ]);
      let from = -1;
      const isFailed = () => world.events.some(({ kind }) => kind === "array.failed");
      while (from < 0 && world.simulation.step()) if (isFailed()) from = trace.events.length;
      world.run(Promise.all(small.flat()));
      world.simulation.runFor(1000);
      const late = trace.events.slice(from).flatMap((each) => {
        const isWrite = each.kind === "device" && each.event.kind === "submit";
        return isWrite ? [`${each.device} ${each.event.offset}`] : [];
      });
      expect([seed, policy, late]).toEqual([seed, policy, []]);
    }
  }
});

/** The bytes that occur in each row of the array; none where it is lost. */
function bytesOfRows(world: SimWorld, count: number): number[][] {
  const client = world.client();
  return Array.from({ length: count }, (_, row) => {
    const { status, data } = world.run(client.read(row * ROW_BYTES, ROW_BYTES));
    return status === 0 ? [...new Set(data)] : [];
  });
}

for (const errno of [ENOSPC, EIO]) {
  test(`seed 369401501: a member does not take its zeros (${errnoName(errno)}): parity fits all the same`, () => {
    for (const policy of ["resync", "bitmap", "ppl"] as const) {
      for (const victims of [["a"], ["b"], ["c"], ["a", "c"], ["a", "b", "c"]]) {
        for (const [whole, rows] of [
          [1, 0],
          [3, 1],
          [3, 3],
          [3, 1000],
        ] as const) {
          const world = threeMembers(1, new DeviceTrace(), policy);
          const client = world.client();
          const old = new Uint8Array(4 * CHUNK_BYTES).fill(7);
          expect(world.run(client.write(0, old))).toBe(0);
          const fault = { kind: "result", result: -errno } as const;
          const area = { fault, offset: DATA_OFFSET, bytes: 2 * CHUNK_BYTES };
          for (const name of victims) {
            const { faults } = world.device(name);
            faults.plan({ ...area, op: Op.writeZeroes, count: whole });
            faults.plan({ ...area, op: Op.write, count: rows });
          }
          const status = world.run(client.zero(0, 4 * CHUNK_BYTES, { noHole: true }));
          const story = [policy, victims, whole, rows, status];
          for (const name of victims) world.device(name).faults.quiet();
          expect([story, world.check()]).toEqual([story, 0]);
          // What was refused is old or new, sector by sector.
          const may = status === 0 ? [0] : [0, 7];
          const isWrong = (bytes: number[]) => bytes.some((byte) => !may.includes(byte));
          const rowsNow = bytesOfRows(world, 8);
          expect([story, rowsNow.filter(isWrong)]).toEqual([story, []]);
          const isOne = victims.length === 1 || errno === ENOSPC;
          const isWhole = rowsNow.every(({ length }) => length >= 1);
          if (isOne) expect([story, isWhole]).toEqual([story, true]);
          // One bad sector is the drive's, and the others take its part; no room is nobody's.
          if (victims.length === 1 && errno === EIO) expect([story, status]).toEqual([story, 0]);
          if (errno === ENOSPC) expect([0, ENOSPC]).toContain(status);
          if (errno === ENOSPC) expect([story, world.status().degraded]).toEqual([story, 0]);
          // What the others give of a member that is lost.
          if (world.status().degraded > 0) continue;
          const lost = victims[0] === "b" ? "a" : "b";
          world.must({ kind: "fail-member", array: ARRAY_NAME, drive: lost });
          expect([story, bytesOfRows(world, 8).filter(isWrong)]).toEqual([story, []]);
        }
      }
    }
  });
}

test("seed 370310280: the clean mark is on its way: nobody is told yet that it is there", () => {
  const world = threeMembers();
  expect(world.run(world.client().write(0, new Uint8Array(4096)))).toBe(0);
  const fault = { kind: "slow", delayMs: 50 } as const;
  const { faults } = world.device("b");
  faults.plan({ fault, op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: 4096 });
  expect(world.status().state).toBe("active");
  while (world.status().state !== "clean") world.simulation.runFor(1);
  const superblock = superblockOf(world.device("b").image());
  if (typeof superblock === "string") throw new Error(superblock);
  expect([superblock.resyncOffsetSectors, world.device("b").outstandingCount]).toEqual([null, 0]);
});

test("seed 2090: two members go in one reap: neither is recorded", () => {
  const trace = new DeviceTrace();
  const latency = { minMs: 0.1, tailMs: 0 };
  const world = new SimWorld({ seed: 1, trace, latency, batchChance: 1 });
  const drives = ["a", "b", "c", "d"];
  for (const name of [...drives, "spare"]) world.addDrive({ name, sizeBytes: 3 * MIB });
  world.createArray({ drives, chunkBytes: CHUNK_BYTES, memberSizeBytes: 4 * CHUNK_BYTES });
  world.settle();
  add(world, "spare");
  world.simulation.runFor(100);
  for (const name of ["a", "b"]) world.device(name).vanish("keep");
  const before = trace.events.length;
  expect(world.run(world.client().read(0, 3 * CHUNK_BYTES)).status).toBe(EIO);
  world.simulation.runFor(1000);
  expect(world.status().state).toBe("failed");
  expect(trace.events.slice(before)).toEqual([]);
  expect(world.events.filter(({ kind }) => kind === "spare.failed")).toEqual([]);
  for (const device of world.devices.values()) device.comeBack();
  const after = SimWorld.restart(world.images(), { seed: 2 });
  expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
});

test("seed 363010142: two members go while writes to the others are queued: the others stay", () => {
  const world = new SimWorld({ seed: 1 });
  const drives = ["a", "b", "c", "d"];
  for (const name of drives) world.addDrive({ name, sizeBytes: 3 * MIB });
  world.createArray({ drives, chunkBytes: CHUNK_BYTES, memberSizeBytes: MIB });
  world.settle();
  const client = world.client();
  expect(world.run(client.write(0, new Uint8Array(CHUNK_BYTES)))).toBe(0);
  // More than the drives take at a time.
  const fault = { kind: "slow", delayMs: 300 } as const;
  const count = Number.POSITIVE_INFINITY;
  for (const name of ["a", "b"]) world.device(name).faults.plan({ fault, op: Op.write, count });
  const stripeBytes = 3 * CHUNK_BYTES;
  const writes: Promise<number>[] = [];
  for (let stripe = 0; stripe < 120; stripe += 1) {
    writes.push(client.write(stripe * stripeBytes, new Uint8Array(stripeBytes)));
  }
  world.simulation.runFor(50);
  for (const name of ["c", "d"]) world.device(name).vanish("keep");
  // One read of each of those two.
  for (const chunk of [2, 3]) void client.read(chunk * CHUNK_BYTES, 4096);
  world.run(Promise.all(writes));
  world.simulation.runFor(1000);
  const status = world.status();
  expect(status.state).toBe("failed");
  const states = status.members.map(({ state }) => state);
  expect(states.slice(0, 2)).toEqual(["in-sync", "in-sync"]);
});

test("seed 26: two members go while a log waits for its flush: the array can be stopped", () => {
  const world = threeMembers(1, new DeviceTrace(), "ppl");
  const client = world.client();
  // A unit of the log covers the first write; the next one waits for a flush of what it wrote.
  expect(world.run(client.write(0, new Uint8Array(4096).fill(7)))).toBe(0);
  const fault = { kind: "slow", delayMs: 20 } as const;
  for (const name of ["a", "b", "c"]) world.device(name).faults.plan({ fault, op: Op.flush });
  const second = client.write(0, new Uint8Array(4096).fill(8));
  world.simulation.runFor(5);
  for (const name of ["a", "b"]) world.device(name).vanish("keep");
  expect(world.run(second)).toBe(EIO);
  expect(world.status().state).toBe("failed");
  const stop = { kind: "stop-array", array: ARRAY_NAME } as const;
  expect(world.call<"stop-array">(stop, 60_000).ok).toBe(true);
  for (const device of world.devices.values()) device.comeBack();
  // The log makes up for the one that may be on record as lost.
  expect(world.startArray().ok).toBe(true);
  expect(world.run(client.read(4096, 4096))).toMatchObject({ status: 0 });
});

test("seed 37: a write comes while the logs are still being emptied: it is not answered EIO", () => {
  const world = threeMembers(1, new DeviceTrace(), "ppl");
  const client = world.client();
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const fault = { kind: "slow", delayMs: 200 } as const;
  world.device("b").faults.plan({ fault, op: Op.writeZeroes });
  const start = { kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false } as const;
  const started = world.command<"start-array">(start);
  world.simulation.runFor(50);
  expect(world.run(client.write(0, new Uint8Array(4096)))).toBe(ESHUTDOWN);
  expect(world.run(started).ok).toBe(true);
  expect(world.run(client.write(0, new Uint8Array(4096)))).toBe(0);
});

/**
 * A spare takes the role of a failed drive, while updates of the superblocks are slow, and refused
 * for want of room now and then; from some moment of that on it is another command's turn.
 */
function whileSeated(leave: (world: SimWorld) => void): void {
  for (let afterMs = 0; afterMs < 1500; afterMs += 10) {
    const world = threeMembers();
    add(world, "spare");
    world.settle();
    const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: 4096, count: 5 };
    world.device("a").faults.plan({ fault: { kind: "slow", delayMs: 40 }, ...place, count: 50 });
    world.device("c").faults.plan({ fault: { kind: "result", result: -ENOSPC }, ...place });
    void world.command({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
    world.simulation.runFor(afterMs);
    leave(world);
    world.simulation.runFor(5000);
  }
}

test("seed 362517712: a failed drive is removed while a spare takes its role: the spare stays", () => {
  whileSeated((world) => {
    void world.command({ kind: "remove-member", array: ARRAY_NAME, drive: "b" });
    world.simulation.runFor(5000);
    expect(world.settle()).toMatchObject({ degraded: 0, spares: [] });
  });
});

test("seed 363741487: a spare takes a role while a drive is added: each has a place of its own", () => {
  for (let steps = 0; steps < 40; steps += 1) {
    const world = threeMembers();
    add(world, "spare");
    world.settle();
    for (const name of ["e", "f"]) world.addDrive({ name, sizeBytes: 3 * MIB });
    void world.command({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
    for (let step = 0; step < steps; step += 1) world.simulation.step();
    const added = ["e", "f"].map((drive) =>
      world.command<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive, force: false }),
    );
    for (const { ok } of world.run(Promise.all(added))) expect(ok).toBe(true);
    const { degraded, spares } = world.settle();
    expect([steps, degraded, spares.length]).toEqual([steps, 0, 2]);
    const numbers = world.images().map((image) => superblockOf(image));
    const own = numbers.flatMap((each) => (typeof each === "string" ? [] : [each.devNumber]));
    // All but the failed one, whose number may be given to another drive.
    expect(new Set(own.toSpliced(1, 1)).size).toBe(own.length - 1);
  }
});

test("crash while a spare is seated: its update alone was written: it is rebuilt all the same", () => {
  const world = threeMembers();
  add(world, "spare");
  world.settle();
  void world.command({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  const faultyOn = (name: string): boolean => {
    const superblock = superblockOf(world.device(name).image());
    return typeof superblock !== "string" && superblock.devRoles[1] === Role.faulty;
  };
  while (!faultyOn("a") || !faultyOn("c")) world.simulation.step();
  // The failure is on record; of the seating only the spare's own superblock gets there.
  const fault = { kind: "slow", delayMs: 1000 } as const;
  const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: 4096 };
  for (const name of ["a", "c"]) world.device(name).faults.plan({ fault, ...place });
  world.simulation.runFor(500);
  const images = world.crash("drop").filter(({ name }) => name !== "b");
  const spare = superblockOf(images.find(({ name }) => name === "spare")!);
  expect(typeof spare === "string" ? spare : spare.recoveryOffsetSectors).toBe(0);
  const after = SimWorld.restart(images, { seed: 2 });
  after.simulation.runFor(1000);
  expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
});

test("nth I/O: a member answers EIO for good in the first resync: what was written stays", () => {
  for (let first = 4; first < 16; first += 1) {
    liveSmallLife("a", ({ faults }) => {
      const fault = { kind: "result", result: -5 } as const;
      faults.plan({ fault, skip: first, count: Number.POSITIVE_INFINITY });
    });
  }
});

test("crash with all members in sync: it assembles by itself and nothing is lost", () => {
  for (const policy of ["keep", "drop", "random"] as const) {
    const world = threeMembers();
    const data = new Uint8Array(4 * CHUNK_BYTES).fill(9);
    expect(world.run(world.client().write(4096, data, { fua: true }))).toBe(0);
    void world.client().write(CHUNK_BYTES, data);
    world.simulation.runFor(0.2);
    const after = SimWorld.restart(world.crash(policy), { seed: 3 });
    expect(after.settle()).toMatchObject({ state: "clean", degraded: 0 });
    const { status, data: found } = after.run(after.client().read(4096, data.length));
    expect(status).toBe(0);
    expect(found.every((byte) => byte === 9)).toBe(true);
    expect(after.check()).toBe(0);
  }
});

test("crash and the loss of a member together: the write hole: refused without force", () => {
  for (const lost of ["a", "b", "c"]) {
    const world = threeMembers();
    expect(world.run(world.client().write(0, new Uint8Array(CHUNK_BYTES).fill(1)))).toBe(0);
    const images = world.crash("random").filter(({ name }) => name !== lost && name !== "spare");
    const after = SimWorld.restart(images, { seed: 4 });
    expect(after.status().state).toBe("inactive");
    const [refusal] = after.startArrays();
    expect(refusal?.code).toBe("dirty-and-degraded");
    const forced = after.startArray({ force: true });
    expect(forced.ok && forced.value.degraded).toBe(1);
  }
});

/** Each of these showed the violation when the workload was as it is now. */
const SEEDS: readonly (readonly [number, string])[] = [
  [3, "bad sectors that the first resync met lost rows that were proven, while it was throttled"],
  [4, "a promoted spare was never rebuilt"],
  [42, "a read that was given up was reconstructed into rows that the drive still had"],
  [136, "a chunk that took a part of what was taken back did not match the parity that was kept"],
  [57, "a bad sector in the first resync cost the good parity of a proven row"],
  [83, "the same, and a write of a part of such a row was answered with EIO"],
  [190, "a superblock was encoded over the buffer of a write in flight"],
  [798, "writes waited for a log, and its room for their stripes, where a zeroing had no room"],
  [722_224_855, "all users of a unit that was being filled were refused: the next begins anew"],
  [
    722_225_002,
    "a row parked on a member that had just left was written to its successor for ever",
  ],
  [234, "a spare that was about to be seated was removed, and the array broke"],
];

for (const [seed, what] of SEEDS) {
  test(`seed ${seed}: ${what}: it does not any more`, () => {
    runSeed(seed);
  });
}
