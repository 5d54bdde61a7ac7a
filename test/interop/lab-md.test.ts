/**
 * Goal: Linux goes on with every array that parityd made or left behind, in any state, and parityd
 * with what Linux made of it.
 *
 * Method: arrays of parityd's own, in each policy, are stopped clean, degraded or in mid-rebuild,
 * or killed in mid-write. A boot of the kernel lab assembles them: the sha256 is what parityd
 * served, a check finds nothing, and what Linux writes then parityd reads back. A second boot is
 * one more round. With `ppl` the kernel also recovers what was killed without each member, to what
 * parityd itself recovers; a wrong entry in that log would panic this kernel. Of copies of them
 * mdadm --grow changes the policy, and parityd goes on in the new one. A day takes its share of
 * the arrays, of the damages and of the changes; ten days in a row take all.
 */
import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { policyOf } from "../../src/array/running/array-core.ts";
import { decodeSuperblock } from "../../src/md/superblock.ts";
import { ArrayImages, expectAccepted, once } from "../helpers/array-images.ts";
import {
  DAMAGE_DEVICE_BYTES,
  DAMAGES,
  type Damage,
  damagedBlocks,
  type Fate,
} from "../helpers/md-damages.ts";
import {
  type AssembleTask,
  type GrowTask,
  type MdReport,
  runMd,
  type TrialTask,
} from "../helpers/md-lab.ts";
import { writeMember } from "../helpers/md-members.ts";
import { needs } from "../helpers/needs.ts";
import { ArrayMaker, ENDINGS, LOGGED_ENDINGS, type OwnArraySpec } from "../helpers/own-arrays.ts";
import { POLICIES } from "../helpers/policies.ts";
import { Share, withShare } from "../helpers/share.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

const DAYS = 5;

/** Each policy and each way to end, with several chunk sizes, and with 3 and with 5 members. */
const ALL_OWN: readonly OwnArraySpec[] = POLICIES.flatMap((policy) => {
  const endings = policy === "ppl" ? [...ENDINGS, ...LOGGED_ENDINGS] : ENDINGS;
  return endings.flatMap((ending, index) =>
    (policy === "resync" ? [4, 512] : [16, 128]).map((chunkKib, chunkIndex) => ({
      name: `${policy}-${ending}-${chunkKib}k`,
      policy,
      ending,
      chunkKib,
      memberCount: (index + chunkIndex) % 2 === 0 ? 3 : 5,
    })),
  );
});

function goesAgain({ ending, memberCount }: OwnArraySpec): boolean {
  return ending !== "clean" && memberCount === 3;
}

/** Those that go round once more. */
const AGAIN = new Share("own arrays, again", 2 * DAYS).of(ALL_OWN.filter(goesAgain));

/** Damages that a real kernel is asked about. */
const TRIALS = new Share("damages", DAYS).of(DAMAGES);

/**
 * Changes of policy that Linux makes to an array of parityd's, and what they are called there.
 * Not to ppl: mdadm 4.2 finds no room for it in an array of this size that was created without it,
 * its own included.
 */
const ALL_GROWTHS = [
  { from: "ppl", to: "resync", word: "--consistency-policy=resync" },
  { from: "resync", to: "bitmap", word: "--bitmap=internal" },
  { from: "bitmap", to: "resync", word: "--bitmap=none" },
] as const;
const GROWTHS = new Share("growths", 3).of(ALL_GROWTHS);

/** An array that is copied to be grown. */
function isGrown({ policy, ending }: OwnArraySpec): boolean {
  return ending === "clean" && GROWTHS.some(({ from }) => from === policy);
}

const ONCE = new Share("own arrays", 2 * DAYS).of(ALL_OWN.filter((spec) => !goesAgain(spec)));
const OWN = ALL_OWN.filter((spec) => AGAIN.includes(spec) || ONCE.includes(spec) || isGrown(spec));

const images = new ArrayImages();

function trialOf(damage: Damage): TrialTask {
  const name = damage.name.replaceAll(/[^a-z0-9]/gi, "-");
  const blocks = damagedBlocks(damage);
  const files = blocks.map((_, index) => `damage-${name}-${index}.img`);
  for (const [index, path] of images.paths(files).entries()) {
    writeMember(path, blocks[index]!, DAMAGE_DEVICE_BYTES);
  }
  return { name: damage.name, files };
}

const madeByParityd = once(() => new ArrayMaker(images).makeAll(OWN));

function copiesOf(files: readonly string[], prefix: string): string[] {
  return files.map((file) => {
    const copy = `${prefix}-${file}`;
    const [from, to] = images.paths([file, copy]);
    copyFileSync(from!, to!);
    return copy;
  });
}

/** Copies of an array's files without one of them, for a kernel to recover. */
function taskWithout(name: string, lost: number): AssembleTask {
  const files = copiesOf(images.files.get(name)!.toSpliced(lost, 1), `without-${lost}`);
  return { name: `${name} without ${lost}`, files, replaces: null, isBrief: true };
}

