/**
 * Goal: what the executable says of an array before something is done about it is so: where a
 * mismatch lies in the exported device, and what the loss of a drive would be.
 * Method: real files; a place in a member file is overwritten behind the daemon's back, and what
 * the scrub names is compared with what lies at that place in the files and behind NBD; a dry run
 * with the sums of all files before and after.
 */
import { describe, expect, test } from "bun:test";
import { closeSync, fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb, sums } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const NEEDS = "[needs libaio, direct-io]";
const DATA_BYTES = 2 * MIB;
const ARRAY = "/v1/arrays/tank";

/** Each row of the array says by its content which one it is. */
const ROWS = Array.from({ length: DATA_BYTES / ROW_BYTES }, (_, row) =>
  randomBytes(row + 1, ROW_BYTES),
);

async function verb(folder: string, line: string) {
  return runVerb([...line.split(" "), "--run-dir", join(folder, "run")]);
}

async function started(name: string) {
  const folder = makeTempDir(name);
  const files = makeFiles(folder, 4, 24 * MIB);
  const daemon = await Daemon.start(folder);
  const drives = await daemon.addDrives(files);
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  await mustWrite(await daemon.connect("tank"), 0, Buffer.concat(ROWS));
  await daemon.calmDown("tank");
  return { folder, daemon, files };
}

async function dataOffsetOf(file: string): Promise<number> {
  const { stdout } = await runVerb(["examine", file]);
  return Number(/Data Offset : (\d+) sectors/.exec(stdout)![1]) * SECTOR_BYTES;
}

function readRow(path: string, offset: number): Uint8Array {
  const bytes = new Uint8Array(ROW_BYTES);
  const file = openSync(path, "r");
  readSync(file, bytes, 0, ROW_BYTES, offset);
  closeSync(file);
  return bytes;
}

function overwrite(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  fsyncSync(file);
  closeSync(file);
}

/** The row of the array that this is; -1: none, so parity. */
function rowOf(content: Uint8Array): number {
  return ROWS.findIndex((row) => Buffer.compare(row, content) === 0);
}

/** The bytes that are named, as rows of the array. */
function namedRows(stdout: string): number[] {
  return [...stdout.matchAll(/bytes (\d+) to (\d+) of the exported device/g)].flatMap(
    ([, first, last]) => {
      const count = (Number(last) + 1 - Number(first)) / ROW_BYTES;
      return Array.from({ length: count }, (_, index) => Number(first) / ROW_BYTES + index);
    },
  );
}

describe.skipIf(!needs("libaio", "direct-io"))("told before", () => {
  test(`a planted mismatch: the export bytes that are named share its rows ${NEEDS}`, async () => {
    const { folder, daemon, files } = await started("explain");
    const dataOffset = await dataOffsetOf(files[1]!);
    const planted = new Set<string>();
    // On one drive, in stripes one after the other: of data and of parity.
    for (const memberRow of [5, 16 + 9, 32 + 15, 48]) {
      const offset = dataOffset + memberRow * ROW_BYTES;
      const shared = files.map((file) => rowOf(readRow(file, offset)));
      planted.add(shared[1] === -1 ? "parity" : "data");
      expect(shared.filter((row) => row === -1)).toHaveLength(1);
      const own = readRow(files[1]!, offset);
      const rotten = own.map((byte) => byte ^ 0xff);
      overwrite(files[1]!, offset, rotten);
      const { stdout, exitCode } = await verb(
        folder,
        "scrub start tank --wait --explain --restart",
      );
      expect(exitCode).toBe(1);
      const concerned = shared.filter((row) => row !== -1).toSorted((one, other) => one - other);
      expect(namedRows(stdout)).toEqual(concerned);
      expect(stdout).toContain(`sectors ${memberRow * 8} to ${memberRow * 8 + 7} of`);
      expect(stdout).toContain(
        `stripe ${Math.floor(memberRow / 16)}, byte ${concerned[0]! * ROW_BYTES}`,
      );
      const client = await daemon.connect("tank");
      for (const row of concerned) {
        const isPlanted = row === shared[1];
        await expectData(client, row * ROW_BYTES, isPlanted ? rotten : ROWS[row]!);
      }
      await client.disconnect();
      overwrite(files[1]!, offset, own);
    }
    expect([...planted].toSorted()).toEqual(["data", "parity"]);
    expect(await daemon.stop()).toBe(0);
  });

  test(`member fail --dry-run: the drives are as they were; then it is so ${NEEDS}`, async () => {
    const { folder, daemon, files } = await started("dry-run");
    await daemon.must("PATCH", ARRAY, { syncSpeedMax: 64 * MIB });
    expect((await verb(folder, "scrub start tank --wait")).exitCode).toBe(0);
    await daemon.calmDown("tank");
    const [before, { eventCount }] = [sums(files), await daemon.must("GET", ARRAY)];
    const planned = await verb(folder, "member fail tank drive1 --dry-run");
    expect(planned.stdout).toMatch(/state: degraded, 1 missing\n {2}unreadable: nothing\n/);
    expect(planned.stdout).toMatch(/rebuild: \d+\.\d MiB: about \d+ s idle/);
    expect(sums(files)).toEqual(before);
    expect((await daemon.must("GET", ARRAY)).eventCount).toBe(eventCount);
    expect((await verb(folder, "status tank")).stdout).toMatch(
      / {3}loss: a rebuild of .* about \d+ s/,
    );
    expect((await verb(folder, "member fail tank drive1")).stdout).toBe("tank is degraded\n");
    const lost = await verb(folder, "member fail tank drive2 --dry-run");
    expect([lost.exitCode, lost.stderr]).toEqual([1, expect.stringContaining("the array fails")]);
    expect(await daemon.stop()).toBe(0);
  });
});
