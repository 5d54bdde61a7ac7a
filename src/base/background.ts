/**
 * Work that nobody waits for.
 *
 * Promises do not reject for operating errors, so a rejection is a bug. Unhandled, it ends the
 * process when the engine's own event loop next turns; a simulation turns without one, and is told
 * here, at once.
 */

let report = (error: unknown): void => {
  throw error;
};

export function inBackground(work: Promise<unknown>): void {
  void work.then(undefined, (error: unknown) => report(error));
}

/** Told of every rejection from now on, instead of the event loop. */
export function watchBackground(listener: (error: unknown) => void): void {
  report = listener;
}
