/** Mutations of spares: which is taken, by whom, and what is told of them. */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/life/spares.test.ts";

export const SPARE_MUTATIONS: readonly Mutation[] = [
  {
    name: "the largest spare is taken",
    rule: null,
    file: "src/appliance/spares/pick-spare.ts",
    find: "return one.sizeBytes - other.sizeBytes ||",
    replace: "return other.sizeBytes - one.sizeBytes ||",
    test: ["./test/unit/appliance/pick-spare.test.ts"],
  },
  {
    name: "a shared spare is taken by force",
    rule: null,
    file: "src/appliance/spares/spare-keeper.ts",
    find: "const request = { array, drive, force: false, isForRole: true };",
    replace: "const request = { array, drive, force: true, isForRole: true };",
    test: [STORIES, "-t", "what somebody has put on it"],
  },
  {
    name: "a drive with a superblock is shared still",
    rule: null,
    file: "src/appliance/spares/shared-spares.ts",
    find: "if (!isSeating && (status === undefined || isOfAnArray(status))) {",
    replace: "if (!isSeating && status === undefined) {",
    test: [STORIES, "-t", "nothing is recorded while an array takes it"],
  },
  {
    name: "that no spare is left is told at every look",
    rule: null,
    file: "src/appliance/spares/spare-keeper.ts",
    find: "if (hasSpare === hadSpare) return;",
    replace: "if (hasSpare) return;",
    test: [STORIES, "-t", "no spare left"],
  },
  {
    name: "a spare that cannot be read is taken all the same",
    rule: null,
    file: "src/appliance/spares/spare-reader.ts",
    find: 'store.note({ kind: "put-spare", spare: { ...spare, failure } });',
    replace: "void store;",
    test: [STORIES, "-t", "a scrub reads the spares"],
  },
  {
    name: "what is added for a role becomes a spare",
    rule: null,
    file: "src/array/commands/members.ts",
    find: "if (isForRole && !hasRoleFor(core)) return err(noFreeRole(core));\n  return synchronizer",
    replace: "return synchronizer",
    test: ["./test/sim/array/let-go.test.ts", "-t", "for a role only"],
  },
  {
    name: "a drive without a seat is not let go of",
    rule: null,
    file: "src/array/commands/members.ts",
    find: "if (!hasSeat && !wasOurs) {",
    replace: "if (!hasSeat) {",
    test: ["./test/sim/array/let-go.test.ts", "-t", "stale after a restart"],
  },
];
