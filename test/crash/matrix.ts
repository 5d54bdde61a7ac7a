/**
 * The crash matrix: a scenario runs once in the real product on simulated drives; then, for each
 * event of its trace, every crash image is judged with all drives there and with each one lost.
 *
 *   scenario ─► trace ─► boundary ─► images ─► x {none, each drive lost} ─► light check
 *                                       └─ every nth ─► real assembly, with one of the drives lost
 *                                       └─ every mth ─► real recovery with writes ─► trace ─► ...
 *
 * Counts tell how many images were judged in which way.
 */
import type { AssemblyPlan } from "../../src/md/assemble/assembly-plan.ts";
import { type CrashImages, crashImages } from "../sim/world/crash-images.ts";
import { DeviceTrace } from "../sim/world/device-trace.ts";
import type { DeviceImage } from "../sim/world/media.ts";
import type { SectorOracle } from "../sim/world/oracle.ts";
import { SimWorld } from "../sim/world/sim-world.ts";
import { CrashLoad, type CrashMark, type Facts } from "./crash-load.ts";
import { type Expected, type Hole, LightCheck, Promises } from "./light-check.ts";
import { realCheck, recordRecovery } from "./real-check.ts";

const VIOLATIONS_MAX = 5;

export interface Base {
  readonly images: readonly DeviceImage[];
  /** What is promised of the images; it has crashed where they are of a crash. */
  readonly oracle: SectorOracle;
  readonly facts: Facts;
  /** Of the crash that the images are of. */
  readonly earlier?: Promises;
  /** What the forced start of this run gave up. */
  readonly hole?: Hole | null;
}

export interface Scenario {
  readonly name: string;
  readonly base: (seed: number) => Base;
  /** Runs in the world that stands on the base; ends when all is at rest. */
  readonly body: (load: CrashLoad, seed: number) => void;
  /** A bad sector and a crash together lose a row: EIO there is right. */
  readonly mayLose?: boolean;
  /** It has a log for a while, whatever its policy is. */
  readonly withLog?: boolean;
  /** Sectors in flight also become garbage, one at a time. */
  readonly withGarbage?: boolean;
}

export interface Sampling {
  /** Every how many images one goes through the real engine. */
  readonly realEvery: number;
  /** Every how many images one is recovered for real, and crashed again in the middle of it. */
  readonly againEvery: number;
  /** Of the events of such a recovery, every how many is a crash. */
  readonly againBoundaryEvery: number;
  /** Which images of the run are judged, by number; default all. */
  readonly takes?: (number: number) => boolean;
}

export class Counts {
  events = 0;
  /** Of the run: judged, and with those that are left to other days. */
  images = 0;
  enumerated = 0;
  /** Images times {none, each drive} lost, by superblocks and sectors. */
  views = 0;
  real = 0;
  recoveries = 0;
  /** Of them, those of arrays that are dirty and degraded. */
  forcedRecoveries = 0;
  againImages = 0;
  againReal = 0;
  lostRows = 0;
  readonly kinds = new Map<string, number>();

  bump(kind: string): void {
    this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + 1);
  }

  add(other: Counts): void {
    this.events += other.events;
    this.images += other.images;
    this.enumerated += other.enumerated;
    this.views += other.views;
    this.real += other.real;
    this.recoveries += other.recoveries;
    this.forcedRecoveries += other.forcedRecoveries;
    this.againImages += other.againImages;
    this.againReal += other.againReal;
    this.lostRows += other.lostRows;
    for (const [kind, count] of other.kinds) {
      this.kinds.set(kind, (this.kinds.get(kind) ?? 0) + count);
    }
  }

  get allImages(): number {
    return this.images + this.againImages;
  }

  text(): string {
    const kinds = [...this.kinds].map(([kind, count]) => `${kind} ${count}`).join(", ");
    return (
      `${this.events} events; crash images ${this.images} of ${this.enumerated}, in recovery (depth 2) ` +
      `${this.againImages} of ${this.recoveries} recoveries, ${this.forcedRecoveries} of them forced; ` +
      `judged by superblocks and sectors ${this.views} (${kinds}); images checked by real assembly ${this.real + this.againReal}`
    );
  }
}

export class Matrix {
  readonly counts = new Counts();
  readonly violations: string[] = [];
  private readonly light = new LightCheck();
  private readonly scenario: Scenario;
  private readonly sampling: Sampling;
  private readonly seed: number;

  constructor(options: { scenario: Scenario; sampling: Sampling; seed: number }) {
    this.scenario = options.scenario;
    this.sampling = options.sampling;
    this.seed = options.seed;
  }

  run(): this {
    const { scenario, seed } = this;
    const base = scenario.base(seed);
    const trace = new DeviceTrace<CrashMark>();
    const world = new SimWorld({ seed, trace, batchChance: seed % 2 === 0 ? 0 : 0.3 });
    for (const image of base.images) {
      world.plug(image);
      world.attach(image.name);
    }
    const oracle = base.oracle.clone();
    scenario.body(new CrashLoad({ world, oracle, trace }), seed);
    const { realEvery, takes = () => true } = this.sampling;
    const takesCounted = (number: number): boolean => {
      this.counts.enumerated += 1;
      return takes(number);
    };
    const isWanted = () => true;
    this.judgeTrace({ trace, base, isWanted, takes: takesCounted, realEvery, depth: 1 });
    this.counts.lostRows = this.light.lostRows;
    return this;
  }

