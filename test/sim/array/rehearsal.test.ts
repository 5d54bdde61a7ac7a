/**
 * Goal: a rehearsal of a loss says what the real thing would have met, each byte of it, and
 * changes nothing: no drive gets a write or flush of it, clients read and write as if it were not
 * there, and whatever else happens to the array goes before it.
 *
 * Method: rehearsals on simulated drives, told stories: bad sectors and rot at each row of each
 * member against an independent computation, which is checked against the real loss; clients
 * behind, at and ahead of it; members that die, hang, or come to be replaced; a crash.
 */
import { expect, test } from "bun:test";
import type { JobStatus, MismatchList, PlaceList } from "../../../src/array/protocol.ts";
import { EBADE, EIO, ENXIO } from "../../../src/base/errno.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { isEqual, readImage } from "../world/media.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import { ARRAY_NAME, SimWorld, type WorldOptions } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const CHUNK_ROWS = CHUNK_BYTES / ROW_BYTES;
const STRIPES = 6;
const MEMBERS = ["a", "b", "c"];
const SPARE = "s";
const FAST = Number.MAX_SAFE_INTEGER;
const SLOW = 64 * 1024;

interface Shape extends Partial<WorldOptions> {
  readonly policy?: (typeof POLICIES)[number];
  readonly spares?: readonly string[];
  readonly chunkBytes?: number;
  readonly stripes?: number;
  readonly driveBytes?: number;
  /** Default true. */
  readonly isWritten?: boolean;
}

class Life {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;

  constructor({ policy = "resync", spares = [SPARE], ...rest }: Shape = {}) {
    const { chunkBytes = CHUNK_BYTES, stripes = STRIPES, driveBytes = 3 * MIB, ...more } = rest;
    const { isWritten = true, ...options } = more;
    this.world = new SimWorld({ seed: 1, batchChance: 0.5, ...options });
    for (const name of [...MEMBERS, SPARE]) this.world.addDrive({ name, sizeBytes: driveBytes });
    const memberSizeBytes = stripes * chunkBytes;
    const { sizeBytes } = this.world.createArray({
      ...{ drives: MEMBERS, spares, chunkBytes, memberSizeBytes, consistencyPolicy: policy },
    });
    this.world.settle();
    this.oracle = new SectorOracle({ seed: 1, sectorCount: sizeBytes / SECTOR_BYTES });
    if (!isWritten) return;
    const all = { lba: 0, sectors: this.oracle.sectorCount };
    expect(this.world.run(this.client.write(all, { fua: true }))).toBe(0);
    this.world.settle();
  }

  /** Where the data of each member begins. */
  get data(): number {
    const superblock = superblockOf(this.world.device("a").image());
    if (typeof superblock === "string") throw new Error(superblock);
    return superblock.dataOffsetSectors * SECTOR_BYTES;
  }

  get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  speed(syncSpeedMax: number, syncSpeedMin = syncSpeedMax): void {
    this.world.must({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax, syncSpeedMin });
  }

  ask(drive: string | null, spare: string | null = null) {
    const request = { array: ARRAY_NAME, drive, spare };
    return this.world.call<"start-rehearsal">({ kind: "start-rehearsal", ...request });
  }

  start(drive: string | null, spare: string | null = null): JobStatus {
    const asked = this.ask(drive, spare);
    if (!asked.ok) throw new Error(asked.error.detail);
    return asked.value;
  }

  rehearse(drive: string | null, spare: string | null = null): JobStatus {
    const job = this.world.waitJob(this.start(drive, spare).id);
    expect([job.error, job.state]).toEqual([null, "done"]);
    return job;
  }

  readAll(world = this.world): void {
    const bytes = this.oracle.sectorCount * SECTOR_BYTES;
    const { status, data } = world.run(world.client().read(0, bytes));
    expect(status).toBe(0);
    expect(this.oracle.peek(0, data)?.message ?? null).toBeNull();
  }

