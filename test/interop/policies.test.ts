/**
 * Goal: the consistency policies on real files: what they keep on the members, a change of policy
 * under load, and what a member that comes back needs.
 * Method: an array in this process, a load against a shadow copy; mdadm and the codecs read the
 * members. What a crash leaves behind is for test/crash and test/sim.
 */
import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { OpenDrive } from "../../src/array/protocol.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { bitmapOffsetBytes } from "../../src/md/bitmap.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../src/md/superblock.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

const ARRAY = "raid_test";
let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

interface Bench {
  readonly harness: ArrayHarness;
  readonly drives: readonly OpenDrive[];
  readonly shadow: Uint8Array;
  readonly random: SeededRandom;
}

function setUp(
  policy: ConsistencyPolicy,
  { members = 4, memberBytes = 16 * MIB }: { members?: number; memberBytes?: number } = {},
): Bench {
  harness = new ArrayHarness();
  const target = harness;
  const names = Array.from({ length: members }, (_, index) => `drive${index}`);
  const drives = names.map((name) => target.addDrive(name, memberBytes));
  const { sizeBytes } = target.createArray({
    drives: names,
    consistencyPolicy: policy,
    assumeClean: true,
  });
  target.settle();
  return { harness, drives, shadow: new Uint8Array(sizeBytes), random: new SeededRandom(5) };
}

/** Random writes, some at a time and none that overlap. */
async function writeSome({ harness: target, shadow, random }: Bench, count: number): Promise<void> {
  const lanes = 8;
  const laneBytes = Math.floor(shadow.length / lanes);
  await Promise.all(
    Array.from({ length: lanes }, async (_, lane) => {
      for (let index = 0; index < count / lanes; index += 1) {
        const data = new Uint8Array(1 + nextBelow(random, 200 * KIB));
        fillRandom(random, data);
        const offset = lane * laneBytes + nextBelow(random, laneBytes - data.length);
        expect(await target.write(offset, data)).toBe(0);
        shadow.set(data, offset);
      }
    }),
  );
}

function expectContent({ harness: target, shadow }: Bench): void {
  for (let from = 0; from < shadow.length; from += MIB) {
    const length = Math.min(MIB, shadow.length - from);
    const { status, data } = target.reactor.pump(target.read(from, length));
    expect(status).toBe(0);
    expect(Buffer.compare(data, shadow.subarray(from, from + length))).toBe(0);
  }
}

function expectNoMismatch(target: ArrayHarness): void {
  const options = { mode: "check", limitBytesPerSecond: null, restart: true } as const;
  const job = target.must<"start-scrub">({ kind: "start-scrub", array: ARRAY, ...options });
  expect(target.waitJob(job.id)).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
}

