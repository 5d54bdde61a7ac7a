/**
 * One seeded run of the whole product in the simulator, with an oracle that knows every sector.
 *
 *   create ─► epochs of load, faults and administration (safety) ─► faults stop (liveness)
 *                 └─ crash ─► restart from the images ─┘              ─► every sector is judged
 *
 * Safety: within the fault budget (workload-faults.ts) every request is answered with success and
 * every read with what the oracle allows. Liveness: once faults have stopped the array is clean and
 * whole within a bound, every sector reads right, a check finds nothing, and the members' bytes,
 * looked at from outside, obey the parity equation.
 *
 * A crash with all members in sync loses nothing. A crash while one was missing is the write hole,
 * except with the partial parity log: assembly must refuse until it is forced, and then only rows
 * that were not stable (written and not known to be durable) may be wrong; they are written anew.
 */
import type { ArrayEvent, ArrayStatus } from "../../../src/array/protocol.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES } from "../../../src/md/superblock.ts";
import { type ExpectedAssembly, expectedAssembly } from "../world/expected-assembly.ts";
import { withFineBitmap } from "../world/fine-bitmap.ts";
import type { DeviceImage } from "../world/media.ts";
import {
  type Area,
  areasOf,
  parityMismatches,
  strayWrites,
  superblockOf,
  viewMembers,
} from "../world/member-oracle.ts";
import { SectorOracle } from "../world/oracle.ts";
import { RunCounts } from "../world/run-counts.ts";
import type { CrashPolicy } from "../world/sim-device.ts";
import { ARRAY_NAME, SimWorld } from "../world/sim-world.ts";
import { SlimTrace } from "../world/slim-trace.ts";
import { administrate, newDrive, policyCommand, replace } from "./workload-admin.ts";
import { harmSilently, lieAboutFlushes } from "./workload-beyond.ts";
import { CopyActor } from "./workload-copy.ts";
import { canLoseTwo, loseTwo } from "./workload-double.ts";
import { FaultActor, hasBadBlocks } from "./workload-faults.ts";
import { beFenced } from "./workload-fence.ts";
import { Load, type Range } from "./workload-load.ts";
import { passFaults } from "./workload-passing.ts";
import { drawPlan, type Plan } from "./workload-plan.ts";
import { Seat } from "./workload-seat.ts";
import { SpaceActor } from "./workload-space.ts";

const STEP_MS_MAX = 40;
const DRAIN_MS = 3_600_000;
const HEAL_MS = 600_000;
const CLOCK_JUMP_MS_MAX = 400 * 86_400_000;
const SECTORS_PER_ROW = ROW_BYTES / SECTOR_BYTES;
const CRASH_POLICIES: readonly CrashPolicy[] = ["keep", "drop", "random"];

/** Its first line repeats the run. */
export class RunFailure extends Error {
  override readonly name = "RunFailure";
}

/** Runs one seed; throws with the line that repeats it. */
export function runSeed(seed: number, counts: RunCounts = new RunCounts()): string {
  return new Run(seed, counts).guarded();
}

export class Run {
  readonly seed: number;
  readonly counts: RunCounts;
  readonly random: SeededRandom;
  readonly plan: Plan;
  readonly faults: FaultActor;
  readonly oracle: SectorOracle;
  readonly load: Load;
  readonly space: SpaceActor;
  readonly copies: CopyActor;
  private trace = new SlimTrace();
  world: SimWorld;
  seats: Seat[] = [];
  /** Two members are gone, and the array has said so. */
  hasFailed = false;
  /** What had reached the drives by then: writes and flushes. */
  private submittedAtFailure = 0;
  /** What had come to the drives when the array was fenced; -1: it was not. */
  changesAtFence = -1;
  /** Attached drives. */
  present: string[] = [];
  /** Attached no more, and still there. */
  removed: string[] = [];
  nextDrive = 0;
  private wallAheadMs = 0;

