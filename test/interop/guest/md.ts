/**
 * Runs inside the kernel lab's guest, started by ../lab-md.test.ts, which says what it is for.
 *
 * $OUT/plan.json lists arrays whose members are image files in $OUT. Each is created by mdadm or
 * assembled by the kernel, and what was seen goes to $OUT/report.json; the host judges. Starting a
 * program takes 50 ms here, so loop devices, sums and writes are done by this process itself.
 */
import { test } from "bun:test";
import { randomFillSync } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  fstatSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { libc } from "../../../ffi/libc.ts";
import { assert } from "../../../src/base/assert.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { mustRun, runProgram, sha256 } from "../../helpers/daemon.ts";
import { guestDisks, guestFolder } from "../../helpers/lab.ts";
import type {
  AssembleReport,
  AssembleTask,
  CreateTask,
  DeathTask,
  GrowReport,
  GrowTask,
  MdPlan,
  MdReport,
  ReplaceReport,
  ReplaceTask,
  ReshapeReport,
  ReshapeTask,
  ResizeReport,
  ResizeTask,
  TrialTask,
} from "../../helpers/md-lab.ts";
import { toolPath } from "../../helpers/needs.ts";

const MD = "/dev/md0";
const SYSFS = "/sys/block/md0/md";
const START_READ_ONLY = "/sys/module/md_mod/parameters/start_ro";
/** linux/loop.h */
const LOOP_SET_FD = 0x4c00;
const LOOP_CLR_FD = 0x4c01;
const LOOP_CTL_GET_FREE = 0x4c82;

async function run(tool: string, ...words: readonly string[]): Promise<string> {
  return mustRun([toolPath(tool)!, ...words]);
}

function attribute(name: string): string {
  return readFileSync(join(SYSFS, name), "utf8").trim();
}

function setAttribute(name: string, value: string): void {
  writeFileSync(join(SYSFS, name), value);
}

interface Loop {
  readonly path: string;
  readonly fd: number;
}

function attachLoop(file: string): Loop {
  const control = openSync("/dev/loop-control", "r+");
  const number = libc.ioctl(control, LOOP_CTL_GET_FREE, 0);
  closeSync(control);
  assert(number >= 0, "there is a free loop device");
  const path = `/dev/loop${number}`;
  const fd = openSync(path, "r+");
  const backing = openSync(join(guestFolder(), file), "r+");
  assert(libc.ioctl(fd, LOOP_SET_FD, backing) === 0, `${file} becomes ${path}`);
  closeSync(backing);
  return { path, fd };
}

/** The loop devices of image files, for as long as `use` runs. */
async function withLoops<T>(
  files: readonly string[],
  use: (devices: string[]) => Promise<T>,
): Promise<T> {
  const loops = files.map(attachLoop);
  const result = await use(loops.map(({ path }) => path));
  for (const { path, fd } of loops) {
    fsyncSync(fd);
    assert(libc.ioctl(fd, LOOP_CLR_FD, 0) === 0, `${path} is let go`);
    closeSync(fd);
  }
  return result;
}

/** A device of the array is to replace another one. */
function isReplacing(): boolean {
  const devices = readdirSync(SYSFS).filter((name) => name.startsWith("dev-"));
  return devices.some((name) => attribute(`${name}/state`).includes("replacement"));
}

/** Until nothing is at work and, unless one is missing for good, all members are in sync. */
async function waitInSync(degraded = 0): Promise<void> {
  for (;;) {
    const isIdle = attribute("sync_action") === "idle" && attribute("resync_start") === "none";
    const isReshaping = attribute("reshape_position") !== "none";
    if (isIdle && !isReshaping && attribute("degraded") === String(degraded) && !isReplacing())
      return;
    await Bun.sleep(20);
  }
}

function sizeOfArray(): number {
  return Number(readFileSync("/sys/block/md0/size", "utf8")) * 512;
}

/** The pages of the array are gone when the last one has closed it: this reads the members. */
function sum(): string {
  return sha256(MD);
}

function fill(bytes: number, offset: number): void {
  const file = openSync(MD, "r+");
  assert(fstatSync(file).isBlockDevice(), "the array is there");
  writeSync(file, randomFillSync(new Uint8Array(bytes)), 0, bytes, offset);
  fsyncSync(file);
  closeSync(file);
}

/** Writes of many sizes, with gaps, so that stripes are full, partial and unaligned. */
function scribble(): void {
  const span = sizeOfArray() / 2;
  for (let offset = 777; offset < span; offset += 190 * KIB) fill(3000 + (offset % 60_000), offset);
}

