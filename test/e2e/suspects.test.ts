/**
 * Goal: with the executable and real files a member that takes some writes only at the second try
 * is told of as suspect and replaced by a spare, while it serves; one that is slow is read from no
 * more.
 * Method: `parityd serve` with injected faults; the data go over NBD.
 */
import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { ArrayStatus, MemberStatus } from "../../src/array/protocol.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, runVerb } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 24 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const FLAGS = { flags: ["--allow-fault-injection"] };
const ARRAY = "/v1/arrays/tank";

/** An array of three with data, and more drives. */
async function started(name: string, count: number) {
  const folder = makeTempDir(name);
  const daemon = await Daemon.start(folder, FLAGS);
  const names = await daemon.addDrives(makeFiles(folder, count, MEMBER_BYTES));
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives: names.slice(0, 3) });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  const data = randomBytes(1, 3 * MIB + 512);
  await mustWrite(await daemon.connect("tank"), 4 * KIB, data);
  await daemon.settle("tank");
  const status = async (): Promise<string> => {
    return (await runVerb(["status", "--run-dir", join(folder, "run")])).stdout;
  };
  return { folder, daemon, names, data, status };
}

async function member(daemon: Daemon, role: number): Promise<MemberStatus> {
  return ((await daemon.must("GET", ARRAY)) as ArrayStatus).members[role]!;
}

describe.skipIf(!needs("libaio", "direct-io"))("suspects", () => {
  test(`writes fail now and then: told, and replaced by a shared spare ${NEEDS}`, async () => {
    const { folder, daemon, names, data, status } = await started("suspects", 4);
    const [one, two, three, spare] = names;
    await daemon.must("POST", "/v1/faults", {
      drive: two,
      op: "write",
      errno: "EIO",
      count: 3,
      every: 2,
    });
    const client = await daemon.connect("tank");
    const row = randomBytes(2, 4 * KIB);
    // One write of a drive at a time: a second try meets none of the others, and succeeds.
    for (let turn = 0; turn < 12; turn += 1) await mustWrite(client, (8 + turn) * MIB, row);
    await until("it is suspect", async () => (await member(daemon, 1)).suspect !== undefined);
    expect(await status()).toContain(`member ${two} (role 1) is suspect since `);
    await daemon.must("PUT", `/v1/spares/${spare}`, {});
    await daemon.must("PATCH", ARRAY, { replaceSuspects: true });
    await until("it is replaced", async () => (await member(daemon, 1)).drive === spare);
    const { members, degraded } = await daemon.settle("tank");
    expect([degraded, ...members.map(({ drive }: MemberStatus) => drive)]).toEqual([
      ...[0, one, spare, three],
    ]);
    await expectData(client, 4 * KIB, data);
    await expectData(client, 19 * MIB, row);
    const job = await daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
    expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
    const run = ["--run-dir", join(folder, "run")];
    const told = (await runVerb(["events", ...run])).stdout;
    expect(told).toContain("member.suspect");
    expect(told).not.toContain("array.degraded");
    expect(await daemon.stop()).toBe(0);
  });

  test(`a slow member: reads go around it, and come back when it is fast ${NEEDS}`, async () => {
    const { daemon, names, data } = await started("slow", 3);
    const slow = { drive: names[1], op: "read", at: "submit", delayMs: 1_000 };
    await daemon.must("POST", "/v1/faults", slow);
    const client = await daemon.connect("tank");
    await until("reads go around it", async () => {
      await expectData(client, 4 * KIB, data);
      return (await member(daemon, 1)).isAvoided === true;
    });
    const before = (await member(daemon, 1)).io.reads;
    await expectData(client, 4 * KIB, data);
    // Probes alone.
    expect((await member(daemon, 1)).io.reads - before).toBeLessThan(5);
    await daemon.must("DELETE", "/v1/faults");
    await until("it is back", async () => (await member(daemon, 1)).isAvoided === undefined);
    await expectData(client, 4 * KIB, data);
    expect((await member(daemon, 1)).io.reads - before).toBeGreaterThan(10);
    expect(await daemon.stop()).toBe(0);
  });
});
