/**
 * Goal: a reshape to more members goes on where the other md left it, in both directions and from
 * any instant: parityd with that of Linux, and Linux with that of parityd.
 *
 * Method: three boots of the kernel lab, everything by sha256. In the first Linux lays an array out
 * over more members, and copies of its files are kept at two of ten points of that, stopped or
 * dirty; at another one the guest dies. parityd goes on with each to its end, with a client that
 * reads and writes, and parity is computed over the whole of it. Other arrays are begun by parityd
 * in the simulator, and the power goes at two of ten instants, with clients at work. The others
 * assemble all of it: Linux goes on with what parityd left, and checks everything. A day takes
 * one array of Linux's and one of parityd's; fifty days in a row take all.
 */
import { expect, test } from "bun:test";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { ArrayImages, expectAccepted, once } from "../helpers/array-images.ts";
import { Daemon } from "../helpers/daemon.ts";
import { POLICY_WORDS } from "../helpers/foreign-arrays.ts";
import {
  type AssembleReport,
  type DeathTask,
  type ReshapeReport,
  type ReshapeStop,
  type ReshapeTask,
  runMd,
} from "../helpers/md-lab.ts";
import { needs } from "../helpers/needs.ts";
import {
  type BegunArray,
  type BegunSpec,
  type Continued,
  goOn,
  makeBegun,
  sha256Of,
  WRITES_MIN,
  wrongRows,
} from "../helpers/reshaped-arrays.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";
/** Points of an array that one day takes, of ten. */
const GROUPS = [0, 1, 2, 3, 4];
const DAYS = 100;
const OWN_DAYS = 45;

/** Percent of the reshape. */
const POINTS = [0, 8, 17, 29, 41, 53, 66, 78, 89, 97];

function groupOf<T>(points: readonly T[], group: number): T[] {
  return points.filter((_, index) => index % GROUPS.length === group);
}

const SHAPES = [
  { oldCount: 3, newCount: 4, chunkKib: 16, layout: "left-symmetric" },
  { oldCount: 3, newCount: 5, chunkKib: 64, layout: "left-asymmetric" },
  { oldCount: 4, newCount: 5, chunkKib: 4, layout: "right-symmetric" },
  { oldCount: 4, newCount: 6, chunkKib: 32, layout: "parity-last" },
  { oldCount: 3, newCount: 4, chunkKib: 128, layout: "right-asymmetric" },
] as const;

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

const images = new ArrayImages();

// Begun by Linux -------------------------------------------------------------------------------

const FOREIGN = new Share("reshapes of Linux", DAYS).of(
  SHAPES.flatMap((shape) =>
    (["resync", "bitmap"] as const).flatMap((policy) =>
      (["stopped", "dirty"] as const).flatMap((ending) =>
        GROUPS.map((group) => {
          const { oldCount, newCount, chunkKib } = shape;
          const name = `${oldCount}-${newCount}-${chunkKib}-${policy}-${ending}-${group}`;
          return { ...shape, policy, ending, points: groupOf(POINTS, group), name };
        }),
      ),
    ),
  ),
);

type Foreign = (typeof FOREIGN)[number];

function stopNames({ name, points }: Foreign): string[] {
  return points.map((percent) => `${name}-${percent}`);
}

function wordsOf({ layout, chunkKib, policy }: Foreign): string[] {
  const shape = ["--level=5", `--layout=${layout}`, `--chunk=${chunkKib}`];
  return [...shape, ...POLICY_WORDS[policy]];
}

function reshapeTask(foreign: Foreign): ReshapeTask {
  const { name, oldCount, newCount, ending, points } = foreign;
  const names = stopNames(foreign);
  const stops = points.map((percent, index): ReshapeStop => {
    return { percent, ending, files: images.make(names[index]!, newCount) };
  });
  return { name, files: images.make(name, newCount), oldCount, words: wordsOf(foreign), stops };
}

