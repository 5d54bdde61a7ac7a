/**
 * Goal: the executable asks the host's own tools about drives, whatever these do: ledctl for the
 * light of a slot; and a drive that appears is back at once, as a rule of udev says so.
 * Method: scripts in a folder of PATH take the tools' places; loop devices over files.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { writeTool } from "../helpers/fake-tools.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { needs } from "../helpers/needs.ts";
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
      `--listed-only locate=${disks.lower[0]}`,
      `--listed-only locate_off=${disks.lower[0]}`,
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
});
