/**
 * Goal: `attach` gives the same bytes as the daemon that wrote them, with the files in any order
 * and without any one of them; `--read-only` writes nothing at all; a dirty array is repaired, and
 * refused where that is not possible; mdadm agrees with what stands on the members.
 *
 * Method: one array is made and filled by `serve`, and its files are kept, once as a clean stop
 * leaves them and once as a kill in the middle of writes does. Each test works on copies.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import {
  Attached,
  connectNbd,
  Daemon,
  makeFiles,
  mustRun,
  runVerb,
  sums,
} from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio", "direct-io");
const MEMBERS = 4;
const MEMBER_BYTES = 12 * MIB;
const PIECE_BYTES = MIB;
const EVERY_MEMBER = Array.from({ length: MEMBERS }, (_, index) => index);

let cleanFiles: string[] = [];
let cleanSum = "";
/** Killed while writes went on: its superblocks say dirty. */
let dirtyFiles: string[] = [];

beforeAll(async () => {
  if (!CAN_RUN) return;
  const folder = makeTempDir("orig");
  const files = makeFiles(folder, MEMBERS, MEMBER_BYTES);
  const daemon = await Daemon.start(folder);
  const drives = await daemon.addDrives(files);
  await daemon.must("POST", "/v1/arrays", {
    name: "vault",
    drives,
    chunkKiB: 64,
    consistencyPolicy: "resync",
  });
  await daemon.must("PUT", "/v1/exports/vault", { array: "vault" });
  const client = await daemon.connect("vault");
  await fill(client);
  cleanSum = await contentSum(client);
  await daemon.settle("vault");
  await client.disconnect();
  expect(await daemon.stop()).toBe(0);
  cleanFiles = await copies(files);

  const again = await Daemon.start(folder);
  const writer = await again.connect("vault");
  for (let index = 0; index < 20; index += 1) {
    const data = new Uint8Array(64 * KIB).fill(index + 1);
    expect((await writer.write(index * MIB + 512, data)).ok).toBe(true);
  }
  void writer.write(0, new Uint8Array(2 * MIB).fill(77));
  await again.kill();
  dirtyFiles = files;
});

/** Random bytes all over the array. */
async function fill(client: NbdClient): Promise<void> {
  const random = new SeededRandom(2026);
  const data = new Uint8Array(PIECE_BYTES);
  for (let offset = 0; offset < client.sizeBytes; offset += PIECE_BYTES) {
    fillRandom(random, data);
    const bytes = Math.min(PIECE_BYTES, client.sizeBytes - offset);
    expect((await client.write(offset, data.subarray(0, bytes))).ok).toBe(true);
  }
  expect((await client.flush()).ok).toBe(true);
}

async function contentSum(client: NbdClient): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  for (let offset = 0; offset < client.sizeBytes; offset += PIECE_BYTES) {
    const read = await client.read(offset, Math.min(PIECE_BYTES, client.sizeBytes - offset));
    if (!read.ok) return `errno ${read.error} at ${offset}`;
    hasher.update(read.value);
  }
  return hasher.digest("hex");
}

async function copies(files: readonly string[]): Promise<string[]> {
  const folder = makeTempDir("copy");
  await mustRun(["cp", "--sparse=always", ...files, folder]);
  return files.map((_, index) => join(folder, `member${index}.img`));
}

async function sumOver(socket: string, name = "vault"): Promise<string> {
  const client = await connectNbd(socket, name);
  const sum = await contentSum(client);
  await client.disconnect();
  return sum;
}

/** Attaches, sums the content up, and stops again. */
async function attachedSum(files: readonly string[], flags: readonly string[]): Promise<string> {
  const { attached, uri } = await Attached.start(files, flags);
  if (uri === null) return `not started: ${attached.stderr}`;
  const sum = await sumOver(attached.socket);
  expect(await attached.stop()).toBe(0);
  return sum;
}

async function states(files: readonly string[]): Promise<string[]> {
  const { stdout } = await runVerb(["examine", ...files]);
  return [...stdout.matchAll(/^ *State : (\w+)/gm)].map((match) => match[1]!);
}