  constructor(seed: number, counts: RunCounts) {
    this.seed = seed;
    this.counts = counts;
    this.random = new SeededRandom(seed);
    this.plan = drawPlan(seed, this.random.split());
    this.faults = new FaultActor({ plan: this.plan, random: this.random.split() });
    this.world = this.makeWorld();
    const { sizeBytes } = this.create();
    const sectorCount = sizeBytes / SECTOR_BYTES;
    this.oracle = new SectorOracle({ seed, sectorCount });
    const { plan, oracle } = this;
    const hasFailed = () => this.hasFailed;
    this.load = new Load({ plan, oracle, random: this.random.split(), hasFailed });
    this.space = new SpaceActor(this);
    this.copies = new CopyActor(this);
  }

  /** As `run`; what is thrown tells how to repeat it. */
  guarded(): string {
    try {
      return this.run();
    } catch (error) {
      if (error instanceof RunFailure) throw error;
      const { name, message, stack } = error as Error;
      throw this.failure(`${name}: ${message}\n${stack ?? ""}`);
    }
  }

  /** The hash of everything that happened. */
  private run(): string {
    const { plan } = this;
    this.connect();
    if (plan.features.has("used-drives")) this.overwriteAll();
    else if (!plan.features.has("early")) this.world.settle();
    for (let epoch = 0; epoch < plan.epochs; epoch += 1) {
      const isCrash = plan.features.has("crash") && nextBelow(this.random, 3) > 0;
      const isDouble = plan.features.has("two-members") && nextBelow(this.random, 2) === 0;
      if (isCrash || isDouble) this.liveUntilCrash();
      else this.liveOn();
      if (isDouble && canLoseTwo(this)) loseTwo(this);
      else if (isCrash && this.mayCrash()) this.crash();
      else this.drain();
    }
    this.heal();
    this.verify();
    if (plan.features.has("silent")) harmSilently(this);
    if (plan.features.has("lies")) lieAboutFlushes(this);
    if (plan.features.has("fence")) beFenced(this);
    if (plan.features.has("passing")) passFaults(this);
    this.count();
    return this.world.simulation.traceHash;
  }

  // Safety -----------------------------------------------------------------------------------

  private liveOn(): void {
    this.load.start(this.world, this.seats);
    this.live(Number.POSITIVE_INFINITY, false);
  }

  /** Crashes come at any time, and where they hurt most: see each case. */
  liveUntilCrash(): void {
    const { random, world } = this;
    const isAfterClean = nextBelow(random, 3) === 0;
    // The first writes after the array was clean: the dirty mark is just being written.
    if (isAfterClean) world.simulation.runFor(400);
    this.load.start(world, this.seats);
    // A member that fails: the others are just being told.
    const isAfterFailure = !isAfterClean && nextBelow(random, 2) === 0;
    this.load.isAllFua = isAfterFailure;
    if (!isAfterClean) this.live(nextBelow(random, 400), isAfterFailure);
    const isInChange = this.plan.features.has("policy") && nextBelow(random, 3) === 0;
    if (isInChange) void world.command(policyCommand(this));
    const mostSteps = isInChange ? 600 : isAfterClean ? 120 : 4 << nextBelow(random, 5);
    for (let steps = nextBelow(random, mostSteps); steps > 0; steps -= 1) world.simulation.step();
    this.load.isAllFua = false;
    this.check();
  }

  /**
   * Lets the load run, with what happens beside it, for so many virtual milliseconds at most; with
   * `isToFail` until a member has failed.
   */
  private live(forMs: number, isToFail: boolean): void {
    const { world, random } = this;
    const untilMs = world.nowMs + forMs;
    const hasFailed = () => isToFail && world.events.at(-1)?.kind === "array.degraded";
    while (this.load.isRunning && world.nowMs < untilMs && !hasFailed()) {
      const stepMs = world.nowMs + 1 + nextBelow(random, STEP_MS_MAX);
      if (isToFail) while (world.nowMs < stepMs && !hasFailed() && world.simulation.step());
      else world.simulation.runFor(stepMs - world.nowMs);
      this.check();
      this.jumpClock();
      this.space.act();
      if (hasFailed()) return;
      const status = this.look();
      if (isToFail) this.faults.strike(world, status);
      else if (nextBelow(random, 2) === 0) this.faults.act(world, status);
      if (!isToFail && nextBelow(random, 6) === 0) administrate(this, status);
      if (!isToFail) this.copies.act(this.world.status());
    }
  }

