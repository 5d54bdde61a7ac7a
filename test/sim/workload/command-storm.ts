/**
 * Ten clients fire twenty random commands each at the real ArrayService on simulated drives, half
 * of them mistaken: any kind, any drive, any array, existing or not, at any moment, while others
 * write. Whatever the order: nothing is thrown, no array breaks, each command gets one answer.
 *
 *   bun test/sim/workload/command-storm.ts [first [count [without]]]
 *
 * tries the seeds from `first` on, and prints the stack of each defect once, with the first seed
 * that met it and how many did. `without` is a list of kinds, separated by commas, that are left
 * out. A seed is repeated with SEED=… in the same order, event by event.
 */
import type { Command, CommandError, ConsistencyPolicy } from "../../../src/array/protocol.ts";
import type { Log } from "../../../src/base/log.ts";
import { nextBelow, type SeededRandom } from "../../../src/base/random.ts";
import type { Result } from "../../../src/base/result.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { SimWorld } from "../world/sim-world.ts";

const CLIENTS = 10;
const COMMANDS = 20;
const DRIVES = ["d0", "d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"] as const;
const ARRAYS = ["one", "two", "three"] as const;
const POLICIES: readonly ConsistencyPolicy[] = ["ppl", "bitmap", "resync"];
const DRIVE_BYTES = 3 * MIB;
const MEMBER_BYTES = 64 * KIB;
const PAUSE_MS_MAX = 30;
/** Longer than any command may take, its waits for drives and jobs included. */
const LIMIT_MS = 120_000;

export interface StormOptions {
  readonly seed: number;
  /** Kinds that nobody fires. */
  readonly without?: readonly string[];
}

export interface StormReport {
  /** The stack of what was thrown, or what else went wrong; empty: nothing. */
  readonly defects: readonly string[];
  readonly answered: number;
  /** Commands that succeeded, by kind. */
  readonly done: Readonly<Record<string, number>>;
}

export function storm(options: StormOptions): StormReport {
  return new Storm(options).run();
}

class Storm {
  private readonly world: SimWorld;
  private readonly random: SeededRandom;
  private readonly without: readonly string[];
  private readonly defects: string[] = [];
  private readonly done: Record<string, number> = {};
  private readonly open = new Set<{ readonly command: Command; readonly sinceMs: number }>();
  private answered = 0;
  private isOver = false;

  constructor({ seed, without = [] }: StormOptions) {
    const log: Log = {
      write: (level, message, fields) => {
        if (level === "error") this.defects.push(String(fields?.["error"] ?? message));
      },
    };
    this.world = new SimWorld({ seed, latency: { minMs: 0.05, tailMs: 0.5 }, log });
    this.random = this.world.simulation.splitRandom();
    this.without = without;
  }

  run(): StormReport {
    const { world } = this;
    for (const name of DRIVES) world.addDrive({ name, sizeBytes: DRIVE_BYTES });
    try {
      world.run(this.create("one", ["d0", "d1", "d2"], []), LIMIT_MS);
      world.run(this.create("two", ["d3", "d4", "d5"], ["d6"]), LIMIT_MS);
      const clients: Promise<void>[] = [];
      for (let count = 0; count < CLIENTS; count += 1) clients.push(this.fire());
      const writers = ARRAYS.map((array) => this.write(array));
      world.run(Promise.all(clients), LIMIT_MS);
      this.isOver = true;
      world.run(Promise.all(writers), LIMIT_MS);
      this.afterwards();
    } catch (error) {
      const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
      if (!stack.includes("not reached within")) this.defects.push(stack);
      else for (const each of this.open) this.defects.push(unanswered(each));
    }
    return { defects: this.defects, answered: this.answered, done: this.done };
  }

  private create(name: string, drives: readonly string[], spares: readonly string[]) {
    return this.command({
      ...{ kind: "create-array", name, drives, spares, chunkBytes: 8 * KIB },
      ...{ assumeClean: false, force: this.chance(2), memberSizeBytes: MEMBER_BYTES },
      consistencyPolicy: this.pick(POLICIES),
    });
  }

  private async fire(): Promise<void> {
    for (let count = 0; count < COMMANDS; count += 1) {
      const command = this.choose();
      if (!this.without.includes(command.kind)) await this.command(command);
      await this.world.context.timers.sleep(nextBelow(this.random, PAUSE_MS_MAX));
    }
  }

  private async write(array: string): Promise<void> {
    const client = this.world.client(array);
    const data = new Uint8Array(12 * KIB).fill(0x5a);
    while (!this.isOver) {
      await client.write(nextBelow(this.random, MEMBER_BYTES), data, { fua: this.chance(3) });
      await client.read(nextBelow(this.random, MEMBER_BYTES), 4 * KIB);
      await this.world.context.timers.sleep(5 + nextBelow(this.random, PAUSE_MS_MAX));
    }
  }

  /** Every array can be stopped, and every drive is free then. */
  private afterwards(): void {
    const { world } = this;
    for (const { name } of world.must<"list-arrays">({ kind: "list-arrays" })) {
      world.call({ kind: "stop-array", array: name }, LIMIT_MS);
      world.call({ kind: "delete-array", array: name, zeroSuperblocks: true }, LIMIT_MS);
    }
    const left = world.must<"list-arrays">({ kind: "list-arrays" });
    if (left.length > 0) this.defects.push(`${left.length} arrays cannot be deleted`);
    for (const job of world.must<"list-jobs">({ kind: "list-jobs" })) {
      if (job.state === "running") this.defects.push(`a ${job.kind} runs in no array`);
    }
    const shutdown = world.call({ kind: "shutdown" }, LIMIT_MS);
    if (!shutdown.ok) this.defects.push(`shutdown: ${shutdown.error.detail}`);
  }

