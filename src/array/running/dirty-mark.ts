/**
 * Clean and dirty, by md's protocol.
 *
 *   clean --a write comes--> marking --mark is durable--> dirty --200 ms without writes--> cleaning
 *     ^                                                     ^            |          |
 *     +--------------------- flushed and recorded ----------+------------+          |
 *                                                           +-- a write came -------+
 *
 * Order: the dirty mark is durable on all members before any data is written. The clean mark is
 * written only after a flush, submitted after all writes completed, has succeeded on every member
 * (write-rules 7).
 */
import { inBackground } from "../../base/background.ts";
import { EIO, ENOSPC, EPERM } from "../../base/errno.ts";
import type { Guard } from "../../base/guard.ts";
import type { Timers } from "../../reactor/timers.ts";
import type { RaidArray } from "../raid-array.ts";

export const SAFE_MODE_DELAY_MS = 200;

export interface DirtyMarkHost {
  readonly guard: Guard;
  /** Marks the array dirty on all members. True when that is durable. */
  recordDirty(): Promise<boolean>;
  /** Marks the array clean on all members. True when that is durable. */
  recordClean(): Promise<boolean>;
  flush(): Promise<boolean>;
  openGate(): void;
  closeGate(): void;
  /** The mark could not be made durable: the writes that wait are refused. */
  refuseWrites(): void;
  hasWaitingWrites(): boolean;
  activeWrites(): number;
  /** Brings home what waits for room; false: it stays as after a crash, and the array dirty. */
  closeWrites(): Promise<boolean>;
  /** Counts writes since the start: tells whether any came in a while. */
  writeCount(): number;
}

export type DirtyState = "clean" | "marking" | "dirty" | "cleaning";

export class DirtyMark {
  private current: DirtyState;
  private readonly host: DirtyMarkHost;
  private readonly timers: Timers;
  private timer = 0;
  private isStopping = false;
  private isPaused = false;

  constructor(options: { host: DirtyMarkHost; timers: Timers; isDirty: boolean }) {
    this.host = options.host;
    this.timers = options.timers;
    this.current = options.isDirty ? "dirty" : "clean";
  }

  get state(): DirtyState {
    return this.current;
  }

  /** Begins to watch an array that starts out dirty. */
  start(): void {
    if (this.current !== "dirty") return;
    this.host.openGate();
    this.watch();
  }

  writeWaiting(): void {
    if (this.current === "clean" && !this.isStopping && !this.isPaused)
      inBackground(this.mark(), this.host.guard);
  }

  /** Makes the array clean and keeps writes waiting until `resume`. False: it stays dirty. */
  async pause(): Promise<boolean> {
    this.isPaused = true;
    this.host.closeGate();
    while (this.isUnderWay || this.host.activeWrites() > 0) {
      await this.timers.sleep(1);
      this.host.closeGate();
    }
    this.timers.cancel(this.timer);
    if (this.current === "dirty") await this.clean();
    this.host.closeGate();
    return this.current === "clean";
  }

  resume(): void {
    this.isPaused = false;
    if (this.current === "dirty") {
      this.host.openGate();
      this.watch();
    } else if (this.host.hasWaitingWrites() && !this.isStopping)
      inBackground(this.mark(), this.host.guard);
  }

  private get isUnderWay(): boolean {
    return this.current === "marking" || this.current === "cleaning";
  }

  /** Marks the array clean for a stop: no write is under way and none will come. */
  async stop(): Promise<boolean> {
    this.isStopping = true;
    this.timers.cancel(this.timer);
    while (this.isUnderWay) await this.timers.sleep(1);
    this.timers.cancel(this.timer);
    this.host.closeGate();
    if (this.current === "clean") return true;
    if (!(await this.host.closeWrites())) return false;
    if (!(await this.host.flush())) return false;
    if (!(await this.host.recordClean())) return false;
    this.current = "clean";
    return true;
  }

  private async mark(): Promise<void> {
    this.current = "marking";
    const isDurable = await this.host.recordDirty();
    if (!isDurable) {
      this.current = "clean";
      this.host.refuseWrites();
      return;
    }
    this.current = "dirty";
    if (this.isPaused) return;
    this.host.openGate();
    this.watch();
  }

  private watch(): void {
    const seen = this.host.writeCount();
    this.timer = this.timers.scheduleAfter(SAFE_MODE_DELAY_MS, () => {
      if (this.isStopping || this.isPaused) return;
      if (this.host.activeWrites() > 0 || this.host.writeCount() !== seen) this.watch();
      else inBackground(this.clean(), this.host.guard);
    });
  }

  private async clean(): Promise<void> {
    this.current = "cleaning";
    this.host.closeGate();
    const isDurable = (await this.host.flush()) && (await this.host.recordClean());
    if (!isDurable) {
      // The members say "dirty", which is safe: stay so.
      this.current = "dirty";
      if (this.isPaused) return;
      this.host.openGate();
      this.watch();
      return;
    }
    this.current = "clean";
    if (this.host.hasWaitingWrites() && !this.isStopping && !this.isPaused)
      inBackground(this.mark(), this.host.guard);
  }
}

/** What could not be recorded, for want of space, is not what the next update says. */
async function record({ state, superblocks }: RaidArray, isDirty: boolean): Promise<boolean> {
  const isDurable = await superblocks.update(() => {
    state.isMarkedDirty = isDirty;
  });
  if (!isDurable && superblocks.hasNoRoom) state.isMarkedDirty = !isDirty;
  return isDurable;
}

/** The array as its dirty mark sees it. */
export function dirtyMarkHostOf(array: RaidArray): DirtyMarkHost {
  return {
    guard: array.guard,
    recordDirty: () => record(array, true),
    recordClean: () => record(array, false),
    flush: () => (array.members.isFailed ? Promise.resolve(false) : array.engine.flush()),
    openGate: () => array.engine.openGate(),
    closeGate: () => array.engine.closeGate(),
    refuseWrites: () => {
      const status = array.superblocks.hasNoRoom ? ENOSPC : EPERM;
      array.engine.refuseGated(array.members.isFailed ? EIO : status);
    },
    hasWaitingWrites: () => array.engine.hasGatedWrites,
    activeWrites: () => array.engine.activeWrites,
    closeWrites: () => array.engine.rows.parked.close(),
    writeCount: () => array.front.writeCount,
  };
}
