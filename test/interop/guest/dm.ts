/**
 * Runs inside the kernel lab's guest, started by ../lab-dm.test.ts, which says what it is for.
 *
 * Three members and a spare one over the image disks, each under a device-mapper device of its own
 * whose table the test exchanges while the compiled daemon has it open. The daemon goes on from one
 * test to the next, as long as they end well: its start takes longer than all else here.
 */
import { afterEach, expect } from "bun:test";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB, ROW_BYTES, SECTOR_BYTES } from "../../../src/base/units.ts";
import { LAYOUT_LEFT_SYMMETRIC } from "../../../src/md/layout.ts";
import type { NbdClient } from "../../../src/nbd/client/client.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { type Answer, Daemon, mustRun } from "../../helpers/daemon.ts";
import { guestDisks, guestTest as test } from "../../helpers/lab.ts";
import { dmsetup, MappedDevice } from "../../helpers/mapped-device.ts";
import { toolPath } from "../../helpers/needs.ts";
import { StampLoad } from "../../helpers/stamp-load.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const CHUNK_BYTES = 64 * KIB;
const MEMBERS = 3;
const ARRAY = "/v1/arrays/a";
const LOAD_BYTES = 2 * MIB;

let bench: Bench | undefined;
let benchCount = 0;
let running: Daemon | undefined;

afterEach(async () => {
  await bench?.end();
  bench = undefined;
});

class Bench {
  readonly daemon: Daemon;
  /** One for each member, and one more for a spare. */
  readonly devices: readonly MappedDevice[];
  readonly geometry: Geometry;
  /** Where role r's data begins on its device. */
  readonly dataOffset: number;

  private constructor(daemon: Daemon, devices: readonly MappedDevice[], sizeBytes: number) {
    this.daemon = daemon;
    this.devices = devices;
    this.dataOffset = devices[0]!.dataOffsetBytes();
    this.geometry = new Geometry({
      memberCount: MEMBERS,
      chunkBytes: CHUNK_BYTES,
      layout: LAYOUT_LEFT_SYMMETRIC,
      memberSizeBytes: sizeBytes / (MEMBERS - 1),
    });
  }

  /** A new array over the first three disks, in sync. `target` is for the table of each device. */
  static async make(target?: (disk: string) => string): Promise<Bench> {
    benchCount += 1;
    const devices: MappedDevice[] = [];
    for (const disk of guestDisks()) await wipe(disk);
    for (const [index, disk] of guestDisks().entries()) {
      const name = `m${index}-${benchCount}`;
      devices.push(await MappedDevice.create(name, disk, target?.(disk)));
    }
    running ??= await Daemon.start(makeTempDir("dm"));
    const daemon = running;
    const drives = await daemon.addDrives(devices.map(({ path }) => path));
    const body = { name: "a", drives: drives.slice(0, MEMBERS), chunkKiB: CHUNK_BYTES / KIB };
    const { sizeBytes } = await daemon.must("POST", "/v1/arrays", { ...body, force: true });
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    await daemon.settle("a");
    bench = new Bench(daemon, devices, sizeBytes);
    return bench;
  }

  /** Also after a test that failed half way: then with the daemon. */
  async end(): Promise<void> {
    if (!(await this.isCleared())) {
      running = undefined;
      await this.daemon.kill();
    }
    for (const { name } of this.devices) await dmsetup("remove", "--retry", name);
  }

  /** The daemon forgets the array, its export and the drives. */
  private async isCleared(): Promise<boolean> {
    const drives = this.devices.map((_, index) => `/v1/drives/drive${index}`);
    for (const path of ["/v1/exports/a", ARRAY, ...drives]) {
      const { status } = await this.daemon.call("DELETE", `${path}?force=true`);
      if (status !== 204) return false;
    }
    return true;
  }

  async status(): Promise<Answer["body"]> {
    return this.daemon.must("GET", ARRAY);
  }

  async waitForState(state: string): Promise<Answer["body"]> {
    for (;;) {
      const status = await this.status();
      if (status.state === state) return status;
      await Bun.sleep(20);
    }
  }

  connect(): Promise<NbdClient> {
    return this.daemon.connect("a");
  }

  /** Fills the whole array; answers with what it holds now. */
  async fill(client: NbdClient, seed: number): Promise<Uint8Array> {
    const content = new Uint8Array(this.geometry.sizeBytes);
    fillRandom(new SeededRandom(seed), content);
    await this.write(client, 0, content);
    return content;
  }

