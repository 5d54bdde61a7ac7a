/**
 * Goal: what has become worse is told once, and only that. Method: the judge is a function of a
 * reading and of what was told; stories of readings, hour by hour.
 */
import { expect, test } from "bun:test";
import { judgeSmart, type SmartTold } from "../../../src/appliance/drives/smart-judge.ts";
import { readSmart } from "../../../src/appliance/drives/smart-report.ts";
import type { SmartReading } from "../../../src/appliance/state/smart-row.ts";
import { nvme, sataDisk } from "../../helpers/smart-outputs.ts";

function reading(document: unknown, change: Partial<SmartReading> = {}): SmartReading {
  const read = readSmart(JSON.stringify(document), 0);
  if (!read.ok) throw new Error(read.error);
  return { ...read.value, ...change };
}

/** What is told of each reading in turn: "failing", and how many things became worse. */
function story(readings: readonly SmartReading[]): string[] {
  let told: SmartTold = {};
  return readings.map((one) => {
    const news = judgeSmart(one, told);
    told = news.told;
    // What was told is told no more, also after a restart.
    expect(judgeSmart(one, structuredClone(told))).toEqual({ told, failing: null, worse: [] });
    return `${news.failing === null ? "" : "failing "}${news.worse.length}`;
  });
}

const ata = (options: Parameters<typeof sataDisk>[0]) => reading(sataDisk(options));

test("smart news: a drive that is well: nothing", () => {
  expect(story([ata({}), ata({}), reading(nvme())])).toEqual(["0", "0", "0"]);
});

test("smart news: failing: once, and anew when it was well in between", () => {
  const [well, failing] = [ata({}), ata({ passed: false })];
  const silent = { ...well, health: "unknown" } as const;
  expect(story([failing, failing, silent, failing, well, failing])).toEqual([
    ...["failing 0", "0", "0", "0", "0", "failing 0"],
  ]);
  expect(judgeSmart(failing, {}).failing).toContain("its own assessment");
});

test("smart news: counts: the first, then each time that they have doubled", () => {
  const counts = [0, 1, 2, 3, 4, 7, 8, 8, 100];
  expect(story(counts.map((reallocated) => ata({ reallocated })))).toEqual([
    ...["0", "1", "1", "0", "1", "0", "1", "0", "1"],
  ]);
  expect(judgeSmart(ata({ reallocated: 8 }), {}).worse).toEqual(["8 reallocated sectors"]);
  // Pending sectors that were written are gone; more of them are news again.
  const pending = [4, 3, 2, 1, 0, 1];
  expect(story(pending.map((count) => ata({ pending: count })))).toEqual([
    ...["1", "0", "0", "0", "0", "1"],
  ]);
  expect(story([ata({ reallocated: 4, pending: 1 })])).toEqual(["2"]);
  const unknown = { ...ata({ reallocated: 4 }), reallocatedSectors: null };
  expect(story([ata({ reallocated: 4 }), unknown, ata({ reallocated: 4 })])).toEqual([
    ...["1", "0", "0"],
  ]);
});

test("smart news: wear and spare: at their steps", () => {
  const used = [79, 80, 89, 90, 99, 100, 109, 110, 255];
  expect(story(used.map((percent) => reading(nvme({ used: percent }))))).toEqual([
    ...["0", "1", "0", "1", "0", "1", "0", "1", "1"],
  ]);
  const spare = [100, 51, 50, 26, 25, 11, 10, 0];
  expect(story(spare.map((percent) => reading(nvme({ spare: percent }))))).toEqual([
    ...["0", "0", "1", "0", "1", "0", "1", "0"],
  ]);
});

test("smart news: media errors, temperature: told; inside again and outside: told anew", () => {
  expect(story([0, 1, 1, 2].map((mediaErrors) => reading(nvme({ mediaErrors }))))).toEqual([
    ...["0", "1", "0", "1"],
  ]);
  expect(story([0, 2, 2, 0, 2].map((warning) => reading(nvme({ warning }))))).toEqual([
    ...["0", "1", "0", "0", "1"],
  ]);
});
