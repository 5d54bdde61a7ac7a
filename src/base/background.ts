/**
 * Work that nobody waits for.
 *
 * Promises do not reject for operating errors, so a rejection is a bug. The guard of the array that
 * the work belongs to takes it. Where there is none, or the guard does not take it, it ends the
 * process when the engine's own event loop next turns; a simulation turns without one, and is told
 * here, at once.
 */
import type { Guard } from "./guard.ts";

let report = (error: unknown): void => {
  throw error;
};

export function inBackground(work: Promise<unknown>, guard: Guard | null): void {
  void work.then(undefined, (error: unknown) => {
    if (guard === null) return report(error);
    try {
      guard.caught(error);
    } catch (shared) {
      report(shared);
    }
  });
}

/** Told of every rejection from now on, instead of the event loop. */
export function watchBackground(listener: (error: unknown) => void): void {
  report = listener;
}
