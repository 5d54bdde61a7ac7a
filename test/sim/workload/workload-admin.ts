/**
 * What an administrator does in a run: members fail, go, come back and are replaced, spares are
 * added, scrubs run, the array is stopped and started.
 */
import type { ArrayStatus, CommandOf } from "../../../src/array/protocol.ts";
import { nextBelow } from "../../../src/base/random.ts";
import { MIB } from "../../../src/base/units.ts";
import { POLICIES } from "../../helpers/policies.ts";
import { blankImage, type DeviceImage, PAGE_BYTES } from "../world/media.ts";
import { RunCounts } from "../world/run-counts.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import type { Run } from "./workload.ts";

export function administrate(run: Run, status: ArrayStatus): void {
  const { plan, random } = run;
  const isWhole = status.degraded === 0 && status.sync.action !== "resync";
  if (status.degraded > 0) {
    // A first resync that has not ended leaves its rows unproven at the next start.
    const mayStop = plan.features.has("restart") && !run.faults.isProven;
    if (mayStop && nextBelow(random, 4) === 0) {
      run.space.giveRoom();
      stopAndStart(run);
    } else if (status.sync.action !== "rebuild" && nextBelow(random, 2) === 0) replace(run, status);
    return;
  }
  const choices = (["fail-member", "spare", "scrub", "stop", "policy"] as const).filter((feature) =>
    plan.features.has(feature),
  );
  const choice = choices[nextBelow(random, choices.length)];
  if (choice === undefined || !isWhole) return;
  // What is left dirty for want of space is not whole without it.
  if (choice === "stop" || choice === "policy") run.space.giveRoom();
  if (choice === "stop") stopAndStart(run);
  else if (choice === "policy") changePolicy(run);
  else if (choice === "scrub") scrub(run, status);
  else if (choice === "spare" && status.spares.length === 0) addMember(run, newDrive(run));
  else if (choice === "fail-member" && run.faults.victim !== null) {
    admin(run, "fail-member");
    run.world.call({ kind: "fail-member", array: ARRAY_NAME, drive: run.faults.victim });
  }
}

function admin(run: Run, what: string): void {
  RunCounts.bump(run.counts.admin, what);
  run.world.simulation.note(`admin ${what}`);
}

/** Gives the free role a drive: the old one again, or a new one. */
export function replace(run: Run, status: ArrayStatus): void {
  const faulty = status.members.find(({ state }) => state === "faulty" || state === "missing");
  if (faulty === undefined) return;
  const name = faulty.drive;
  if (name !== null) {
    run.faults.heal(run.world.device(name));
    const isSame = run.plan.features.has("re-add") && nextBelow(run.random, 2) === 0;
    if (isSame) {
      admin(run, "re-add");
      // A partial rebuild leaves most sectors as they are.
      if (status.consistencyPolicy !== "bitmap") run.faults.forgetLatent();
      run.world.call({ kind: "add-member", array: ARRAY_NAME, drive: name, force: true });
      return;
    }
    admin(run, "remove");
    run.world.call({ kind: "remove-member", array: ARRAY_NAME, drive: name });
    run.world.call({ kind: "detach-drive", name, force: false });
    run.present = run.present.filter((other) => other !== name);
    run.removed.push(name);
  }
  run.faults.forgetLatent();
  const isReturn = run.plan.features.has("return") && run.removed.length > 1;
  if (isReturn && nextBelow(run.random, 2) === 0) comeBack(run);
  else {
    admin(run, "replace");
    addMember(run, newDrive(run));
  }
}

/** A drive that was a member long ago, with what it held then. */
function comeBack(run: Run): void {
  const name = run.removed.shift()!;
  const attached = run.world.attach(name);
  // The last one may still owe answers.
  if (!attached.ok) return;
  admin(run, "return");
  run.present.push(name);
  addMember(run, name, true);
}

function addMember(run: Run, drive: string, force = false): void {
  admin(run, "add");
  run.world.call({ kind: "add-member", array: ARRAY_NAME, drive, force });
}

/** Draws the policy to change to. */
export function policyCommand(run: Run): CommandOf<"set-array"> {
  const consistencyPolicy = POLICIES[nextBelow(run.random, POLICIES.length)]!;
  admin(run, `policy ${consistencyPolicy}`);
  return { kind: "set-array", array: ARRAY_NAME, consistencyPolicy };
}

/** A member may fail meanwhile. */
function changePolicy(run: Run): void {
  const command = policyCommand(run);
  const changed = run.world.call<"set-array">(command);
  const now = run.world.status().consistencyPolicy;
  if (changed.ok && now !== command.consistencyPolicy) run.fail(`the policy is ${now}`);
}

export function newDrive(run: Run): string {
  const name = `drive${run.nextDrive}`;
  run.nextDrive += 1;
  const { driveBytes, sectorBytes, features } = run.plan;
  const blank = blankImage({ name, sizeBytes: driveBytes, sectorBytes });
  run.world.plug(features.has("used-drives") ? usedImage(run, blank) : blank);
  const attached = run.world.attach(name);
  if (!attached.ok) run.fail(`attach: ${attached.error.detail}`);
  run.present.push(name);
  return name;
}

/** What lies on it is no superblock, and reads as nothing that the oracle knows. */
function usedImage(run: Run, image: DeviceImage): DeviceImage {
  const pages = new Map<number, Uint8Array>();
  for (let page = 2 + nextBelow(run.random, 2); page < image.sizeBytes / PAGE_BYTES; page += 2) {
    pages.set(page, new Uint8Array(PAGE_BYTES).fill(1 + nextBelow(run.random, 255)));
  }
  return { ...image, pages };
}

function scrub(run: Run, status: ArrayStatus): void {
  const { random, world } = run;
  const { action } = status.sync;
  if (action === "check" || action === "repair") {
    const kind = nextBelow(random, 2) === 0 ? "pause-scrub" : "cancel-scrub";
    admin(run, kind);
    world.call({ kind, array: ARRAY_NAME });
    return;
  }
  const mode = nextBelow(random, 2) === 0 ? "check" : "repair";
  const limitBytesPerSecond = nextBelow(random, 2) === 0 ? null : MIB * (1 + nextBelow(random, 8));
  const restart = nextBelow(random, 2) === 0;
  admin(run, mode);
  world.call({ kind: "start-scrub", array: ARRAY_NAME, mode, limitBytesPerSecond, restart });
}

function stopAndStart(run: Run): void {
  const { world } = run;
  // A drive without room for its superblock leaves the array dirty: a stop is a crash then.
  if (run.plan.features.has("no-space") && !run.mayCrash()) return;
  admin(run, "stop");
  run.load.mayBeStopped = true;
  run.faults.isProven = false;
  const stopped = world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME, force: true });
  if (!stopped.ok) run.fail(`stop: ${stopped.error.detail}`);
  world.simulation.runFor(nextBelow(run.random, 20));
  run.mustStart({ force: false });
  world.simulation.runFor(20);
  run.load.mayBeStopped = false;
}
