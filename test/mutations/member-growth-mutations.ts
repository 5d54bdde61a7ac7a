/** Ways to break a growth in members around its reshape (appliance/member-growth.ts). */
import type { Mutation } from "./mutations.ts";

const GROWTH = "src/appliance/member-growth.ts";

function call(name: string): readonly string[] {
  return ["./test/unit/api/grow.test.ts", "-t", name];
}

const REFUSED = ["./test/sim/array/reshape-refused.test.ts"];

export const MEMBER_GROWTH_MUTATIONS: readonly Mutation[] = [
  {
    name: "growth: the policy is changed before it is on record",
    rule: null,
    file: GROWTH,
    find: 'const recorded = await effects.commit({ kind: "put-array", array });',
    replace: "const recorded = ok(null);",
    test: call("the daemon ends in the middle"),
  },
  {
    name: "growth: what is begun in vain keeps the policy resync",
    rule: null,
    file: GROWTH,
    find: "    await this.putBack(array);\n    return err(",
    replace: "    return err(",
    test: call("begun in vain"),
  },
  {
    name: "growth: a policy that could not be put back is not tried again",
    rule: null,
    file: GROWTH,
    find: "this.lookout.later();\n    const { detail }",
    replace: "const { detail }",
    test: call("tried again without an event"),
  },
  {
    name: "growth: a start does not look for policies to put back",
    rule: null,
    file: "src/appliance/lookout.ts",
    find: '    this.phase = "looking";\n    this.soon();',
    replace: '    this.phase = "looking";',
    test: call("before the reshape has begun"),
  },
  {
    name: "growth: a policy that somebody chose is changed again",
    rule: null,
    file: "src/appliance/appliance.ts",
    find: "if (consistencyPolicy !== undefined) this.growth.policyChosen(array, consistencyPolicy);",
    replace: "",
    test: call("somebody chooses a policy"),
  },
  {
    name: "growth: the bitmap of a reshape of Linux's is not put back",
    rule: null,
    file: GROWTH,
    find: 'if (kind === "bitmap.set-aside") this.noteBitmap(arrayUuid);',
    replace: "",
    test: call("begun by Linux"),
  },
  {
    name: "growth: refused on its way, the new drives stay spares",
    rule: null,
    file: "src/array/commands/reshape.ts",
    find: "    return err(await takeBack(registry, record, joining, error));\n",
    replace: "    return err(error);\n",
    test: REFUSED,
  },
  {
    name: "growth: refused on its way, a drive that has a role by now is taken out of it",
    rule: null,
    file: "src/array/commands/reshape-refused.ts",
    find: "if (role >= 0) return",
    replace: "if (role < -1) return",
    test: REFUSED,
  },
  {
    name: "growth: a new drive that failed as a spare becomes a member",
    rule: null,
    file: "src/array/commands/reshape.ts",
    find: " ?? lostSpare(array, drives);",
    replace: ";",
    test: REFUSED,
  },
  {
    name: "growth: a schedule takes a reshape for rest",
    rule: null,
    file: "src/appliance/schedules/scene.ts",
    find: '"grow", "reshape", "rehearsal"',
    replace: '"grow", "rehearsal"',
    test: call("a schedule waits"),
  },
  {
    name: "growth: a scrub keeps the policy from being changed",
    rule: null,
    file: "src/array/commands/refusals.ts",
    find: "if (job === null || synchronizer.isYielding) return null;",
    replace: "if (job === null) return null;",
    test: call("a scrub that runs gives way"),
  },
  {
    name: "growth: a drive joins before all have been judged",
    rule: null,
    file: "src/array/commands/reshape.ts",
    find: "    if (!checked.ok) return checked.error;\n",
    replace: "",
    test: call("a drive that holds something"),
  },
];