describe.skipIf(!CAN_RUN)("attach", () => {
  test("attach: the files in any order: the same bytes [needs libaio, direct-io]", async () => {
    for (const order of ["0123", "1230", "3012", "3210", "2031"]) {
      const files = [...order].map((index) => cleanFiles[Number(index)]!);
      expect(await attachedSum(files, ["--read-only"])).toBe(cleanSum);
    }
  });

  test.each(EVERY_MEMBER)(
    "attach: without file %i: the same bytes, also after writes [needs libaio, direct-io]",
    async (lost) => {
      const files = await copies(cleanFiles);
      rmSync(files[lost]!);
      const rest = files.toSpliced(lost, 1);
      expect(await attachedSum(rest, ["--read-only"])).toBe(cleanSum);
      const { attached, uri } = await Attached.start(rest.toReversed());
      expect(uri).toBe(`nbd+unix:///vault?socket=${attached.socket}`);
      const client = await connectNbd(attached.socket, "vault");
      expect(await contentSum(client)).toBe(cleanSum);
      const data = new Uint8Array(3 * MIB).fill(lost + 1);
      expect((await client.write(777 * KIB, data)).ok).toBe(true);
      const sum = await contentSum(client);
      await client.disconnect();
      expect(await attached.stop()).toBe(0);
      expect(await attachedSum(rest, ["--read-only"])).toBe(sum);
      // The one that was left out is old now, and must not count.
      const all = rest.toSpliced(lost, 0, cleanFiles[lost]!);
      expect(await attachedSum(all, ["--read-only"])).toBe(sum);
    },
  );

  test("attach: two files missing: refused, says which roles [needs libaio, direct-io]", async () => {
    const before = sums(cleanFiles);
    const { attached, uri } = await Attached.start(cleanFiles.slice(2));
    expect(uri).toBeNull();
    expect(attached.child.exitCode).toBe(1);
    expect(attached.stdout).toBe("");
    expect(attached.stderr).toMatch(/roles 0 \(missing\), 1 \(missing\).*Connect/);
    expect(sums(cleanFiles)).toEqual(before);
  });

  test("attach: --read-only on a clean array: not one byte changes, writes are refused [needs libaio, direct-io]", async () => {
    const before = sums(cleanFiles);
    const { attached } = await Attached.start(cleanFiles, ["--read-only"]);
    const client = await connectNbd(attached.socket, "vault");
    expect(await client.write(0, new Uint8Array(512))).toEqual({ ok: false, error: 1 });
    expect((await client.flush()).ok).toBe(true);
    expect(await contentSum(client)).toBe(cleanSum);
    await client.disconnect();
    expect(await attached.stop()).toBe(0);
    expect(sums(cleanFiles)).toEqual(before);
  });

  test("attach: --read-only on a dirty array: not one byte changes [needs libaio, direct-io]", async () => {
    expect(await states(dirtyFiles)).toEqual(["active", "active", "active", "active"]);
    const before = sums(dirtyFiles);
    const sum = await attachedSum(dirtyFiles, ["--read-only"]);
    expect(sum).toMatch(/^[0-9a-f]{64}$/);
    expect(await attachedSum(dirtyFiles, ["--read-only"])).toBe(sum);
    expect(sums(dirtyFiles)).toEqual(before);
  });

  test("attach: a dirty array: resynced, same bytes, SIGTERM marks it clean [needs libaio, direct-io]", async () => {
    const files = await copies(dirtyFiles);
    const sum = await attachedSum(files, ["--read-only"]);
    const { attached } = await Attached.start(files);
    expect(await sumOver(attached.socket)).toBe(sum);
    while (!attached.stderr.includes("resync.finished")) await Bun.sleep(10);
    expect(await attached.stop()).toBe(0);
    expect(await states(files)).toEqual(["clean", "clean", "clean", "clean"]);
    for (const lost of EVERY_MEMBER) {
      expect(await attachedSum(files.toSpliced(lost, 1), ["--read-only"])).toBe(sum);
    }
  });

  test("attach: stopped in the middle of a resync: not clean until it is through [needs libaio, direct-io]", async () => {
    const folder = makeTempDir("half");
    const files = makeFiles(folder, 3, 256 * MIB);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "half", drives });
    await daemon.must("PATCH", "/v1/arrays/half", { syncSpeedMax: 8 * MIB });
    const before = daemon;
    await until("the resync is on its way", async () => {
      const { sync } = await before.must("GET", "/v1/arrays/half");
      expect(sync.action).toBe("resync");
      // Stripes are done out of order: the checkpoint is where the first one is still missing.
      return sync.doneBytes > 4 * MIB;
    });
    expect(await daemon.stop()).toBe(0);
    expect(await states(files)).toEqual(["active", "active", "active"]);
    const degraded = await Attached.start(files.slice(1));
    expect(degraded.uri).toBeNull();
    expect(degraded.attached.stderr).toContain("in sync only below member sector");
    daemon = await Daemon.start(folder);
    const resumed = await daemon.must("GET", "/v1/arrays/half");
    expect(resumed.sync.action).toBe("resync");
    expect(resumed.sync.doneBytes).toBeGreaterThan(0);
    await daemon.must("PATCH", "/v1/arrays/half", { syncSpeedMax: 8192 * MIB });
    await daemon.calmDown("half");
    expect(await daemon.stop()).toBe(0);
    expect(await states(files)).toEqual(["clean", "clean", "clean"]);
    expect((await Attached.start(files.slice(1), ["--read-only"])).uri).not.toBeNull();
  });

  test("attach: dirty and degraded: refused with the way out; --force starts it [needs libaio, direct-io]", async () => {
    const files = (await copies(dirtyFiles)).toSpliced(1, 1);
    const before = sums(files);
    for (const flags of [[], ["--read-only"]]) {
      const { attached, uri } = await Attached.start(files, flags);
      expect(uri).toBeNull();
      expect(attached.child.exitCode).toBe(1);
      expect(attached.stderr).toMatch(/not stopped cleanly.*role 1.*force/);
      expect(attached.stderr.trimEnd().split("\n").at(-1)).toStartWith("parityd: ");
    }
    expect(sums(files)).toEqual(before);
    const sum = await attachedSum(files, ["--force", "--read-only"]);
    expect(sum).toMatch(/^[0-9a-f]{64}$/);
    expect(sums(files)).toEqual(before);
    expect(await attachedSum(files, ["--force"])).toBe(sum);
    expect(await attachedSum(files, [])).toBe(sum);
  });

  test("attach: files that serve holds, and the other way round: busy [needs libaio, direct-io]", async () => {
    const folder = makeTempDir("busy");
    const files = await copies(cleanFiles);
    const daemon = await Daemon.start(folder);
    await daemon.addDrives(files);
    const before = sums(files);
    for (const flags of [[], ["--read-only"], ["--force"]]) {
      const { attached, uri } = await Attached.start(files, flags);
      expect(uri).toBeNull();
      expect(attached.child.exitCode).toBe(1);
      expect(attached.stderr).toContain("is in use: another program holds its lock");
    }
    expect(sums(files)).toEqual(before);
    expect(await daemon.stop()).toBe(0);

    const { attached } = await Attached.start(files, ["--read-only"]);
    const restarted = await Daemon.start(folder);
    const drives = await restarted.must("GET", "/v1/drives");
    expect(drives.map(({ state }: { state: string }) => state)).toEqual(Array(4).fill("missing"));
    expect(drives[0].detail).toContain("is in use");
    const body = { name: "drive0", path: files[0] };
    expect((await restarted.call("POST", "/v1/drives", body)).status).toBe(423);
    expect(await attached.stop()).toBe(0);
    await restarted.must("POST", "/v1/drives", body);
    expect(await restarted.stop()).toBe(0);
  });

  test("attach: names and sockets: by flags; a socket in use: exit 1 [needs libaio, direct-io]", async () => {
    const { attached, uri } = await Attached.start(cleanFiles, ["--read-only", "--name", "x.1"]);
    expect(uri).toBe(`nbd+unix:///x.1?socket=${attached.socket}`);
    expect(attached.stdout).toBe(`ready ${uri}\n`);
    expect(await sumOver(attached.socket, "x.1")).toBe(cleanSum);
    const others = await copies(cleanFiles);
    const second = await runVerb(["attach", ...others, "--socket", attached.socket]);
    expect(second.exitCode).toBe(1);
    expect(second.stderr).toContain(attached.socket);
    expect(await attached.stop()).toBe(0);
    expect((await runVerb(["attach", ...cleanFiles])).exitCode).toBe(64);
    expect((await runVerb(["attach", "--socket", "s"])).exitCode).toBe(64);
  });

  test("attach: what is no member, and members of two arrays: refused [needs libaio, direct-io]", async () => {
    const plain = makeFiles(makeTempDir("plain"), 2, MEMBER_BYTES);
    const none = await Attached.start(plain);
    expect(none.uri).toBeNull();
    expect(none.attached.stderr).toContain("no file belongs to an array");
    const folder = makeTempDir("other");
    const daemon = await Daemon.start(folder);
    const others = makeFiles(folder, 3, MEMBER_BYTES);
    const drives = await daemon.addDrives(others);
    await daemon.must("POST", "/v1/arrays", { name: "other", drives });
    await daemon.settle("other");
    expect(await daemon.stop()).toBe(0);
    const mixed = await Attached.start([...cleanFiles, ...others]);
    expect(mixed.uri).toBeNull();
    expect(mixed.attached.stderr).toMatch(/several arrays \(.*vault.*\)/);
  });

  test("examine: text and JSON: what the array is [needs libaio, direct-io]", async () => {
    const text = await runVerb(["examine", ...cleanFiles]);
    expect(text.exitCode).toBe(0);
    expect([...text.stdout.matchAll(/Raid Level : raid5/g)].length).toBe(MEMBERS);
    expect(text.stdout).toContain("Layout : left-symmetric");
    const json = await runVerb(["examine", "--json", ...cleanFiles]);
    const reports = json.stdout.trimEnd().split("\n");
    for (const [index, line] of reports.entries()) {
      const report = JSON.parse(line);
      expect(JSON.stringify(report)).toContain(cleanFiles[index]!);
      expect(report.arrayUuid).toBe(JSON.parse(reports[0]!).arrayUuid);
    }
    const wrong = await runVerb(["examine", "/dev/null", cleanFiles[0]!]);
    expect(wrong.exitCode).toBe(1);
    expect(wrong.stderr).toStartWith("parityd: /dev/null: ");
    expect(wrong.stdout).toContain("raid5");
  });
});

