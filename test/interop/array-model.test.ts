/**
 * Goal: an array on real files answers every read with what was written last, in each state.
 * Method: random reads and writes of any offset and length, many at a time, against a shadow copy;
 * the array is whole, degraded, in its rebuild, rebuilt; then every byte is compared, and a check
 * must find no mismatch. A day takes its share of the shapes; five days in a row take all.
 */
import { afterEach, expect, test } from "bun:test";
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";
import { type LoadWork, ShadowLoad } from "../helpers/shadow-load.ts";
import { Share, withShare } from "../helpers/share.ts";

const WORK: LoadWork = {
  count: 400,
  depth: 12,
  pickBytes: (random) => 1 + nextBelow(random, nextBelow(random, 4) === 0 ? 600 * KIB : 8 * KIB),
};

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

/** Writes and reads; now and then a flush covers what was answered. */
async function runLoad(load: ShadowLoad): Promise<void> {
  const { random } = load;
  await load.run(WORK, async (from, bytes) => {
    if (nextBelow(random, 3) > 0) {
      await load.write(from, bytes, { fua: nextBelow(random, 8) === 0 });
    } else await load.read(from, bytes);
    if (nextBelow(random, 16) === 0) await load.flush();
  });
}

const CASES = [3, 4, 5].flatMap((members) =>
  [4 * KIB, 64 * KIB, 256 * KIB].flatMap((chunkBytes) =>
    (["resync", "bitmap", "ppl"] as const).map((policy) => ({ members, chunkBytes, policy })),
  ),
);

for (const { members, chunkBytes, policy } of new Share("array model", 9).of(CASES)) {
  test(`array: ${policy}, ${members} members, ${chunkBytes / KIB} KiB chunks, whole to rebuilt: same bytes`, () => {
    withShare(() => live(members, chunkBytes, policy));
  });
}

function live(members: number, chunkBytes: number, policy: ConsistencyPolicy): void {
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
  const load = new ShadowLoad(harness, { sizeBytes, random });
  const { reactor } = harness;
  reactor.pump(harness.write(0, new Uint8Array(sizeBytes)));
  reactor.pump(runLoad(load));
  harness.settle();
  expect(harness.mismatchBytes()).toBe(0);

  const lost = names[random.nextU32() % members]!;
  harness.must({ kind: "fail-member", array: "raid_test", drive: lost });
  expect(harness.status().state).toBe("degraded");
  reactor.pump(runLoad(load));
  reactor.pump(load.compareAll());

  harness.addDrive("drive_new", 8 * MIB);
  const added = harness.must<"add-member">({
    kind: "add-member",
    array: "raid_test",
    drive: "drive_new",
    force: false,
  });
  expect(added.role).toBe("rebuild");
  reactor.pump(runLoad(load));
  harness.settle();
  expect(harness.status().degraded).toBe(0);
  reactor.pump(runLoad(load));
  reactor.pump(load.compareAll());
  expect(harness.mismatchBytes()).toBe(0);
}
