/** Ways to break the replacement of a member that serves (raid5/members/member-copy.ts). */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/sim/array/replace.test.ts";
const CRASH = "./test/crash/crash-life.test.ts";
const MEMBER_IO = ["./test/unit/raid5/member-io.test.ts", "-t", "copied"];
const MEMBER_IO_FILE = "src/raid5/members/member-io.ts";

function story(name: string): readonly string[] {
  return [STORIES, "-t", name];
}

function crash(name: string): readonly string[] {
  return [CRASH, "-t", `matrix: ${name}`];
}

export const REPLACE_MUTATIONS: readonly Mutation[] = [
  {
    name: "replace: who joins an array that was started from a target is called a replacement",
    rule: null,
    file: "src/array/running/superblock-state.ts",
    find: 'this.ownIdentity = { ...superblock, otherFeatures: featuresFor("in-sync", superblock) };',
    replace: "this.ownIdentity = superblock;",
    test: story("started from the superblock of any drive"),
  },
  {
    name: "replace: writes behind the copy do not reach the target",
    rule: null,
    file: MEMBER_IO_FILE,
    find: "const hasTwin = role === members.copyRole && op !== Op.read && isOfData(user.content);",
    replace: "const hasTwin = role === members.copyRole && op === Op.flush;",
    test: story("resync: written behind the copy"),
  },
  {
    name: "replace: a flush does not reach the target",
    rule: null,
    file: MEMBER_IO_FILE,
    find: "const hasTwin = role === members.copyRole && op !== Op.read && isOfData(user.content);",
    replace:
      "const hasTwin = role === members.copyRole && op !== Op.read && op !== Op.flush && isOfData(user.content);",
    test: crash("a replace whose member dies under writes"),
  },
  {
    name: "replace: a write is answered before its twin",
    rule: null,
    file: "src/raid5/members/io-twins.ts",
    find: "      this.state[io] = Twin.targetOut;\n      this.held[io] = answer;\n      return false;",
    replace: "      this.end(io);\n      return answer !== null;",
    test: MEMBER_IO,
  },
  {
    name: "replace: what one of the two did not take is not copied again",
    rule: null,
    file: "src/raid5/members/member-copy.ts",
    find: "if (this.progress.isDone(stripe)) this.doubtful.add(stripe);",
    replace: "",
    test: story("resync: a write that the member has no room for"),
  },
  {
    name: "replace: a target that takes over counts as durable",
    rule: null,
    file: "src/raid5/members/member-set.ts",
    find: "    this.rebuild!.durableStripe = 0;\n",
    replace: "",
    test: MEMBER_IO,
  },
  {
    name: "replace: the loss of a target is not on record",
    rule: null,
    file: "src/array/raid-array.ts",
    find: "if (!core.isFailed) this.recordFailure();\n        return;",
    replace: "return;",
    test: ["./test/sim/array/replace.test.ts", "-t", "on record before the answer"],
  },
  {
    name: "replace: after a crash the copy goes on where it was",
    rule: null,
    file: "src/md/assemble/assemble.ts",
    find: "recoveryOffsetSectors: isClean ? recoveryOffsetSectors : 0,",
    replace: "recoveryOffsetSectors,",
    test: crash("a slow replace"),
  },
  {
    name: "replace: the target does not say first that it has all",
    rule: null,
    file: "src/array/raid-array.ts",
    find: "        copy.progress.durableStripe = stripeCount;\n",
    replace: "",
    test: crash("replace under writes"),
  },
  {
    name: "replace: an array starts before the target is there",
    rule: null,
    file: "src/array/start/start.ts",
    find: "if (drivesIn(entry) < listed) missing.push(role);",
    replace: "if (drivesIn(entry) === 0 && listed > 0) missing.push(role);",
    test: story("resync: stopped in the middle"),
  },
];
