/**
 * Goal: in a degraded array a write that one member does not take changes nothing that it did not
 * write: the missing chunk of its rows keeps its content, or is answered with EIO (promise 2).
 * Method: an array on real files without one member; each policy; writes that fail on a survivor
 * for good or a few times, on its data or parity, with its old content readable or not; then every
 * byte is read and compared, also after a restart. A day takes 21 of the 126 cases; six days in a
 * row take all.
 */
import { afterEach, expect, test } from "bun:test";
import { EIO } from "../../src/base/errno.ts";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";
import { Share, withShare } from "../helpers/share.ts";

const CHUNK = 64 * KIB;
const ROW = 4 * KIB;
const ARRAY = "raid_test";
let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

/** Bytes that differ, by row: rows that read EIO are null. */
function rowsThatDiffer(
  target: ArrayHarness,
  content: Uint8Array,
): { wrong: number[]; lost: number[] } {
  const wrong: number[] = [];
  const lost: number[] = [];
  for (let offset = 0; offset < content.length; offset += ROW) {
    const { status, data } = target.reactor.pump(target.read(offset, ROW));
    if (status !== 0) lost.push(offset / ROW);
    else if (Buffer.compare(data, content.subarray(offset, offset + ROW)) !== 0) {
      wrong.push(offset / ROW);
    }
  }
  return { wrong, lost };
}

const CASES = (["resync", "bitmap", "ppl"] as const).flatMap((policy) =>
  [1, 3, 4, 5, 6, 8, 1000].flatMap((count) =>
    [false, true].flatMap((isUnreadable) =>
      [0, 1, 2].map((victim) => ({ policy, count, isUnreadable, victim })),
    ),
  ),
);

test.each(new Share("degraded write errors", 12).of(CASES))(
  "degraded write errors: $policy, $count errors, unreadable $isUnreadable, drive$victim: the rest stays",
  (chosen) => withShare(() => runCase(chosen)),
);

function runCase({
  policy,
  count,
  isUnreadable,
  victim,
}: {
  policy: ConsistencyPolicy;
  count: number;
  isUnreadable: boolean;
  victim: number;
}): void {
  harness = new ArrayHarness();
  const target = harness;
  const names = ["drive0", "drive1", "drive2", "drive3"];
  for (const name of names) target.addDrive(name, 4 * MIB);
  const { sizeBytes } = target.createArray({
    drives: names,
    chunkBytes: CHUNK,
    consistencyPolicy: policy,
  });
  const content = new Uint8Array(sizeBytes);
  const random = new SeededRandom(count * 31 + victim);
  fillRandom(random, content);
  expect(target.reactor.pump(target.write(0, content))).toBe(0);
  target.settle();
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive3" });
  const dataOffset =
    512 * target.service.registry.drives.get("drive0")!.superblock!.dataOffsetSectors;
  const drive = `drive${victim}`;
  const place = { drive, at: "submit", errno: EIO, count } as const;
  for (let stripe = 0; stripe < 4; stripe += 1) {
    const offset = dataOffset + stripe * CHUNK + 2 * ROW;
    target.must({ kind: "add-fault", fault: { ...place, op: "write", offset, bytes: ROW } });
    if (isUnreadable) {
      target.must({ kind: "add-fault", fault: { ...place, op: "read", offset, bytes: ROW } });
    }
  }
  // Whole and partial rows of each chunk, with rows beside the bad one.
  const refused = new Set<number>();
  const writes: Promise<void>[] = [];
  for (let chunk = 0; chunk < 12; chunk += 1) {
    const offset = chunk * CHUNK + ROW + (chunk % 2) * 700;
    const data = new Uint8Array(3 * ROW - 1000);
    fillRandom(random, data);
    const write = async (): Promise<void> => {
      const status = await target.write(offset, data);
      expect([0, EIO]).toContain(status);
      if (status === 0) content.set(data, offset);
      else for (let row = 1; row < 4; row += 1) refused.add(chunk * (CHUNK / ROW) + row);
    };
    // One after the other, or all at a time: what they share must not mix.
    if (count % 2 === 1) target.reactor.pump(write());
    else writes.push(write());
  }
  target.reactor.pump(Promise.all(writes));
  for (const round of ["running", "started again"]) {
    const { wrong, lost } = rowsThatDiffer(target, content);
    // A write that was refused may be old or new.
    expect([round, wrong.filter((row) => !refused.has(row))]).toEqual([round, []]);
    // Only the row of the bad sector may be lost, in each chunk of its stripe.
    expect([round, lost.filter((row) => row % (CHUNK / ROW) !== 2)]).toEqual([round, []]);
    if (round === "started again") break;
    target.must({ kind: "clear-faults" });
    target.must({ kind: "stop-array", array: ARRAY });
    target.must({ kind: "start-array", array: ARRAY, force: true, readOnly: false });
    target.connect(ARRAY);
  }
}
