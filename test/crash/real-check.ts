/**
 * Recovers a crash image with the product: drives attached in a new world, the array assembled by
 * the real service, resynced or rebuilt by the real engine, and every sector read through it.
 *
 * | by the superblocks | what the product has to do                                            |
 * |--------------------|-----------------------------------------------------------------------|
 * | whole              | start by itself (asked, without a replacement that is listed); resync |
 * |                    | or rebuild; clean, and parity holds                                   |
 * | degraded           | start when asked, every sector right; with a new drive whole again    |
 * | refused            | refuse; forced: right, but for rows in flight on the missing member   |
 * | too few            | refuse                                                                |
 */
import type { AssemblyPlan } from "../../src/md/assemble/assembly-plan.ts";
import type { Superblock } from "../../src/md/superblock.ts";
import { DeviceTrace } from "../sim/world/device-trace.ts";
import { isReplayed } from "../sim/world/expected-assembly.ts";
import type { DeviceImage } from "../sim/world/media.ts";
import { parityMismatches, viewMembers } from "../sim/world/member-oracle.ts";
import { ARRAY_NAME, SimWorld } from "../sim/world/sim-world.ts";
import { CrashLoad, type CrashMark } from "./crash-load.ts";
import { badRowsOf, type Expected, type Hole, type Promises } from "./light-check.ts";
import { placeOf } from "./zones.ts";

const SETTLE_MS = 600_000;
const NEW_DRIVE = "replacement";

export interface RealOptions {
  /** Those that are attached. */
  readonly images: readonly DeviceImage[];
  readonly expected: Expected;
  readonly promises: Promises;
  readonly seed: number;
  /** A degraded array gets a new drive, which is rebuilt. */
  readonly isHealed: boolean;
  /** Sectors that were in flight may hold garbage. */
  readonly isTorn: boolean;
  /** Rows with a bad sector may be lost: that and a crash, or a lost drive, are two faults. */
  readonly mayLose: boolean;
}

/** Null, or what is wrong. */
export function realCheck(options: RealOptions): string | null {
  const world = SimWorld.restart(options.images, { seed: options.seed });
  const wrong = new RealCheck(world, options).run();
  return wrong === null ? null : `real assembly (${options.expected.kind}): ${wrong}`;
}

class RealCheck {
  private readonly world: SimWorld;
  private readonly options: RealOptions;
  private readonly load: CrashLoad;

  constructor(world: SimWorld, options: RealOptions) {
    this.world = world;
    this.options = options;
    const oracle = options.promises.oracle.clone();
    this.load = new CrashLoad({ world, oracle, trace: null });
  }

  run(): string | null {
    const { expected } = this.options;
    const { world } = this;
    const arrays = world.must<"list-arrays">({ kind: "list-arrays" });
    if (expected.kind === "nothing" || expected.kind === "wrong") {
      return arrays.length === 0 ? null : "an array, of drives without a superblock";
    }
    const isRunning = arrays.length === 1 && arrays[0]!.state !== "inactive";
    if (expected.kind === "whole") {
      // One that waits for who is to replace a member does without when it is asked to.
      const isWaiting = !isRunning && this.lacksTarget(expected.plan);
      if (isWaiting && !world.startArray().ok) return "not started without a target";
      if (!isRunning && !isWaiting) return `not assembled: ${arrays[0]?.reason ?? "no array"}`;
      return this.checkWhole(expected.plan);
    }
    if (!isRunning) {
      const started = world.startArray();
      if (expected.kind === "degraded") {
        if (!started.ok) return `clean and degraded, but refused: ${started.error.detail}`;
        return this.checkDegraded(expected.plan);
      }
      if (started.ok) return `started, although ${expected.kind}`;
      const code = expected.kind === "refused" ? "dirty-and-degraded" : "too-few-members";
      if (started.error.code !== code) return `refused for another reason: ${started.error.detail}`;
      return expected.kind === "refused" ? this.checkForced(expected.plan) : null;
    }
    return expected.kind === "degraded"
      ? this.checkDegraded(expected.plan)
      : `assembled by itself, although ${expected.kind}`;
  }

  private lacksTarget({ freshest, roles }: AssemblyPlan): boolean {
    return roles.some((entry, role) => {
      const listed = freshest.devRoles.filter((each) => each === role).length;
      return listed > 1 && entry.state === "in-sync" && entry.replacement === null;
    });
  }

  private checkWhole(plan: AssemblyPlan): string | null {
    return this.readAll(plan) ?? this.settle() ?? this.checkMembers(plan);
  }

