/**
 * Goal: Linux and parityd read and write the same arrays: what parityd made or left behind, in any
 * state, the kernel's md assembles, finds right and can go on with, and the other way round.
 *
 * Method: two boots of the kernel lab. In the first mdadm makes an array of each layout; parityd
 * takes them over here (read-only, with each member missing, then with writes). The second
 * assembles those, and arrays of parityd's own that were stopped clean, degraded or in
 * mid-rebuild, or killed in mid-write: sha256 by sha256, with a check by the kernel, and with
 * writes of the kernel that parityd reads back. Policy `resync`.
 */
import { expect, test } from "bun:test";
import type { NbdClient } from "../../src/nbd/client.ts";
import { Attached, connectNbd, sums } from "../helpers/daemon.ts";
import { type AssembleReport, type AssembleTask, type MdReport, runMd } from "../helpers/md-lab.ts";
import { sumOf } from "../helpers/nbd-sum.ts";
import { needs } from "../helpers/needs.ts";
import { ArrayMaker, ENDINGS, writeNoise } from "../helpers/own-arrays.ts";
import { makeTempDir } from "../helpers/temp.ts";

const LIMIT_MS = 250_000;
const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";

interface ForeignArray {
  readonly name: string;
  readonly layout: string;
  readonly chunkKib: number;
  readonly memberCount: number;
}

const FOREIGN: readonly ForeignArray[] = [
  { name: "la", layout: "left-asymmetric", chunkKib: 64, memberCount: 3 },
  { name: "ra", layout: "right-asymmetric", chunkKib: 4, memberCount: 4 },
  { name: "ls", layout: "left-symmetric", chunkKib: 512, memberCount: 5 },
  { name: "rs", layout: "right-symmetric", chunkKib: 64, memberCount: 4 },
  { name: "pf", layout: "parity-first", chunkKib: 16, memberCount: 3 },
  { name: "pl", layout: "parity-last", chunkKib: 128, memberCount: 4 },
];

/** Each way to end with every chunk size, and with 3 and with 5 members. */
const OWN = ENDINGS.flatMap((ending, index) =>
  [4, 64, 512].map((chunkKib, chunkIndex) => ({
    name: `${ending}-${chunkKib}k`,
    ending,
    chunkKib,
    memberCount: (index + chunkIndex) % 2 === 0 ? 3 : 5,
  })),
);

/** Runs a step at its first call; later calls share what came of it. */
function once<T>(step: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= step();
    return result;
  };
}

let made: ArrayMaker | undefined;

function maker(): ArrayMaker {
  made ??= new ArrayMaker(makeTempDir("md"));
  return made;
}

const foreignFiles = new Map<string, string[]>();

/** The first boot. */
const createdByMdadm = once(async (): Promise<MdReport> => {
  const create = FOREIGN.map(({ name, layout, chunkKib, memberCount }) => {
    const files = maker().images(name, memberCount);
    foreignFiles.set(name, files);
    return { name, layout, chunkKib, files };
  });
  return runMd(maker().folder, { create, assemble: [] });
});

/** `parityd attach` over these files while `use` runs; it must end well. */
async function withAttached<T>(
  array: { name: string; files: readonly string[]; flags?: readonly string[] },
  use: (client: NbdClient) => Promise<T>,
): Promise<T> {
  const { name, files, flags = [] } = array;
  const { attached, uri } = await Attached.start(maker().paths(files), flags);
  if (uri === null) throw new Error(`${name}: ${attached.stderr}`);
  const client = await connectNbd(attached.socket, name);
  const result = await use(client);
  await client.disconnect();
  expect(await attached.stop()).toBe(0);
  return result;
}

/** The first way to read an array of mdadm's that comes out differently, or "". */
async function takeOverReadOnly({ name }: ForeignArray): Promise<string> {
  const { created } = await createdByMdadm();
  const files = foreignFiles.get(name)!;
  const before = sums(maker().paths(files));
  const flags = ["--read-only"];
  for (let missing = -1; missing < files.length; missing += 1) {
    const present = files.filter((_, index) => index !== missing);
    const sum = await withAttached({ name, files: present, flags }, sumOf);
    if (sum !== created[name]) return missing < 0 ? "complete" : `without member ${missing}`;
  }
  expect(sums(maker().paths(files))).toEqual(before);
  return "";
}

