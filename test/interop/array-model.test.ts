/**
 * Goal: an array on real files answers every read with what was written last, in each state.
 * Method: random reads and writes of any offset and length, many at a time, against a shadow copy;
 * the array is whole, degraded, in its rebuild, rebuilt; then every byte is compared, and a check
 * must find no mismatch.
 */
import { afterEach, expect, test } from "bun:test";
import { fillRandom, nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

interface Load {
  readonly harness: ArrayHarness;
  readonly shadow: Uint8Array;
  readonly random: SeededRandom;
}

/** Writes and reads at random, `depth` at a time, never two at once that overlap with a write. */
async function runLoad(
  { harness, shadow, random }: Load,
  { count, depth, maxBytes }: { count: number; depth: number; maxBytes: number },
): Promise<void> {
  const busy: { from: number; to: number }[] = [];
  const mustBeFree = (from: number, to: number): boolean =>
    busy.every((range) => to <= range.from || from >= range.to);
  async function one(): Promise<void> {
    let from = 0;
    let length = 0;
    do {
      length = 1 + nextBelow(random, nextBelow(random, 4) === 0 ? maxBytes : 8 * KIB);
      from = nextBelow(random, shadow.length - length);
    } while (!mustBeFree(from, from + length));
    const range = { from, to: from + length };
    busy.push(range);
    if (nextBelow(random, 3) > 0) {
      const data = new Uint8Array(length);
      fillRandom(random, data);
      expect(await harness.write(from, data, { fua: nextBelow(random, 8) === 0 })).toBe(0);
      shadow.set(data, from);
    } else {
      const { status, data } = await harness.read(from, length);
      expect(status).toBe(0);
      expect(Buffer.compare(data, shadow.subarray(from, from + length))).toBe(0);
    }
    if (nextBelow(random, 16) === 0) expect(await harness.flush()).toBe(0);
    busy.splice(busy.indexOf(range), 1);
  }
  let started = 0;
  const lanes = Array.from({ length: depth }, async () => {
    while (started < count) {
      started += 1;
      await one();
    }
  });
  await Promise.all(lanes);
}

async function compareAll({ harness, shadow }: Load): Promise<void> {
  const step = MIB;
  for (let from = 0; from < shadow.length; from += step) {
    const length = Math.min(step, shadow.length - from);
    const { status, data } = await harness.read(from, length);
    expect(status).toBe(0);
    expect(Buffer.compare(data, shadow.subarray(from, from + length))).toBe(0);
  }
}

function checkMismatch(harness: ArrayHarness): number {
  const job = harness.must<"start-scrub">({
    kind: "start-scrub",
    array: "raid_test",
    mode: "check",
    limitBytesPerSecond: null,
    restart: false,
  });
  const ended = harness.waitJob(job.id);
  expect(ended.state).toBe("done");
  return Number(ended.result["mismatchBytes"]);
}

const CASES = [3, 4, 5].flatMap((members) =>
  [4 * KIB, 64 * KIB, 256 * KIB].flatMap((chunkBytes) =>
    (["resync", "bitmap", "ppl"] as const).map((policy) => ({ members, chunkBytes, policy })),
  ),
);

for (const { members, chunkBytes, policy } of CASES) {
  test(`array: ${policy}, ${members} members, ${chunkBytes / KIB} KiB chunks, whole to rebuilt: same bytes`, () => {
    harness = new ArrayHarness();
    const random = new SeededRandom(members * 1000 + chunkBytes);
    const names: string[] = [];
    for (let index = 0; index < members; index += 1) {
      names.push(`drive${index}`);
      harness.addDrive(`drive${index}`, 8 * MIB);
    }
    const { sizeBytes } = harness.createArray({
      drives: names,
      chunkBytes,
      consistencyPolicy: policy,
    });
    const load: Load = { harness, shadow: new Uint8Array(sizeBytes), random };
    const { reactor } = harness;
    const work = { count: 400, depth: 12, maxBytes: 600 * KIB };
    reactor.pump(harness.write(0, new Uint8Array(sizeBytes)), 20_000);
    reactor.pump(runLoad(load, work), 60_000);
    harness.settle();
    expect(checkMismatch(harness)).toBe(0);

    const lost = names[random.nextU32() % members]!;
    harness.must({ kind: "fail-member", array: "raid_test", drive: lost });
    expect(harness.status().state).toBe("degraded");
    reactor.pump(runLoad(load, work), 60_000);
    reactor.pump(compareAll(load), 60_000);

    harness.addDrive("drive_new", 8 * MIB);
    const added = harness.must<"add-member">({
      kind: "add-member",
      array: "raid_test",
      drive: "drive_new",
      force: false,
    });
    expect(added.role).toBe("rebuild");
    reactor.pump(runLoad(load, work), 60_000);
    harness.settle();
    expect(harness.status().degraded).toBe(0);
    reactor.pump(runLoad(load, work), 60_000);
    reactor.pump(compareAll(load), 60_000);
    expect(checkMismatch(harness)).toBe(0);
  });
}