/** The array that is copied for it. */
function grownFrom(from: string): string {
  return OWN.find(({ policy, ending }) => policy === from && ending === "clean")!.name;
}

function growTaskOf({ from, to, word }: (typeof GROWTHS)[number]): GrowTask {
  const name = grownFrom(from);
  return { name: `${from} to ${to}`, files: copiesOf(images.files.get(name)!, to), word };
}

/** The first boot. */
const assembledByLinux = once(async (): Promise<MdReport> => {
  const assemble: AssembleTask[] = [];
  for (const { name, replaces, sumsWithout } of (await madeByParityd()).values()) {
    assemble.push(...sumsWithout.map((_, lost) => taskWithout(name, lost)));
    assemble.push(images.task(name, replaces));
  }
  const grow = GROWTHS.map(growTaskOf);
  return runMd(images.folder, { assemble, trials: TRIALS.map(trialOf), grow });
});

/** The second boot, after parityd has written to what the kernel had written to. */
const assembledAgain = once(async () => {
  await assembledByLinux();
  const written = new Map<string, string>();
  for (const { name } of AGAIN) {
    written.set(name, await images.write(name, images.files.get(name)!, 3));
  }
  const assemble = AGAIN.map(({ name }) => images.task(name));
  return { written, report: await runMd(images.folder, { assemble }) };
});

for (const spec of OWN) {
  const { name, policy, ending, chunkKib, memberCount } = spec;
  shareTest(
    `made by parityd: ${policy}, ${ending}, ${memberCount} members, chunks of ${chunkKib} KiB: Linux goes on with it, and back ${NEEDS}`,
    async () => {
      const { sum, files, uuid, sumsWithout } = (await madeByParityd()).get(name)!;
      const { assembled } = await assembledByLinux();
      const report = assembled[name]!;
      const isDegraded = ending !== "clean" && ending !== "killed";
      expect(report.degradedBefore).toBe(isDegraded ? 1 : 0);
      // Replay of a partial parity log ends clean.
      expect([name, report.isDirty]).toEqual([name, ending === "killed" && policy !== "ppl"]);
      expect(report.detail).toContain("Layout : left-symmetric");
      expect(report.detail).toContain(`Chunk Size : ${chunkKib}K`);
      for (const text of report.examined) expect(text).toContain(`Array UUID : ${uuid}`);
      // A kill may come before the first checkpoint.
      const offsets = report.examined.filter((text) => /Recovery Offset : \d/.test(text));
      expect(offsets.length).toBe(/rebuild/.test(ending) ? 1 : 0);
      expectAccepted(report, { name, memberCount, policy, sum });
      const byLinux = sumsWithout.map((_, lost) => assembled[`${name} without ${lost}`]!.sumBefore);
      expect(byLinux).toEqual([...sumsWithout]);
      // The others go on before they are read.
      if (AGAIN.includes(spec)) return;
      expect(await images.readOnlySum(name, files)).toBe(report.sumWritten);
    },
  );
}

shareTest(
  `made by parityd: ${AGAIN.map(({ name }) => name).join(", ")}: one more round of both ${NEEDS}`,
  async () => {
    const { written, report } = await assembledAgain();
    for (const { name, memberCount, policy } of AGAIN) {
      const expected = { name, memberCount, policy, sum: written.get(name)! };
      await images.expectRound(report.assembled[name]!, expected);
    }
  },
);

for (const growth of GROWTHS) {
  const { from, to, word } = growth;
  shareTest(
    `mdadm --grow ${word}: ${from} becomes ${to}, and parityd goes on with it ${NEEDS}`,
    async () => {
      const { name, sum } = (await madeByParityd()).get(grownFrom(from))!;
      const { policy, sumBefore, sumWritten } = (await assembledByLinux()).grown[
        `${from} to ${to}`
      ]!;
      expect([policy, sumBefore]).toEqual([to, sum]);
      const files = images.files.get(name)!.map((file) => `${to}-${file}`);
      expect(await images.readOnlySum(name, files)).toBe(sumWritten);
      const [path] = images.paths(files);
      const block = new Uint8Array(await Bun.file(path!).slice(4096, 8192).arrayBuffer());
      const superblock = decodeSuperblock(block, { deviceBytes: Bun.file(path!).size });
      expect(superblock.ok && policyOf(superblock.value)).toBe(to);
      // And on in the new policy.
      const sumOurs = await images.write(name, files, 4);
      expect(await images.readOnlySum(name, files)).toBe(sumOurs);
    },
  );
}

function fateOf(missing: number | null | undefined): Fate {
  if (missing === null || missing === undefined) return "refused";
  return missing === 0 ? "whole" : "without";
}

shareTest(
  `damage: ${TRIALS.length} kinds of damaged superblock: the kernel refuses and accepts as the table says ${NEEDS}`,
  async () => {
    const { trials } = await assembledByLinux();
    const found = TRIALS.map(({ name }) => [name, fateOf(trials[name])]);
    expect(found).toEqual(TRIALS.map(({ name, kernel }) => [name, kernel]));
  },
);
