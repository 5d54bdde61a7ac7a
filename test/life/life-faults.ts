/**
 * What happens to the machine while the daemon runs, and between two of its lives. Disks are harmed
 * within the budget of the promise: of each array one at a time, and only while the others are in
 * sync. Now and then a fault goes beyond it; the array's truth then says what is still judged.
 */
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import type { ArrayTruth } from "./array-truth.ts";
import type { LifeProcess } from "./life-process.ts";
import type { Disk, SimHost } from "./sim-host.ts";
import { type SimStateFile, STATE_TROUBLES } from "./sim-state-file.ts";

const CLOCK_JUMP_MS_MAX = 100 * 365 * 86_400_000;

export interface FaultGround {
  readonly process: LifeProcess | null;
  readonly host: SimHost;
  readonly stateFile: SimStateFile;
  readonly random: SeededRandom;
  /** The arrays of which this disk carries a part, or held one when they were last whole. */
  truthsOf(disk: Disk): ArrayTruth[];
  /** Whether it has no resync, rebuild or missing member: one may be harmed. */
  isWhole(truth: ArrayTruth): boolean;
  bump(what: string): void;
}

/** One fault in so many goes beyond the promise. */
const BEYOND_ONE_IN = 25;
/** Kinds of `strike`, with their weights. */
export const WEIGHTS = {
  pull: 2,
  plug: 2,
  hang: 1,
  open: 2,
  "spoil state": 1,
  "cure state": 1,
  clock: 1,
  "cure disks": 1,
  "new disk": 1,
  full: 1,
  fenced: 1,
};

const STRIKES: Readonly<Record<keyof typeof WEIGHTS, (ground: FaultGround) => void>> = {
  pull: pullOne,
  plug: plugOne,
  hang: hangOne,
  open: spoilOpens,
  "spoil state": spoilState,
  "cure state": cureState,
  clock: jumpClock,
  "cure disks": cureDisks,
  "new disk": newDisk,
  full: fillFileSystem,
  fenced: fenceAll,
};

export function strike(ground: FaultGround): void {
  const entries = Object.entries(WEIGHTS) as [keyof typeof WEIGHTS, number][];
  let drawn = nextBelow(
    ground.random,
    entries.reduce((sum, [, weight]) => sum + weight, 0),
  );
  for (const [kind, weight] of entries) {
    drawn -= weight;
    if (drawn >= 0) continue;
    STRIKES[kind](ground);
    return;
  }
}

/** One cause for all members that lie there: it is no fault of any of them. */
function fillFileSystem(ground: FaultGround): void {
  const fileSystem = pick(ground.random, ground.host.fileSystems)!;
  fileSystem.isFull = !fileSystem.isFull;
  if (fileSystem.isFull) ground.bump("fault: full");
}

/** Another host takes all disks that have reservations, one after the other. */
function fenceAll(ground: FaultGround): void {
  const disks = plugged(ground).filter(({ fileSystem }) => fileSystem === null);
  const isFenced = disks.some((disk) => disk.isFenced);
  for (const disk of disks) disk.isFenced = !isFenced;
  if (!isFenced) ground.bump("fault: fenced");
}

function pick<T>(random: SeededRandom, from: readonly T[]): T | undefined {
  return from[nextBelow(random, Math.max(1, from.length))];
}

function plugged({ host }: FaultGround): Disk[] {
  return [...host.disks.values()].filter(({ isPlugged }) => isPlugged);
}

/** Takes the disk out of the budget of its arrays; false where it has to stay as it is. */
export function harm(ground: FaultGround, disk: Disk): boolean {
  // Which of two copies holds what the array holds, nobody could tell afterwards.
  if (ground.host.isTwinPlugged(disk)) return false;
  const truths = ground.truthsOf(disk);
  const isWithin = truths.every(
    (truth) => truth.out.has(disk.id) || (truth.out.size === 0 && ground.isWhole(truth)),
  );
  if (!isWithin) {
    if (nextBelow(ground.random, BEYOND_ONE_IN) > 0) return false;
    ground.bump("fault: beyond");
    for (const truth of truths) truth.worsen("may-lose");
  }
  for (const truth of truths) truth.out.add(disk.id);
  return true;
}

