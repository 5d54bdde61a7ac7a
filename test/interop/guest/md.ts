/**
 * Runs inside the kernel lab's guest, started by ../lab-md.test.ts, which says what it is for.
 *
 * $OUT/plan.json lists arrays whose members are image files in $OUT. Each is created by mdadm or
 * assembled by the kernel, and what was seen goes to $OUT/report.json; the host judges.
 */
import { test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mustRun } from "../../helpers/daemon.ts";
import { guestFolder } from "../../helpers/lab.ts";
import type {
  AssembleReport,
  AssembleTask,
  CreateTask,
  MdPlan,
  MdReport,
} from "../../helpers/md-lab.ts";
import { toolPath } from "../../helpers/needs.ts";

const MD = "/dev/md0";
const SYSFS = "/sys/block/md0/md";

async function run(tool: string, ...words: readonly string[]): Promise<string> {
  return mustRun([toolPath(tool)!, ...words]);
}

function attribute(name: string): string {
  return readFileSync(join(SYSFS, name), "utf8").trim();
}

/** The loop devices of image files, for as long as `use` runs. */
async function withLoops<T>(
  files: readonly string[],
  use: (devices: string[]) => Promise<T>,
): Promise<T> {
  const devices: string[] = [];
  for (const file of files) {
    const path = join(guestFolder(), file);
    devices.push((await run("losetup", "--find", "--show", path)).trim());
  }
  const result = await use(devices);
  for (const device of devices) await run("losetup", "--detach", device);
  return result;
}

/** Until all members are there, in sync, and nothing is at work. */
async function waitInSync(): Promise<void> {
  for (;;) {
    const isIdle = attribute("sync_action") === "idle" && attribute("resync_start") === "none";
    if (isIdle && attribute("degraded") === "0") return;
    await Bun.sleep(20);
  }
}

async function sha256(): Promise<string> {
  return (await run("sha256sum", MD)).split(" ")[0]!;
}

async function fill(bytes: number, offset: number): Promise<void> {
  const range = ["bs=64k", "iflag=count_bytes", "oflag=seek_bytes", `count=${bytes}`];
  await run("dd", "if=/dev/urandom", `of=${MD}`, ...range, `seek=${offset}`, "conv=notrunc,fsync");
}

function create(task: CreateTask): Promise<string> {
  return withLoops(task.files, async (devices) => {
    const shape = [`--layout=${task.layout}`, `--chunk=${task.chunkKib}`, "--bitmap=none"];
    const name = ["--homehost=lab", `--name=${task.name}`];
    const count = `--raid-devices=${devices.length}`;
    await run("mdadm", "--create", MD, "--run", "--level=5", count, ...shape, ...name, ...devices);
    await waitInSync();
    await fill(Number(await run("blockdev", "--getsize64", MD)), 0);
    const sum = await sha256();
    await run("mdadm", "--stop", MD);
    return sum;
  });
}

function assemble(task: AssembleTask): Promise<AssembleReport> {
  return withLoops(task.files, async (devices) => {
    const examined: string[] = [];
    const identified: string[] = [];
    for (const device of devices) {
      examined.push(await run("mdadm", "--examine", device));
      identified.push(await run("blkid", "--probe", device));
    }
    await run("mdadm", "--assemble", MD, ...devices);
    const degradedBefore = Number(attribute("degraded"));
    const isDirty = attribute("resync_start") !== "none";
    const sumBefore = await sha256();
    if (attribute("array_state") === "read-auto") await run("mdadm", "--readwrite", MD);
    if (task.replaces !== null) {
      const device = devices[task.replaces]!;
      await run("mdadm", "--zero-superblock", device);
      await run("mdadm", MD, "--add", device);
    }
    await waitInSync();
    writeFileSync(join(SYSFS, "sync_action"), "check");
    await waitInSync();
    const mismatches = Number(attribute("mismatch_cnt"));
    const sumInSync = await sha256();
    await fill(100_000, 12_345);
    await fill(300 * 1024, 2 * 1024 * 1024);
    const sumWritten = await sha256();
    const detail = await run("mdadm", "--detail", MD);
    await run("mdadm", "--stop", MD);
    const sums = { sumBefore, sumInSync, sumWritten };
    return { examined, identified, detail, degradedBefore, isDirty, mismatches, ...sums };
  });
}

test("md: the plan of the host", async () => {
  writeFileSync("/proc/sys/dev/raid/speed_limit_min", "200000");
  const plan: MdPlan = JSON.parse(readFileSync(join(guestFolder(), "plan.json"), "utf8"));
  const report: MdReport = { created: {}, assembled: {} };
  for (const task of plan.create) report.created[task.name] = await create(task);
  for (const task of plan.assemble) report.assembled[task.name] = await assemble(task);
  writeFileSync(join(guestFolder(), "report.json"), JSON.stringify(report));
});
