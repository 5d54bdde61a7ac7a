/**
 * Goal: whatever mix of reads, writes, trims and zeroings an array gets, in each of its states, it
 * answers every read with what was written last, its parity matches, and it calls only that a hole
 * which reads zeros.
 * Method: arrays on real files, with and without holes, against a shadow copy; many requests of any
 * offset and length at a time; the array is new, whole, degraded, in its rebuild, rebuilt. A trim
 * may or may not zero the whole stripes in its range: the shadow takes what is read back.
 */
import { afterEach, expect, test } from "bun:test";
import { FrontFlag } from "../../src/array/front.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";
import { HolePunching } from "../helpers/hole-punching.ts";
import { type LoadWork, ShadowLoad } from "../helpers/shadow-load.ts";

const MEMBER_BYTES = 8 * MIB;
const WORK: LoadWork = {
  count: 250,
  depth: 10,
  pickBytes: (random) => 1 + nextBelow(random, nextBelow(random, 3) === 0 ? 900 * KIB : 8 * KIB),
};

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

/** Writes, zeroings, trims and reads. */
async function runLoad(load: ShadowLoad, stripeBytes: number): Promise<void> {
  const { harness, shadow, random } = load;
  await load.run(WORK, async (from, bytes) => {
    const kind = nextBelow(random, 8);
    if (kind < 3) {
      await load.write(from, bytes, { fua: kind === 0 });
    } else if (kind < 5) {
      expect(await harness.writeZeroes(from, bytes, nextBelow(random, 4))).toBe(0);
      shadow.recordZeros(from, bytes);
    } else if (kind === 5) {
      expect(await harness.trim(from, bytes)).toBe(0);
      const first = Math.ceil(from / stripeBytes) * stripeBytes;
      const end = Math.floor((from + bytes) / stripeBytes) * stripeBytes;
      const { data } = await harness.read(from, bytes);
      for (let stripe = first; stripe < end; stripe += stripeBytes) {
        const now = data.subarray(stripe - from, stripe - from + stripeBytes);
        if (now.every((byte) => byte === 0)) shadow.recordZeros(stripe, stripeBytes);
      }
      expect(shadow.findWrong(from, data)).toBeNull();
    } else await load.read(from, bytes);
  });
}

/** Every byte is as in the copy, and what is called zero is zero. */
async function compareAll(load: ShadowLoad, stripeBytes: number): Promise<void> {
  const { harness, shadow } = load;
  await load.compareAll();
  for (let from = 0; from < shadow.sizeBytes; from += stripeBytes) {
    if (harness.allocationAt(from) === 0) continue;
    expect(shadow.findWrong(from, new Uint8Array(stripeBytes))).toBeNull();
  }
}

for (const [members, chunkBytes, canPunchHoles] of [
  [3, 4 * KIB, true],
  [3, 64 * KIB, false],
  [4, 32 * KIB, true],
  [5, 128 * KIB, true],
  [5, 16 * KIB, false],
] as const) {
  const holes = canPunchHoles ? "holes" : "no holes";
  test(`zeroes: ${members} members, ${chunkBytes / KIB} KiB chunks, ${holes}, new to rebuilt: same bytes`, () => {
    harness = new ArrayHarness();
    const punching = new HolePunching(harness);
    const random = new SeededRandom(members * 1000 + chunkBytes);
    const names: string[] = [];
    for (let index = 0; index < members; index += 1) {
      names.push(`drive${index}`);
      punching.addDrive(`drive${index}`, MEMBER_BYTES, { canPunchHoles });
    }
    const { sizeBytes } = harness.createArray({ drives: names, chunkBytes });
    const { reactor } = harness;
    const stripeBytes = chunkBytes * (members - 1);
    const load = new ShadowLoad(harness, { sizeBytes, random });
    reactor.pump(runLoad(load, stripeBytes));
    // The random mix may have met no whole stripe with data: this one has.
    const data = new Uint8Array(stripeBytes).fill(7);
    expect(reactor.pump(harness.write(0, data))).toBe(0);
    expect(reactor.pump(harness.trim(0, stripeBytes))).toBe(0);
    if (canPunchHoles) load.shadow.recordZeros(0, stripeBytes);
    else load.shadow.record(0, data);
    harness.settle();
    reactor.pump(compareAll(load, stripeBytes));
    expect(harness.mismatchBytes()).toBe(0);
    expect(reactor.pump(harness.writeZeroes(0, 300 * KIB, FrontFlag.noHole))).toBe(0);
    load.shadow.recordZeros(0, 300 * KIB);

    const lost = names[random.nextU32() % members]!;
    harness.must({ kind: "fail-member", array: "raid_test", drive: lost });
    const asked = punching.asked.length;
    expect(asked > 0).toBe(canPunchHoles);
    reactor.pump(runLoad(load, stripeBytes));
    reactor.pump(compareAll(load, stripeBytes));
    expect(punching.asked.length).toBe(asked);

    punching.addDrive("drive_new", MEMBER_BYTES, { canPunchHoles });
    harness.must({ kind: "add-member", array: "raid_test", drive: "drive_new", force: false });
    reactor.pump(runLoad(load, stripeBytes));
    harness.settle();
    expect(harness.status().degraded).toBe(0);
    reactor.pump(runLoad(load, stripeBytes));
    reactor.pump(compareAll(load, stripeBytes));
    expect(harness.mismatchBytes()).toBe(0);
  });
}
