/**
 * Runs inside the kernel lab's guest, started by ../lab-attach.test.ts, which says what it is for.
 *
 * The daemon is in the guest, over the guest's disks; its calls are made by curl, as a person would.
 */
import { expect, test } from "bun:test";
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, mustRun, runProgram } from "../../helpers/daemon.ts";
import { FileLoadProcess } from "../../helpers/file-load-process.ts";
import { guestDisks, guestFolder } from "../../helpers/lab.ts";
import { toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { until } from "../../helpers/until.ts";

const DEVICE = "/dev/nbd0";
const SYS = "/sys/block/nbd0";
const MOUNT_POINT = "/mnt/attached";
/** Less than the members have, so that there is something to grow into. */
const FIRST_KIB = 36 * 1024;

/** Each with requests under way. */
const ENDS = ["kill", "stop", "kill", "stop", "kill", "kill"] as const;
const FLAGS = { flags: ["--allow-fault-injection"] };
/** Drives are so slow where a daemon is ended, so that it has requests. */
const DELAY_MS = 300;
/** After so long the kernel asks again for what was under way when a daemon ended. */
const REQUEST_SECONDS = 30;
const STOP_SECONDS_MAX = 10;

/** A test that failed leaves a file system without a daemon; whoever writes to it would wait. */
async function letGo(): Promise<void> {
  await runProgram([toolPath("nbd-client")!, "-d", DEVICE]);
  await runProgram([toolPath("umount")!, "-l", MOUNT_POINT]);
}

async function run(tool: string, ...words: readonly string[]): Promise<string> {
  return mustRun([toolPath(tool)!, ...words]);
}

/** By curl; the status, and the body where there is one. */
async function curl(daemon: Daemon, method: string, path: string, body?: unknown) {
  const words = ["-sS", "--unix-socket", daemon.apiSocket, "-X", method, "-w", "\n%{http_code}"];
  const type = ["-H", "Content-Type: application/json"];
  const data = body === undefined ? [] : ["-d", JSON.stringify(body)];
  const output = await run("curl", ...words, ...type, ...data, `http://parityd${path}`);
  const [status = "", ...rest] = output.trimEnd().split("\n").reverse();
  const text = rest.reverse().join("\n");
  return { status: Number(status), body: text === "" ? null : JSON.parse(text) };
}

async function problem(daemon: Daemon, method: string, path: string, body?: unknown) {
  const answer = await curl(daemon, method, path, body);
  return [answer.status, answer.body?.type?.split(":").at(-1), answer.body?.detail];
}

async function exportOf(daemon: Daemon) {
  return (await daemon.must("GET", "/v1/exports"))[0];
}

/** Reads and writes that the kernel waits for. */
function requestsUnderWay(): number {
  const counts = readFileSync(`${SYS}/inflight`, "utf8").trim().split(/\s+/).map(Number);
  return counts.reduce((sum, count) => sum + count, 0);
}

async function mount(): Promise<void> {
  await run("mount", "-t", "ext4", DEVICE, MOUNT_POINT);
}

/** Fails on the least thing that is not as it should be. */
async function unmountAndCheck(): Promise<void> {
  await run("umount", MOUNT_POINT);
  await run("fsck.ext4", "-fn", DEVICE);
}

async function startWithArray(folder: string): Promise<Daemon> {
  const daemon = await Daemon.start(folder, FLAGS);
  const drives = await daemon.addDrives(guestDisks());
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives, sizeKiB: FIRST_KIB });
  await daemon.must("PUT", "/v1/exports/disk", { array: "tank" });
  return daemon;
}

test("attach: ext4 on /dev/nbd0 through kill -9, a stop, a boot and a growth", async () => {
  try {
    await liveOnIt();
  } finally {
    await letGo();
  }
});

async function stopWithoutDevice(daemon: Daemon): Promise<void> {
  const startedMs = performance.now();
  expect(await daemon.stop()).toBe(0);
  const seconds = (performance.now() - startedMs) / 1000;
  appendFileSync(join(guestFolder(), "waits"), `stop and detach ${seconds.toFixed(1)}\n`);
  expect(seconds).toBeLessThan(STOP_SECONDS_MAX);
  expect(existsSync(`${SYS}/pid`)).toBe(false);
}

