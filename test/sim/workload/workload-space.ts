/**
 * The file system under the drives of a run fills up and gets room again, as a shared cause: it is
 * no member's fault, so it comes beside whatever else goes wrong with one of them. While it lasts
 * a write may be answered ENOSPC; no member may be failed for it, and afterwards nobody may notice.
 */
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { RunCounts } from "../world/run-counts.ts";
import { SimSpace } from "../world/sim-space.ts";
import type { SimWorld } from "../world/sim-world.ts";
import type { Run } from "./workload.ts";

const FULL_MS_MAX = 3000;

export class SpaceActor {
  private readonly run: Run;
  private readonly random: SeededRandom;
  private space: SimSpace | null = null;
  private judged = 0;

  constructor(run: Run) {
    this.run = run;
    // A stream of its own: it changes nothing of what else a seed stands for.
    this.random = new SeededRandom(run.seed ^ 0x5bace);
  }

  get isOn(): boolean {
    return this.run.plan.features.has("full");
  }

  get isFull(): boolean {
    return this.space !== null;
  }

  /** Perhaps there is no room from now on, for a while. */
  act(): void {
    this.judge();
    if (!this.isOn || this.isFull || nextBelow(this.random, 6) > 0) return;
    const { world, counts } = this.run;
    const kind = nextBelow(this.random, 2) === 0 ? "holes" : "copy-on-write";
    const space = new SimSpace({ random: this.random.split(), kind });
    const isAll = nextBelow(this.random, 3) > 0;
    const devices = [...world.devices.values()];
    space.fill(devices.filter(() => isAll || nextBelow(this.random, 2) === 0));
    this.space = space;
    RunCounts.bump(counts.faults, `full, ${kind}`);
    world.simulation.note(`full ${kind}`);
    const forMs = nextBelow(this.random, nextBelow(this.random, 3) === 0 ? FULL_MS_MAX : 100);
    world.simulation.scheduleAfter(forMs, () => this.giveRoom(world));
  }

  /** There is room for everybody. */
  giveRoom(world: SimWorld = this.run.world): void {
    if (this.space === null || world !== this.run.world) return;
    RunCounts.bump(this.run.counts.faults, `refused, ${this.space.kind}`, this.space.refusals);
    this.space = null;
    world.simulation.note("room");
    SimSpace.giveRoom(world.devices.values());
  }

  /** The machine was left: its file system is another one now. */
  restarted(): void {
    this.space = null;
    this.judged = 0;
  }

  /** A shared cause fails nobody. */
  private judge(): void {
    const { events } = this.run.world;
    for (; this.judged < events.length; this.judged += 1) {
      const { kind, message } = events[this.judged]!;
      const isFailure = kind === "member.failed" || kind === "spare.failed";
      if (isFailure && /ENOSPC|EDQUOT|no-space/.test(message)) this.run.fail(message);
    }
  }
}
