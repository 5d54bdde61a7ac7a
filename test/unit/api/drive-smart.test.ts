/**
 * Goal: what the disks say of their health is shown by the API, the status, the check and the
 * metrics; and a drive that does not answer says so to whoever would ask its disk.
 * Method: the real services and verbs on simulated drives; readings are put where they are kept.
 */
import { expect, test } from "bun:test";
import { readSmart } from "../../../src/appliance/drives/smart-report.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { exited, FakeTools } from "../../helpers/fake-tools.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt } from "../../helpers/sim-reactor.ts";
import { nvme, sataDisk } from "../../helpers/smart-outputs.ts";
import { until } from "../../helpers/until.ts";

async function withArray(tools?: FakeTools): Promise<SimAppliance> {
  const daemon = await startSimAppliance(tools === undefined ? {} : { tools });
  await addTestArray(daemon);
  return daemon;
}

async function body(answer: Promise<Response>) {
  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the API answers.
  return (await (await answer).json()) as any;
}

function put({ store }: SimAppliance, drive: string, document: object): void {
  const read = readSmart(JSON.stringify(document), 0);
  if (!read.ok) throw new Error(read.error);
  const readAt = "2026-11-30T12:00:00.000Z";
  store.note({ kind: "put-smart", smart: { drive, readAt, reading: read.value, told: {} } });
}

test("smart: in the drive, in the list, on the command line, in the metrics", async () => {
  const daemon = await withArray();
  const { call } = daemon;
  put(daemon, "a", sataDisk({ reallocated: 8 }));
  put(daemon, "b", nvme({ used: 12 }));
  const { smart } = await body(call("GET", "/v1/drives/a"));
  expect(smart).toMatchObject({
    ...{ health: "passed", failures: [], kind: "ata", readAt: "2026-11-30T12:00:00.000Z" },
    ...{ temperatureCelsius: 31, reallocatedSectors: 8, mediaErrors: null, reason: null },
  });
  const [, , c] = await body(call("GET", "/v1/drives"));
  expect(c.smart).toMatchObject({ health: "unknown", readAt: null });
  expect(c.smart.reason).toBe("the disk has not been asked yet");
  const shown = await runCli("drive show a", { daemon });
  expect(shown.stdout).toContain(
    "smart: passed, read 2026-11-30T12:00:00.000Z: 31 °C, 12034 h, 8 reallocated, 0 pending",
  );
  expect((await runCli("drive show c", { daemon })).stdout).toContain("smart: none: the disk has");
  const metrics = await (await call("GET", "/metrics")).text();
  for (const line of [
    'parityd_drive_smart_failing{drive="a"} 0',
    'parityd_drive_smart_reallocated_sectors{drive="a"} 8',
    'parityd_drive_temperature_celsius{drive="b"} 38',
    'parityd_drive_smart_used_percent{drive="b"} 12',
    'parityd_array_shared_disks{array="raid_test"} 0',
  ]) {
    expect(metrics.split("\n")).toContain(line);
  }
  expect(metrics).not.toContain('drive_smart_failing{drive="c"}');
  expect((await runCli("status --check", { daemon })).exitCode).toBe(0);
});

test("smart: a member that is failing: the status says what to do, the check is 1", async () => {
  const daemon = await withArray();
  put(daemon, "b", sataDisk({ passed: false }));
  const status = await runCli("status", { daemon });
  expect(status.stdout).toContain(
    "status: member b (role 1) is failing by its own account: its own assessment is that it is " +
      "failing.\n action: replace it while it serves: parityd member replace raid_test b d",
  );
  for (const [line, exitCode] of [
    ["status --check", 1],
    ["status raid_test --check", 1],
  ] as const) {
    expect([line, (await runCli(line, { daemon })).exitCode]).toEqual([line, exitCode]);
  }
  expect((await runCli("status -x", { daemon })).stdout).toContain("is failing by its own account");
  // As the line says.
  expect((await runCli("member replace raid_test b d", { daemon })).exitCode).toBe(0);
  expect((await runCli("status", { daemon })).stdout).not.toContain("by its own account");
});

test("smart: drives of no array that are failing are told of; one that is forgotten is not", async () => {
  const daemon = await withArray();
  put(daemon, "d", nvme({ warning: 8 }));
  expect((await runCli("status", { daemon })).stdout).toContain(
    "drive: d (/dev/d) is failing (SMART): it has gone read-only",
  );
  expect((await runCli("status --check", { daemon })).exitCode).toBe(1);
  expect((await runCli("status raid_test --check", { daemon })).exitCode).toBe(0);
  expect((await runCli("drive remove d", { daemon })).exitCode).toBe(0);
  expect(daemon.store.state.smart.size).toBe(0);
  expect((await runCli("status --check", { daemon })).exitCode).toBe(0);
});

test("silent: a drive that is late, and then owes what was given up; its disk is not asked", async () => {
  const tools = new FakeTools(() => exited(JSON.stringify(sataDisk())));
  const daemon = await withArray(tools);
  const { call, reactor, host } = daemon;
  const isSilent = async () => (await body(call("GET", "/v1/drives/c"))).isSilent === true;
  expect(await isSilent()).toBe(false);
  const { device } = diskAt(host, "/dev/c");
  device!.hang();
  await call("POST", "/v1/arrays/raid_test/scrub");
  reactor.world.simulation.runFor(500);
  expect(await isSilent()).toBe(false);
  reactor.world.simulation.runFor(1_500);
  expect(await isSilent()).toBe(true);
  // Failed and given up: nothing of it waits any more, and the drive has answered nothing.
  await call("POST", "/v1/arrays/raid_test/members/c/fail");
  reactor.world.simulation.runFor(2_000);
  expect(await isSilent()).toBe(true);
  // The watch asks the others meanwhile: a faulty drive keeps only its own disk from being asked.
  const reasonOf = async () => (await body(call("GET", "/v1/drives/c"))).smart.reason;
  await until(
    "it is told why its disk is not asked",
    async () => (await reasonOf()) === "not asked: drive c does not answer",
  );
  await until("the others were asked", () => tools.asked.length >= 2);
  const disks = tools.asked.map(({ words }) => words.at(-1));
  expect(disks).not.toContain(`/dev/${diskAt(host, "/dev/c").spindle}`);
  host.letGo(diskAt(host, "/dev/c"));
  reactor.world.simulation.runFor(100);
  expect(await isSilent()).toBe(false);
});
