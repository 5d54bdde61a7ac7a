/**
 * Goal: `export add` of an export that is there changes what the line names, and no more: who may
 * open it, above all.
 * Method: the verb over the real API and services on simulated drives, one line after the other.
 */
import { expect, test } from "bun:test";
import { clientUris } from "../../../src/cli/export-text.ts";
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

const LOCAL = "nbd+unix:///tank?socket=/run/parityd/nbd.sock";

test("export list, add: an address that nobody can connect to is the name of this host", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const tcp = { kind: "tcp", port: 10809 } as const;
  daemon.appliance.exports.setNbdAddresses([
    { kind: "unix", path: "/run/parityd/nbd.sock" },
    { ...tcp, host: "0.0.0.0" },
    { ...tcp, host: "::" },
    { ...tcp, host: "10.0.0.7", isSecure: true },
  ]);
  const uris = [LOCAL, "nbd://box:10809/tank", "nbds://10.0.0.7:10809/tank"];
  const added = await runCli("export add raid_test tank", { daemon });
  expect(added.stdout.split("\n")).toEqual(uris);
  const listed = await runCli("export list", { daemon });
  expect(listed.stdout.split("\n")[1]).toEndWith(`  ${uris.join(" ")}`);
  const { exports } = JSON.parse((await runCli("export list --json", { daemon })).stdout);
  expect(exports[0].uris).toEqual([
    LOCAL,
    ...["nbd://0.0.0.0:10809/tank", "nbd://[::]:10809/tank", uris[2]],
  ]);
  // On a terminal each stands whole on a line of its own.
  const terminal = { columns: 80, rows: 24, hasColours: false };
  const narrow = await runCli("export list", { daemon, overrides: { terminal } });
  expect(narrow.stdout.split("\n").slice(2)).toEqual(uris.map((uri) => `  ${uri}`));
});

test("addresses: only what stands for every address, and only as a host, gets the name", () => {
  for (const [uri, said] of [
    ["nbd://0.0.0.0:1/x", "nbd://box:1/x"],
    ["nbds://[::]:1/x", "nbds://box:1/x"],
    ["nbd://[::1]:1/x", "nbd://[::1]:1/x"],
    ["nbd://10.0.0.0:1/x", "nbd://10.0.0.0:1/x"],
    ["nbd+unix:///0.0.0.0:?socket=/s", "nbd+unix:///0.0.0.0:?socket=/s"],
  ] as const) {
    expect(clientUris([uri], "box")).toEqual([said]);
  }
});
