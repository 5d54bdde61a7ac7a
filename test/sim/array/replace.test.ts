/**
 * Goal: a member that is replaced serves until its target has all that it has; whoever dies
 * meanwhile, at whichever request, nothing is lost, and the array ends as it was before or with the
 * target in the member's place.
 *
 * Method: a short life with a replace under writes is lived once for each request that one of its
 * drives gets (the target, the member, another member), a third of them each day; and told stories
 * of what a copy meets: bad sectors, no room, a stop, another host, a cancel.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EIO, ENOSPC, ENXIO } from "../../../src/base/errno.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  isReplacement,
  Role,
  roleOf,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, TAKES_ALL } from "../../helpers/share.ts";
import type { DeviceImage } from "../world/media.ts";
import { parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { FaultPlan } from "../world/sim-faults.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const CHUNK_SECTORS = CHUNK_BYTES / SECTOR_BYTES;
const STRIPES = 6;
const MEMBERS = ["a", "b", "c"];
const OLD = "b";
const NEW = "new";
const NEVER = Number.POSITIVE_INFINITY;

const ALWAYS = Number.POSITIVE_INFINITY;
const MEDIA = { kind: "result", result: -EIO } as const;
const SUPERBLOCK_END = SUPERBLOCK_OFFSET_BYTES + 4096;

/** How a drive dies. */
const MANNERS = {
  "is gone": [{ fault: { kind: "dead", errno: ENXIO } }],
  "takes no writes": [{ op: Op.write, fault: MEDIA }],
  // It is found out by its bad-block log, in the middle of a write of rows.
  "takes superblocks alone": [
    { op: Op.write, fault: MEDIA, offset: 0, bytes: SUPERBLOCK_OFFSET_BYTES },
    { op: Op.write, fault: MEDIA, offset: SUPERBLOCK_END, bytes: 8 * MIB },
  ],
} as const satisfies Record<string, readonly FaultPlan[]>;
type Manner = keyof typeof MANNERS;

class Life {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  /** Requests that the victim has got since the replace was asked for. */
  requests = 0;
  private isArmed = false;

  constructor(policy: ConsistencyPolicy, { seed = 1, areFiles = false } = {}) {
    this.world = new SimWorld({ seed, batchChance: 0.5, areFiles });
    for (const name of [...MEMBERS, NEW]) this.world.addDrive({ name, sizeBytes: 3 * MIB });
    const { sizeBytes } = this.world.createArray({
      ...{ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes: STRIPES * CHUNK_BYTES },
      consistencyPolicy: policy,
    });
    this.world.settle();
    this.oracle = new SectorOracle({ seed: 1, sectorCount: sizeBytes / SECTOR_BYTES });
    this.writeAll();
  }

  get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  writeAll(): void {
    const all = { lba: 0, sectors: this.oracle.sectorCount };
    expect(this.world.run(this.client.write(all, { fua: true }))).toBe(0);
  }

  /** From the next request on, the nth of this drive ends it. */
  arm(victim: string, nth: number, manner: Manner): void {
    const device = this.world.device(victim);
    const submit = device.submit.bind(device);
    this.isArmed = true;
    device.submit = (request) => {
      this.requests += 1;
      if (this.isArmed && this.requests === nth) {
        for (const fault of MANNERS[manner]) device.faults.plan({ count: ALWAYS, ...fault });
      }
      submit(request);
    };
  }

  replace(syncSpeedMax = 256 * 1024) {
    const { world } = this;
    world.must<"set-array">({
      kind: "set-array",
      array: ARRAY_NAME,
      syncSpeedMax,
      syncSpeedMin: 1,
    });
    return world.command<"replace-member">({
      ...{ kind: "replace-member", array: ARRAY_NAME, drive: OLD, with: NEW, force: false },
    });
  }

  /** Writes behind, at and ahead of the copy, some of them flushed, until it has ended. */
  writeOn(): void {
    const { world, client, oracle } = this;
    for (let round = 0; round < 12; round += 1) {
      const lba = (round * 5 * CHUNK_SECTORS + round) % (oracle.sectorCount - 2 * CHUNK_SECTORS);
      const writes = [
        client.write({ lba, sectors: 3 + round }, { fua: round % 3 === 0 }),
        client.write({ lba: (round % STRIPES) * 2 * CHUNK_SECTORS, sectors: 2 * CHUNK_SECTORS }),
        client.flush(),
      ];
      for (const status of world.run(Promise.all(writes))) expect(status).toBe(0);
      world.simulation.runFor(12);
    }
  }