  async write(client: NbdClient, offset: number, data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length; at += MIB) {
      const written = await client.write(offset + at, data.subarray(at, at + MIB));
      expect(written.ok).toBe(true);
    }
    expect((await client.flush()).ok).toBe(true);
  }

  /** The rows that cannot be read; every other one must be right. */
  async lostRows(client: NbdClient, content: Uint8Array): Promise<number[]> {
    const lost: number[] = [];
    for (let at = 0; at < content.length; at += MIB) {
      const bytes = Math.min(MIB, content.length - at);
      const read = await client.read(at, bytes);
      if (read.ok) {
        expect(Buffer.compare(read.value, content.subarray(at, at + bytes))).toBe(0);
        continue;
      }
      for (let row = at; row < at + bytes; row += ROW_BYTES) {
        const one = await client.read(row, ROW_BYTES);
        if (!one.ok) lost.push(row);
        else expect(Buffer.compare(one.value, content.subarray(row, row + ROW_BYTES))).toBe(0);
      }
    }
    return lost;
  }

  /** Bad places on role 1: in the first and the last row, and across data and parity chunks. */
  badRows(): number[] {
    const { memberSizeBytes } = this;
    const spread = Array.from({ length: 14 }, (_, index) => {
      return index * 5 * CHUNK_BYTES + (index % 16) * ROW_BYTES;
    });
    return [...spread, memberSizeBytes - ROW_BYTES];
  }

  get memberSizeBytes(): number {
    return this.geometry.sizeBytes / (MEMBERS - 1);
  }

  /** The array offset of a member's row; null where it is parity. */
  arrayOffset(role: number, memberOffset: number): number | null {
    const stripe = Math.floor(memberOffset / CHUNK_BYTES);
    const dataIndex = this.geometry.dataIndexOf(stripe, role);
    if (dataIndex < 0) return null;
    return this.geometry.arrayOffsetOf(stripe, dataIndex) + (memberOffset % CHUNK_BYTES);
  }

  /** One sector of each row, not always the first, turns bad. */
  async addDust(device: MappedDevice, rows: readonly number[]): Promise<void> {
    for (const [index, row] of rows.entries()) {
      const sector = (this.dataOffset + row) / SECTOR_BYTES + (index % 8);
      await device.message("addbadblock", String(sector));
    }
    await device.message("enable");
  }

  /** Seats the spare, waits for its rebuild, and checks. */
  async rebuildOntoSpare(): Promise<void> {
    const job = await this.daemon.must("POST", `${ARRAY}/members?wait=60`, { drive: "drive3" });
    expect(job.state).toBe("done");
    expect((await this.daemon.settle("a")).degraded).toBe(0);
  }

  async mismatchBytes(): Promise<number> {
    const job = await this.daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
    expect(job.state).toBe("done");
    return job.result.mismatchBytes;
  }

  /** A load over three windows of the array. */
  makeLoad(seed: number): StampLoad {
    const middle = Math.floor(this.geometry.sizeBytes / 2 / MIB) * MIB;
    const last = this.geometry.sizeBytes - LOAD_BYTES;
    const windows = [0, middle, last].map((offset) => ({ offset, bytes: LOAD_BYTES }));
    return new StampLoad({ seed, windows });
  }

  async verify(load: StampLoad): Promise<void> {
    const client = await this.connect();
    const wrong = await load.verify(client);
    await client.disconnect();
    if (wrong.length > 0) throw new Error([...wrong.slice(0, 5), this.daemon.stderr].join("\n"));
  }
}

/** What the last test left; the load counts on zeros where it has not written. */
async function wipe(disk: string): Promise<void> {
  await mustRun([toolPath("blkdiscard")!, "--zeroout", disk]);
}

async function dustCount(device: MappedDevice): Promise<number> {
  return Number(/(\d+) badblock/.exec(await device.message("countbadblocks"))?.[1]);
}

/** Waits until `count` more writes are acknowledged. */
async function acknowledged(load: StampLoad, count: number): Promise<void> {
  const goal = load.acknowledgedWrites + count;
  while (load.acknowledgedWrites < goal) await Bun.sleep(5);
}

