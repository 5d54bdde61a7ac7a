/**
 * Another host takes the drives of a running array, one after the other, in any order and at any
 * moment (write-rules 21). From the first EBADE on nothing is submitted, recorded or acknowledged,
 * and no member is at fault. Then one of:
 *
 *   taken over   the other host assembles what the drives hold, without or with a power cut
 *   given back   the array is stopped, which writes nothing, and started once the drives are ours
 *
 * Each of them has to find every member that was in sync in sync, and all that was flushed.
 */
import type { ArrayStatus, CommandError, CommandOf } from "../../../src/array/protocol.ts";
import { EIO } from "../../../src/base/errno.ts";
import { nextBelow } from "../../../src/base/random.ts";
import type { Result } from "../../../src/base/result.ts";
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import { Role, roleOf } from "../../../src/md/superblock.ts";
import { superblockOf } from "../world/member-oracle.ts";
import { RunCounts } from "../world/run-counts.ts";
import type { Reservation } from "../world/sim-device.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import { expectationOf, type Run } from "./workload.ts";
import { startStopped } from "./workload-restart.ts";

const ROUNDS = 2;
const APART_MS_MAX = 60;
/** More than a fenced drive has to answer. */
const GIVEN_UP_MS = 200;
/** What waits for room looks as often whether it is to end. */
const ROOM_LOOK_MS = 1000;
const LOOK_STEP_MS = 20;
const FENCE_LIMIT_MS = 600_000;

export function beFenced(run: Run): void {
  for (let round = 0; round < ROUNDS; round += 1) {
    run.liveUntilCrash();
    if (run.mayCrash() && run.world.status().state !== "read-only") oneRound(run);
    else run.drain();
    run.heal();
    run.verify();
  }
}

function oneRound(run: Run): void {
  const { load, random } = run;
  load.mayFail = true;
  preempt(run);
  untilFenced(run);
  run.world.simulation.runFor(nextBelow(random, 300));
  tryCommands(run);
  run.drain();
  // What a drive that hangs owes is given up a moment after the fence, and a scrub may wait for it.
  run.world.simulation.runFor(GIVEN_UP_MS);
  untilRoomIsLookedFor(run);
  checkFenced(run);
  run.world.simulation.runFor(2000);
  checkQuiet(run);
  checkMembers(run);
  if (nextBelow(random, 3) === 0) giveBack(run);
  else takeOver(run);
  load.mayFail = false;
}

/** Drive by drive: at once, or one soon after the other. */
function preempt({ world, random, present }: Run): void {
  const left = [...present];
  const apartMs = nextBelow(random, 2) === 0 ? 0 : nextBelow(random, APART_MS_MAX);
  const reservation: Reservation = nextBelow(random, 2) === 0 ? "reads" : "nothing";
  for (let turn = 0; left.length > 0; turn += 1) {
    const [name] = left.splice(nextBelow(random, left.length), 1);
    const take = () => world.device(name!).reserve(reservation);
    if (turn === 0 || apartMs === 0) take();
    else world.simulation.scheduleAfter(turn * apartMs, take);
  }
}

/** A write of a whole stripe meets it, if nothing else does. */
function untilFenced(run: Run): void {
  const { world, load, plan } = run;
  const { simulation } = world;
  const isOver = () => run.hasFailed;
  const endMs = world.nowMs + FENCE_LIMIT_MS;
  while (!isOver() && load.isRunning && world.nowMs < endMs && simulation.step());
  const stripeSectors = ((plan.memberCount - 1) * plan.chunkBytes) / SECTOR_BYTES;
  for (let tries = 0; !isOver() && tries < 4; tries += 1) {
    simulation.runFor(APART_MS_MAX * plan.memberCount);
    void load.write(run.seats[0]!, 0, stripeSectors, true);
    const limitMs = world.nowMs + FENCE_LIMIT_MS;
    while (!isOver() && world.nowMs < limitMs && simulation.step());
  }
  run.check();
  if (run.changesAtFence < 0) run.fail("another host has the drives, and the array goes on");
  RunCounts.bump(run.counts.faults, "fenced");
}

/** All that would change something is refused. */
function tryCommands(run: Run): void {
  const { world } = run;
  const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode: "repair", restart: true } as const;
  const drive = world.status().members.find(({ state }) => state === "in-sync")!.drive!;
  refused(run, world.call<"start-scrub">({ ...scrub, limitBytesPerSecond: null }));
  refused(run, world.call<"fail-member">({ kind: "fail-member", array: ARRAY_NAME, drive }));
  const other = world.status().consistencyPolicy === "ppl" ? "resync" : "ppl";
  const change: CommandOf<"set-array"> = {
    kind: "set-array",
    array: ARRAY_NAME,
    consistencyPolicy: other,
  };
  refused(run, world.call<"set-array">(change));
  const erase = { kind: "delete-array", array: ARRAY_NAME, zeroSuperblocks: true } as const;
  refused(run, world.call<"delete-array">(erase));
}

/** A rebuild or a replace without room sleeps before it tries again, and then finds the fence. */
function untilRoomIsLookedFor({ world, plan }: Run): void {
  if (!plan.features.has("full") && !plan.features.has("no-space")) return;
  const endMs = world.nowMs + ROOM_LOOK_MS - GIVEN_UP_MS;
  while (world.status().sync.action !== "idle" && world.nowMs < endMs) {
    world.simulation.runFor(LOOK_STEP_MS);
  }
}

