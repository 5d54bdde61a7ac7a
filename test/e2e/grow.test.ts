/**
 * Goal: with the executable and real files: members are replaced one by one by larger ones, or
 * become larger themselves, and the array grows into that while clients use it; they see the new
 * size when they connect again, and nothing of what they wrote is lost.
 * Method: `parityd serve`; every step is a verb or a call, the data go over NBD, by sha256.
 */
import { describe, expect, test } from "bun:test";
import { closeSync, openSync, readSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB, SECTOR_BYTES } from "../../src/base/units.ts";
import { decodeSuperblock, SUPERBLOCK_BYTES, type Superblock } from "../../src/md/superblock.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import { Daemon, makeFile, makeFiles, runVerb } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const SMALL = 12 * MIB;
const LARGE = 20 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const ARRAY = "/v1/arrays/tank";

async function sumOf(client: NbdClient, bytes: number): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for (let offset = 0; offset < bytes; offset += MIB) {
    const read = await client.read(offset, Math.min(MIB, bytes - offset));
    if (!read.ok) throw new Error(`read at ${offset}: errno ${read.error}`);
    hasher.update(read.value);
  }
  return hasher.digest("hex");
}

function superblockIn(path: string, deviceBytes: number): Superblock {
  const bytes = new Uint8Array(SUPERBLOCK_BYTES);
  const file = openSync(path, "r");
  readSync(file, bytes, 0, bytes.length, 4096);
  closeSync(file);
  const decoded = decodeSuperblock(bytes, { deviceBytes });
  if (!decoded.ok) throw new Error(decoded.error.detail);
  return decoded.value;
}

async function expectWhole(daemon: Daemon): Promise<void> {
  const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
  expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
}

describe.skipIf(!needs("libaio", "direct-io"))("grow", () => {
  test(`members replaced by larger ones, then the array grows under a client ${NEEDS}`, async () => {
    const folder = makeTempDir("grow");
    const daemon = await Daemon.start(folder);
    const verb = (line: string) => runVerb([...line.split(" "), "--run-dir", join(folder, "run")]);
    const names = await daemon.addDrives(makeFiles(folder, 3, SMALL));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives: names });
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    const client = await daemon.connect("tank");
    const old = client.sizeBytes;
    for (let at = 0; at < old; at += MIB) {
      await mustWrite(client, at, randomBytes(at, Math.min(MIB, old - at)));
    }
    const sum = await sumOf(client, old);
    const files: string[] = [];
    for (const name of names) {
      const path = join(folder, `large-${name}.img`);
      makeFile(path, LARGE);
      files.push(path);
      await daemon.must("POST", "/v1/drives", { name: `large-${name}`, path });
      const done = await verb(`member replace tank ${name} large-${name} --wait`);
      expect(done.exitCode).toBe(0);
      // All files of the test lie on one disk, where the host can name it.
      expect(done.stderr).toMatch(/^(parityd: drives .* lie on one disk .*\n)?$/);
      // Its superblock tells what the drive has room for, whatever the array uses of it.
      const { dataOffsetSectors, dataSizeSectors } = superblockIn(path, LARGE);
      expect(dataOffsetSectors + dataSizeSectors).toBe(LARGE / SECTOR_BYTES);
    }
    const shrunk = await verb("array set tank --size 1MiB");
    expect([shrunk.exitCode, shrunk.stderr]).toEqual([1, expect.stringContaining("cannot shrink")]);
    const much = await verb("array set tank --size 1GiB");
    expect([much.exitCode, much.stderr]).toEqual([1, expect.stringMatching(/larger one first/)]);
    const grown = await verb("array set tank --size max");
    expect([grown.exitCode, grown.stdout]).toEqual([0, expect.stringContaining("tank: ")]);
    const { sizeBytes, degraded } = await daemon.settle("tank");
    expect([degraded, sizeBytes > old + 2 * (LARGE - SMALL) - 2 * MIB]).toEqual([0, true]);
    // The session keeps the size that it was told, and may ask for what is there now.
    expect(client.sizeBytes).toBe(old);
    const again = await daemon.connect("tank");
    expect(again.sizeBytes).toBe(sizeBytes);
    const data = randomBytes(2, 300 * KIB + 512);
    const offset = old - 100 * KIB;
    await mustWrite(again, sizeBytes - data.length, data);
    expect(await sumOf(again, old)).toBe(sum);
    await mustWrite(again, offset, data);
    await expectData(again, sizeBytes - data.length, data);
    await expectWhole(daemon);
    const events = await daemon.must("GET", "/v1/events?limit=500");
    const kinds = (events.events ?? events).map(({ kind }: { kind: string }) => kind);
    expect(kinds).toContain("array.grown");
    const whole = await sumOf(again, sizeBytes);
    expect(await daemon.stop()).toBe(0);
    for (const path of files) {
      const { sizeSectors } = superblockIn(path, LARGE);
      expect(sizeSectors * SECTOR_BYTES * 2).toBe(sizeBytes);
    }
    const next = await Daemon.start(folder);
    expect((await next.settle("tank")).sizeBytes).toBe(sizeBytes);
    expect(await sumOf(await next.connect("tank"), sizeBytes)).toBe(whole);
    expect(await next.stop()).toBe(0);
  });

  test(`files that have become larger are seen when they are opened; kill -9 half way ${NEEDS}`, async () => {
    const folder = makeTempDir("grow");
    const first = await Daemon.start(folder);
    const files = makeFiles(folder, 3, SMALL);
    const drives = await first.addDrives(files);
    const wanted = { name: "tank", drives, consistencyPolicy: "bitmap" };
    await first.must("POST", "/v1/arrays", wanted);
    await first.must("PUT", "/v1/exports/tank", { array: "tank" });
    const data = randomBytes(3, 3 * MIB + 512);
    await mustWrite(await first.connect("tank"), 4 * KIB, data);
    await first.settle("tank");
    const { sizeBytes: old } = await first.must("PATCH", ARRAY, { sizeKiB: "max" });
    expect(await first.stop()).toBe(0);
    for (const path of files) truncateSync(path, LARGE);
    const second = await Daemon.start(folder);
    await second.must("PATCH", ARRAY, { syncSpeedMin: MIB, syncSpeedMax: MIB });
    const begun = await second.must("PATCH", ARRAY, { sizeKiB: "max" });
    expect([begun.sizeBytes, begun.sync.action]).toEqual([old, "grow"]);
    await mustWrite(await second.connect("tank"), 8 * MIB, data);
    expect((await second.must("GET", ARRAY)).sync.action).toBe("grow");
    await second.kill();
    const third = await Daemon.start(folder);
    expect(await third.settle("tank")).toMatchObject({ sizeBytes: old, degraded: 0 });
    await third.must("PATCH", ARRAY, { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 });
    await third.must("PATCH", ARRAY, { sizeKiB: "max" });
    const { sizeBytes } = await third.settle("tank");
    expect(sizeBytes).toBeGreaterThan(old);
    const client = await third.connect("tank");
    expect(client.sizeBytes).toBe(sizeBytes);
    await mustWrite(client, sizeBytes - data.length, data);
    for (const at of [4 * KIB, 8 * MIB, sizeBytes - data.length]) {
      await expectData(client, at, data);
    }
    await expectWhole(third);
    expect(await third.stop()).toBe(0);
  });
});
