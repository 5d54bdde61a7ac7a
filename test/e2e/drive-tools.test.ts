/**
 * Goal: the executable asks the host's own tools about drives, whatever these do: ledctl for the
 * light of a slot, smartctl for the health of a disk; and a drive that appears is back at once, as
 * a rule of udev says so.
 * Method: scripts in a folder of PATH take the tools' places; loop devices over files.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { writeTool } from "../helpers/fake-tools.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { sataDisk } from "../helpers/smart-outputs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs root, libaio, direct-io, losetup]";
const CAN_RUN = needs("root", "libaio", "direct-io") && canMakeLoopDevices();

function verb(daemon: Daemon, line: string) {
  return runVerb([...line.split(" "), "--run-dir", join(daemon.folder, "run")]);
}

/** Loop devices over loop devices: each lies on a disk that is its own. */
async function freshDisks(count: number): Promise<{ lower: string[]; upper: string[] }> {
  const lower: string[] = [];
  const upper: string[] = [];
  for (const file of makeFiles(makeTempDir("backing"), count, MEMBER_BYTES)) {
    lower.push(await makeLoopDevice(file));
    upper.push(await makeLoopDevice(lower.at(-1)!));
  }
  return { lower, upper };
}

function letGo({ lower, upper }: { lower: string[]; upper: string[] }): void {
  for (const device of [...upper, ...lower]) detachLoopDevice(device);
}

