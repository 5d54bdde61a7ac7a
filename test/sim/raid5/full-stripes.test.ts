/**
 * Goal: writes that come in one turn for one stripe are one plan, whichever client they are of: a
 * stripe that is filled by requests of a chunk costs no reads, and one write for each member.
 * Method: a dirty array in the simulator; what its drives are asked for is counted.
 */
import { expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { SimWorld } from "../world/sim-world.ts";

const CHUNK = 8 * KIB;
const NAMES = ["a", "b", "c", "d"];
const STRIPE = (NAMES.length - 1) * CHUNK;

/** Dirty, so that a write begins in the turn in which it comes. */
function dirtyWorld(policy: (typeof POLICIES)[number]): SimWorld {
  const world = new SimWorld({ seed: 7 });
  for (const name of NAMES) world.addDrive({ name, sizeBytes: 4 * MIB });
  world.createArray({ drives: NAMES, chunkBytes: CHUNK, consistencyPolicy: policy });
  world.settle();
  expect(world.run(world.client().write(8 * STRIPE, new Uint8Array(CHUNK)))).toBe(0);
  return world;
}

/** Reads and writes of data so far. */
function counts(world: SimWorld): { reads: number; writes: number } {
  const { members } = world.status();
  const sum = (of: (io: (typeof members)[number]["io"]) => number) =>
    members.reduce((total, { io }) => total + of(io), 0);
  return { reads: sum(({ reads }) => reads), writes: sum(({ writes }) => writes) };
}

for (const policy of POLICIES) {
  for (const clientCount of [1, 3]) {
    test(`full stripes: ${policy}: a stripe by chunks, ${clientCount} clients, one turn: no reads, one write a member`, () => {
      const world = dirtyWorld(policy);
      const clients = Array.from({ length: clientCount }, () => world.client());
      const before = counts(world);
      // In no order that helps.
      const writes = [2, 0, 1].map((chunk) => {
        const data = new Uint8Array(CHUNK).fill(chunk + 1);
        return clients[chunk % clientCount]!.write(chunk * CHUNK, data);
      });
      expect(world.run(Promise.all(writes))).toEqual([0, 0, 0]);
      const after = counts(world);
      const logged = policy === "ppl" ? 1 : 0;
      expect(after.reads - before.reads).toBe(0);
      expect(after.writes - before.writes).toBe(NAMES.length + logged);
      const { data } = world.run(world.client().read(0, STRIPE));
      expect([data[0], data[CHUNK], data[2 * CHUNK]]).toEqual([1, 2, 3]);
      world.settle();
      expect(world.check()).toBe(0);
    });
  }
}

test("full stripes: two writes of the same rows in one turn: the later one holds", () => {
  const world = dirtyWorld("resync");
  const client = world.client();
  const first = client.write(0, new Uint8Array(CHUNK).fill(1));
  const second = client.write(0, new Uint8Array(CHUNK).fill(2));
  expect(world.run(Promise.all([first, second]))).toEqual([0, 0]);
  expect(world.run(client.read(0, CHUNK)).data[0]).toBe(2);
});
