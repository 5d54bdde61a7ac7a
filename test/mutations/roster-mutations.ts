/** Ways to break the seats of an array and what follows from them (running/roster.ts). */
import type { Mutation } from "./mutations.ts";

const SEATS = ["./test/unit/array/roster.test.ts"];
const RULES = ["./test/sim/raid5/rules.test.ts"];
const RETURNING = ["./test/sim/array/returning.test.ts"];
const LATE = ["./test/sim/array/one-step-late.test.ts", "-t", "bitmap: a member fails"];
const ROSTER = "src/array/running/roster.ts";

export const ROSTER_MUTATIONS: readonly Mutation[] = [
  {
    name: "roster: a number is given again by the update that takes it",
    rule: null,
    file: "src/array/running/device-roles.ts",
    find: " && !this.givenUp.has(devNumber)",
    replace: "",
    test: ["./test/sim/array/replace.test.ts", "-t", "a number of its own"],
  },
  {
    name: "roster: a member that fails stays in the engine's set",
    rule: null,
    file: ROSTER,
    find: 'if (wasMember) effects.push({ kind: goesOn ? "take-over" : "leave-set" });',
    replace: "",
    test: SEATS,
  },
  {
    name: "roster: the superblocks are not told that a member is faulty",
    rule: null,
    file: "src/array/raid-array.ts",
    find: 'roster.setDeviceRole(effect.drive, effect.as === "role" ? role : Role[effect.as]);',
    replace: "roster.setDeviceRole(effect.drive, role);",
    test: RULES,
  },
  {
    name: "roster: a seat is taken although it is only named",
    rule: null,
    file: ROSTER,
    find: 'if (step === "naming" && event.kind === "seated") {',
    replace: 'if (step === "naming" && event.kind === "filled") {',
    test: SEATS,
  },
  {
    name: "roster: a drive that is being filled is told to be in sync",
    rule: null,
    file: ROSTER,
    find: 'return seat.step === "committing" ? "in-sync" : "rebuilding";',
    replace: 'return seat.step === "naming" ? "rebuilding" : "in-sync";',
    test: ["./test/crash/crash-life.test.ts", "-t", "matrix: rebuild under writes"],
  },
  {
    name: "roster: the number of a drive that left stays taken",
    rule: null,
    file: "src/array/sync/seating.ts",
    find: "      roster.setDeviceRole(drive, Role.spare);\n      // A spare",
    replace: "      // A spare",
    test: [...RETURNING, "-t", "failed and removed"],
  },
  {
    name: "roster: a rebuild counts although another member has failed since",
    rule: null,
    file: "src/array/raid-array.ts",
    find: 'if (!isDurable || core.isFailed || !isFilled("committing")) return false;',
    replace: 'if (!isDurable || !isFilled("committing")) return false;',
    test: LATE,
  },
  {
    name: "roster: a resync gives up bits although a member has failed since",
    rule: null,
    file: "src/array/sync/resync.ts",
    find: "policy.syncEnds(members.degradedCount === 0);",
    replace: "policy.syncEnds(true);",
    test: LATE,
  },
];