  kinds(): string[] {
    return this.world.events.map(({ kind }) => kind);
  }
}

/** All bytes of all drives, from the first to the last. */
function bytesOf(world: SimWorld): Uint8Array[] {
  return world.images().map((image) => readImage(image, 0, image.sizeBytes));
}

function areSame(one: readonly Uint8Array[], other: readonly Uint8Array[]): boolean {
  return one.every((bytes, index) => isEqual(bytes, other[index]!));
}

function placesIn(job: JobStatus, fact: string): [string | null, number, number][] {
  const { places, truncated } = job.result[fact] as PlaceList;
  expect(truncated).toBe(false);
  return places.map(({ drive, offset, bytes }) => [drive, offset, bytes]);
}

/** Left-symmetric: where row `row` of a member's data lies in the array; null: it is parity. */
function arrayByte(role: number, row: number): number | null {
  const stripe = Math.floor(row / CHUNK_ROWS);
  const count = MEMBERS.length;
  const parity = count - 1 - (stripe % count);
  const index = (role - parity - 1 + count) % count;
  if (role === parity) return null;
  return (stripe * (count - 1) + index) * CHUNK_BYTES + (row % CHUNK_ROWS) * ROW_BYTES;
}

for (const policy of POLICIES) {
  test(`rehearsal: ${policy}: each member: it would be rebuilt, and no drive gets a write`, () => {
    const life = new Life({ policy });
    const { world } = life;
    const before = bytesOf(world);
    const changes = world.changesSubmitted;
    for (const drive of MEMBERS) {
      const job = life.rehearse(drive);
      expect(job.result).toMatchObject({
        ...{ verdict: "rebuilt", fails: drive, spare: SPARE, unreadableBytes: 0, lostBytes: 0 },
        ...{ wrongBytes: 0, mismatchBytes: 0, lateReads: 0 },
      });
      expect(job.done).toBe(STRIPES * CHUNK_BYTES);
      const rate = Number(job.result["rateBytesPerSecond"]);
      expect(rate).toBeGreaterThan(0);
      expect(Number(job.result["rebuildSeconds"])).toBe(Math.ceil(job.total / rate));
    }
    expect(world.changesSubmitted).toBe(changes);
    expect(areSame(bytesOf(world), before)).toBe(true);
    expect(world.status()).toMatchObject({ state: "clean", degraded: 0, spares: [SPARE] });
    const told = world.events.findLast(({ kind }) => kind === "rehearsal.finished");
    expect(told).toMatchObject({ severity: "info" });
    expect(told!.message).toContain("without drive c it would have been rebuilt onto drive s");
  });
}

test("rehearsal: a bad sector at each row of a survivor: its place, and what of the array is lost", () => {
  const losses = new Set<number>();
  for (let row = 0; row < STRIPES * CHUNK_ROWS; row += 1) {
    const life = new Life();
    const { world } = life;
    const bad = (row + 1) % MEMBERS.length;
    world.device(MEMBERS[bad]!).addLatent(life.data + row * ROW_BYTES + 512);
    const changes = world.changesSubmitted;
    for (const [role, drive] of MEMBERS.entries()) {
      if (role === bad) {
        const { result } = life.rehearse(drive);
        // Who is lost is not asked: it costs nothing but the comparison of that row.
        expect(result).toMatchObject({ verdict: "rebuilt", unverifiedBytes: ROW_BYTES });
        continue;
      }
      const job = life.rehearse(drive);
      const expected = [arrayByte(bad, row), arrayByte(role, row)]
        .filter((at) => at !== null)
        .sort((one, other) => one - other);
      losses.add(expected.length);
      const lost = placesIn(job, "lostPlaces").flatMap(([, offset, bytes]) =>
        Array.from({ length: bytes / ROW_BYTES }, (_, index) => offset + index * ROW_BYTES),
      );
      expect(lost).toEqual(expected);
      expect(job.result).toMatchObject({
        ...{ verdict: "lost", unreadableBytes: ROW_BYTES, mismatchBytes: 0 },
        lostBytes: expected.length * ROW_BYTES,
      });
      const place = [MEMBERS[bad]!, life.data + row * ROW_BYTES, ROW_BYTES];
      expect(placesIn(job, "unreadablePlaces")).toEqual([place] as never);
    }
    // Nothing was repaired, entered or counted.
    expect(world.changesSubmitted).toBe(changes);
    expect(world.status()).toMatchObject({ state: "clean", degraded: 0, lostBytes: 0 });
    for (const kind of ["sector.repaired", "io.error"]) expect(life.kinds()).not.toContain(kind);
  }
  expect([...losses].sort()).toEqual([1, 2]);
});

