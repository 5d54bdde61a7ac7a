/** What a test asks the Linux md of the kernel lab to do, and what it answers (JSON files). */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GUEST_DIED, runGuest } from "./lab.ts";

export interface CreateTask {
  readonly name: string;
  /** Image files in the shared folder; the last `spareCount` of them become spares. */
  readonly files: readonly string[];
  readonly spareCount: number;
  /** Level, layout, chunk, policy and whatever else for `mdadm --create`. */
  readonly words: readonly string[];
  /** For each file, behind its device (":3M": its data offset). */
  readonly suffixes: readonly string[];
  /** Index of a file that fails and is removed before the last writes; null: none. */
  readonly loses: number | null;
  /** Copies of the files while the array is dirty, with all of its writes done; or none. */
  readonly dirtyFiles: readonly string[];
}

export interface AssembleTask {
  readonly name: string;
  readonly files: readonly string[];
  /** Index of a file that is no member any more and is added anew once the array runs. */
  readonly replaces: number | null;
  /** Only its sum as assembled is asked for. */
  readonly isBrief: boolean;
}

/** Members that may not make an array. */
export interface TrialTask {
  readonly name: string;
  readonly files: readonly string[];
}

/** An array whose consistency policy Linux changes. */
export interface GrowTask {
  readonly name: string;
  readonly files: readonly string[];
  /** Behind `mdadm --grow`. */
  readonly word: string;
}

export interface GrowReport {
  /** As the kernel names it, afterwards. */
  readonly policy: string;
  /** sha256 of the array: as it was assembled, and after some writes in the new policy. */
  readonly sumBefore: string;
  readonly sumWritten: string;
}

/** Where a replace that Linux runs is left, on copies of the files. */
export interface ReplaceStop {
  /** How much of the member is copied; 100: it is over. */
  readonly percent: number;
  /** Stopped; or as it was while dirty, with all of its writes done. */
  readonly ending: "stopped" | "dirty";
  /** The copies, in the order of the task's files. */
  readonly files: readonly string[];
}

/** An array of which Linux replaces a member. */
export interface ReplaceTask {
  readonly name: string;
  /** Image files in the shared folder; the last one is the replacement. */
  readonly files: readonly string[];
  /** As for `CreateTask`. */
  readonly words: readonly string[];
  /** Index of the file that is replaced. */
  readonly replaces: number;
  /** The furthest last. */
  readonly stops: readonly ReplaceStop[];
}

export interface ReplaceReport {
  /** For each stop: sha256 of the array. */
  readonly sums: readonly string[];
}

/** An array that Linux makes smaller than its drives, and grows; it is stopped in its resync. */
export interface ResizeTask {
  readonly name: string;
  readonly files: readonly string[];
  /** As for `CreateTask`. */
  readonly words: readonly string[];
  readonly oldKib: number;
  /** How far the resync of the new part comes before the stop. */
  readonly percent: number;
}

export interface ResizeReport {
  /** sha256 of the array when it was stopped, with some writes in the new part. */
  readonly sum: string;
}

/** Where a growth in members that Linux runs is left, on copies of the files. */
export interface ReshapeStop extends ReplaceStop {
  /** How much of each member is laid out anew; 0: as little as it can be. */
  readonly percent: number;
}

/** An array that Linux lays out over more members. */
export interface ReshapeTask {
  readonly name: string;
  /** Image files in the shared folder; those from `oldCount` on are added. */
  readonly files: readonly string[];
  readonly oldCount: number;
  /** As for `CreateTask`. */
  readonly words: readonly string[];
  /** The furthest last. */
  readonly stops: readonly ReshapeStop[];
}

export interface ReshapeReport {
  /** sha256 of the array: as it was before, and for each stop. */
  readonly sumBefore: string;
  readonly sums: readonly string[];
}

/** The guest dies when so much of each member is laid out anew, while that goes on. */
export interface DeathTask extends Omit<ReshapeTask, "stops"> {
  readonly percent: number;
}

export interface MdPlan {
  readonly reshape?: readonly ReshapeTask[];
  /** The last thing that the guest does: its files are its disks. */
  readonly death?: DeathTask;
  readonly resize?: readonly ResizeTask[];
  readonly replace?: readonly ReplaceTask[];
  readonly create?: readonly CreateTask[];
  readonly assemble?: readonly AssembleTask[];
  readonly trials?: readonly TrialTask[];
  readonly grow?: readonly GrowTask[];
}

export interface AssembleReport {
  /** For each file: mdadm --examine, blkid --probe. */
  readonly examined: readonly string[];
  readonly identified: readonly string[];
  /** mdadm --examine-bitmap, where there is one: when it runs, and nothing has been written. */
  readonly bitmaps: readonly string[];
  /** mdadm --detail at the end. */
  readonly detail: string;
  readonly degradedBefore: number;
  readonly isDirty: boolean;
  /** Of a check after everything was in sync. */
  readonly mismatches: number;
  /** sha256 of the array: as assembled, once in sync, after some writes of the kernel. */
  readonly sumBefore: string;
  readonly sumInSync: string;
  readonly sumWritten: string;
}

export interface MdReport {
  /** By name: the sha256 of the array, which was filled with noise. */
  readonly created: Record<string, string>;
  readonly assembled: Record<string, AssembleReport>;
  /** By name: how many members were missing when it started; null: it did not. */
  readonly trials: Record<string, number | null>;
  readonly grown: Record<string, GrowReport>;
  readonly replaced: Record<string, ReplaceReport>;
  readonly resized: Record<string, ResizeReport>;
  readonly reshaped: Record<string, ReshapeReport>;
}

/** One boot of the guest. The files of the plan lie in `folder`. */
export async function runMd(folder: string, plan: MdPlan): Promise<MdReport> {
  writeFileSync(join(folder, "plan.json"), JSON.stringify(plan));
  const disks = (plan.death?.files ?? []).map((file) => join(folder, file));
  const guest = await runGuest({ file: "test/interop/guest/md.ts", disks, folder });
  const expected = plan.death === undefined ? 0 : GUEST_DIED;
  if (guest.exitCode !== expected) throw new Error(guest.output);
  return JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
}
