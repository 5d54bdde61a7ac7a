/**
 * Goal: an array is laid out over more members while clients write, and nothing is lost: whoever
 * fails, and whenever the machine goes. In the end each byte lies where an array that had so many
 * members from its begin would have it.
 *
 * Method: lives drawn from a seed (workload/reshape-life.ts); a short one that is lived once for
 * each request of a drive that is lost at it; one that is cut short again and again; and told
 * stories.
 */
import { expect, test } from "bun:test";
import { SETTLE_MS } from "../../../src/array/sync/sync-pace.ts";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { ReshapeLife, TornLife } from "../workload/reshape-life.ts";
import { patchImage, readImage } from "../world/media.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import type { CrashPolicy } from "../world/sim-device.ts";
import { SimSpace } from "../world/sim-space.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 12;
const MEMBERS = ["d0", "d1", "d2"];
const ADDED = "d3";
const OLD_BYTES = STRIPES * 2 * CHUNK_BYTES;
const NEW_BYTES = STRIPES * 3 * CHUNK_BYTES;
const OLD_SECTORS = OLD_BYTES / SECTOR_BYTES;
const NEVER = Number.POSITIVE_INFINITY;
const CUTS: readonly CrashPolicy[] = ["keep", "drop", "random"];

class Life {
  world: SimWorld;
  readonly oracle: SectorOracle;

  constructor(seed = 1) {
    const world = new SimWorld({ seed, batchChance: 0.5 });
    for (const name of [...MEMBERS, ADDED]) world.addDrive({ name, sizeBytes: 3 * MIB });
    world.createArray({
      ...{ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes: STRIPES * CHUNK_BYTES },
      consistencyPolicy: "resync",
    });
    world.settle();
    this.world = world;
    this.oracle = new SectorOracle({ seed, sectorCount: NEW_BYTES / SECTOR_BYTES });
    expect(world.run(this.client.write({ lba: 0, sectors: OLD_SECTORS }, { fua: true }))).toBe(0);
  }

  get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  get sizeBytes(): number {
    return this.world.status().sizeBytes;
  }

  begin(drives: readonly string[] = [ADDED]) {
    return this.world.call<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives, force: false, policyAfter: "resync" },
    });
  }

  /** Of a member's bytes a second. */
  setSpeed(syncSpeedMax: number): void {
    const limits = { syncSpeedMax, syncSpeedMin: 1 };
    this.world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...limits });
  }

  /** Writes all the while, also across what is being moved. */
  writeFor(ms: number): void {
    const { world, client } = this;
    const endMs = world.nowMs + ms;
    for (let round = 0; world.nowMs < endMs; round += 1) {
      const lba = (round * 379) % (OLD_SECTORS - 60);
      void client.write({ lba, sectors: 3 + (round % 50) }, { fua: round % 3 === 0 });
      void client.write({ lba: OLD_SECTORS - 9 - (round % 7), sectors: 9 });
      if (round % 5 === 0) void client.flush();
      world.simulation.runFor(Math.min(0.7, endMs - world.nowMs));
    }
  }

  readAll(): void {
    const { world } = this;
    const { status, data } = world.run(world.client().read(0, this.sizeBytes));
    expect(status).toBe(0);
    expect(this.oracle.peek(0, data)?.message ?? null).toBeNull();
  }

  /** The machine starts again with these drives. */
  restart(names: readonly string[], policy: CrashPolicy = "keep"): void {
    const images = this.world.crash(policy).filter(({ name }) => names.includes(name));
    this.oracle.crash();
    this.world = SimWorld.restart(images, { seed: 1, batchChance: 0.5 });
    if (this.world.status().state === "inactive") expect(this.world.startArrays()).toEqual([]);
  }

  judge(): void {
    const { degraded } = this.world.settle();
    expect([degraded, this.sizeBytes]).toEqual([0, NEW_BYTES]);
    this.readAll();
    expect(this.world.check()).toBe(0);
  }
}

test("reshape: zeros behind the old end, and the events of a growth", () => {
  const life = new Life();
  expect(life.begin()).toMatchObject({ ok: true, value: { kind: "reshape", state: "running" } });
  expect(life.sizeBytes).toBe(OLD_BYTES);
  life.writeFor(10);
  life.judge();
  const { world } = life;
  const { data } = world.run(world.client().read(OLD_BYTES, NEW_BYTES - OLD_BYTES));
  expect(data.every((byte) => byte === 0)).toBe(true);
  const told = world.events.map(({ kind }) => kind);
  expect(told.filter((kind) => /reshape|grown|degraded|failed/.test(kind))).toEqual([
    "reshape.started",
    "array.grown",
  ]);
});

