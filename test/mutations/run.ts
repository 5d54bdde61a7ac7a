/**
 * `npm run mutations`: breaks the product in every listed way, one at a time, in a copy of the
 * tree, and prints which test noticed. The exit code is 1 when one was not noticed.
 *
 *   bun test/mutations/run.ts [part of a name ...]
 */
import { MutantTree, type Verdict } from "./mutant.ts";
import { MUTATIONS } from "./mutations.ts";

const BUDGET_MS = 400_000;

function lineOf(verdict: Verdict): string {
  switch (verdict.kind) {
    case "caught":
      return `caught by "${verdict.by}"`;
    case "broken":
      return `BROKEN: ${verdict.why}`;
    default:
      return verdict.kind.toUpperCase();
  }
}

const parts = process.argv.slice(2);
const chosen = MUTATIONS.filter(
  ({ name }) => parts.length === 0 || parts.some((part) => name.includes(part)),
);
if (chosen.length === 0) {
  console.error(`no mutation has ${parts.join(" or ")} in its name`);
  process.exit(1);
}
const tree = new MutantTree();
let caught = 0;
try {
  for (const mutation of chosen) {
    const startMs = performance.now();
    const verdict = await tree.judge(mutation, BUDGET_MS);
    if (verdict.kind === "caught") caught += 1;
    const seconds = ((performance.now() - startMs) / 1000).toFixed(1).padStart(5);
    const rule = mutation.rule === null ? "   -" : `rule ${mutation.rule}`.padStart(7);
    console.log(`${seconds} s  ${rule}  ${mutation.name}: ${lineOf(verdict)}`);
  }
} finally {
  tree.remove();
}
console.log(`${caught} of ${chosen.length} mutations caught`);
process.exit(caught === chosen.length ? 0 : 1);
