/** The orders in which three things can come. */
export const ORDERS_OF_THREE = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
] as const;

/** Each list of `length` of the choices. */
export function* lists<T>(choices: readonly T[], length: number): Generator<readonly T[]> {
  if (length === 0) {
    yield [];
    return;
  }
  for (const rest of lists(choices, length - 1))
    for (const choice of choices) yield [...rest, choice];
}
