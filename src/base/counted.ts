/** Words for so many of a thing. */

/** The word alone: "is" of 1, "are" of any other count. */
export function wordFor(count: number, one: string, many = `${one}s`): string {
  return count === 1 ? one : many;
}

/** "1 client", "2 clients"; "1 entry", "2 entries" where `many` is said. */
export function counted(count: number, one: string, many?: string): string {
  return `${count} ${wordFor(count, one, many)}`;
}
