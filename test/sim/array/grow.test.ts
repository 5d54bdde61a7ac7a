/**
 * Goal: an array whose members have become larger uses that room when it is asked to, while clients
 * write; whatever meets it on the way, nothing is lost, and it is of the old size or of the new
 * one, with parity that is right.
 *
 * Method: a short life with a growth under writes, on drives that held other data before, is lived
 * once for each request that one of its drives gets; and told stories of what a growth meets.
 */
import { expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../../src/array/protocol.ts";
import { EIO, ENOSPC, ENXIO } from "../../../src/base/errno.ts";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { Op } from "../../../src/reactor/io-table.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { Share, withShare } from "../../helpers/share.ts";
import { withGarbageBehind } from "../world/garbage-behind.ts";
import { parityMismatches, superblockOf, viewMembers } from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { OracleClient } from "../world/oracle-client.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";

const CHUNK_BYTES = 8192;
const OLD_STRIPES = 4;
const NEW_STRIPES = 10;
const MEMBERS = ["a", "b", "c"];
const DATA_CHUNKS = MEMBERS.length - 1;
const STRIPE_SECTORS = (DATA_CHUNKS * CHUNK_BYTES) / SECTOR_BYTES;
const OLD_SECTORS = OLD_STRIPES * STRIPE_SECTORS;
const NEW_SECTORS = NEW_STRIPES * STRIPE_SECTORS;
const NEW_BYTES = NEW_SECTORS * SECTOR_BYTES;
const OLD_BYTES = OLD_SECTORS * SECTOR_BYTES;
const NEVER = Number.POSITIVE_INFINITY;
const SIZE = NEW_STRIPES * CHUNK_BYTES;

class Life {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  /** Requests that the victim has got since the growth was asked for. */
  requests = 0;
  private isArmed = false;

  constructor(policy: ConsistencyPolicy, { seed = 1, isBlank = false } = {}) {
    const made = new SimWorld({ seed });
    for (const name of MEMBERS) made.addDrive({ name, sizeBytes: 3 * MIB });
    made.createArray({
      ...{ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes: OLD_STRIPES * CHUNK_BYTES },
      consistencyPolicy: policy,
    });
    made.settle();
    made.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const images = made.images().map((image) => (isBlank ? image : withGarbageBehind(image)));
    this.world = SimWorld.restart(images, { seed, batchChance: 0.5 });
    // What was behind the old end may be anything.
    const isInitial = () => true;
    this.oracle = new SectorOracle({ seed: 1, sectorCount: NEW_SECTORS, isInitial });
    const old = { lba: 0, sectors: OLD_SECTORS };
    expect(this.world.run(this.client.write(old, { fua: true }))).toBe(0);
  }

  get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  get sizeBytes(): number {
    return this.world.status().sizeBytes;
  }

  /** From the next request on, the nth of this drive ends it. */
  arm(victim: string, nth: number): void {
    const device = this.world.device(victim);
    const submit = device.submit.bind(device);
    this.isArmed = true;
    device.submit = (request) => {
      this.requests += 1;
      if (this.isArmed && this.requests === nth)
        device.faults.plan({ fault: { kind: "dead", errno: ENXIO } });
      submit(request);
    };
  }

  grow(memberSizeBytes: number | "max" = SIZE) {
    return this.world.call<"set-array">({ kind: "set-array", array: ARRAY_NAME, memberSizeBytes });
  }

  /** Of a member's bytes a second. */
  setSpeed(speed: number): void {
    const limits = { syncSpeedMax: speed, syncSpeedMin: 1 };
    this.world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...limits });
  }

  /** Writes up to the end of the array, and across where that was before. */
  writeOn(): void {
    const { world, client } = this;
    for (let round = 0; round < 8; round += 1) {
      const end = this.sizeBytes / SECTOR_BYTES;
      const lba = (round * 37) % OLD_SECTORS;
      const across = Math.min(end, OLD_SECTORS + 5 + round) - (OLD_SECTORS - 3);
      const writes = [
        client.write({ lba, sectors: 3 + round }, { fua: round % 3 === 0 }),
        client.write({ lba: OLD_SECTORS - 3, sectors: across }),
        client.write({ lba: end - 9, sectors: 9 }),
        client.flush(),
      ];
      for (const status of world.run(Promise.all(writes))) expect(status).toBe(0);
      world.simulation.runFor(12);
    }
  }

  /** All reads back and matches; from the drives alone too, without any one of them. */
  judge(sizes: readonly number[]): void {
    const { world } = this;
    this.isArmed = false;
    world.simulation.runFor(5000);
    const status = world.settle();
    expect(sizes).toContain(status.sizeBytes);
    this.readAll(world);
    if (status.degraded === 0) expect(world.check()).toBe(0);
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    const images = world.images().filter((image) => typeof superblockOf(image) !== "string");
    if (status.degraded === 0) expect(parityMismatches(viewMembers(images))).toEqual([]);
    this.oracle.crash();
    for (const left of status.degraded === 0 ? [null, ...MEMBERS] : [null]) {
      const again = SimWorld.restart(
        images.filter(({ name }) => name !== left),
        { seed: 1 },
      );
      if (again.status().state === "inactive") expect(again.startArrays()).toEqual([]);
      expect(again.status().sizeBytes).toBe(status.sizeBytes);
      this.readAll(again);
    }
  }

  readAll(world: SimWorld): void {
    const bytes = world.status().sizeBytes;
    const { status, data } = world.run(world.client().read(0, bytes));
    expect(status).toBe(0);
    expect(this.oracle.peek(0, data)?.message ?? null).toBeNull();
  }
}