  drives(): (string | null)[] {
    return this.world.status().members.map(({ drive }) => drive);
  }

  /** All reads back and matches; from the drives alone too, without any one of them. */
  judge(): void {
    const { world } = this;
    this.isArmed = false;
    world.simulation.runFor(5000);
    const status = world.settle();
    this.readAll(world);
    if (status.degraded === 0) expect(world.check()).toBe(0);
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const images = world.images().filter((image) => typeof superblockOf(image) !== "string");
    this.oracle.crash();
    for (const left of status.degraded === 0 ? [null, ...MEMBERS, NEW] : [null]) {
      const again = SimWorld.restart(
        images.filter(({ name }) => name !== left),
        { seed: 1 },
      );
      if (again.status().state === "inactive") expect(again.startArrays()).toEqual([]);
      this.readAll(again);
    }
  }

  private readAll(world: SimWorld): void {
    const bytes = this.oracle.sectorCount * SECTOR_BYTES;
    const { status, data } = world.run(world.client().read(0, bytes));
    expect(status).toBe(0);
    expect(this.oracle.peek(0, data)?.message ?? null).toBeNull();
  }
}

/** The life with a victim, to its end. */
function live(policy: ConsistencyPolicy, victim: string, nth: number, manner: Manner): Life {
  const life = new Life(policy, { seed: nth === NEVER ? 1 : nth });
  const { world } = life;
  life.arm(victim, nth, manner);
  const asked = life.replace();
  life.writeOn();
  world.run(asked);
  world.simulation.runFor(3000);
  return life;
}

const DEATHS: readonly { victim: string; manner: Manner; step: number }[] = [
  { victim: NEW, manner: "is gone", step: 2 },
  { victim: OLD, manner: "is gone", step: 2 },
  { victim: "a", manner: "is gone", step: 2 },
  { victim: OLD, manner: "takes no writes", step: 5 },
  { victim: OLD, manner: "takes superblocks alone", step: 5 },
];

