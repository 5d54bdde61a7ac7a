/**
 * Goal: who has a bare Debian and the README comes, by the lines that stand in it, from the package
 * to a file system on an array that was repaired, is told of the failure, sees all of it on the
 * page, and has all of it again after a restart of the service.
 *
 * Method: a Debian root of the test's own, booted with systemd; the blocks of the README are run in
 * it as they stand there, only smaller. Its loop devices are the host's. The file system is the
 * README's by FUSE; the kernel's own driver has its turn in interop/lab-boot.test.ts, as has a disk
 * that is truly pulled: a loop device in use cannot be taken away, so that here the array is told
 * to let go of it. A receiver listens in the container's network, and Chromium, on the host, follows
 * the link of `parityd ui`.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import type { Page } from "playwright-core";
import { MIB } from "../../src/base/units.ts";
import { openPage, violationsOf, type Watched } from "../helpers/browser.ts";
import { binaryPath, keepTrack, mustRun } from "../helpers/daemon.ts";
import { type Booted, boot, makeDebianRoot, ROOT_NEEDS } from "../helpers/debian-root.ts";
import { canMakeLoopDevices } from "../helpers/loop-devices.ts";
import { needs } from "../helpers/needs.ts";
import { readmeBlock } from "../helpers/readme.ts";
import { readmePicture } from "../helpers/readme-picture.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const NEEDS = [...ROOT_NEEDS, "nspawn", "fuse", "chromium"] as const;
const IN_ROOT = `[needs ${NEEDS.join(", ")}, losetup]`;
/** What the README's blocks need of Debian, and what its installation brings anyway. */
const PACKAGES = ["apt", "curl", "e2fsprogs", "fuse3", "libnbd-bin", "mount", "procps"];
const LOOP_NODES = 64;
const SESSION = "A session with curl";
/** The README's disks have 1 GiB. */
const SMALLER = ["1G", "192M"] as const;
const ALERTS_PORT = 8099;
const SLOW = 16 * MIB;
const FAST = 4096 * MIB;

