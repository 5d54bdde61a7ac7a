/**
 * Goal: who stops to wait for a job, by --timeout or by a signal, is told that the job goes on; and
 * is told of a daemon that hangs where that is so.
 * Method: the verbs over the real API on simulated drives, with a scrub that nobody carries on.
 */
import { expect, test } from "bun:test";
import type { CliHost } from "../../../src/cli/host.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { until } from "../../helpers/until.ts";

const GOES_ON =
  /^parityd: check job 1 of raid_test goes on, at \d+\.\d %: parityd job wait 1, or job show 1$/;

async function withScrub() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await daemon.call("POST", "/v1/arrays/raid_test/scrub");
  return daemon;
}

test("job wait, scrub start --wait: --timeout is over: the job goes on, as the exit code says", async () => {
  const daemon = await withScrub();
  const waited = await runCli("job wait 1 --timeout 0.3", { daemon });
  expect(waited).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(GOES_ON) });
  await runCli("scrub pause raid_test", { daemon });
  const scrubbed = await runCli("scrub resume raid_test --wait --timeout 0.3", { daemon });
  expect(scrubbed).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(GOES_ON) });
});

test("job wait: a daemon that has hung meanwhile: 69, and nothing is said of the job", async () => {
  const daemon = await withScrub();
  let looks = 0;
  const send: CliHost["send"] = async (_socketPath, { method, path }) => {
    looks += 1;
    return looks === 1 ? daemon.call(method, path) : new Promise<Response>(() => {});
  };
  const waited = await runCli("job wait 1 --timeout 3.5", { daemon, overrides: { send } });
  expect(waited.exitCode).toBe(69);
  expect(waited.stderr).toContain("has not answered GET /v1/jobs/1");
});

test("job wait: Ctrl-C: one line, that the job goes on; the exit code is a shell's", async () => {
  for (const [signal, exitCode] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    const daemon = await withScrub();
    const warned: string[] = [];
    const exits: number[] = [];
    const listeners: ((signal: string) => void)[] = [];
    const send = (signal: string): void => listeners[0]!(signal);
    const overrides: Partial<CliHost> = {
      warn: (line) => void warned.push(line),
      onSignal: (listener) => {
        listeners.push(listener);
      },
      exit: (code) => {
        exits.push(code);
        throw new Error("left");
      },
    };
    const waiting = runCli("job wait 1", { daemon, overrides });
    await until("the job is looked at", () => listeners.length > 0);
    send("SIGUSR1");
    expect(warned).toEqual([]);
    expect(() => send(signal)).toThrow("left");
    expect(warned).toEqual([expect.stringMatching(GOES_ON)]);
    expect(exits).toEqual([exitCode]);
    daemon.reactor.world.waitJob(1);
    expect((await waiting).exitCode).toBe(0);
  }
});
