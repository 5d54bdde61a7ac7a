/**
 * Assertions that stay on in production.
 *
 * A failed assertion is a programmer error: it is never caught to go on. The process logs it,
 * leaves the arrays dirty (which is safe) and exits 70.
 */

export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/**
 * Throws `AssertionError` unless `condition` holds. `message` states what should have been true.
 */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Marks a branch that the type checker proves empty. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
