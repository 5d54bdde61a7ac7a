/**
 * Goal: a replace goes on where the other md left it, in both directions and from any instant:
 * Linux with that of parityd, and parityd with that of Linux.
 *
 * Method: two boots of the kernel lab, everything by sha256. In the first Linux replaces a member
 * of arrays of each policy, and copies of their files are kept at ten points of that, stopped or
 * dirty; parityd goes on with each to its end, scrubs and writes it. Here parityd replaces, and is
 * stopped, or killed with its writes done or in the middle of them, at the same ten points. The
 * second boot assembles all of it, what parityd left in mid-replace also without the member that is
 * replaced: Linux goes on to the end, a check finds nothing but what Linux itself has harmed, and
 * what Linux writes then parityd reads back. A day takes one point and ending of each policy and
 * direction; twenty days in a row take all.
 */
import { expect, test } from "bun:test";
import { copyFileSync } from "node:fs";
import { ArrayImages, expectAccepted, once } from "../helpers/array-images.ts";
import { Daemon, runVerb } from "../helpers/daemon.ts";
import { POLICY_WORDS } from "../helpers/foreign-arrays.ts";
import {
  type AssembleReport,
  type AssembleTask,
  type ReplaceReport,
  type ReplaceStop,
  type ReplaceTask,
  runMd,
} from "../helpers/md-lab.ts";
import { sumOf } from "../helpers/nbd-sum.ts";
import { needs } from "../helpers/needs.ts";
import { POLICIES } from "../helpers/policies.ts";
import {
  type Continued,
  goOn,
  MEMBERS,
  POINTS,
  type ReplacedArray,
  ReplacedArrays,
  type ReplacedSpec,
} from "../helpers/replaced-arrays.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";
const DAYS = 20;
const TASKS_PER_BOOT = 40;

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

/** Every point of each policy, with each ending; the role is another one at each point. */
function enumerated<E extends string>(prefix: string, endings: readonly E[]) {
  return POLICIES.flatMap((policy) =>
    endings.flatMap((ending) =>
      POINTS.map((percent, index) => ({
        ...{ policy, percent, ending, role: index % MEMBERS },
        name: `${prefix}-${policy}-${percent}-${ending}`,
      })),
    ),
  );
}

/** Every second one of those that are killed is so in mid-write. */
const ALL_OWN = enumerated("own", ["stopped", "killed"] as const).map((spec): ReplacedSpec => {
  const isOdd = POINTS.indexOf(spec.percent) % 2 > 0;
  return spec.ending === "killed" && isOdd ? { ...spec, ending: "killed in mid-write" } : spec;
});
const OWN = new Share("own replaces", DAYS).of(ALL_OWN);
const FOREIGN = new Share("replaces of Linux", DAYS).of(enumerated("linux", ["stopped", "dirty"]));
/** Linux replaces this one. */
const FOREIGN_ROLE = 1;

const images = new ArrayImages();
/** What Linux left, for itself. */
const harmed: AssembleTask[] = [];

function stopsOf(policy: string): ReplaceStop[] {
  return FOREIGN.filter((stop) => stop.policy === policy)
    .toSorted((one, other) => one.percent - other.percent)
    .map(({ name, percent, ending }) => ({
      ...{ percent, ending },
      files: images.make(name, MEMBERS + 1),
    }));
}

/** The first boot. */
const replacedByLinux = once(async () => {
  const replace = POLICIES.map((policy): ReplaceTask => {
    const files = images.make(`linux-${policy}`, MEMBERS + 1);
    const words = ["--level=5", "--chunk=16", ...POLICY_WORDS[policy]];
    return { name: policy, files, words, replaces: FOREIGN_ROLE, stops: stopsOf(policy) };
  }).filter(({ stops }) => stops.length > 0);
  // Where a day takes all, a boot for each policy.
  const boots = FOREIGN.length > TASKS_PER_BOOT ? replace.map((task) => [task]) : [replace];
  const replaced: Record<string, ReplaceReport> = {};
  for (const boot of boots) {
    Object.assign(replaced, (await runMd(images.folder, { replace: boot })).replaced);
  }
  const sums = new Map<string, string>();
  for (const { name, stops } of replace) {
    for (const [index, { percent, ending }] of stops.entries()) {
      sums.set(`linux-${name}-${percent}-${ending}`, replaced[name]!.sums[index]!);
    }
  }
  return sums;
});

/** By name: what mdadm says of the drives that Linux left, and what parityd made of them. */
const continuedByParityd = once(async () => {
  await replacedByLinux();
  for (const stop of HARMED) {
    harmed.push(copyTask(harmedOf(stop.name), images.files.get(stop.name)!));
  }
  const daemon = await Daemon.start(makeTempDir("go-on"));
  const continued = new Map<string, Continued & { examined: string }>();
  for (const { name } of FOREIGN) {
    const files = images.files.get(name)!;
    const { stdout } = await runVerb(["examine", ...images.pathsOf(name)]);
    const result = await goOn(daemon, images, { files, role: FOREIGN_ROLE });
    continued.set(name, { ...result, examined: stdout });
  }
  expect(await daemon.stop()).toBe(0);
  return continued;
});

const leftByParityd = once(() => new ReplacedArrays(images).makeAll(OWN));

