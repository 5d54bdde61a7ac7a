/**
 * Goal: every call of the API answers as documented, with its status, its headers and its effect.
 * Method: the real app and the real services on simulated drives, a request at a time.
 */
import { expect, test } from "bun:test";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt, testUuid, unplug } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

async function withArray(): Promise<SimAppliance> {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  return fake;
}

async function body(answer: Response | Promise<Response>): Promise<Record<string, unknown>> {
  return (await (await answer).json()) as Record<string, unknown>;
}

test("api: adding a drive: 201, a Location, and it is listed, shown and remembered", async () => {
  const { call, store, reactor } = await startSimAppliance();
  const added = await call("POST", "/v1/drives", { name: "d0", path: "/dev/a" });
  expect(added.status).toBe(201);
  expect(added.headers.get("location")).toBe("/v1/drives/d0");
  const drive = { name: "d0", path: "/dev/a", state: "available" };
  expect(await body(added)).toMatchObject(drive);
  expect(await body(call("GET", "/v1/drives/d0"))).toMatchObject(drive);
  expect(await (await call("GET", "/v1/drives")).json()).toHaveLength(1);
  expect(store.state.drives.get("d0")).toMatchObject({ path: "/dev/a", direct: true });
  const attached = reactor.commands.find(({ kind }) => kind === "attach-drive");
  expect(attached).toMatchObject({ drive: { isDirect: true } });
});

test("api: removing a drive: 204, its fd is closed and it is forgotten", async () => {
  const { call, store, host } = await startSimAppliance();
  await call("POST", "/v1/drives", { name: "d0", path: "/dev/a", direct: false });
  const disk = diskAt(host, "/dev/a");
  expect(host.isOpen(disk)).toBe(true);
  const removed = await call("DELETE", "/v1/drives/d0");
  expect(removed.status).toBe(204);
  expect(await removed.text()).toBe("");
  expect(host.isOpen(disk)).toBe(false);
  expect(store.state.drives.size).toBe(0);
  expect((await call("GET", "/v1/drives/d0")).status).toBe(404);
});

test("api: removing a member of a degraded array: 409, then 204 with force", async () => {
  const { call } = await withArray();
  await call("POST", "/v1/arrays/raid_test/members/a/fail");
  const refused = await call("DELETE", "/v1/drives/b");
  expect(refused.status).toBe(409);
  expect(await body(refused)).toMatchObject({ type: "urn:parityd:problem:would-lose-data" });
  expect((await call("DELETE", "/v1/drives/b?force=true")).status).toBe(204);
});

test("api: creating an array: 201 with Location, ETag and sizes in bytes", async () => {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  const { call, reactor } = fake;
  await call("DELETE", "/v1/arrays/raid_test?zeroSuperblocks=true");
  const request = { name: "x", drives: ["a", "b", "c"], spares: ["d"], chunkKiB: 128 };
  const created = await call("POST", "/v1/arrays", { ...request, sizeKiB: 512 });
  expect(created.status).toBe(201);
  expect(created.headers.get("location")).toBe("/v1/arrays/x");
  const { eventCount } = (await body(created)) as { eventCount: number };
  expect(created.headers.get("etag")).toBe(`"${eventCount}"`);
  expect(eventCount).toBeGreaterThan(0);
  expect(reactor.commands.findLast((command) => command.kind === "create-array")).toEqual({
    uuid: expect.any(String),
    kind: "create-array",
    name: "x",
    drives: ["a", "b", "c"],
    spares: ["d"],
    chunkBytes: 131_072,
    consistencyPolicy: "ppl",
    assumeClean: false,
    force: false,
    memberSizeBytes: 524_288,
  });
  expect(await (await call("GET", "/v1/arrays")).json()).toHaveLength(1);
  expect(await body(call("GET", "/v1/arrays/x"))).toMatchObject({ name: "x", level: "raid5" });
});

test("api: stop and start: 200 without any body, with an empty one, and with values", async () => {
  const { call, reactor } = await withArray();
  const stopped = await call("POST", "/v1/arrays/raid_test/stop");
  expect([stopped.status, (await body(stopped))["state"]]).toEqual([200, "inactive"]);
  const started = await call("POST", "/v1/arrays/raid_test/start", "");
  expect([started.status, (await body(started))["state"]]).toEqual([200, "clean"]);
  await call("POST", "/v1/arrays/raid_test/stop", { force: false });
  await call("POST", "/v1/arrays/raid_test/start", { force: true, readOnly: true });
  expect(reactor.commands.findLast(({ kind }) => kind === "start-array")).toEqual({
    kind: "start-array",
    array: testUuid("raid_test"),
    force: true,
    readOnly: true,
  });
});