for (const policy of POLICIES) {
  for (const { victim, manner, step } of DEATHS) {
    test(`replace: ${policy}: ${victim} ${manner} from each of its requests on: nothing is lost`, () => {
      const whole = live(policy, victim, NEVER, manner);
      const { requests } = whole;
      expect(whole.drives()).toEqual(["a", NEW, "c"]);
      whole.judge();
      expect(requests).toBeGreaterThan(30);
      const ends = new Set<string>();
      const today = new Share(`replace ${policy} ${victim} ${manner}`, 3);
      for (let nth = 1; nth <= requests; nth += step) {
        if (!today.takes((nth - 1) / step)) continue;
        const life = live(policy, victim, nth, manner);
        const { degraded } = life.world.status();
        const seats = life.drives().join(" ");
        ends.add(seats);
        const hasFailed = life.world.events.some(({ kind }) => kind === "array.failed");
        expect([nth, hasFailed]).toEqual([nth, false]);
        const failed = life.world.events.filter(({ kind }) => kind === "member.failed");
        const others = failed.filter(({ drive }) => drive !== victim);
        expect([nth, others.map(({ message }) => message)]).toEqual([nth, []]);
        // A target that dies costs nothing; a member is replaced by its target, or is missing.
        if (victim === NEW && seats === "a b c") expect([nth, degraded]).toEqual([nth, 0]);
        if (victim === OLD && seats === "a new c") expect([nth, degraded]).toEqual([nth, 0]);
        life.judge();
      }
      // It serves, or its target has its place; one day alone may have seen but one of them.
      const isEither = victim === OLD && manner === "is gone";
      if (isEither && TAKES_ALL) expect(ends.size).toBeGreaterThan(1);
    }, 600_000);
  }

  test(`replace: ${policy}: written behind the copy, and no more: parity matches on the drives`, () => {
    const life = new Life(policy);
    const { client, world } = life;
    world.run(life.replace(16 * 1024));
    world.simulation.runFor(1200);
    for (const stripe of [0, 1]) {
      const lba = stripe * 2 * CHUNK_SECTORS;
      for (const chunk of [0, 1]) {
        const write = client.write({ lba: lba + chunk * CHUNK_SECTORS, sectors: 3 });
        expect(world.run(write)).toBe(0);
      }
    }
    world.settle();
    expect(life.drives()).toEqual(["a", NEW, "c"]);
    life.world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const members = life.world.images().filter(({ name }) => name !== OLD);
    const views = viewMembers(members);
    expect(typeof views).not.toBe("string");
    expect(parityMismatches(views)).toEqual([]);
  });

  test(`replace: ${policy}: stopped in the middle: it goes on from where it was`, () => {
    const life = new Life(policy);
    const { world } = life;
    const job = world.run(life.replace(16 * 1024));
    expect(job.ok).toBe(true);
    world.simulation.runFor(1200);
    const [, before] = world.status().members;
    expect(before!.replacement).toMatchObject({ drive: NEW });
    expect(before!.replacement!.copiedBytes).toBeGreaterThan(0);
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const again = SimWorld.restart(world.images(), { seed: 2 });
    const copied = again.events.find(({ kind }) => kind === "replace.started");
    expect(copied).toBeDefined();
    const [resumed] = again.must<"list-jobs">({ kind: "list-jobs" });
    expect(resumed!.done).toBeGreaterThanOrEqual(before!.replacement!.copiedBytes);
    again.settle();
    expect(again.status().members.map(({ drive }) => drive)).toEqual(["a", NEW, "c"]);
    expect(again.check()).toBe(0);
  });

  test(`replace: ${policy}: crashed in the middle: all is copied again`, () => {
    const life = new Life(policy);
    const { world, client } = life;
    world.run(life.replace(16 * 1024));
    world.simulation.runFor(1200);
    void client.write({ lba: 0, sectors: 4 * CHUNK_SECTORS });
    world.simulation.runFor(0.5);
    const again = SimWorld.restart(world.crash("random"), { seed: 2 });
    again.settle();
    expect(again.status().members.map(({ drive }) => drive)).toEqual(["a", NEW, "c"]);
    expect(again.check()).toBe(0);
  });
}

// What a copy meets ------------------------------------------------------------------------------

function plan(world: SimWorld, drive: string, row: number, fault: Omit<FaultPlan, "offset">): void {
  const image = world.device(drive).image();
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  const offset = superblock.dataOffsetSectors * SECTOR_BYTES + row * ROW_BYTES;
  world.device(drive).faults.plan({ offset, bytes: ROW_BYTES, ...fault });
}

test("replace: a sector of the member cannot be read: parity has it, and the target gets it", () => {
  const life = new Life("resync");
  const { world } = life;
  for (const row of [0, 3]) plan(world, OLD, row, { op: Op.read, fault: MEDIA, count: ALWAYS });
  const job = world.run(life.replace(ALWAYS));
  expect(job.ok && world.waitJob(job.value.id).state).toBe("done");
  expect(life.drives()).toEqual(["a", NEW, "c"]);
  expect(world.status().lostBytes).toBe(0);
  life.judge();
});

test("replace: a sector that nobody can give: entered as bad on the target, all else is copied", () => {
  const life = new Life("resync");
  const { world } = life;
  for (const drive of ["a", OLD])
    plan(world, drive, 1, { op: Op.read, fault: MEDIA, count: ALWAYS });
  const job = world.run(life.replace(ALWAYS));
  const done = world.waitJob(job.ok ? job.value.id : 0);
  expect(life.drives()).toEqual(["a", NEW, "c"]);
  // Told before anybody has asked for it: by the job, its event, and the array.
  const { lostBytes } = world.status();
  expect(lostBytes).toBeGreaterThan(0);
  expect(done).toMatchObject({ state: "done", result: { lostBytes } });
  const finished = world.events.find(({ kind }) => kind === "replace.finished");
  expect(finished).toMatchObject({ severity: "critical" });
  world.settle();
  const client = world.client();
  const { status } = world.run(client.read(0, 4 * CHUNK_BYTES));
  expect(status).toBe(EIO);
  expect(world.status().lostBytes).toBe(lostBytes);
  // It is written anew, and reads.
  world.device("a").faults.quiet();
  life.writeAll();
  life.judge();
});