/** Whether Linux also goes on with what is left without the member that is replaced. */
function startsAlone({ ending, policy, isUnderWay }: ReplacedArray): boolean {
  // Dirty and without a member: only what has a partial parity log starts.
  const isKnown = ending === "stopped" || (ending === "killed" && policy === "ppl");
  return isUnderWay && isKnown;
}

function aloneOf(name: string): string {
  return `${name} alone`;
}

function harmedOf(name: string): string {
  return `${name} by Linux alone`;
}

/**
 * Linux 6.1 harms its own arrays here. Where an array that is dirty is being replaced, it checks
 * the parity of each stripe that it copies, which leaves zeros in its buffer, and copies those
 * (raid5.c, handle_stripe: parity is not R5_UPTODATE any more where R5_WantReplace is set). Without
 * a bitmap the resync that follows makes all parity right; with one it looks at dirty chunks alone.
 */
function mayHarm({ policy, ending }: { policy: string; ending: string }): boolean {
  return policy === "bitmap" && ending !== "stopped";
}

/** Of Linux's own arrays: those of which enough is left to be copied. */
const HARMED = FOREIGN.filter((stop) => mayHarm(stop) && stop.percent <= 90);

/** Copies of files, under another name, to be assembled too. */
function copyTask(name: string, files: readonly string[]): AssembleTask {
  const copies = files.map((file) => `${name}-${file}`);
  for (const [index, file] of files.entries()) {
    const [from, to] = images.paths([file, copies[index]!]);
    copyFileSync(from!, to!);
  }
  images.files.set(name, copies);
  return images.task(name);
}

/** The second boot; where a day takes all, some more. */
const assembledByLinux = once(async () => {
  await continuedByParityd();
  const made = [...(await leftByParityd()).values()];
  const alone = made.filter(startsAlone).map(({ name, files, role }) => {
    return copyTask(aloneOf(name), files.toSpliced(role, 1));
  });
  const both = [...made, ...FOREIGN].map(({ name }) => images.task(name));
  const tasks = [...alone, ...harmed, ...both];
  const assembled: Record<string, AssembleReport> = {};
  for (let from = 0; from < tasks.length; from += TASKS_PER_BOOT) {
    const assemble = tasks.slice(from, from + TASKS_PER_BOOT);
    Object.assign(assembled, (await runMd(images.folder, { assemble })).assembled);
  }
  return assembled;
});

for (const stop of FOREIGN) {
  const { name, policy, percent, ending } = stop;
  shareTest(
    `replace: Linux's, ${policy}, ${ending} at ${percent} %: parityd goes on with it, and back ${NEEDS}`,
    async () => {
      const sum = (await replacedByLinux()).get(name)!;
      const found = (await continuedByParityd()).get(name)!;
      const { examined, shown, degraded, drive, mismatchBytes, sumBefore, sumAfter } = found;
      const isOver = percent === 100;
      expect([name, shown, degraded]).toEqual([name, isOver ? "" : `drive${MEMBERS}`, 0]);
      if (!isOver) expect(examined).toContain(`Replacement device ${FOREIGN_ROLE}`);
      expect([sumBefore, sumAfter]).toEqual([sum, sum]);
      expect([drive, mismatchBytes]).toEqual([`drive${MEMBERS}`, 0]);
      const assembled = await assembledByLinux();
      const report = assembled[name]!;
      expect([report.degradedBefore, report.isDirty]).toEqual([0, false]);
      const expected = { name: policy, memberCount: MEMBERS, policy };
      expectAccepted(report, { ...expected, sum: found.sumWritten });
      if (!HARMED.includes(stop)) return;
      const byLinux = assembled[harmedOf(name)]!;
      expectAccepted(byLinux, { ...expected, sum, hasMismatches: true });
    },
  );
}

for (const spec of OWN) {
  const { name, policy, percent, ending, role } = spec;
  shareTest(
    `replace: parityd's, ${policy}, ${ending} at ${percent} %: Linux goes on with it, and back ${NEEDS}`,
    async () => {
      const { sum, files, load, isUnderWay } = (await leftByParityd()).get(name)!;
      const assembled = await assembledByLinux();
      const expected = { name, memberCount: MEMBERS, policy, sum };
      const report = assembled[name]!;
      const hasMismatches = isUnderWay && percent < 100 && mayHarm(spec);
      expectAccepted(report, { ...expected, hasMismatches });
      expect([name, report.degradedBefore]).toEqual([name, 0]);
      if (percent < 98) expect(isUnderWay).toBe(true);
      if (isUnderWay) {
        expect(report.examined.at(-1)).toContain(`Device Role : Replacement device ${role}`);
        const state = "A".repeat(MEMBERS).split("").with(role, "R").join("");
        for (const text of report.examined) expect(text).toContain(`Array State : ${state}`);
      }
      await images.withAttached({ name, files, flags: ["--read-only"] }, async (client) => {
        expect(await load.verify(client)).toEqual([]);
        expect(await sumOf(client)).toBe(report.sumWritten);
      });
      const alone = assembled[aloneOf(name)];
      if (alone === undefined) return;
      expect([aloneOf(name), alone.degradedBefore]).toEqual([aloneOf(name), 1]);
      expectAccepted(alone, expected);
      const copies = images.files.get(aloneOf(name))!;
      expect(await images.readOnlySum(name, copies)).toBe(alone.sumWritten);
    },
  );
}