  private judgeTrace(options: {
    trace: DeviceTrace<CrashMark>;
    base: Base;
    isWanted: (boundary: number) => boolean;
    takes: (number: number) => boolean;
    realEvery: number;
    depth: 1 | 2;
  }): void {
    const { trace, base, isWanted, takes, depth } = options;
    const oracle = base.oracle.clone();
    let facts = base.facts;
    let promises: Promises | null = null;
    const onMark = (mark: CrashMark): void => {
      promises = null;
      if (mark.kind === "oracle") oracle.applyMark(mark.mark);
      else facts = { ...facts, ...mark.facts };
    };
    if (depth === 1) this.counts.events += trace.events.length;
    const { withGarbage = false } = this.scenario;
    const seed = this.seed + depth;
    for (const crash of crashImages({ trace, seed, withGarbage, isWanted, takes, onMark })) {
      if (promises === null) {
        const crashed = oracle.clone();
        crashed.crash();
        promises = new Promises(crashed, base.earlier, base.hole);
      }
      // Not the number among those that are taken: what a share of days does adds up to the whole.
      const number = crash.number + 1;
      if (depth === 1) this.counts.images += 1;
      else this.counts.againImages += 1;
      const isReal = number % options.realEvery === 0;
      this.judge({ crash, promises, facts, isReal, number, depth });
      const { againEvery } = this.sampling;
      if (depth === 1 && number % againEvery === 0) this.again(crash, promises, facts, number);
      if (this.violations.length >= VIOLATIONS_MAX) return;
    }
  }

  private judge(at: {
    crash: CrashImages;
    promises: Promises;
    facts: Facts;
    isReal: boolean;
    number: number;
    depth: number;
  }): void {
    const { crash, promises, facts, isReal, number, depth } = at;
    const { images } = crash;
    const isTorn = crash.label.includes("torn");
    const { mayLose = false } = this.scenario;
    const realLost = (Math.floor(number / 7) % (images.length + 1)) - 1;
    for (let lost = -1; lost < images.length; lost += 1) {
      const present = images.filter((_, device) => device !== lost);
      const expected = this.light.expect(present);
      this.counts.views += 1;
      this.counts.bump(expected.kind);
      let wrong: string | null = null;
      if (expected.kind === "wrong") wrong = expected.message;
      else if ("plan" in expected) {
        wrong = this.light.readAll(expected.plan, {
          images: present,
          promises,
          isTorn,
          mayLose,
        });
      }
      if (lost < 0 && facts.doesExist && facts.isHealthy && !isTorn && expected.kind !== "whole") {
        wrong ??= `all drives are there, and the array is ${expected.kind}`;
      }
      if (wrong === null && isReal && lost === realLost) {
        if (depth === 1) this.counts.real += 1;
        else this.counts.againReal += 1;
        wrong = realCheck({
          images: present,
          expected,
          promises,
          seed: number,
          isHealed: number % 3 === 0,
          isTorn,
          mayLose,
        });
      }
      if (wrong !== null) this.report({ crash, lost, wrong, depth });
    }
  }

  /** Crashes a second time, in the middle of the recovery from the first crash. */
  private again(crash: CrashImages, promises: Promises, facts: Facts, number: number): void {
    if (crash.label.includes("torn") || this.scenario.mayLose === true) return;
    // All drives, and without one of them, where that makes an array that starts, if need be with
    // force.
    const without = Math.floor(number / this.sampling.againEvery) % crash.images.length;
    for (const lost of [-1, without]) {
      const images = crash.images.filter((_, device) => device !== lost);
      const expected = this.light.expect(images);
      if (!("plan" in expected)) continue;
      const isHealthy = facts.isHealthy && lost < 0;
      const after = { ...facts, isHealthy };
      this.recover({ crash, images, promises, expected, facts: after, number, lost });
    }
  }

  private recover(from: {
    crash: CrashImages;
    images: readonly DeviceImage[];
    promises: Promises;
    expected: Expected & { plan: AssemblyPlan };
    facts: Facts;
    number: number;
    lost: number;
  }): void {
    const { crash, images, promises, expected, facts, number, lost } = from;
    if (expected.kind === "refused") this.counts.forcedRecoveries += 1;
    const recovery = recordRecovery({
      images,
      expected,
      promises,
      seed: number,
      work: (load) => {
        const { sectorCount } = load;
        const lba = (number * 13) % (sectorCount - 16);
        const writes = [
          load.write(lba, 1 + (number % 8)),
          load.write(sectorCount - 8, 8, { fua: true }),
        ];
        load.world.run(Promise.all(writes));
        load.world.run(load.flush());
      },
    });
    this.counts.recoveries += 1;
    if (typeof recovery === "string") {
      this.report({ crash, lost, wrong: `recovery: ${recovery}`, depth: 1 });
      return;
    }
    const { againBoundaryEvery } = this.sampling;
    this.judgeTrace({
      trace: recovery.trace,
      base: { images, oracle: recovery.oracle, facts, earlier: promises, hole: recovery.hole },
      isWanted: (boundary) => (boundary + number) % againBoundaryEvery === 0,
      takes: () => true,
      realEvery: this.sampling.realEvery,
      depth: 2,
    });
  }

  private report(found: { crash: CrashImages; lost: number; wrong: string; depth: number }): void {
    const { crash, lost, wrong, depth } = found;
    const drive = lost < 0 ? "all drives there" : `without ${crash.images[lost]!.name}`;
    this.violations.push(
      `${this.scenario.name}, seed ${this.seed}, depth ${depth}, event ${crash.boundary}, ` +
        `${crash.label}, ${drive}: ${wrong}`,
    );
  }
}
