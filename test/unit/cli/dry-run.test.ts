/**
 * Goal: each verb that changes something has `--dry-run`, which changes nothing, says what would be
 * answered, asks for no confirmation, and ends as the verb would.
 * Method: the real verbs over the real services on simulated drives.
 */
import { expect, test } from "bun:test";
import { COMMANDS } from "../../../src/cli/table.ts";
import { atRest } from "../../helpers/dry-run-ground.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";

/** Verbs that ask a daemon for nothing but to be told. */
const READING = new Set([
  ...["array list", "array show", "drive list", "drive show", "export list", "spare list"],
  ...[
    "schedule show",
    "job list",
    "job show",
    "job wait",
    "events",
    "status",
    "config export",
    "ui",
  ],
]);

const NOTE = "dry run: nothing is changed; this is what it would say";

async function withArray(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

async function rowsOf({ store }: SimAppliance): Promise<string> {
  return JSON.stringify([...store.state.asChanges()].filter(({ kind }) => kind !== "add-event"));
}

test("dry run: each verb that asks the daemon for more than to be told has --dry-run", () => {
  const asking = COMMANDS.filter(({ options, isHidden }) => "timeout" in options && !isHidden);
  const lacking = asking
    .filter(({ options }) => !("dry-run" in options))
    .map(({ path }) => path.join(" "))
    .filter((verb) => !READING.has(verb));
  expect(lacking).toEqual([]);
  expect(asking.length).toBeGreaterThan(READING.size + 20);
});

const LINES: readonly (readonly [string, string | RegExp])[] = [
  ["drive add x /dev/x2", "x (3.0 MiB) is available"],
  ["drive appeared /dev/a", "it would be done"],
  ["drive remove d", "d would be removed"],
  ["drive remove b", /^b would be removed: array raid_test would run on degraded: 1 of 3 members/],
  ["array start raid_test", "raid_test is clean"],
  ["array stop raid_test", "raid_test is inactive"],
  ["array set raid_test --policy bitmap", /^raid_test: policy bitmap/],
  ["array grow raid_test d", "a reshape job would begin"],
  ["array delete raid_test", "would stop and forget raid_test (2.0 MiB on a, b, c)"],
  ["array delete raid_test --zero-superblocks", /, and erase the superblocks of a, b, c$/],
  ["member add raid_test d", "d is a spare of raid_test"],
  ["member replace raid_test b d", "a replace job would begin"],
  ["member remove raid_test b", "it would be done"],
  ["member fail raid_test b", /raid_test/],
  ["export add raid_test disk", /^nbd\+unix:/],
  ["scrub start raid_test --wait", "a check job would begin"],
  ["schedule set raid_test --cron @daily", /raid_test/],
  ["spare add d", /^d is a shared spare for all arrays/],
  ["drill --on raid_test --fail b", /^would rehearse the loss of drive b: no spare/],
  ["log --level debug", /^level debug/],
];

test.each(LINES)("dry run: %s: says it, and changes nothing", async (line, said) => {
  const daemon = await withArray();
  daemon.host.addDisk({ tellsId: false }).path = "/dev/x2";
  await atRest(daemon);
  const before = await rowsOf(daemon);
  const arrays = daemon.reactor.arrays().map(({ state, degraded }) => [state, degraded]);
  const dry = await runCli(`${line} --dry-run`, { daemon });
  expect([dry.exitCode, dry.stderr]).toEqual([0, NOTE]);
  if (typeof said === "string") expect(dry.stdout).toBe(said);
  else expect(dry.stdout).toMatch(said);
  const json = await runCli(`${line} --dry-run --json`, { daemon });
  expect(json.exitCode).toBe(0);
  expect(JSON.parse(json.stdout)).toMatchObject({ schema: "parityd.dry-run/1" });
  expect(await rowsOf(daemon)).toBe(before);
  expect(daemon.reactor.arrays().map(({ state, degraded }) => [state, degraded])).toEqual(arrays);
});

const REFUSED: readonly (readonly [string, number])[] = [
  ["array stop none", 1],
  ["array delete raid_test --yes other", 64],
  ["member add raid_test a", 1],
  ["scrub pause raid_test", 1],
  ["job cancel 7", 1],
  ["spare remove d", 1],
  ["schedule remove raid_test", 1],
  ["events test", 1],
  ["drive locate a", 1],
  ["export remove none", 1],
  ["scrub stop raid_test", 1],
];

test.each(REFUSED)("dry run: %s: refused as the verb is", async (line, exitCode) => {
  const daemon = await withArray();
  const dry = await runCli(`${line} --dry-run`, { daemon });
  const real = await runCli(line, { daemon });
  const [note, said] = dry.stderr.split("\n");
  expect(note).toBe(NOTE);
  expect([dry.exitCode, said, dry.stdout]).toEqual([exitCode, real.stderr, ""]);
  expect(real.exitCode).toBe(exitCode);
});

test("drive remove: of a member: the array runs on degraded, and how to go on", async () => {
  const daemon = await withArray();
  const removed = await runCli("drive remove b", { daemon });
  expect(removed.stdout.split("\n")).toEqual([
    "b is removed: array raid_test runs on degraded: 1 of 3 members is missing",
    "to make it whole: parityd drive add NAME PATH; parityd member add raid_test NAME",
  ]);
  const forced = await runCli("drive remove c --force", { daemon });
  expect(forced.stdout.split("\n")).toEqual([
    "c is removed: array raid_test has failed: 2 of 3 members are missing",
    "to have it back: parityd drive add c PATH; " +
      "parityd array stop raid_test --force && parityd array start raid_test",
  ]);
  expect((await runCli("drive remove d", { daemon })).stdout).toBe("d is removed");
});