/** The life with a victim, to its end. */
function live(policy: ConsistencyPolicy, victim: string, nth: number): Life {
  const life = new Life(policy, { seed: nth === NEVER ? 1 : nth });
  life.setSpeed(512 * KIB);
  life.arm(victim, nth);
  const asked = life.world.command<"set-array">({
    ...{ kind: "set-array", array: ARRAY_NAME, memberSizeBytes: SIZE },
  });
  life.writeOn();
  life.world.run(asked);
  life.world.simulation.runFor(1000);
  life.writeOn();
  life.world.simulation.runFor(1000);
  return life;
}

for (const [index, policy] of POLICIES.entries()) {
  const victim = MEMBERS[index]!;

  test(`grow: ${policy}: under writes: the new part can be used, parity is right, it is clean`, () => {
    const life = new Life(policy);
    const { world } = life;
    expect(life.sizeBytes).toBe(OLD_BYTES);
    expect(life.grow()).toMatchObject({ ok: true, value: { sync: { action: "grow" } } });
    life.writeOn();
    world.settle();
    expect(life.sizeBytes).toBe(NEW_BYTES);
    const [job] = world
      .must<"list-jobs">({ kind: "list-jobs" })
      .filter(({ kind }) => kind === "grow");
    expect(job).toMatchObject({ state: "done", done: SIZE, total: SIZE, error: null });
    expect(job!.result["sizeBytes"]).toBe(NEW_BYTES);
    expect(world.events.filter(({ kind }) => kind === "array.grown")).toHaveLength(1);
    life.writeOn();
    // It is what it was asked to be: asked again, nothing happens.
    expect(life.grow()).toMatchObject({ ok: true, value: { sync: { action: "idle" } } });
    life.judge([NEW_BYTES]);
  });

  test(`grow: ${policy}: ${victim} dies at each of its requests: nothing is lost`, () => {
    const whole = live(policy, victim, NEVER);
    const { requests } = whole;
    whole.judge([NEW_BYTES]);
    expect(requests).toBeGreaterThan(30);
    const today = new Share(`grow ${policy} ${victim}`, 10);
    const sizes = new Set<number>();
    for (let nth = 1; nth <= requests; nth += 1) {
      if (!today.takes(nth)) continue;
      withShare(() => {
        const life = live(policy, victim, nth);
        sizes.add(life.sizeBytes);
        const hasFailed = life.world.events.some(({ kind }) => kind === "array.failed");
        expect([nth, hasFailed]).toEqual([nth, false]);
        life.judge([OLD_BYTES, NEW_BYTES]);
      });
    }
    expect([...sizes].sort()).toEqual([NEW_BYTES, OLD_BYTES].sort());
  }, 600_000);

  test(`grow: ${policy}: stopped in the middle: the old size, and it can be asked again`, () => {
    const life = new Life(policy);
    const { world } = life;
    life.setSpeed(16 * KIB);
    expect(life.grow().ok).toBe(true);
    world.simulation.runFor(1200);
    expect(world.status().sync).toMatchObject({ action: "grow" });
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
    world.startArray();
    expect(world.status()).toMatchObject({ sizeBytes: OLD_BYTES, degraded: 0, state: "clean" });
    life.setSpeed(NEVER);
    expect(life.grow("max").ok).toBe(true);
    const { sizeBytes } = world.settle();
    expect(sizeBytes).toBeGreaterThan(NEW_BYTES);
    expect(world.check()).toBe(0);
    world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  });

  test(`grow: ${policy}: a crash in it, with a member lost: it starts without it, by request`, () => {
    const life = new Life(policy);
    const { world, client } = life;
    life.setSpeed(16 * KIB);
    expect(life.grow().ok).toBe(true);
    world.simulation.runFor(1200);
    expect(world.run(client.write({ lba: 7, sectors: 9 }, { fua: true }))).toBe(0);
    world.simulation.runFor(1000);
    const images = world.crash("random");
    life.oracle.crash();
    for (const left of MEMBERS) {
      const again = SimWorld.restart(
        images.filter(({ name }) => name !== left),
        { seed: 2 },
      );
      expect(again.startArrays()).toEqual([]);
      expect(again.status()).toMatchObject({ sizeBytes: OLD_BYTES, degraded: 1 });
      life.readAll(again);
    }
  });
}