  // Choices ----------------------------------------------------------------------------------

  private choose(): Command {
    const array = this.arrayName();
    const drive = this.driveName();
    const force = this.chance(2);
    const id = 1 + nextBelow(this.random, 12);
    const choices: (() => Command)[] = [
      () => ({ kind: "attach-drive", drive: this.world.openDriveOf(this.pick(DRIVES)) }),
      () => ({ kind: "attach-drive", drive: this.world.openDriveOf(this.pick(DRIVES)) }),
      () => ({ kind: "detach-drive", name: drive, force }),
      () => ({ kind: "list-drives" }),
      () => ({
        ...{ kind: "create-array", name: array, drives: this.driveNames(3), force },
        ...{ spares: this.chance(3) ? this.driveNames(1) : [], chunkBytes: 8 * KIB },
        ...{ assumeClean: this.chance(4), memberSizeBytes: MEMBER_BYTES },
        consistencyPolicy: this.pick(POLICIES),
      }),
      () => ({ kind: "list-arrays" }),
      () => ({ kind: "get-array", array }),
      () => ({ kind: "start-array", array, force, readOnly: this.chance(4) }),
      () => ({ kind: "start-array", array, force, readOnly: false }),
      () => ({ kind: "stop-array", array }),
      () => ({ kind: "delete-array", array, zeroSuperblocks: this.chance(2) }),
      () => ({ kind: "set-array", array, consistencyPolicy: this.pick(POLICIES) }),
      () => ({ kind: "set-array", array, syncSpeedMax: (64 * KIB) << nextBelow(this.random, 6) }),
      () => ({ kind: "add-member", array, drive, force }),
      () => ({ kind: "add-member", array, drive, force }),
      () => ({ kind: "fail-member", array, drive }),
      () => ({ kind: "remove-member", array, drive }),
      () => ({
        ...{ kind: "start-scrub", array, mode: this.chance(2) ? "check" : "repair" },
        ...{ limitBytesPerSecond: this.chance(2) ? null : 512 * KIB, restart: this.chance(2) },
      }),
      () => ({ kind: "pause-scrub", array }),
      () => ({ kind: "cancel-scrub", array }),
      () => ({ kind: "list-jobs" }),
      () => ({ kind: "get-job", id }),
      () => ({ kind: "cancel-job", id }),
      () => ({ kind: "add-fault", fault: this.fault(drive) }),
      () => ({ kind: "list-faults" }),
      () => ({ kind: "clear-faults" }),
    ];
    return this.pick(choices)();
  }

  private fault(drive: string) {
    const errno = this.pick([5, 6, 28]);
    const op = this.pick(["read", "write", "flush", "any"] as const);
    return { drive, op, at: "completion", errno, count: 1 + nextBelow(this.random, 3) } as const;
  }

  /** One in eight is none. */
  private arrayName(): string {
    return this.chance(8) ? this.pick(["nobody", "", "no name"]) : this.pick(ARRAYS);
  }

  private driveName(): string {
    return this.chance(8) ? this.pick(["d99", "", "one"]) : this.pick(DRIVES);
  }

  private driveNames(count: number): string[] {
    const names: string[] = [];
    for (let index = 0; index < count; index += 1) names.push(this.driveName());
    return names;
  }

  private pick<T>(choices: readonly T[]): T {
    return choices[nextBelow(this.random, choices.length)]!;
  }

  private chance(oneIn: number): boolean {
    return nextBelow(this.random, oneIn) === 0;
  }

  private async command(command: Command): Promise<void> {
    const entry = { command, sinceMs: this.world.nowMs };
    this.open.add(entry);
    const result = await this.world.command(command as never);
    this.open.delete(entry);
    const answer = result as Result<unknown, CommandError>;
    this.answered += 1;
    if (answer.ok) this.done[command.kind] = (this.done[command.kind] ?? 0) + 1;
  }
}

function unanswered({ command, sinceMs }: { command: Command; sinceMs: number }): string {
  const { kind, ...rest } = command;
  const words = Object.entries(rest).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
  return `no answer to ${kind}\n(since ${sinceMs.toFixed(1)} ms: ${words.join(" ").slice(0, 300)})`;
}

/** What tells one defect from another: its message and where it came from. */
function causeOf(defect: string): string {
  const lines = defect.split("\n").slice(0, defect.startsWith("no answer") ? 1 : 4);
  return lines.map((line) => line.replace(/^(.*?) \(at [\d.]+ ms.*$/, "$1").trim()).join(" < ");
}

if (import.meta.main) {
  const first = Number(process.env["SEED"] ?? process.argv[2] ?? 1);
  const count = process.env["SEED"] === undefined ? Number(process.argv[3] ?? 100) : 1;
  const without = (process.argv[4] ?? "").split(",");
  const found = new Map<string, { seed: number; times: number; stack: string }>();
  const done: Record<string, number> = {};
  let failed = 0;
  for (let seed = first; seed < first + count; seed += 1) {
    const report = storm({ seed, without });
    if (report.defects.length > 0) failed += 1;
    for (const [kind, times] of Object.entries(report.done)) done[kind] = (done[kind] ?? 0) + times;
    for (const stack of report.defects) {
      const known = found.get(causeOf(stack));
      if (known === undefined) found.set(causeOf(stack), { seed, times: 1, stack });
      else known.times += 1;
    }
  }
  for (const { seed, times, stack } of found.values()) {
    process.stdout.write(`SEED=${seed}, ${times} times: ${stack.slice(0, 900)}\n\n`);
  }
  process.stdout.write(`${failed} of ${count} seeds failed; done: ${JSON.stringify(done)}\n`);
  process.exit(failed > 0 ? 1 : 0);
}
