/**
 * Files on a mounted file system, written at random, whose sums are known here: what must be found
 * on it whatever happened to the device underneath meanwhile.
 */
import { expect } from "bun:test";
import { open, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import { fillRandom, nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB } from "../../src/base/units.ts";
import { mustRun } from "./daemon.ts";
import { toolPath } from "./needs.ts";

const FILES_PER_ROUND = 4;
const FILE_BYTES_MAX = 700 * KIB;
const NAMES = 40;
const FILES_KEPT = 30;

export class FileLoad {
  readonly sums = new Map<string, string>();
  private readonly folder: string;
  private readonly random: SeededRandom;

  constructor({ folder, seed }: { folder: string; seed: number }) {
    this.folder = folder;
    this.random = new SeededRandom(seed);
  }

  /** Several files at once, some of them over older ones; the oldest goes where there are many. */
  async writeRound(): Promise<void> {
    const names = new Set<string>();
    while (names.size < FILES_PER_ROUND) names.add(`f${nextBelow(this.random, NAMES)}`);
    await Promise.all([...names].map((name) => this.writeOne(name)));
    const [oldest] = this.sums.keys();
    if (this.sums.size > FILES_KEPT && oldest !== undefined) await this.remove(oldest);
  }

  /** Takes every second file away. */
  async removeHalf(): Promise<void> {
    for (const [index, name] of [...this.sums.keys()].entries()) {
      if (index % 2 === 0) await this.remove(name);
    }
  }

  /** Every file is as it was written. Of use after a mount: before, the page cache answers. */
  async expectFiles(): Promise<void> {
    for (const [name, sum] of this.sums) {
      expect([name, sumOf(await readFile(join(this.folder, name)))]).toEqual([name, sum]);
    }
  }

  /** A file that fio writes at random, past the page cache, and verifies. */
  async runFio(): Promise<void> {
    const job = ["--name=v", `--filename=${join(this.folder, "fio")}`, "--size=4M", "--direct=1"];
    const load = ["--rw=randwrite", "--bsrange=4k-64k", "--ioengine=libaio", "--iodepth=16"];
    const verify = ["--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--end_fsync=1"];
    await mustRun([toolPath("fio")!, ...job, ...load, ...verify, "--verify_state_save=0"]);
    this.sums.set("fio", sumOf(await readFile(join(this.folder, "fio"))));
  }

  private async writeOne(name: string): Promise<void> {
    const data = new Uint8Array(1 + nextBelow(this.random, FILE_BYTES_MAX));
    fillRandom(this.random, data);
    this.sums.set(name, sumOf(data));
    // Every other one stays in the page cache, for the kernel to write back when it likes.
    const isSynced = nextBelow(this.random, 2) === 0;
    const file = await open(join(this.folder, name), "w");
    await file.write(data);
    if (isSynced) await file.sync();
    await file.close();
  }

  private async remove(name: string): Promise<void> {
    await unlink(join(this.folder, name));
    this.sums.delete(name);
  }
}

function sumOf(data: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(data).digest("hex");
}