test("rehearsal: what it said is lost: is what the real loss loses", () => {
  const life = new Life();
  const { world } = life;
  for (const row of [1, 6]) world.device("c").addLatent(life.data + row * ROW_BYTES);
  const said = life.rehearse("b");
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  world.simulation.runFor(500);
  const { lostBytes } = world.settle();
  expect(world.status().members[1]).toMatchObject({ drive: SPARE, state: "in-sync" });
  expect(said.result["lostBytes"]).toBe(lostBytes);
  const refused: number[] = [];
  for (let at = 0; at < life.oracle.sectorCount * SECTOR_BYTES; at += ROW_BYTES) {
    const { status } = world.run(world.client().read(at, ROW_BYTES));
    if (status === EIO) refused.push(at);
  }
  const told = placesIn(said, "lostPlaces").flatMap(([, offset, bytes]) =>
    Array.from({ length: bytes / ROW_BYTES }, (_, index) => offset + index * ROW_BYTES),
  );
  expect(told).toEqual(refused);
  expect(refused.length).toBeGreaterThan(1);
});

test("rehearsal: rot at a row of each member: it does not match, and the array's row is told", () => {
  for (let row = 0; row < STRIPES * CHUNK_ROWS; row += 1) {
    const life = new Life();
    const { world } = life;
    world.device(MEMBERS[row % MEMBERS.length]!).rot(life.data + row * ROW_BYTES + 1024, 512);
    const changes = world.changesSubmitted;
    for (const [role, drive] of MEMBERS.entries()) {
      const job = life.rehearse(drive);
      const { ranges } = job.result["mismatchRanges"] as MismatchList;
      const firstSector = (row * ROW_BYTES) / SECTOR_BYTES;
      expect(ranges).toHaveLength(1);
      expect(ranges[0]).toMatchObject({ firstSector, sectorCount: ROW_BYTES / SECTOR_BYTES });
      const at = arrayByte(role, row);
      const wrong = at === null ? [] : [[null, at, ROW_BYTES]];
      expect(placesIn(job, "wrongPlaces")).toEqual(wrong as never);
      expect(job.result["verdict"]).toBe(at === null ? "rebuilt" : "lost");
    }
    expect(world.changesSubmitted).toBe(changes);
  }
});

test("rehearsal: chunks above the piece that is read at a time, rot and bad sectors in one of them", () => {
  const life = new Life({ chunkBytes: 256 * 1024, stripes: 3, driveBytes: 8 * MIB });
  const { world } = life;
  const rows = { bad: 3, rotten: 5, rottenLater: 40 };
  world.device("a").addLatent(life.data + rows.bad * ROW_BYTES);
  world.device("b").rot(life.data + rows.rotten * ROW_BYTES, 512);
  world.device("b").rot(life.data + rows.rottenLater * ROW_BYTES, 512);
  const job = life.rehearse("c");
  const { ranges } = job.result["mismatchRanges"] as MismatchList;
  expect(ranges.map(({ firstSector }) => firstSector / 8)).toEqual([rows.rotten, rows.rottenLater]);
  expect(job.result).toMatchObject({ unreadableBytes: ROW_BYTES, mismatchBytes: 2 * ROW_BYTES });
});