// What a growth meets ----------------------------------------------------------------------------

test("grow: cancelled: the old size, and nothing of it is left", () => {
  const life = new Life("bitmap");
  const { world } = life;
  life.setSpeed(16 * KIB);
  expect(life.grow().ok).toBe(true);
  world.simulation.runFor(800);
  const [job] = world.must<"list-jobs">({ kind: "list-jobs" }).slice(-1);
  expect(job).toMatchObject({ kind: "grow", state: "running" });
  world.must<"cancel-job">({ kind: "cancel-job", id: job!.id });
  expect(world.job(job!.id)).toMatchObject({ kind: "grow", state: "cancelled" });
  expect(life.sizeBytes).toBe(OLD_BYTES);
  life.judge([OLD_BYTES]);
});

test("grow: a sector of the new part cannot be read: it is written, and no more", () => {
  const life = new Life("ppl");
  const { world } = life;
  const superblock = superblockOf(world.device("b").image());
  if (typeof superblock === "string") throw new Error(superblock);
  const offset = superblock.dataOffsetSectors * SECTOR_BYTES + (OLD_STRIPES + 1) * CHUNK_BYTES;
  const fault = { kind: "result", result: -EIO } as const;
  world.device("b").faults.plan({ ...{ op: Op.read, offset, bytes: ROW_BYTES }, fault, count: 9 });
  expect(life.grow().ok).toBe(true);
  expect(world.settle()).toMatchObject({ sizeBytes: NEW_BYTES, degraded: 0 });
  life.writeOn();
  expect(world.check()).toBe(0);
});

test("grow: drives that read zeros: at once, without a read, and the new part is a hole", () => {
  const world = new SimWorld({ seed: 1, areFiles: true });
  for (const name of MEMBERS) {
    world.addDrive({ name, sizeBytes: 3 * MIB });
    world.must<"detach-drive">({ kind: "detach-drive", name, force: false });
    const drive = { ...world.openDriveOf(name), readsZeros: true };
    world.must<"attach-drive">({ kind: "attach-drive", drive });
  }
  world.createArray({
    ...{ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes: OLD_STRIPES * CHUNK_BYTES },
  });
  world.settle();
  expect(world.run(world.client().write(0, new Uint8Array(OLD_BYTES).fill(7)))).toBe(0);
  const before = world.status().members.map(({ io }) => io.bytesRead);
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, memberSizeBytes: SIZE });
  expect(world.settle()).toMatchObject({ sizeBytes: NEW_BYTES, degraded: 0 });
  expect(world.status().members.map(({ io }) => io.bytesRead)).toEqual(before);
  const front = world.service.frontOf(ARRAY_NAME)!;
  expect([front.allocationAt(OLD_BYTES - 1), front.allocationAt(OLD_BYTES)]).toEqual([0, 3]);
  expect(front.allocationEnd(OLD_BYTES, NEW_BYTES)).toBe(NEW_BYTES);
  // A second growth cannot know: what was written to is not what nobody has written to.
  expect(world.check()).toBe(0);
});

