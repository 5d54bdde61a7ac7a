/**
 * Two members of a running array fail, at once or one soon after the other (promise 3, write-rules
 * 15): from then on nothing is submitted to any member and no write is acknowledged, and what a
 * member still gives is served. Then both come back, as after a loose cable or a power cycle, and
 * the array starts again with all that was flushed.
 */
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { nextBelow } from "../../../src/base/random.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { RunCounts } from "../world/run-counts.ts";
import type { CrashPolicy, SimDevice } from "../world/sim-device.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import type { Run } from "./workload.ts";
import { startStopped } from "./workload-restart.ts";

const APART_MS_MAX = 40;
const FAIL_LIMIT_MS = 60_000;
const SAMPLES = 40;
const SECTORS_PER_ROW = ROW_BYTES / SECTOR_BYTES;
const VANISH_POLICIES: readonly CrashPolicy[] = ["keep", "drop", "random"];

/** Whether what is lost with two members is what the load can tell. */
export function canLoseTwo(run: Run): boolean {
  const { sync, state, spares, members } = run.world.status();
  // A rebuild may end, also that of a spare, before anybody notices the second loss; and a copy:
  // then the lost drive is no member any more.
  const isCopied = members.some(({ replacement }) => replacement !== undefined);
  const isBuilt = sync.action === "resync" || sync.action === "rebuild";
  const isBusy = isBuilt || isCopied || spares.length > 0;
  return run.mayCrash() && !isBusy && state !== "read-only";
}

export function loseTwo(run: Run): void {
  const { load } = run;
  const victims = chooseVictims(run);
  load.mayFail = true;
  strike(run, victims);
  untilFailed(run);
  const status = run.world.status();
  run.world.simulation.runFor(nextBelow(run.random, 200));
  tryCommands(run);
  run.drain();
  readWhatIsThere(run, status);
  run.world.simulation.runFor(2000);
  if (run.submittedCount !== 0) {
    run.fail(`submitted with two members gone: ${run.submittedAfterFailure()}`);
  }
  RunCounts.bump(run.counts.faults, "two members");
  run.faults.quiet(run.world);
  if (nextBelow(run.random, 2) === 0) run.crash();
  else reconnect(run, victims);
  load.mayFail = false;
}

/** Two that are in sync, or one where one is missing; the victim of before is among them. */
function chooseVictims(run: Run): SimDevice[] {
  const { world, faults, random } = run;
  const status = world.status();
  const inSync = status.members.flatMap(({ state, drive }) =>
    state === "in-sync" && drive !== null ? [drive] : [],
  );
  const wanted = status.degraded > 0 ? 1 : 2;
  // It may be gone unnoticed, or a request of its may be about to fail.
  const chosen = inSync.filter((name) => name === faults.victim);
  while (chosen.length < wanted) {
    const name = inSync[nextBelow(random, inSync.length)]!;
    if (!chosen.includes(name)) chosen.push(name);
  }
  // The others work from now on: reads of theirs have to be served.
  for (const name of inSync) if (!chosen.includes(name)) faults.heal(world.device(name));
  return chosen.map((name) => world.device(name));
}

function strike({ world, random }: Run, victims: readonly SimDevice[]): void {
  const apartMs = nextBelow(random, 2) === 0 ? 0 : nextBelow(random, APART_MS_MAX);
  for (const [index, device] of victims.entries()) {
    const isVanishing = nextBelow(random, 2) === 0;
    const policy = VANISH_POLICIES[nextBelow(random, VANISH_POLICIES.length)]!;
    const hit = () => {
      // As a lost drive answers, or as one whose every sector is bad. One that wrote all the same
      // could have a row on its bad-block log that is good, and lost beside a missing member.
      const errno = nextBelow(random, 2) === 0 ? ENXIO : EIO;
      const fault = { kind: "dead", errno } as const;
      if (isVanishing) device.vanish(policy);
      else device.faults.plan({ fault, count: Number.POSITIVE_INFINITY });
    };
    if (index === 0 || apartMs === 0) hit();
    else world.simulation.scheduleAfter(apartMs, hit);
  }
}

/** Until both failures are seen; a write of a whole stripe meets both. */
function untilFailed(run: Run): void {
  const { world, load, plan } = run;
  const { simulation } = world;
  const endMs = world.nowMs + FAIL_LIMIT_MS;
  const stripeSectors = ((plan.memberCount - 1) * plan.chunkBytes) / SECTOR_BYTES;
  while (!run.hasFailed && load.isRunning && world.nowMs < endMs && simulation.step());
  for (let tries = 0; !run.hasFailed && tries < 4; tries += 1) {
    simulation.runFor(APART_MS_MAX);
    void load.write(run.seats[0]!, 0, stripeSectors, true);
    const limitMs = world.nowMs + FAIL_LIMIT_MS;
    while (!run.hasFailed && world.nowMs < limitMs && simulation.step());
  }
  run.check();
  if (!run.hasFailed) run.fail("two members are gone, and the array has not failed");
}

/** Commands that would write, were they not refused. */
function tryCommands({ world }: Run): void {
  const scrub = { kind: "start-scrub", array: ARRAY_NAME, mode: "repair", restart: true } as const;
  world.call({ ...scrub, limitBytesPerSecond: null });
  world.call({ kind: "set-array", array: ARRAY_NAME, syncSpeedMax: 1 << 30 });
}

/** What lies on a member that is there is read as ever. */
function readWhatIsThere(run: Run, { members }: ArrayStatus): void {
  const { world, load, oracle, random } = run;
  let served = 0;
  for (let turn = 0; turn < SAMPLES; turn += 1) {
    const row = nextBelow(random, oracle.sectorCount / SECTORS_PER_ROW);
    const lba = row * SECTORS_PER_ROW;
    const answer = world.run(load.read(run.seats[0]!, lba, SECTORS_PER_ROW));
    run.check();
    if (members[run.roleOf(lba)]!.state !== "in-sync") continue;
    if (answer !== 0) run.fail(`sector ${lba} is on a member that is there, and not served`);
    served += 1;
  }
  RunCounts.bump(run.counts.states, "reads served with two members gone", served);
}

/** The drives are there again, in the machine that runs on. */
function reconnect(run: Run, victims: readonly SimDevice[]): void {
  const { world, random } = run;
  run.load.mayBeStopped = true;
  const stopped = world.call<"stop-array">({ kind: "stop-array", array: ARRAY_NAME, force: true });
  if (!stopped.ok) run.fail(`stop: ${stopped.error.detail}`);
  if (run.submittedCount !== 0) run.fail("the stop of a failed array wrote something");
  if (nextBelow(random, 2) === 0) {
    for (const { name } of victims) {
      world.must({ kind: "detach-drive", name, force: true });
      const attached = world.attach(name);
      if (!attached.ok) run.fail(`attach: ${attached.error.detail}`);
    }
  }
  startStopped(run);
}
