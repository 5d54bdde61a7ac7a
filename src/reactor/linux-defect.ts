/**
 * How a worker tells its parent of a defect before it ends.
 *
 * Whether an engine reports a throw in a worker depends on when it was thrown, and has differed
 * from machine to machine: the worker closes with code 0, and the reason is lost. So nothing here
 * depends on that. The worker posts what it met, then stands still: it does nothing more, and does
 * not end, because the parent ends the process when the message is there. A parent that does not
 * is not waited for for ever.
 */

export interface Defect {
  readonly kind: "defect";
  readonly message: string;
  /** With the message; the message alone where there is no stack. */
  readonly stack: string;
}

const GRACE_MS = 10_000;
const EXIT_INTERNAL = 70;

/**
 * Posts every defect of this worker from now on: what nobody catches, what nobody awaits, and what
 * is given to the function that it answers with. That one does not return.
 */
export function tellDefects(post: (defect: Defect) => void): (error: unknown) => never {
  const tell = (error: unknown): never => {
    const message = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error ? (error.stack ?? message) : message;
    post({
      kind: "defect",
      message,
      stack: stack.includes(message) ? stack : `${message}\n${stack}`,
    });
    // Nothing is done any more in this thread: the arrays stay as they are.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, GRACE_MS);
    process.exit(EXIT_INTERNAL);
  };
  process.on("uncaughtException", tell);
  process.on("unhandledRejection", tell);
  return tell;
}