test("grow: over NBD: a session may ask for what is there now, a new one is told", () => {
  const world = new SimWorld({ seed: 1, withNbd: true });
  for (const name of MEMBERS) world.addDrive({ name, sizeBytes: 3 * MIB });
  world.createArray({
    ...{ drives: MEMBERS, chunkBytes: CHUNK_BYTES, memberSizeBytes: OLD_STRIPES * CHUNK_BYTES },
  });
  world.settle();
  const client = world.run(world.nbdClient());
  const across = new Uint8Array(2 * ROW_BYTES).fill(9);
  const write = () => world.run(client.write(OLD_BYTES - ROW_BYTES, across));
  expect(write()).toBe(ENOSPC);
  world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 16 * KIB });
  const grown = { array: ARRAY_NAME, memberSizeBytes: SIZE };
  world.must<"set-array">({ kind: "set-array", ...grown });
  world.simulation.runFor(500);
  expect(world.status().sync.action).toBe("grow");
  expect(write()).toBe(ENOSPC);
  world.settle();
  expect(write()).toBe(0);
  expect(world.run(client.write(NEW_BYTES - ROW_BYTES, across))).toBe(ENOSPC);
  const other = world.run(world.nbdClient());
  const { status, data } = world.run(other.read(OLD_BYTES - ROW_BYTES, 2 * ROW_BYTES));
  expect([status, data.every((byte) => byte === 9)]).toEqual([0, true]);
});

test("grow: what it is refused for: said with the way out, and nothing has changed", () => {
  const life = new Life("resync");
  const { world } = life;
  const refusalOf = (size: number | "max") => {
    const answer = life.grow(size);
    if (answer.ok) throw new Error("it was taken");
    return answer.error;
  };
  const events = world.status().eventCount;
  const shrink = refusalOf(CHUNK_BYTES);
  expect(shrink).toMatchObject({ kind: "invalid", code: "bad-size" });
  expect(shrink.detail).toContain("cannot shrink");
  expect(refusalOf(4 * MIB)).toMatchObject({ kind: "invalid", code: "bad-size" });
  expect(refusalOf(4 * MIB).detail).toMatch(/drive a has room for \d+ KiB/);
  world.addDrive({ name: "small", sizeBytes: 2 * MIB });
  const member = { array: ARRAY_NAME, drive: "small", force: false };
  world.must<"add-member">({ kind: "add-member", ...member });
  expect(refusalOf("max")).toMatchObject({ kind: "conflict", code: "spare-too-small" });
  world.must<"remove-member">({ kind: "remove-member", array: ARRAY_NAME, drive: "small" });
  life.setSpeed(16 * KIB);
  expect(life.grow().ok).toBe(true);
  expect(refusalOf("max")).toMatchObject({ kind: "conflict", code: "growth-not-now" });
  const replaced = world.call<"replace-member">({
    ...{ kind: "replace-member", array: ARRAY_NAME, drive: "b", with: "small", force: true },
  });
  expect(replaced).toMatchObject({ error: { code: "growth-under-way" } });
  // It would do for the array as it is, and not for what that is to be.
  world.addDrive({ name: "tiny", sizeBytes: 72 * KIB });
  const tiny = { array: ARRAY_NAME, drive: "tiny", force: false };
  expect(world.call<"add-member">({ kind: "add-member", ...tiny })).toMatchObject({
    error: { code: "drive-too-small" },
  });
  world.must<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive: "b" });
  world.simulation.runFor(100);
  expect(refusalOf("max")).toMatchObject({ kind: "conflict", code: "growth-not-now" });
  expect(refusalOf("max").detail).toContain("degraded");
  expect(world.status().eventCount).toBeGreaterThan(events);
  expect(life.sizeBytes).toBe(OLD_BYTES);
  life.judge([OLD_BYTES]);
});

test("grow: a member that left before: it is rebuilt as a whole when it is back", () => {
  const life = new Life("bitmap");
  const { world } = life;
  const before = world.images().find(({ name }) => name === "c")!;
  expect(life.grow().ok).toBe(true);
  world.settle();
  world.must<"stop-array">({ kind: "stop-array", array: ARRAY_NAME });
  const images = world.images().map((image) => (image.name === "c" ? before : image));
  const again = SimWorld.restart(images, { seed: 3 });
  if (again.status().state === "inactive") expect(again.startArrays()).toEqual([]);
  expect(again.status()).toMatchObject({ sizeBytes: NEW_BYTES, degraded: 1 });
  again.must<"add-member">({ kind: "add-member", array: ARRAY_NAME, drive: "c", force: false });
  again.settle();
  expect(again.status()).toMatchObject({ sizeBytes: NEW_BYTES, degraded: 0 });
  expect(again.check()).toBe(0);
  life.readAll(again);
});