/** Writes to the arrays of mdadm's through parityd; their sums by name. */
const writtenByParityd = once(async (): Promise<Map<string, string>> => {
  await createdByMdadm();
  const written = new Map<string, string>();
  for (const { name } of FOREIGN) {
    const files = foreignFiles.get(name)!;
    const sum = await withAttached({ name, files }, async (client) => {
      await writeNoise(client, { seed: files.length, count: 40 });
      return sumOf(client);
    });
    written.set(name, sum);
  }
  return written;
});

const madeByParityd = once(() => maker().makeAll(OWN));

/** The second boot. */
const assembledByLinux = once(async (): Promise<MdReport> => {
  await writtenByParityd();
  const own = await madeByParityd();
  const assemble: AssembleTask[] = FOREIGN.map(({ name }) => ({
    name,
    files: foreignFiles.get(name)!,
    replaces: null,
  }));
  for (const { name, files, replaces } of own.values()) assemble.push({ name, files, replaces });
  return runMd(maker().folder, { create: [], assemble });
});

/** What holds of every array that the kernel has assembled, in whatever state it was. */
function expectAccepted(report: AssembleReport, array: { name: string; memberCount: number }) {
  const { name, memberCount } = array;
  expect(report.mismatches).toBe(0);
  expect(report.detail).toMatch(/State : (clean|active) *\n/);
  expect(report.detail).toMatch(new RegExp(`Active Devices : ${memberCount}\n`));
  expect(report.detail).toContain("Consistency Policy : resync");
  for (const text of report.examined) {
    expect(text).toMatch(/Checksum : \w+ - correct/);
    expect(text).toMatch(new RegExp(`Name : (lab:)?${name}\\b`));
  }
  for (const text of report.identified) {
    expect(text).toContain('TYPE="linux_raid_member"');
    expect(text).toMatch(new RegExp(`LABEL="(lab:)?${name}"`));
  }
}

async function expectReadBack(name: string, files: readonly string[], sum: string): Promise<void> {
  expect(await withAttached({ name, files }, sumOf)).toBe(sum);
}

for (const array of FOREIGN) {
  test.skipIf(!CAN_RUN)(
    `take-over: made by mdadm, ${array.layout}: read the same, without each member too, read-only ${NEEDS}`,
    async () => {
      expect(await takeOverReadOnly(array)).toBe("");
    },
    LIMIT_MS,
  );
}

for (const array of FOREIGN) {
  const { name, layout, memberCount } = array;
  test.skipIf(!CAN_RUN)(
    `take-over: ${layout}, written by parityd: Linux finds it right, and back ${NEEDS}`,
    async () => {
      const sum = (await writtenByParityd()).get(name)!;
      const report = (await assembledByLinux()).assembled[name]!;
      const { degradedBefore, isDirty, sumBefore, sumInSync, sumWritten } = report;
      expect({ degradedBefore, isDirty }).toEqual({ degradedBefore: 0, isDirty: false });
      expect({ sumBefore, sumInSync }).toEqual({ sumBefore: sum, sumInSync: sum });
      expect(report.detail).toContain(`Layout : ${layout}`);
      expectAccepted(report, { name, memberCount });
      await expectReadBack(name, foreignFiles.get(name)!, sumWritten);
    },
    LIMIT_MS,
  );
}

for (const { name, ending, chunkKib, memberCount } of OWN) {
  test.skipIf(!CAN_RUN)(
    `made by parityd: ${ending}, ${memberCount} members, chunks of ${chunkKib} KiB: Linux goes on with it, and back ${NEEDS}`,
    async () => {
      const { sum, files, uuid } = (await madeByParityd()).get(name)!;
      const report = (await assembledByLinux()).assembled[name]!;
      const isDegraded = ending === "degraded" || ending === "mid-rebuild";
      expect(report.degradedBefore).toBe(isDegraded ? 1 : 0);
      expect(report.isDirty).toBe(ending === "killed");
      const { sumBefore, sumInSync, sumWritten } = report;
      expect({ sumBefore, sumInSync }).toEqual({ sumBefore: sum, sumInSync: sum });
      expect(report.detail).toContain("Layout : left-symmetric");
      expect(report.detail).toContain(`Chunk Size : ${chunkKib}K`);
      for (const text of report.examined) expect(text).toContain(`Array UUID : ${uuid}`);
      const offsets = report.examined.filter((text) => /Recovery Offset : [1-9]/.test(text));
      expect(offsets.length).toBe(ending === "mid-rebuild" ? 1 : 0);
      expectAccepted(report, { name, memberCount });
      await expectReadBack(name, files, sumWritten);
    },
    LIMIT_MS,
  );
}