for (const policy of POLICIES) {
  test(`rehearsal: ${policy}: clients write behind, at and ahead of it: nothing is torn`, () => {
    const life = new Life({ policy });
    const { world, client, oracle } = life;
    life.speed(SLOW, 1);
    const { id } = life.start("b");
    const chunkSectors = CHUNK_BYTES / SECTOR_BYTES;
    let rounds = 0;
    while (world.job(id).state === "running") {
      const cursor = Math.min(world.job(id).done / CHUNK_BYTES, STRIPES - 1);
      for (const stripe of [0, cursor, STRIPES - 1]) {
        const lba = stripe * 2 * chunkSectors + (rounds % 7);
        const writes = [
          client.write({ lba, sectors: 3 + (rounds % 9) }, { fua: rounds % 3 === 0 }),
          client.write({ lba: (stripe * 2 + 1) * chunkSectors, sectors: chunkSectors }),
        ];
        for (const status of world.run(Promise.all(writes))) expect(status).toBe(0);
      }
      rounds += 1;
      world.simulation.runFor(7);
      if (rounds === 20) life.speed(FAST);
    }
    expect(rounds).toBeGreaterThan(10);
    expect(world.job(id)).toMatchObject({ state: "done", error: null });
    expect(world.job(id).result).toMatchObject({ verdict: "rebuilt", mismatchBytes: 0 });
    life.readAll();
    world.settle();
    expect(world.check()).toBe(0);
    world.must({ kind: "stop-array", array: ARRAY_NAME });
    oracle.crash();
    for (const left of MEMBERS) {
      const images = world.images().filter(({ name }) => name !== left);
      const again = SimWorld.restart(images, { seed: 1 });
      if (again.status().state === "inactive") expect(again.startArrays()).toEqual([]);
      life.readAll(again);
    }
  });
}

test("rehearsal: a member dies in the middle: it ends, and the real rebuild begins at once", () => {
  for (const victim of MEMBERS) {
    const life = new Life();
    const { world, client } = life;
    life.speed(SLOW);
    const { id } = life.start("b");
    world.simulation.runFor(200);
    const { done } = world.job(id);
    expect(done).toBeGreaterThan(0);
    expect(done).toBeLessThan(STRIPES * CHUNK_BYTES);
    // Some of its reads, or a write of a client, meet it first.
    world.device(victim).faults.plan({ fault: { kind: "dead", errno: ENXIO }, count: 99 });
    expect(world.run(client.write({ lba: 3, sectors: 40 }, { fua: true }))).toBe(0);
    const job = world.waitJob(id);
    expect(job).toMatchObject({ state: "failed", kind: "rehearsal" });
    expect(job.error).toContain(`drive ${victim}`);
    expect(life.kinds()).toContain("rehearsal.aborted");
    world.simulation.runFor(500);
    expect(world.status().sync.action).toBe("rebuild");
    life.speed(FAST);
    expect(world.settle().members.some(({ drive }) => drive === SPARE)).toBe(true);
    life.readAll();
    expect(world.check()).toBe(0);
  }
});

test("rehearsal: its own read meets a member that is gone: that is failed as by any read", () => {
  const life = new Life();
  const { world } = life;
  world.device("c").faults.plan({ fault: { kind: "dead", errno: ENXIO }, op: Op.read, count: 99 });
  const { id } = life.start("a");
  expect(world.waitJob(id).state).toBe("failed");
  expect(world.settle().members.map(({ drive }) => drive)).toEqual(["a", "b", SPARE]);
  life.readAll();
});

