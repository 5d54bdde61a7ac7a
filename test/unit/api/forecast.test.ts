/**
 * Goal: forecasts over HTTP, in metrics and on the command line; a dry run of `fail` says what
 * would follow, with the shared spare that would come, and changes nothing.
 * Method: the real services on simulated drives; each text whole, from values made by hand.
 */
import { expect, test } from "bun:test";
import type { FailForecast } from "../../../src/appliance/fail-forecast.ts";
import type { ArrayStatus, RebuildTime } from "../../../src/array/protocol.ts";
import { GIB, KIB, MIB } from "../../../src/base/units.ts";
import { forecastLines, renderFailForecast } from "../../../src/cli/forecast-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { until } from "../../helpers/until.ts";

const FAIL_B = "/v1/arrays/raid_test/members/b/fail";
/** Of the test array's members, 1 MiB each, in one second. */
const SPEED = MIB;

async function withArray(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  return daemon;
}

// biome-ignore lint/suspicious/noExplicitAny: answers are checked field by field.
async function ask(answer: Promise<Response>): Promise<{ status: number; body: any }> {
  const response = await answer;
  return { status: response.status, body: JSON.parse(await response.text()) };
}

async function array({ call }: SimAppliance): Promise<ArrayStatus> {
  return (await ask(call("GET", "/v1/arrays/raid_test"))).body;
}

async function scrubSlowly(daemon: SimAppliance): Promise<void> {
  await daemon.call("PATCH", "/v1/arrays/raid_test", { syncSpeedMax: SPEED });
  const started = await ask(daemon.call("POST", "/v1/arrays/raid_test/scrub", {}));
  daemon.reactor.world.waitJob(started.body.id);
}

test("api: dry run of fail: 200 with what would follow; the array is as it was", async () => {
  const daemon = await withArray();
  const before = await array(daemon);
  const { status, body } = await ask(daemon.call("POST", `${FAIL_B}?dryRun=true`));
  expect(status).toBe(200);
  expect(body).toMatchObject({
    ...{ array: "raid_test", drive: "b", role: 1, state: "degraded", degraded: 1 },
    ...{ unreadable: { bytes: 0 }, meets: [], spare: null, degradedSeconds: null },
  });
  const after = await array(daemon);
  expect([after.eventCount, after.state]).toEqual([before.eventCount, before.state]);
  expect(daemon.reactor.commands.map(({ kind }) => kind)).not.toContain("fail-member");
  const failed = await ask(daemon.call("POST", `${FAIL_B}?dryRun=false`));
  expect(failed.body).toMatchObject({ state: body.state, degraded: body.degraded });
});

test("api: dry run of fail: refused as fail is: degraded, unknown, no member, bad values", async () => {
  const { call } = await withArray();
  await call("POST", "/v1/arrays/raid_test/members/c/fail");
  for (const [path, status, code] of [
    ["raid_test/members/b/fail", 409, "would-lose-data"],
    ["raid_test/members/c/fail", 409, "not-a-member"],
    ["raid_test/members/d/fail", 409, "not-a-member"],
    ["raid_test/members/nobody/fail", 404, "unknown-drive"],
    ["nowhere/members/b/fail", 404, "unknown-array"],
  ] as const) {
    const asked = await ask(call("POST", `/v1/arrays/${path}?dryRun=true`));
    const done = await ask(call("POST", `/v1/arrays/${path}`));
    expect(asked).toEqual(done);
    expect(asked).toMatchObject({ status, body: { type: `urn:parityd:problem:${code}` } });
  }
  expect((await call("POST", `${FAIL_B}?dryRun=yes`)).status).toBe(422);
  expect((await call("POST", `${FAIL_B}?dryrun=true`)).status).toBe(422);
});

test("api: dry run of fail: the shared spare that would come, and how long it would take", async () => {
  const daemon = await withArray();
  await daemon.call("PUT", "/v1/spares/d", {});
  await scrubSlowly(daemon);
  const { body } = await ask(daemon.call("POST", `${FAIL_B}?dryRun=true`));
  expect(body.spare).toEqual({ drive: "d", from: "shared" });
  expect(body.rebuild).toMatchObject({ idle: { measuredBy: "check" }, busy: null });
  expect([body.load, body.degradedSeconds]).toEqual(["idle", body.rebuild.idle.seconds]);
  expect(Math.abs(body.degradedSeconds - body.rebuildBytes / SPEED)).toBeLessThanOrEqual(1);
  const metrics = await (await daemon.call("GET", "/metrics")).text();
  const { seconds } = body.rebuild.idle;
  expect(metrics).toContain(
    `parityd_array_rebuild_seconds{array="raid_test",load="idle"} ${seconds}`,
  );
  expect(metrics).not.toContain('load="busy"');
  expect(metrics).toContain('parityd_member_loss_unreadable_bytes{array="raid_test",role="1"} 0');
});

test("state.db: measured rates are there at the next start of the daemon", async () => {
  const daemon = await withArray();
  await scrubSlowly(daemon);
  const { syncRates, uuid } = await array(daemon);
  expect(syncRates).toHaveLength(1);
  const { store, host } = daemon;
  const kept = () => store.state.arrays.get(uuid)?.seen?.syncRates ?? [];
  await until("the rates are kept", () => kept().length > 0);
  const next = await startSimAppliance({ store, host });
  await until("the array is back", () => next.reactor.arrays().length > 0);
  expect((await array(next)).syncRates).toEqual(syncRates);
});

