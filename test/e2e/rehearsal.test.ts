/**
 * Goal: with the executable and real files a loss is rehearsed by `parityd drill --on`: not one
 * byte of a member or spare changes, clients write on, and `kill -9` in the middle leaves nothing behind.
 * Method: `parityd serve`; sha256 of the files before and after, the data over NBD.
 */
import { describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb, sums } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const FLAGS = { flags: ["--allow-fault-injection"] };
const ARRAY = "/v1/arrays/tank";

async function drill(folder: string, line: string) {
  const words = ["drill", "--on", "tank", ...line.split(" "), "--run-dir", join(folder, "run")];
  return runVerb(words);
}

/** An array of three with data and a spare, at rest. */
async function started(name: string) {
  const folder = makeTempDir(name);
  const daemon = await Daemon.start(folder, FLAGS);
  const paths = makeFiles(folder, 4, MEMBER_BYTES);
  const names = await daemon.addDrives(paths);
  const drives = names.slice(0, 3);
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives, spares: [names[3]] });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  const data = randomBytes(1, 3 * MIB + 512);
  await mustWrite(await daemon.connect("tank"), 4 * KIB, data);
  await daemon.calmDown("tank");
  return { folder, daemon, names, paths, data };
}

/** All that lies below a folder, but for what state.db has beside it. */
function filesBelow(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true }).map(String);
  return names.filter((name) => !/state\.db-(wal|shm)$/.test(name)).sort();
}

describe.skipIf(!needs("libaio", "direct-io"))("rehearsal", () => {
  test(`at rest: each member lost: exit 0, and no byte of any file changes ${NEEDS}`, async () => {
    const { folder, daemon, names, paths, data } = await started("rehearsal");
    const before = sums(paths);
    const files = filesBelow(folder);
    for (const name of names.slice(0, 3)) {
      const ran = await drill(folder, `--fail ${name}`);
      expect([ran.exitCode, ran.stdout]).toEqual([0, expect.stringContaining("PASS")]);
      expect(ran.stdout).toContain(`without ${name}: its role goes to ${names[3]}`);
    }
    expect(sums(paths)).toEqual(before);
    expect(filesBelow(folder)).toEqual(files);
    await expectData(await daemon.connect("tank"), 4 * KIB, data);
    expect(await daemon.stop()).toBe(0);
  });

  test(`a survivor with bad sectors: exit 1, and where they are; nothing is repaired ${NEEDS}`, async () => {
    const { folder, daemon, names, paths } = await started("rehearsal");
    const before = sums(paths);
    const offset = 16 * MIB;
    const bad = { drive: names[0], op: "read", errno: "EIO", offset, bytes: 8 * KIB };
    await daemon.must("POST", "/v1/faults", bad);
    const ran = await drill(folder, `--fail ${names[1]} --json`);
    expect(ran.exitCode).toBe(1);
    const { verdict, exports, job } = JSON.parse(ran.stdout);
    expect({ verdict, exports }).toEqual({ verdict: "FAIL", exports: ["tank"] });
    expect(job.result).toMatchObject({ verdict: "lost", unreadableBytes: 8 * KIB });
    const places = [{ drive: names[0], offset, bytes: 8 * KIB }];
    expect(job.result.unreadablePlaces).toEqual({ places, truncated: false });
    expect(job.result.lostBytes).toBeGreaterThanOrEqual(8 * KIB);
    expect(sums(paths)).toEqual(before);
    const { degraded, lostBytes } = await daemon.must("GET", ARRAY);
    expect([degraded, lostBytes]).toEqual([0, 0]);
    expect(await daemon.stop()).toBe(0);
  });

  test(`with clients, killed half way: data as written, nothing left behind ${NEEDS}`, async () => {
    const { folder, daemon: first, names, data } = await started("rehearsal");
    const files = filesBelow(folder);
    await first.must("PATCH", ARRAY, { syncSpeedMin: 2 * MIB, syncSpeedMax: 2 * MIB });
    const { id } = await first.must("POST", `${ARRAY}/rehearsal`, { drive: names[1] });
    const client = await first.connect("tank");
    let round = 0;
    for (; round < 40; round += 1) await mustWrite(client, ((round * 7) % 40) * 512 * KIB, data);
    expect(await first.must("GET", `/v1/jobs/${id}`)).toMatchObject({ state: "running" });
    await first.kill();
    const daemon = await Daemon.start(folder, FLAGS);
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 });
    expect(await daemon.must("GET", `/v1/jobs/${id}`)).toMatchObject({ state: "cancelled" });
    await daemon.settle("tank");
    expect(filesBelow(folder)).toEqual(files);
    await expectData(await daemon.connect("tank"), (((round - 1) * 7) % 40) * 512 * KIB, data);
    const wait = `${ARRAY}/rehearsal?wait=60&strict=true`;
    const again = await daemon.must("POST", wait, { drive: names[1] });
    expect(again).toMatchObject({ state: "done", result: { verdict: "rebuilt" } });
    const scrub = await daemon.must("POST", `${ARRAY}/scrub?wait=60&strict=true`, {});
    expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    expect(await daemon.stop()).toBe(0);
  });
});
