/**
 * Arrays in image files that are being laid out over more members: those of Linux, which parityd
 * goes on with, and those that parityd has begun in the simulator, cut at an instant.
 */
import { expect } from "bun:test";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import type { ArrayStatus, ConsistencyPolicy } from "../../src/array/protocol.ts";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { reshapeOf } from "../../src/md/reshape.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { type DeviceImage, PAGE_BYTES } from "../sim/world/media.ts";
import { superblockOf } from "../sim/world/member-oracle.ts";
import { SectorOracle } from "../sim/world/oracle.ts";
import { OracleClient } from "../sim/world/oracle-client.ts";
import type { CrashPolicy } from "../sim/world/sim-device.ts";
import { ARRAY_NAME, SimWorld } from "../sim/world/sim-world.ts";
import type { ArrayImages } from "./array-images.ts";
import type { Daemon } from "./daemon.ts";
import { findMismatches, openImages } from "./md-recovery.ts";
import { randomBytes } from "./nbd-data.ts";
import { sumOf } from "./nbd-sum.ts";
import { until } from "./until.ts";

/** Bytes a second of a member: a reshape of these small arrays takes a second or so. */
const SLOW = 4 * MIB;
const FAST = 1024 * MIB;

/** Through parityd, at least. */
export const WRITES_MIN = 8;

export interface Continued {
  /** sha256: of what was there before, as it was found; and of all of it when it was over. */
  readonly sumBefore: string;
  readonly sumAfter: string;
  readonly newBytes: number;
  /** What was written and read meanwhile. */
  readonly writes: number;
  readonly wrong: readonly string[];
}

/** An array as its client knows it: writes go to both, and what is read is compared. */
class Shadow {
  readonly bytes: Uint8Array;
  readonly wrong: string[] = [];
  writes = 0;
  private readonly random: SeededRandom;

  constructor(bytes: Uint8Array, seed: number) {
    this.bytes = bytes;
    this.random = new SeededRandom(seed);
  }

  static async of(client: NbdClient, seed: number): Promise<Shadow> {
    const bytes = new Uint8Array(client.sizeBytes);
    const shadow = new Shadow(bytes, seed);
    for (let offset = 0; offset < bytes.length; offset += MIB) {
      const read = await client.read(offset, Math.min(MIB, bytes.length - offset));
      if (!read.ok) throw new Error(`read at ${offset}: errno ${read.error}`);
      bytes.set(read.value, offset);
    }
    return shadow;
  }

  /** Behind what it had before there are zeros. */
  grown(bytes: number): string {
    const all = new Uint8Array(bytes);
    all.set(this.bytes);
    return sha256Of(all);
  }

  async step(client: NbdClient): Promise<void> {
    const { random, bytes } = this;
    const length = 1 + nextBelow(random, 100 * KIB);
    const offset = nextBelow(random, bytes.length - length);
    if (nextBelow(random, 2) === 0) {
      const data = randomBytes(this.writes + 1, length);
      expect((await client.write(offset, data)).ok).toBe(true);
      bytes.set(data, offset);
      this.writes += 1;
      return;
    }
    const read = await client.read(offset, length);
    const is = read.ok && Buffer.compare(read.value, bytes.subarray(offset, offset + length)) === 0;
    if (!is) this.wrong.push(`${length} bytes at ${offset}`);
  }
}

export function sha256Of(bytes: Uint8Array): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

async function setSpeed(daemon: Daemon, array: string, bytesPerSecond: number): Promise<void> {
  const speed = { syncSpeedMin: bytesPerSecond, syncSpeedMax: bytesPerSecond };
  await daemon.must("PATCH", `/v1/arrays/${array}`, speed);
}

export interface GoOnOptions {
  readonly files: readonly string[];
  readonly oldCount: number;
  /** What it was made with, and is to have again in the end. */
  readonly policy: ConsistencyPolicy;
}

