/**
 * The start of an array that was stopped in the middle, without a power cut: members gone or
 * fenced, and back now. What the superblocks say decides whether it starts, and nothing else.
 */
import { expectationOf, type Run } from "./workload.ts";

/** All drives are there and ours; the array is stopped. */
export function startStopped(run: Run): void {
  const { world, load } = run;
  run.faults.restarted();
  run.oracle.crash();
  const unstable = load.takeUnstable();
  const images = world
    .images()
    .filter(({ name }) => run.present.includes(name) && !world.overduePunches.has(name));
  const expected = expectationOf(images);
  // Superblocks without room are a cause of their own.
  run.space.giveRoom();
  const started = world.startArray();
  if (started.ok !== (expected !== "refused")) {
    run.fail(`is to be ${expected}, but: ${started.ok ? "started" : started.error.detail}`);
  }
  if (!started.ok) run.mustStart({ force: true });
  load.mayBeStopped = false;
  run.hasFailed = false;
  if (!started.ok) run.rewriteRows(unstable);
  else run.rewriteTorn(unstable, images);
}