describe.skipIf(!needs(...NEEDS) || !canMakeLoopDevices())("the README's story", () => {
  const folder = makeTempDir("story");
  const root = join(folder, "root");
  let machine: Booted;
  let watched: Watched;
  let page: Page;
  let sums = "";
  const alerts: string[] = [];

  /** Runs lines in the container; those that stay in the background keep none of its pipes. */
  async function shell(lines: string): Promise<string> {
    const script = `exec >/tmp/said 2>&1; ${readmeBlock(SESSION, "api() {")}${lines}`;
    const { exitCode } = await machine.inside("bash", "-ec", script);
    const said = await machine.inside("cat", "/tmp/said");
    expect([lines, exitCode, said.stdout]).toEqual([lines, 0, expect.any(String)]);
    return said.stdout;
  }

  /** A block of the README; everything that it prints as JSON is no problem. */
  async function follow(heading: string, words: string): Promise<string> {
    const said = await shell(readmeBlock(heading, words).replaceAll(...SMALLER));
    expect(said).not.toContain("urn:parityd:problem");
    return said;
  }

  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the daemon sent.
  async function get(path: string): Promise<any> {
    return JSON.parse(await shell(`api -f $U${path}`));
  }

  const setSpeed = (limit: number): Promise<string> =>
    shell(
      `api -f -X PATCH $U/v1/arrays/raid_test -d '{"syncSpeedMin":${limit},"syncSpeedMax":${limit}}'`,
    );

  const sumFiles = (): Promise<string> => shell("sha256sum /mnt/*.bin");

  /** What `parityd ui` of the package prints, in the network of the host, where the browser is. */
  let ui: Bun.Subprocess<"ignore", "pipe", "inherit"> | undefined;
  async function openUi(): Promise<void> {
    const words = [...machine.within("mount", "pid", "uts"), "/usr/bin/parityd", "ui"];
    ui = keepTrack(Bun.spawn(words, { stdout: "pipe", stderr: "inherit", env: {} }));
    const reader = ui.stdout.pipeThrough(new TextDecoderStream()).getReader();
    await page.goto(((await reader.read()).value ?? "").trim());
    await page.getByRole("heading", { name: "raid_test" }).waitFor();
    await page.goto(`${page.url().split("#")[0]}#/arrays/raid_test`);
    await page.getByRole("heading", { level: 1, name: "raid_test" }).waitFor();
  }

  async function strips(): Promise<string[]> {
    const all = await page.locator("svg.strip").all();
    return Promise.all(all.map(async (each) => (await each.getAttribute("aria-label")) ?? ""));
  }

  const untilStrip = (what: RegExp): Promise<void> =>
    until(`role 2: ${what}`, async () => what.test((await strips())[2] ?? ""));

  function listen(): void {
    const code =
      `Bun.serve({ port: ${ALERTS_PORT}, hostname: "127.0.0.1", fetch: async (request) => {` +
      "  console.log(await request.text()); return new Response(null, { status: 204 }); } })";
    const words = [...machine.within("net"), process.execPath, "-e", code];
    const child = keepTrack(Bun.spawn(words, { stdout: "pipe", stderr: "inherit" }));
    void (async () => {
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        alerts.push(...text.trim().split("\n"));
      }
    })();
  }

  beforeAll(async () => {
    const [build = ""] = readmeBlock("Install", "npm run package").split(" && ");
    expect(build).toBe("npm run package");
    const dist = join(root, "root/dist");
    const built = mustRun([
      ...[process.execPath, join(import.meta.dir, "../../src/install/package.ts")],
      ...["--executable", binaryPath(), "--outdir", folder],
    ]);
    await makeDebianRoot(root, PACKAGES);
    const path = /\S+\.deb/.exec(await built)![0];
    mkdirSync(dist, { recursive: true });
    copyFileSync(path, join(dist, basename(path)));
    machine = await boot(root, {
      devices: ["/dev/fuse", "/dev/loop-control"],
      allowed: ["/dev/fuse rw", "/dev/loop-control rw", "block-loop rwm"],
    });
    const nodes = Array.from({ length: LOOP_NODES }, (_, index) => index).join(" ");
    await machine.inside("sh", "-c", `for n in ${nodes}; do mknod /dev/loop$n b 7 $n; done`);
    listen();
    watched = await openPage("light", "desktop");
    page = watched.page;
  });

  afterAll(async () => {
    // What is left of a story that broke off, too: loop devices are the host's.
    const detach =
      "for file in /srv/*.img; do losetup -j $file | cut -d: -f1 | xargs -r losetup -d; done";
    await machine?.inside("sh", "-c", `umount /mnt; systemctl stop raid_test parityd; ${detach}`);
    // Stopped with its child by the shutdown, nsenter would never take that child's end.
    ui?.kill("SIGKILL");
    await ui?.exited;
    await machine?.end();
    rmSync(root, { recursive: true, force: true });
  });

  test(`story: installed: it serves ${IN_ROOT}`, async () => {
    const [line = ""] = readmeBlock("Install", "npm run package").split("\n");
    const install = /apt-get install \S+/.exec(line)![0].replace("_amd64", "_*");
    await shell(`cd /root; ${install}`);
    expect(await shell("systemctl is-active parityd")).toBe("active\n");
  });

  test(`story: an array of three loop devices, an export, a receiver ${IN_ROOT}`, async () => {
    expect(await follow(SESSION, "for n in 0 1 2")).toContain("export-size:");
    await follow(SESSION, "[[webhook]]");
    await until("the test has arrived", () => alerts.length > 0);
    alerts.length = 0;
  });

  test(`story: a mounted ext4 ${IN_ROOT}`, async () => {
    await follow("A file system on it", "nbdfuse");
    await shell("for n in 1 2 3; do head -c 12M /dev/urandom >/mnt/$n.bin; done; sync -f /mnt");
    sums = await sumFiles();
    expect(sums.split("\n")).toHaveLength(4);
    await openUi();
    await until("all are in sync", async () =>
      (await strips()).every((s) => s.endsWith("in sync")),
    );
  });

  test(`story: a drive is pulled: told of, seen, and served on ${IN_ROOT}`, async () => {
    await follow(SESSION, "-X DELETE");
    await until("the receiver is told", () =>
      alerts.some((text) => text.includes("array.degraded")),
    );
    expect(JSON.parse(alerts.find((text) => text.includes("array.degraded"))!)).toMatchObject({
      ...{ kind: "array.degraded", severity: "critical", array: "raid_test" },
    });
    await page.locator(".badge", { hasText: "degraded" }).waitFor();
    await untilStrip(/^role 2.*: missing$/);
    await shell(
      "head -c 12M /dev/urandom >/mnt/4.bin; sync -f /mnt; echo 3 >/proc/sys/vm/drop_caches || true",
    );
    expect(await sumFiles()).toStartWith(sums);
    sums = await sumFiles();
  });

  test(`story: a spare is rebuilt, and the page shows it ${IN_ROOT}`, async () => {
    await setSpeed(SLOW);
    await follow(SESSION, "/v1/spares/drive3");
    await untilStrip(/rebuilt to [2-9]\d %/);
    await page.setViewportSize({ width: 800, height: 440 });
    await readmePicture(page, "rebuild");
    expect(await violationsOf(page)).toEqual([]);
    await setSpeed(FAST);
    await untilStrip(/^role 2, drive3: in sync$/);
    await page.locator(".badge.fine").waitFor();
    expect(await sumFiles()).toBe(sums);
  });

  test(`story: the service is restarted: all of it is there again ${IN_ROOT}`, async () => {
    await shell("systemctl restart parityd");
    await until(
      "mounted",
      async () => (await machine.inside("mountpoint", "-q", "/mnt")).exitCode === 0,
    );
    expect(await sumFiles()).toBe(sums);
    const { degraded, state, sync } = await get("/v1/arrays/raid_test");
    // ext4 may be writing by itself.
    expect([degraded, ["clean", "active"].includes(state), sync.action]).toEqual([0, true, "idle"]);
    await shell("parityd status --check; parityd events test");
    await page.reload();
    await untilStrip(/^role 2, drive3: in sync$/);
    // While it was away, `parityd ui` has said so.
    expect(watched.faults.filter((text) => !/status of 503/.test(text))).toEqual([]);
  });

  test(`story: the daemon dies: what the README says brings the mount back ${IN_ROOT}`, async () => {
    const pid = await shell("systemctl show --property MainPID --value parityd");
    await shell("systemctl kill --signal SIGKILL --kill-whom main parityd");
    await until("systemd has started it again", async () => {
      const now = await machine.inside(
        ...["sh", "-c", "systemctl is-active parityd; systemctl show -p MainPID --value parityd"],
      );
      return now.stdout.startsWith("active\n") && now.stdout !== `active\n${pid}`;
    });
    // nbdfuse dies of it at its next request.
    await machine.inside("sh", "-c", "dd if=/run/disk/raid_test of=/dev/null bs=4096 count=1");
    await follow("A file system on it", "systemctl restart raid_test && mount");
    expect(await sumFiles()).toBe(sums);
    await shell("touch /mnt/after; sync -f /mnt");
    await shell("umount /mnt; e2fsck -fn /run/disk/raid_test");
  });
});