test("replace: a target that hangs: clients wait for it no longer than for a member", () => {
  const life = new Life("resync");
  const { world, client } = life;
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, writeDeadlineMs: 2_000 });
  expect(world.run(life.replace(64 * 1024)).ok).toBe(true);
  world.device(NEW).faults.plan({ op: Op.write, fault: { kind: "hang" }, count: ALWAYS });
  const fromMs = world.nowMs;
  expect(world.run(client.write({ lba: 0, sectors: 4 * CHUNK_SECTORS }, { fua: true }))).toBe(0);
  expect(world.nowMs - fromMs).toBeLessThan(4_000);
  expect(life.drives()).toEqual(MEMBERS);
  expect(world.status()).toMatchObject({ degraded: 0 });
  world.simulation.runFor(1_000);
  expect(world.events.some(({ kind }) => kind === "replace.aborted")).toBe(true);
});

test("replace: another member fails: it waits, says so, its drive can be had, or it goes on", () => {
  for (const way of ["its drive is used", "another drive is used"] as const) {
    const life = new Life("bitmap");
    const { world } = life;
    world.addDrive({ name: "free", sizeBytes: 3 * MIB });
    const job = world.run(life.replace(64 * 1024));
    if (!job.ok) throw new Error(job.error.detail);
    world.simulation.runFor(200);
    world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
    expect(world.waitJob(job.value.id)).toMatchObject({
      state: "failed",
      error: expect.stringMatching(/the replace goes on as another job when it can$/),
    });
    expect(world.events.filter(({ kind }) => kind === "replace.paused")).toHaveLength(1);
    const add = { kind: "add-member", array: ARRAY_NAME, force: false } as const;
    const refused = world.run(world.command({ ...add, drive: NEW }));
    expect(refused).toMatchObject({
      error: { detail: expect.stringContaining("remove it from the array first") },
    });
    if (way === "its drive is used") {
      world.must({ kind: "remove-member", array: ARRAY_NAME, drive: NEW });
      world.must({ ...add, drive: NEW });
      world.settle();
      expect(life.drives()).toEqual([NEW, OLD, "c"]);
    } else {
      world.must({ ...add, drive: "free" });
      world.settle();
      world.simulation.runFor(5_000);
      expect(world.settle().degraded).toBe(0);
      expect(life.drives()).toEqual(["free", NEW, "c"]);
    }
    expect(world.check()).toBe(0);
  }
});

test("replace: a long run of bad sectors on the member: it serves to the end, and is not failed", () => {
  const world = new SimWorld({ seed: 1 });
  const chunkBytes = 512 * 1024;
  for (const name of [...MEMBERS, NEW]) world.addDrive({ name, sizeBytes: 6 * MIB });
  world.createArray({ drives: MEMBERS, chunkBytes, memberSizeBytes: 8 * chunkBytes });
  world.settle();
  const data = new Uint8Array(16 * chunkBytes).fill(7);
  expect(world.run(world.client().write(0, data))).toBe(0);
  // Far more than fail a member, and one elsewhere of another, which the old one can still give.
  const rows = chunkBytes / ROW_BYTES;
  for (let row = 0; row < 3 * rows; row += 1) {
    plan(world, OLD, row, { op: Op.read, fault: MEDIA, count: ALWAYS });
  }
  plan(world, "a", 6 * rows, { op: Op.read, fault: MEDIA, count: ALWAYS });
  const job = world.must<"replace-member">({
    ...{ kind: "replace-member", array: ARRAY_NAME, drive: OLD, with: NEW, force: false },
  });
  expect(world.waitJob(job.id)).toMatchObject({ state: "done", result: { lostBytes: 0 } });
  expect(world.events.filter(({ kind }) => kind === "member.failed")).toEqual([]);
  expect(world.status()).toMatchObject({ degraded: 0, lostBytes: 0 });
  const read = world.run(world.client().read(0, data.length));
  expect([read.status, read.data.every((byte) => byte === 7)]).toEqual([0, true]);
});

