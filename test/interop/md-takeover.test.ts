/**
 * Goal: the program takes over what Linux left, in every state: it serves the bytes that the kernel
 * served, whichever member is missing, and a crash in mid-recovery changes nothing of that.
 *
 * Method: every fixture, through `parityd attach`, with all members and without each one.
 * Read-only, the sha256 over NBD is the kernel's and not a byte changes in the files. On copies,
 * read-write: the same sum, then clean, parity right in every row, and the same sum without each
 * member. Dirty ones are killed again and again on the way. A day takes its share of all that; six
 * days in a row take all.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { KIB, ROW_BYTES } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { Attached, connectNbd, runVerb, sha256 } from "../helpers/daemon.ts";
import { type FixtureFacts, fixtureFacts, writeFixture } from "../helpers/md-fixtures.ts";
import { findMismatches, openImages } from "../helpers/md-recovery.ts";
import { sumOf } from "../helpers/nbd-sum.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const NEEDS = "[needs libaio, direct-io]";
const FACTS = fixtureFacts();
const PIECE_BYTES = 64 * KIB;
/** Killed this long after the start: before, during and after the recovery. */
const KILL_AFTER_MS = [40, 60, 80, 100, 130, 170];

/** What is to come of a fixture without one of its members, or with all (`lost` null). */
interface Situation {
  readonly lost: number | null;
  readonly flags: readonly string[];
  readonly outcome: { readonly sum: string } | { readonly refused: RegExp };
}

const FIXTURES: readonly (readonly [name: string, situations: readonly Situation[]])[] = [
  ["r5-3d-64k-clean", anyMissing("r5-3d-64k-clean")],
  ["r5-4d-512k-clean", anyMissing("r5-4d-512k-clean")],
  ["r5-4d-16k-la", anyMissing("r5-4d-16k-la")],
  [
    "r5-3d-64k-badblocks",
    anyMissing("r5-3d-64k-badblocks").filter(({ lost }) => lost === null || lost === 2),
  ],
  [
    "r5-3d-64k-degraded",
    [
      ...anyMissing("r5-3d-64k-degraded").filter(({ lost }) => lost === null || lost === 1),
      refused(0, /roles 0 \(missing\), 1 \(missing\).*m1\.img at event 19/),
      refused(2, /roles 1 \(missing\), 2 \(missing\).*m1\.img at event 19/),
    ],
  ],
  [
    "r5-3d-64k-dirty",
    [
      { lost: null, flags: [], outcome: { sum: recovered("r5-3d-64k-dirty", "full") } },
      ...[0, 1, 2].flatMap((lost) => [
        refused(lost, /not stopped cleanly/),
        {
          lost,
          flags: ["--force"],
          outcome: { sum: recovered("r5-3d-64k-dirty", `miss${lost}-force`) },
        },
      ]),
    ],
  ],
  [
    "r5-4d-64k-resync-half",
    [
      { lost: null, flags: [], outcome: { sum: recovered("r5-4d-64k-resync-half", "full") } },
      ...[0, 1, 2, 3].map((lost) => refused(lost, /in sync only below member sector 31744/)),
    ],
  ],
  ["r5-3d-64k-bitmap", anyMissing("r5-3d-64k-bitmap")],
  ["r5-3d-64k-ppl", anyMissing("r5-3d-64k-ppl")],
  [
    "r5-3d-64k-ppl-dirty",
    [
      { lost: null, flags: [], outcome: { sum: recovered("r5-3d-64k-ppl-dirty", "full") } },
      ...[0, 1, 2].map((lost) => ({
        lost,
        flags: [],
        outcome: { sum: recovered("r5-3d-64k-ppl-dirty", `miss${lost}`) },
      })),
    ],
  ],
];

function factsOf(name: string): FixtureFacts {
  return FACTS[name]!;
}

function recovered(name: string, how: string): string {
  const sum = factsOf(name).after_kernel_recovery[how]?.sha256;
  if (typeof sum !== "string") throw new Error(`no kernel has recovered ${name} ${how}`);
  return sum;
}

