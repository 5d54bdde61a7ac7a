/**
 * How densely the layers that hold the data say what they rely on: lines of a layer for each
 * assertion in it. An assertion that fails stops one array with its reason; an assumption that is
 * not written down lets it go on with wrong bytes.
 */
import { blank, type Violation } from "./source.ts";

/** Where every layer below is to come to. */
export const LINES_PER_ASSERTION_GOAL = 40;

/** The floor of each layer, to be raised (the number made smaller) up to the goal. */
export const LINES_PER_ASSERTION_TO_BE_RAISED: Readonly<Record<string, number>> = {
  array: 40,
  raid5: 40,
  md: 40,
};

const ASSERTION = /(?<![\w$.])(?:assert|assertShared|unreachable)\s*\(/g;

export function checkAssertions(
  sources: ReadonlyMap<string, string>,
  floors: Readonly<Record<string, number>> = LINES_PER_ASSERTION_TO_BE_RAISED,
): Violation[] {
  const violations: Violation[] = [];
  for (const [layer, most] of Object.entries(floors)) {
    const path = `src/${layer}`;
    let lines = 0;
    let assertions = 0;
    for (const [file, source] of sources) {
      if (!file.startsWith(`${path}/`) || !file.endsWith(".ts")) continue;
      lines += source.replace(/\n$/, "").split("\n").length;
      assertions += [...blank(source).code.matchAll(ASSERTION)].length;
    }
    if (lines <= most * assertions) continue;
    const message = `${assertions} assertions in ${lines} lines; at least one in ${most}`;
    violations.push({ path, line: 0, message });
  }
  return violations;
}