  private checkDegraded(plan: AssemblyPlan): string | null {
    const wrong = this.readAll(plan);
    if (wrong !== null) return wrong;
    const isRebuilding = plan.roles.some(({ state }) => state === "rebuilding");
    if (isRebuilding || plan.spares.length > 0) return this.settle() ?? this.checkMembers(plan);
    return this.options.isHealed ? this.heal(plan) : null;
  }

  private checkForced(plan: AssemblyPlan): string | null {
    const started = this.world.startArray({ force: true });
    if (!started.ok) return `not even with force: ${started.error.detail}`;
    return this.readAll(plan) ?? (this.options.isHealed ? this.heal(plan) : null);
  }

  /** A new drive for the missing member; a role that rebuilds goes on by itself. */
  private heal(plan: AssemblyPlan): string | null {
    const { world } = this;
    if (plan.roles.every(({ state }) => state !== "rebuilding")) {
      const { sizeBytes, sectorBytes } = this.options.images[0]!;
      world.addDrive({ name: NEW_DRIVE, sizeBytes, sectorBytes });
      const added = world.call<"add-member">({
        kind: "add-member",
        array: ARRAY_NAME,
        drive: NEW_DRIVE,
        force: false,
      });
      if (!added.ok) return `no new drive is taken: ${added.error.detail}`;
    }
    return this.settle() ?? this.checkMembers(plan);
  }

  /** Background work comes to its end, and the array is whole and clean. */
  private settle(): string | null {
    const { world } = this;
    const endMs = world.nowMs + SETTLE_MS;
    for (;;) {
      const status = world.status();
      if (status.state === "clean" && status.sync.action === "idle") return null;
      if (status.state === "failed" || status.state === "read-only" || world.nowMs > endMs) {
        return `it does not become clean: ${status.state} (${status.reason ?? ""})`;
      }
      world.simulation.runFor(10);
    }
  }

  /** Whole and clean: what was read stays, and parity holds, seen from outside. */
  private checkMembers(plan: AssemblyPlan): string | null {
    const wrong = this.readAll(plan, true);
    if (wrong !== null) return `after the recovery: ${wrong}`;
    const sectors = arraySectors(plan.freshest);
    if (this.load.sectorCount !== sectors && !this.hasNotBegun(plan)) {
      return `it has not become ${sectors} sectors large`;
    }
    if (this.options.mayLose) return null;
    const used = new Set(this.world.status().members.map(({ drive }) => drive));
    const members = this.world.images().filter(({ name }) => used.has(name));
    const rows = parityMismatches(viewMembers(members));
    return rows.length === 0 ? null : `parity does not hold in the rows at ${rows.slice(0, 4)}`;
  }

  /** Only a drive that was to become a member knew of the growth, and came behind the others. */
  private hasNotBegun({ reshape }: AssemblyPlan): boolean {
    return reshape?.positionSectors === 0 && this.world.status().spares.length > 0;
  }

  /** Row by row where something may be wrong, otherwise all at once. */
  private readAll(plan: AssemblyPlan, isRecovered = false): string | null {
    const { promises, isTorn, mayLose } = this.options;
    // One that grows has its old size until it is through.
    const count = Math.min(promises.allowed.length, this.load.sectorCount);
    for (let lba = count; lba < promises.allowed.length; lba += 1) {
      if (!promises.isUnwritten(lba)) return `sector ${lba} is behind the end of the array`;
    }
    const isGivenUp = givenUpBy(promises, plan);
    const isFree = (lba: number) => isGivenUp(lba) || promises.isFree(lba);
    if (!isTorn && !mayLose) {
      for (const [lba, sectors] of runsWithout(isFree, 0, count)) {
        const wrong = this.readRange(lba, sectors);
        if (wrong !== null) return wrong;
      }
      return null;
    }
    for (let row = 0; row < count; row += 8) {
      const isBad = mayLose && this.hasBadRow(plan, row);
      // A bad sector in a row that was being written at a crash is a chunk of a lost member there.
      const isBadHole =
        isBad && plan.resyncFromSector !== null && isColumnOpen(promises, plan, row);
      if (isBadHole || (isTorn && isAnyOpen(promises, row))) continue;
      // Until the resync has been there nothing proves what parity says.
      const isLost = isBad && (plan.degraded > 0 || !isRecovered);
      for (const [lba, sectors] of runsWithout(isFree, row, row + 8)) {
        const wrong = this.readRange(lba, sectors, isLost);
        if (wrong !== null) return wrong;
      }
    }
    return null;
  }

  /** Whether any member has the row of this sector in its bad-block log. */
  private hasBadRow(plan: AssemblyPlan, lba: number): boolean {
    const place = placeOf(plan.freshest, lba);
    if (place === null) return false;
    return plan.roles.some((entry) => {
      if (entry.state === "missing") return false;
      const image = this.options.images.find(({ name }) => name === entry.drive)!;
      return badRowsOf(image, entry.superblock).has(place.memberRow);
    });
  }

