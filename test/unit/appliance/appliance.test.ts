/**
 * Goal: after a restart the appliance is as it was, as far as the drives are there; what is not
 * there is shown and tried again.
 * Method: two runs of the service over one state.db and the same simulated disks.
 */
import { expect, test } from "bun:test";
import { ReactorClient } from "../../../src/appliance/reactor-client.ts";
import { nbdUri } from "../../../src/appliance/state/export-book.ts";
import type { ReactorMessage } from "../../../src/array/protocol.ts";
import { silentLog } from "../../../src/base/log.ts";
import {
  addTestArray,
  DRIVE_PATHS,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import {
  hostWithDisks,
  plugAgain,
  SimReactor,
  testUuid,
  unplug,
} from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

/** What the next process is started with: the same disks and the same state. */
async function formerRun(): Promise<SimAppliance> {
  const first = await startSimAppliance();
  await addTestArray(first);
  return first;
}

test("restore: drives, their array, its settings and its export come back", async () => {
  const { call, store, host } = await formerRun();
  await call("PATCH", "/v1/arrays/raid_test", { readDeadlineMs: 1_234 });
  await call("PUT", "/v1/exports/e", { array: "raid_test", readOnly: true });

  const second = await startSimAppliance({ store, host });
  expect(second.reactor.driveNames()).toEqual(["a", "b", "c", "d"]);
  expect(second.reactor.array("raid_test")).toMatchObject({
    state: "clean",
    readDeadlineMs: 1_234,
  });
  expect(second.reactor.exports()).toMatchObject([
    { name: "e", array: testUuid("raid_test"), readOnly: true, isServed: true },
  ]);
  expect(second.appliance.state).toBe("ready");
});

test("restore: a path that is gone: missing, the rest comes up, its export waits", async () => {
  const { call: callFirst, store, host } = await formerRun();
  await callFirst("PUT", "/v1/exports/e", { array: "raid_test" });
  await callFirst("PATCH", "/v1/arrays/raid_test", { readDeadlineMs: 1_234 });

  host.end();
  unplug(host, "/dev/b");
  const { appliance, call, reactor } = await startSimAppliance({ store, host });
  const drives = await appliance.listDrives();
  if (!drives.ok) throw new Error(drives.error.detail);
  const states = drives.value.map(({ name, state }) => [name, state]);
  expect(states).toEqual([
    ["a", "member"],
    ["b", "missing"],
    ["c", "member"],
    ["d", "available"],
  ]);
  expect(drives.value[1]?.detail).toContain("ENOENT");
  expect(await (await call("GET", "/v1/exports")).json()).toEqual([
    {
      ...{ name: "e", array: "raid_test", arrayUuid: testUuid("raid_test"), readOnly: false },
      ...{ connections: 0, isServed: false, uris: [], attachment: null, allow: null },
    },
  ]);

  plugAgain(host, "/dev/b");
  const other = await call("POST", "/v1/drives", { name: "b", path: "/dev/elsewhere" });
  expect(other.status).toBe(409);
  const retried = await call("POST", "/v1/drives", { name: "b", path: "/dev/b" });
  expect(retried.status).toBe(201);
  // The array assembles with its last member, and its export follows by itself.
  reactor.world.simulation.runFor(1_000);
  expect(reactor.exports()).toMatchObject([{ name: "e", isServed: true }]);
  expect(reactor.array("raid_test")?.readDeadlineMs).toBe(1_234);
});

test("start of an array: missing drives are tried again first", async () => {
  const { store, host } = await formerRun();
  host.end();
  for (const path of DRIVE_PATHS) unplug(host, path);
  const { call, reactor } = await startSimAppliance({ store, host });
  expect(reactor.driveNames()).toEqual([]);
  for (const path of DRIVE_PATHS) plugAgain(host, path);
  expect((await call("POST", "/v1/arrays/raid_test/start")).status).toBe(200);
  expect(reactor.driveNames()).toHaveLength(4);
});

test("removing a missing drive: forgotten without the reactor", async () => {
  const { store, host } = await formerRun();
  host.end();
  for (const path of DRIVE_PATHS) unplug(host, path);
  const { call } = await startSimAppliance({ store, host });
  expect((await call("DELETE", "/v1/drives/b")).status).toBe(204);
  expect([...store.state.drives.keys()]).toEqual(["a", "c", "d"]);
});

test("adding a drive: in use is refused, a failure leaves no fd open", async () => {
  const { call, host, reactor, store } = await startSimAppliance();
  await call("POST", "/v1/drives", { name: "a", path: "/dev/a" });
  for (const body of [
    { name: "a", path: "/dev/b" },
    { name: "b", path: "/dev/a" },
  ]) {
    expect((await call("POST", "/v1/drives", body)).status).toBe(409);
  }
  expect((await call("POST", "/v1/drives", { name: "x", path: "/dev/none" })).status).toBe(422);
  reactor.refusals.set("attach-drive", { kind: "io", code: "io", detail: "it cannot be read" });
  expect((await call("POST", "/v1/drives", { name: "b", path: "/dev/b" })).status).toBe(500);
  const open = [...host.disks.values()].filter((disk) => host.isOpen(disk));
  expect([open.map(({ path }) => path), store.state.drives.size]).toEqual([["/dev/a"], 1]);
});

test("two requests for one drive at once: the second is told that it is busy", async () => {
  const { call } = await startSimAppliance();
  const body = { name: "a", path: "/dev/a" };
  const answers = await Promise.all([
    call("POST", "/v1/drives", body),
    call("POST", "/v1/drives", body),
  ]);
  expect(answers.map((answer) => answer.status)).toEqual([201, 423]);
});

test("jobs: of a former run: answered; a scrub that was left open was set aside", async () => {
  const first = await formerRun();
  const { store, host } = first;
  await first.call("POST", "/v1/arrays/raid_test/scrub");
  expect(first.reactor.world.waitJob(1).state).toBe("done");
  await first.call("POST", "/v1/arrays/raid_test/scrub");

  const second = await startSimAppliance({ store, host });
  second.appliance.jobs.closeFormerRun("2026-02-02T00:00:00.000Z");
  expect(await (await second.call("GET", "/v1/jobs/1")).json()).toMatchObject({ state: "done" });
  expect(await (await second.call("GET", "/v1/jobs/2")).json()).toMatchObject({
    state: "paused",
    error: "parityd ended before the scrub did",
    finishedAt: null,
  });
});

test("jobs: a reply that is read after the end of its job: the end stays on record", async () => {
  const fake = await formerRun();
  await fake.call("POST", "/v1/arrays/raid_test/scrub");
  const running = fake.reactor.world.job(1);
  expect(running.state).toBe("running");
  fake.reactor.world.waitJob(1);
  await until("the end is heard", () => fake.store.state.jobs.get(1)?.state === "done");
  fake.appliance.jobs.record(running);
  expect(fake.store.state.jobs.get(1)?.state).toBe("done");
});

test("jobs: a waiter that hangs up: answered at once with the job as it is", async () => {
  const fake = await formerRun();
  await fake.call("POST", "/v1/arrays/raid_test/scrub");
  const abort = new AbortController();
  const waiting = fake.appliance.jobs.wait(1, { timeoutMs: 60_000, signal: abort.signal });
  await Bun.sleep(5);
  abort.abort();
  expect(await waiting).toMatchObject({ ok: true, value: { state: "running" } });
});

test("reactor client: when the reactor ends: open calls and later ones are answered", async () => {
  const reactor = new SimReactor(hostWithDisks([]));
  const client = new ReactorClient({ channel: reactor, log: silentLog });
  await client.ready;
  reactor.isHung = true;
  const open = client.call({ kind: "list-drives" });
  client.close();
  expect(await open).toMatchObject({ ok: false, error: { kind: "stopping" } });
  const later = client.call({ kind: "list-drives" });
  expect(await later).toMatchObject({ ok: false, error: { kind: "stopping" } });
});

test("reactor client: answers in any order: each call gets its own", async () => {
  let listener: (message: ReactorMessage) => void = () => {};
  const ids: number[] = [];
  const client = new ReactorClient({
    log: silentLog,
    channel: {
      post: ({ id }) => ids.push(id),
      onMessage: (to) => {
        listener = to;
      },
    },
  });
  const calls = ["x", "y", "z"].map((array) => client.call({ kind: "get-array", array }));
  for (const id of [...ids].reverse()) {
    const error = { kind: "io", code: "c", detail: `answer ${id}` } as const;
    listener({ kind: "reply", id, result: { ok: false, error } });
  }
  const details = (await Promise.all(calls)).map((result) => !result.ok && result.error.detail);
  expect(details).toEqual(ids.map((id) => `answer ${id}`));
  expect(() => listener({ kind: "reply", id: 1, result: { ok: true, value: null } })).toThrow(
    "answers each call once",
  );
});

test("nbd URIs: Unix sockets with odd paths, TCP with both families", () => {
  expect(nbdUri({ kind: "unix", path: "/run/a b&c/n.sock" }, "e")).toBe(
    "nbd+unix:///e?socket=/run/a%20b%26c/n.sock",
  );
  expect(nbdUri({ kind: "tcp", host: "10.0.0.1", port: 10_809 }, "e")).toBe(
    "nbd://10.0.0.1:10809/e",
  );
  expect(nbdUri({ kind: "tcp", host: "::1", port: 1 }, "e")).toBe("nbd://[::1]:1/e");
});