  /** The wall clock steps, as after a correction by hand; nothing but time stamps may notice. */
  private jumpClock(): void {
    if (!this.plan.features.has("clock") || nextBelow(this.random, 8) > 0) return;
    RunCounts.bump(this.counts.faults, "clock jump");
    const byMs = nextBelow(this.random, CLOCK_JUMP_MS_MAX);
    this.world.simulation.jumpWall(nextBelow(this.random, 2) === 0 ? byMs : -byMs);
  }

  drain(): void {
    this.load.finish();
    this.world.simulation.runUntil(() => !this.load.isRunning || this.load.violations.length > 0, {
      limitMs: DRAIN_MS,
    });
    this.check();
  }

  /** A snapshot, which is counted. */
  private look(): ArrayStatus {
    const status = this.world.status();
    RunCounts.bump(this.counts.states, `array ${status.state}`);
    RunCounts.bump(this.counts.states, `sync ${status.sync.action}`);
    for (const { state } of status.members) {
      if (state !== "in-sync") RunCounts.bump(this.counts.states, `member ${state}`);
    }
    if (status.state === "failed") this.fail("two members are missing, and one was harmed");
    return status;
  }

  check(): void {
    const [violation] = this.load.violations;
    if (violation !== undefined) this.fail(violation);
  }

  fail(message: string): never {
    throw this.failure(message);
  }

  private failure(message: string): RunFailure {
    const { simulation, events } = this.world;
    const told = events.slice(-12).map(({ kind, message: text }) => `  ${kind}: ${text}`);
    return new RunFailure(
      [
        `SEED=${this.seed} bun test test/sim`,
        message,
        `at ${simulation.nowMs()} ms; victim ${this.faults.victim}`,
        `features: ${[...this.plan.features].join(" ")}`,
        "last events:",
        ...told,
        "last of the trace:",
        ...simulation.recentTrace.slice(-60),
      ].join("\n"),
    );
  }

  mustStart(options: { force: boolean }): void {
    const started = this.world.startArray(options);
    if (!started.ok) this.fail(`start: ${started.error.code}: ${started.error.detail}`);
  }

  // Crash ------------------------------------------------------------------------------------

  /** A bad sector and a crash together are the write hole: a row cannot be resynced. */
  mayCrash(): boolean {
    return !this.faults.hasLatent && !hasBadBlocks(this.world);
  }

  crash(): void {
    const { random } = this;
    const policy = CRASH_POLICIES[nextBelow(random, CRASH_POLICIES.length)]!;
    const isMixed = nextBelow(random, 4) === 0;
    RunCounts.bump(this.counts.crashes, isMixed ? "mixed" : policy);
    this.crashWith(() =>
      isMixed ? CRASH_POLICIES[nextBelow(random, CRASH_POLICIES.length)]! : policy,
    );
  }

  /** The power is cut, and the machine starts again; the answer is what the drives held. */
  crashWith(policyOf: (name: string) => CrashPolicy): DeviceImage[] {
    const { random } = this;
    const degradedBefore = this.world.status().degraded;
    this.count();
    const images = this.world.crash(policyOf);
    this.load.abandon();
    this.oracle.crash();
    const unstable = this.load.takeUnstable();
    const isLeftOut = (name: string) =>
      this.faults.vanished.has(name) && nextBelow(random, 2) === 0;
    const kept = images.filter(({ name }) => this.present.includes(name) && !isLeftOut(name));
    this.present = kept.map(({ name }) => name);
    this.removed = [];
    this.faults.restarted();
    this.space.restarted();
    this.hasFailed = false;
    this.changesAtFence = -1;
    let found = kept;
    while (this.plan.features.has("crash-in-start") && nextBelow(random, 3) === 0) {
      found = this.crashInStart(found, policyOf);
    }
    this.restart();
    for (const image of found) {
      // From its first crash on an array has a bitmap of many bits.
      this.world.plug(withFineBitmap(image));
      const attached = this.world.attach(image.name);
      if (!attached.ok) this.fail(`attach: ${attached.error.detail}`);
    }
    const isForced = this.assemble(found, degradedBefore);
    this.connect();
    if (isForced) this.rewriteRows(unstable);
    else this.rewriteTorn(unstable, found);
    return found;
  }

