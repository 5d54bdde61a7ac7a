/**
 * Goal: `array delete` says before what it does, with each drive of which it erases the superblock,
 * and does that.
 * Method: the verb over the real API and services on simulated drives.
 */
import { expect, test } from "bun:test";
import type { DriveStatus } from "../../../src/array/protocol.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

async function testDaemon() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

test("array delete --zero-superblocks: names each drive that it erases, former members apart", async () => {
  const daemon = await testDaemon();
  await runCli("member fail raid_test b", { daemon });
  await runCli("member add raid_test d", { daemon });
  daemon.reactor.world.settle({ array: "raid_test" });
  await runCli("member remove raid_test b", { daemon });
  const carriers = async (): Promise<string[]> => {
    const { drives } = JSON.parse((await runCli("drive list --json", { daemon })).stdout);
    return drives.flatMap((drive: DriveStatus) =>
      drive.superblock === undefined ? [] : [drive.name],
    );
  };
  expect(await carriers()).toEqual(["a", "b", "c", "d"]);
  const line = "array delete raid_test --zero-superblocks";
  const erased =
    "the superblocks of a, c, d, and also the superblock of b, which is no member any more " +
    "(may be the last old copy)";
  const plan = `stop and forget raid_test (2.0 MiB on a, d, c), and erase ${erased}`;
  expect((await runCli(`${line} --dry-run`, { daemon })).stdout).toBe(`would ${plan}`);
  const questions: string[] = [];
  const ask = async (question: string) => {
    questions.push(question);
    return "no";
  };
  expect((await runCli(line, { daemon, overrides: { ask } })).exitCode).toBe(64);
  expect(questions).toEqual([`This will ${plan}.\nType the array's name to go on: `]);
  const deleted = await runCli(`${line} --yes raid_test`, { daemon });
  expect(deleted.stdout).toBe(`raid_test is deleted; erased: ${erased}`);
  expect(await carriers()).toEqual([]);
});

test("array delete: a member that failed and is still in its place is told apart, too", async () => {
  const daemon = await testDaemon();
  await runCli("member fail raid_test b", { daemon });
  const { stdout } = await runCli("array delete raid_test --zero-superblocks --dry-run", {
    daemon,
  });
  expect(stdout).toContain("the superblocks of a, c, and also the superblock of b, which is no");
});

test("array delete: of one that was deleted already, and of one that is stopped: says what it does", async () => {
  const daemon = await testDaemon();
  await runCli("array stop raid_test", { daemon });
  const line = "array delete raid_test";
  const size = "2.0 MiB on a, b, c";
  expect((await runCli(`${line} --dry-run`, { daemon })).stdout).toBe(
    `would forget raid_test (${size})`,
  );
  await runCli(`${line} --yes raid_test`, { daemon });
  expect((await runCli(`${line} --dry-run`, { daemon })).stdout).toBe(
    "would leave raid_test as it is, which was deleted already",
  );
  expect((await runCli(`${line} --dry-run --zero-superblocks`, { daemon })).stdout).toBe(
    "would leave raid_test as it is, which was deleted already, and erase the superblocks of a, b, c",
  );
  const again = await runCli(`${line} --yes raid_test`, { daemon });
  expect(again).toMatchObject({ exitCode: 0, stdout: "raid_test is deleted already" });
});
