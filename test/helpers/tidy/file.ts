/** Every rule that looks at one file of the tree, and the lists of files that break one still. */
import { checkLayers, checkPage, checkPurity, checkSets, checkWorkers } from "./layers.ts";
import { checkPolls, KNOWN_POLLS } from "./polls.ts";
import { checkLeftovers, checkShape, LONG_FILES } from "./shape.ts";
import type { Violation } from "./source.ts";

export function checkFile(path: string, source: string): Violation[] {
  return [
    ...checkLayers(path, source),
    ...checkPurity(path, source),
    ...checkWorkers(path, source),
    ...checkSets(path, source),
    ...checkPage(path, source),
    ...checkShape(path, source),
    ...checkPolls(path, source),
    ...checkLeftovers(path, source),
  ];
}

/** A list that names what is not there says nothing. */
export function checkLists(
  exists: (path: string) => boolean,
  lists: readonly ReadonlySet<string>[] = [LONG_FILES, KNOWN_POLLS],
): Violation[] {
  const listed = lists.flatMap((list) => [...list]);
  const message = "is on a list of the rules, and is not there";
  return listed.filter((path) => !exists(path)).map((path) => ({ path, line: 0, message }));
}