  private restart(): void {
    this.wallAheadMs += this.world.nowMs + 60_000;
    this.trace = new SlimTrace();
    this.world = this.makeWorld();
  }

  /** The machine starts and is cut off again, in the middle of the start or soon after it. */
  private crashInStart(
    images: readonly DeviceImage[],
    policyOf: (name: string) => CrashPolicy,
  ): DeviceImage[] {
    RunCounts.bump(this.counts.crashes, "in a start");
    this.restart();
    const { world, random } = this;
    for (const image of images) world.plug(image);
    for (const { name } of images.slice(0, -1)) world.attach(name);
    void world.command({ kind: "attach-drive", drive: world.openDriveOf(images.at(-1)!.name) });
    let steps = nextBelow(random, 4 << nextBelow(random, 8));
    // Where it does not start by itself it is asked to.
    if (nextBelow(random, 2) === 0) {
      for (; steps > 40 && world.simulation.step(); steps -= 1);
      void world.command({ kind: "start-array", array: ARRAY_NAME, force: false, readOnly: false });
    }
    while (steps > 0 && world.simulation.step()) steps -= 1;
    return world.crash(policyOf);
  }

  /**
   * The members held other things before. Every sector is written while the first resync runs, so
   * that all rows are proven and a member may be lost before it has ended.
   */
  private overwriteAll(): void {
    const { world, plan } = this;
    const slowly = { syncSpeedMax: plan.memberSizeBytes, syncSpeedMin: plan.memberSizeBytes };
    world.must({ kind: "set-array", array: ARRAY_NAME, ...slowly });
    this.writeAll();
    this.faults.isProven = true;
  }

  /** Writes every sector, and flushes. */
  writeAll(): void {
    const { world, oracle } = this;
    const writes: Promise<number>[] = [];
    for (let lba = 0; lba < oracle.sectorCount; ) {
      const wanted = SECTORS_PER_ROW * (1 + nextBelow(this.random, 32));
      const sectors = Math.min(wanted, oracle.sectorCount - lba);
      writes.push(this.load.write(this.seats[0]!, lba, sectors, false));
      lba += sectors;
    }
    world.run(Promise.all(writes));
    world.run(this.load.flush(this.seats[0]!));
    this.check();
  }

  /** What must be so after the drives of a crashed machine are attached; true if it took force. */
  private assemble(images: readonly DeviceImage[], degraded: number): boolean {
    const status = this.world.status();
    const expected = expectationOf(images);
    this.world.simulation.note(`restart ${status.state} expected ${expected} was ${degraded}`);
    if (status.state !== "inactive") {
      if (expected === "refused") this.fail("a dirty and degraded array assembled by itself");
      return false;
    }
    if (expected === "whole") this.fail(`all members are there: ${status.reason}`);
    const started = this.world.startArray();
    if (expected === "degraded") {
      if (!started.ok) this.fail(`clean and degraded: ${started.error.detail}`);
      return false;
    }
    if (started.ok) this.fail("a dirty and degraded array started without force");
    if (started.error.code !== "dirty-and-degraded") this.fail(started.error.detail);
    RunCounts.bump(this.counts.crashes, "write hole");
    this.mustStart({ force: true });
    return true;
  }

  /**
   * With the partial parity log a dirty array starts without a member. Of that member the sectors
   * that were being written may be neither old nor new (promise 2), and nothing else: those alone
   * are written anew.
   */
  rewriteTorn(ranges: readonly Range[], images: readonly DeviceImage[]): void {
    const isReplayed = images.some((image) => {
      const superblock = superblockOf(image);
      return typeof superblock !== "string" && superblock.log.kind === "ppl";
    });
    const missing = this.world.status().members.find(({ state }) => state !== "in-sync");
    if (!isReplayed || missing === undefined) return;
    for (const { lba, sectors } of ranges) {
      for (let sector = lba; sector < lba + sectors; sector += 1) {
        if (this.roleOf(sector) !== missing.role) continue;
        this.world.run(this.load.write(this.seats[0]!, sector, 1, false));
      }
    }
    this.world.run(this.load.flush(this.seats[0]!));
    this.check();
  }