test("api: patching speeds and deadlines: 200, and only what was named is sent", async () => {
  const { call, reactor } = await withArray();
  const patched = await call("PATCH", "/v1/arrays/raid_test", { readDeadlineMs: 900 });
  expect([patched.status, (await body(patched))["readDeadlineMs"]]).toEqual([200, 900]);
  const introduced = reactor.commands.findLast(({ kind }) => kind === "introduce-array");
  expect(introduced).toMatchObject({ name: "raid_test", tuning: { readDeadlineMs: 900 } });
});

test("api: exports: for whom they are is kept, shown, and gone with a PUT that does not say it", async () => {
  const { call, store } = await withArray();
  for (const allow of [
    { addresses: ["10.0.0.0/8", "::1"] },
    { certificates: ["backup", "b.example"] },
    { addresses: [], certificates: ["backup"] },
  ]) {
    const put = await call("PUT", "/v1/exports/e", { array: "raid_test", allow });
    expect((await body(put))["allow"]).toEqual(allow);
    expect(store.state.exports.get("e")?.allow).toEqual(allow);
    expect(await (await call("GET", "/v1/exports")).json()).toMatchObject([{ allow }]);
  }
  for (const rest of [{ allow: null }, {}]) {
    const put = await call("PUT", "/v1/exports/e", { array: "raid_test", ...rest });
    expect((await body(put))["allow"]).toBeNull();
  }
});

test("api: deleting an array: 204, its exports go with it", async () => {
  const { call, store, reactor } = await withArray();
  await call("PUT", "/v1/exports/e", { array: "raid_test" });
  expect((await call("DELETE", "/v1/arrays/raid_test?zeroSuperblocks=true")).status).toBe(204);
  const deletion = reactor.commands.find((command) => command.kind === "delete-array");
  expect(deletion).toMatchObject({ zeroSuperblocks: true });
  expect([store.state.exports.size, reactor.exports().length]).toEqual([0, 0]);
  expect((await call("GET", "/v1/arrays/raid_test")).status).toBe(404);
});

test("api: adding a member: 201 as a spare, 202 with a job where a role is free", async () => {
  const { call, reactor, host } = await withArray();
  const spare = await call("POST", "/v1/arrays/raid_test/members", { drive: "d" });
  expect([spare.status, (await body(spare))["spares"]]).toEqual([201, ["d"]]);
  await call("POST", "/v1/arrays/raid_test/members/a/fail");
  // The spare has taken its place.
  reactor.world.simulation.runFor(1_000);
  expect(reactor.world.job(1)).toMatchObject({ kind: "rebuild", state: "done" });
  await call("POST", "/v1/arrays/raid_test/members/b/fail");
  host.addDisk({ tellsId: false }).path = "/dev/e";
  await call("POST", "/v1/drives", { name: "e", path: "/dev/e" });
  const rebuild = await call("POST", "/v1/arrays/raid_test/members", { drive: "e" });
  expect(rebuild.status).toBe(202);
  expect(rebuild.headers.get("location")).toBe("/v1/jobs/2");
  expect(await body(rebuild)).toMatchObject({ id: 2, kind: "rebuild", state: "running" });
  expect(reactor.array("raid_test")?.members[1]).toMatchObject({ state: "rebuilding" });
});

test("api: failing and removing a member: 200 and 204", async () => {
  const { call } = await withArray();
  const failed = await call("POST", "/v1/arrays/raid_test/members/b/fail");
  expect([failed.status, (await body(failed))["degraded"]]).toEqual([200, 1]);
  expect((await call("DELETE", "/v1/arrays/raid_test/members/b")).status).toBe(204);
  expect((await call("DELETE", "/v1/arrays/raid_test/members/nobody")).status).toBe(404);
});

test("api: scrub: 202 at the start, paused, resumed as the same job, cancelled", async () => {
  const { call } = await withArray();
  const started = await call("POST", "/v1/arrays/raid_test/scrub");
  expect(started.status).toBe(202);
  expect(await body(started)).toMatchObject({ id: 1, kind: "check", state: "running" });
  const twice = await call("POST", "/v1/arrays/raid_test/scrub", { mode: "repair" });
  expect(twice.status).toBe(409);
  const paused = await call("POST", "/v1/arrays/raid_test/scrub/pause");
  expect([paused.status, (await body(paused))["state"]]).toEqual([200, "paused"]);
  const resumed = await call("POST", "/v1/arrays/raid_test/scrub");
  expect(await body(resumed)).toMatchObject({ id: 1, state: "running" });
  expect((await call("DELETE", "/v1/arrays/raid_test/scrub")).status).toBe(204);
  expect(await body(call("GET", "/v1/jobs/1"))).toMatchObject({ state: "cancelled" });
});

