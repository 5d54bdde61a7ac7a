/**
 * A test that fails on purpose. No normal run takes it, for its name does not end in `.test.ts`;
 * test/unit/tests/run.test.ts runs it to see that a failure is reported as one.
 */
import { expect, test } from "bun:test";

test("canary: a wrong sum: fails", () => {
  expect(1 + 1).toBe(3);
});

test("canary: a right sum: passes", () => {
  expect(1 + 1).toBe(2);
});
