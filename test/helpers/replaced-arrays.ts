/**
 * Arrays in image files with a replace under way, left behind at some point of it: by parityd that
 * was stopped or killed, or by Linux and gone on with by parityd.
 */
import { expect } from "bun:test";
import { closeSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import type { ArrayStatus } from "../../src/array/protocol.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import {
  decodeSuperblock,
  Feature,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../src/md/superblock.ts";
import { type ArrayImages, writeNoise } from "./array-images.ts";
import { Daemon } from "./daemon.ts";
import { sumOf } from "./nbd-sum.ts";
import { StampLoad } from "./stamp-load.ts";

/** Ten points of a replace, as percentages: from just begun to just over. */
export const POINTS = [0, 3, 15, 30, 45, 60, 75, 90, 98, 100] as const;
export const MEMBERS = 4;
const SPEED = MIB;
/** So slow that it stands. */
const CRAWL = 4096;
const FAST = 1024 * MIB;
const AT_A_TIME = 4;
/** Where Linux does not write (guest/md.ts): what is there afterwards is told by the load. */
const WINDOWS = [
  { offset: 256 * KIB, bytes: 1536 * KIB },
  { offset: 3 * MIB, bytes: 6 * MIB },
];

export interface ReplacedSpec {
  readonly name: string;
  readonly policy: ConsistencyPolicy;
  readonly percent: (typeof POINTS)[number];
  /** The role that is replaced. */
  readonly role: number;
  /** Killed: dirty, with all of its writes done, or in mid-write. */
  readonly ending: "stopped" | "killed" | "killed in mid-write";
}

export interface ReplacedArray extends ReplacedSpec {
  /** By role; the drive that is to replace is the last. */
  readonly files: readonly string[];
  /** sha256 of the array, read over NBD; null: it was killed in mid-write, and `load` tells. */
  readonly sum: string | null;
  readonly load: StampLoad;
  /** Whether it had not come to its end. */
  readonly isUnderWay: boolean;
}

export function superblockOfFile(path: string): Superblock {
  const block = new Uint8Array(SUPERBLOCK_BYTES);
  const file = openSync(path, "r");
  readSync(file, block, 0, block.length, SUPERBLOCK_OFFSET_BYTES);
  closeSync(file);
  const decoded = decodeSuperblock(block, { deviceBytes: Bun.file(path).size });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

export class ReplacedArrays {
  private readonly images: ArrayImages;

  constructor(images: ArrayImages) {
    this.images = images;
  }

  /** Each in a daemon of its own: one that is killed takes all of its arrays along. */
  async makeAll(specs: readonly ReplacedSpec[]): Promise<Map<string, ReplacedArray>> {
    const made: ReplacedArray[] = [];
    for (let from = 0; from < specs.length; from += AT_A_TIME) {
      const some = specs.slice(from, from + AT_A_TIME);
      made.push(...(await Promise.all(some.map((spec) => this.make(spec)))));
    }
    for (const { name, files } of made) this.images.files.set(name, files);
    return new Map(made.map((array) => [array.name, array]));
  }

  private async make(spec: ReplacedSpec): Promise<ReplacedArray> {
    const { name, policy, role, percent, ending } = spec;
    const { images } = this;
    const files = images.make(name, MEMBERS + 1);
    const daemon = await Daemon.start(join(images.folder, `${name}-daemon`));
    // The new drive first: its role is that of a member too, and it is not to be taken for it.
    const paths = images.paths(files);
    const last = paths.at(-1)!;
    const [target, ...drives] = await daemon.addDrives([last, ...paths.slice(0, -1)]);
    const body = { name, drives, chunkKiB: 16, consistencyPolicy: policy };
    await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
    await daemon.settle(name);
    const path = `/v1/arrays/${name}`;
    let client = await daemon.connect(name);
    const load = new StampLoad({ seed: 1, windows: WINDOWS });
    await load.burst(client, 150);
    await setSpeed(daemon, name, CRAWL);
    await daemon.must("POST", `${path}/members/${drives[role]}/replace`, { with: target });
    // A stop on the way: from then on the superblocks say how far it has come.
    if (percent > 20) {
      await copyUntil(daemon, name, percent / 2);
      await client.disconnect();
      await daemon.must("POST", `${path}/stop`, {});
      const { state, degraded, members } = await daemon.must("GET", path);
      expect([state, degraded, members[role].drive]).toEqual(["inactive", 0, drives[role]]);
      await daemon.must("POST", `${path}/start`, {});
      client = await daemon.connect(name);
    }
    await load.burst(client, 20);
    const writing = ending === "killed in mid-write" ? load.run([client], { depth: 6 }) : null;
    if (percent < 100) await copyUntil(daemon, name, percent);
    else await swap(daemon, name, ending === "stopped" ? null : last);
    if (writing === null && percent < 100) await load.burst(client, 20);
    let sum: string | null = null;
    if (ending === "stopped") {
      sum = await sumOf(client);
      await client.disconnect();
      await daemon.must("POST", `${path}/stop`, {});
      expect(await daemon.stop()).toBe(0);
    } else await daemon.kill();
    await writing;
    const isUnderWay = (superblockOfFile(last).otherFeatures & Feature.replacement) !== 0;
    if (ending === "killed") sum = await images.readOnlySum(name, files);
    return { ...spec, files, sum, load, isUnderWay };
  }
}

async function setSpeed(daemon: Daemon, array: string, bytesPerSecond: number): Promise<void> {
  const speed = { syncSpeedMin: bytesPerSecond, syncSpeedMax: bytesPerSecond };
  await daemon.must("PATCH", `/v1/arrays/${array}`, speed);
}

/** Lets the replace go on until so much is done, and no further. */
async function copyUntil(daemon: Daemon, array: string, percent: number): Promise<void> {
  await setSpeed(daemon, array, SPEED);
  for (;;) {
    const { sync } = await daemon.must("GET", `/v1/arrays/${array}`);
    if (sync.totalBytes > 0 && sync.doneBytes * 100 >= sync.totalBytes * percent) break;
    await Bun.sleep(2);
  }
  await setSpeed(daemon, array, CRAWL);
}

/** Lets it go on to its end; or, where a drive is given, until that says that it has everything. */
async function swap(daemon: Daemon, array: string, path: string | null): Promise<void> {
  await setSpeed(daemon, array, FAST);
  if (path === null) {
    await daemon.settle(array);
    return;
  }
  // The update that swaps the two is next, or has just been.
  for (;;) {
    const { recoveryOffsetSectors, sizeSectors } = superblockOfFile(path);
    if ((recoveryOffsetSectors ?? sizeSectors) >= sizeSectors) return;
    await Bun.sleep(0);
  }
}

export interface Continued {
  /** What `array show` says of the replacement before it goes on; "": nothing. */
  readonly shown: string;
  readonly degraded: number;
  /** Of the old member's role, once that is over. */
  readonly drive: string;
  readonly mismatchBytes: number;
  /** sha256: as it was found, and once the replace was over, and after some writes. */
  readonly sumBefore: string;
  readonly sumAfter: string;
  readonly sumWritten: string;
}

/** Starts an array of Linux's with a replace under way, slowly, and goes on with it to the end. */
export async function goOn(
  daemon: Daemon,
  images: ArrayImages,
  { files, role }: { files: readonly string[]; role: number },
): Promise<Continued> {
  // The last one of the members is what the array waits for: until then it is told how to start.
  const order = [files.length - 1, ...files.keys().filter((index) => index < files.length - 1)];
  const names = files.map((_, index) => `drive${index}`);
  const paths = images.paths(files);
  const addDrive = (index: number) =>
    daemon.must("POST", "/v1/drives", { name: names[index], path: paths[index] });
  for (const index of order.slice(0, -1)) await addDrive(index);
  // Those of before are absent.
  const arrays: ArrayStatus[] = await daemon.must("GET", "/v1/arrays");
  const { name } = arrays.find(({ state }) => state === "inactive")!;
  const path = `/v1/arrays/${name}`;
  await setSpeed(daemon, name, CRAWL);
  await addDrive(order.at(-1)!);
  await daemon.must("POST", `${path}/start`, {});
  const { members, degraded } = await daemon.must("GET", path);
  const { replacement } = members[role];
  await daemon.must("PUT", "/v1/exports/e", { array: name });
  const client = await daemon.connect("e");
  const sumBefore = await sumOf(client);
  await setSpeed(daemon, name, FAST);
  await daemon.settle(name);
  const sumAfter = await sumOf(client);
  const scrub = await daemon.must("POST", `${path}/scrub?wait=60`, { mode: "check" });
  expect(scrub.state).toBe("done");
  await writeNoise(client, { seed: files.length, count: 10 });
  const sumWritten = await sumOf(client);
  await client.disconnect();
  const after = await daemon.must("GET", path);
  await daemon.must("POST", `${path}/stop`, {});
  await daemon.must("DELETE", "/v1/exports/e");
  for (const drive of names) await daemon.call("DELETE", `/v1/drives/${drive}?force=true`);
  return {
    shown: replacement?.drive ?? "",
    degraded,
    drive: after.members[role].drive,
    mismatchBytes: after.mismatchBytes,
    ...{ sumBefore, sumAfter, sumWritten },
  };
}
