/**
 * Goal: the tests notice when the product is broken. Of the listed mutations three a day are made
 * here, others each day; `npm run mutations` makes them all.
 * Method: each is applied to a copy of the tree and its test has to fail. Two more show that the
 * runner tells the difference: one that changes nothing, and one that breaks a parity sum.
 */
import { afterAll, expect, test } from "bun:test";
import { TODAY, withShare } from "../helpers/share.ts";
import { MutantTree, occurrences } from "./mutant.ts";
import { MUTATIONS, type Mutation } from "./mutations.ts";

const BUDGET_MS = 400_000;
const A_DAY = 3;
const RULE_COUNT = 23;

const CANARY = {
  name: "canary",
  rule: null,
  file: "src/raid5/geometry.ts",
  test: ["./test/unit/raid5/geometry.test.ts"],
};
const NOTHING: Mutation = {
  ...CANARY,
  find: "export class Geometry {",
  replace: "export class Geometry { // The same.",
};
const BUG: Mutation = {
  ...CANARY,
  find: "if (role === parity) return -1;",
  replace: "",
};

let tree: MutantTree | null = null;

function theTree(): MutantTree {
  tree ??= new MutantTree();
  return tree;
}

afterAll(() => tree?.remove());

test("mutations: each piece of code to be changed: occurs exactly once", () => {
  const wrong = MUTATIONS.filter((mutation) => occurrences(mutation) !== 1);
  expect(wrong.map(({ name, file }) => `${file}: ${name}`)).toEqual([]);
});

test("mutations: each write rule: is broken by at least one", () => {
  const broken = new Set(MUTATIONS.map(({ rule }) => rule));
  const rules = Array.from({ length: RULE_COUNT }, (_, index) => index + 1);
  expect(rules.filter((rule) => !broken.has(rule))).toEqual([]);
});

test("mutations: names: differ", () => {
  expect(new Set(MUTATIONS.map(({ name }) => name)).size).toBe(MUTATIONS.length);
});

test("mutations: a canary that changes nothing: survives", async () => {
  expect(await theTree().judge(NOTHING, BUDGET_MS)).toEqual({ kind: "survived" });
});

test("mutations: a canary with a bug: is caught", async () => {
  expect((await theTree().judge(BUG, BUDGET_MS)).kind).toBe("caught");
});

test("mutations: a canary that is not in the code: is told, not passed over", async () => {
  const absent = { ...BUG, find: "this is not there" };
  expect((await theTree().judge(absent, BUDGET_MS)).kind).toBe("broken");
});

for (let turn = 0; turn < A_DAY; turn += 1) {
  const mutation = MUTATIONS[(TODAY * A_DAY + turn) % MUTATIONS.length]!;
  test(`mutations: today's number ${turn + 1}: is caught`, async () => {
    const verdict = await theTree().judge(mutation, BUDGET_MS);
    const { name } = mutation;
    withShare(() => expect([name, verdict.kind]).toEqual([name, "caught"]));
  });
}
