/**
 * Goal: `parityd schedule` sets, shows and removes what the API knows, in words that people use.
 * Method: the verbs over the real API and services on simulated drives.
 */
import { expect, test } from "bun:test";
import type { ScheduleView } from "../../../src/appliance/schedules/schedule-view.ts";
import { parseMinutes } from "../../../src/cli/quantity.ts";
import { scheduleLines } from "../../../src/cli/status-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { testUuid } from "../../helpers/sim-reactor.ts";

const CRON = "0 10 * * *";

async function testDaemon() {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

test("schedule: set with every flag, show, list, remove", async () => {
  const daemon = await testDaemon();
  const line =
    "schedule set raid_test --timezone Europe/Berlin --window 4h --max-age 14d --mode repair " +
    "--limit 1MiB/s --cron";
  const set = await runCli([...line.split(" "), CRON], { daemon });
  expect([set.exitCode, set.stderr]).toEqual([0, ""]);
  expect(daemon.store.state.schedules.get(testUuid("raid_test"))).toMatchObject({
    ...{ cron: CRON, timezone: "Europe/Berlin", windowMinutes: 240, maxAgeDays: 14 },
    ...{ mode: "repair", limitBytesPerSecond: 1_048_576 },
  });
  const [what, , last] = set.stdout.split("\n");
  expect(what).toBe(
    "  array: raid_test   repair when the last is older than 14 d, in windows of 4 h 0 min at " +
      `${CRON} (Europe/Berlin)`,
  );
  expect(last).toBe("   last: never");
  expect((await runCli("schedule show raid_test", { daemon })).stdout.split("\n")[0]).toBe(what);
  const list = (await runCli("schedule show", { daemon })).stdout.split("\n");
  expect(list[0]).toMatch(/^array +cron +timezone +window +max age +next +last +result$/);
  expect(list[1]).toMatch(
    /^raid_test +0 \d+ \* \* \* +Europe\/Berlin +4 h 0 min +14 d +20.*Z +never +-$/,
  );
  const json = JSON.parse((await runCli("schedule show raid_test --json", { daemon })).stdout);
  expect(json).toMatchObject({ array: "raid_test", cron: CRON });
  const { schedules } = JSON.parse((await runCli("schedule show --json", { daemon })).stdout);
  expect(schedules).toHaveLength(1);
  expect((await runCli("schedule remove raid_test", { daemon })).exitCode).toBe(0);
  const none = await runCli("schedule show raid_test", { daemon });
  expect(none).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("has no schedule") });
  expect((await runCli("schedule show", { daemon })).stdout).toContain("no schedules: parityd");
});

test("schedule: the next window is a line of array show and of status", async () => {
  const daemon = await testDaemon();
  await runCli(["schedule", "set", "raid_test", "--cron", CRON], { daemon });
  const json = JSON.parse((await runCli("schedule show raid_test --json", { daemon })).stdout);
  for (const verb of ["array show raid_test", "status"]) {
    const { stdout } = await runCli(verb, { daemon });
    expect(stdout.split("\n")).toContain(`  scrub: next window ${json.next}, a pass is due`);
  }
  const status = JSON.parse((await runCli("status --json", { daemon })).stdout);
  expect(status.schedules).toMatchObject([{ array: "raid_test" }]);
});

test("schedule: what is no value: refused in one line, and nothing was set", async () => {
  const daemon = await testDaemon();
  const set = "schedule set raid_test";
  for (const [line, exitCode, says] of [
    [set, 64, "--cron is missing"],
    [`${set} --cron @daily --window 6`, 64, '"6" has no unit: write 6h for hours, or 6m'],
    [`${set} --cron @daily --window 6x`, 64, '"6x" is no time'],
    [`${set} --cron @daily --max-age 36h`, 64, "no whole number of days"],
    [`${set} --cron @daily --limit 5MB`, 64, "is not a size"],
    [`${set} --cron @daily --window 25h`, 1, "longer than its period"],
    [`${set} --cron @reboot`, 1, "is no cron expression"],
    [`${set} --cron @daily --timezone Mars/Olympus`, 1, "Mars/Olympus"],
    ["schedule set other --cron @daily", 1, "there is no array other"],
    ["schedule remove raid_test", 1, "has no schedule"],
  ] as const) {
    const ran = await runCli(line, { daemon });
    expect([line, ran.exitCode]).toEqual([line, exitCode]);
    expect(ran.stderr).toContain(says.replace("no whole", "not a whole"));
    expect(daemon.store.state.schedules.size).toBe(0);
  }
});

