/** Mutations of suspicion: who is suspect, whom reads go around, who is replaced by itself. */
import type { Mutation } from "./mutations.ts";

const SUSPICION = "./test/unit/array/suspicion.test.ts";
const SLOW = "./test/sim/raid5/slow-member.test.ts";
const STORIES = "./test/life/suspects.test.ts";
const PICKS = "./test/unit/appliance/pick-suspect.test.ts";

export const SUSPECT_MUTATIONS: readonly Mutation[] = [
  {
    name: "a suspicion ends as soon as the limit is not reached any more",
    rule: null,
    file: "src/array/drives/suspicion.ts",
    find: "const least = known === undefined ? limit : limit / 2;",
    replace: "const least = limit;",
    test: [SUSPICION, "-t", "crossed at the limit"],
  },
  {
    name: "what is counted never leaves the day",
    rule: null,
    file: "src/array/drives/suspicion.ts",
    find: "const kept = hours.filter((past) => past.hour > hour - HOURS);",
    replace: "const kept = hours.filter((past) => past.hour > hour - 9 * HOURS);",
    test: [SUSPICION, "-t", "over more than a day"],
  },
  {
    name: "one single late answer makes a member slow",
    rule: null,
    file: "src/array/drives/suspicion.ts",
    find: "return reads < READS_MIN ? null : (sumMs - longestMs) / (reads - 1);",
    replace: "return reads < READS_MIN ? null : sumMs / reads;",
    test: [SUSPICION, "-t", "one single late answer"],
  },
  {
    name: "the members of a degraded array are compared",
    rule: 14,
    file: "src/array/running/suspicion-watch.ts",
    find: "isComparable: around.canReconstruct && members.copy === null,",
    replace: "isComparable: true,",
    test: [SLOW, "-t", "goes around nobody"],
  },
  {
    name: "a member that reads go around never comes back",
    rule: 14,
    file: "src/array/running/reads-around.ts",
    find: 'fast = said === "fast" ? fast + 1 : 0;',
    replace: "fast = 0;",
    test: [SLOW, "-t", "fast again"],
  },
  {
    name: "a drive that is slow under load comes and goes",
    rule: null,
    file: "src/array/running/reads-around.ts",
    find: "return isAgain ? Math.min(FAST_PROBES_MAX, 2 * last.wanted) : FAST_PROBES_MIN;",
    replace: "return isAgain ? last.wanted : FAST_PROBES_MIN;",
    test: [SLOW, "-t", "more probes are wanted"],
  },
  {
    name: "a scrub goes past a member that is merely slow",
    rule: null,
    file: "src/array/sync/scrub.ts",
    find: "const isPassed = members.isAvoidedHung && members.avoidedRoles(stripe) !== 0;",
    replace: "const isPassed = members.avoidedRoles(stripe) !== 0;",
    test: [SLOW, "-t", "a scrub compares it"],
  },
  {
    name: "a late read ends the replace of its member",
    rule: null,
    file: "src/array/sync/replace.ts",
    find: 'if (isLate(result, members) && members.copy === copy) return "late";',
    replace: "",
    test: [SLOW, "-t", "some reads are late"],
  },
  {
    name: "a copy goes on in buffers that a late read has",
    rule: 10,
    file: "src/array/sync/replace.ts",
    find: "        wasLate = true;\n        return false;",
    replace: "        wasLate = true;\n        return true;",
    test: [SLOW, "-t", "some reads are late"],
  },
  {
    name: "a slow member is copied from all the same",
    rule: null,
    file: "src/raid5/sync/stripe-sync.ts",
    find: "const isAvoided = hasBit(members.avoidedRoles(stripe), copyRole);",
    replace: "const isAvoided = copyRole < 0;",
    test: [SLOW, "-t", "had from the others"],
  },
  {
    name: "a replace that was tried is begun again",
    rule: null,
    file: "src/appliance/spares/pick-suspect.ts",
    find: "return wasTried ? [] : [{ member: drive, since: suspect.since }];",
    replace: "return wasTried && nowMs < 0 ? [] : [{ member: drive, since: suspect.since }];",
    test: [STORIES, "-t", "not again within a day"],
  },
  {
    name: "a replace that was begun by hand is no attempt",
    rule: null,
    file: "src/appliance/spares/suspect-replacer.ts",
    find: "this.note({ array: uuid, drive, since: suspect.since, atMs: nowMs });",
    replace: "",
    test: [STORIES, "-t", "cancelled a replace by hand"],
  },
  {
    name: "suspects are replaced where nobody wants it",
    rule: null,
    file: "src/appliance/spares/pick-suspect.ts",
    find: 'replaceSuspects && isWhole && sync.action === "idle"',
    replace: '(replaceSuspects || isWhole) && isWhole && sync.action === "idle"',
    test: [PICKS],
  },
  {
    name: "a drive that is just being seated is asked for its superblock",
    rule: null,
    file: "src/array/sync/seating.ts",
    find: ".flatMap((other) => other.superblock ?? [])",
    replace: ".map((other) => other.superblock!)",
    test: [STORIES, "-t", "two at a time"],
  },
];
