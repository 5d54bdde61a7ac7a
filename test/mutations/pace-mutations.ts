/** Ways to break the pace of work beside clients (array/sync/sync-pace.ts, sweep.ts). */
import type { Mutation } from "./mutations.ts";

const PACE = "src/array/sync/sync-pace.ts";
const UNIT = "./test/unit/array/sync-pace.test.ts";
const STORIES = "./test/sim/array/beside-clients.test.ts";

export const PACE_MUTATIONS: readonly Mutation[] = [
  {
    name: "pace: what a stall has cost is done at once",
    rule: null,
    file: PACE,
    find: "const BURST_MS = 4;",
    replace: "const BURST_MS = 100;",
    test: [UNIT, "-t", "after a stall"],
  },
  {
    name: "pace: the time at full speed counts as time in which nothing was done",
    rule: null,
    file: PACE,
    find: "if (!Number.isFinite(speed)) {",
    replace: "if (!Number.isFinite(speed)) {\n      this.atMs -= elapsedMs;",
    test: [UNIT, "-t", "no burst"],
  },
  {
    name: "pace: a look that comes late has lost what it could have begun",
    rule: null,
    file: PACE,
    find: "const budgetMost = Math.max(chunkBytes, perMs * BUDGET_MS);",
    replace: "const budgetMost = chunkBytes;",
    test: [UNIT, "-t", "looks that come late"],
  },
  {
    name: "pace: a piece of many chunks costs no more than a chunk",
    rule: null,
    file: PACE,
    find: "    this.budgetBytes -= bytes;\n    this.burstBytes -= bytes;",
    replace: "    this.budgetBytes -= this.chunkBytes;\n    this.burstBytes -= this.chunkBytes;",
    test: [UNIT, "-t", "pieces of many chunks"],
  },
  {
    name: "pace: clients do not slow the work down",
    rule: null,
    file: PACE,
    find: "return isBusy ? Math.min(speedMin, speedMax) : speedMax;",
    replace: "return speedMax;",
    test: [UNIT, "-t", "the least beside clients"],
  },
  {
    name: "pace: pieces are as large beside clients as without them",
    rule: null,
    file: "src/array/sync/sync-run.ts",
    find: "return this.isBusy() ? this.gentleStripes : this.stripes;",
    replace: "return this.stripes;",
    test: [STORIES, "-t", "beside a client"],
  },
  {
    name: "pace: all lanes that waited begin together",
    rule: null,
    file: "src/array/sync/sweep.ts",
    find: "if (waitMs === 0) break;",
    replace: "if (waitMs < LOOK_MS) break;",
    test: [STORIES, "-t", "beside a client"],
  },
];