test("replace: the target alone is away at the start: it is waited for by name, then not any more", () => {
  const life = new Life("bitmap");
  const { world } = life;
  world.run(life.replace(16 * 1024));
  world.simulation.runFor(1200);
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const images = world.images().filter(({ name }) => name !== NEW);
  const again = SimWorld.restart(images, { seed: 2 });
  expect(again.status()).toMatchObject({
    state: "inactive",
    reason: expect.stringMatching(/^waiting for the drive that role 1 is copied to: connect it/),
  });
  expect(again.startArrays()).toEqual([]);
  expect(again.settle()).toMatchObject({ degraded: 0 });
  expect(again.check()).toBe(0);
});

for (const policy of POLICIES) {
  test(`replace: ${policy}: no room on the target for a while: it waits, writes go on, it ends`, () => {
    const life = new Life(policy, { areFiles: true });
    const { world, client } = life;
    const job = world.run(life.replace(64 * 1024));
    expect(job.ok).toBe(true);
    world.simulation.runFor(100);
    const noRoom = { kind: "result", result: -ENOSPC } as const;
    for (let row = 0; row < STRIPES * 2; row += 1) {
      for (const op of [Op.write, Op.writeZeroes]) {
        plan(world, NEW, row, { op, fault: noRoom, count: ALWAYS });
      }
    }
    for (let round = 0; round < 6; round += 1) {
      const lba = round * 2 * CHUNK_SECTORS;
      expect(world.run(client.write({ lba, sectors: 5 }, { fua: true }))).toBe(0);
    }
    world.simulation.runFor(20_000);
    expect(world.status()).toMatchObject({ degraded: 0, sync: { action: "replace" } });
    world.device(NEW).faults.quiet();
    world.settle();
    expect(life.drives()).toEqual(["a", NEW, "c"]);
    life.judge();
  });

  test(`replace: ${policy}: a write that the member has no room for: the two are alike again`, () => {
    const life = new Life(policy, { areFiles: true });
    const { world, client } = life;
    const job = world.run(life.replace(32 * 1024));
    expect(job.ok).toBe(true);
    world.simulation.runFor(1200);
    const noRoom = { kind: "result", result: -ENOSPC } as const;
    for (let row = 0; row < 2; row += 1) {
      plan(world, OLD, row, { op: Op.write, fault: noRoom, count: ALWAYS });
    }
    expect(world.run(client.write({ lba: 0, sectors: 4 * CHUNK_SECTORS }, { fua: true }))).toBe(
      ENOSPC,
    );
    world.settle();
    world.device(OLD).faults.quiet();
    expect(life.drives()).toEqual(["a", NEW, "c"]);
    life.judge();
  });
}

test("replace: cancelled: the array is as before, and the drive can be added", () => {
  const life = new Life("bitmap");
  const { world } = life;
  const job = world.run(life.replace(16 * 1024));
  if (!job.ok) throw new Error(job.error.detail);
  world.simulation.runFor(500);
  world.must<"cancel-job">({ kind: "cancel-job", id: job.value.id });
  expect(world.waitJob(job.value.id)).toMatchObject({ state: "cancelled" });
  expect(life.drives()).toEqual(MEMBERS);
  expect(world.status().members[1]!.replacement).toBeUndefined();
  const added = world.must<"add-member">({
    ...{ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false },
  });
  expect(added.role).toBe("spare");
  life.judge();
});

for (const policy of POLICIES) {
  test(`replace: ${policy}: the target dies in a write: that is on record before the answer`, () => {
    for (let seed = 1; seed <= 12; seed += 1) {
      const life = new Life(policy, { seed });
      const { world } = life;
      world.run(life.replace(16 * 1024));
      world.simulation.runFor(1000);
      const { devNumber } = superblockOf(world.device(NEW).image()) as Superblock;
      // It is dirty: no mark comes first, which would meet the dead drive.
      expect(world.run(life.client.write({ lba: 0, sectors: 8 }))).toBe(0);
      for (const fault of MANNERS["is gone"]) {
        world.device(NEW).faults.plan({ ...fault, count: ALWAYS });
      }
      const onOld = { lba: CHUNK_SECTORS, sectors: 8 };
      expect(world.run(life.client.write(onOld, { fua: true }))).toBe(0);
      for (const name of MEMBERS) {
        const superblock = superblockOf(world.device(name).image()) as Superblock;
        expect([seed, name, roleOf(superblock, devNumber)]).toEqual([seed, name, Role.faulty]);
      }
      life.judge();
    }
  });
}

