/**
 * Goal: `parityd examine` says all that mdadm says of a member, and its JSON is exact.
 *
 * Method: the compiled program over the members of every fixture. Its text has each line of
 * `mdadm --examine` (as recorded), `--examine-bitmap` and `--examine-badblocks`; its JSON has the
 * fields of the manifest. Logs that are damaged are told beside the rest.
 */
import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { basename, join } from "node:path";
import { type BitmapHeader, bitmapAreaBytes, bitmapOffsetBytes } from "../../src/md/bitmap.ts";
import { SUPERBLOCK_OFFSET_BYTES, type Superblock } from "../../src/md/superblock.ts";
import { mustRun, runVerb } from "../helpers/daemon.ts";
import { type FixtureMember, fixtureFacts, writeFixture } from "../helpers/md-fixtures.ts";
import { superblockOfImage } from "../helpers/md-recovery.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const FACTS = fixtureFacts();
const NAMES = Object.keys(FACTS);
const CLEAN = 2 ** 64;

/** The fields of manifest.json that only this test uses. */
interface LogFacts extends FixtureMember {
  readonly bitmap: { readonly [field: string]: number | string | readonly unknown[] } | null;
  readonly ppl: {
    readonly sig: string;
    readonly last: {
      readonly gen: number;
      readonly off: number;
      readonly entries: readonly { readonly [field: string]: number }[];
    };
  } | null;
}

function factsOf(name: string, path: string): LogFacts {
  const found = FACTS[name]!.members.find(({ image }) => image === basename(path));
  return found as LogFacts;
}