test("api: exports: 201 then 200, listed with their URI, withdrawn", async () => {
  const { call, reactor } = await withArray();
  const created = await call("PUT", "/v1/exports/e1", { array: "raid_test" });
  expect(created.status).toBe(201);
  expect(created.headers.get("location")).toBe("/v1/exports/e1");
  const view = {
    name: "e1",
    array: "raid_test",
    readOnly: false,
    allow: null,
    connections: 0,
    isServed: true,
    arrayUuid: testUuid("raid_test"),
    uris: ["nbd+unix:///e1?socket=/run/parityd/nbd.sock"],
    attachment: null,
  };
  expect(await body(created)).toEqual(view);
  expect((await call("PUT", "/v1/exports/e1", { array: "raid_test" })).status).toBe(200);
  expect(await (await call("GET", "/v1/exports")).json()).toEqual([view]);
  for (let count = 0; count < 2; count += 1) reactor.world.run(reactor.world.dial("e1"));
  expect((await call("DELETE", "/v1/exports/e1")).status).toBe(409);
  expect((await call("DELETE", "/v1/exports/e1?force=true")).status).toBe(204);
  expect(await (await call("GET", "/v1/exports")).json()).toEqual([]);
});

test("api: jobs: listed newest first, cancelled, and unknown ones are 404", async () => {
  const { call } = await withArray();
  await call("POST", "/v1/arrays/raid_test/scrub");
  await call("DELETE", "/v1/arrays/raid_test/scrub");
  await call("POST", "/v1/arrays/raid_test/scrub");
  const list = (await (await call("GET", "/v1/jobs")).json()) as { id: number }[];
  expect(list.map((job) => job.id)).toEqual([2, 1]);
  const cancelled = await call("DELETE", "/v1/jobs/2");
  expect([cancelled.status, (await body(cancelled))["state"]]).toEqual([200, "cancelled"]);
  expect((await call("DELETE", "/v1/jobs/2")).status).toBe(200);
  expect((await call("GET", "/v1/jobs/99")).status).toBe(404);
});

test("api: ?wait=: answers at the end of the job, and at the end of the time", async () => {
  const { call, reactor } = await withArray();
  await call("POST", "/v1/arrays/raid_test/scrub");
  const before = performance.now();
  const late = await call("GET", "/v1/jobs/1?wait=1");
  expect(performance.now() - before).toBeGreaterThan(900);
  expect(await body(late)).toMatchObject({ state: "running" });
  const waiting = call("GET", "/v1/jobs/1?wait=60");
  await Bun.sleep(20);
  const { total } = reactor.world.waitJob(1);
  expect(await body(waiting)).toMatchObject({ state: "done", done: total });
});

test("api: starting a scrub with ?wait=: 200 when done, a problem when it is set aside", async () => {
  const { call, reactor, host } = await withArray();
  const done = call("POST", "/v1/arrays/raid_test/scrub?wait=60");
  await until("the job is there", () => reactor.jobs().length === 1);
  reactor.world.waitJob(1);
  expect((await done).status).toBe(200);
  const failed = call("POST", "/v1/arrays/raid_test/scrub?wait=60");
  await until("the next job is there", () => reactor.jobs().length === 2);
  unplug(host, "/dev/b");
  reactor.world.waitJob(2);
  const problem = await failed;
  expect(problem.status).toBe(409);
  const detail = expect.stringMatching(/^check job 2 was set aside, .* itself: drive b .* failed/);
  expect(await body(problem)).toMatchObject({ type: "urn:parityd:problem:job-set-aside", detail });
});