function create(task: CreateTask): Promise<string> {
  return withLoops(task.files, async (devices) => {
    const name = ["--homehost=lab", `--name=${task.name}`];
    const memberCount = devices.length - task.spareCount;
    const counts = [`--raid-devices=${memberCount}`, `--spare-devices=${task.spareCount}`];
    const members = devices.map((device, index) => `${device}${task.suffixes[index] ?? ""}`);
    await run("mdadm", "--create", MD, "--run", ...counts, ...task.words, ...name, ...members);
    await waitInSync();
    fill(sizeOfArray(), 0);
    if (task.loses !== null) {
      const device = devices[task.loses]!;
      await run("mdadm", MD, "--fail", device, "--remove", device);
      fill(300 * KIB, MIB);
    }
    if (task.dirtyFiles.length > 0) keepDirty(task.files, task.dirtyFiles);
    const contentSum = sum();
    setAttribute("safe_mode_delay", "0.2");
    await run("mdadm", "--stop", MD);
    return contentSum;
  });
}

/** The writes are done, but the array is not marked clean again for a minute. */
function keepDirty(files: readonly string[], copies: readonly string[]): void {
  setAttribute("safe_mode_delay", "60");
  scribble();
  copyFiles(files, copies);
}

function copyFiles(files: readonly string[], copies: readonly string[]): void {
  for (const [index, file] of files.entries()) {
    copyFileSync(join(guestFolder(), file), join(guestFolder(), copies[index]!));
  }
}

async function examineBitmaps(devices: readonly string[]): Promise<string[]> {
  if (attribute("bitmap/location") === "none") return [];
  return Promise.all(devices.map((device) => run("mdadm", "--examine-bitmap", device)));
}

function assemble(task: AssembleTask): Promise<AssembleReport> {
  return withLoops(task.files, async (devices) => {
    const examine = task.isBrief ? "" : await run("mdadm", "--examine", ...devices);
    const examined = examine === "" ? [] : examine.trim().split(/\n(?=\/dev\/)/);
    const identify = task.isBrief ? "" : await run("blkid", "--probe", ...devices);
    const identified = identify === "" ? [] : identify.trim().split("\n");
    await run("mdadm", "--assemble", "--run", MD, ...devices);
    const degradedBefore = Number(attribute("degraded"));
    const isDirty = attribute("resync_start") !== "none";
    await standWhole();
    const sumBefore = sum();
    setAttribute("sync_max", "max");
    const bitmaps = await examineBitmaps(devices);
    const before = { examined, identified, bitmaps, degradedBefore, isDirty, sumBefore };
    if (task.isBrief) {
      await run("mdadm", "--stop", MD);
      return { ...before, detail: "", mismatches: 0, sumInSync: "", sumWritten: "" };
    }
    if (attribute("array_state") === "read-auto") setAttribute("array_state", "active");
    if (task.replaces !== null) {
      const device = devices[task.replaces]!;
      await run("mdadm", "--zero-superblock", device);
      await run("mdadm", MD, "--add", device);
    }
    await waitInSync();
    setAttribute("sync_action", "check");
    await waitInSync();
    const mismatches = Number(attribute("mismatch_cnt"));
    if (mismatches > 0) {
      setAttribute("sync_action", "repair");
      await waitInSync();
    }
    const sumInSync = sum();
    fill(100_000, 12_345);
    fill(300 * KIB, 2 * MIB);
    const sumWritten = sum();
    const detail = await run("mdadm", "--detail", MD);
    await run("mdadm", "--stop", MD);
    return { ...before, detail, mismatches, sumInSync, sumWritten };
  });
}

function grow({ files, word }: GrowTask): Promise<GrowReport> {
  return withLoops(files, async (devices) => {
    await run("mdadm", "--assemble", MD, ...devices);
    const sumBefore = sum();
    if (attribute("array_state") === "read-auto") setAttribute("array_state", "active");
    await waitInSync();
    await run("mdadm", "--grow", MD, word);
    await waitInSync();
    const policy = attribute("consistency_policy");
    scribble();
    const sumWritten = sum();
    await run("mdadm", "--stop", MD);
    return { policy, sumBefore, sumWritten };
  });
}