test("rehearsal: 300 bad sectors in a row: told, and the member stays", () => {
  const life = new Life({ chunkBytes: 512 * 1024, stripes: 3, driveBytes: 8 * MIB });
  const { world } = life;
  for (let row = 0; row < 300; row += 1) world.device("a").addLatent(life.data + row * ROW_BYTES);
  const job = life.rehearse("b");
  expect(job.result).toMatchObject({ verdict: "lost", unreadableBytes: 300 * ROW_BYTES });
  expect(placesIn(job, "unreadablePlaces")).toEqual([["a", life.data, 300 * ROW_BYTES]]);
  expect(world.status()).toMatchObject({ degraded: 0, state: "clean" });
});

test("rehearsal: more bad sectors than a bad-block log takes: the rebuild would have ended", () => {
  const life = new Life({
    chunkBytes: 64 * 1024,
    stripes: 72,
    driveBytes: 8 * MIB,
    isWritten: false,
  });
  const { world } = life;
  // Every other row is an entry of its own, and a log takes 512.
  for (let row = 0; row < 512; row += 1)
    world.device("a").addLatent(life.data + row * 2 * ROW_BYTES);
  expect(life.rehearse("b").result["verdict"]).toBe("lost");
  world.device("a").addLatent(life.data + 512 * 2 * ROW_BYTES);
  const { result } = life.rehearse("b");
  expect(result).toMatchObject({
    ...{ verdict: "not-rebuilt", unreadableBytes: 513 * ROW_BYTES },
    obstacle: expect.stringContaining("bad-block log of drive a has no room"),
  });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  world.simulation.runFor(500);
  world.settle();
  expect(life.kinds()).toContain("rebuild.aborted");
  expect(world.status().degraded).toBe(1);
});

test("rehearsal: a survivor that does not answer: late, looked at again by none, and told", () => {
  const life = new Life();
  const { world } = life;
  world
    .device("c")
    .faults.plan({ fault: { kind: "hang" }, op: Op.read, offset: life.data, bytes: 4096 });
  const job = life.rehearse("a");
  expect(job.result).toMatchObject({
    ...{ verdict: "unproven", lateReads: 1, uncheckedBytes: CHUNK_BYTES, lostBytes: 0 },
  });
  world.device("c").release();
  expect(world.status().degraded).toBe(0);
  life.readAll();
  world.simulation.runFor(10_000);
  expect(life.rehearse("a").result["verdict"]).toBe("rebuilt");
});

test("rehearsal: another host takes the drives: it ends with that", () => {
  const life = new Life();
  const { world } = life;
  life.speed(SLOW);
  const { id } = life.start("a");
  world.simulation.runFor(100);
  world.device("b").faults.plan({ fault: { kind: "dead", errno: EBADE }, count: 99 });
  expect(world.waitJob(id).state).toBe("failed");
  expect(world.status().state).toBe("fenced");
});

test("rehearsal: paused, it goes on from its place; a paused one ends with another, and at a stop", () => {
  const life = new Life();
  const { world } = life;
  life.speed(SLOW);
  world.device("c").addLatent(life.data);
  const { id } = life.start("a");
  world.simulation.runFor(200);
  const paused = world.must<"pause-rehearsal">({ kind: "pause-rehearsal", array: ARRAY_NAME });
  expect(paused).toMatchObject({ id, state: "paused" });
  expect(paused.done).toBeGreaterThan(0);
  expect(world.status().sync.action).toBe("idle");
  expect(world.check()).toBe(0);
  life.speed(FAST);
  const job = life.rehearse("a");
  expect([job.id, job.result["unreadableBytes"]]).toEqual([id, ROW_BYTES]);
  life.speed(SLOW);
  const other = life.start("b");
  world.must({ kind: "pause-rehearsal", array: ARRAY_NAME });
  // Where nobody is named it is the one that was paused, not the member with the most errors.
  expect(life.start(null)).toMatchObject({ id: other.id, result: { fails: "b" } });
  world.must({ kind: "pause-rehearsal", array: ARRAY_NAME });
  life.speed(FAST);
  expect(life.rehearse("c").id).not.toBe(other.id);
  expect(world.job(other.id)).toMatchObject({ state: "cancelled" });
  life.speed(SLOW);
  const last = life.start("b");
  world.must({ kind: "pause-rehearsal", array: ARRAY_NAME });
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(world.job(last.id)).toMatchObject({ state: "cancelled", error: "the array was stopped" });
});