test("reshape: the status has the new size when clients can have it, and no sooner", () => {
  for (let skip = 0; skip < 4; skip += 1) {
    const life = new Life();
    const { world } = life;
    expect(life.begin().ok).toBe(true);
    life.setSpeed(MIB);
    // The update that ends it takes its time.
    const fault = { kind: "slow", delayMs: 2_000 } as const;
    const superblock = { op: Op.write, offset: 4096, bytes: 4096 };
    world.device("d1").faults.plan({ fault, ...superblock, skip, count: NEVER });
    let isOver = false;
    while (!isOver) {
      world.simulation.runFor(100);
      const { sizeBytes } = world.status();
      expect(sizeBytes).toBe(world.service.frontOf(ARRAY_NAME)!.sizeBytes);
      isOver = sizeBytes === NEW_BYTES;
    }
  }
});

// Every request --------------------------------------------------------------------------------

/** At the nth request of the victim from the begin on it is gone. The answer is how many it got. */
function lose(victim: string, nth: number): number {
  const life = new Life(1);
  const { world } = life;
  const device = world.device(victim);
  const submit = device.submit.bind(device);
  let requests = 0;
  device.submit = (request) => {
    requests += 1;
    const fault = { kind: "dead", errno: ENXIO } as const;
    if (requests === nth) device.faults.plan({ fault, count: NEVER });
    submit(request);
  };
  if (life.begin().ok) life.writeFor(SETTLE_MS + 8);
  const { state } = world.settle();
  expect([victim, nth, state]).toEqual([victim, nth, expect.stringMatching(/^(clean|degraded)$/)]);
  expect([OLD_BYTES, NEW_BYTES]).toContain(life.sizeBytes);
  life.readAll();
  const count = requests;
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  life.restart([...MEMBERS, ADDED].filter((name) => name !== victim));
  life.world.settle();
  life.readAll();
  return count;
}

for (const victim of ["d0", "d2", ADDED]) {
  test(`reshape: ${victim} is lost at any of its requests: nothing is lost`, () => {
    const all = Array.from({ length: lose(victim, NEVER) }, (_, index) => index + 1);
    expect(all.length).toBeGreaterThan(60);
    const share = new Share(`reshape ${victim}`, 12);
    withShare(() => {
      for (const nth of share.of(all)) lose(victim, nth);
    });
  });
}

test.each(CUTS)("reshape: the power goes (%s), again and again: it goes on", (policy) => {
  const share = new Share(`reshape cuts ${policy}`, 4);
  const all = Array.from({ length: 48 }, (_, index) => index);
  withShare(() => {
    for (const cut of share.of(all)) {
      const life = new Life(cut + 1);
      expect(life.begin().ok).toBe(true);
      life.setSpeed(4 * MIB);
      for (let again = 0; again < 3; again += 1) {
        life.writeFor(SETTLE_MS + 0.37 * cut);
        life.restart([...MEMBERS, ADDED], policy);
        life.readAll();
      }
      life.judge();
    }
  });
});

test("reshape: lives drawn from a seed", () => {
  const share = new Share("reshape lives", 4);
  const seed = Number(process.env["SEED"] ?? Number.NaN);
  const all = Array.from({ length: 48 }, (_, index) => index + 1);
  const causes = new Map<string, number>();
  withShare(() => {
    for (const each of Number.isNaN(seed) ? share.of(all) : [seed]) {
      const life = new ReshapeLife({ seed: each });
      try {
        life.run();
      } catch (error) {
        if (!(error instanceof TornLife)) throw error;
        causes.set("torn", (causes.get("torn") ?? 0) + 1);
      }
      for (const [cause, times] of life.causes) causes.set(cause, (causes.get(cause) ?? 0) + times);
    }
  });
  if (Number.isNaN(seed)) expect(causes.get("power cut")).toBeGreaterThan(5);
});

// Stories --------------------------------------------------------------------------------------

