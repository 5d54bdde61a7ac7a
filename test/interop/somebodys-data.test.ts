/**
 * Goal: a drive with content is taken with force only, and what an own array left on it is free as
 * long as the drive stays. Method: an array in this process, on drives that are said to hold data.
 */
import { afterEach, expect, test } from "bun:test";
import type { OpenDrive } from "../../src/array/protocol.ts";
import { MIB } from "../../src/base/units.ts";
import { ArrayHarness } from "../helpers/array-harness.ts";

const CONTENT = "data that is not zero";
let harness: ArrayHarness | null = null;

afterEach(() => {
  harness?.stop();
  harness = null;
});

test("create: drives that hold data: force, then free for us, then data again", () => {
  harness = new ArrayHarness();
  const { reactor } = harness;
  const drives = [0, 1, 2].map((index): OpenDrive => {
    const drive = reactor.createDrive({ name: `drive${index}`, sizeBytes: 16 * MIB });
    return { ...drive, signature: CONTENT };
  });
  for (const drive of drives) harness.must({ kind: "attach-drive", drive });
  const request = {
    kind: "create-array",
    name: "raid_test",
    drives: drives.map(({ name }) => name),
    spares: [],
    chunkBytes: 65_536,
    consistencyPolicy: "ppl",
    assumeClean: false,
    force: false,
  } as const;
  const refusal = {
    ok: false,
    error: {
      code: "drive-has-data",
      detail: `drive drive0: it holds ${CONTENT}. With "force": true its content is given up`,
    },
  };
  const remove = () =>
    harness!.must({ kind: "delete-array", array: "raid_test", zeroSuperblocks: true });
  expect(harness.call<"create-array">(request)).toMatchObject(refusal);
  harness.must<"create-array">({ ...request, force: true });
  remove();
  harness.must<"create-array">(request);
  remove();
  for (const drive of drives) {
    harness.must({ kind: "detach-drive", name: drive.name, force: false });
    harness.must({ kind: "attach-drive", drive });
  }
  expect(harness.call<"create-array">(request)).toMatchObject(refusal);
});