/** Goes on with a reshape that Linux has begun to its end, while a client reads and writes. */
export async function goOn(
  daemon: Daemon,
  images: ArrayImages,
  { files, oldCount, policy }: GoOnOptions,
): Promise<Continued> {
  const newCount = files.length;
  const names = files.map((_, index) => `drive${index}`);
  const addDrive = (index: number) => {
    const [path] = images.paths([files[index]!]);
    return daemon.must("POST", "/v1/drives", { name: names[index], path });
  };
  // The last one is what the array waits for: until then it is told how to go on.
  for (const index of files.keys().drop(1)) await addDrive(index);
  const arrays: ArrayStatus[] = await daemon.must("GET", "/v1/arrays");
  const { name } = arrays.find(({ state }) => state === "inactive")!;
  const path = `/v1/arrays/${name}`;
  await setSpeed(daemon, name, SLOW);
  await addDrive(0);
  await daemon.must("POST", `${path}/start`, {});
  await daemon.must("PUT", "/v1/exports/e", { array: name });
  const client = await daemon.connect("e");
  const shadow = await Shadow.of(client, newCount);
  // One that is nearly through may have its new size by now.
  const found = shadow.bytes.slice();
  while ((await daemon.must("GET", path)).sync.action === "reshape") await shadow.step(client);
  await setSpeed(daemon, name, FAST);
  expect(await daemon.settle(name)).toMatchObject({ degraded: 0 });
  await until(`the policy is ${policy}`, async () => {
    const { consistencyPolicy, policyAfterGrowth } = await daemon.must("GET", path);
    return consistencyPolicy === policy && policyAfterGrowth === undefined;
  });
  // Of a reshape that was nearly through there may have been no step.
  for (let round = 0; round < 20 || shadow.writes < WRITES_MIN; round += 1) {
    await shadow.step(client);
  }
  await client.disconnect();
  const again = await daemon.connect("e");
  const sumAfter = await sumOf(again);
  const newBytes = again.sizeBytes;
  if (sumAfter !== shadow.grown(newBytes)) shadow.wrong.push("what is read at the end");
  await again.disconnect();
  await daemon.must("POST", `${path}/stop`, {});
  await daemon.must("DELETE", "/v1/exports/e");
  for (const drive of names) await daemon.call("DELETE", `/v1/drives/${drive}?force=true`);
  return {
    ...{ sumAfter, newBytes },
    sumBefore: sha256Of(found.subarray(0, (newBytes / (newCount - 1)) * (oldCount - 1))),
    writes: shadow.writes,
    wrong: shadow.wrong,
  };
}

/** Member offsets of rows whose parity does not hold, by computation over the whole array. */
export function wrongRows(paths: readonly string[]): number[] {
  return findMismatches(
    openImages(new Map(paths.map((path) => [path, new Uint8Array(readFileSync(path))]))),
  );
}

// Begun by parityd -----------------------------------------------------------------------------

const DEVICE_BYTES = 5 * MIB;
/** Of a member: clients do not hold it up. */
const SIM_SPEED = 100 * MIB;
const PIECE_SECTORS = MIB / SECTOR_BYTES;

export interface BegunSpec {
  readonly name: string;
  readonly oldCount: number;
  readonly newCount: number;
  readonly chunkBytes: number;
  /** Of each member. */
  readonly stripes: number;
  readonly policy: CrashPolicy;
  /** How far it is from the begin (0) to the end (1) when the power goes. */
  readonly part: number;
}

export interface BegunArray extends BegunSpec {
  readonly files: readonly string[];
  readonly oracle: SectorOracle;
  readonly oldBytes: number;
  readonly newBytes: number;
  /** Of the freshest superblock; null: none is under way. */
  readonly positionSectors: number | null;
}

/** A life in the simulator that ends in a power cut in mid-reshape, with clients at work. */
class BegunLife {
  readonly world: SimWorld;
  readonly oracle: SectorOracle;
  private readonly spec: BegunSpec;
  private readonly random = new SeededRandom(7);
  isOver = false;

