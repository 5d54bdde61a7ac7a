/**
 * Goal: a test of the alerts says of each way whether it arrived, by call and by verb; metrics
 * count what was sent, failed, dropped and waits.
 * Method: the real app and services on simulated drives; ways that do what a test says.
 */
import { expect, test } from "bun:test";
import type { Alert, AlertWay, Delivery } from "../../../src/appliance/alerts/alert.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { until } from "../../helpers/until.ts";

function way(via: string, delivery: Delivery): AlertWay & { readonly got: Alert[] } {
  const got: Alert[] = [];
  return {
    ...{ via, target: `https://${via}`, key: via, least: "warning", got },
    deliver: async (alert) => {
      got.push(alert);
      return delivery;
    },
    abort: () => {},
  };
}

const GOOD = { kind: "arrived", detail: "status 204" } as const;
const BAD = { kind: "failed", detail: "status 503\u001b[2J", retryAfterMs: null } as const;
const PATH = "/v1/events/test";

test("alerts: POST /v1/events/test: each way, or one; what is wrong is refused", async () => {
  const ways = [way("onEvent", GOOD), way("webhook1", GOOD), way("webhook2", BAD)];
  const { call } = await startSimAppliance({ alertWays: ways });
  const all = await call("POST", PATH, {});
  expect([all.status, await all.json()]).toEqual([
    200,
    {
      arrived: false,
      ways: [
        { via: "onEvent", target: "https://onEvent", arrived: true, detail: "status 204" },
        { via: "webhook1", target: "https://webhook1", arrived: true, detail: "status 204" },
        { via: "webhook2", target: "https://webhook2", arrived: false, detail: BAD.detail },
      ],
    },
  ]);
  expect(ways[0]?.got).toMatchObject([{ id: 0, kind: "alerts.test", severity: "info", array: "" }]);
  const one = await call("POST", PATH, { webhook: 1 });
  expect(await one.json()).toMatchObject({ arrived: true, ways: [{ via: "webhook1" }] });
  expect(ways.map(({ got }) => got.length)).toEqual([1, 2, 1]);
  for (const [body, status, type] of [
    [{ webhook: 3 }, 404, "unknown-webhook"],
    [{ webhook: 0 }, 422, "bad-values"],
    [{ webhooks: 1 }, 422, "bad-values"],
  ] as const) {
    const refused = await call("POST", PATH, body);
    const problem = (await refused.json()) as { type: string };
    expect([refused.status, problem.type]).toEqual([status, `urn:parityd:problem:${type}`]);
  }
  const wrong = await call("GET", PATH);
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "POST"]);
});

test("alerts: that wait for minutes: in status with an action, and exit 1 of --check", async () => {
  const daemon = await startSimAppliance({ alertWays: [way("webhook1", GOOD)] });
  expect((await runCli("status --check", { daemon })).exitCode).toBe(0);
  const stuck = {
    via: "webhook1",
    target: "https://webhook1",
    waiting: 3,
    seconds: 180,
    why: null,
  };
  Object.defineProperty(daemon.appliance.alerts, "stuck", { value: [stuck] });
  const { exitCode, stdout } = await runCli("status -x --check", { daemon });
  expect(exitCode).toBe(1);
  expect(stdout).toStartWith(" status: 3 alerts wait for webhook1 (https://webhook1), for 3 min");
  expect(stdout).toContain(
    "\n action: look after what should take it, then try it: parityd events",
  );
  expect(JSON.parse((await runCli("status --json", { daemon })).stdout).alerts).toEqual([stuck]);
  const document = await (await daemon.call("GET", "/v1/status")).json();
  expect(document).toMatchObject({
    findings: [{ action: expect.stringContaining("events test") }],
  });
});

test("alerts: none configured: 409, and the way out", async () => {
  const { call } = await startSimAppliance();
  const refused = await call("POST", PATH, {});
  expect([refused.status, await refused.json()]).toEqual([
    409,
    expect.objectContaining({
      type: "urn:parityd:problem:no-alerts",
      detail: expect.stringContaining("[[webhook]]"),
    }),
  ]);
});

test("alerts: the verb: a line for each way, exit 0 or 1", async () => {
  const daemon = await startSimAppliance({ alertWays: [way("webhook1", GOOD), way("w2", BAD)] });
  const all = await runCli("events test", { daemon });
  expect(all.exitCode).toBe(1);
  expect(all.stdout.split("\n").map((line) => line.split(/\s{2,}/))).toEqual([
    ["way", "test", "to", "because"],
    ["webhook1", "arrived", "https://webhook1", "status 204"],
    ["w2", "failed", "https://w2", "status 503\\u001b[2J"],
  ]);
  expect((await runCli("events test --webhook 1", { daemon })).exitCode).toBe(0);
  const json = await runCli("events test --webhook 1 --json", { daemon });
  expect(JSON.parse(json.stdout)).toMatchObject({ arrived: true, ways: [{ via: "webhook1" }] });
  expect((await runCli("events test --webhook 9", { daemon })).exitCode).toBe(1);
  expect((await runCli("events test --webhook 0", { daemon })).exitCode).toBe(64);
  const help = await runCli("events test --help");
  expect(help.stdout).toContain("examples:\n  parityd events test\n");
  const group = await runCli("events --help");
  expect(group.stdout).toMatch(/--follow[\s\S]*also:\n {2}parityd events test /);
});

test("alerts: events of arrays go out by what they weigh; /metrics counts them", async () => {
  const [good, bad] = [way("onEvent", GOOD), way("webhook1", BAD)];
  const daemon = await startSimAppliance({ alertWays: [good, bad] });
  await addTestArray(daemon);
  expect(good.got).toEqual([]);
  await daemon.call("POST", "/v1/arrays/raid_test/members/b/fail", {});
  await until("both events are out", () => good.got.length === 2);
  expect(good.got.map(({ kind }) => kind)).toEqual(["member.failed", "array.degraded"]);
  const [{ uuid } = { uuid: "" }] = daemon.reactor.arrays();
  expect(good.got[1]).toMatchObject({ severity: "critical", array: "raid_test", arrayUuid: uuid });
  expect(bad.got.length).toBeGreaterThan(0);
  const metrics = await (await daemon.call("GET", "/metrics")).text();
  expect(metrics.split("\n").filter((line) => line.startsWith("parityd_alerts"))).toEqual([
    'parityd_alerts_sent_total{via="onEvent"} 2',
    'parityd_alerts_sent_total{via="webhook1"} 0',
    'parityd_alerts_failed_total{via="onEvent"} 0',
    'parityd_alerts_failed_total{via="webhook1"} 0',
    'parityd_alerts_dropped_total{via="onEvent"} 0',
    'parityd_alerts_dropped_total{via="webhook1"} 0',
    'parityd_alerts_pending{via="onEvent"} 0',
    'parityd_alerts_pending{via="webhook1"} 2',
  ]);
});