function anyMissing(name: string): Situation[] {
  const { raid_disks, kernel_sha256 } = factsOf(name);
  const members = Array.from({ length: raid_disks }, (_, index) => index);
  return [null, ...members].map((lost) => ({ lost, flags: [], outcome: { sum: kernel_sha256 } }));
}

function refused(lost: number, why: RegExp): Situation {
  return { lost, flags: [], outcome: { refused: why } };
}

function tell({ lost, flags }: Situation): string {
  const members = lost === null ? "all members" : `without m${lost}`;
  return [members, ...flags].join(", ");
}

function without(files: readonly string[], lost: number | null): string[] {
  return lost === null ? [...files] : files.toSpliced(lost, 1);
}

/** The sum over NBD; it must end well. `use` runs while it is attached, after the sum. */
async function attachedSum(
  name: string,
  files: readonly string[],
  options: { flags: readonly string[]; use?: (client: NbdClient) => Promise<void> },
): Promise<string> {
  const { attached, uri } = await Attached.start(files, options.flags);
  if (uri === null) return attached.stderr;
  const client = await connectNbd(attached.socket, name);
  const sum = await sumOf(client);
  await options.use?.(client);
  await client.disconnect();
  expect(await attached.stop()).toBe(0);
  return sum;
}

async function areClean(files: readonly string[]): Promise<boolean> {
  const { stdout } = await runVerb(["examine", "--json", ...files]);
  const reports = stdout.trimEnd().split("\n");
  return reports.every((line) => JSON.parse(line).state === "clean");
}

async function waitClean(files: readonly string[]): Promise<void> {
  while (!(await areClean(files))) await Bun.sleep(20);
}

function copies(files: readonly string[]): string[] {
  const folder = makeTempDir("copy");
  return files.map((file) => {
    const copy = join(folder, basename(file));
    copyFileSync(file, copy);
    return copy;
  });
}

/** Member offsets of rows whose parity is wrong. */
function mismatchesOf(files: readonly string[]): number[] {
  const images = files.map((file) => [file, new Uint8Array(readFileSync(file))] as const);
  return findMismatches(openImages(new Map(images)));
}

/** What is done with a fixture in a situation. */
const WAYS = ["read-only", "read-write", "killed"] as const;

interface Due {
  readonly name: string;
  readonly way: (typeof WAYS)[number];
  readonly situation: Situation;
}

/** Only where something is recovered can it be killed in the middle of that. */
function isPossible({ name, way, situation }: Due): boolean {
  return way !== "killed" || (/dirty|half/.test(name) && "sum" in situation.outcome);
}

const TODAY = new Share("take-overs", 12).of(
  FIXTURES.flatMap(([name, situations]) =>
    situations.flatMap((situation) => WAYS.map((way) => ({ name, way, situation }))),
  ).filter(isPossible),
);
const FIXTURES_TODAY = FIXTURES.filter(([fixture]) => TODAY.some(({ name }) => name === fixture));

function repeatable(body: (situation: Situation) => Promise<void>) {
  return (_: string, situation: Situation) => withShare(() => body(situation));
}

