/**
 * Goal: the year of the README goes as it says, by curl alone: members fail, come back, are
 * replaced by a spare, by hand and by larger ones; what is rotten or unreadable is found and
 * mended; the array grows; and clients lose nothing.
 * Method: the lines of the README themselves, month by month, on loop devices in the place of its
 * disks. Between the months bytes are changed behind the daemon's back and sectors made unreadable,
 * and all that was written is read back after each.
 */
import { expect, test } from "bun:test";
import { closeSync, fsyncSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ArrayStatus, JobStatus, MismatchList } from "../../src/array/protocol.ts";
import { MIB, ROW_BYTES, SECTOR_BYTES } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { Daemon, makeFiles, mustRun, runProgram, runVerb } from "../helpers/daemon.ts";
import { canMakeLoopDevices, detachLoopDevice, makeLoopDevice } from "../helpers/loop-devices.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("root", "libaio", "direct-io", "curl") && canMakeLoopDevices();
const README = resolve(import.meta.dir, "../../README.md");
const FIRST_DISKS = ["sdb", "sdc", "sdd", "sde", "sdf", "sdg"];
const LARGER_DISKS = ["sdh", "sdi", "sdj", "sdk", "sdl"];
const DISK_BYTES = 24 * MIB;
const LARGER_BYTES = 32 * MIB;
const DATA_BYTES = 6 * MIB;
const ROTTEN_ROW = 21;

/** Each month with its lines, in order. */
function monthsOfReadme(): Map<string, string> {
  const [, section = ""] = readFileSync(README, "utf8").split("\n## A year with it\n");
  const block = /```sh\n([\s\S]*?)```/.exec(section)?.[1] ?? "";
  const months = new Map<string, string>();
  for (const part of block.split(/^# (?=[A-Z][a-z]+: )/m).slice(1)) {
    months.set(part.slice(0, part.indexOf(":")), part.slice(part.indexOf("\n") + 1));
  }
  return months;
}

class Year {
  readonly daemon: Daemon;
  readonly files = new Map<string, string>();
  private readonly months = monthsOfReadme();
  private readonly devices = new Map<string, string>();
  private data: Uint8Array = new Uint8Array(0);

  private constructor(daemon: Daemon) {
    this.daemon = daemon;
  }

  static async begin(): Promise<Year> {
    const folder = makeTempDir("year");
    const year = new Year(await Daemon.start(folder, { flags: ["--allow-fault-injection"] }));
    for (const [names, bytes] of [
      [FIRST_DISKS, DISK_BYTES],
      [LARGER_DISKS, LARGER_BYTES],
    ] as const) {
      const files = makeFiles(makeTempDir("disks"), names.length, bytes);
      for (const [index, name] of names.entries()) {
        year.files.set(name, files[index]!);
        year.devices.set(name, await makeLoopDevice(files[index]!));
      }
    }
    return year;
  }

  /** The lines of that month, and then all that was written until now. */
  async live(month: string): Promise<string> {
    const lines = this.months.get(month);
    expect([month, lines === undefined]).toEqual([month, false]);
    this.months.delete(month);
    const onLoops = lines!.replaceAll("/dev/", `${await this.linkedLoops()}/`);
    const prelude =
      "set -euo pipefail\n" +
      `api() { ${toolPath("curl")} -sS --unix-socket ${this.daemon.apiSocket} ` +
      "-H 'Content-Type: application/json' \"$@\"; }\nU=http://parityd\n";
    // What went wrong is to be seen here.
    const script = ["bash", "-c", prelude + onLoops.replaceAll("--fail ", "--fail-with-body ")];
    const { exitCode, stdout, stderr } = await runProgram(script);
    const failed = exitCode === 0 ? "" : stdout;
    expect({ month, exitCode, stderr, failed }).toEqual({
      ...{ month, exitCode: 0, stderr, failed: "" },
    });
    if (this.data.length > 0) await this.readAll();
    return stdout;
  }

  /** A folder in which each disk goes by its name of the README. */
  private async linkedLoops(): Promise<string> {
    const folder = makeTempDir("dev");
    for (const [name, device] of this.devices) {
      await runProgram(["ln", "-s", device, join(folder, name)]);
    }
    return folder;
  }

  async write(seed: number): Promise<void> {
    this.data = randomBytes(seed, DATA_BYTES);
    const client = await this.daemon.connect("tank");
    await mustWrite(client, 0, this.data);
    await client.disconnect();
    await this.readAll();
  }

  private async readAll(): Promise<void> {
    const client = await this.daemon.connect("tank");
    await expectData(client, 0, this.data);
    await client.disconnect();
  }

  status(): Promise<ArrayStatus> {
    return this.daemon.must("GET", "/v1/arrays/tank");
  }

  async jobs(kind: string): Promise<JobStatus[]> {
    const jobs = (await this.daemon.must("GET", "/v1/jobs")) as JobStatus[];
    return jobs.filter((job) => job.kind === kind);
  }

  /** Members by role. */
  async seats(): Promise<string> {
    const { members, degraded } = await this.status();
    expect(degraded).toBe(0);
    return members.map(({ drive }) => drive).join(" ");
  }

  async dataOffsetOf(disk: string): Promise<number> {
    const { stdout } = await runVerb(["examine", this.devices.get(disk)!]);
    return Number(/Data Offset : (\d+) sectors/.exec(stdout)![1]) * SECTOR_BYTES;
  }

  /** Parity of a row is changed behind everybody's back: what clients read stays as it is. */
  async rotParity(row: number): Promise<void> {
    const { members, chunkBytes } = await this.status();
    const stripe = Math.floor((row * ROW_BYTES) / chunkBytes);
    // Left-symmetric: parity goes from the last member down.
    const role = members.length - 1 - (stripe % members.length);
    const disk = members[role]!.drive!;
    const offset = (await this.dataOffsetOf(disk)) + row * ROW_BYTES;
    const file = openSync(this.files.get(disk)!, "r+");
    const bytes = new Uint8Array(ROW_BYTES);
    readSync(file, bytes, 0, ROW_BYTES, offset);
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      ROW_BYTES,
      offset,
    );
    fsyncSync(file);
    closeSync(file);
  }

  examinedByMdadm(disk: string): Promise<string> {
    return mustRun([toolPath("mdadm")!, "--examine", this.devices.get(disk)!]);
  }

  async end(): Promise<void> {
    expect([...this.months.keys()]).toEqual([]);
    expect(await this.daemon.stop()).toBe(0);
    // Those that were failed by request, and nobody else.
    expect(this.daemon.stderr.match(/event=member\.failed/g)).toHaveLength(2);
    expect(this.daemon.stderr).not.toMatch(/event=(array\.(failed|broken)|sector\.lost)/);
    for (const device of this.devices.values()) detachLoopDevice(device);
  }
}