function deathName({ name }: Foreign): string {
  return `${name}-death`;
}

/** At another place with each of them. */
function deathTask(foreign: Foreign, index: number): DeathTask {
  const { oldCount, newCount } = foreign;
  const name = deathName(foreign);
  const percent = 10 + ((index * 37 + foreign.points[1]!) % 80);
  return { name, files: images.make(name, newCount), oldCount, words: wordsOf(foreign), percent };
}

/** One boot for each of them. */
const begunByLinux = once(async () => {
  const reshaped: Record<string, ReshapeReport> = {};
  for (const [index, foreign] of FOREIGN.entries()) {
    const plan = { reshape: [reshapeTask(foreign)], death: deathTask(foreign, index) };
    Object.assign(reshaped, (await runMd(images.folder, plan)).reshaped);
  }
  return reshaped;
});

const continuedByParityd = once(async () => {
  await begunByLinux();
  const daemon = await Daemon.start(makeTempDir("go-on"));
  const continued = new Map<string, Continued & { wrongRows: number[] }>();
  for (const foreign of FOREIGN) {
    for (const name of [...stopNames(foreign), deathName(foreign)]) {
      const { oldCount, policy } = foreign;
      const files = images.files.get(name)!;
      const result = await goOn(daemon, images, { files, oldCount, policy });
      continued.set(name, { ...result, wrongRows: wrongRows(images.pathsOf(name)) });
    }
  }
  expect(await daemon.stop()).toBe(0);
  return continued;
});

// Begun by parityd -----------------------------------------------------------------------------

const OWN_SHAPES = [
  { oldCount: 3, newCount: 4, chunkBytes: 16 * KIB, stripes: 200 },
  { oldCount: 4, newCount: 5, chunkBytes: 4 * KIB, stripes: 700 },
  { oldCount: 3, newCount: 5, chunkBytes: 64 * KIB, stripes: 50 },
] as const;
const PARTS = [0, 0.09, 0.18, 0.3, 0.42, 0.55, 0.68, 0.8, 0.91, 1];

const OWN = new Share("own reshapes", OWN_DAYS)
  .of(
    OWN_SHAPES.flatMap((shape) =>
      (["keep", "drop", "random"] as const).flatMap((policy) =>
        GROUPS.map((group) => ({ ...shape, policy, group })),
      ),
    ),
  )
  .flatMap(({ group, ...shape }) =>
    groupOf(PARTS, group).map((part): BegunSpec => {
      const { oldCount, newCount, policy } = shape;
      return { ...shape, part, name: `own-${oldCount}-${newCount}-${policy}-${part * 1000}` };
    }),
  );

interface Cut extends BegunArray {
  /** As parityd reads it, without a write; and what of that no client can have left. */
  readonly content: Uint8Array;
  readonly wrong: string | null;
}

const begunByParityd = once(async () => {
  const cuts = new Map<string, Cut>();
  for (const spec of OWN) {
    const array = makeBegun(images, spec);
    const { files, oldBytes, oracle } = array;
    // The simulator's array has a name of its own.
    const content = await images.withAttached(
      { name: "raid_sim", files, flags: ["--read-only"] },
      async (client) => {
        const read = await client.read(0, oldBytes);
        if (!read.ok) throw new Error(`errno ${read.error}`);
        return read.value;
      },
    );
    cuts.set(spec.name, { ...array, content, wrong: oracle.peek(0, content)?.message ?? null });
  }
  return cuts;
});

// Assembled by Linux ---------------------------------------------------------------------------

const TASKS_PER_BOOT = 24;

async function assemble(names: readonly string[]): Promise<Record<string, AssembleReport>> {
  const tasks = names.map((name) => images.task(name));
  const assembled: Record<string, AssembleReport> = {};
  for (let from = 0; from < tasks.length; from += TASKS_PER_BOOT) {
    const some = tasks.slice(from, from + TASKS_PER_BOOT);
    Object.assign(assembled, (await runMd(images.folder, { assemble: some })).assembled);
  }
  return assembled;
}

