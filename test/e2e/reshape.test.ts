/**
 * Goal: with the executable and real files: an array gets a member more while clients write. They
 * see no error, and the new size when they connect again; after kill -9 in the middle it goes on by
 * itself. Nothing is lost, the policy is what it was, parity is right, and mdadm reads all of it.
 * Method: `parityd serve`; writers that know what each of their sectors may hold, also where the
 * daemon went before it had answered.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { ArrayStatus } from "../../src/array/protocol.ts";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { Daemon, makeFiles, mustRun, runVerb } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const ARRAY = "/v1/arrays/tank";
const SLOW = { syncSpeedMin: 2 * MIB, syncSpeedMax: 2 * MIB };
const FAST = { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 };
const WRITERS = 4;
const SLOT_BYTES = 128 * KIB;

/** Writers with a slot each, all over the array; never two requests for one slot at a time. */
class Writers {
  readonly errors: number[] = [];
  count = 0;
  private readonly client: NbdClient;
  private readonly slots: readonly number[];
  /** By slot: what was acknowledged, and what perhaps came after it. */
  private readonly written = new Map<number, Uint8Array[]>();
  private isEnding = false;
  private readonly running: Promise<unknown>;

  constructor(client: NbdClient) {
    this.client = client;
    const stride = Math.floor(client.sizeBytes / SLOT_BYTES / 12) * SLOT_BYTES;
    this.slots = Array.from({ length: 12 }, (_, index) => index * stride);
    for (const slot of this.slots) this.written.set(slot, [new Uint8Array(SLOT_BYTES)]);
    this.running = Promise.all(
      Array.from({ length: WRITERS }, (_, index) => this.write(this.slots.slice(index * 3), index)),
    );
  }

  async end(): Promise<void> {
    this.isEnding = true;
    await this.running;
  }

  private async write(own: readonly number[], writer: number): Promise<void> {
    for (let round = 0; !this.isEnding; round += 1) {
      const slot = own[round % 3]!;
      const data = randomBytes(1000 * round + writer + 1, SLOT_BYTES - (round % 5) * SECTOR_BYTES);
      const [before] = this.written.get(slot)!;
      const whole = before!.slice();
      whole.set(data);
      this.written.set(slot, [before!, whole]);
      const answer = await this.client.write(slot, data, { fua: round % 4 === 0 });
      if (!answer.ok) {
        this.errors.push(Number(answer.error));
        return;
      }
      this.count += 1;
      this.written.set(slot, [whole]);
      const read = await this.client.read(slot, whole.length);
      if (!read.ok) this.errors.push(Number(read.error));
      else expect(Buffer.compare(read.value, whole)).toBe(0);
    }
  }

  /** Each sector holds what was acknowledged last, or what was never answered. */
  async judge(client: NbdClient): Promise<void> {
    for (const [slot, versions] of this.written) {
      const read = await client.read(slot, SLOT_BYTES);
      if (!read.ok) throw new Error(`read at ${slot}: ${read.error}`);
      for (let at = 0; at < SLOT_BYTES; at += SECTOR_BYTES) {
        const sector = read.value.subarray(at, at + SECTOR_BYTES);
        const isOne = versions.some(
          (one) => Buffer.compare(sector, one.subarray(at, at + SECTOR_BYTES)) === 0,
        );
        expect([slot, at, isOne]).toEqual([slot, at, true]);
      }
    }
  }
}

interface Grown {
  readonly daemon: Daemon;
  readonly folder: string;
  readonly files: readonly string[];
  readonly drives: readonly string[];
}

/** Three members of policy ppl, filled in part, at rest, and a fourth drive. */
async function threeAndOne(): Promise<Grown> {
  const folder = makeTempDir("reshape");
  const daemon = await Daemon.start(folder);
  const files = makeFiles(folder, 4, MEMBER_BYTES);
  const drives = await daemon.addDrives(files);
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives: drives.slice(0, 3) });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  await daemon.settle("tank");
  return { daemon, folder, files, drives };
}

async function untilPolicy(daemon: Daemon, policy: string): Promise<ArrayStatus> {
  let status: ArrayStatus | null = null;
  await until(`the policy is ${policy} again`, async () => {
    status = (await daemon.must("GET", ARRAY)) as ArrayStatus;
    return status.consistencyPolicy === policy && status.policyAfterGrowth === undefined;
  });
  return status!;
}

async function expectWhole(daemon: Daemon): Promise<void> {
  const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
  expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0, lostBytes: 0 } });
}

async function examined(path: string): Promise<string> {
  if (!needs("mdadm")) return (await runVerb(["examine", path])).stdout;
  return mustRun([toolPath("mdadm")!, "--examine", path]);
}