/** Writes behind `from` and reads that back, time and again; `end` answers how often. */
function writeUntil(client: NbdClient, from: number): { end(): Promise<number> } {
  let isEnding = false;
  const running = (async (): Promise<number> => {
    let count = 0;
    for (; !isEnding; count += 1) {
      const data = randomBytes(count + 3, MIB / 2);
      await mustWrite(client, from + (count % 20) * data.length, data);
      await expectData(client, from + (count % 20) * data.length, data);
    }
    return count;
  })();
  return {
    end: () => {
      isEnding = true;
      return running;
    },
  };
}

test.skipIf(!CAN_RUN)(
  "a year: the lines of the README, month by month: nothing is lost [needs root, libaio, direct-io, curl, losetup]",
  async () => {
    const year = await Year.begin();
    const { daemon } = year;

    await year.live("January");
    await daemon.settle("tank");
    await year.write(1);
    expect(await year.seats()).toBe("sdb sdc sdd sde");

    await year.live("February");
    const [again] = await year.jobs("rebuild");
    expect(again).toMatchObject({ state: "done", result: { drive: "sdd" } });

    await daemon.calmDown("tank");
    const march = await year.live("March");
    expect(march).toContain('"verdict":"rebuilt"');
    expect(await year.jobs("rebuild")).toHaveLength(1);

    await year.live("April");
    expect(await year.seats()).toBe("sdb sdf sdd sde");
    await daemon.settle("tank");

    await daemon.calmDown("tank");
    await year.rotParity(ROTTEN_ROW);
    const june = await year.live("June");
    expect(june).toContain("mismatches-found");
    expect(june).toContain("look at it");
    const [clean, repair, found] = await year.jobs("repair").then(async (repairs) => {
      const checks = await year.jobs("check");
      return [checks[0], repairs[0], checks[1]] as const;
    });
    const { ranges } = found!.result["mismatchRanges"] as MismatchList;
    expect(ranges).toHaveLength(1);
    expect(ranges[0]).toMatchObject({ firstSector: ROTTEN_ROW * 8, sectorCount: 8 });
    expect(repair!.result["mismatchBytes"]).toBe(ROW_BYTES);
    expect(clean!.result["mismatchBytes"]).toBe(0);

    const offset = await year.dataOffsetOf("sde");
    const fault = { drive: "sde", op: "read", at: "completion", errno: "EIO", count: 100_000 };
    await daemon.must("POST", "/v1/faults", { ...fault, offset, bytes: 64 * ROW_BYTES });
    await year.live("September");
    expect(await year.seats()).toBe("sdb sdf sdd sdg");
    const [replaced] = await year.jobs("replace");
    expect(replaced).toMatchObject({ state: "done", result: { lostBytes: 0 } });
    await daemon.must("DELETE", "/v1/faults");

    const before = await year.status();
    await year.live("October");
    expect(await year.seats()).toBe("sdh sdi sdj sdk");
    const { sizeBytes } = await year.status();
    expect(sizeBytes - before.sizeBytes).toBeGreaterThan(3 * (LARGER_BYTES - DISK_BYTES) - 2 * MIB);
    const client = await daemon.connect("tank");
    const end = randomBytes(2, MIB);
    await mustWrite(client, sizeBytes - MIB, end);
    await expectData(client, sizeBytes - MIB, end);

    const writing = writeUntil(client, DATA_BYTES);
    await year.live("November");
    const count = await writing.end();
    expect(await year.seats()).toBe("sdh sdi sdj sdk sdl");
    expect((await year.status()).sizeBytes).toBe((sizeBytes / 3) * 4);
    expect([count > 3, (await year.jobs("reshape")).map(({ state }) => state)]).toEqual([
      true,
      ["done"],
    ]);
    await expectData(client, sizeBytes - MIB, end);
    await client.disconnect();
    if (needs("mdadm")) expect(await year.examinedByMdadm("sdl")).toMatch(/Raid Devices : 5/);

    const december = await year.live("December");
    expect(december).toContain('"lostBytes":0');
    await year.end();
  },
);
