/**
 * Goal: with the executable and real files a member is replaced while it serves: never degraded,
 * also across `kill -9`, and where the old drive dies half way.
 * Method: `parityd serve` with injected faults; every step is a verb or a call, the data go over NBD.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const FLAGS = { flags: ["--allow-fault-injection"] };
const ARRAY = "/v1/arrays/tank";

async function verb(folder: string, line: string) {
  return runVerb([...line.split(" "), "--run-dir", join(folder, "run")]);
}

/** An array of three with data, and a fourth drive. */
async function started(name: string) {
  const folder = makeTempDir(name);
  const daemon = await Daemon.start(folder, FLAGS);
  const names = await daemon.addDrives(makeFiles(folder, 4, MEMBER_BYTES));
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives: names.slice(0, 3) });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  const data = randomBytes(1, 3 * MIB + 512);
  await mustWrite(await daemon.connect("tank"), 4 * KIB, data);
  await daemon.settle("tank");
  return { folder, daemon, names, data };
}

async function isWhole(daemon: Daemon, drives: readonly (string | undefined)[]): Promise<void> {
  const { members, degraded } = await daemon.settle("tank");
  expect([degraded, members.map(({ drive }: { drive: string }) => drive)]).toEqual([0, drives]);
  const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
  expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
}

describe.skipIf(!needs("libaio", "direct-io"))("replace", () => {
  test(`by the verb, to its end: the job says so, status is well ${NEEDS}`, async () => {
    const { folder, daemon, names, data } = await started("replace");
    const [one, two, three, other] = names;
    const done = await verb(folder, `member replace tank ${two} ${other} --wait`);
    expect(done.stdout).toMatch(
      /^replace job \d+ of tank: done, drive drive3, replaces drive1, lostBytes 0\n$/,
    );
    expect(done.exitCode).toBe(0);
    await isWhole(daemon, [one, other, three]);
    await expectData(await daemon.connect("tank"), 4 * KIB, data);
    const again = await verb(folder, `member replace tank ${two} ${one}`);
    expect([again.exitCode, again.stderr]).toEqual([1, expect.stringContaining("no member")]);
    expect(await daemon.stop()).toBe(0);
  });

  test(`killed half way: it goes on, and is never degraded ${NEEDS}`, async () => {
    const { folder, daemon: first, names, data } = await started("replace");
    const [one, two, three, other] = names;
    await first.must("PATCH", ARRAY, { syncSpeedMin: MIB, syncSpeedMax: MIB });
    const path = `${ARRAY}/members/${two}/replace`;
    const job = await first.must("POST", path, { with: other });
    expect(job).toMatchObject({ kind: "replace", state: "running" });
    await mustWrite(await first.connect("tank"), 8 * MIB, data);
    const { members, degraded } = await first.must("GET", ARRAY);
    expect([degraded, members[1].replacement.drive]).toEqual([0, other]);
    await first.kill();
    const daemon = await Daemon.start(folder, FLAGS);
    expect((await daemon.must("GET", ARRAY)).degraded).toBe(0);
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 });
    await isWhole(daemon, [one, other, three]);
    const client = await daemon.connect("tank");
    await expectData(client, 4 * KIB, data);
    await expectData(client, 8 * MIB, data);
    expect(await daemon.stop()).toBe(0);
  });

  test(`the old drive dies half way: the new one is rebuilt from there ${NEEDS}`, async () => {
    const { daemon, names, data } = await started("replace");
    const [one, two, three, other] = names;
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 4 * MIB, syncSpeedMax: 4 * MIB });
    await daemon.must("POST", `${ARRAY}/members/${two}/replace`, { with: other });
    await daemon.must("POST", "/v1/faults", { drive: two, op: "any", errno: "ENXIO" });
    await mustWrite(await daemon.connect("tank"), 8 * MIB, data);
    await daemon.must("PATCH", ARRAY, { syncSpeedMin: 2 ** 30, syncSpeedMax: 2 ** 30 });
    await isWhole(daemon, [one, other, three]);
    await expectData(await daemon.connect("tank"), 8 * MIB, data);
    expect(await daemon.stop()).toBe(0);
  });
});