describe.skipIf(!CAN_RUN)("tools of the host", () => {
  test(`locate: ledctl is asked for the one disk; without it a problem says so ${NEEDS}`, async () => {
    const tools = makeTempDir("tools");
    const disks = await freshDisks(1);
    const daemon = await Daemon.start(makeTempDir("locate"), { environment: { PATH: tools } });
    await daemon.addDrives(disks.upper);
    const absent = await verb(daemon, "drive locate drive0");
    if (absent.exitCode !== 0) expect(absent.stderr).toContain("ledctl");
    writeTool(tools, "ledctl", `echo "$@" >> ${tools}/asked`);
    const line = `drive0 (${disks.lower[0]})`;
    expect((await verb(daemon, "drive locate drive0")).stdout).toBe(`${line}: the light is on\n`);
    await verb(daemon, "drive locate drive0 --off");
    expect(readFileSync(join(tools, "asked"), "utf8").trim().split("\n")).toEqual([
      `--listed-only --log=/dev/null locate=${disks.lower[0]}`,
      `--listed-only --log=/dev/null locate_off=${disks.lower[0]}`,
    ]);
    writeTool(tools, "ledctl", "echo no such controller >&2; exit 5");
    const refused = await verb(daemon, "drive locate drive0");
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain("ended with 5 and said: no such controller");
    expect(await daemon.stop()).toBe(0);
    letGo(disks);
  });

  test(`appeared: a drive that comes back is a member again at once ${NEEDS}`, async () => {
    const files = makeFiles(makeTempDir("backing"), 3, MEMBER_BYTES);
    const devices: string[] = [];
    for (const file of files) devices.push(await makeLoopDevice(file));
    const folder = makeTempDir("appeared");
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(devices);
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    await daemon.settle("tank");
    expect(await daemon.stop()).toBe(0);
    const nobody = await verb(daemon, `drive appeared ${devices[2]}`);
    expect(nobody).toEqual({ exitCode: 0, stdout: "", stderr: "" });
    detachLoopDevice(devices[2]!);
    daemon = await Daemon.start(folder, { flags: ["--degraded-start-seconds", "600"] });
    const state = async () => (await daemon.must("GET", "/v1/drives/drive2")).state;
    expect(await state()).toBe("missing");
    const back = await makeLoopDevice(files[2]!);
    expect((await verb(daemon, `drive appeared ${back}`)).exitCode).toBe(0);
    await until("it is there", async () => (await state()) === "member");
    expect(await daemon.settle("tank")).toMatchObject({ degraded: 0 });
    expect(existsSync(back)).toBe(true);
    expect(await daemon.stop()).toBe(0);
    for (const device of [...devices.slice(0, 2), back]) detachLoopDevice(device);
  });

  test(`smart: each disk is asked; a failing one is told of once, also over a restart ${NEEDS}`, async () => {
    const tools = makeTempDir("tools");
    const disks = await freshDisks(3);
    const [healthy, failing, sleeping] = disks.lower as [string, string, string];
    const says = (name: string, document: object): string => {
      const path = join(tools, `${name}.json`);
      writeFileSync(path, JSON.stringify(document));
      return path;
    };
    const worn = says("failing", sataDisk({ serial: "W2", passed: false, reallocated: 8 }));
    writeTool(
      tools,
      "smartctl",
      `echo "$@" >> ${tools}/asked
for disk; do :; done
case $disk in
  ${healthy}) exec cat ${says("healthy", sataDisk({ serial: "W1" }))} ;;
  ${failing}) cat ${worn}; exit 8 ;;
  ${sleeping}) exit 3 ;;
esac`,
    );
    const folder = makeTempDir("smart");
    const environment = { PATH: tools };
    let daemon = await Daemon.start(folder, { environment });
    const drives = await daemon.addDrives(disks.upper);
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    const smart = async (drive: string) => (await daemon.must("GET", `/v1/drives/${drive}`)).smart;
    await until("all were asked", async () => /sleeps/.test((await smart("drive2")).reason ?? ""));
    expect(await smart("drive0")).toMatchObject({
      ...{ health: "passed", temperatureCelsius: 31, powerOnHours: 12_034, reason: null },
    });
    expect(await smart("drive1")).toMatchObject({ health: "failing", reallocatedSectors: 8 });
    expect(await smart("drive2")).toMatchObject({ health: "unknown", readAt: null });
    const asked = () => readFileSync(join(tools, "asked"), "utf8").trim().split("\n");
    expect(asked()).toHaveLength(3);
    for (const line of asked()) expect(line).toStartWith("--json=c --nocheck=standby,3 ");
    const told = async () => {
      const all = await daemon.must("GET", "/v1/events?since=0");
      return all.filter(({ kind }: { kind: string }) => kind.startsWith("drive.smart"));
    };
    expect(await told()).toMatchObject([
      { kind: "drive.smart-failing", severity: "critical", drive: "drive1", array: "tank" },
      { kind: "drive.smart-worse", severity: "warning", drive: "drive1", array: "tank" },
    ]);
    const status = await verb(daemon, "status");
    expect(status.stdout).toContain("member drive1 (role 1) is failing by its own account");
    expect((await verb(daemon, "status --check")).exitCode).toBe(1);
    const metrics = await daemon.must("GET", "/metrics");
    expect(metrics).toContain('parityd_drive_smart_failing{drive="drive1"} 1');
    expect(metrics).toContain('parityd_drive_temperature_celsius{drive="drive0"} 31');
    expect(await daemon.stop()).toBe(0);

    daemon = await Daemon.start(folder, { environment });
    expect(await smart("drive1")).toMatchObject({ health: "failing" });
    await until("all were asked again", () => asked().length === 6);
    await until("the last has answered", async () => (await smart("drive2")).reason !== null);
    expect(await told()).toHaveLength(2);
    expect(await daemon.stop()).toBe(0);
    letGo(disks);
  });

  test(`smart: one that hangs, one that floods: the array serves, and the rest is asked ${NEEDS}`, async () => {
    const tools = makeTempDir("tools");
    const disks = await freshDisks(3);
    const [hanging, flooding, healthy] = disks.lower as [string, string, string];
    const output = join(tools, "healthy.json");
    writeFileSync(output, JSON.stringify(sataDisk()));
    writeTool(
      tools,
      "smartctl",
      `for disk; do :; done
case $disk in
  ${hanging}) echo $$ > ${tools}/hanging; trap "" TERM; while :; do sleep 1000; done ;;
  ${flooding}) while :; do echo 0123456789012345678901234567890123456789; done ;;
  ${healthy}) exec cat ${output} ;;
esac`,
    );
    const daemon = await Daemon.start(makeTempDir("smart"), { environment: { PATH: tools } });
    const drives = await daemon.addDrives(disks.upper);
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    await until("one hangs", () => existsSync(join(tools, "hanging")));
    const pid = Number(readFileSync(join(tools, "hanging"), "utf8"));
    const client = await daemon.connect("tank");
    const data = randomBytes(3, MIB);
    await mustWrite(client, 0, data);
    await expectData(client, 0, data);
    await client.disconnect();
    const smart = async (drive: string) => (await daemon.must("GET", `/v1/drives/${drive}`)).smart;
    await until("the last was asked", async () => (await smart("drive2")).health === "passed");
    expect((await smart("drive0")).reason).toBe("smartctl did not answer within 30 s");
    expect((await smart("drive1")).reason).toBe("smartctl printed far more than it should");
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(await daemon.stop()).toBe(0);
    letGo(disks);
  });

  test(`smart: the daemon stops while one hangs: at once, and the program is gone ${NEEDS}`, async () => {
    const tools = makeTempDir("tools");
    const disks = await freshDisks(1);
    writeTool(tools, "smartctl", `echo $$ > ${tools}/hanging; exec sleep 1000`);
    const daemon = await Daemon.start(makeTempDir("smart"), { environment: { PATH: tools } });
    await daemon.addDrives(disks.upper);
    await until("it hangs", () => existsSync(join(tools, "hanging")));
    const pid = Number(readFileSync(join(tools, "hanging"), "utf8"));
    expect(await daemon.stop()).toBe(0);
    await until("it is gone", () => !existsSync(`/proc/${pid}`));
    letGo(disks);
  });
});
