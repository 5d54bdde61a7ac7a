/** Mutations of the growth in members: what is on disk, what lies where, what is said first. */
import type { Mutation } from "./mutations.ts";

const CODEC = "./test/unit/md/reshape.test.ts";
const ASSEMBLY = "./test/unit/md/assemble-reshape.test.ts";

function named(file: string, name: string): readonly string[] {
  return [file, "-t", name];
}
const LIVES = "./test/sim/array/reshape.test.ts";
const BITMAPS = ["./test/sim/array/reshape-bitmap.test.ts"];
const CUTS = [LIVES, "-t", "the power goes"];

export const RESHAPE_MUTATIONS: readonly Mutation[] = [
  {
    name: "reshape: the data of a member begins where it was, whatever moves there",
    rule: null,
    file: "src/md/reshape.ts",
    find: "superblock.dataOffsetSectors + Math.min(0, newOffset)",
    replace: "superblock.dataOffsetSectors",
    test: named(CODEC, "data that moves into an area"),
  },
  {
    name: "reshape: a gap as large as there is room, log or not",
    rule: null,
    file: "src/md/reshape-judge.ts",
    find: "logSectors(each, chunks) === best[index]",
    replace: "logSectors(each, chunks) !== undefined",
    test: named(CODEC, "the gap is the largest that has room for it"),
  },
  {
    name: "reshape: at one event count the position that is further holds",
    rule: null,
    file: "src/md/assemble/reshape-stage.ts",
    find: "here < there ? -1 : 1",
    replace: "here < there ? 1 : -1",
    test: named(ASSEMBLY, "the only one that has an update is lost"),
  },
  {
    name: "reshape: a member that the end did not reach has its data where it was",
    rule: null,
    file: "src/md/assemble/reshape-stage.ts",
    find: "here === null ? superblock : atEnd(superblock)",
    replace: "here === null ? superblock : withoutReshape(superblock)",
    test: named(ASSEMBLY, "cut short anywhere"),
  },
  {
    name: "reshape: a new drive that the begin did not reach has to be filled",
    rule: null,
    file: "src/md/assemble/reshape-stage.ts",
    find: "isSpare && role >= oldCount ? { ...begun, devRoles: freshest.devRoles } : begun",
    replace: "begun",
    test: named(ASSEMBLY, "cut short anywhere"),
  },
  {
    name: "reshape: a member from before has a history of its own",
    rule: null,
    file: "src/md/assemble/history.ts",
    find: "other < memberCount && !here.has(other)",
    replace: "!here.has(other)",
    test: named(ASSEMBLY, "from two updates ago"),
  },
  {
    name: "reshape: a member that was left behind while data moved comes back by force",
    rule: null,
    file: "src/md/assemble/reshape-stage.ts",
    find: "  if (isForced) return false;\n",
    replace: "",
    test: named(ASSEMBLY, "from two updates ago"),
  },
  {
    name: "reshape: a drive that joins has its bad-block log where its data moves to",
    rule: null,
    file: "src/md/join-layout.ts",
    find: "roundDown(dataOffsetSectors - gapSectors(array), ROW_SECTORS)",
    replace: "roundDown(dataOffsetSectors, ROW_SECTORS)",
    test: named("./test/unit/md/join-layout.test.ts", "in a reshape"),
  },

  {
    name: "the superblocks say that a range has been moved before it is durable",
    rule: null,
    file: "src/array/sync/reshape.ts",
    find: 'if (!(await engine.flush())) return "failed";',
    replace: "",
    test: CUTS,
  },
  {
    name: "a step writes over a row that the superblocks still need",
    rule: null,
    file: "src/raid5/geometry.ts",
    find: "return Math.min(this.firstNeeded, this.stripeCount) * this.stripeBytes;",
    replace: "return Math.min(this.firstNeeded + 2, this.stripeCount) * this.stripeBytes;",
    test: CUTS,
  },
  {
    name: "a range is moved while requests of before are under way",
    rule: null,
    file: "src/raid5/engine.ts",
    find: "return this.activeInEra[1 - this.era]! > 0 || this.rows.parked.count > 0;",
    replace: "return this.rows.parked.count > 0;",
    test: [LIVES, "-t", "a slow read of before"],
  },
  {
    name: "requests for a range that is being moved do not wait",
    rule: null,
    file: "src/raid5/geometry.ts",
    find: "return from < to && offset < to && offset + bytes > from;",
    replace: "return false && from < to + offset + bytes;",
    test: [LIVES, "-t", "zeros behind the old end"],
  },
  {
    name: "requests go to the new place before the superblocks say so",
    rule: null,
    file: "src/array/sync/reshape.ts",
    find: 'else engine.endMove({ isDone: end === "done" });',
    replace: 'else engine.endMove({ isDone: end !== "stopped" });',
    test: [LIVES, "-t", "no room on a drive"],
  },
  {
    name: "behind the old end stays what was there",
    rule: null,
    file: "src/array/sync/reshape.ts",
    find: "if (end < to) context.kernels.fill(buffer + (end - from), 0, to - end);",
    replace: "",
    test: [LIVES, "-t", "zeros behind the old end"],
  },
  {
    name: "a new member counts in a stripe that it has no part of",
    rule: null,
    file: "src/raid5/members/member-set.ts",
    find: "if (roles < this.memberCount) return intersection(this.missingBits, firstBits(roles));",
    replace: "",
    test: [LIVES, "-t", "d3 is lost"],
  },
  {
    name: "what is moved is believed to have been read by a drive that does not answer",
    rule: null,
    file: "src/array/sync/reshape.ts",
    find: "if (all === ETIMEDOUT) return null;",
    replace: "if (all === ETIMEDOUT) return [];",
    test: [LIVES, "-t", "a member that does not answer"],
  },
  {
    name: "what a reshape writes marks the array dirty",
    rule: null,
    file: "src/raid5/engine.ts",
    find: "return this.inner.run(write, (request) => this.admit(request), MOVES_FLAG);",
    replace: "return this.inner.run(write, (request) => this.pass(request), MOVES_FLAG);",
    test: [LIVES, "-t", "nobody wrote"],
  },
  {
    name: "a reshape of Linux's goes on while superblocks still name its bitmap",
    rule: null,
    file: "src/array/start/start.ts",
    find: "    leavesBitmap ||\n",
    replace: "",
    test: BITMAPS,
  },
  {
    name: "a stale bitmap of a reshape of Linux's counts as right",
    rule: null,
    file: "src/array/start/consistency.ts",
    find: "const resyncFromSector = isStale ? 0 : plan.resyncFromSector;",
    replace: "const resyncFromSector = isStale ? plan.resyncFromSector : plan.resyncFromSector;",
    test: [...BITMAPS, "-t", "clean, and the bitmap says it is stale"],
  },
  {
    name: "a reshape of Linux's goes on whatever its bitmap may be",
    rule: null,
    file: "src/array/start/consistency.ts",
    find: "if (loaded.length === 0) return err(unusable(failure));",
    replace: "",
    test: [...BITMAPS, "-t", "nobody understands"],
  },
  {
    name: "parity that was in doubt before a reshape is not computed anew behind it",
    rule: null,
    file: "src/md/assemble/assemble.ts",
    find: "    reshape !== null && superblock.resyncOffsetSectors !== null\n      ? 0\n",
    replace: "    reshape !== null && superblock.resyncOffsetSectors !== null\n      ? null\n",
    test: [...BITMAPS, "-t", "dirty, and the bitmap says nothing"],
  },
];