test("replace: the target is removed: the array is as before", () => {
  const life = new Life("ppl");
  const { world } = life;
  world.run(life.replace(16 * 1024));
  world.simulation.runFor(500);
  world.must<"remove-member">({ kind: "remove-member", array: ARRAY_NAME, drive: NEW });
  world.settle();
  expect(life.drives()).toEqual(MEMBERS);
  expect(world.events.some(({ kind }) => kind === "replace.aborted")).toBe(true);
  life.judge();
});

test("replace: started from the superblock of any drive: who joins later is no replacement", () => {
  for (const first of [...MEMBERS, NEW]) {
    const life = new Life("resync");
    const { world } = life;
    world.run(life.replace(16 * 1024));
    world.simulation.runFor(1200);
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const images = world.images();
    const again = SimWorld.restart(
      [
        ...images.filter(({ name }) => name === first),
        ...images.filter((one) => one.name !== first),
      ],
      { seed: 2 },
    );
    again.settle();
    again.addDrive({ name: "later", sizeBytes: 4 * MIB });
    again.must<"add-member">({
      kind: "add-member",
      array: ARRAY_NAME,
      drive: "later",
      force: false,
    });
    const image = again.images().find(({ name }) => name === "later")!;
    const superblock = superblockOf(image);
    if (typeof superblock === "string") throw new Error(superblock);
    expect([first, isReplacement(superblock)]).toEqual([first, false]);
  }
});

test("replace: by the array's own spare: it is none any more", () => {
  const life = new Life("resync");
  const { world } = life;
  world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: NEW, force: false });
  expect(world.status().spares).toEqual([NEW]);
  const job = world.run(life.replace(ALWAYS));
  expect(job.ok && world.waitJob(job.value.id).state).toBe("done");
  expect([life.drives(), world.status().spares]).toEqual([["a", NEW, "c"], []]);
  life.judge();
});

test("replace: superblocks have no room at the swap: it waits, as one job, and ends", () => {
  const life = new Life("bitmap", { areFiles: true });
  const { world } = life;
  const job = world.run(life.replace(32 * 1024));
  if (!job.ok) throw new Error(job.error.detail);
  const noRoom = { kind: "result", result: -ENOSPC } as const;
  for (const name of [...MEMBERS, NEW]) {
    const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES };
    world.device(name).faults.plan({ ...place, fault: noRoom, count: ALWAYS });
  }
  world.simulation.runFor(30_000);
  const jobs = world.must<"list-jobs">({ kind: "list-jobs" });
  const replaces = jobs.filter(({ kind }) => kind === "replace");
  expect(replaces.map(({ id, state }) => [id, state])).toEqual([[job.value.id, "running"]]);
  for (const name of [...MEMBERS, NEW]) world.device(name).faults.quiet();
  expect(world.waitJob(job.value.id).state).toBe("done");
  expect(life.drives()).toEqual(["a", NEW, "c"]);
  life.judge();
});

test("replace: a swap without room is cancelled: at each moment nobody is two events behind", () => {
  const noRoom = { kind: "result", result: -ENOSPC } as const;
  const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES };
  let cancelled = 0;
  // One of the updates is the swap, in which the old drive has no part.
  for (let skip = 0; skip < 4; skip += 1) {
    const life = new Life("bitmap", { areFiles: true });
    const { world } = life;
    const job = world.run(life.replace(ALWAYS));
    if (!job.ok) throw new Error(job.error.detail);
    const eventsOf = (name: string): number => {
      const superblock = superblockOf(world.images().find((image) => image.name === name)!);
      if (typeof superblock === "string") throw new Error(superblock);
      return superblock.events;
    };
    world.device("a").faults.plan({ ...place, fault: noRoom, count: ALWAYS, skip });
    world.simulation.runFor(2_000);
    const isSwapping = eventsOf(NEW) > eventsOf(OLD) && life.drives().includes(OLD);
    if (!isSwapping) continue;
    world.must({ kind: "cancel-job", id: job.value.id });
    world.device("a").faults.quiet();
    for (let look = 0; look < 20_000; look += 1) {
      world.simulation.runFor(0.05);
      const events = MEMBERS.map(eventsOf);
      expect(Math.max(...events) - Math.min(...events)).toBeLessThan(2);
    }
    cancelled += 1;
    expect(life.drives()).toEqual(MEMBERS);
    life.judge();
  }
  expect(cancelled).toBeGreaterThan(0);
});

