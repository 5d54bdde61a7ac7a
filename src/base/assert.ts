/**
 * Assertions that stay on in production.
 *
 * A failed assertion is a programmer error: it is never caught to go on. What it says about decides
 * how far it reaches. An invariant of one array stops that array (array/array-guard.ts), one of a
 * client's session ends that session. What all of them share can stop nobody alone: there the
 * process logs, leaves the arrays dirty (which is safe) and exits 70.
 */

export class AssertionError extends Error {
  override readonly name: string = "AssertionError";
}

/** No guard takes it: it says that something shared cannot be trusted any more. */
export class SharedAssertionError extends AssertionError {
  override readonly name = "SharedAssertionError";
}

/**
 * Throws `AssertionError` unless `condition` holds. `message` states what should have been true.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** As `assert`, of what all arrays and sessions share: the pool, the tables, the queues. */
export function assertShared(condition: boolean, message: string): asserts condition {
  if (!condition) throw new SharedAssertionError(message);
}

/** Marks a branch that the type checker proves empty. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
