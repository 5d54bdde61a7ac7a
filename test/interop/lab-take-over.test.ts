/**
 * Goal: parityd takes over whatever mdadm and a real kernel made, refuses what it cannot run, and
 * gives it back: Linux goes on with it, and parityd again.
 *
 * Method: three boots of the kernel lab, everything by sha256. In the first mdadm makes arrays of
 * every layout and many shapes; parityd reads them here (read-only, with each member missing) and
 * writes to them. The second assembles, checks and writes them, and parityd reads that back; the
 * third is one more round. Each policy. A day takes its share of the arrays; ten days in a row
 * take all.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { encodeSuperblock, SUPERBLOCK_OFFSET_BYTES } from "../../src/md/superblock.ts";
import { ArrayImages, expectAccepted, once } from "../helpers/array-images.ts";
import { Attached, runVerb, sums } from "../helpers/daemon.ts";
import {
  FOREIGN as ALL_FOREIGN,
  REFUSED as ALL_REFUSED,
  createTaskOf,
  type ForeignArray,
  fileCountOf,
} from "../helpers/foreign-arrays.ts";
import { type MdReport, runMd } from "../helpers/md-lab.ts";
import { superblockOfImage } from "../helpers/md-recovery.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

const DAYS = 5;
/** Its copies get another logical block size. */
const COPIED = "la";
/** Those that go round once more. */
const ALL_AGAIN: readonly string[] = ["la", "offsets", "stale", "bits-stale", "log-stale"];
const AGAIN = new Share("foreign arrays, again", DAYS).of(ALL_AGAIN);
const ONCE = new Share("foreign arrays", 2 * DAYS).of(
  ALL_FOREIGN.map(({ name }) => name).filter((name) => !ALL_AGAIN.includes(name)),
);
const FOREIGN = ALL_FOREIGN.filter(
  ({ name }) => AGAIN.includes(name) || ONCE.includes(name) || name === COPIED,
);
const REFUSED = new Share("refused arrays", DAYS).of(ALL_REFUSED);

const images = new ArrayImages();

/** An array as it was while dirty. */
function kept(name: string): string {
  return `${name}-kept`;
}

/** The first boot. */
const createdByMdadm = once(async (): Promise<MdReport> => {
  const foreign = FOREIGN.map((array) => {
    const { name, keepsDirty } = array;
    const count = fileCountOf(array);
    const files = images.make(name, count);
    return createTaskOf(array, {
      files,
      dirtyFiles: keepsDirty ? images.make(kept(name), count) : [],
    });
  });
  const refused = REFUSED.map(({ name, words, memberCount }) => {
    const files = images.make(name, memberCount);
    return { name, files, spareCount: 0, words, suffixes: [], loses: null, dirtyFiles: [] };
  });
  return runMd(images.folder, { create: [...foreign, ...refused] });
});

/** By name, also of those kept dirty: the sum after writes through parityd. */
const writtenByParityd = once(async (): Promise<Map<string, string>> => {
  await createdByMdadm();
  const written = new Map<string, string>();
  for (const { name, keepsDirty } of FOREIGN) {
    for (const key of keepsDirty ? [name, kept(name)] : [name]) {
      written.set(key, await images.write(name, images.files.get(key)!, key.length));
    }
  }
  return written;
});

/** The second boot. */
const assembledByLinux = once(async (): Promise<MdReport> => {
  const assemble = [...(await writtenByParityd()).keys()].map((key) => {
    return images.task(key, FOREIGN.find(({ name }) => name === key)?.loses);
  });
  return runMd(images.folder, { assemble });
});

/** The third boot, after parityd has written once more. */
const assembledAgain = once(async () => {
  await assembledByLinux();
  const written = new Map<string, string>();
  for (const name of AGAIN) {
    written.set(name, await images.write(name, images.files.get(name)!, 3));
  }
  const assemble = AGAIN.map((name) => images.task(name));
  return { written, report: await runMd(images.folder, { assemble }) };
});

/** The first way to read an array of mdadm's that comes out differently, or "". */
async function readOnlyDifference(
  array: { name: string; files: readonly string[] },
  missing: readonly number[],
): Promise<string> {
  const { name, files } = array;
  const sum = (await createdByMdadm()).created[name];
  const before = sums(images.paths(files));
  for (const lost of [-1, ...missing]) {
    const present = files.filter((_, index) => index !== lost);
    if ((await images.readOnlySum(name, present)) === sum) continue;
    return lost < 0 ? "complete" : `without member ${lost}`;
  }
  expect(sums(images.paths(files))).toEqual(before);
  return "";
}