/** "Label : value" lines, without those whose form differs on purpose. */
function labelled(text: string): string[] {
  const lines = [...text.matchAll(/^ *([A-Z][A-Za-z' ]+?) : (.*?) *$/gm)];
  return lines
    .filter(([, label]) => !/Time$|^Filename$/.test(label!))
    .map(([, label, value]) => `${label} : ${value}`.toLowerCase());
}

async function mdadm(option: string, path: string): Promise<string> {
  return mustRun([toolPath("mdadm")!, option, path], { environment: { TZ: "UTC", LC_ALL: "C" } });
}

/** mdadm takes a bitmap from a regular file only where the file is the bitmap itself. */
function cutBitmap(path: string, superblock: Superblock, header: BitmapFields): string {
  const start = bitmapOffsetBytes(superblock);
  const area = join(makeTempDir("bitmap"), "b");
  writeFileSync(area, readFileSync(path).subarray(start, start + bitmapAreaBytes(header)));
  return area;
}

type BitmapFields = Pick<BitmapHeader, "syncSizeSectors" | "chunkBytes">;

async function expectSaysAll(name: string, path: string, text: string): Promise<void> {
  const ours = new Set(labelled(text));
  const theirs = labelled(FACTS[name]!.examine[basename(path)]!);
  expect(theirs.filter((line) => !ours.has(line))).toEqual([]);
  expect(text).toContain((await mdadm("--examine-badblocks", path)).trimEnd());
  const { bitmap } = factsOf(name, path);
  if (bitmap === null) return;
  const superblock = superblockOfImage(readFileSync(path));
  const fields = {
    syncSizeSectors: bitmap["sync_size"] as number,
    chunkBytes: bitmap["chunksize"] as number,
  };
  const area = cutBitmap(path, superblock, fields);
  const bits = labelled(await mdadm("--examine-bitmap", area));
  expect(bits.length).toBe(11);
  expect(bits.filter((line) => !ours.has(line))).toEqual([]);
}

/** Of the JSON, what the manifest says too, under the manifest's names. */
function inManifestWords(report: Record<string, never>): object {
  const { bitmap, ppl, badBlocks, badBlockLog } = report as never as Record<string, AnyReport>;
  return {
    feature: report["featureMap"],
    size: report["sizeSectors"],
    data_offset: report["dataOffsetSectors"],
    data_size: report["dataSizeSectors"],
    recovery: report["recoveryOffsetSectors"],
    dev_number: report["devNumber"],
    bb_size: (badBlockLog.entryCountMax * 8) / 512,
    bb_offset: badBlockLog.offsetSectors,
    events: report["events"],
    resync_offset: report["resyncOffsetSectors"] ?? CLEAN,
    badblocks: badBlocks.ranges.map((range: AnyReport) => [range.sector, range.lengthSectors]),
    bitmap:
      bitmap === null
        ? null
        : [bitmap.events, bitmap.eventsCleared, bitmap.bitCount, bitmap.setCount],
    ppl:
      ppl === null
        ? null
        : {
            sig: ppl.unit.signature,
            gen: ppl.unit.generation,
            off: ppl.unit.offsetBytes,
            entries: ppl.unit.entries.map((entry: AnyReport) => [
              entry.dataSector,
              entry.partialParityBytes,
              entry.dataBytes,
              entry.parityRole,
              entry.isIntact,
              entry.fault,
            ]),
          },
  };
}

// biome-ignore lint/suspicious/noExplicitAny: the JSON is what is under test.
type AnyReport = any;

function expectedWords(facts: LogFacts): object {
  const { bitmap, ppl } = facts;
  return {
    feature: facts.feature,
    size: facts.size,
    data_offset: facts.data_offset,
    data_size: facts.data_size,
    recovery: (facts.feature & 2) === 0 ? null : facts.recovery_offset,
    dev_number: facts.dev_number,
    bb_size: facts.bb_size,
    bb_offset: facts.bb_offset,
    events: facts.events,
    resync_offset: facts.resync_offset,
    badblocks: facts.badblocks ?? [],
    bitmap:
      bitmap === null
        ? null
        : [
            bitmap["events"],
            bitmap["events_cleared"],
            bitmap["bits"],
            (bitmap["set"] as readonly unknown[]).length,
          ],
    ppl:
      ppl === null
        ? null
        : {
            sig: Number(ppl.sig),
            gen: ppl.last.gen,
            off: ppl.last.off,
            entries: ppl.last.entries.map((entry) => [
              entry["data_sector"],
              entry["pp_size"],
              entry["data_size"],
              entry["parity_disk"],
              true,
              null,
            ]),
          },
  };
}

test.skipIf(!needs("mdadm")).each(NAMES)(
  "examine: %s: all that mdadm says, and the JSON is exact [needs mdadm]",
  async (name) => {
    const files = writeFixture(name, makeTempDir("examine"));
    const json = await runVerb(["examine", "--json", ...files]);
    const reports = json.stdout.trimEnd().split("\n");
    expect([json.exitCode, json.stderr, reports.length]).toEqual([0, "", files.length]);
    for (const [index, path] of files.entries()) {
      const text = await runVerb(["examine", path]);
      expect([text.exitCode, text.stderr]).toEqual([0, ""]);
      await expectSaysAll(name, path, text.stdout);
      const report = JSON.parse(reports[index]!);
      expect(report).toMatchObject({ schema: "parityd.examine/1", path, problems: [] });
      expect(inManifestWords(report)).toEqual(expectedWords(factsOf(name, path)));
    }
  },
);

function overwrite(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  closeSync(file);
}

const u32 = (value: number) => new Uint8Array(new Uint32Array([value]).buffer);

test.each([
  ["r5-3d-64k-bitmap", "the bitmap of version 6", 8192 + 4, u32(6), /version 6 \(lockless/],
  ["r5-3d-64k-bitmap", "the bitmap of version 5", 8192 + 4, u32(5), /version 5, for arrays shared/],
  ["r5-3d-64k-bitmap", "no bitmap", 8192, u32(0), /There is no write-intent bitmap/],
  ["r5-3d-64k-badblocks", "a bad-block entry of nothing", 12_288, u32(0), /bad-block log/],
] as const)(
  "examine: %s, %s: the superblock is told, the rest is a problem, exit 1",
  async (name, _, offset, bytes, problem) => {
    const path = writeFixture(name, makeTempDir("examine"))[2]!;
    overwrite(path, offset, bytes);
    const { exitCode, stdout, stderr } = await runVerb(["examine", "--json", path]);
    expect(exitCode).toBe(1);
    const report = JSON.parse(stdout);
    expect(report.events).toBe(factsOf(name, path).events);
    expect(report.problems).toEqual([expect.stringMatching(problem)]);
    expect(JSON.parse(stderr)).toMatchObject({
      ...{ schema: "parityd.problem/1", type: "urn:parityd:problem:failed" },
      detail: `${path}: ${report.problems[0]}`,
    });
    const plain = await runVerb(["examine", path]);
    expect([plain.exitCode, plain.stderr]).toEqual([
      1,
      `parityd: ${path}: ${report.problems[0]}\n`,
    ]);
  },
);

test("examine: a log that never had a unit: told as blank", async () => {
  const path = writeFixture("r5-3d-64k-ppl", makeTempDir("examine"))[0]!;
  overwrite(path, 8192, new Uint8Array(1024 * 1024));
  const { stdout } = await runVerb(["examine", path]);
  expect(stdout).toContain("Log State : no unit: the area is blank");
  overwrite(path, SUPERBLOCK_OFFSET_BYTES, new Uint8Array(512));
  const gone = await runVerb(["examine", path]);
  expect([gone.exitCode, gone.stdout]).toEqual([1, ""]);
  expect(gone.stderr).toContain("There is no md v1.2 superblock");
});
