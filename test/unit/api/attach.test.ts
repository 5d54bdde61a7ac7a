/**
 * Goal: an export is attached to the device that was asked for and no other, whatever is attached
 * already; what is remembered is what was done; a device gets its connections anew when its array
 * runs again; each refusal says the way out.
 * Method: the real API and verbs on simulated drives, over a kernel in memory.
 */
import { expect, test } from "bun:test";
import { backendOf } from "../../../src/appliance/attach/nbd-driver.ts";
import type { ExportView } from "../../../src/appliance/state/export-book.ts";
import type { ExportStatus } from "../../../src/array/protocol.ts";
import type { Log } from "../../../src/base/log.ts";
import { ok } from "../../../src/base/result.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { FakeNbdDriver } from "../../helpers/fake-nbd-driver.ts";
import {
  addTestArray,
  memoryStore,
  type SimAppliance,
  type SimApplianceOptions,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { testUuid } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

const SOCKET = "/run/parityd/nbd.sock";
const UUID = testUuid("raid_test");
const OURS = backendOf({ name: "e", arrayUuid: UUID });

/** With the exports e and f of one array. */
async function start(
  nbdDriver: FakeNbdDriver | undefined,
  options: SimApplianceOptions = {},
): Promise<SimAppliance> {
  const daemon = await startSimAppliance({
    ...options,
    ...(nbdDriver === undefined ? {} : { nbdDriver }),
  });
  await addTestArray(daemon);
  for (const name of ["e", "f"]) {
    await daemon.call("PUT", `/v1/exports/${name}`, { array: "raid_test" });
  }
  return daemon;
}

async function ask({ call }: SimAppliance, method: string, path: string, body?: unknown) {
  const answer = await call(method, `/v1/exports/${path}`, body);
  const text = await answer.text();
  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the API answers.
  return { status: answer.status, body: (text === "" ? null : JSON.parse(text)) as any };
}

async function problem(daemon: SimAppliance, method: string, path: string, body?: unknown) {
  const answer = await ask(daemon, method, path, body);
  return [answer.status, answer.body.type?.split(":").at(-1), answer.body.detail];
}

async function attachmentOf(daemon: SimAppliance, name = "e") {
  const listed = (await (await daemon.call("GET", "/v1/exports")).json()) as ExportView[];
  return listed.find((view) => view.name === name)!.attachment;
}

test("attach: the device that was named; again: nothing is done; detach: it is free", async () => {
  const driver = new FakeNbdDriver(3);
  const daemon = await start(driver);
  const attachment = { device: "/dev/nbd1", isAttached: true, atStart: false };
  for (const device of ["/dev/nbd1", "/dev/nbd1", undefined]) {
    const answer = await ask(daemon, "POST", "e/attach", device === undefined ? {} : { device });
    expect([answer.status, answer.body.attachment]).toEqual([200, attachment]);
  }
  expect(driver.asked.filter((line) => line.startsWith("connect"))).toEqual([
    `connect nbd1 e x4 ${SOCKET}`,
  ]);
  expect(driver.backends).toEqual([null, OURS, null]);
  const metrics = await (await daemon.call("GET", "/metrics")).text();
  expect(metrics).toContain('parityd_export_attached{export="e",device="/dev/nbd1"} 1');
  expect(daemon.store.state.exports.get("e")?.attachAtStart).toBeNull();
  expect((await ask(daemon, "DELETE", "e/attach")).status).toBe(204);
  expect([driver.backends[1], await attachmentOf(daemon)]).toEqual([null, null]);
});

test("attach: without a device the first that is free, and that no other export waits for", async () => {
  const driver = new FakeNbdDriver(3);
  driver.backends[0] = "somebody's";
  const daemon = await start(driver);
  await daemon.call("POST", "/v1/arrays/raid_test/stop");
  const entry = daemon.store.state.exports.get("f")!;
  daemon.store.note({ kind: "put-export", entry: { ...entry, attachAtStart: "/dev/nbd1" } });
  expect(await problem(daemon, "POST", "e/attach", {})).toMatchObject([
    409,
    "export-not-served",
    expect.stringContaining("start it first"),
  ]);
  await daemon.call("POST", "/v1/arrays/raid_test/start");
  const refused = await problem(daemon, "POST", "e/attach", { device: "/dev/nbd1" });
  expect(refused).toMatchObject([409, "device-in-use", expect.stringContaining("export f")]);
  expect((await ask(daemon, "POST", "e/attach", {})).body.attachment.device).toBe("/dev/nbd2");
  await until(
    "f is attached as it is remembered",
    async () => (await attachmentOf(daemon, "f"))?.isAttached === true,
  );
  expect(driver.backends[1]).toBe(backendOf({ name: "f", arrayUuid: UUID }));
});

test("attach: refusals, each with its way out, and nothing is remembered", async () => {
  const without = await start(undefined);
  const none = await ask(without, "POST", "e/attach", { atStart: true });
  expect(none).toMatchObject({ status: 501, body: { uri: `nbd+unix:///e?socket=${SOCKET}` } });
  expect(none.body.type).toEndWith(":no-nbd-driver");
  expect(none.body.detail).toContain("modprobe nbd");
  const driver = new FakeNbdDriver(2);
  const daemon = await start(driver);
  driver.backends[0] = "somebody's";
  const device = "/dev/nbd0";
  for (const [path, body, expected] of [
    ["x/attach", {}, [404, "export-not-found", "put it first"]],
    ["e/attach", { device: "/dev/nbd2" }, [404, "device-not-found", "/dev/nbd0 to /dev/nbd1"]],
    ["e/attach", { device, atStart: true }, [409, "device-in-use", "is in use"]],
  ] as const) {
    const [status, code, text] = expected;
    const refused = [status, code, expect.stringContaining(text)];
    expect(await problem(daemon, "POST", path, body)).toMatchObject(refused);
  }
  for (const bad of [
    "nbd0",
    "/dev/sda",
    "/dev/nbd",
    "/dev/nbd00",
    "/dev/nbd0p1",
    "/dev/../dev/nbd0",
    "/dev/nbd0 -d",
  ]) {
    expect((await ask(daemon, "POST", "e/attach", { device: bad })).status).toBe(422);
  }
  driver.backends[1] = "somebody's";
  expect(await problem(daemon, "POST", "e/attach", {})).toMatchObject([
    409,
    "no-free-device",
    expect.stringContaining("nbds_max"),
  ]);
  expect(driver.asked).toEqual([]);
  driver.backends[1] = null;
  driver.refusal = { kind: "io", code: "attach-failed", detail: "the kernel refused" };
  expect(await problem(daemon, "POST", "e/attach", { atStart: true })).toEqual([
    500,
    "attach-failed",
    "the kernel refused",
  ]);
  driver.refusal = null;
  driver.isOld = true;
  expect(await problem(daemon, "POST", "e/attach", { atStart: true })).toMatchObject([
    501,
    "nbd-driver-too-old",
    expect.stringContaining(SOCKET),
  ]);
  expect(driver.backends[1]).toBeNull();
  expect(daemon.store.state.exports.get("e")?.attachAtStart).toBeNull();
  expect(await problem(daemon, "DELETE", "e/attach")).toMatchObject([
    404,
    "not-attached",
    expect.any(String),
  ]);
});

test("attach: detach is refused while it is mounted, and what is remembered stays", async () => {
  const driver = new FakeNbdDriver(1);
  const daemon = await start(driver);
  await ask(daemon, "POST", "e/attach", { atStart: true });
  driver.mounted.add(0);
  expect(await problem(daemon, "DELETE", "e/attach")).toMatchObject([
    409,
    "device-in-use",
    expect.any(String),
  ]);
  expect(await attachmentOf(daemon)).toEqual({
    device: "/dev/nbd0",
    isAttached: true,
    atStart: true,
  });
  expect((await ask(daemon, "DELETE", "e/attach?force=true")).status).toBe(204);
  expect(await attachmentOf(daemon)).toBeNull();
  expect(driver.asked.at(-1)).toBe("disconnect nbd0 by force");
});

test("attach: an attached export keeps its array; deleted by force it takes its device along", async () => {
  const driver = new FakeNbdDriver(1);
  const daemon = await start(driver);
  await ask(daemon, "POST", "e/attach", {});
  const put = await problem(daemon, "PUT", "e", { array: "raid_test", readOnly: true });
  expect(put).toMatchObject([409, "export-attached", expect.stringContaining("detach it first")]);
  expect((await ask(daemon, "PUT", "e", { array: "raid_test" })).status).toBe(200);
  expect(await problem(daemon, "DELETE", "e")).toMatchObject([
    409,
    "export-attached",
    expect.any(String),
  ]);
  expect(driver.backends).toEqual([OURS]);
  expect((await ask(daemon, "DELETE", "e?force=true")).status).toBe(204);
  await until("the device is free", () => driver.backends[0] === null);
});

test("attach: a new run gives a device that it finds all connections; a remembered one is attached", async () => {
  const driver = new FakeNbdDriver(3);
  const first = await start(driver);
  await ask(first, "POST", "e/attach", { device: "/dev/nbd2" });
  await ask(first, "POST", "f/attach", { device: "/dev/nbd1", atStart: true });
  await ask(first, "DELETE", "f/attach");
  await ask(first, "POST", "f/attach", { device: "/dev/nbd1", atStart: true });
  const { host, store } = first;
  host.end();
  // The kernel's devices stay; as if f's had been lost in a boot.
  driver.backends[1] = null;
  driver.asked.length = 0;
  const second = await startSimAppliance({ host, store, nbdDriver: driver });
  await until("both are served again", () => driver.asked.length >= 2);
  expect(driver.asked.sort()).toEqual([`connect nbd1 f x4 ${SOCKET}`, `join nbd2 e x4 ${SOCKET}`]);
  expect(await attachmentOf(second, "f")).toEqual({
    device: "/dev/nbd1",
    isAttached: true,
    atStart: true,
  });
  expect(await attachmentOf(second, "e")).toMatchObject({ device: "/dev/nbd2", atStart: false });
});

test("attach: connections that were lost are given anew, those that are there are left alone", async () => {
  const driver = new FakeNbdDriver(1);
  const daemon = await start(driver);
  const { client, appliance } = daemon;
  await ask(daemon, "POST", "e/attach", {});
  let connections = 4;
  const call = client.call.bind(client);
  client.call = (async (command: Parameters<typeof call>[0]) => {
    const answer = await call(command);
    if (command.kind !== "list-exports" || !answer.ok) return answer;
    const listed = answer.value as ExportStatus[];
    return ok(listed.map((entry) => ({ ...entry, connections })));
  }) as typeof client.call;
  await appliance.attachments.lookout.now();
  driver.asked.length = 0;
  await appliance.attachments.lookout.now();
  expect(driver.asked).toEqual([]);
  connections = 1;
  await appliance.attachments.lookout.now();
  expect(driver.asked).toEqual([`join nbd0 e x3 ${SOCKET}`]);
  // Other clients may hide that the kernel has none: it gets all when the array runs again.
  connections = 9;
  await daemon.call("POST", "/v1/arrays/raid_test/stop", { force: true });
  await appliance.attachments.lookout.now();
  await daemon.call("POST", "/v1/arrays/raid_test/start");
  await appliance.attachments.lookout.now();
  expect(driver.asked.slice(1)).toEqual([`join nbd0 e x4 ${SOCKET}`]);
});

test("attach: a stop ends the kernel's connections before the server answers that it stops", async () => {
  const driver = new FakeNbdDriver(1);
  const { client, appliance, ...daemon } = await start(driver);
  await ask({ client, appliance, ...daemon }, "POST", "e/attach", {});
  driver.mounted.add(0);
  const called: string[] = [];
  const call = client.call.bind(client);
  client.call = ((command: Parameters<typeof call>[0]) => {
    called.push("name" in command ? `${command.kind} ${command.name}` : command.kind);
    return call(command);
  }) as typeof client.call;
  await appliance.shutdown();
  const ends = called.filter((kind) => /^(delete-export|shutdown)/.test(kind));
  expect(ends).toEqual(["delete-export e", "shutdown"]);
  expect([...daemon.store.state.exports.keys()]).toEqual(["e", "f"]);
  expect(driver.backends).toEqual([OURS]);
});

test("attach: a stop detaches what nobody has, and the next start attaches it there, once", async () => {
  const driver = new FakeNbdDriver(3);
  const first = await start(driver);
  await ask(first, "POST", "e/attach", { device: "/dev/nbd1" });
  await ask(first, "POST", "f/attach", { device: "/dev/nbd2" });
  driver.mounted.add(2);
  const { host, store } = first;
  await first.appliance.shutdown();
  host.end();
  expect(driver.asked).toContain("disconnect nbd1");
  const theirs = backendOf({ name: "f", arrayUuid: UUID });
  expect(driver.backends).toEqual([null, null, theirs]);
  const remembered = () =>
    ["e", "f"].map((name) => store.state.exports.get(name)?.detachedAtStop ?? null);
  expect(remembered()).toEqual(["/dev/nbd1", null]);
  driver.asked.length = 0;
  const second = await startSimAppliance({ host, store, nbdDriver: driver });
  await until("both are served again", () => driver.asked.length >= 2);
  expect(driver.asked.sort()).toEqual([`connect nbd1 e x4 ${SOCKET}`, `join nbd2 f x4 ${SOCKET}`]);
  const attachment = { device: "/dev/nbd1", isAttached: true, atStart: false };
  expect(await attachmentOf(second)).toEqual(attachment);
  await until("it is done", () => remembered()[0] === null);
});

test("attach: at a start that cannot attach: told once, shown, and tried again until it can", async () => {
  const driver = new FakeNbdDriver(1);
  const first = await start(driver);
  await ask(first, "POST", "e/attach", { atStart: true });
  const { host, store } = first;
  host.end();
  driver.backends[0] = "somebody's";
  const second = await startSimAppliance({ host, store, nbdDriver: driver });
  const told = () => store.state.events.filter(({ kind }) => kind === "export.not-attached");
  await until("it is told", () => told().length > 0);
  expect(told()[0]).toMatchObject({ severity: "warning", array: "raid_test", arrayUuid: UUID });
  expect(told()[0]!.message).toContain(
    "export e is not attached to its device: /dev/nbd0 is in use",
  );
  const waiting = { device: "/dev/nbd0", isAttached: false, atStart: true };
  expect(await attachmentOf(second)).toEqual(waiting);
  await second.appliance.attachments.lookout.now();
  expect(told()).toHaveLength(1);
  driver.backends[0] = null;
  await second.appliance.attachments.lookout.now();
  expect(await attachmentOf(second)).toEqual({ ...waiting, isAttached: true });
});

test("attach: without the memory of an I/O flusher it is told once, and attached all the same", async () => {
  for (const hasIoFlusher of [true, false]) {
    const driver = new FakeNbdDriver(2);
    driver.hasIoFlusher = hasIoFlusher;
    const lines: string[] = [];
    const log: Log = { write: (_level, message) => void lines.push(message) };
    const daemon = await start(driver, { log });
    for (const name of ["e", "f"]) await ask(daemon, "POST", `${name}/attach`, {});
    const told = lines.filter((line) => line.includes("memory is short"));
    expect(told).toHaveLength(hasIoFlusher ? 0 : 1);
  }
});

test("attach: what cannot be recorded is not done", async () => {
  const driver = new FakeNbdDriver(1);
  let isFull = false;
  const refused = { ok: false, error: { kind: "refused", detail: "no room" } } as const;
  const store = memoryStore({ hasRoom: () => (isFull ? refused : ok(null)) });
  const daemon = await start(driver, { store });
  isFull = true;
  expect((await ask(daemon, "POST", "e/attach", { atStart: true })).status).toBe(507);
  expect(driver.asked).toEqual([]);
  expect((await ask(daemon, "POST", "e/attach", {})).status).toBe(200);
});

test("attach: the configuration brings along what is attached at each start", async () => {
  const driver = new FakeNbdDriver(1);
  const daemon = await start(driver);
  await ask(daemon, "POST", "e/attach", { atStart: true });
  const kept = await (await daemon.call("GET", "/v1/configuration")).json();
  await ask(daemon, "DELETE", "e/attach");
  const applied = await daemon.call("PUT", "/v1/configuration", kept);
  expect(await applied.json()).toMatchObject({
    changes: [{ kind: "export", name: "e", action: "change", outcome: "done" }],
  });
  await until("it is attached", async () => (await attachmentOf(daemon))?.isAttached === true);
});

test("export attach, detach, list: by the verbs", async () => {
  const driver = new FakeNbdDriver(2);
  const daemon = await start(driver);
  expect(await runCli("export attach e", { daemon })).toMatchObject({
    exitCode: 0,
    stdout: "/dev/nbd0",
  });
  const second = await runCli("export attach f /dev/nbd1 --at-start", { daemon });
  expect(second).toMatchObject({ exitCode: 0, stdout: "/dev/nbd1" });
  const list = await runCli("export list", { daemon });
  expect(list.stdout).toMatch(/^e .* \/dev\/nbd0 /m);
  expect(list.stdout).toContain("/dev/nbd1 at each start");
  driver.mounted.add(0);
  expect(await runCli("export detach e", { daemon })).toMatchObject({ exitCode: 1, stdout: "" });
  expect((await runCli("export detach e --force", { daemon })).exitCode).toBe(0);
  const without = await runCli("export attach e", { daemon: await start(undefined) });
  expect(without.stderr).toContain(`nbd+unix:///e?socket=${SOCKET}`);
});

test("attach: without the capability: 501 with the command that gives it, and nothing is told or kept", async () => {
  const driver = new FakeNbdDriver(2);
  const daemon = await start(driver);
  driver.isPermitted = false;
  const refused = await ask(daemon, "POST", "e/attach", { atStart: true });
  expect(refused).toMatchObject({ status: 501, body: { uri: `nbd+unix:///e?socket=${SOCKET}` } });
  expect(refused.body.type).toEndWith(":no-permission-to-attach");
  expect(refused.body.detail).toMatch(
    /`install -D -m 644 \S+\/parityd-attach.conf \S+ && systemctl daemon-reload && .*`/,
  );
  expect([driver.asked, await attachmentOf(daemon)]).toEqual([[], null]);
  driver.isPermitted = true;
  expect((await ask(daemon, "POST", "e/attach", {})).status).toBe(200);
  driver.isPermitted = false;
  expect(await problem(daemon, "DELETE", "e/attach")).toMatchObject([
    501,
    "no-permission-to-attach",
    expect.stringContaining("CAP_SYS_ADMIN"),
  ]);
  expect(driver.backends[0]).toBe(OURS);
  // Nothing is told to the kernel about what is attached already.
  expect((await ask(daemon, "POST", "e/attach", {})).status).toBe(200);
});

test("attach: a dry run tells the kernel nothing and remembers nothing, from the verbs too", async () => {
  const driver = new FakeNbdDriver(2);
  const daemon = await start(driver);
  const body = { atStart: true };
  const dry = await ask(daemon, "POST", "e/attach?dryRun=true", body);
  const attachment = { device: "/dev/nbd0", isAttached: true, atStart: true };
  expect([dry.status, dry.body.attachment]).toEqual([200, attachment]);
  expect([driver.asked, await attachmentOf(daemon)]).toEqual([[], null]);
  const verb = await runCli("export attach e --dry-run", { daemon });
  expect(verb).toMatchObject({ exitCode: 0, stdout: "/dev/nbd0" });
  expect(verb.stderr).toStartWith("dry run: nothing is changed");
  await ask(daemon, "POST", "e/attach", body);
  await daemon.appliance.attachments.lookout.now();
  const asked = driver.asked.length;
  expect((await ask(daemon, "DELETE", "e/attach?dryRun=true")).status).toBe(204);
  expect((await runCli("export detach e --dry-run", { daemon })).exitCode).toBe(0);
  expect([driver.asked.length, await attachmentOf(daemon)]).toEqual([asked, attachment]);
});
