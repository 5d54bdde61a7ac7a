/**
 * Members are replaced while they serve, beside whatever else goes on: the target may be the
 * victim, the member too; now and then somebody cancels, or takes the target away. A replace that
 * is refused says why, and nothing else may come of it.
 */
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { RunCounts } from "../world/run-counts.ts";
import { ARRAY_NAME } from "../world/sim-world.ts";
import type { Run } from "./workload.ts";
import { newDrive } from "./workload-admin.ts";

/** What a replace is refused for beside faults of its drives. */
const REFUSALS = [
  ...["member-rebuilding", "member-faulty", "replace-under-way", "not-writable", "degraded"],
  ...["resync-due", "drive-write-failed", "replace-not-started", "drive-in-use", "fenced"],
];

export class CopyActor {
  private readonly run: Run;
  private readonly random: SeededRandom;

  constructor(run: Run) {
    this.run = run;
    // A stream of its own: it changes nothing of what else a seed stands for.
    this.random = new SeededRandom(run.seed ^ 0xc0b1e5);
    this.isOn = nextBelow(this.random, 2) === 0;
  }

  readonly isOn: boolean;

  act(status: ArrayStatus): void {
    if (!this.isOn || nextBelow(this.random, 3) > 0) return;
    const target = status.members.find(({ replacement }) => replacement !== undefined);
    if (target?.replacement !== undefined) this.disturb(target.replacement.drive);
    else if (status.degraded === 0 && status.sync.action === "idle") this.begin(status);
  }

  private begin({ members }: ArrayStatus): void {
    const { run } = this;
    const { drive } = members[nextBelow(this.random, members.length)]!;
    if (drive === null) return;
    this.count("replace while it serves");
    const other = newDrive(run);
    const slowly = nextBelow(this.random, 2) === 0;
    if (slowly) {
      const speed = Math.max(1, Math.floor(run.plan.memberSizeBytes / 2));
      const limits = { syncSpeedMin: speed, syncSpeedMax: speed };
      run.world.must<"set-array">({ kind: "set-array", array: ARRAY_NAME, ...limits });
    }
    const answer = run.world.call<"replace-member">({
      ...{ kind: "replace-member", array: ARRAY_NAME, drive, with: other, force: true },
    });
    if (answer.ok || REFUSALS.includes(answer.error.code)) return;
    run.fail(`replace of ${drive} by ${other}: ${answer.error.code}: ${answer.error.detail}`);
  }

  private disturb(target: string): void {
    const { world } = this.run;
    const choice = nextBelow(this.random, 4);
    if (choice === 0) {
      this.count("replace cancelled");
      const jobs = world.must<"list-jobs">({ kind: "list-jobs" });
      const job = jobs.find(({ kind, state }) => kind === "replace" && state === "running");
      if (job !== undefined) world.call<"cancel-job">({ kind: "cancel-job", id: job.id });
    } else if (choice === 1) {
      this.count("target removed");
      world.call<"remove-member">({ kind: "remove-member", array: ARRAY_NAME, drive: target });
    }
  }

  private count(what: string): void {
    RunCounts.bump(this.run.counts.admin, what);
    this.run.world.simulation.note(`admin ${what}`);
  }
}