test("reshape: rows that nobody can give are lost there as here, and no other", () => {
  const life = new Life();
  const { world } = life;
  // Of stripe 5 (parity on d0: 2 - 5 mod 3): row 1 of both data chunks cannot be read.
  const offset = dataOffset(world) + 5 * CHUNK_BYTES + ROW_BYTES;
  for (const name of ["d1", "d2"]) world.device(name).addLatent(offset);
  const lost = [0, 1].map((index) => (5 * 2 + index) * CHUNK_BYTES + ROW_BYTES);
  expect(life.begin().ok).toBe(true);
  expect(world.settle().sizeBytes).toBe(NEW_BYTES);
  for (let at = 0; at < NEW_BYTES; at += ROW_BYTES) {
    const { status, data } = world.run(world.client().read(at, ROW_BYTES));
    expect([at, status]).toEqual([at, lost.includes(at) ? EIO : 0]);
    if (status === 0) expect(life.oracle.peek(at / SECTOR_BYTES, data)).toBeNull();
  }
  expect(world.status().lostBytes).toBe(2 * ROW_BYTES);
  // Written again they are as any other.
  for (const at of lost) {
    const range = { lba: at / SECTOR_BYTES, sectors: ROW_BYTES / SECTOR_BYTES };
    expect(world.run(life.client.write(range, { fua: true }))).toBe(0);
  }
  life.judge();
});

test("reshape: a slow read of before: what it reads is not written over until it is answered", () => {
  for (let round = 0; round < 12; round += 4) {
    const life = new Life();
    const { world } = life;
    expect(life.begin().ok).toBe(true);
    life.setSpeed(8 * MIB);
    world.simulation.runFor(round / 2);
    const fault = { kind: "slow", delayMs: 200 } as const;
    for (const name of MEMBERS) world.device(name).faults.plan({ fault, op: Op.read, count: 3 });
    const reads = [0, 40, 80, 120, 160, 200, 240, 280, 320].map((lba) =>
      life.client.read({ lba, sectors: 16 }),
    );
    life.writeFor(20);
    expect([round, ...world.run(Promise.all(reads))]).toEqual([round, ...reads.map(() => 0)]);
    life.judge();
  }
});

test("reshape: a member that does not answer: what is moved comes from the others", () => {
  for (const nth of [0, 1, 2, 3, 5, 8]) {
    const life = new Life(nth);
    const { world } = life;
    expect(life.begin().ok).toBe(true);
    life.setSpeed(4 * MIB);
    const plan = { fault: { kind: "hang" }, op: Op.read, count: 3, skip: nth } as const;
    world.device("d1").faults.plan(plan);
    // Before clients meet it, which would have reads go around it.
    world.simulation.runFor(nth % 2 === 0 ? 0 : 40);
    life.writeFor(20);
    world.simulation.runFor(60_000);
    expect([nth, life.sizeBytes]).toEqual([nth, NEW_BYTES]);
    life.readAll();
    world.device("d1").release();
    life.judge();
  }
});

test("reshape: no room on a drive: it waits, clients go on, and it ends when there is room", () => {
  const life = new Life();
  const { world } = life;
  expect(life.begin().ok).toBe(true);
  const space = new SimSpace({ random: new SeededRandom(1), kind: "copy-on-write", chance: 1 });
  space.fill([world.device(ADDED)]);
  life.writeFor(400);
  const { sizeBytes, sync } = world.status();
  expect([sizeBytes, sync.action, sync.waits]).toEqual([
    ...[OLD_BYTES, "reshape", "no space on a member"],
  ]);
  SimSpace.giveRoom([world.device(ADDED)]);
  life.judge();
  expect(world.status().sync.waits).toBeUndefined();
});

test("reshape: stopped in the middle: it goes on at the next start", () => {
  const life = new Life();
  expect(life.begin().ok).toBe(true);
  life.setSpeed(MIB);
  life.writeFor(20);
  const { world } = life;
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const { reason } = world.status();
  expect(reason).toBe("stopped");
  life.restart([...MEMBERS, ADDED]);
  expect(life.sizeBytes).toBe(OLD_BYTES);
  life.judge();
});

