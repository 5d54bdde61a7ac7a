/**
 * What follows when an array breaks: an assertion, or anything else, was thrown in code that ran
 * for it (array-guard.ts). Nobody knows what of its state still holds, so nothing of it is used.
 *
 *   at once      no drive of it takes anything more, for good; what is queued is taken back, and
 *                the buffers of what is under way are pinned until it ends (write-rules 10). No
 *                superblock is written: it stays dirty on disk, which is safe
 *   one turn     its requests are answered EIO, its jobs end as failed, its commands are answered,
 *   later        its buffers are given back; the log gets the stack, the event says what to do
 *   until the    its drives are held, and commands about it are refused: what it left with its
 *   daemon ends  drives may land at any time
 */
import { assert } from "../base/assert.ts";
import { EIO } from "../base/errno.ts";
import { MIB } from "../base/units.ts";
import type { Drive } from "./drives/drive.ts";
import type { JobTable } from "./jobs.ts";
import type { ArrayEvent, CommandError } from "./protocol.ts";
import type { RaidArray } from "./raid-array.ts";
import type { ReactorContext } from "./reactor-context.ts";
import type { ArrayRecord } from "./record.ts";

/** Told of an array that broke: commands about it are under way. */
export interface BreakListener {
  /** Drives that a command was just bringing into the array. */
  drivesFor(record: ArrayRecord): Iterable<Drive>;
  /** Nothing of the array goes on: its commands are to be answered. */
  broken(record: ArrayRecord): void;
}

export interface BrokenArraysOptions {
  readonly context: ReactorContext;
  readonly jobs: JobTable;
  /** The drives that carry superblocks of an array. */
  drivesOf(uuid: string): readonly Drive[];
  /** The array takes no part of what arrays share any more. */
  leave(array: RaidArray): void;
  emit(event: ArrayEvent): void;
}

export class BrokenArrays {
  listener: BreakListener | null = null;
  private readonly options: BrokenArraysOptions;
  private readonly context: ReactorContext;
  private readonly arrays: RaidArray[] = [];

  constructor(options: BrokenArraysOptions) {
    this.options = options;
    this.context = options.context;
  }

  /** Their fronts have answers for the next turn. */
  get isDue(): boolean {
    for (const { front } of this.arrays) if (front.isDue) return true;
    return false;
  }

  /** Once a turn: clients are told that there is nothing to be had. */
  turn(): void {
    for (const { front } of this.arrays) front.turn();
  }

  break(record: ArrayRecord, error: unknown): void {
    if (record.broken !== null) return;
    const { running } = record;
    running?.core.guard.freeze();
    const drives = new Set(this.options.drivesOf(record.uuid));
    if (running !== null) for (const drive of running.core.roster.drives()) drives.add(drive);
    for (const drive of this.listener?.drivesFor(record) ?? []) drives.add(drive);
    for (const drive of drives) drive.seal();
    const reason =
      `a defect of parityd stopped it: ${messageOf(error)}. Its data are as after a power cut. ` +
      "Restart parityd to start it again, and report the lines of the log about this";
    assert(running === null || running.core.guard.isBroken, "an array that breaks is frozen");
    record.broken = { reason, array: running, drives };
    record.running = null;
    record.reason = reason;
    this.context.timers.scheduleAfter(0, () => this.windUp(record, error));
  }

  /** A command about drives of no array met a defect: they take nothing any more. */
  setAside(drives: readonly Drive[], error: unknown): CommandError {
    assert(drives.length > 0, "a defect that is about drives names them");
    for (const drive of drives) {
      drive.setAside(`a defect of parityd: ${messageOf(error)}`);
    }
    const names = drives.map(({ name }) => name).join(", ");
    const fields = { drives: names, error: stackOf(error) };
    this.context.log.write("error", "a command about drives met a defect", fields);
    const detail =
      `a defect of parityd: ${messageOf(error)}. Drives ${names} are not used until parityd is ` +
      "restarted: report the lines of the log about this";
    return { kind: "conflict", code: "defect", detail };
  }

  private windUp(record: ArrayRecord, error: unknown): void {
    assert(record.broken !== null, "what is wound up has broken");
    const { array, reason, drives } = record.broken;
    assert(array === null || array.core.guard.isBroken, "nothing of a broken array goes on");
    let keptBytes = 0;
    if (array !== null) {
      this.arrays.push(array);
      array.front.answerAll(EIO);
      this.options.leave(array);
      keptBytes = array.core.guard.reclaim();
    }
    for (const job of this.options.jobs.list()) {
      const isOpen = job.state === "running" || job.state === "paused";
      if (job.arrayUuid === record.uuid && isOpen) this.options.jobs.end(job, "failed", reason);
    }
    this.listener?.broken(record);
    let outstanding = 0;
    for (const drive of drives) outstanding += drive.outstanding;
    this.context.log.write("error", `array ${record.name} is stopped by a defect`, {
      array: record.name,
      error: stackOf(error),
      requestsOutstanding: outstanding,
      keptMib: keptBytes / MIB,
    });
    this.options.emit({
      kind: "array.broken",
      severity: "critical",
      array: record.name,
      arrayUuid: record.uuid,
      drive: null,
      job: null,
      atMs: this.context.clock.wallMs(),
      message: reason,
    });
  }
}

/** The answer to a command about an array that is broken. */
export function brokenError({ name, broken }: ArrayRecord): CommandError {
  const detail = `array ${name} is broken: ${broken?.reason ?? "a defect stopped it"}`;
  return { kind: "conflict", code: "array-broken", detail };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
