/**
 * Goal: an array that Linux made with more members than may be created here is served as any
 * other: small writes, whole stripes, degraded reads and writes, rebuild, crash resync and check.
 * What is more than the engine or the memory can take is refused at assembly in words, and the
 * array beside it goes on.
 *
 * Method: member counts on both sides of every border that there is (16 sources of a fused kernel,
 * 31 and 32 bits of a word, the limit), each policy, the members made as mdadm lays them out. The
 * oracle is a plain copy of the array's bytes.
 */
import { expect, test } from "bun:test";
import { ARRAY_CHUNK_BYTES_MAX, ARRAY_MEMBERS_MAX } from "../../../src/base/limits.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../../src/md/create.ts";
import { TEST_POOL_BYTES } from "../../helpers/memory.ts";
import { simMembers } from "../../helpers/sim-members.ts";
import { parityMismatches, viewMembers } from "../world/member-oracle.ts";
import type { SimClient } from "../world/sim-clients.ts";
import { SimWorld } from "../world/sim-world.ts";

const NAME = "tank";
const STRIPES = 5;

class Copy {
  readonly bytes: Uint8Array;
  private readonly world: SimWorld;
  private readonly random: SeededRandom;
  client: SimClient;

  constructor(world: SimWorld, sizeBytes: number) {
    this.world = world;
    this.bytes = new Uint8Array(sizeBytes);
    this.random = new SeededRandom(sizeBytes);
    this.client = world.client(NAME);
  }

  write(offset: number, length: number): void {
    const data = new Uint8Array(length);
    fillRandom(this.random, data);
    expect(this.world.run(this.client.write(offset, data))).toBe(0);
    this.bytes.set(data, offset);
  }

  /** Several at once, of any place and length, none over another. */
  scatter(count: number, lengthMax: number): void {
    const span = Math.floor(this.bytes.length / count);
    const writes: Promise<number>[] = [];
    for (let index = 0; index < count; index += 1) {
      const length = 1 + nextBelow(this.random, Math.min(lengthMax, span));
      const offset = index * span + nextBelow(this.random, span - length + 1);
      const data = new Uint8Array(length);
      fillRandom(this.random, data);
      writes.push(this.client.write(offset, data));
      this.bytes.set(data, offset);
    }
    expect(this.world.run(Promise.all(writes)).every((status) => status === 0)).toBe(true);
  }

  check(): void {
    const step = 256 * KIB;
    for (let offset = 0; offset < this.bytes.length; offset += step) {
      const length = Math.min(step, this.bytes.length - offset);
      const { status, data } = this.world.run(this.client.read(offset, length));
      expect([offset, status]).toEqual([offset, 0]);
      const isRight = Buffer.compare(data, this.bytes.subarray(offset, offset + length)) === 0;
      expect([offset, isRight]).toEqual([offset, true]);
    }
  }
}

const POLICIES: readonly ConsistencyPolicy[] = ["resync", "bitmap", "ppl"];
/** Logs for more than 51 members are more than the pool of the tests can take. */
const LOGGED_MAX = 51;
const COUNTS = [16, 17, 20, 31, 32, 33, 34, LOGGED_MAX, ARRAY_MEMBERS_MAX];

for (const memberCount of COUNTS) {
  for (const policy of POLICIES) {
    if (policy === "ppl" && memberCount > LOGGED_MAX) continue;
    test(`large arrays: ${memberCount} members, ${policy}: served, degraded, rebuilt, checked`, () => {
      const chunkBytes = 8 * KIB;
      const deviceBytes = 3 * MIB + STRIPES * chunkBytes;
      const sizeSectors = (STRIPES * chunkBytes) / 512;
      const options = { memberCount, chunkBytes, policy, deviceBytes, fields: { sizeSectors } };
      const world = SimWorld.restart(simMembers(options), { seed: memberCount });
      const status = world.status(NAME);
      expect([status.state, status.reason, status.members.length]).toEqual([
        "clean",
        null,
        memberCount,
      ]);
      const copy = new Copy(world, status.sizeBytes);
      const stripeBytes = (memberCount - 1) * chunkBytes;
      copy.write(0, stripeBytes);
      copy.write(stripeBytes + 5000, 700);
      copy.scatter(40, 3 * chunkBytes);
      copy.check();
      expect(world.run(copy.client.flush())).toBe(0);
      // A member from either side of a word's border, then the last one.
      for (const role of [Math.min(31, memberCount - 2), memberCount - 1]) {
        world.must({ kind: "fail-member", array: NAME, drive: `m${role}` });
        copy.check();
        copy.scatter(30, 3 * chunkBytes);
        copy.write(2 * stripeBytes, stripeBytes);
        copy.check();
        world.must({ kind: "remove-member", array: NAME, drive: `m${role}` });
        world.must({ kind: "add-member", array: NAME, drive: `m${role}`, force: true });
        expect([world.settle({ array: NAME }).degraded, role]).toEqual([0, role]);
      }
      copy.check();
      expect(world.check(NAME)).toBe(0);
      copy.scatter(20, 2 * chunkBytes);
      const after = SimWorld.restart(world.crash("random"), { seed: 1 });
      const again = after.settle({ array: NAME });
      expect([again.state, again.degraded]).toEqual(["clean", 0]);
      expect(after.check(NAME)).toBe(0);
      after.must({ kind: "stop-array", array: NAME });
      expect(parityMismatches(viewMembers(after.images()))).toEqual([]);
    });
  }
}

