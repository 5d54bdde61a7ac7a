/** Ways to break the rehearsal of a loss (array/sync/rehearsal.ts). */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/sim/array/rehearsal.test.ts";
const REHEARSAL = "src/array/sync/rehearsal.ts";

function story(name: string): readonly string[] {
  return [STORIES, "-t", `rehearsal: ${name}`];
}

export const REHEARSAL_MUTATIONS: readonly Mutation[] = [
  {
    name: "overlay: a write goes to the drive below",
    rule: null,
    file: "src/block/overlay-filter.ts",
    find: "this.answer(request, this.keep(request) ? bytes : -ENOSPC);",
    replace: "this.next.submit(request);",
    test: ["./test/unit/block/overlay-filter.test.ts"],
  },
  {
    name: "overlay: a part of a write without room is kept",
    rule: null,
    file: "src/block/overlay-filter.ts",
    find: "if (count * ROW_BYTES !== bytes) return false;",
    replace: "",
    test: ["./test/unit/block/overlay-filter.test.ts"],
  },
  {
    name: "rehearsal: compared after the stripe is let go of",
    rule: null,
    file: REHEARSAL,
    find:
      'if (met === "done") met = await this.verify(stage, report, stripe, buffer);\n' +
      "    stage.giveStripe(stripe, taken);\n    engine.releaseStripe(held);",
    replace:
      'engine.releaseStripe(held);\n    if (met === "done") ' +
      "met = await this.verify(stage, report, stripe, buffer);\n" +
      "    stage.giveStripe(stripe, taken);",
    test: story("resync: clients write behind"),
  },
  {
    name: "rehearsal: a row that its log says is not to be believed is compared",
    rule: null,
    file: REHEARSAL,
    find: 'read === "bad" || this.isOnRecord(stage, at)',
    replace: 'read === "bad"',
    test: story("rows on bad-block logs"),
  },
  {
    name: "rehearsal: what is on a survivor's bad-block log is read all the same",
    rule: null,
    file: "src/array/sync/rehearsal-stage.ts",
    find: "const rows = core.members.badRows[role] ?? null;",
    replace: "const rows = null;",
    test: story("rows on bad-block logs"),
  },
  {
    name: "rehearsal: a bad sector counts against its member",
    rule: null,
    file: "src/array/sync/member-reader.ts",
    find: "memberIo.register(Content.doubtful,",
    replace: "memberIo.register(Content.data,",
    test: story("a bad sector at each row"),
  },
  {
    name: "rehearsal: the chunk of who is lost is not told as lost",
    rule: null,
    file: "src/array/sync/rehearsal-report.ts",
    find: "this.noteLostData(stripe, row, failedRole);",
    replace: "",
    test: story("what it said is lost"),
  },
  {
    name: "rehearsal: it does not give way",
    rule: null,
    file: "src/array/sync/synchronizer.ts",
    find: "const rehearsal = this.rehearsals.pausable;",
    replace: "const rehearsal = null as Job | null;",
    test: story("what gives way"),
  },
];
