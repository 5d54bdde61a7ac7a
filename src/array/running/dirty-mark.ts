/**
 * Clean and dirty, by md's protocol.
 *
 *   clean --a write comes--> marking --mark is durable--> dirty --200 ms without writes--> cleaning
 *     ^                                                     ^            |          |
 *     +--------------------- flushed and recorded ----------+------------+          |
 *                                                           +-- not flushed --------+
 *
 *   marking, cleaning --some members have no room for the mark--> mixed
 *   mixed --a write comes--> marking        mixed --200 ms without writes--> cleaning
 *
 * Order: the dirty mark is durable on all members before any data is written. The clean mark is
 * written only after a flush, submitted after all writes completed, has succeeded on every member
 * (write-rules 7). Where an update has not reached all members some may say "clean", and what the
 * freshest one says counts after a crash: no data is written until all of them say "dirty" again.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { EIO, ENOSPC, EPERM } from "../../base/errno.ts";
import type { Guard } from "../../base/guard.ts";
import type { Signal } from "../../base/signal.ts";
import type { Timers } from "../../reactor/timers.ts";
import type { ArrayCore } from "./array-core.ts";

const SAFE_MODE_DELAY_MS = 200;

export interface DirtyMarkHost {
  readonly guard: Guard;
  /** Raised when a write or a superblock update may have ended. */
  readonly changed: Signal;
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
  /** Nothing is written any more: rows that wait for room wait for ever. */
  isFailed(): boolean;
  /** Whether rows wait for room: those writes may end at any time, or never. */
  waitsForRoom(): boolean;
  /** Brings home what waits for room; false: it stays as after a crash, and the array dirty. */
  closeWrites(): Promise<boolean>;
  /** Counts writes since the start: tells whether any came in a while. */
  writeCount(): number;
}

export type DirtyState = "clean" | "marking" | "dirty" | "cleaning" | "mixed";

