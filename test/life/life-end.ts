/**
 * The end of a sequence: faults stop, disks are plugged back, and the operator follows what
 * `status` says. Then all must be well, as far as the promise goes; and what was stopped clean must start
 * with any one member missing.
 */
import type { ArrayStatus } from "../../src/array/protocol.ts";
import { nextBelow } from "../../src/base/random.ts";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import type { DeviceImage } from "../sim/world/media.ts";
import { superblockOf } from "../sim/world/member-oracle.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import type { ArrayTruth } from "./array-truth.ts";
import { LifeClient } from "./life-client.ts";
import type { LifeRun } from "./life-run.ts";

const ROUNDS_MAX = 12;
const ROUND_MS = 40_000;
const SETTLE_MS = 600_000;
/** It is tried again so often. */
const POLICY_BACK_MS = 10_000;
const TWO_COPIES = "Disconnect the one that does not belong";

interface Action {
  /** One or more command lines, with && between. */
  readonly text: string;
  /** It says what has to be done before. */
  readonly isConditional: boolean;
}

export function endLife(run: LifeRun): void {
  stopFaults(run);
  run.process.world.simulation.runFor(ROUND_MS);
  run.quiet();
  run.observe();
  run.audit();
  run.addDisks();
  run.observe();
  run.audit();
  followStatus(run);
  run.observe();
  run.audit();
  const arrays = run.process.ask("GET", "/v1/arrays").body as ArrayStatus[];
  for (const status of arrays) judgeArray(run, status);
  run.check();
  settle(run);
  run.observe();
  judgeGrowths(run);
  run.audit();
  run.terminate();
  startWithoutOne(run);
}

function stopFaults(run: LifeRun): void {
  const { host, stateFile } = run;
  stateFile.trouble = "none";
  for (const fileSystem of host.fileSystems)
    Object.assign(fileSystem, { isFull: false, isMounted: true });
  for (const disk of host.disks.values()) {
    host.letGo(disk);
    disk.isFenced = false;
    if (!disk.isPlugged && !host.isTwinPlugged(disk)) host.plug(disk);
  }
  run.note("faults have stopped");
}

// Status, and what it says to do ----------------------------------------------------------------

function followStatus(run: LifeRun): void {
  const done = new Map<string, number>();
  for (let round = 0; round < ROUNDS_MAX; round += 1) {
    const text = readStatus(run);
    const actions = actionsOf(text);
    if (actions.length === 0 && !text.includes(" is being rebuilt")) return;
    for (const action of actions) {
      if (action.text.includes("NEW_DRIVE")) {
        run.host.addDisk();
        run.addDisks();
        continue;
      }
      const times = (done.get(action.text) ?? 0) + 1;
      done.set(action.text, times);
      if (times > 3) continue;
      follow(run, action);
    }
    run.process.world.simulation.runFor(ROUND_MS);
    settle(run);
    run.quiet();
    run.observe();
  }
}

/**
 * While the daemon lives on: drives that failed and have no role any more are let go of as `status`
 * says. After a restart nobody knows that they had failed.
 */
export function letGoOfFailed(run: LifeRun): void {
  const { stdout } = run.process.cli("status");
  for (const [, text] of stdout.matchAll(/ action: let go of it: (parityd .*)/g)) {
    follow(run, { text: text!, isConditional: false });
  }
}

/** Runs an action line as it is printed. */
function follow(run: LifeRun, { text, isConditional }: Action): void {
  for (const command of text.split(" && ")) {
    const line = command.replace(/^parityd /, "");
    const uuid = run.ledger.resolve(line.split(" ")[2] ?? "");
    if (line.includes("--force") && line.startsWith("array start") && uuid !== null) {
      run.onForced(uuid);
    }
    const outcome = run.process.cli(line);
    const withdrawn = /^spare remove (\S+)/.exec(line)?.[1];
    if (withdrawn !== undefined) run.ledger.spares.delete(withdrawn);
    run.note(`action: ${command}: ${outcome.exitCode} ${outcome.stderr}`);
    run.bump(`action: ${line.split(" ").slice(0, 2).join(" ")}`);
    // Which of two copies is the member, nobody here can tell.
    const isAmbiguous = isConditional && outcome.stderr.includes(TWO_COPIES);
    if (outcome.exitCode !== 0 && !isAmbiguous && !isExcused(run, { uuid, isConditional })) {
      const { stdout } = run.process.cli("status");
      run.fail(`the action "${command}" of status: ${outcome.stderr}\n${stdout}`);
    }
  }
}

/** "connect its drives, then: ...": of an array whose drives were given away there are none. */
function isExcused(
  run: LifeRun,
  { uuid, isConditional }: { uuid: string | null; isConditional: boolean },
): boolean {
  const truth = uuid === null ? undefined : run.truths.get(uuid);
  return isConditional && (truth === undefined || truth.trouble === "may-lose");
}

function readStatus(run: LifeRun): string {
  const outcome = run.process.cli("status");
  if (outcome.exitCode !== 0) run.fail(`status: ${outcome.stderr}`);
  const text = outcome.stdout;
  for (const [uuid, { label, standing }] of run.ledger.arrays) {
    if (standing === "known" && !text.includes(`array: ${label} `)) {
      run.fail(`status does not tell of array ${label} (${uuid}):\n${text}`);
    }
  }
  for (const drive of run.process.ask("GET", "/v1/drives").body) {
    const isOut = drive.state === "missing" || drive.state === "faulty" || drive.state === "stale";
    if (isOut && !text.includes(`drive: ${drive.name} (`)) {
      run.fail(`status does not tell that drive ${drive.name} is ${drive.state}:\n${text}`);
    }
  }
  for (const block of text.split("\n\n")) {
    const state = /state: ([a-z-]+)/.exec(block)?.[1] ?? "clean";
    const isWell = state === "clean" || state === "active";
    if (!isWell && !block.includes(" action: "))
      run.fail(`status does not say what to do:\n${text}`);
  }
  run.bump("check: status");
  return text;
}