test("replace: cancelled without room: at each moment the next target has a number of its own", () => {
  const NEXT = "next";
  const life = new Life("bitmap", { areFiles: true });
  const { world } = life;
  world.addDrive({ name: NEXT, sizeBytes: 3 * MIB });
  const job = world.run(life.replace(2 * 1024));
  if (!job.ok) throw new Error(job.error.detail);
  const noRoom = { kind: "result", result: -ENOSPC } as const;
  const place = { op: Op.write, offset: SUPERBLOCK_OFFSET_BYTES, bytes: ROW_BYTES };
  world.device("a").faults.plan({ ...place, fault: noRoom, count: ALWAYS });
  const eventsOf = (): string =>
    world
      .images()
      .map((image) => Object(superblockOf(image)).events ?? "none")
      .join(" ");
  const before = eventsOf();
  for (let look = 0; eventsOf() === before; look += 1) {
    expect(look).toBeLessThan(1_000);
    world.simulation.runFor(50);
  }
  // The update that is to tell of it cannot begin: "a" is one event behind.
  world.must<"cancel-job">({ kind: "cancel-job", id: job.value.id });
  world.simulation.runFor(50);
  world.device("a").faults.quiet();
  const other = { array: ARRAY_NAME, drive: "c", with: NEXT, force: false };
  const next = world.command<"replace-member">({ kind: "replace-member", ...other });
  const cuts: DeviceImage[][] = [];
  let seen = eventsOf();
  for (let look = 0; look < 4_000; look += 1) {
    world.simulation.runFor(0.05);
    if (eventsOf() === seen) continue;
    seen = eventsOf();
    cuts.push(world.images().filter((image) => typeof superblockOf(image) !== "string"));
  }
  expect(cuts.length).toBeGreaterThan(2);
  expect(world.run(next).ok).toBe(true);
  life.judge();
  for (const images of cuts) {
    const again = SimWorld.restart(images, { seed: 1 });
    if (again.status().state === "inactive") expect(again.startArrays()).toEqual([]);
  }
});

test("replace: another member is missing: who is replaced cannot be taken out", () => {
  const life = new Life("resync");
  const { world } = life;
  world.run(life.replace(16 * 1024));
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "a" });
  const member = { array: ARRAY_NAME, drive: OLD };
  for (const answer of [
    world.call<"fail-member">({ kind: "fail-member", ...member }),
    world.call<"remove-member">({ kind: "remove-member", ...member }),
    world.call<"detach-drive">({ kind: "detach-drive", name: OLD, force: false }),
  ]) {
    expect(answer.ok ? "done" : answer.error.code).toBe("would-lose-data");
  }
  expect(world.status().state).toBe("degraded");
  life.judge();
});

test("replace: what cannot be is refused, and nothing has changed", () => {
  const life = new Life("resync");
  const { world } = life;
  const refusal = (drive: string, other: string): string => {
    const answer = world.call<"replace-member">({
      ...{ kind: "replace-member", array: ARRAY_NAME, drive, with: other, force: false },
    });
    return answer.ok ? "taken" : answer.error.code;
  };
  world.addDrive({ name: "small", sizeBytes: 10 * ROW_BYTES });
  expect(refusal(OLD, OLD)).toBe("drive-in-use");
  expect(refusal(OLD, "a")).toBe("drive-in-use");
  expect(refusal(NEW, "small")).toBe("not-a-member");
  expect(refusal(OLD, "none")).toBe("unknown-drive");
  expect(refusal(OLD, "small")).toBe("drive-too-small");
  expect(life.drives()).toEqual(MEMBERS);
  world.addDrive({ name: "other", sizeBytes: 3 * MIB });
  world.run(life.replace(16 * 1024));
  expect(refusal("a", "other")).toBe("replace-under-way");
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: OLD });
  expect(refusal(NEW, "other")).toBe("member-rebuilding");
  expect(refusal("a", "other")).toBe("degraded");
  world.settle();
  life.judge();
});
