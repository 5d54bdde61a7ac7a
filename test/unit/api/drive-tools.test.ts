/**
 * Goal: what has appeared is looked at at once, and by nobody twice; the light of a slot is asked
 * for as ledctl wants it, and each refusal says the way out.
 * Method: the real services and verbs on simulated drives, with tools that answer as they are told.
 */
import { expect, test } from "bun:test";
import type { ToolAnswer } from "../../../src/appliance/host/linux-tool.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { exited, FakeTools } from "../../helpers/fake-tools.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt, hostWithDisks, TEST_ARRAY } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

async function body(answer: Promise<Response>) {
  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the API answers.
  return (await (await answer).json()) as any;
}

test("appeared: a missing drive is back before the next look, under its new path too", async () => {
  const before = await startSimAppliance();
  await addTestArray(before);
  await before.call("POST", "/v1/arrays/raid_test/stop");
  const { host, store } = before;
  const isKnown = () => typeof store.state.drives.get("b")?.deviceUuid === "string";
  await until("the disk is known by its superblock", isKnown);
  const disk = diskAt(host, "/dev/b");
  host.end();
  host.pull(disk);
  const daemon = await startSimAppliance({ host, store });
  const stateOf = async () => (await body(daemon.call("GET", "/v1/drives/b"))).state;
  expect(await stateOf()).toBe("missing");
  host.plug(disk);
  disk.path = "/dev/z";
  const begunMs = performance.now();
  const told = await daemon.call("POST", "/v1/drives/appeared", { path: "/dev/z" });
  expect([told.status, await body(Promise.resolve(told))]).toEqual([202, { missing: 1 }]);
  await until("it is there", async () => (await stateOf()) === "member");
  // The looks of the keeper are five seconds apart.
  expect(performance.now() - begunMs).toBeLessThan(4_000);
  expect((await body(daemon.call("GET", `/v1/arrays/${TEST_ARRAY}`))).degraded).toBe(0);
});

test("appeared: a hint leaves no trail; bad paths are refused", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const { call, store } = daemon;
  const isTold = () => store.state.events.filter(({ message }) => /appeared/.test(message)).length;
  expect((await runCli("drive appeared /dev/a", { daemon })).exitCode).toBe(0);
  expect(isTold()).toBe(0);
  for (const path of ["sda", "", "/a\0b"]) {
    expect((await call("POST", "/v1/drives/appeared", { path })).status).toBe(422);
  }
});

test("appeared: no daemon, one that stops, one that hangs: 0 at once, and no word", async () => {
  const nobody = await runCli("drive appeared /dev/a");
  expect(nobody).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  const daemon = await startSimAppliance();
  const send = (status: number) => async () => new Response("{}", { status });
  for (const [status, exitCode] of [
    [202, 0],
    [503, 0],
    [500, 1],
  ] as const) {
    const answer = await runCli("drive appeared /dev/a", {
      daemon,
      overrides: { send: send(status) },
    });
    expect([status, answer.exitCode]).toEqual([status, exitCode]);
  }
  const never = () => new Promise<Response>(() => {});
  const begunMs = performance.now();
  const hung = await runCli("drive appeared /dev/a", { daemon, overrides: { send: never } });
  expect([hung.exitCode, performance.now() - begunMs < 8_000]).toEqual([0, true]);
});

test("locate: the disk's light alone, on and off", async () => {
  const tools = new FakeTools(() => exited(""));
  const daemon = await startSimAppliance({ tools });
  await addTestArray(daemon);
  const disk = diskAt(daemon.host, "/dev/a").spindle;
  const on = await runCli("drive locate a", { daemon });
  expect(on).toMatchObject({ exitCode: 0, stdout: `a (/dev/${disk}): the light is on` });
  const off = await runCli("drive locate a --off --json", { daemon });
  expect(JSON.parse(off.stdout)).toMatchObject({ drive: "a", disks: [`/dev/${disk}`], on: false });
  expect(tools.asked.map(({ program, words }) => [program, ...words])).toEqual([
    ["ledctl", "--listed-only", "--log=/dev/null", `locate=/dev/${disk}`],
    ["ledctl", "--listed-only", "--log=/dev/null", `locate_off=/dev/${disk}`],
  ]);
});

test("locate: refusals: no such drive, no disk, no ledctl, and whatever it meets", async () => {
  const host = hostWithDisks(["/dev/a"]);
  host.addDisk({ tellsId: false, spindle: "0:42" }).path = "/dev/b";
  let answer: ToolAnswer = { kind: "absent" };
  const daemon = await startSimAppliance({ host, tools: new FakeTools(() => answer) });
  for (const name of ["a", "b"]) await runCli(`drive add ${name} /dev/${name}`, { daemon });
  const locate = async (name: string) => {
    const response = await daemon.call("POST", `/v1/drives/${name}/locate`);
    const { type, detail } = await body(Promise.resolve(response));
    return [response.status, type.split(":").at(-1), detail];
  };
  expect(await locate("x")).toMatchObject([
    404,
    "drive-not-found",
    expect.stringContaining("named x"),
  ]);
  expect(await locate("b")).toMatchObject([409, "no-disk", expect.stringContaining("its serial")]);
  const absent = [422, "no-ledctl", expect.stringContaining("install ledmon")];
  expect(await locate("a")).toMatchObject(absent);
  for (const [next, text] of [
    [exited("", 5, "no controller\u001b[31m"), "said: no controller\\u001b[31m"],
    [{ kind: "late" }, "did not answer"],
    [{ kind: "stuck" }, "did not answer"],
    [{ kind: "flooded" }, "printed far more"],
    [{ kind: "failed", detail: "EACCES" }, "could not be started: EACCES"],
  ] as const) {
    answer = next;
    const failed = [500, "locate-failed", expect.stringContaining(text)];
    expect(await locate("a")).toMatchObject(failed);
  }
});