async function replace({
  name,
  files,
  words,
  replaces,
  stops,
}: ReplaceTask): Promise<ReplaceReport> {
  const sums: string[] = [];
  await withLoops(files, async (devices) => {
    const counts = [`--raid-devices=${devices.length - 1}`, "--spare-devices=1"];
    const labels = ["--homehost=lab", `--name=${name}`];
    await run("mdadm", "--create", MD, "--run", ...counts, ...words, ...labels, ...devices);
    await waitInSync();
    fill(sizeOfArray(), 0);
    const sectors = Number(attribute("component_size")) * 2;
    const chunkSectors = Number(attribute("chunk_size")) / 512;
    setAttribute("sync_max", "0");
    await run("mdadm", MD, "--replace", devices[replaces]!, "--with", devices.at(-1)!);
    for (const { percent, ending, files: copies } of stops) {
      const goal = Math.floor((sectors * percent) / 100 / chunkSectors) * chunkSectors;
      setAttribute("sync_max", percent < 100 ? String(goal) : "max");
      if (attribute("array_state") === "read-auto") setAttribute("array_state", "active");
      await waitReplaced(goal);
      if (ending === "dirty") keepDirty(files, copies);
      else scribble();
      sums.push(sum());
      if (ending === "dirty") continue;
      setAttribute("safe_mode_delay", "0.2");
      await run("mdadm", "--stop", MD);
      copyFiles(files, copies);
      await run("mdadm", "--assemble", "--run", MD, ...devices);
    }
    await run("mdadm", "--stop", MD);
  });
  return { sums };
}

/** Until the replace stands at its `sync_max`, or is over. */
async function waitReplaced(goal: number): Promise<void> {
  for (;;) {
    if (!isReplacing()) return;
    const completed = /^\d+/.exec(attribute("sync_completed"));
    if (attribute("sync_action") === "recover" && Number(completed ?? 0) >= goal) return;
    await Bun.sleep(5);
  }
}

/** Creates and fills an array, and begins to lay it out over all devices, hardly at all yet. */
async function beginReshape(
  { name, words, oldCount }: Omit<ReshapeTask, "stops">,
  devices: readonly string[],
): Promise<string> {
  const labels = ["--homehost=lab", `--name=${name}`];
  const members = devices.slice(0, oldCount);
  const counts = [`--raid-devices=${oldCount}`];
  await run("mdadm", "--create", MD, "--run", ...counts, ...words, ...labels, ...members);
  await waitInSync();
  fill(sizeOfArray(), 0);
  const sumBefore = sum();
  await run("mdadm", MD, "--add", ...devices.slice(oldCount));
  // So slow that it stands after its first 128 KiB: mdadm takes every other limit away.
  for (const limit of ["sync_speed_min", "sync_speed_max"]) setAttribute(limit, "1");
  await run("mdadm", "--grow", MD, `--raid-devices=${devices.length}`);
  return sumBefore;
}

async function reshape(task: ReshapeTask): Promise<ReshapeReport> {
  const { files, stops, oldCount } = task;
  const sums: string[] = [];
  let sumBefore = "";
  await withLoops(files, async (devices) => {
    sumBefore = await beginReshape(task, devices);
    const sectors = Number(attribute("component_size")) * 2;
    // Linux keeps requests waiting for a stripe that is moved in part: it stands where none is.
    const unit = (Number(attribute("chunk_size")) / 512) * (oldCount - 1);
    const dataCount = devices.length - 1;
    await run("mdadm", "--stop", MD);
    for (const { percent, ending, files: copies } of stops) {
      // It waits for a first write: until then it is told how far to go.
      await run("mdadm", "--assemble", "--run", MD, ...devices);
      const at = Number(attribute("reshape_position")) / dataCount;
      const wanted = Math.ceil(Math.max((sectors * percent) / 100, at) / unit);
      const goal = Math.min(wanted, Math.ceil(sectors / unit) - 1) * unit;
      setAttribute("sync_max", String(goal));
      setAttribute("array_state", "active");
      await waitReshaped(goal, dataCount);
      if (ending === "dirty") keepDirty(files, copies);
      else scribble();
      sums.push(sum());
      setAttribute("safe_mode_delay", "0.2");
      await run("mdadm", "--stop", MD);
      if (ending === "stopped") copyFiles(files, copies);
    }
  });
  return { sumBefore, sums };
}

/** Until so many sectors of each member are laid out anew. */
async function waitReshaped(goal: number, dataCount: number): Promise<void> {
  while (Number(attribute("reshape_position")) < goal * dataCount) await Bun.sleep(5);
}

/**
 * Goes on with a reshape that stands where a stripe of the old layout is moved in part, to where
 * none is: until then Linux keeps requests waiting.
 */