test("patch of the speeds: its dry run foretells by them, as the array does afterwards", async () => {
  const daemon = await withArray();
  await scrubSlowly(daemon);
  const before = (await array(daemon)).forecast;
  const speeds = { syncSpeedMin: 1_024, syncSpeedMax: 1_024 };
  const path = "/v1/arrays/raid_test";
  const dry = await (await daemon.call("PATCH", `${path}?dryRun=true`, speeds)).json();
  expect((await array(daemon)).forecast).toEqual(before);
  await daemon.call("PATCH", path, speeds);
  expect((dry as ArrayStatus).forecast).toEqual((await array(daemon)).forecast);
  expect((dry as ArrayStatus).forecast).not.toEqual(before);
});

test("member fail --dry-run: text, JSON, and the API's own refusal", async () => {
  const daemon = await withArray();
  const text = await runCli("member fail raid_test b --dry-run", { daemon });
  expect(text.stdout.split("\n")).toEqual([
    "would take b (role 1) of raid_test for faulty:",
    "       state: degraded, 1 missing",
    "  unreadable: nothing",
    "     rebuild: 1.0 MiB: not measured yet",
    "       spare: none stands ready: degraded until there is one: " +
      "parityd member add raid_test NEW_DRIVE",
  ]);
  const json = await runCli("member fail raid_test b --dry-run --json", { daemon });
  expect(JSON.parse(json.stdout).answer).toMatchObject({ drive: "b", state: "degraded" });
  expect((await array(daemon)).degraded).toBe(0);
  await runCli("member fail raid_test b", { daemon });
  const refused = await runCli("member fail raid_test c --dry-run", { daemon });
  expect([refused.exitCode, refused.stderr]).toEqual([
    1,
    expect.stringContaining("without it the array fails"),
  ]);
});

const idle: RebuildTime = {
  ...{ seconds: 8_460, bytesPerSecond: 2, measuredBy: "rebuild", measuredAt: "" },
};
const busy: RebuildTime = { ...idle, seconds: 32_580 };

test("member fail --dry-run: the whole text of one that would cost data", () => {
  const plan: FailForecast = {
    ...{ array: "tank", drive: "b", role: 1, state: "degraded", degraded: 1 },
    unreadable: {
      bytes: 12 * KIB,
      ranges: [
        { offset: 0, bytes: 8 * KIB },
        { offset: 65_536, bytes: 4 * KIB },
      ],
      truncated: true,
    },
    meets: [{ kind: "bad-blocks", role: 2, drive: "c", count: 1, bytes: 4 * KIB }],
    spare: { drive: "s", from: "shared" },
    ...{ load: "busy", rebuildBytes: 3 * GIB, rebuild: { idle, busy }, degradedSeconds: 32_580 },
  };
  expect(renderFailForecast(plan)).toEqual([
    "would take b (role 1) of tank for faulty:",
    "       state: degraded, 1 missing",
    "  unreadable: 12.0 KiB of the array",
    "              bytes 0 to 8191",
    "              bytes 65536 to 69631",
    "              and more behind these",
    "       meets: c (role 2): 1 entry of its bad-block log, 4.0 KiB",
    "     rebuild: 3.0 GiB: about 2 h 21 min idle, about 9 h 3 min beside clients " +
      "(now: clients at work)",
    "       spare: s (shared) stands ready; degraded for about 9 h 3 min",
  ]);
  const spareOf = (more: Partial<FailForecast>) => renderFailForecast({ ...plan, ...more }).at(-1);
  expect(spareOf({ degradedSeconds: null })).toBe(
    "       spare: s (shared) stands ready; for how long it is degraded was not measured yet",
  );
  expect(spareOf({ spare: { drive: "n", from: "replacement" } })).toBe(
    "       spare: n, which it is being copied to; degraded for about 9 h 3 min",
  );
  expect(spareOf({ state: "read-only" })).toBe(
    "       spare: none is used by an array that is read-only",
  );
});

test("status: what a rebuild takes, and which member must not be lost now", () => {
  const member = { rebuildBytes: GIB, rebuild: { idle, busy: null }, meets: [] };
  const members = [
    { ...member, role: 0, drive: "a", unreadableBytes: 0 },
    { ...member, role: 1, drive: "b", unreadableBytes: 4 * KIB, rebuildBytes: 1 },
  ];
  expect(forecastLines({ forecast: { load: "idle", members } })).toEqual([
    "   loss: a rebuild of 1.0 GiB: about 2 h 21 min idle, not measured yet beside clients " +
      "(now: no client at work)",
    "   loss: without b (role 1) 4.0 KiB could not be read",
  ]);
  expect(forecastLines({ forecast: null })).toEqual([]);
  const needed = members.map((each) => ({ ...each, unreadableBytes: null }));
  expect(forecastLines({ forecast: { load: "idle", members: needed } }).slice(1)).toEqual([
    "   loss: the array cannot do without any of a, b",
  ]);
});