function superblockOf({ path }: OpenDrive): Superblock {
  const bytes = readFileSync(path);
  const head = bytes.subarray(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES);
  const decoded = decodeSuperblock(head, { deviceBytes: bytes.length });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

/** Set bits of a member's bitmap on disk. */
function bitsOnDisk(drive: OpenDrive): number {
  const bytes = readFileSync(drive.path);
  const start = bitmapOffsetBytes(superblockOf(drive)) + 256;
  let count = 0;
  for (const byte of bytes.subarray(start, start + 4096 - 256)) {
    for (let bit = 0; bit < 8; bit += 1) count += (byte >> bit) & 1;
  }
  return count;
}

test("policy: changed under load, each to each: data, parity and superblocks are right", () => {
  const bench = setUp("ppl");
  const { harness: target, drives } = bench;
  const { reactor } = target;
  for (const policy of ["bitmap", "ppl", "resync", "ppl", "resync", "bitmap", "resync"] as const) {
    const load = writeSome(bench, 80);
    reactor.pump(reactor.context.timers.sleep(3));
    const changed = target.must<"set-array">({
      kind: "set-array",
      array: ARRAY,
      consistencyPolicy: policy,
    });
    expect(changed.consistencyPolicy).toBe(policy);
    reactor.pump(load);
    reactor.pump(writeSome(bench, 40));
    const kind = policy === "resync" ? "none" : policy;
    for (const drive of drives) expect(superblockOf(drive).log.kind).toBe(kind);
    expectContent(bench);
    expectNoMismatch(target);
  }
});

test("policy: degraded, or with work under way: a change is refused, nothing is written", () => {
  const bench = setUp("resync");
  const { harness: target } = bench;
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive1" });
  const { eventCount } = target.status();
  const command = { kind: "set-array", array: ARRAY, consistencyPolicy: "ppl" } as const;
  const refused = target.call<"set-array">(command);
  expect(refused).toMatchObject({ ok: false, error: { kind: "conflict" } });
  expect(target.status()).toMatchObject({ consistencyPolicy: "resync", eventCount });
});

test("bitmap: a write sets its bits on every member first, and they are cleared lazily", () => {
  const bench = setUp("bitmap");
  const { harness: target, drives } = bench;
  const { reactor } = target;
  for (const drive of drives) expect(bitsOnDisk(drive)).toBe(0);
  expect(reactor.pump(target.write(MIB, new Uint8Array(4096).fill(1)))).toBe(0);
  for (const drive of drives) expect(bitsOnDisk(drive)).toBe(1);
  reactor.pumpUntil(() => drives.every((drive) => bitsOnDisk(drive) === 0));
});

test("rule 19: a member that comes back gets only what changed", () => {
  const memberBytes = 192 * MIB;
  const bench = setUp("bitmap", { members: 3, memberBytes });
  const { harness: target, shadow, random } = bench;
  const { reactor } = target;
  const write = (offset: number, bytes: number): void => {
    const data = new Uint8Array(bytes);
    fillRandom(random, data);
    expect(reactor.pump(target.write(offset, data))).toBe(0);
    shadow.set(data, offset);
  };
  const drive = target.service.registry.drives.get("drive2")!;
  for (const offset of [5, 150 * MIB, 300 * MIB]) write(offset, MIB);
  // Nothing rests: all bits that were set so far go.
  const { policy } = target.service.registry.byName(ARRAY)!.running!;
  reactor.pumpUntil(() => policy.bitmap!.setCount === 0);
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive2" });
  write(200 * MIB + 777, 300 * KIB);
  expect(policy.bitmap!.setCount).toBe(1);
  const before = drive.ioCounts().bytesWritten;
  const added = target.must<"add-member">({
    kind: "add-member",
    array: ARRAY,
    drive: "drive2",
    force: false,
  });
  expect(added.role).toBe("rebuild");
  write(100 * MIB, 100 * KIB);
  target.settle();
  expect(target.status()).toMatchObject({ degraded: 0 });
  // One bit stands for 64 MiB of a member.
  const written = drive.ioCounts().bytesWritten - before;
  expect(written).toBeGreaterThan(60 * MIB);
  expect(written).toBeLessThan(70 * MIB);
  expectNoMismatch(target);
  target.must({ kind: "fail-member", array: ARRAY, drive: "drive0" });
  expectContent(bench);
});

test("ppl: more arrays than their logs have memory for: refused with the way out", () => {
  harness = new ArrayHarness();
  const target = harness;
  let refused = "";
  for (let index = 0; index < 100 && refused === ""; index += 1) {
    const names = ["a", "b", "c"].map((letter) => `${letter}${index}`);
    for (const name of names) target.addDrive(name, 4 * MIB);
    const created = target.call<"create-array">({
      kind: "create-array",
      name: `array${index}`,
      drives: names,
      spares: [],
      chunkBytes: 64 * KIB,
      consistencyPolicy: "ppl",
      assumeClean: false,
      force: false,
    });
    if (created.ok) target.settle(`array${index}`);
    else refused = created.error.detail;
  }
  expect(refused).toMatch(/--memory-mib \d+ or more, or take the policy bitmap/);
  // What there is still works, and a stop makes room.
  target.connect("array0");
  expect(target.reactor.pump(target.write(0, new Uint8Array(300 * KIB)))).toBe(0);
  target.must({ kind: "stop-array", array: "array0" });
  target.must({ kind: "start-array", array: "array0", force: false, readOnly: false });
});
