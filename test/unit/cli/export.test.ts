/**
 * Goal: `export add` of an export that is there changes what the line names, and no more: who may
 * open it, above all.
 * Method: the verb over the real API and services on simulated drives, one line after the other.
 */
import { expect, test } from "bun:test";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

const ADDRESSES = { addresses: ["10.0.0.0/8"] };
const CERTIFICATES = { certificates: ["backup"] };

/** Flags of a line, and the export behind it. */
const LINES = [
  [
    "--allow-address 10.0.0.0/8 --allow-certificate backup",
    false,
    { ...ADDRESSES, ...CERTIFICATES },
  ],
  ["--read-only", true, { ...ADDRESSES, ...CERTIFICATES }],
  ["", true, { ...ADDRESSES, ...CERTIFICATES }],
  ["--allow-address ::1", true, { addresses: ["::1"], ...CERTIFICATES }],
  ["--read-write", false, { addresses: ["::1"], ...CERTIFICATES }],
  ["--allow-all --allow-address 10.0.0.0/8", false, ADDRESSES],
  ["--read-only --allow-certificate backup", true, { ...ADDRESSES, ...CERTIFICATES }],
  ["--allow-all", true, null],
  ["--read-write", false, null],
] as const;

test("export add: of one that is there: what is not named stays", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  for (const [flags, readOnly, allow] of LINES) {
    const added = await runCli(`export add raid_test imp ${flags}`, { daemon });
    expect([flags, added.exitCode, added.stderr]).toEqual([flags, 0, ""]);
    const { exports } = JSON.parse((await runCli("export list --json", { daemon })).stdout);
    expect([flags, exports]).toMatchObject([flags, [{ name: "imp", readOnly, allow }]]);
  }
  const both = await runCli("export add raid_test imp --read-only --read-write", { daemon });
  expect(both).toMatchObject({ exitCode: 64, stderr: expect.stringContaining("not both") });
});