/** Beside it: an array of three that is served all the while. */
function besides(options: Parameters<typeof simMembers>[0]): { reason: string | null } {
  const world = new SimWorld({ seed: 3 });
  for (const name of ["a", "b", "c"]) world.addDrive({ name, sizeBytes: 4 * MIB });
  world.createArray({ name: "small", drives: ["a", "b", "c"], chunkBytes: 4096 });
  for (const image of simMembers(options)) {
    world.plug(image);
    world.attach(image.name);
  }
  const started = world.startArray({ array: NAME });
  expect(started.ok).toBe(false);
  const copy = new Copy(world, 64 * KIB);
  copy.client = world.client("small");
  copy.scatter(8, 8 * KIB);
  copy.check();
  const status = world.status(NAME);
  expect(status.state).toBe("inactive");
  return status;
}

test("large arrays: a member more than the limit: refused in words, others go on", () => {
  const memberCount = ARRAY_MEMBERS_MAX + 1;
  const { reason } = besides({
    memberCount,
    chunkBytes: 4096,
    policy: "resync",
    deviceBytes: 4 * MIB,
  });
  expect(reason).toMatch(/has 54 members, and parityd runs arrays of 2 to 53/);
});

test("large arrays: chunks that the memory cannot take: refused with the memory it needs", () => {
  const chunkBytes = TEST_POOL_BYTES / 8;
  const { reason } = besides({
    memberCount: 3,
    chunkBytes,
    policy: "resync",
    deviceBytes: 40 * MIB,
  });
  expect(reason).toMatch(/3 chunks of 8388608 bytes, .* --memory-mib 113 or more/);
});

test("large arrays: the largest stripe that the memory can take: degraded reads and writes", () => {
  const chunkBytes = TEST_POOL_BYTES / 16;
  const options = { memberCount: 4, chunkBytes, policy: "bitmap", deviceBytes: 16 * MIB } as const;
  const world = SimWorld.restart(simMembers(options), { seed: 1 });
  const copy = new Copy(world, world.status(NAME).sizeBytes);
  copy.scatter(12, chunkBytes);
  world.must({ kind: "fail-member", array: NAME, drive: "m1" });
  copy.scatter(12, chunkBytes);
  copy.check();
});

test("large arrays: a chunk beyond what can be counted: refused in words", () => {
  const chunkBytes = 2 * ARRAY_CHUNK_BYTES_MAX;
  const deviceBytes = 2 * chunkBytes;
  const { reason } = besides({ memberCount: 3, chunkBytes, policy: "resync", deviceBytes });
  expect(reason).toMatch(
    /has chunks of 256\.0 MiB, and parityd runs arrays with chunks of 128\.0 MiB/,
  );
});

test("large arrays: chunks that a partial parity log cannot take: refused in words", () => {
  const chunkBytes = 4 * MIB;
  const { reason } = besides({ memberCount: 3, chunkBytes, policy: "ppl", deviceBytes: 40 * MIB });
  expect(reason).toMatch(
    /room for 131072 bytes at a time, too few for chunks of 4194304: take it away/,
  );
});

test("large arrays: more logs than there is memory: refused with the memory they need", () => {
  const memberCount = ARRAY_MEMBERS_MAX;
  const { reason } = besides({
    memberCount,
    chunkBytes: 4096,
    policy: "ppl",
    deviceBytes: 4 * MIB,
  });
  expect(reason).toMatch(/logs of 53 members need more memory .* --memory-mib 83 or more/);
});