async function liveOnIt(): Promise<void> {
  const folder = makeTempDir("attach");
  let daemon = await startWithArray(folder);
  const attach = "/v1/exports/disk/attach";
  const attached = await curl(daemon, "POST", attach, { device: DEVICE });
  expect(attached).toMatchObject({ status: 200, body: { attachment: { device: DEVICE } } });
  expect((await exportOf(daemon)).connections).toBe(4);
  await daemon.must("PUT", "/v1/exports/other", { array: "tank" });
  const taken = await problem(daemon, "POST", "/v1/exports/other/attach", { device: DEVICE });
  expect(taken).toMatchObject([409, "device-in-use", expect.any(String)]);
  await daemon.must("DELETE", "/v1/exports/other");

  await run("mkfs.ext4", "-F", "-q", DEVICE);
  mkdirSync(MOUNT_POINT, { recursive: true });
  await mount();
  const load = new FileLoadProcess({ folder: MOUNT_POINT, seed: 7 });
  await load.writeRound();
  const mounted = await problem(daemon, "DELETE", attach);
  expect(mounted).toMatchObject([409, "device-in-use", expect.stringContaining("mounted")]);
  const connected = await problem(daemon, "DELETE", "/v1/exports/disk");
  expect(connected).toMatchObject([409, "export-in-use", expect.stringContaining("4 clients")]);

  // Killed and stopped while files are written, again and again.
  for (const end of ENDS) {
    for (const { name: drive } of await daemon.must("GET", "/v1/drives")) {
      await daemon.must("POST", "/v1/faults", { drive, op: "any", delayMs: DELAY_MS });
    }
    const writing = load.writeRound();
    const syncing = run("sync", "-f", MOUNT_POINT);
    await until("requests are under way", () => requestsUnderWay() > 0);
    await daemon[end]();
    expect(requestsUnderWay()).toBeGreaterThan(0);
    const waiting = load.writeRound();
    daemon = await Daemon.start(folder, FLAGS);
    const startedMs = performance.now();
    await Promise.all([writing, syncing, waiting]);
    // Asked again once: before what was asked again would be a second time.
    const seconds = (performance.now() - startedMs) / 1000;
    appendFileSync(join(guestFolder(), "waits"), `${end} ${seconds.toFixed(1)}\n`);
    expect(seconds).toBeLessThan(2 * REQUEST_SECONDS);
    const view = await exportOf(daemon);
    expect([view.connections, view.attachment.isAttached]).toEqual([4, true]);
  }
  await unmountAndCheck();
  await mount();
  await load.expectFiles();

  // Online: the array grows, the device with it, and the file system.
  const sectors = () => Number(readFileSync(`${SYS}/size`, "utf8"));
  const before = sectors();
  await daemon.must("PATCH", "/v1/arrays/tank", { sizeKiB: "max" });
  await until("the device has grown", () => sectors() > before);
  const { sizeBytes } = await daemon.must("GET", "/v1/arrays/tank");
  expect(sectors() * 512).toBe(sizeBytes);
  await run("resize2fs", DEVICE);
  await load.writeRound();
  await unmountAndCheck();

  // Four connections ended with each daemon, and none by itself; nobody was told of an error.
  const kernelLog = await run("dmesg");
  expect(kernelLog.match(/reconnected socket/g)).toHaveLength(4 * ENDS.length);
  expect(kernelLog).not.toMatch(/I\/O error|EXT4-fs (error|warning)|Aborting journal/);

  // As after a boot: nothing is attached, and the daemon starts.
  expect((await curl(daemon, "POST", attach, { atStart: true })).status).toBe(200);
  await stopWithoutDevice(daemon);
  daemon = await Daemon.start(folder);
  await until("it is attached", async () => (await exportOf(daemon)).attachment.isAttached);
  await mount();
  await load.expectFiles();
  await run("umount", MOUNT_POINT);
  expect((await curl(daemon, "DELETE", attach)).status).toBe(204);
  expect([existsSync(`${SYS}/pid`), (await exportOf(daemon)).attachment]).toEqual([false, null]);

  // Nobody has it: a stop takes it away, and what follows does not wait for it.
  expect((await curl(daemon, "POST", attach, { device: DEVICE })).status).toBe(200);
  await stopWithoutDevice(daemon);
  daemon = await Daemon.start(folder);
  await until("it is back", async () => (await exportOf(daemon)).attachment?.isAttached === true);
  await mount();
  await load.expectFiles();
  await load.end();
  await run("umount", MOUNT_POINT);
  await stopWithoutDevice(daemon);
  await run("sync");
  writeFileSync(join(guestFolder(), "ended"), "");
}