/** Where each step may come from. A stop goes from dirty to clean by itself. */
const CAN_FOLLOW: Readonly<Record<DirtyState, readonly DirtyState[]>> = {
  clean: ["cleaning", "dirty", "mixed"],
  marking: ["clean", "mixed"],
  dirty: ["marking", "cleaning"],
  cleaning: ["dirty", "mixed"],
  mixed: ["marking", "cleaning"],
};

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
    this.openGate();
    this.watch();
  }

  private openGate(): void {
    assert(this.current === "dirty", "the gate opens when the dirty mark is durable");
    assert(!this.isPaused, "the gate stays shut while the mark is paused");
    this.host.openGate();
  }

  writeWaiting(): void {
    if (!this.isUnderWay && this.current !== "dirty") this.markIfWanted();
  }

  /**
   * Makes the array clean and keeps writes waiting until `resume`. False: it stays dirty, as it does
   * while rows wait for room: neither clients nor a stop wait for that.
   */
  async pause(): Promise<boolean> {
    assert(!this.isPaused && !this.isStopping, "one at a time keeps the array clean");
    this.isPaused = true;
    this.host.closeGate();
    // A mark that was on its way opens the gate once more.
    const isWaitedFor = () =>
      this.host.activeWrites() > 0 && !this.host.isFailed() && !this.host.waitsForRoom();
    while (this.isUnderWay || isWaitedFor()) {
      await this.host.changed.wait();
      this.host.closeGate();
    }
    this.timers.cancel(this.timer);
    if (this.host.isFailed() || this.host.activeWrites() > 0) return false;
    if (this.current !== "clean") await this.clean();
    assert(!this.isUnderWay, "nothing is marked while writes are kept waiting");
    this.host.closeGate();
    return this.current === "clean";
  }

  resume(): void {
    assert(this.isPaused, "only a mark that was paused goes on");
    this.isPaused = false;
    if (this.current === "dirty") {
      this.openGate();
      this.watch();
    } else {
      if (this.current === "mixed") this.watch();
      this.markIfWanted();
    }
  }

  private get isUnderWay(): boolean {
    return this.current === "marking" || this.current === "cleaning";
  }

  /** Marks the array clean for a stop: no write is under way and none will come. */
  async stop(): Promise<boolean> {
    assert(!this.isStopping && !this.isPaused, "a mark is stopped once");
    this.isStopping = true;
    this.timers.cancel(this.timer);
    await this.host.changed.until(() => !this.isUnderWay);
    this.timers.cancel(this.timer);
    this.host.closeGate();
    if (this.current === "clean") return true;
    if (!(await this.host.closeWrites())) return false;
    assert(this.host.activeWrites() === 0, "the last write has ended before the last flush");
    if (!(await this.host.flush())) return false;
    assert(this.host.activeWrites() === 0, "the clean mark comes after the last write");
    if (!(await this.host.recordClean())) return false;
    this.change("clean");
    return true;
  }

  private change(to: DirtyState): void {
    const isNext = CAN_FOLLOW[to].includes(this.current);
    assert(isNext, `"${to}" does not follow "${this.current}"`);
    this.current = to;
    this.host.changed.raise();
  }

  private markIfWanted(): void {
    if (!this.host.hasWaitingWrites() || this.isStopping || this.isPaused) return;
    inBackground(this.mark(), this.host.guard);
  }

  private async mark(): Promise<void> {
    assert(!this.isUnderWay && this.current !== "dirty", "what says dirty is not marked again");
    this.timers.cancel(this.timer);
    this.change("marking");
    const isDurable = await this.host.recordDirty();
    if (!isDurable) {
      this.change("mixed");
      this.host.refuseWrites();
      if (!this.isPaused) this.watch();
      return;
    }
    this.change("dirty");
    if (this.isPaused) return;
    this.openGate();
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
    assert(!this.isUnderWay && this.current !== "clean", "what says clean is not marked again");
    const before = this.current;
    this.change("cleaning");
    this.host.closeGate();
    assert(this.host.activeWrites() === 0, "what is flushed for the clean mark has been written");
    const isFlushed = await this.host.flush();
    const isDurable = isFlushed && (await this.host.recordClean());
    assert(this.host.activeWrites() === 0, "no write begins while the array is marked clean");
    // Without a flush nothing was recorded: the members say what they said.
    const after: DirtyState = isDurable ? "clean" : isFlushed ? "mixed" : before;
    this.change(after);
    if (this.isPaused) return;
    if (after === "dirty") this.openGate();
    if (after !== "clean") this.watch();
    if (after !== "dirty") this.markIfWanted();
  }
}

/** What could not be recorded, for want of space, is not what the next update says. */
async function record(core: ArrayCore, isDirty: boolean): Promise<boolean> {
  const { state, superblocks } = core;
  assert(!core.isReadOnlyStart, "a read-only start is marked neither dirty nor clean");
  const isDurable = await superblocks.update(() => {
    state.isMarkedDirty = isDirty;
  });
  if (!isDurable && superblocks.hasNoRoom) state.isMarkedDirty = !isDirty;
  return isDurable;
}

/** The array as its dirty mark sees it. `writeCount`: of clients, since the start. */
export function dirtyMarkHostOf(core: ArrayCore, writeCount: () => number): DirtyMarkHost {
  const { engine, superblocks } = core;
  return {
    guard: core.guard,
    changed: core.changed,
    recordDirty: () => record(core, true),
    recordClean: () => record(core, false),
    flush: () => (core.isFailed ? Promise.resolve(false) : engine.flush()),
    openGate: () => {
      const isMarked = core.state.isMarkedDirty || core.isFailed;
      assert(isMarked, "what the superblocks say when writes begin is dirty");
      engine.openGate();
    },
    closeGate: () => engine.closeGate(),
    refuseWrites: () => {
      const status = superblocks.hasNoRoom ? ENOSPC : EPERM;
      engine.refuseGated(core.isFailed ? EIO : status);
    },
    hasWaitingWrites: () => engine.hasGatedWrites,
    activeWrites: () => engine.activeWrites,
    isFailed: () => core.isFailed,
    waitsForRoom: () => !engine.rows.parked.isEmpty,
    closeWrites: () => engine.rows.parked.close(),
    writeCount,
  };
}