test("reshape: its begin reaches any drives, and not the others: each has its data in one place", () => {
  const life = new Life();
  const { world } = life;
  const drives = [...MEMBERS, ADDED];
  world.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: ADDED, force: false });
  world.settle();
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const before = world.images();
  world.must<"start-array">({
    ...{ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false },
  });
  expect(life.begin().ok).toBe(true);
  const begun = world.crash("drop");
  for (let reached = 1; reached < 2 ** drives.length; reached += 1) {
    const images = begun.map((image, index) => {
      if ((reached & (1 << index)) !== 0) return image;
      const block = readImage(before[index]!, SUPERBLOCK_OFFSET_BYTES, ROW_BYTES);
      return patchImage(image, SUPERBLOCK_OFFSET_BYTES, block);
    });
    for (const inOrder of [images, images.toReversed()]) {
      life.world = SimWorld.restart(inOrder, { seed: reached });
      life.readAll();
      // The old members were whole before the only drive came that it had reached: still a spare.
      const isUnknown = reached === 8 && inOrder === images;
      expect([reached, life.world.status().spares]).toEqual([reached, isUnknown ? [ADDED] : []]);
      if (isUnknown) expect(life.begin().ok).toBe(true);
      life.judge();
      life.restart(drives);
      life.judge();
    }
  }
});

test("reshape: a member is gone and the power goes, and nobody wrote: it goes on by itself", () => {
  const life = new Life();
  expect(life.begin().ok).toBe(true);
  life.setSpeed(64 * KIB);
  const drive = "d1";
  life.world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive });
  const { core } = life.world.service.registry.byName(ARRAY_NAME)!.running!;
  const { positionBytes } = core.geometry;
  while (core.geometry.positionBytes === positionBytes) life.world.simulation.step();
  expect(life.world.status()).toMatchObject({ degraded: 1, sync: { action: "reshape" } });
  life.restart(["d0", "d2", ADDED], "random");
  expect(life.world.settle()).toMatchObject({ degraded: 1, sizeBytes: NEW_BYTES });
  life.readAll();
});

test.each(["d9", "d1"])(
  "reshape: %s for the role that is free: a spare at once, and rebuilt behind it",
  (drive) => {
    const life = new Life();
    const { world } = life;
    world.addDrive({ name: "d9", sizeBytes: 3 * MIB });
    expect(life.begin().ok).toBe(true);
    life.setSpeed(64 * KIB);
    world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "d1" });
    const added = world.call<"add-member">({
      ...{ kind: "add-member", array: ARRAY_NAME, drive, force: false },
    });
    expect(added).toMatchObject({ ok: true, value: { role: "spare" } });
    const { sync, members, spares } = world.status();
    expect([sync.action, members[1]!.drive, spares]).toEqual([
      "reshape",
      drive === "d1" ? null : "d1",
      [drive],
    ]);
    life.setSpeed(Number.MAX_SAFE_INTEGER);
    life.judge();
    expect(world.status().members[1]!.drive).toBe(drive);
  },
);

test("reshape: refused, and nothing is changed", () => {
  const life = new Life();
  const { world } = life;
  const before = world.images();
  const refused = (drives: readonly string[]) => {
    const result = life.begin(drives);
    return result.ok ? "taken" : result.error.code;
  };
  expect(refused(["d9"])).toBe("unknown-drive");
  expect(refused(["d0"])).toBe("drive-in-use");
  expect(refused([])).toBe("no-drives");
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: "bitmap" });
  expect(refused([ADDED])).toBe("growth-not-now");
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, consistencyPolicy: "resync" });
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "d1" });
  expect(refused([ADDED])).toBe("growth-not-now");
  const added = (images: ReturnType<SimWorld["images"]>) =>
    images.find(({ name }) => name === ADDED)!.pages;
  expect(added(world.images())).toEqual(added(before));
});

test("reshape: a stripe of the larger array is more than the memory takes: refused before", () => {
  const world = new SimWorld({ seed: 1 });
  const names = ["d0", "d1", "d2", "d3", "d4"];
  for (const name of names) world.addDrive({ name, sizeBytes: 24 * MIB });
  const drives = names.slice(0, 4);
  world.createArray({ drives, chunkBytes: MIB, consistencyPolicy: "resync" });
  world.settle();
  // Four chunks are half of it.
  Object.defineProperty(world.context.enginePool, "totalBytes", { value: 8 * MIB });
  const grown = world.call<"add-members">({
    ...{ kind: "add-members", array: ARRAY_NAME, drives: ["d4"], force: false },
    policyAfter: "resync",
  });
  expect(grown).toMatchObject({ ok: false, error: { code: "no-memory" } });
  expect(world.status()).toMatchObject({ state: "clean", spares: [] });
});

function dataOffset(world: SimWorld): number {
  const { members } = world.service.registry.byName(ARRAY_NAME)!.running!.core;
  return members.dataOffset[0]!;
}