/** Members without which the array still has all of its data. */
function dispensable({ memberCount, loses }: ForeignArray): number[] {
  return loses === null ? Array.from({ length: memberCount }, (_, index) => index) : [loses];
}

for (const array of FOREIGN) {
  const { name } = array;
  shareTest(
    `take-over: made by mdadm, ${name}: read the same, without each member too, read-only ${NEEDS}`,
    async () => {
      await createdByMdadm();
      const files = images.files.get(name)!;
      expect(await readOnlyDifference({ name, files }, dispensable(array))).toBe("");
    },
  );
}

for (const array of FOREIGN.filter(({ keepsDirty }) => keepsDirty)) {
  const { name, policy } = array;
  // Without a log, an array that is dirty and degraded is refused.
  const missing = policy === "ppl" ? dispensable(array) : [];
  const without = missing.length > 0 ? ", without each member too" : "";
  shareTest(
    `take-over: left dirty by Linux, ${name}: read the same${without}, read-only ${NEEDS}`,
    async () => {
      await createdByMdadm();
      const { stdout } = await runVerb(["examine", ...images.pathsOf(kept(name))]);
      expect(stdout).toContain("State : active");
      const files = images.files.get(kept(name))!;
      expect(await readOnlyDifference({ name, files }, missing)).toBe("");
    },
  );
}

test.skipIf(!CAN_RUN).each([512, 4096])(
  `take-over: with the logical block size %i of Linux 6.19: read the same, and kept ${NEEDS}`,
  async (logicalBlockBytes) => {
    const { created } = await createdByMdadm();
    const files = images.make(`${COPIED}-${logicalBlockBytes}`, 3);
    for (const [index, path] of images.paths(files).entries()) {
      const image = readFileSync(images.pathsOf(COPIED)[index]!);
      const superblock = { ...superblockOfImage(image), logicalBlockBytes };
      image.set(encodeSuperblock(superblock), SUPERBLOCK_OFFSET_BYTES);
      writeFileSync(path, image);
    }
    expect(await images.readOnlySum(COPIED, files)).toBe(created[COPIED]!);
    await images.write(COPIED, files, 4);
    for (const path of images.paths(files)) {
      expect(superblockOfImage(readFileSync(path)).logicalBlockBytes).toBe(logicalBlockBytes);
    }
  },
);

for (const { name, says } of REFUSED) {
  shareTest(
    `take-over: made by mdadm, ${name}: refused with the reason, nothing is written ${NEEDS}`,
    async () => {
      await createdByMdadm();
      const paths = images.pathsOf(name);
      const before = sums(paths);
      const { attached, uri } = await Attached.start(paths);
      expect([uri, attached.child.exitCode]).toEqual([null, 1]);
      expect(attached.stderr).toMatch(says);
      expect(attached.stderr).toContain(paths[0]!);
      expect(sums(paths)).toEqual(before);
    },
  );
}

for (const array of FOREIGN) {
  const { name, layout, memberCount, policy, keepsDirty, loses } = array;
  shareTest(
    `take-over: ${name}, written by parityd: Linux finds it right, and back ${NEEDS}`,
    async () => {
      const written = await writtenByParityd();
      const { assembled } = await assembledByLinux();
      for (const key of keepsDirty ? [name, kept(name)] : [name]) {
        const report = assembled[key]!;
        const { degradedBefore, isDirty, detail, sumWritten } = report;
        expect([key, degradedBefore, isDirty]).toEqual([key, loses === null ? 0 : 1, false]);
        expect(detail).toContain(`Layout : ${layout}`);
        expectAccepted(report, { name, memberCount, policy, sum: written.get(key)! });
        // The others go on before they are read.
        if (AGAIN.includes(key)) continue;
        expect(await images.readOnlySum(name, images.files.get(key)!)).toBe(sumWritten);
      }
    },
  );
}

shareTest(`take-over: ${AGAIN.join(", ")}: one more round of both ${NEEDS}`, async () => {
  const { written, report } = await assembledAgain();
  for (const name of AGAIN) {
    const { memberCount, policy } = FOREIGN.find((array) => array.name === name)!;
    const expected = { name, memberCount, policy, sum: written.get(name)! };
    await images.expectRound(report.assembled[name]!, expected);
  }
});
