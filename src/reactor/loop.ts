/**
 * What the layers above see of the event loop: readiness handlers and a hook per turn.
 *
 * One turn: wait for sockets and completions, handle them, run due timers, call the turn hooks,
 * submit everything that queued up in one io_submit, let microtasks run.
 */
import type { LatencyHistogram } from "../base/latency-histogram.ts";
import type { SocketKernel } from "./kernel.ts";
import type { Timers } from "./timers.ts";

export interface EventLoop {
  readonly sockets: SocketKernel;
  readonly timers: Timers;
  /** How long turns take, less their waits: nobody else gets a turn meanwhile. */
  readonly turnTimes: LatencyHistogram;
  /** Registers a readiness handler; the token is for `sockets.watch`. */
  addHandler(onReady: (ready: number) => void): number;
  removeHandler(token: number): void;
  /**
   * Calls `hook` once in every turn, after the handlers and before the submit. The loop does not
   * wait while `isDue` answers true: microtasks and later hooks may have left work for the hook.
   */
  onTurn(hook: () => void, isDue?: () => boolean): void;
}
