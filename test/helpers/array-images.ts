/**
 * Arrays in image files that go back and forth between parityd and the kernel's md: the files by
 * name in one folder, parityd over them, and what must hold of an array that Linux has assembled.
 */
import { expect } from "bun:test";
import { join } from "node:path";
import { fillRandom, nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { Attached, connectNbd, makeFile } from "./daemon.ts";
import type { AssembleReport, AssembleTask } from "./md-lab.ts";
import { sumOf } from "./nbd-sum.ts";
import { makeTempDir } from "./temp.ts";

const MEMBER_BYTES = 5 * MIB;
const NOISE_BYTES_MAX = 200 * KIB;
const NOISE_WRITES = 40;

/** Runs a step at its first call; later calls share what came of it. */
export function once<T>(step: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    result ??= step();
    return result;
  };
}

/** Writes of any size at any place. */
export async function writeNoise(
  client: NbdClient,
  { seed, count }: { seed: number; count: number },
): Promise<void> {
  const random = new SeededRandom(seed);
  for (let index = 0; index < count; index += 1) {
    const data = new Uint8Array(1 + nextBelow(random, NOISE_BYTES_MAX));
    fillRandom(random, data);
    const offset = nextBelow(random, client.sizeBytes - data.length);
    expect((await client.write(offset, data)).ok).toBe(true);
  }
  expect((await client.flush()).ok).toBe(true);
}

export interface Expected {
  readonly name: string;
  readonly memberCount: number;
  readonly policy: string;
  /** Before the kernel wrote; null: some of what was under way may be there or not. */
  readonly sum: string | null;
  /** A check finds parity that the kernel itself has made wrong; it has repaired that. */
  readonly hasMismatches?: boolean;
}

export class ArrayImages {
  /** The files of each array. */
  readonly files = new Map<string, readonly string[]>();
  private made: string | undefined;

  /** Made at the first use, so that a run without the lab makes none. */
  get folder(): string {
    this.made ??= makeTempDir("md");
    return this.made;
  }

  paths(files: readonly string[]): string[] {
    return files.map((file) => join(this.folder, file));
  }

  pathsOf(name: string): string[] {
    return this.paths(this.files.get(name)!);
  }

  /** Makes the image files of an array; their names. */
  make(name: string, count: number): string[] {
    const files = Array.from({ length: count }, (_, index) => `${name}-${index}.img`);
    for (const path of this.paths(files)) makeFile(path, MEMBER_BYTES);
    this.files.set(name, files);
    return files;
  }

  /** `parityd attach` over these files while `use` runs; it must end well. */
  async withAttached<T>(
    array: { name: string; files: readonly string[]; flags?: readonly string[] },
    use: (client: NbdClient) => Promise<T>,
  ): Promise<T> {
    const { name, files, flags = [] } = array;
    const { attached, uri } = await Attached.start(this.paths(files), flags);
    if (uri === null) throw new Error(`${name}: ${attached.stderr}`);
    const client = await connectNbd(attached.socket, name);
    const result = await use(client);
    await client.disconnect();
    expect(await attached.stop()).toBe(0);
    return result;
  }

  /** The sha256 of what parityd serves read-only. */
  readOnlySum(name: string, files: readonly string[]): Promise<string> {
    return this.withAttached({ name, files, flags: ["--read-only"] }, sumOf);
  }

  /** Writes through parityd; the sum afterwards. */
  write(name: string, files: readonly string[], seed: number): Promise<string> {
    return this.withAttached({ name, files }, async (client) => {
      await writeNoise(client, { seed, count: NOISE_WRITES });
      return sumOf(client);
    });
  }

  /** Linux took it as it was, complete and clean, and parityd reads what Linux wrote. */
  async expectRound(report: AssembleReport, expected: Expected): Promise<void> {
    const { name } = expected;
    expect([name, report.degradedBefore, report.isDirty]).toEqual([name, 0, false]);
    expectAccepted(report, expected);
    expect(await this.readOnlySum(name, this.files.get(name)!)).toBe(report.sumWritten);
  }

  /** All of an array's files, to be assembled and gone on with. */
  task(name: string, replaces: number | null = null): AssembleTask {
    return { name, files: this.files.get(name)!, replaces, isBrief: false };
  }
}

/** What holds of every array that the kernel has assembled, in whatever state it was. */
export function expectAccepted(
  report: AssembleReport,
  { name, memberCount, policy, sum, hasMismatches = false }: Expected,
): void {
  const { sumBefore, sumInSync } = report;
  if (sum !== null) expect([name, sumBefore, sumInSync]).toEqual([name, sum, sum]);
  expect([name, report.mismatches > 0]).toEqual([name, hasMismatches]);
  expect(report.detail).toMatch(/State : (clean|active) *\n/);
  expect(report.detail).toMatch(new RegExp(`Active Devices : ${memberCount}\n`));
  expect(report.detail).toContain(`Consistency Policy : ${policy}`);
  for (const text of report.examined) {
    expect(text).toMatch(/Checksum : \w+ - correct/);
    expect(text).toMatch(new RegExp(`Name : (lab:)?${name}\\b`));
  }
  for (const text of report.identified) {
    expect(text).toContain('TYPE="linux_raid_member"');
    expect(text).toMatch(new RegExp(`LABEL="(lab:)?${name}"`));
  }
  expect(report.examined.length).toBe(report.identified.length);
}
