/**
 * The guard of one array: whatever is thrown in code that runs for this array stops the array, not
 * the process. Code runs for an array behind these doors alone:
 *
 * | door                                  | where a throw is caught                              |
 * |---------------------------------------|------------------------------------------------------|
 * | its turn, and whether one is due      | `turn`, `isDue` below, called by the registry        |
 * | answers of its drives                 | OutcomeRouter.dispatch, to owners that registered    |
 * |                                       | with `router` or through `asyncIo` of this guard     |
 * | its timers                            | GuardedTimers, in `context` of this guard            |
 * | work that nobody waits for            | inBackground(work, guard)                            |
 * | requests, and what clients ask of it  | RaidArrayFront                                       |
 * | answers of the helper                 | MemberPuncher                                        |
 * | commands, its start, stop and status  | CommandDoor (command-door.ts)                        |
 *
 * One door leads out: the completions of clients (`isOutside`). What is thrown there, and what
 * `assertShared` throws anywhere, is not of this array: it passes the guard and ends the process.
 *
 * A broken array is frozen. Its timers do not fire, its requests are not answered to it and its
 * drives take nothing more (broken-arrays.ts), so that what of it waits for anything waits for
 * ever. On disk it is as after a power cut at that moment. Its memory can be taken away one turn
 * later, when the microtasks that were queued have run.
 */
import { assert, SharedAssertionError } from "../base/assert.ts";
import type { Guard } from "../base/guard.ts";
import { AsyncIo } from "../block/async-io.ts";
import type { OutcomeRegistrar, OutcomeRouter } from "../block/outcome-router.ts";
import type { PoolShare } from "../block/pool.ts";
import { GuardedTimers } from "../reactor/timers.ts";
import type { ReactorContext } from "./reactor-context.ts";

/** A reactor's context as one of its arrays has it. */
export type ArrayContext = Omit<ReactorContext, "enginePool" | "payloadPool"> & {
  readonly enginePool: PoolShare;
  readonly payloadPool: PoolShare;
};

/** What takes turns. */
export interface TurnTaker {
  readonly isDue: boolean;
  turn(): void;
}

export class ArrayGuard implements Guard {
  isBroken = false;
  /** A client takes a completion: what it throws is not thrown by the array. */
  isOutside = false;
  readonly context: ArrayContext;
  readonly router: OutcomeRegistrar;
  /** For devices of the array's own: where their outcomes go. */
  readonly outcomes: OutcomeRouter;
  readonly asyncIo: AsyncIo;
  private readonly onBroken: (error: unknown) => void;

  constructor(options: {
    context: ReactorContext;
    router: OutcomeRouter;
    /** Called once, at the first throw, from behind whatever door that was. */
    onBroken: (error: unknown) => void;
  }) {
    const { context } = options;
    this.onBroken = options.onBroken;
    this.router = options.router.behind(this);
    this.outcomes = options.router;
    const timers = new GuardedTimers(context.timers, this);
    this.context = {
      ...context,
      timers,
      enginePool: context.enginePool.share(),
      payloadPool: context.payloadPool.share(),
    };
    this.asyncIo = new AsyncIo({ table: context.table, router: this.router });
  }

  caught(error: unknown): void {
    if (this.isOutside || error instanceof SharedAssertionError) throw error;
    // What else was under way falls over with it.
    if (this.isBroken) return;
    this.freeze();
    this.onBroken(error);
  }

  turn(array: TurnTaker): void {
    try {
      array.turn();
    } catch (error) {
      this.caught(error);
    }
  }

  isDue(array: TurnTaker): boolean {
    try {
      return array.isDue;
    } catch (error) {
      this.caught(error);
      return true;
    }
  }

  /** From now on nothing of the array goes on. */
  freeze(): void {
    this.isBroken = true;
    this.asyncIo.seal();
  }

  /**
   * Gives back the buffers of a frozen array, in a later turn than that in which it broke. How many
   * bytes of them are kept, because drives may still write to them.
   */
  reclaim(): number {
    assert(this.isBroken, "only a frozen array has its memory taken away");
    const { enginePool, payloadPool } = this.context;
    return enginePool.reclaim() + payloadPool.reclaim();
  }

  /** The array has been stopped, and has given back everything. */
  close(): void {
    this.asyncIo.close();
    this.context.enginePool.end();
    this.context.payloadPool.end();
  }
}