test("rehearsal: cancelled, running and paused: over, and another can begin", () => {
  const life = new Life();
  const { world } = life;
  life.speed(SLOW);
  const first = life.start("a");
  world.simulation.runFor(100);
  expect(world.must<"cancel-job">({ kind: "cancel-job", id: first.id }).state).toBe("cancelled");
  const second = life.start("a");
  world.must({ kind: "pause-rehearsal", array: ARRAY_NAME });
  expect(world.must<"cancel-job">({ kind: "cancel-job", id: second.id }).state).toBe("cancelled");
  life.speed(FAST);
  expect(life.rehearse("a").result["verdict"]).toBe("rebuilt");
});

test("rehearsal: a crash in the middle: the drives are as without one, and nothing goes on", () => {
  const life = new Life();
  const { world } = life;
  life.speed(SLOW);
  const { id } = life.start("a");
  world.simulation.runFor(200);
  expect(world.job(id).state).toBe("running");
  const again = SimWorld.restart(world.crash("random"), { seed: 2 });
  life.oracle.crash();
  expect(again.status()).toMatchObject({ state: "clean", degraded: 0, sync: { action: "idle" } });
  expect(again.must<"list-jobs">({ kind: "list-jobs" })).toEqual([]);
  life.readAll(again);
});

test("rehearsal: what gives way: to a replace and a stop, while a scrub waits for it", () => {
  const life = new Life();
  const { world } = life;
  life.speed(SLOW);
  const { id } = life.start("a");
  const scrub = { mode: "check", limitBytesPerSecond: null, restart: false } as const;
  const refused = world.call({ kind: "start-scrub", array: ARRAY_NAME, ...scrub });
  expect(refused).toMatchObject({ ok: false, error: { code: "scrub-not-possible" } });
  const replace = { array: ARRAY_NAME, drive: "b", with: SPARE, force: false };
  const replaced = world.must<"replace-member">({ kind: "replace-member", ...replace });
  expect(world.job(id).state).toBe("cancelled");
  expect(life.ask("a")).toMatchObject({ ok: false, error: { code: "rehearsal-not-possible" } });
  life.speed(FAST);
  expect(world.waitJob(replaced.id).state).toBe("done");
  life.speed(SLOW);
  const last = life.start("a");
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(world.job(last.id)).toMatchObject({ state: "cancelled", error: "the array was stopped" });
});

test("rehearsal: who takes the role: its own spare, the shared one, or nobody, who fits or not", () => {
  const bare = new Life({ spares: [] });
  const nobody = bare.rehearse("a");
  expect(nobody.result).toMatchObject({ verdict: "not-rebuilt", spare: "" });
  expect(nobody.result["obstacle"]).toContain("has no spare that fits");
  const before = bytesOf(bare.world);
  expect(bare.rehearse("a", SPARE).result).toMatchObject({ verdict: "rebuilt", spare: SPARE });
  bare.world.addDrive({ name: "small", sizeBytes: 32 * 1024 });
  expect(bare.rehearse("a", "small").result).toMatchObject({
    ...{ verdict: "not-rebuilt", spare: "small" },
    obstacle: expect.stringContaining("take a larger drive"),
  });
  expect(areSame(before, bytesOf(bare.world))).toBe(true);
  const own = new Life();
  const dead = { kind: "result", result: -EIO } as const;
  own.world.device(SPARE).faults.plan({ fault: dead, op: Op.read, count: 99 });
  expect(own.rehearse("a", "shared").result).toMatchObject({
    ...{ verdict: "not-rebuilt", spare: SPARE },
    obstacle: expect.stringContaining("cannot be read"),
  });
});