  /** The role that has this sector's data. */
  roleOf(lba: number): number {
    const { chunkBytes, memberCount } = this.plan;
    const chunk = Math.floor(lba / (chunkBytes / SECTOR_BYTES));
    const stripe = Math.floor(chunk / (memberCount - 1));
    const parityRole = memberCount - 1 - (stripe % memberCount);
    return (parityRole + 1 + (chunk % (memberCount - 1))) % memberCount;
  }

  /** Writes all sectors of the stripes' rows in which these ranges lie. */
  rewriteRows(ranges: readonly Range[]): void {
    const { chunkBytes, memberCount } = this.plan;
    const chunkSectors = chunkBytes / SECTOR_BYTES;
    const stripeSectors = chunkSectors * (memberCount - 1);
    const first = new Set<number>();
    for (const { lba, sectors } of ranges) {
      const from = lba - (lba % SECTORS_PER_ROW);
      for (let sector = from; sector < lba + sectors; sector += SECTORS_PER_ROW) {
        const stripe = Math.floor(sector / stripeSectors);
        first.add(stripe * stripeSectors + (sector % chunkSectors));
      }
    }
    for (const row of first) {
      for (let index = 0; index < memberCount - 1; index += 1) {
        const lba = row + index * chunkSectors;
        this.world.run(this.load.write(this.seats[0]!, lba, SECTORS_PER_ROW, false));
      }
    }
    this.world.run(this.load.flush(this.seats[0]!));
    this.check();
  }

  // Liveness and the end ---------------------------------------------------------------------

  heal(): void {
    const { world } = this;
    // A drive that went without anybody noticing has lost what its cache held: nothing could tell
    // that if it were simply there again.
    for (const drive of this.faults.vanished) {
      world.call({ kind: "fail-member", array: ARRAY_NAME, drive });
    }
    this.faults.quiet(world);
    this.space.giveRoom();
    const endMs = world.nowMs + HEAL_MS;
    for (;;) {
      const status = this.look();
      if (status.state === "read-only") this.fail(`read-only: ${status.reason}`);
      const isIdle = status.sync.action === "idle";
      if (status.degraded === 0 && isIdle && status.state === "clean") break;
      if (status.degraded > 0 && isIdle && status.spares.length === 0) replace(this, status);
      if (world.nowMs > endMs) {
        this.fail(`still ${status.state}, degraded ${status.degraded}, ${status.sync.action}`);
      }
      world.simulation.runFor(20);
    }
    this.load.mayRefuse = false;
    this.check();
  }

  /** Every sector is read and judged. */
  readAll(): void {
    const { oracle } = this;
    const step = MIB / 4 / SECTOR_BYTES;
    for (let lba = 0; lba < oracle.sectorCount; lba += step) {
      const sectors = Math.min(step, oracle.sectorCount - lba);
      const status = this.world.run(this.load.read(this.seats[0]!, lba, sectors));
      this.check();
      if (status !== 0) this.fail(`a read of ${sectors} sectors at ${lba}: errno ${status}`);
    }
  }

  verify(): void {
    const { world } = this;
    this.readAll();
    const mismatchBytes = world.check();
    if (mismatchBytes > 0) this.fail(`the check finds ${mismatchBytes} bytes that do not match`);
    // It has written anew what could not be read.
    this.faults.forgetLatent();
    this.world.settle();
    this.verifyMembers();
    for (const device of world.devices.values()) device.checkBuffers();
  }