describe.skipIf(!needs("libaio", "direct-io"))("reshape", () => {
  test(`a member more under writers: no error, the new size, the old policy ${NEEDS}`, async () => {
    const { daemon, folder, files, drives } = await threeAndOne();
    const client = await daemon.connect("tank");
    const old = client.sizeBytes;
    const quiet = randomBytes(7, 3 * MIB + SECTOR_BYTES);
    const end = randomBytes(8, SLOT_BYTES);
    await mustWrite(client, old - end.length, end);
    const writers = new Writers(client);
    await until("it is written to", () => writers.count > 4);
    const countBefore = writers.count;
    const words = ["array", "grow", "tank", drives[3]!, "--wait", "--run-dir", join(folder, "run")];
    const grown = await runVerb(words);
    expect([grown.exitCode, grown.stdout]).toEqual([0, expect.stringContaining(": done")]);
    const { sizeBytes, degraded, members } = await untilPolicy(daemon, "ppl");
    await writers.end();
    expect(writers.count).toBeGreaterThan(countBefore + WRITERS);
    expect([writers.errors, degraded, members.length]).toEqual([[], 0, 4]);
    expect(sizeBytes).toBe((old / 2) * 3);
    // The session keeps the size that it was told.
    expect(client.sizeBytes).toBe(old);
    const again = await daemon.connect("tank");
    expect(again.sizeBytes).toBe(sizeBytes);
    await writers.judge(again);
    await expectData(again, old - end.length, end);
    await mustWrite(again, sizeBytes - quiet.length, quiet);
    await expectData(again, sizeBytes - quiet.length, quiet);
    if (needs("nbdinfo")) {
      const told = await mustRun([toolPath("nbdinfo")!, "--size", daemon.uri("tank")]);
      expect(Number(told)).toBe(sizeBytes);
    }
    if (needs("qemu-img")) {
      const words = [toolPath("qemu-img")!, "info", "--output=json", daemon.uri("tank")];
      expect(JSON.parse(await mustRun(words))).toMatchObject({ "virtual-size": sizeBytes });
    }
    await expectWhole(daemon);
    expect(await daemon.stop()).toBe(0);
    for (const path of files) {
      const text = await examined(path);
      expect(text).toMatch(/Raid Devices : 4/);
      expect(text).not.toMatch(/Reshape|Delta/);
    }
  });

  test(`kill -9 in the middle, twice: it goes on, and nothing is lost ${NEEDS}`, async () => {
    const { daemon: first, folder, files, drives } = await threeAndOne();
    const client = await first.connect("tank");
    const { sizeBytes: old } = client;
    const end = randomBytes(8, SLOT_BYTES);
    await mustWrite(client, old - end.length, end);
    await first.must("PATCH", ARRAY, SLOW);
    const writers = new Writers(client);
    const job = await first.must("POST", `${ARRAY}/grow`, { drives: drives.slice(3) });
    expect(job).toMatchObject({ kind: "reshape", state: "running" });
    await until("a part has been moved", async () => {
      return (await first.must("GET", ARRAY)).sync.doneBytes > MEMBER_BYTES / 8;
    });
    await first.kill();
    await writers.end();
    const text = await examined(files[0]!);
    if (needs("mdadm")) {
      expect(text).toMatch(/Reshape pos'n : \d+/);
      expect(text).toMatch(/Delta Devices : 1 \(3->4\)/);
    }

    const second = await Daemon.start(folder);
    expect(await second.must("GET", ARRAY)).toMatchObject({
      ...{ sizeBytes: old, consistencyPolicy: "resync", policyAfterGrowth: "ppl" },
      sync: { action: "reshape" },
    });
    expect(await second.must("GET", `/v1/jobs/${job.id}`)).toMatchObject({
      ...{ state: "cancelled", error: expect.stringContaining("goes on as a new job") },
    });
    const on = await second.connect("tank");
    await writers.judge(on);
    const middle = randomBytes(9, SLOT_BYTES);
    const { doneBytes } = (await second.must("GET", ARRAY)).sync;
    await until("more has been moved", async () => {
      return (await second.must("GET", ARRAY)).sync.doneBytes > doneBytes + MIB;
    });
    await mustWrite(on, old - 2 * SLOT_BYTES, middle);
    await second.kill();

    const third = await Daemon.start(folder);
    await third.must("PATCH", ARRAY, FAST);
    const { sizeBytes, degraded } = await untilPolicy(third, "ppl");
    expect([sizeBytes, degraded]).toEqual([(old / 2) * 3, 0]);
    const last = await third.connect("tank");
    expect(last.sizeBytes).toBe(sizeBytes);
    await writers.judge(last);
    await expectData(last, old - end.length, end);
    await expectData(last, old - 2 * SLOT_BYTES, middle);
    await expectWhole(third);
    expect(third.stderr).not.toMatch(/event=(member\.failed|array\.(failed|broken)|sector\.lost)/);
    expect(await third.stop()).toBe(0);
  });
});