test.skipIf(!CAN_RUN || !needs("mdadm"))(
  "mdadm: --examine of members after writes, a loss and a rebuild: accepted [needs libaio, direct-io, mdadm]",
  async () => {
    const folder = makeTempDir("md");
    const files = makeFiles(folder, 4, MEMBER_BYTES);
    const daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "m", drives: drives.slice(0, 3) });
    await daemon.must("PUT", "/v1/exports/m", { array: "m" });
    const client = await daemon.connect("m");
    await fill(client);
    await daemon.must("POST", "/v1/arrays/m/members/drive1/fail", {});
    await daemon.must("DELETE", "/v1/arrays/m/members/drive1");
    await daemon.must("POST", "/v1/arrays/m/members?wait=60", { drive: "drive3" });
    await client.disconnect();
    const { uuid, eventCount } = await daemon.must("GET", "/v1/arrays/m");
    expect(eventCount).toBeGreaterThan(3);
    expect(await daemon.stop()).toBe(0);
    for (const path of [files[0]!, files[2]!, files[3]!]) {
      const text = await mustRun([toolPath("mdadm")!, "--examine", path]);
      expect(text).toMatch(/Checksum : \w+ - correct/);
      expect(text).toMatch(/State : clean/);
      expect(text).toMatch(/Raid Level : raid5/);
      expect(text).toMatch(/Array State : AAA /);
      const theirs = /Array UUID : ([\w:]+)/.exec(text)?.[1];
      expect(theirs?.replaceAll(":", "")).toBe(uuid.replaceAll(/[-:]/g, ""));
    }
    const dirty = await copies(dirtyFiles);
    for (const path of dirty) {
      const text = await mustRun([toolPath("mdadm")!, "--examine", path]);
      expect(text).toMatch(/State : active/);
      expect(text).toMatch(/Checksum : \w+ - correct/);
    }
  },
);