async function standWhole(): Promise<void> {
  const counts = /^(\d+) \((\d+)\)$/.exec(attribute("raid_disks"));
  if (counts === null) return;
  const [dataCount, oldDataCount] = [Number(counts[1]) - 1, Number(counts[2]) - 1];
  const position = Number(attribute("reshape_position"));
  const unit = (Number(attribute("chunk_size")) / 512) * oldDataCount;
  const isBehindOldEnd = position >= Number(attribute("component_size")) * 2 * oldDataCount;
  if (isBehindOldEnd || position % unit === 0) return;
  const goal = Math.ceil(position / dataCount / unit) * unit;
  setAttribute("sync_max", String(goal));
  setAttribute("array_state", "active");
  await waitReshaped(goal, dataCount);
}

/** Never comes back. */
async function die({ percent, files }: DeathTask): Promise<void> {
  const sectors = Number(attribute("component_size")) * 2;
  for (const limit of ["sync_speed_max", "sync_speed_min"]) setAttribute(limit, "2000");
  await waitReshaped((sectors * percent) / 100, files.length - 1);
  writeFileSync("/proc/sysrq-trigger", "c");
}

function resize({ name, files, words, oldKib, percent }: ResizeTask): Promise<ResizeReport> {
  return withLoops(files, async (devices) => {
    const counts = [`--raid-devices=${devices.length}`, `--size=${oldKib}`];
    const labels = ["--homehost=lab", `--name=${name}`];
    await run("mdadm", "--create", MD, "--run", ...counts, ...words, ...labels, ...devices);
    await waitInSync();
    fill(sizeOfArray(), 0);
    const oldSectors = Number(attribute("component_size")) * 2;
    const oldBytes = sizeOfArray();
    setAttribute("sync_max", String(oldSectors));
    await run("mdadm", "--grow", MD, "--size=max");
    const chunkSectors = Number(attribute("chunk_size")) / 512;
    const sectors = Number(attribute("component_size")) * 2;
    const wanted = oldSectors + ((sectors - oldSectors) * percent) / 100;
    const goal = Math.floor(wanted / chunkSectors) * chunkSectors;
    setAttribute("sync_max", String(goal));
    while (Number(/^\d+/.exec(attribute("sync_completed"))?.[0] ?? 0) < goal) await Bun.sleep(5);
    for (const offset of [oldBytes - 50 * KIB, oldBytes + 90 * KIB, sizeOfArray() - 200 * KIB]) {
      fill(130_000, offset);
    }
    const contentSum = sum();
    await run("mdadm", "--stop", MD);
    return { sum: contentSum };
  });
}

/** An array that did not start is on its way out for a moment, and busy. */
async function settledState(): Promise<string> {
  while (existsSync(SYSFS)) {
    try {
      return attribute("array_state");
    } catch {
      await Bun.sleep(10);
    }
  }
  return "clear";
}

function attempt({ files }: TrialTask): Promise<number | null> {
  return withLoops(files, async (devices) => {
    await runProgram([toolPath("mdadm")!, "--assemble", "--run", MD, ...devices]);
    const state = await settledState();
    const isRunning = state !== "clear" && state !== "inactive";
    const degraded = isRunning ? Number(attribute("degraded")) : null;
    if (state !== "clear") await run("mdadm", "--stop", MD);
    return degraded;
  });
}

test("md: the plan of the host", async () => {
  writeFileSync("/proc/sys/dev/raid/speed_limit_min", "200000");
  const plan: MdPlan = JSON.parse(readFileSync(join(guestFolder(), "plan.json"), "utf8"));
  const none = { created: {}, assembled: {}, trials: {}, grown: {}, replaced: {}, resized: {} };
  const report: MdReport = { ...none, reshaped: {} };
  for (const task of plan.create ?? []) report.created[task.name] = await create(task);
  for (const task of plan.assemble ?? []) report.assembled[task.name] = await assemble(task);
  for (const task of plan.trials ?? []) report.trials[task.name] = await attempt(task);
  for (const task of plan.grow ?? []) report.grown[task.name] = await grow(task);
  for (const task of plan.resize ?? []) report.resized[task.name] = await resize(task);
  // What is assembled then waits for a first write: until that it can be told how far to go.
  const isTold = plan.replace !== undefined || plan.reshape !== undefined;
  if (isTold) writeFileSync(START_READ_ONLY, "1");
  for (const task of plan.replace ?? []) report.replaced[task.name] = await replace(task);
  for (const task of plan.reshape ?? []) report.reshaped[task.name] = await reshape(task);
  const { death } = plan;
  if (death !== undefined) {
    const sumBefore = await beginReshape(death, guestDisks());
    report.reshaped[death.name] = { sumBefore, sums: [] };
  }
  writeFileSync(join(guestFolder(), "report.json"), JSON.stringify(report));
  if (death === undefined) return;
  await run("sync");
  await die(death);
});