test("rehearsal: a spare that does not answer: it waits for that, and gives way all the same", () => {
  const life = new Life();
  const { world } = life;
  world.device(SPARE).faults.plan({ fault: { kind: "hang" }, op: Op.read });
  const { id } = life.start("a");
  world.simulation.runFor(20_000);
  expect(world.job(id)).toMatchObject({ state: "running", done: STRIPES * CHUNK_BYTES });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  world.simulation.runFor(100);
  expect(world.job(id)).toMatchObject({ state: "failed" });
  world.device(SPARE).release();
  world.simulation.runFor(1000);
  expect(world.settle().members.map(({ drive }) => drive)).toEqual(["a", "b", SPARE]);
});

test("rehearsal: rows on bad-block logs: of a survivor lost, of who is lost not compared", () => {
  const life = new Life({ policy: "bitmap" });
  const { world, client } = life;
  const row = 3;
  const noWrite = { kind: "result", result: -EIO } as const;
  const place = { offset: life.data + row * ROW_BYTES, bytes: ROW_BYTES };
  world.device("b").faults.plan({ ...place, fault: noWrite, op: Op.write, count: 99 });
  const all = { lba: 0, sectors: life.oracle.sectorCount };
  expect(world.run(client.write(all, { fua: true }))).toBe(0);
  world.settle();
  // It reads, and what it reads is old.
  expect(life.rehearse("b").result).toMatchObject({
    ...{ verdict: "rebuilt", mismatchBytes: 0, unverifiedBytes: ROW_BYTES },
  });
  const job = life.rehearse("a");
  expect(job.result).toMatchObject({ verdict: "lost", unreadableBytes: ROW_BYTES });
  expect(placesIn(job, "unreadablePlaces")).toEqual([["b", place.offset, ROW_BYTES]]);
  expect(world.status().members[1]!.errors.fixed).toBe(0);
});

test("rehearsal: paused when a member fails: it ends with that", () => {
  const life = new Life({ spares: [] });
  const { world } = life;
  life.speed(SLOW);
  const { id } = life.start("a");
  world.must({ kind: "pause-rehearsal", array: ARRAY_NAME });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  expect(world.job(id)).toMatchObject({ state: "failed", error: expect.stringContaining("c") });
});

test("rehearsal: without a name: the member with the most errors", () => {
  const life = new Life();
  expect(life.rehearse(null).result["fails"]).toBe("a");
  const { world } = life;
  world.device("b").addLatent(life.data);
  expect(world.check()).toBe(0);
  expect(life.rehearse(null).result["fails"]).toBe("b");
});

test("rehearsal: what cannot be rehearsed: refused, with a way out", () => {
  const life = new Life({ spares: [] });
  const { world } = life;
  expect(life.ask("nobody")).toMatchObject({
    error: { kind: "not-found", detail: expect.stringContaining("name one of a, b, c") },
  });
  expect(world.call({ kind: "pause-rehearsal", array: ARRAY_NAME })).toMatchObject({
    error: { code: "no-rehearsal" },
  });
  life.speed(SLOW);
  const { id } = life.start("a");
  expect(life.ask("b")).toMatchObject({
    error: { kind: "conflict", detail: expect.stringContaining(`job ${id}`) },
  });
  world.must({ kind: "cancel-job", id });
  world.must({ kind: "fail-member", array: ARRAY_NAME, drive: "c" });
  expect(life.ask("a")).toMatchObject({
    error: { detail: expect.stringContaining("degraded: add a drive") },
  });
  world.must({ kind: "stop-array", array: ARRAY_NAME });
  expect(life.ask("a")).toMatchObject({ error: { code: "not-running" } });
  const image = world.images().find(({ name }) => name === "a");
  expect(typeof superblockOf(image!)).toBe("object");
});