test("schedule: set again: what is not named stays as it is, a limit can be taken off", async () => {
  const daemon = await testDaemon();
  const set = ["schedule", "set", "raid_test"];
  const zone = ["--timezone", "Europe/Berlin", "--window", "4h", "--max-age", "14d"];
  const rest = ["--mode", "repair", "--limit", "1MiB/s"];
  await runCli([...set, "--cron", CRON, ...zone, ...rest], { daemon });
  const stored = () => daemon.store.state.schedules.get(testUuid("raid_test"));
  const before = stored();
  for (const [words, changes] of [
    [["--window", "300m"], { windowMinutes: 300 }],
    [["--cron", "@weekly"], { cron: "@weekly" }],
    [["--limit", "none"], { limitBytesPerSecond: null }],
  ] as const) {
    const ran = await runCli([...set, ...words], { daemon });
    expect([ran.exitCode, ran.stderr]).toEqual([0, ""]);
    Object.assign(before!, changes);
    const { memory: _, ...settings } = before!;
    expect(stored()).toMatchObject(settings);
  }
});

test("times: minutes, hours, days and weeks; half an hour; nothing else", () => {
  const good = { "90m": 90, "90min": 90, "6h": 360, "1.5h": 90, "30d": 43_200, "2w": 20_160 };
  for (const [text, minutes] of Object.entries(good)) {
    expect([text, parseMinutes(text)]).toEqual([text, { ok: true, value: minutes }]);
  }
  for (const text of ["", "h", "0", "90", "-5", "1.5", "6 hours", "6H", "1e3"]) {
    expect([text, parseMinutes(text).ok]).toEqual([text, false]);
  }
});

test("schedule: what its lines say: what comes next, what it waits for, how it went", () => {
  const view: ScheduleView = {
    ...{ array: "a", arrayUuid: "u", cron: "0 1 * * *", timezone: "UTC", windowMinutes: 360 },
    ...{ maxAgeDays: 30, mode: "check", limitBytesPerSecond: null, next: "N", window: null },
    ...{ isDue: false, pass: "none", job: null, waitsFor: null, isMissed: false },
    ...{ last: "L", lastResult: "clean", lastError: null },
  };
  const window = { opensAt: "O", closesAt: "C" };
  for (const [rest, line] of [
    [{}, "next window N, none is due"],
    [{ isDue: true, isMissed: true }, "next window N, a pass is due; a window was missed"],
    [{ pass: "paused", job: 5, isDue: true }, "next window N, the pass goes on then"],
    [{ next: null }, "no window ever opens again"],
    [{ window }, "a window is open until C: nothing is due"],
    [{ window, isDue: true }, "a window is open until C: a pass is about to begin"],
    [{ window, pass: "running", job: 5 }, "a window is open until C: a pass runs (job 5)"],
    [
      { window, pass: "running-by-hand", job: 5 },
      "a window is open until C: a scrub runs that somebody started (job 5)",
    ],
    [
      { window, isDue: true, waitsFor: "the end of the resync" },
      "a window is open until C: a pass waits for the end of the resync",
    ],
  ] as readonly (readonly [Partial<ScheduleView>, string])[]) {
    expect(scheduleLines({ ...view, ...rest })[1]).toBe(`  scrub: ${line}`);
  }
  const failed = { ...view, lastResult: "failed", lastError: "drive d1 is gone" } as const;
  expect(scheduleLines(failed)[2]).toBe("   last: L, failed (drive d1 is gone)");
});
