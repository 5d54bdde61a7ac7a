/**
 * Goal: a power cut takes nothing with it that was acknowledged and flushed (promises 1 and 2),
 * with the flushes of a real kernel under the compiled program (faults.md R24, dm-log-writes).
 *
 * Method: the kernel lab's guest runs `parityd attach` over dm-log-writes devices and dies in
 * mid-write, one member a moment before the others. Each member then exists twice: as its device
 * was (all that completed is kept), and as its log replays onto a copy of before (all that was not
 * flushed is dropped). Every mixture of the two is assembled on the host: each sector must be
 * allowed by the load's ledger, and after the resync the members must add up to zero. A day takes
 * one policy; three days in a row take all.
 */
import { expect, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { ConsistencyPolicy } from "../../src/array/protocol.ts";
import { MIB } from "../../src/base/units.ts";
import { decodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { Attached, connectNbd, Daemon, makeFile, makeFiles } from "../helpers/daemon.ts";
import { GUEST_DIED, runGuest } from "../helpers/lab.ts";
import { CutOracle } from "../helpers/mark-ledger.ts";
import { needs } from "../helpers/needs.ts";
import { POLICIES } from "../helpers/policies.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";
import { replayWriteLog } from "../helpers/write-log.ts";

const MEMBERS = 3;
const MEMBER_BYTES = 6 * MIB;
const LOG_BYTES = 256 * MIB;
const CAN_RUN = needs("lab", "libaio", "direct-io");

/** A clean array in files, full of zeros; answers with its size. */
async function makeArray(
  folder: string,
  files: readonly string[],
  consistencyPolicy: ConsistencyPolicy,
): Promise<number> {
  const daemon = await Daemon.start(folder);
  const drives = await daemon.addDrives(files);
  const body = { name: "a", drives, chunkKiB: 16, consistencyPolicy };
  const { sizeBytes } = await daemon.must("POST", "/v1/arrays", body);
  await daemon.calmDown("a");
  expect(await daemon.stop()).toBe(0);
  return sizeBytes;
}

/** Assembles copies of the images, judges every sector, and checks the parity after the resync. */
async function judgeImages(
  images: readonly string[],
  oracle: CutOracle,
  policy: ConsistencyPolicy,
): Promise<number> {
  const folder = makeTempDir("cut");
  const files = images.map((image, index) => {
    const copy = join(folder, `m${index}.img`);
    copyFileSync(image, copy);
    return copy;
  });
  const { attached, uri } = await Attached.start(files);
  expect([uri !== null, attached.stderr]).toEqual([true, expect.any(String)]);
  const client = await connectNbd(attached.socket, "a");
  const { wrong, newer } = await oracle.judge(client);
  expect(wrong.slice(0, 5)).toEqual([]);
  // The replay of the logs is the resync of ppl, and is over before the start.
  if (policy !== "ppl") {
    await until("the resync", () => {
      return attached.stderr.includes("event=resync.finished");
    });
  }
  const again = await oracle.judge(client);
  expect(again).toEqual({ wrong: [], newer });
  await client.disconnect();
  expect(await attached.stop()).toBe(0);
  expect(parityErrors(files)).toBe(0);
  return newer;
}

/** Bytes of the data areas in which the members of a RAID5 do not add up to zero. */
function parityErrors(files: readonly string[]): number {
  const members = files.map((file) => {
    const bytes = new Uint8Array(readFileSync(file));
    const decoded = decodeSuperblock(bytes.subarray(SUPERBLOCK_OFFSET_BYTES), {
      deviceBytes: bytes.length,
    });
    if (!decoded.ok) throw new Error(decoded.error.detail);
    const { dataOffsetSectors, sizeSectors } = decoded.value;
    const from = dataOffsetSectors * 512;
    return new Uint32Array(bytes.buffer, from, sizeSectors * 128);
  });
  const [first, ...others] = members;
  let errors = 0;
  for (let word = 0; word < first!.length; word += 1) {
    let sum = first![word]!;
    for (const other of others) sum ^= other[word]!;
    if (sum !== 0) errors += 4;
  }
  return errors;
}

test.skipIf(!CAN_RUN).each(new Share("power cut", 3).of(POLICIES))(
  "power cut: %s, in mid-write, unflushed writes kept or dropped by each member: nothing flushed is lost [needs lab, libaio, direct-io]",
  (policy) => withShare(() => cutPower(policy)),
);

async function cutPower(policy: ConsistencyPolicy): Promise<void> {
  const folder = makeTempDir("power");
  const kept = makeFiles(folder, MEMBERS, MEMBER_BYTES);
  const sizeBytes = await makeArray(folder, kept, policy);
  const logs = kept.map((_, index) => join(folder, `log${index}.img`));
  for (const log of logs) makeFile(log, LOG_BYTES);
  const dropped = kept.map((file, index) => {
    const copy = join(folder, `dropped${index}.img`);
    copyFileSync(file, copy);
    return copy;
  });
  const guest = await runGuest({
    file: "test/interop/guest/power-cut.ts",
    disks: [...kept, ...logs],
    folder,
    environment: { SIZE_BYTES: String(sizeBytes) },
  });
  expect([guest.exitCode, guest.output]).toEqual([GUEST_DIED, expect.any(String)]);
  for (const [index, log] of logs.entries()) {
    const counts = replayWriteLog(log, dropped[index]!);
    expect(counts.flushes).toBeGreaterThan(10);
    expect(counts.writes).toBeGreaterThan(100);
    expect(counts.endsInMark).toBe(true);
  }
  const ledger = readFileSync(join(folder, "ledger"), "utf8");
  const oracle = new CutOracle({ seed: 1, sizeBytes, ledger });
  expect(oracle.flushedCount).toBeGreaterThan(50);
  const newer: number[] = [];
  for (let mask = 0; mask < 1 << MEMBERS; mask += 1) {
    const images = kept.map((file, role) => ((mask & (1 << role)) === 0 ? file : dropped[role]!));
    newer.push(await judgeImages(images, oracle, policy));
  }
  // The cut did take something: with everything dropped less is left than with everything kept.
  // With ppl a flush comes before each unit of the log, and there may be nothing left to take.
  expect(newer.at(-1)!).toBeLessThan(newer[0]! + (policy === "ppl" ? 1 : 0));
}
