/**
 * Arrays of parityd's own in image files, left behind in the states that another md may meet:
 * stopped clean, degraded or in mid-rebuild, or killed in mid-write.
 */
import { expect } from "bun:test";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import { type ArrayImages, writeNoise } from "./array-images.ts";
import { Daemon } from "./daemon.ts";
import { sumOf } from "./nbd-sum.ts";
import { StampLoad } from "./stamp-load.ts";

export const ENDINGS = ["clean", "degraded", "mid-rebuild", "killed"] as const;
/** Dirty and degraded: only what has a partial parity log starts again. */
export const LOGGED_ENDINGS = ["killed-degraded", "killed-rebuild"] as const;

const REBUILD_SPEED = 2 * MIB;
/** It must still be at work when the daemon is killed. */
const KILLED_REBUILD_SPEED = 256 * KIB;
const LOST_ROLE = 1;

export interface OwnArraySpec {
  readonly name: string;
  readonly ending: (typeof ENDINGS)[number] | (typeof LOGGED_ENDINGS)[number];
  readonly policy: ConsistencyPolicy;
  readonly chunkKib: number;
  readonly memberCount: number;
}

export interface OwnArray extends OwnArraySpec {
  readonly uuid: string;
  readonly files: readonly string[];
  /** Index of the file that was a member once and is not any more. */
  readonly replaces: number | null;
  /** sha256 of the array, read over NBD. */
  readonly sum: string;
  /** The same without each member; empty where the array does not start so. */
  readonly sumsWithout: readonly string[];
}

function isKilled({ ending }: OwnArraySpec): boolean {
  return ending.startsWith("killed");
}

export class ArrayMaker {
  private readonly images: ArrayImages;

  constructor(images: ArrayImages) {
    this.images = images;
  }

  /** Makes all of `specs`; by name. */
  async makeAll(specs: readonly OwnArraySpec[]): Promise<Map<string, OwnArray>> {
    const arrays = new Map<string, OwnArray>();
    const daemon = await this.startDaemon("stopped");
    for (const spec of specs) {
      if (!isKilled(spec)) arrays.set(spec.name, await this.stopped(daemon, spec));
    }
    expect(await daemon.stop()).toBe(0);
    for (const array of await this.killed(specs.filter(isKilled))) arrays.set(array.name, array);
    for (const { name, files } of arrays.values()) this.images.files.set(name, files);
    return arrays;
  }

  private startDaemon(folder: string): Promise<Daemon> {
    // Every running array keeps memory for its logs, and all of these run at a time.
    const flags = ["--memory-mib", "256"];
    return Daemon.start(join(this.images.folder, folder), { flags });
  }

  /** A new array in sync, exported under its name. */
  private async create(
    daemon: Daemon,
    { name, policy, chunkKib, memberCount }: OwnArraySpec,
  ): Promise<{ uuid: string; files: string[] }> {
    const files = this.images.make(name, memberCount);
    for (const file of files) await this.addDrive(daemon, file);
    const body = { name, drives: files, chunkKiB: chunkKib, consistencyPolicy: policy };
    const { uuid } = await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
    await daemon.settle(name);
    return { uuid, files };
  }

  private async addDrive(daemon: Daemon, file: string): Promise<void> {
    await daemon.must("POST", "/v1/drives", { name: file, path: join(this.images.folder, file) });
  }

  private async stopped(daemon: Daemon, spec: OwnArraySpec): Promise<OwnArray> {
    const { name, ending } = spec;
    const { uuid, files } = await this.create(daemon, spec);
    const client = await daemon.connect(name);
    await writeNoise(client, { seed: 1, count: 60 });
    if (ending !== "clean") {
      await this.lose(daemon, name, files);
      await writeNoise(client, { seed: 2, count: 20 });
    }
    if (ending === "mid-rebuild") {
      files.push(await this.startRebuild(daemon, name, REBUILD_SPEED));
    }
    const sum = await sumOf(client);
    await client.disconnect();
    await daemon.must("POST", `/v1/arrays/${name}/stop`, {});
    if (ending === "mid-rebuild") files.splice(LOST_ROLE, 1);
    const replaces = ending === "degraded" ? LOST_ROLE : null;
    return { ...spec, uuid, files, replaces, sum, sumsWithout: [] };
  }

  private async lose(daemon: Daemon, name: string, files: readonly string[]): Promise<void> {
    const lost = `/v1/arrays/${name}/members/${files[LOST_ROLE]}`;
    await daemon.must("POST", `${lost}/fail`, {});
    await daemon.must("DELETE", lost);
  }

  /** Seats a new file, and waits until a part of it is rebuilt. */
  private async startRebuild(
    daemon: Daemon,
    name: string,
    bytesPerSecond: number,
  ): Promise<string> {
    const [file] = this.images.make(`${name}-new`, 1);
    await this.addDrive(daemon, file!);
    const path = `/v1/arrays/${name}`;
    const speed = { syncSpeedMin: bytesPerSecond, syncSpeedMax: bytesPerSecond };
    await daemon.must("PATCH", path, speed);
    await daemon.must("POST", `${path}/members`, { drive: file });
    for (;;) {
      const { sync } = await daemon.must("GET", path);
      expect(sync.action).toBe("rebuild");
      if (sync.doneBytes > 0) return file!;
      await Bun.sleep(10);
    }
  }

  /** SIGKILL while all of the arrays are being written. */
  private async killed(specs: readonly OwnArraySpec[]): Promise<OwnArray[]> {
    const daemon = await this.startDaemon("killed");
    const made: { spec: OwnArraySpec; uuid: string; files: string[]; load: StampLoad }[] = [];
    const running: Promise<void>[] = [];
    for (const spec of specs) {
      const { uuid, files } = await this.create(daemon, spec);
      const load = new StampLoad({ seed: 3, windows: [{ offset: MIB, bytes: 4 * MIB }] });
      if (spec.ending !== "killed") await this.lose(daemon, spec.name, files);
      made.push({ spec, uuid, files, load });
    }
    for (const { spec, files } of made) {
      if (spec.ending !== "killed-rebuild") continue;
      files[LOST_ROLE] = await this.startRebuild(daemon, spec.name, KILLED_REBUILD_SPEED);
    }
    for (const { spec, load } of made) {
      running.push(load.run([await daemon.connect(spec.name)], { depth: 6 }));
    }
    while (made.some(({ load }) => load.acknowledgedWrites < 100)) await Bun.sleep(5);
    await daemon.kill();
    await Promise.all(running);
    const arrays: OwnArray[] = [];
    for (const { spec, uuid, files, load } of made) {
      const { name, policy, ending } = spec;
      const flags = ["--read-only"];
      const isWhole = ending === "killed";
      const sum = await this.images.withAttached({ name, files, flags }, async (client) => {
        // Without a member, the very sectors that were being written on it may be anything.
        if (isWhole) expect(await load.verify(client)).toEqual([]);
        return sumOf(client);
      });
      const sumsWithout: string[] = [];
      // Without a log it is dirty and degraded: nobody can say what it holds.
      for (let role = 0; isWhole && policy === "ppl" && role < files.length; role += 1) {
        sumsWithout.push(await this.images.readOnlySum(name, files.toSpliced(role, 1)));
      }
      const replaces = ending === "killed-degraded" ? LOST_ROLE : null;
      arrays.push({ ...spec, uuid, files, replaces, sum, sumsWithout });
    }
    return arrays;
  }
}
