/** Every rule that looks at one file of the tree. */
import { checkLayers, checkPurity, checkSets, checkWorkers } from "./layers.ts";
import { checkLeftovers, checkShape } from "./shape.ts";
import type { Violation } from "./source.ts";

export function checkFile(path: string, source: string): Violation[] {
  return [checkLayers, checkPurity, checkWorkers, checkSets, checkShape, checkLeftovers].flatMap(
    (check) => check(path, source),
  );
}