const givenBack = once(async () => assemble([...(await continuedByParityd()).keys()]));
const continuedByLinux = once(async () => assemble([...(await begunByParityd()).keys()]));

async function judgeForeign(foreign: Foreign, name: string, sum: string): Promise<void> {
  const found = (await continuedByParityd()).get(name)!;
  const { newCount } = foreign;
  expect([name, found.sumBefore, found.wrong]).toEqual([name, sum, []]);
  expect([name, found.wrongRows]).toEqual([name, []]);
  const memberBytes = found.newBytes / (newCount - 1);
  expect(memberBytes).toBeGreaterThan(3 * MIB);
  expect(found.writes).toBeGreaterThanOrEqual(WRITES_MIN);
  const report = (await givenBack())[name]!;
  expect([name, report.degradedBefore, report.isDirty]).toEqual([name, 0, false]);
  const { policy } = foreign;
  const expected = { name: labelOf(foreign, name), memberCount: newCount, policy };
  expectAccepted(report, { ...expected, sum: found.sumAfter });
  expect(report.bitmaps.length).toBe(policy === "bitmap" ? newCount : 0);
  for (const text of report.bitmaps) expectBitmap(text, memberBytes);
}

/** Of a member, as `mdadm -X` tells it: for all of that, with no bit set. */
function expectBitmap(text: string, memberBytes: number): void {
  expect(text).toContain("Magic : 6d746962");
  expect(text).toMatch(new RegExp(`Sync Size : ${memberBytes / KIB}\\b`));
  expect(text).toMatch(/Bitmap : \d+ bits .*, 0 dirty/);
}

function labelOf(foreign: Foreign, name: string): string {
  return name === deathName(foreign) ? name : foreign.name;
}

for (const foreign of FOREIGN) {
  const { oldCount, newCount, chunkKib, layout, policy, ending, points } = foreign;
  const what = `${oldCount} to ${newCount} members, ${chunkKib} KiB, ${layout}, ${policy}`;
  shareTest(
    `reshape: Linux's, ${what}, ${ending} at ${points.join(", ")} %: parityd goes on, and back ${NEEDS}`,
    async () => {
      const { sums } = (await begunByLinux())[foreign.name]!;
      for (const [index, name] of stopNames(foreign).entries()) {
        await judgeForeign(foreign, name, sums[index]!);
      }
    },
  );
  shareTest(`reshape: Linux's, ${what}: the machine dies: parityd goes on ${NEEDS}`, async () => {
    const name = deathName(foreign);
    await judgeForeign(foreign, name, (await begunByLinux())[name]!.sumBefore);
  });
}

for (const { name, oldCount, newCount, chunkBytes, policy, part } of OWN) {
  const what = `${oldCount} to ${newCount} members, ${chunkBytes / KIB} KiB`;
  shareTest(
    `reshape: parityd's, ${what}, cut (${policy}) at ${part}: Linux goes on with it, and back ${NEEDS}`,
    async () => {
      const cut = (await begunByParityd()).get(name)!;
      const report = (await continuedByLinux())[name]!;
      expect([name, cut.wrong, report.degradedBefore]).toEqual([name, null, 0]);
      expect(cut.positionSectors! * SECTOR_BYTES).toBeLessThanOrEqual(cut.newBytes);
      expect([name, report.sumBefore]).toEqual([name, sha256Of(cut.content)]);
      const grown = new Uint8Array(cut.newBytes);
      grown.set(cut.content);
      const expected = { name: "raid_sim", memberCount: newCount, policy: "resync" };
      expectAccepted(report, { ...expected, sum: null });
      expect([name, report.sumInSync]).toEqual([name, sha256Of(grown)]);
      expect(wrongRows(images.pathsOf(name))).toEqual([]);
      expect(await images.readOnlySum("raid_sim", cut.files)).toBe(report.sumWritten);
    },
  );
}