/** The commands of action lines that are complete, the first of each array. */
function actionsOf(text: string): Action[] {
  const actions: Action[] = [];
  for (const block of text.split("\n\n")) {
    const line = /^ action: .*?(parityd [^;\n]*)/m.exec(block)?.[1];
    if (line === undefined || line.startsWith("parityd array create")) continue;
    if (line.startsWith("parityd job")) continue;
    // To forget an array is for an operator who knows that its drives are lost.
    if (line.startsWith("parityd array delete")) continue;
    actions.push({ text: line.trim(), isConditional: / action: (connect|when) /.test(block) });
  }
  return actions;
}

// What must be true then ------------------------------------------------------------------------

function judgeArray(run: LifeRun, status: ArrayStatus): void {
  const truth = run.truths.get(status.uuid);
  if (truth === undefined) return;
  const { name, state, degraded, reason } = status;
  if (truth.trouble === "none") {
    const isLeft = status.isHeld || reason?.includes(TWO_COPIES) === true;
    const isWell = state === "clean" || state === "active" || (state === "inactive" && isLeft);
    if (!isWell || degraded > 0 || status.lostBytes > 0) {
      const { stdout } = run.process.cli("status");
      run.fail(`at the end ${name} is ${state}, ${degraded} missing: ${reason}\n${stdout}`);
    }
  }
  if (state === "inactive" || state === "absent") return;
  readAll(run, truth, name);
  run.bump(`check: read through, ${truth.trouble}`);
}

/** A growth in members has come to its end, and the policy of before is back. */
function judgeGrowths(run: LifeRun): void {
  run.process.world.simulation.runFor(POLICY_BACK_MS);
  for (const status of run.process.ask("GET", "/v1/arrays").body as ArrayStatus[]) {
    const truth = run.truths.get(status.uuid);
    const { name, state, members, sizeBytes, policyAfterGrowth } = status;
    if (truth?.trouble !== "none" || (state !== "clean" && state !== "active")) continue;
    const sectors = truth.sectorsWith(members.length);
    if (sizeBytes !== sectors * SECTOR_BYTES || members.length < truth.promisedMembers) {
      run.fail(`at the end ${name} has ${members.length} members and ${sizeBytes} bytes`);
    }
    if (policyAfterGrowth !== undefined) run.fail(`${name} does not get ${policyAfterGrowth} back`);
  }
}

/** All of it, through an export of its own. */
function readAll(run: LifeRun, truth: ArrayTruth, array: string): void {
  const name = `all-${truth.stampSeed}`;
  const put = run.process.ask("PUT", `/v1/exports/${name}`, { array: truth.uuid });
  if (put.status >= 300) run.fail(`export ${array}: ${JSON.stringify(put.body)}`);
  run.ledger.exports.set(name, { uuid: truth.uuid, readOnly: false });
  const client = new LifeClient(run, name);
  const isRead = run.await(client.readThrough());
  run.check();
  if (!isRead && truth.trouble === "none") run.fail(`${array} cannot be read`);
}

/** Turns until nothing runs in the background. */
function settle(run: LifeRun): void {
  const { simulation } = run.process.world;
  const endMs = simulation.nowMs() + SETTLE_MS;
  for (;;) {
    const arrays = run.process.world.must<"list-arrays">({ kind: "list-arrays" });
    const isBusy = arrays.some(({ state, sync }) => state === "active" || sync.action !== "idle");
    if (!isBusy) return;
    if (simulation.nowMs() > endMs) run.fail(`no rest after ${SETTLE_MS} ms`);
    simulation.runFor(100);
  }
}

// One member missing ----------------------------------------------------------------------------

/** Copies of the disks, without the daemon: every array that was stopped whole. */
function startWithoutOne(run: LifeRun): void {
  const images = [...run.host.disks.values()].map((disk) => run.host.imageOf(disk));
  for (const truth of run.truths.values()) {
    const members = images.filter((image) => {
      const superblock = superblockOf(image);
      return typeof superblock !== "string" && superblock.arrayUuid === truth.uuid;
    });
    if (truth.trouble !== "none" || !run.wasWholeAtStop(truth.uuid)) continue;
    const held = members.filter(({ name }) => run.isMember(truth.uuid, name));
    if (held.length < 3) continue;
    const missing = nextBelow(run.random, held.length);
    startFrom(run, truth, held.toSpliced(missing, 1), held[missing]!.name);
    run.bump("check: started without one");
  }
}

function startFrom(
  run: LifeRun,
  truth: ArrayTruth,
  images: readonly DeviceImage[],
  missing: string,
): void {
  const world = SimWorld.restart(images, { seed: run.seed });
  const started = world.startArray({ array: truth.uuid });
  if (!started.ok) {
    run.fail(`${truth.uuid} was stopped clean, and without ${missing}: ${started.error.detail}`);
  }
  const client = world.client(truth.uuid);
  const step = 64;
  for (let lba = 0; lba < truth.sectorCount; lba += step) {
    const sectors = Math.min(step, truth.sectorCount - lba);
    const { status, data } = world.run(client.read(lba * SECTOR_BYTES, sectors * SECTOR_BYTES));
    if (status !== 0) run.fail(`${truth.uuid} without ${missing}: a read: errno ${status}`);
    const violation = truth.oracle.peek(lba, data);
    if (violation !== null) run.fail(`${truth.uuid} without ${missing}: ${violation.message}`);
  }
}
