/**
 * Goal: `array set` says what it has set, and nothing else; refusals name the flags of the line, not
 * the values of a call.
 * Method: the verbs over the real API and services on simulated drives; the table of words alone.
 */
import { expect, test } from "bun:test";
import { inWordsOfFlags } from "../../../src/cli/api-words.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

async function testDaemon() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

const SET: readonly (readonly [string, string])[] = [
  ["--sync-max 200MiB --sync-min 1MiB", "sync-min 1.0 MiB/s; sync-max 200.0 MiB/s"],
  ["--sync-max none", "sync-max none"],
  ["--sync-max 200MiB/s", "sync-max 200.0 MiB/s"],
  ["--sync-max max", "sync-max none"],
  ["--read-deadline 3000 --write-deadline 4000", "read-deadline 3000 ms; write-deadline 4000 ms"],
  ["--policy bitmap", "policy bitmap"],
];

test("array set: says what was set, in a dry run too; there is a way back to no limit", async () => {
  const daemon = await testDaemon();
  for (const [flags, said] of SET) {
    for (const dry of [" --dry-run", ""]) {
      const line = `array set raid_test ${flags}${dry}`;
      const set = await runCli(line, { daemon });
      expect([line, set.exitCode, set.stdout]).toEqual([line, 0, `raid_test: ${said}`]);
    }
  }
  const { stdout } = await runCli("array set raid_test --suspect-fixed 7", { daemon });
  expect(stdout).toStartWith("raid_test: suspect: with 3 write errors, 7 fixed sectors");
  const renamed = await runCli("array set raid_test --name pool", { daemon });
  expect(renamed.stdout).toBe("pool: this is its name from now on");
  const shown = JSON.parse((await runCli("array show pool --json", { daemon })).stdout);
  expect(shown.syncSpeedMax).toBe(Number.MAX_SAFE_INTEGER);
});

test("a refusal: names the flag that was typed", async () => {
  const daemon = await testDaemon();
  const refused = await runCli("export add raid_test x --allow-address zz", { daemon });
  expect(refused.stderr).toStartWith("parityd: --allow-address: it is no IP address");
});

test("words: calls and values of the API in those of the command line; others stay", () => {
  for (const [detail, said] of [
    ["disconnect them, or say force=true", "disconnect them, or say --force"],
    ['it holds data. With "force": true its content', "it holds data. With --force its content"],
    ["no job 7; GET /v1/jobs lists those", "no job 7; parityd job list lists those"],
    ["start it with POST /v1/arrays/tank/start", "start it with parityd array start tank"],
    ["add it with POST /v1/drives first", "add it with parityd drive add first"],
    ["#/syncSpeedMin: is above", "--sync-min: is above"],
    ["is above syncSpeedMax", "is above --sync-max"],
    ["add it with force to give that up", "add it with --force to give that up"],
    [
      "release it first (DELETE /v1/arrays/t/members/d)",
      "release it first (parityd member remove t d)",
    ],
    ["a job; GET /v1/jobs/7?explain=true has it", "a job; parityd job show 7 --explain has it"],
    ["POST /v1/drives/a/locate, another call", "POST /v1/drives/a/locate, another call"],
    [
      "there is no export named x: put it first",
      "there is no export named x: parityd export list has those that there are",
    ],
    [
      "PATCH is not offered here; allowed: GET",
      "the daemon does not know this call: it is of another version than this command",
    ],
    ["#: a body is an object", "a body is an object"],
    ["since: it is no number", "--since: it is no number"],
    ["drive-7: it is no parameter", "drive-7: it is no parameter"],
    ["#/exports/0/allow: of a document", "#/exports/0/allow: of a document"],
  ] as const) {
    expect(inWordsOfFlags(detail)).toBe(said);
  }
});
