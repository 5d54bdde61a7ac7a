/** Goal: a strip says where things lie along a member, and none of it is too small to be seen. */
import { expect, test } from "bun:test";
import type { ArrayStatus, JobStatus, MemberStatus } from "../../../src/array/statuses.ts";
import { memberBytes, scrubOf, stripOf, stripWords, toMarks } from "../../../src/page/strips.ts";

const MIB = 1024 * 1024;

function member(fields: Partial<MemberStatus> = {}): MemberStatus {
  return { role: 0, drive: "a", state: "in-sync", ...fields } as MemberStatus;
}

function array(fields: Partial<ArrayStatus> = {}): ArrayStatus {
  const members = [member(), member({ role: 1 }), member({ role: 2 })];
  const sync = { action: "idle", doneBytes: 0, totalBytes: 0 };
  return { uuid: "u", sizeBytes: 200 * MIB, members, sync, ...fields } as ArrayStatus;
}

function syncing(action: string, doneBytes: number): ArrayStatus {
  return array({ sync: { action, doneBytes, totalBytes: 100 * MIB } as ArrayStatus["sync"] });
}

const range = (firstSector: number, sectorCount: number, roles: number[] | null = null) => ({
  ...{ firstSector, sectorCount, roles, stripe: 0, stripeCount: 1, arrayOffset: 0 },
});

function scrub(fields: Partial<JobStatus> = {}): JobStatus {
  return {
    id: 1,
    kind: "check",
    state: "done",
    arrayUuid: "u",
    result: {},
    ...fields,
  } as JobStatus;
}

test("strips: a member's bytes: the array's over its data members", () => {
  expect(memberBytes(array())).toBe(100 * MIB);
  expect(memberBytes(array({ members: [] }))).toBe(0);
});

test("strips: states and work: areas from 0 to 1 without a gap", () => {
  const cases: [ArrayStatus, MemberStatus, string][] = [
    [array(), member(), "in sync"],
    [array(), member({ state: "missing" }), "missing"],
    [array(), member({ state: "faulty", badBlocks: [{ offset: 0, bytes: 512 }] }), "missing"],
    [
      array(),
      member({ state: "rebuilding", recoveredBytes: 25 * MIB }),
      "rebuilt to 25 %, behind that not in sync yet",
    ],
    [
      array(),
      member({ replacement: { drive: "d", copiedBytes: 50 * MIB } }),
      "copied to its replacement to 50 %, behind that in sync",
    ],
    [syncing("resync", 10 * MIB), member(), "in sync to 10 %, behind that not in sync yet"],
    [
      syncing("check", 75 * MIB),
      member(),
      "read by the work under way to 75 %, behind that in sync",
    ],
    [syncing("rebuild", 75 * MIB), member(), "in sync"],
  ];
  for (const [of, who, words] of cases) {
    const strip = stripOf(of, who, null);
    expect(stripWords(strip)).toBe(words);
    expect(strip.areas[0]?.from).toBe(0);
    expect(strip.areas.at(-1)?.to).toBe(1);
    for (const [index, { from }] of strip.areas.slice(1).entries()) {
      expect(from).toBe(strip.areas[index]!.to);
    }
  }
});

test("strips: marks: at their place, of their member, and wide enough", () => {
  const found = scrub({
    result: {
      mismatchRanges: { ranges: [range(2048 * 50, 8)], truncated: false },
      lostRanges: { ranges: [range(2048 * 75, 8, [1])], truncated: false },
    },
  });
  const bad = member({ badBlocks: [{ offset: 10 * MIB, bytes: 4096 }] });
  const { marks } = stripOf(array(), bad, found);
  expect(marks.map(({ kind, from }) => [kind, from])).toEqual([
    ["mismatch", 0.5],
    ["bad", 0.1],
  ]);
  for (const { from, to } of marks) expect(to - from).toBeCloseTo(1 / 200);
  const other = stripOf(array(), member({ role: 1 }), found);
  expect(stripWords(other)).toBe("in sync; parity mismatch at 50 %; lost sectors at 75 %");
});

test("strips: places that one could not tell apart: one mark that counts them", () => {
  const marks = toMarks(
    "bad",
    [
      [0, 512],
      [90 * MIB, 512],
      [4096, 512],
    ],
    100 * MIB,
  );
  expect(marks.map(({ count }) => count)).toEqual([2, 1]);
  const [last] = toMarks("bad", [[100 * MIB - 512, 512]], 100 * MIB);
  expect(last!.to).toBeLessThanOrEqual(1);
  expect(last!.to - last!.from).toBeCloseTo(1 / 200);
});

test("strips: which scrub: the last of the array, unless it has put right what it found", () => {
  expect(scrubOf(array(), [])).toBeNull();
  const older = scrub({ id: 1 });
  const newer = scrub({ id: 3, state: "running" });
  const others = [scrub({ id: 9, arrayUuid: "other" }), scrub({ id: 8, kind: "rebuild" })];
  expect(scrubOf(array(), [older, newer, ...others])?.id).toBe(3);
  expect(scrubOf(array(), [older, scrub({ id: 4, kind: "repair" })])).toBeNull();
  const running = scrub({ id: 4, kind: "repair", state: "running" });
  expect(scrubOf(array(), [older, running])?.id).toBe(4);
});
