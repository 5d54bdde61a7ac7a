/**
 * Goal: what an array says of itself to clients follows from the members that it has now.
 * Method: an array on real files, one of which is said to lie on a drive that turns.
 */
import { afterEach, expect, test } from "bun:test";
import { MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

test("array: one member that turns: the front says so until it is replaced", () => {
  const made = new ArrayHarness();
  harness = made;
  for (const name of ["a", "b", "c", "d"]) {
    const drive = made.reactor.createDrive({ name, sizeBytes: 8 * MIB });
    made.must({ kind: "attach-drive", drive: { ...drive, isRotational: name === "b" } });
  }
  made.createArray({ drives: ["a", "b", "c"] });
  const front = made.service.frontOf("raid_test")!;
  expect(front.isRotational).toBe(true);
  made.must({ kind: "fail-member", array: "raid_test", drive: "b" });
  made.must({ kind: "add-member", array: "raid_test", drive: "d", force: false });
  made.settle();
  expect(made.status().degraded).toBe(0);
  expect(front.isRotational).toBe(false);
});