  /** The members from outside. */
  private verifyMembers(): void {
    const images = this.world.images();
    const names = new Set(this.world.status().members.map(({ drive }) => drive));
    const members = images.filter(({ name }) => names.has(name));
    for (const image of members) {
      const superblock = superblockOf(image);
      if (typeof superblock === "string") this.fail(superblock);
    }
    const rows = parityMismatches(viewMembers(members));
    if (rows.length > 0) this.fail(`parity does not hold in the rows at ${rows.slice(0, 5)}`);
    for (const [number, image] of images.entries()) {
      if (typeof superblockOf(image) === "string") continue;
      const areas = [...areasOf(image), ...this.trace.areasOf(number)];
      // A log is emptied before a superblock names it, and may never be named.
      if (this.plan.features.has("policy")) areas.push(logRoomOf(image));
      const [stray] = strayWrites(this.trace, number, areas);
      if (stray !== undefined) {
        this.fail(`${image.name}: ${stray.bytes} bytes at ${stray.offset} are in no area`);
      }
    }
  }

  /** Writes and flushes that reached the drives after two members were gone; 0 before that. */
  get submittedCount(): number {
    return this.hasFailed ? this.trace.events.length - this.submittedAtFailure : 0;
  }

  submittedAfterFailure(): string {
    return JSON.stringify(
      this.trace.events.slice(this.submittedAtFailure, this.submittedAtFailure + 4),
    );
  }

  // Parts ------------------------------------------------------------------------------------

  private makeWorld(): SimWorld {
    const { plan, trace, wallAheadMs } = this;
    const { batchChance, withNbd } = plan;
    const seed = this.random.nextU32();
    const areFiles = plan.features.has("files");
    const onEvent = ({ kind }: ArrayEvent) => {
      const isFenced = kind === "array.fenced";
      if (isFenced) this.changesAtFence = this.world.changesSubmitted;
      // What a start that failed has said is not true of the start that went well.
      if (kind === "array.assembled") this.hasFailed = false;
      if (this.hasFailed || (kind !== "array.failed" && !isFenced)) return;
      this.hasFailed = true;
      this.submittedAtFailure = trace.events.length;
    };
    const options = { seed, batchChance, trace, withNbd, wallAheadMs, areFiles, onEvent };
    if (!plan.features.has("no-cache") || areFiles) return new SimWorld(options);
    const isMixed = plan.seed % 2 === 0;
    const hasCache = (name: string) => isMixed && name.charCodeAt(name.length - 1) % 2 === 0;
    return new SimWorld({ ...options, hasCache });
  }

  private create(): ArrayStatus {
    const { memberCount, chunkBytes, memberSizeBytes, policy } = this.plan;
    const drives = Array.from({ length: memberCount }, () => newDrive(this));
    const shape = { chunkBytes, memberSizeBytes, consistencyPolicy: policy };
    return this.world.createArray({ drives, ...shape });
  }

  private connect(): void {
    const { world, plan } = this;
    this.seats = [];
    for (let index = 0; index < plan.clientCount; index += 1) {
      const client = plan.withNbd ? world.run(world.nbdClient()) : world.client();
      this.seats.push(new Seat({ world, client, seatCount: plan.clientCount }));
    }
  }

  /** Adds up what this world has done; once for each world. */
  private count(): void {
    const { counts, world } = this;
    counts.virtualMs += world.nowMs;
    counts.turns += world.simulation.turnCount;
    for (const { faults } of world.devices.values()) {
      for (const [kind, count] of faults.injected) RunCounts.bump(counts.faults, kind, count);
    }
    const status = world.status();
    for (const { errors } of status.members) counts.retries += errors.retried;
    const { load } = this;
    counts.requests += load.requests;
    RunCounts.bump(counts.faults, "half a write", load.halfWrites);
    RunCounts.bump(counts.faults, "disconnect", load.cuts);
    load.requests = 0;
    load.halfWrites = 0;
    load.cuts = 0;
  }
}

/** Between superblock and data. */
function logRoomOf(image: DeviceImage): Area {
  const superblock = superblockOf(image);
  const end = typeof superblock === "string" ? 0 : superblock.dataOffsetSectors * SECTOR_BYTES;
  const offset = SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES;
  return { name: "log room", offset, bytes: end - offset };
}

/** By the superblocks, what starting the array has to come to. */
export function expectationOf(images: readonly DeviceImage[]): ExpectedAssembly {
  const known = images.flatMap((image) => {
    const superblock = superblockOf(image);
    return typeof superblock === "string" ? [] : [superblock];
  });
  return expectedAssembly(known);
}
