/**
 * Goal: file systems on the kernel's own NBD client lose nothing while a member of the array
 * underneath fails and another one is rebuilt, and find themselves sound afterwards.
 *
 * Method: the compiled daemon runs here, over files, so that trims are real; one boot of the kernel
 * lab runs guest/nbd-fs.ts, which attaches its kernel over TCP with four connections, and makes
 * ext4 or xfs, on each day the other one. It goes through the stages of the array, writing in each
 * of them. The rebuild stands almost still until the guest has written in it. A scrub at the end
 * finds no mismatch.
 */
import { expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles } from "../helpers/daemon.ts";
import { type GuestResult, runGuest } from "../helpers/lab.ts";
import {
  FILE_SYSTEMS,
  type FileSystem,
  NBD_CONNECTIONS,
  nbdTestOf,
  type Stage,
} from "../helpers/nbd-lab.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";
/** mkfs.xfs asks for 300 MiB; three members give twice this. */
const MEMBER_BYTES = 164 * MIB;
const ARRAY = "/v1/arrays/disk";
const CRAWL = { syncSpeedMin: 64 * KIB, syncSpeedMax: 64 * KIB };
const FULL_SPEED = { syncSpeedMin: 4096 * MIB, syncSpeedMax: 4096 * MIB };

class Host {
  readonly daemon: Daemon;
  private readonly port: number;
  /** $OUT in the guest. */
  private readonly folder: string;
  private guest: Promise<GuestResult> | undefined;
  private hasEnded = false;

  private constructor(daemon: Daemon, port: number) {
    this.daemon = daemon;
    this.folder = makeTempDir("lab-nbd-out");
    this.port = port;
  }

  static async start(): Promise<Host> {
    const folder = makeTempDir("lab-nbd");
    const daemon = await Daemon.start(folder, { flags: ["--nbd-tcp", "127.0.0.1:0"] });
    const drives = await daemon.addDrives(makeFiles(folder, 4, MEMBER_BYTES));
    const body = { name: "disk", drives: drives.slice(0, 3), chunkKiB: 64 };
    await daemon.must("POST", "/v1/arrays", body);
    const { uris } = await daemon.must("PUT", "/v1/exports/disk", { array: "disk" });
    return new Host(daemon, Number(/:(\d+)\//.exec(uris[1])![1]));
  }

  boot(system: FileSystem): void {
    const environment = { NBD_PORT: String(this.port), NBD_EXPORT: "disk" };
    const file = "test/interop/guest/nbd-fs.ts";
    const options = { file, disks: [], folder: this.folder, environment, hasNetwork: true };
    this.guest = runGuest({ ...options, tests: [nbdTestOf(system)] }).finally(() => {
      this.hasEnded = true;
    });
  }

  async result(): Promise<GuestResult> {
    return this.guest!;
  }

  /** Tells the guest that the array is in this stage, and waits until it has written in it. */
  async enter(system: FileSystem, stage: Stage): Promise<void> {
    writeFileSync(join(this.folder, `${system}-${stage}`), "");
    while (!existsSync(join(this.folder, `${system}-${stage}-done`))) {
      if (this.hasEnded) throw new Error((await this.result()).output);
      await Bun.sleep(20);
    }
  }

  /** The drive of role 0 fails under load, and `spare` is rebuilt in its place. */
  async failAndRebuild(system: FileSystem, drives: { lost: string; spare: string }): Promise<void> {
    const { daemon } = this;
    await this.enter(system, "whole");
    const [{ connections }] = await daemon.must("GET", "/v1/exports");
    expect(connections).toBe(NBD_CONNECTIONS);
    await daemon.must("POST", `${ARRAY}/members/${drives.lost}/fail`, {});
    await this.enter(system, "degraded");
    await daemon.must("DELETE", `${ARRAY}/members/${drives.lost}`);
    await daemon.must("PATCH", ARRAY, CRAWL);
    await daemon.must("POST", `${ARRAY}/members`, { drive: drives.spare, force: true });
    await this.enter(system, "rebuilding");
    expect((await daemon.must("GET", ARRAY)).sync.action).toBe("rebuild");
    await daemon.must("PATCH", ARRAY, FULL_SPEED);
    expect((await daemon.settle("disk")).degraded).toBe(0);
    await this.enter(system, "rebuilt");
  }
}

test.skipIf(!CAN_RUN).each(new Share("file systems", 2).of(FILE_SYSTEMS))(
  `nbd: %s on the kernel's client, four connections, a member lost and rebuilt ${NEEDS}`,
  (system) => withShare(() => loseAndRebuild(system)),
);

async function loseAndRebuild(system: FileSystem): Promise<void> {
  const host = await Host.start();
  host.boot(system);
  await host.daemon.settle("disk");
  await host.failAndRebuild(system, { lost: "drive0", spare: "drive3" });
  const { exitCode, passed, output } = await host.result();
  if (exitCode !== 0) throw new Error(output);
  expect(passed).toEqual([nbdTestOf(system)]);
  const { daemon } = host;
  const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, {});
  expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
  expect((await daemon.must("GET", "/v1/exports"))[0].connections).toBe(0);
  expect(await daemon.stop()).toBe(0);
}
