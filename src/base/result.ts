/** Operating errors are values: a `Result` is either `ok` with a value or not, with an error. */

export type Result<T, E> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E };

/** An error of one of these kinds, in a sentence that says what to do about it. */
export interface ErrorOf<Kind extends string> {
  readonly kind: Kind;
  readonly detail: string;
}

export function ok(): Result<undefined, never>;
export function ok<T>(value: T): Result<T, never>;
export function ok<T>(value?: T): Result<T | undefined, never> {
  return { ok: true, value };
}

export function err<E>(error: E): Result<never, E> {
  return { ok: false, error };
}