  constructor(spec: BegunSpec) {
    this.spec = spec;
    const world = new SimWorld({ seed: 1, batchChance: 0.5 });
    const { oldCount, newCount, chunkBytes, stripes } = spec;
    const names = Array.from({ length: newCount }, (_, index) => `d${index}`);
    for (const name of names) world.addDrive({ name, sizeBytes: DEVICE_BYTES });
    const drives = names.slice(0, oldCount);
    const memberSizeBytes = stripes * chunkBytes;
    const shape = { drives, chunkBytes, memberSizeBytes };
    world.createArray({ ...shape, consistencyPolicy: "resync" });
    world.settle();
    this.world = world;
    this.oracle = new SectorOracle({ seed: 1, sectorCount: this.bytesOf(newCount) / SECTOR_BYTES });
    for (let lba = 0; lba < this.oldSectors; lba += PIECE_SECTORS) {
      const sectors = Math.min(PIECE_SECTORS, this.oldSectors - lba);
      expect(world.run(this.client.write({ lba, sectors }, { fua: true }))).toBe(0);
    }
    world.must<"add-members">({
      ...{ kind: "add-members", array: ARRAY_NAME, drives: names.slice(oldCount), force: false },
      policyAfter: "resync",
    });
    world.must<"set-array">({
      ...{ kind: "set-array", array: ARRAY_NAME, syncSpeedMin: SIM_SPEED, syncSpeedMax: SIM_SPEED },
    });
  }

  bytesOf(memberCount: number): number {
    return (memberCount - 1) * this.spec.stripes * this.spec.chunkBytes;
  }

  private get oldSectors(): number {
    return this.bytesOf(this.spec.oldCount) / SECTOR_BYTES;
  }

  private get client(): OracleClient {
    return new OracleClient(this.oracle, this.world.client());
  }

  /** Turns so many steps at most, or until all has been moved; how many it were. */
  turn(stepsMax: number): number {
    const { world } = this;
    for (let index = 0; index < 4; index += 1) void this.work();
    for (let steps = 0; steps < stepsMax; steps += 1) {
      if (!this.isMoving) return steps;
      world.simulation.step();
    }
    return stepsMax;
  }

  /** The update that ends it is yet to come: what of it is cut, see src/md/README.md. */
  private get isMoving(): boolean {
    const { core } = this.world.service.registry.byName(ARRAY_NAME)!.running!;
    return core.geometry.positionBytes < core.geometry.reshapedBytes;
  }

  private async work(): Promise<void> {
    const { random, client } = this;
    while (!this.isOver) {
      const sectors = 1 + nextBelow(random, 60);
      const range = { lba: nextBelow(random, this.oldSectors - sectors), sectors };
      const draw = nextBelow(random, 8);
      if (draw === 0) await client.flush();
      else if (draw < 3) await client.read(range);
      else await client.write(range, { fua: draw === 3 });
    }
  }
}

const stepsToTheEnd = new Map<string, number>();

/** The image files of an array of parityd's that was cut in its reshape. */
export function makeBegun(images: ArrayImages, spec: BegunSpec): BegunArray {
  const { name, oldCount, newCount, chunkBytes, policy, part } = spec;
  const shape = `${oldCount} ${newCount} ${chunkBytes}`;
  const all = stepsToTheEnd.get(shape) ?? stepsOf(spec);
  stepsToTheEnd.set(shape, all);
  const life = new BegunLife(spec);
  life.turn(Math.floor(part * all));
  life.isOver = true;
  const devices = life.world.crash(policy);
  life.oracle.crash();
  const files = devices.map((image) => `${name}-${image.name}.img`);
  for (const [index, path] of images.paths(files).entries()) writeImage(path, devices[index]!);
  images.files.set(name, files);
  const [oldBytes, newBytes] = [life.bytesOf(oldCount), life.bytesOf(newCount)];
  const positions = devices.map(positionOf);
  const positionSectors = positions.reduce((one, other) => {
    return one === null || other === null ? null : Math.max(one, other);
  });
  return { ...spec, files, oracle: life.oracle, oldBytes, newBytes, positionSectors };
}

function stepsOf(spec: BegunSpec): number {
  const life = new BegunLife(spec);
  const steps = life.turn(Number.POSITIVE_INFINITY);
  life.isOver = true;
  return steps;
}

function positionOf(image: DeviceImage): number | null {
  const superblock = superblockOf(image);
  if (typeof superblock === "string") throw new Error(superblock);
  return reshapeOf(superblock)?.positionSectors ?? null;
}

function writeImage(path: string, { sizeBytes, pages }: DeviceImage): void {
  const file = openSync(path, "wx");
  ftruncateSync(file, sizeBytes);
  for (const [page, bytes] of pages) writeSync(file, bytes, 0, PAGE_BYTES, page * PAGE_BYTES);
  closeSync(file);
}