describe.skipIf(!CAN_RUN).each(FIXTURES_TODAY)("%s", (name) => {
  let files: string[] = [];

  function due(way: Due["way"]): (readonly [string, Situation])[] {
    const mine = TODAY.filter((each) => each.name === name && each.way === way);
    return mine.map(({ situation }) => [tell(situation), situation] as const);
  }

  beforeAll(() => {
    files = writeFixture(name, makeTempDir("fixture"));
  });

  function expectUntouched(): void {
    for (const file of files) {
      expect(sha256(file)).toBe(factsOf(name).images_sha256[basename(file)]!);
    }
  }

  /** What the files of a situation leave: which of them are members with current data. */
  function isDegradedBefore(lost: number | null): boolean {
    return lost !== null || name === "r5-3d-64k-degraded";
  }

  test.each(due("read-only"))(
    `take-over: ${name}, %s: read-only: the kernel's bytes, not one byte is written ${NEEDS}`,
    repeatable(async ({ lost, flags, outcome }) => {
      const given = without(files, lost);
      const answer = await attachedSum(name, given, { flags: ["--read-only", ...flags] });
      if ("refused" in outcome) expect(answer).toMatch(outcome.refused);
      else expect(answer).toBe(outcome.sum);
      expectUntouched();
    }),
  );

  test.each(due("read-write"))(
    `take-over: ${name}, %s: read-write: the kernel's bytes, clean and right afterwards ${NEEDS}`,
    repeatable(async ({ lost, flags, outcome }) => {
      if ("refused" in outcome) {
        expect(await attachedSum(name, without(files, lost), { flags })).toMatch(outcome.refused);
        expectUntouched();
        return;
      }
      const given = without(copies(files), lost);
      const members = isDegradedBefore(null) ? without(given, 1) : given;
      const use = async () => waitClean(lost === null ? members : given);
      expect(await attachedSum(name, given, { flags, use })).toBe(outcome.sum);
      expect(await areClean(members)).toBe(true);
      if (isDegradedBefore(lost)) {
        expect(await attachedSum(name, given, { flags: ["--read-only"] })).toBe(outcome.sum);
        return;
      }
      expect(mismatchesOf(given)).toEqual([]);
      if (name === "r5-3d-64k-badblocks") return; // Its bad sectors lack redundancy without others.
      for (const index of given.keys()) {
        const rest = given.toSpliced(index, 1);
        expect(await attachedSum(name, rest, { flags: ["--read-only"] })).toBe(outcome.sum);
      }
    }),
  );

  test.each(due("killed"))(
    `take-over: ${name}, %s: killed in mid-recovery, and started again: the kernel's bytes ${NEEDS}`,
    repeatable(async ({ lost, flags, outcome }) => {
      const given = without(copies(files), lost);
      for (const delayMs of KILL_AFTER_MS) {
        const attached = Attached.launch(given, flags);
        await Bun.sleep(delayMs);
        await attached.kill();
      }
      const use = async () => waitClean(given);
      expect(await attachedSum(name, given, { flags, use })).toBe(
        "sum" in outcome ? outcome.sum : "",
      );
      if (lost === null) expect(mismatchesOf(given)).toEqual([]);
    }),
  );
});

test.skipIf(!CAN_RUN).each([0, 1])(
  `take-over: r5-3d-64k-badblocks, without m%i: EIO in the two rows that nothing proves, the rest is right ${NEEDS}`,
  async (lost) => {
    const name = "r5-3d-64k-badblocks";
    const files = writeFixture(name, makeTempDir("fixture"));
    const { attached } = await Attached.start(files, ["--read-only"]);
    const whole = await connectNbd(attached.socket, name);
    const degraded = await Attached.start(without(writeFixture(name, makeTempDir("f")), lost), [
      "--read-only",
    ]);
    const client = await connectNbd(degraded.attached.socket, name);
    const failed: number[] = [];
    async function compare(offset: number, bytes: number): Promise<void> {
      const read = await client.read(offset, bytes);
      if (!read.ok) {
        if (bytes === ROW_BYTES) failed.push(read.error);
        else for (let at = 0; at < bytes; at += ROW_BYTES) await compare(offset + at, ROW_BYTES);
        return;
      }
      const right = await whole.read(offset, bytes);
      if (!right.ok) throw new Error(`read at ${offset}: errno ${right.error}`);
      if (Buffer.compare(read.value, right.value) !== 0) throw new Error(`at ${offset}`);
    }
    const { sizeBytes } = client;
    for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
      await compare(offset, Math.min(PIECE_BYTES, sizeBytes - offset));
    }
    // Two rows of the chunk on m2, and two of the chunk on the missing member where it held data.
    expect(new Set(failed)).toEqual(new Set([5]));
    expect([2, 4]).toContain(failed.length);
    for (const each of [whole, client]) await each.disconnect();
    expect([await attached.stop(), await degraded.attached.stop()]).toEqual([0, 0]);
  },
);
