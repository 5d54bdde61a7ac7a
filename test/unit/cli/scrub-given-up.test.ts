/**
 * Goal: a scrub that throws a paused one away says so, before and when it does; `scrub resume` goes
 * on with the paused one, whatever its mode is.
 * Method: the verbs over the real API and services on simulated drives.
 */
import { expect, test } from "bun:test";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

async function withPaused(mode: "check" | "repair") {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await runCli(`scrub start raid_test --mode ${mode}`, { daemon });
  await runCli("scrub pause raid_test", { daemon });
  return daemon;
}

test("scrub start: over a paused scrub: says that it is given up, before and when it is", async () => {
  for (const flags of ["--mode repair", "--restart"]) {
    const daemon = await withPaused("check");
    const line = `scrub start raid_test ${flags}`;
    const dry = await runCli(`${line} --dry-run`, { daemon });
    const kind = flags === "--restart" ? "check" : "repair";
    expect(dry.stdout).toMatch(
      new RegExp(`^a ${kind} job would begin\nthe check paused at \\d+\\.\\d % would be given up$`),
    );
    const real = await runCli(line, { daemon });
    expect(real.stderr).toMatch(/^parityd: the check paused at \d+\.\d % is given up$/);
    expect(real.stdout).toStartWith(`${kind} job 2 has begun`);
  }
  const daemon = await withPaused("check");
  const goesOn = await runCli("scrub start raid_test", { daemon });
  expect(goesOn).toMatchObject({ stdout: expect.stringContaining("job 1"), stderr: "" });
});

test("scrub resume: of a paused repair: that one goes on", async () => {
  const daemon = await withPaused("repair");
  const resumed = await runCli("scrub resume raid_test", { daemon });
  expect(resumed).toMatchObject({
    stdout: expect.stringContaining("repair job 1 has begun"),
    stderr: "",
  });
});