function pullOne(ground: FaultGround): void {
  const disk = pick(ground.random, plugged(ground));
  if (disk === undefined || !harm(ground, disk)) return;
  ground.host.pull(disk);
  ground.bump("fault: pull");
}

function plugOne(ground: FaultGround): void {
  const { host, random } = ground;
  const disk = pick(
    random,
    [...host.disks.values()].filter(({ isPlugged }) => !isPlugged),
  );
  if (disk === undefined) return;
  if (host.isTwinPlugged(disk)) return;
  const before = disk.path;
  host.plug(disk);
  ground.bump("fault: plug");
  if (disk.path !== before) ground.bump("fault: at another path");
}

function hangOne(ground: FaultGround): void {
  const disk = pick(ground.random, plugged(ground));
  if (disk?.device === undefined || disk.device === null || !harm(ground, disk)) return;
  disk.device.hang();
  disk.manner = "hangs";
  ground.bump("fault: hang");
}

function spoilOpens(ground: FaultGround): void {
  const { random } = ground;
  const disk = pick(random, plugged(ground));
  if (disk === undefined || disk.manner !== "prompt") return;
  const manner = pick(random, ["slow", "EIO", "in-use"] as const)!;
  // A member that cannot be opened is missing.
  if (manner !== "slow" && !harm(ground, disk)) return;
  disk.manner = manner;
  ground.bump(`fault: open ${manner}`);
}

function cureDisks({ host, random }: FaultGround): void {
  for (const disk of host.disks.values()) {
    if (disk.manner !== "prompt" && nextBelow(random, 2) === 0) host.letGo(disk);
  }
}

function spoilState(ground: FaultGround): void {
  const { stateFile, random } = ground;
  if (stateFile.trouble !== "none") return;
  stateFile.trouble = pick(random, STATE_TROUBLES)!;
  ground.bump(`fault: state ${stateFile.trouble}`);
}

function cureState({ stateFile }: FaultGround): void {
  stateFile.trouble = "none";
}

function jumpClock(ground: FaultGround): void {
  const { process, random } = ground;
  if (process === null) return;
  const byMs = nextBelow(random, CLOCK_JUMP_MS_MAX);
  const isBack = nextBelow(random, 2) === 0;
  const { simulation } = process.world;
  simulation.jumpWall(isBack ? -byMs : byMs);
  ground.bump(isBack ? "fault: clock back" : "fault: clock ahead");
  if (simulation.wallMs() < 86_400_000) ground.bump("fault: clock at 1970");
  if (simulation.wallMs() > 2 ** 31 * 1000) ground.bump("fault: clock after 2038");
}

function newDisk(ground: FaultGround): void {
  const { host, random } = ground;
  if (host.disks.size >= 9) return;
  const fileSystem = nextBelow(random, 3) === 0 ? host.fileSystems[0] : undefined;
  host.addDisk({ fileSystem });
  ground.bump("fault: new disk");
}

/** While the daemon does not run: disks move, stay away, come back, are copied. */
export function betweenLives(ground: FaultGround, { isBoot }: { isBoot: boolean }): void {
  const { host, random } = ground;
  if (isBoot) {
    for (const disk of host.disks.values()) disk.manner = "prompt";
    host.shuffleLetters();
    ground.bump("fault: letters shuffled");
  }
  for (let turn = nextBelow(random, 3); turn > 0; turn -= 1) {
    switch (nextBelow(random, 6)) {
      case 0:
        pullOne(ground);
        break;
      case 1:
        plugOne(ground);
        break;
      case 2:
        spoilOpens(ground);
        break;
      case 3:
        hangOpen(ground);
        break;
      case 4:
        cloneOne(ground);
        break;
      default:
        spoilState(ground);
    }
  }
}

function hangOpen(ground: FaultGround): void {
  const disk = pick(ground.random, plugged(ground));
  if (disk === undefined || !harm(ground, disk)) return;
  disk.manner = "hangs";
  ground.bump("fault: open hangs");
}

/** Both are there from now on: which of them is the member is for the daemon to see. */
function cloneOne(ground: FaultGround): void {
  const { host, random } = ground;
  const disk = pick(random, plugged(ground));
  if (disk === undefined || host.disks.size >= 9 || disk.byId === null) return;
  host.clone(disk);
  ground.bump("fault: clone");
}