function refused(run: Run, result: Result<unknown, CommandError>): void {
  if (result.ok) run.fail("a command that writes is carried out on a fenced array");
}

function checkFenced(run: Run): void {
  const { world, load, oracle } = run;
  const status = world.status();
  if (status.state !== "fenced") run.fail(`fenced, and the state is ${status.state}`);
  if (status.reason?.includes("another host holds") !== true) run.fail(`reason: ${status.reason}`);
  if (status.sync.action !== "idle") run.fail(`fenced, and a ${status.sync.action} goes on`);
  const fenced = world.events.findLastIndex(({ kind }) => kind === "array.fenced");
  const blame = world.events
    .slice(fenced)
    .find(({ kind }) => /^(member|array)\.(fa|de)/.test(kind));
  if (blame !== undefined) run.fail(`fenced, and then: ${blame.message}`);
  const lba = nextBelow(run.random, oracle.sectorCount - 8);
  const answer = world.run(load.read(run.seats[0]!, lba, 8));
  if (answer !== EIO) run.fail(`a read of a fenced array is answered ${answer}`);
}

/** Nothing has come to any drive since the fence was noticed. */
function checkQuiet(run: Run): void {
  const since = run.world.changesSubmitted - run.changesAtFence;
  if (since !== 0) run.fail(`${since} requests came to the drives of a fenced array`);
}

/** By the superblocks each member that has its role is current, and none of them is told on. */
function checkMembers(run: Run): void {
  const status = run.world.status();
  const images = run.world.images().filter(({ name }) => run.present.includes(name));
  const known = images.flatMap((image) => {
    const superblock = superblockOf(image);
    return typeof superblock === "string" ? [] : [{ name: image.name, superblock }];
  });
  const newest = Math.max(...known.map(({ superblock }) => superblock.events));
  const current = known.flatMap(({ superblock }) =>
    superblock.events >= newest - 1 ? [superblock] : [],
  );
  for (const { role, drive, state } of status.members) {
    if (state !== "in-sync" && state !== "rebuilding") continue;
    const own = known.find(({ name }) => name === drive)?.superblock;
    if (own === undefined) run.fail(`member ${drive} has no superblock`);
    // A swap that is being taken back: those that are current know its target in the role.
    const isSwapped = known.some(({ superblock: { devNumber, events } }) => {
      const isOther = devNumber !== own.devNumber && events >= newest - 1;
      return isOther && current.every((superblock) => roleOf(superblock, devNumber) === role);
    });
    if (own.events < newest - 1) {
      if (isSwapped) continue;
      run.fail(`member ${drive} is at ${own.events} of ${newest}`);
    }
    for (const { name, superblock } of known) {
      const listed = roleOf(superblock, own.devNumber);
      // The swap of a replace has got that far, or is being taken back: there the target has it.
      const isSwap = known.some(({ superblock: { devNumber } }) => {
        return devNumber !== own.devNumber && roleOf(superblock, devNumber) === role;
      });
      if (listed !== role && isSwap) continue;
      const isCurrent = superblock.events >= newest - 1;
      if (isCurrent && listed === Role.faulty) run.fail(`${name} says that ${drive} is faulty`);
      if (superblock.events !== newest || listed === role || state !== "in-sync") continue;
      run.fail(`${name} gives ${drive} the role ${listed}`);
    }
  }
  if (isWhole(status) && expectationOf(images) !== "whole") {
    run.fail(`all members are in sync, and what they say is: ${expectationOf(images)}`);
  }
}

/** A rebuild may just be ending: then its superblocks decide. */
function isWhole({ members }: ArrayStatus): boolean {
  return members.every(({ state, recoveredBytes }) => {
    return state === "in-sync" && recoveredBytes === undefined;
  });
}

/** The other host assembles, with what the caches hold; or the power goes for all. */
function takeOver(run: Run): void {
  RunCounts.bump(run.counts.faults, "taken over");
  if (nextBelow(run.random, 3) === 0) run.crash();
  else run.crashWith(() => "keep");
}

function giveBack(run: Run): void {
  const { world, random, load } = run;
  RunCounts.bump(run.counts.faults, "given back");
  load.mayBeStopped = true;
  const stopped = world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME, force: true });
  if (!stopped.ok) run.fail(`stop: ${stopped.error.detail}`);
  checkQuiet(run);
  if (nextBelow(random, 2) === 0) startTooEarly(run);
  run.faults.quiet(world);
  for (const device of world.devices.values()) device.reserve(null);
  run.changesAtFence = -1;
  startStopped(run);
}

/** Refused with the reason; or it gets as far as a client's first write, and is stopped again. */
function startTooEarly(run: Run): void {
  const { world } = run;
  const started = world.startArray();
  if (!started.ok) {
    const isTold = ["fenced", "dirty-and-degraded"].includes(started.error.code);
    if (!isTold) run.fail(`start under a reservation: ${started.error.detail}`);
    return;
  }
  world.simulation.runFor(nextBelow(run.random, 400));
  const again = world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME, force: true });
  if (!again.ok) run.fail(`stop: ${again.error.detail}`);
}