test("dm-dust: bad sectors under one member: repaired by reads and a scrub, nothing lost", async () => {
  const b = await Bench.make((disk) => `dust ${disk} 0 512`);
  const client = await b.connect();
  const content = await b.fill(client, 1);
  const device = b.devices[1]!;
  const rows = b.badRows();
  const dataRows = rows.filter((row) => b.arrayOffset(1, row) !== null);
  expect(dataRows.length).toBeGreaterThan(3);
  expect(dataRows.length).toBeLessThan(rows.length);
  await b.addDust(device, rows);
  expect(await dustCount(device)).toBe(rows.length);
  expect(await b.lostRows(client, content)).toEqual([]);
  // A healthy read looks at no parity.
  expect(await dustCount(device)).toBe(rows.length - dataRows.length);
  expect((await b.status()).members[1].errors.fixed).toBe(dataRows.length * 8);
  expect(await b.mismatchBytes()).toBe(0);
  expect(await dustCount(device)).toBe(0);
  const { degraded, lostBytes, members } = await b.status();
  expect({ degraded, lostBytes, fixed: members[1].errors.fixed }).toEqual({
    degraded: 0,
    lostBytes: 0,
    fixed: rows.length * 8,
  });
  expect(await b.lostRows(client, content)).toEqual([]);
});

test("dm-dust: on a survivor during the rebuild: exactly those rows are lost, until written", async () => {
  const b = await Bench.make((disk) => `dust ${disk} 0 512`);
  const client = await b.connect();
  const content = await b.fill(client, 2);
  const rows = b.badRows();
  await b.daemon.must("POST", `${ARRAY}/members/drive2/fail`, {});
  await b.addDust(b.devices[1]!, rows);
  await b.rebuildOntoSpare();
  const places = rows.flatMap((row) => [b.arrayOffset(1, row), b.arrayOffset(2, row)]);
  const expected = places.filter((place) => place !== null).sort((x, y) => x - y);
  expect((await b.status()).lostBytes).toBe(expected.length * ROW_BYTES);
  expect(await b.lostRows(client, content)).toEqual(expected);
  for (const place of expected) {
    const data = new Uint8Array(ROW_BYTES).fill(0x5a);
    content.set(data, place);
    await b.write(client, place, data);
  }
  expect((await b.status()).lostBytes).toBe(0);
  expect(await b.lostRows(client, content)).toEqual([]);
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-error: a member dies in mid-load: failed, writes go on, rebuilt onto another", async () => {
  const b = await Bench.make();
  const load = b.makeLoad(3);
  const clients = [await b.connect(), await b.connect()];
  const running = load.run(clients, { depth: 4 });
  await acknowledged(load, 100);
  await b.devices[1]!.swap("error");
  const { members } = await b.waitForState("degraded");
  expect(members[1].state).toBe("faulty");
  await acknowledged(load, 100);
  await b.daemon.must("DELETE", `${ARRAY}/members/drive1`);
  await b.rebuildOntoSpare();
  await acknowledged(load, 50);
  load.stop();
  await running;
  await b.verify(load);
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-error: a place that takes no write: in the bad-block log, the member stays", async () => {
  const b = await Bench.make();
  const client = await b.connect();
  const content = await b.fill(client, 4);
  const device = b.devices[1]!;
  const row = b.badRows().find((place) => place > 0 && b.arrayOffset(1, place) !== null)!;
  const before = (b.dataOffset + row) / SECTOR_BYTES;
  const bad = 2 * (ROW_BYTES / SECTOR_BYTES);
  await device.swap([
    { sectors: before, target: device.linear() },
    { sectors: bad, target: "error" },
    { sectors: device.sectors - before - bad, target: device.linear(before + bad) },
  ]);
  expect(await b.lostRows(client, content)).toEqual([]);
  const place = b.arrayOffset(1, row)!;
  const patch = new Uint8Array(3 * ROW_BYTES).fill(0x77);
  content.set(patch, place - ROW_BYTES);
  await b.write(client, place - ROW_BYTES, patch);
  const status = await b.status();
  expect({ degraded: status.degraded, lostBytes: status.lostBytes }).toEqual({
    degraded: 0,
    lostBytes: 0,
  });
  expect(await b.lostRows(client, content)).toEqual([]);
  const badBlocks = await mustRun(["mdadm", "--examine-badblocks", device.path]);
  expect(badBlocks).toMatch(new RegExp(`\\b${before} for ${bad} sectors`));
  // The place is well again (a drive that found spare sectors): a write takes it out of the log.
  await device.swap(device.linear());
  patch.fill(0x78);
  content.set(patch, place - ROW_BYTES);
  await b.write(client, place - ROW_BYTES, patch);
  expect(await b.lostRows(client, content)).toEqual([]);
  expect(await mustRun(["mdadm", "--examine-badblocks", device.path])).not.toContain(" for ");
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-flakey: writes fail now and then: nothing that was acknowledged is lost", async () => {
  const b = await Bench.make();
  const load = b.makeLoad(5);
  const clients = [await b.connect(), await b.connect()];
  const running = load.run(clients, { depth: 4 });
  await acknowledged(load, 50);
  const device = b.devices[1]!;
  await device.swap(`flakey ${device.under} 0 1 1 1 error_writes`);
  // One whole interval of each kind.
  await Bun.sleep(2_500);
  await acknowledged(load, 50);
  await device.swap(device.linear());
  load.stop();
  await running;
  await b.verify(load);
  const { degraded, members } = await b.status();
  expect(members[1].errors.write).toBeGreaterThan(0);
  if (degraded > 0) {
    expect(members[1].state).toBe("faulty");
    await b.daemon.must("DELETE", `${ARRAY}/members/drive1`);
    await b.rebuildOntoSpare();
  }
  await b.verify(load);
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-flakey: a member that loses writes in silence: a check says so, the others know all", async () => {
  const b = await Bench.make();
  const client = await b.connect();
  await b.fill(client, 6);
  const device = b.devices[1]!;
  await device.swap(`flakey ${device.under} 0 0 3600 1 drop_writes`);
  const content = await b.fill(client, 7);
  await device.swap(device.linear());
  // The whole member is one generation behind.
  expect(await b.mismatchBytes()).toBe(b.memberSizeBytes);
  expect(await b.mismatchBytes()).toBe(b.memberSizeBytes);
  await b.daemon.must("POST", `${ARRAY}/members/drive1/fail`, {});
  expect(await b.lostRows(client, content)).toEqual([]);
  await b.daemon.must("DELETE", `${ARRAY}/members/drive1`);
  await b.rebuildOntoSpare();
  expect(await b.lostRows(client, content)).toEqual([]);
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-error: two members die while nothing is written: failed, no write, back as they were", async () => {
  const b = await Bench.make();
  const client = await b.connect();
  const content = await b.fill(client, 8);
  await b.daemon.calmDown("a");
  for (const index of [1, 2]) await b.devices[index]!.swap("error");
  const refused = await client.write(0, new Uint8Array(ROW_BYTES));
  expect(refused.ok).toBe(false);
  const { members } = await b.waitForState("failed");
  expect(members[0].state).toBe("in-sync");
  expect((await client.write(MIB, new Uint8Array(ROW_BYTES))).ok).toBe(false);
  for (const index of [1, 2]) await b.devices[index]!.swap(b.devices[index]!.linear());
  await client.disconnect();
  await b.daemon.must("POST", `${ARRAY}/stop`, {});
  const started = await b.daemon.must("POST", `${ARRAY}/start`, {});
  expect(started.degraded).toBe(0);
  const again = await b.connect();
  expect(await b.lostRows(again, content)).toEqual([]);
  await b.daemon.settle("a");
  expect(await b.mismatchBytes()).toBe(0);
});

