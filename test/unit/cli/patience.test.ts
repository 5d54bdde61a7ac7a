/**
 * Goal: no client verb waits for ever, and none gives up on work that goes on.
 * Method: a daemon that answers late, or never, its probes likewise; short times.
 */
import { expect, test } from "bun:test";
import { DaemonClient } from "../../../src/cli/client.ts";
import { Invocation } from "../../../src/cli/command.ts";
import type { CliHost, HttpRequest } from "../../../src/cli/host.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { until } from "../../helpers/until.ts";

const TIMES = { answerMs: 40, notReadyMax: 3 };
const never = new Promise<Response>(() => {});

/** A client of a daemon that answers as told; its calls and its lines are kept. */
function clientOf(
  answer: (request: HttpRequest) => Promise<Response>,
  values: Record<string, string> = {},
) {
  const lines: string[] = [];
  const aborted: string[] = [];
  const asked: string[] = [];
  const host = {
    warn: (line: string) => void lines.push(line),
    send: (_path: string, request: HttpRequest) => {
      asked.push(request.path);
      request.signal?.addEventListener("abort", () => aborted.push(request.path));
      return answer(request);
    },
  } as unknown as CliHost;
  return {
    client: new DaemonClient(host, new Invocation(values, []), TIMES),
    lines,
    asked,
    aborted,
  };
}

const isProbe = ({ path }: HttpRequest): boolean => path === "/-/ready";
const later = async (milliseconds: number): Promise<Response> => {
  await Bun.sleep(milliseconds);
  return Response.json({ a: 1 });
};

test("client: what only reads has one deadline, and no probe", async () => {
  const { client, asked, aborted } = clientOf(() => never);
  const answer = await client.get("/v1/arrays");
  expect(answer).toMatchObject({ ok: false, error: { exitCode: 69 } });
  expect(answer.ok ? "" : answer.error.message).toMatch(
    /has not answered GET \/v1\/arrays within 0\.\d+ s: it is stopped, hangs/,
  );
  expect([asked, aborted]).toEqual([["/v1/arrays"], ["/v1/arrays"]]);
});

test("client: an answer whose body never ends is given up too", async () => {
  const { client } = clientOf(async () => new Response(new ReadableStream({})));
  expect(await client.get("/v1/arrays")).toMatchObject({ ok: false, error: { exitCode: 69 } });
});

test("client: what takes long goes on while probes are answered, and says so", async () => {
  let probes = 0;
  const { client, lines } = clientOf(async (request) => {
    if (isProbe(request)) probes += 1;
    else await until("it was asked for three times whether it lives", () => probes >= 3);
    return later(0);
  });
  expect(await client.call("POST", "/v1/arrays", {})).toMatchObject({ ok: true });
  expect(lines.length).toBeGreaterThanOrEqual(2);
  expect(lines[0]).toMatch(/s so far: the daemon is still at POST \/v1\/arrays/);
  const job = clientOf((request) => (isProbe(request) ? later(0) : later(TIMES.answerMs * 3)));
  expect(await job.client.job(1, 1)).toMatchObject({ ok: true });
});

test("client: what takes long is given up where probes are not answered, or never ready", async () => {
  const silent = clientOf(() => never);
  const answer = await silent.client.call("POST", "/v1/arrays", {});
  expect(answer.ok ? "" : answer.error.message).toContain("what was asked for may still be done");
  expect(silent.asked).toEqual(["/v1/arrays", "/-/ready"]);
  const stuck = clientOf((request) =>
    isProbe(request) ? Promise.resolve(new Response(null, { status: 503 })) : never,
  );
  expect((await stuck.client.call("DELETE", "/v1/arrays/x")).ok).toBe(false);
  expect(stuck.asked.filter((path) => path === "/-/ready")).toHaveLength(TIMES.notReadyMax);
});

test("client: --timeout holds for all, also where probes are answered, and must be a time", async () => {
  const begunMs = performance.now();
  const both = clientOf((request) => (isProbe(request) ? later(0) : never), { timeout: "0.1" });
  expect((await both.client.call("POST", "/v1/arrays", {})).ok).toBe(false);
  expect(performance.now() - begunMs).toBeGreaterThan(90);
  // The time of the verb is up: its next call has none left.
  expect((await both.client.get("/v1/arrays")).ok).toBe(false);
  const slow = clientOf(() => later(TIMES.answerMs * 2), { timeout: "60" });
  expect((await slow.client.get("/v1/arrays")).ok).toBe(true);
  for (const timeout of ["0", "-1", "x", "1e99"]) {
    const { client } = clientOf(() => later(0), { timeout });
    expect(await client.get("/")).toMatchObject({ ok: false, error: { exitCode: 64 } });
  }
});

test("client: status --check of a daemon that hangs: 4, with the reason", async () => {
  const outcome = await runCli("status --check --timeout 0.05", {
    overrides: { send: () => never },
  });
  expect([outcome.exitCode, outcome.stdout]).toEqual([4, ""]);
  expect(outcome.stderr).toContain("has not answered GET /v1/status");
});

test("client: a run directory that no socket fits in: said", async () => {
  const folder = `/${"r".repeat(120)}`;
  const outcome = await runCli(`status --run-dir ${folder}`);
  expect(outcome.exitCode).toBe(69);
  expect(outcome.stderr).toContain("a socket path holds at most 107 bytes");
});