  private readRange(lba: number, sectors: number, isLost = false): string | null {
    const answer = this.world.run(this.load.read(lba, sectors));
    if (answer === 0) return null;
    if (typeof answer !== "number") return answer.message;
    if (isLost) return null;
    return `a read of ${sectors} sectors at ${lba} is answered with errno ${answer}`;
  }
}

function isAnyOpen(promises: Promises, lba: number): boolean {
  for (let sector = lba; sector < lba + 8; sector += 1) if (promises.isOpen(sector)) return true;
  return false;
}

/** Whether any chunk of the stripe was being written in the row that begins with this sector. */
function isColumnOpen(promises: Promises, { freshest }: AssemblyPlan, lba: number): boolean {
  const column = placeOf(freshest, lba)?.column ?? [];
  return column.some((sector) => isAnyOpen(promises, sector));
}

/** Of the array, when a reshape that is under way is through. */
function arraySectors({ sizeSectors, chunkSectors, memberCount }: Superblock): number {
  return Math.floor(sizeSectors / chunkSectors) * chunkSectors * (memberCount - 1);
}

/** A recovery that is recorded, with clients at work, to be crashed again. */
export interface RecordedRecovery {
  readonly trace: DeviceTrace<CrashMark>;
  /** As it was when the recovery began; what was read then is decided. */
  readonly oracle: Promises["oracle"];
  readonly hole: Hole | null;
}

/**
 * What a start of this plan gives up. With force: the missing member's sectors in rows that were in
 * flight. After a replay of the log: those of its sectors that were in flight themselves.
 */
function holeOf(promises: Promises, plan: AssemblyPlan): Hole | null {
  const isGivenUp = givenUpBy(promises, plan);
  const sectors = new Set<number>();
  for (let lba = 0; lba < promises.allowed.length; lba += 1) {
    if (isGivenUp(lba) || promises.isFree(lba)) sectors.add(lba);
  }
  return sectors.size === 0 ? null : { sectors, lastVersion: promises.oracle.lastVersion };
}

function givenUpBy(promises: Promises, plan: AssemblyPlan): (lba: number) => boolean {
  if (plan.resyncFromSector === null || plan.degraded === 0) return () => false;
  const missing = plan.roles.findIndex(({ state }) => state !== "in-sync");
  const isOnMissing = (lba: number) => placeOf(plan.freshest, lba)?.role === missing;
  if (isReplayed(plan.freshest)) return (lba) => isOnMissing(lba) && promises.isOpen(lba);
  return (lba) => isOnMissing(lba) && isColumnOpen(promises, plan, lba - (lba % 8));
}

/**
 * Recovers an array that is whole, or clean and degraded, or forced, and writes; else what is
 * wrong.
 */
export function recordRecovery(options: {
  images: readonly DeviceImage[];
  expected: Expected & { plan: AssemblyPlan };
  promises: Promises;
  seed: number;
  work: (load: CrashLoad) => void;
}): RecordedRecovery | string {
  const { promises, expected } = options;
  const trace = new DeviceTrace<CrashMark>();
  const oracle = promises.oracle.clone();
  const world = SimWorld.restart(options.images, { seed: options.seed, trace });
  const [array] = world.must<"list-arrays">({ kind: "list-arrays" });
  if (array === undefined) return "no array";
  if (array.state === "inactive") {
    const started = world.startArray({ force: expected.kind === "refused" });
    if (!started.ok) return `not started: ${started.error.detail}`;
  }
  const load = new CrashLoad({ world, oracle, trace });
  const hole = holeOf(promises, expected.plan);
  const isFree = (lba: number) => hole?.sectors.has(lba) === true;
  for (const [lba, sectors] of runsWithout(isFree, 0, load.sectorCount)) {
    const answer = world.run(load.read(lba, sectors));
    if (answer !== 0) return typeof answer === "number" ? `errno ${answer}` : answer.message;
  }
  const decided = oracle.clone();
  options.work(load);
  world.simulation.runFor(500);
  world.settle();
  return { trace, oracle: decided, hole };
}

/** Runs of sectors from `from` to `to` without those that `isLeftOut`. */
function* runsWithout(
  isLeftOut: (lba: number) => boolean,
  from: number,
  to: number,
): Generator<[lba: number, sectors: number]> {
  let first = from;
  for (let lba = from; lba <= to; lba += 1) {
    if (lba < to && !isLeftOut(lba)) continue;
    if (lba > first) yield [first, lba - first];
    first = lba + 1;
  }
}