test("dm-error: two members die in mid-load: no write is acknowledged, nothing is lost", async () => {
  const b = await Bench.make();
  const load = b.makeLoad(9);
  const clients = [await b.connect(), await b.connect()];
  const running = load.run(clients, { depth: 4 });
  await acknowledged(load, 100);
  const [, one, other] = b.devices;
  await one!.load("error");
  await other!.load("error");
  await one!.suspend();
  await other!.suspend();
  await dmsetup("resume", one!.name, other!.name);
  await b.waitForState("failed");
  // Every lane ends at its first refused write.
  await running;
  const late = await b.connect();
  expect((await late.write(0, new Uint8Array(ROW_BYTES))).ok).toBe(false);
  await late.disconnect();
  for (const client of clients) await client.disconnect();
  for (const device of [one!, other!]) await device.swap(device.linear());
  await b.daemon.must("POST", `${ARRAY}/stop`, {});
  // One may have failed a moment before the other, and was recorded then: dirty and degraded. With
  // the partial parity log that needs no force; what was being written on that member may be torn.
  const started = await b.daemon.must("POST", `${ARRAY}/start`, {});
  const missing = started.members.findIndex(({ state }: { state: string }) => state !== "in-sync");
  if (missing >= 0) load.forgiveWrittenOn(missing, b.geometry);
  await b.verify(load);
  if ((await b.daemon.settle("a")).degraded > 0) await b.rebuildOntoSpare();
  await b.verify(load);
  expect(await b.mismatchBytes()).toBe(0);
});