test("api: faults: errno by name both ways, cleared one by one and all", async () => {
  const { call, reactor } = await withArray();
  const added = await call("POST", "/v1/faults", {
    drive: "b",
    op: "read",
    errno: "EIO",
    count: 3,
  });
  expect(added.status).toBe(201);
  expect(await body(added)).toEqual({
    id: 1,
    drive: "b",
    op: "read",
    at: "completion",
    errno: "EIO",
    count: 3,
    injected: 0,
  });
  const faults = reactor.world.must<"list-faults">({ kind: "list-faults" });
  expect(faults.map(({ errno }) => errno)).toEqual([5]);
  await call("POST", "/v1/faults", { drive: "b", op: "any", delayMs: 5 });
  expect(await (await call("GET", "/v1/faults")).json()).toHaveLength(2);
  expect((await call("DELETE", "/v1/faults/1")).status).toBe(204);
  expect((await call("DELETE", "/v1/faults/1")).status).toBe(404);
  expect((await call("DELETE", "/v1/faults")).status).toBe(204);
  expect(await (await call("GET", "/v1/faults")).json()).toEqual([]);
});

test("api: faults without --allow-fault-injection: 403 that names the flag", async () => {
  const { call } = await startSimAppliance({ allowFaultInjection: false });
  for (const [method, path] of [
    ["POST", "/v1/faults"],
    ["GET", "/v1/faults"],
    ["DELETE", "/v1/faults"],
    ["DELETE", "/v1/faults/1"],
  ] as const) {
    const refused = await call(method, path);
    expect(refused.status).toBe(403);
    expect(await body(refused)).toMatchObject({
      detail: expect.stringContaining("--allow-fault-injection"),
    });
  }
});

test("api: /metrics: array states are one-hot, every line is well formed", async () => {
  const { call, reactor } = await withArray();
  await call("POST", "/v1/faults", { drive: "a", op: "read", errno: "EIO", count: 1 });
  await call("POST", "/v1/arrays/raid_test/scrub");
  reactor.world.waitJob(1);
  const { members } = reactor.world.settle({ array: "raid_test" });
  const flushes = members[2]!.io.flushes;
  expect([members[0]!.errorKinds["EIO"], flushes > 0]).toEqual([1, true]);
  const answer = await call("GET", "/metrics");
  expect(answer.headers.get("content-type")).toContain("text/plain");
  const lines = (await answer.text()).split("\n");
  expect(lines.filter((line) => /^parityd_array_state\{.*\} 1$/.test(line))).toEqual([
    'parityd_array_state{array="raid_test",state="clean"} 1',
  ]);
  expect(lines).toContain('parityd_array_members{array="raid_test",state="in-sync"} 3');
  expect(lines).toContain(
    `parityd_member_io_total{array="raid_test",role="2",op="flush"} ${flushes}`,
  );
  expect(lines).toContain(
    'parityd_member_errors_total{array="raid_test",role="0",op="read",kind="EIO"} 1',
  );
  for (const line of lines) {
    expect(line).toMatch(/^(# (HELP|TYPE) parityd_\w+ .+|parityd_\w+(\{.*\})? [\d.e+-]+|)$/);
  }
  const labels = '{array="raid_test",role="2",op="flush"';
  const bucket = `parityd_member_io_seconds_bucket${labels},le="`;
  const counts = lines
    .filter((line) => line.startsWith(bucket))
    .map((line) => +line.split(" ")[1]!);
  expect(counts).toHaveLength(22);
  expect(counts).toEqual(counts.toSorted((one, other) => one - other));
  expect([counts[0]! < flushes, counts.at(-1)]).toEqual([true, flushes]);
  expect(lines).toContain(`parityd_member_io_seconds_count${labels}} ${flushes}`);
  const sum = lines.find((line) => line.startsWith(`parityd_member_io_seconds_sum${labels}}`));
  expect(Number(sum?.split(" ")[1])).toBeGreaterThan(0);
});

test("api: /openapi.json: lists every call that is routed", async () => {
  const { call, app } = await startSimAppliance();
  const document = (await body(call("GET", "/openapi.json"))) as {
    openapi: string;
    paths: Record<string, Record<string, unknown>>;
  };
  expect(document.openapi).toBe("3.1.0");
  const documented = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const routed = app.routes
    .filter((route) => route.method !== "ALL" && route.path.startsWith("/v1/"))
    .map((route) => `${route.method} ${route.path.replace(/:(\w+)/g, "{$1}")}`);
  expect([...new Set(routed)].sort()).toEqual(documented.sort());
});

test("api: /-/healthy and /-/ready: 200 while serving, 503 when hung or stopping", async () => {
  const { call, appliance } = await withArray();
  expect((await call("GET", "/-/healthy")).status).toBe(200);
  expect((await call("GET", "/-/ready")).status).toBe(200);
  await appliance.shutdown();
  expect((await call("GET", "/-/ready")).status).toBe(503);
  const refused = await call("POST", "/v1/arrays/raid_test/stop");
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toBe("5");
});
