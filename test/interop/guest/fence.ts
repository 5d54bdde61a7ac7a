/**
 * Runs inside the kernel lab's guest, started by ../lab-fence.test.ts, which says what it is for.
 *
 * $A and $B are the names of the same disks, as two initiators see them.
 */
import { expect, test } from "bun:test";
import type { ArrayStatus } from "../../../src/array/protocol.ts";
import { KIB } from "../../../src/base/units.ts";
import { Daemon, runProgram } from "../../helpers/daemon.ts";
import { toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { until } from "../../helpers/until.ts";

const KEY = "0xb2";
/** Write exclusive, registrants only. */
const TYPE = "5";
/** Of host b, as the lab makes it. */
const INITIATOR = "initiator sas 600140511111111b";

function disks(variable: string): string[] {
  return process.env[variable]!.split(" ").map((name) => `/dev/${name}`);
}

async function persist(disk: string, ...words: readonly string[]): Promise<string> {
  const { stdout } = await runProgram([toolPath("sg_persist")!, "-n", ...words, disk]);
  return stdout;
}

/**
 * Host b takes all disks. Its first command is answered UNIT ATTENTION, and a register "not ready"
 * by this target, although it is done: what is asked afterwards tells.
 */
async function take(): Promise<void> {
  for (const disk of disks("B")) {
    await until(`${disk} has the key`, async () => {
      await persist(disk, "-o", "-G", "-S", KEY);
      return (await persist(disk, "-i", "-k")).includes(KEY);
    });
  }
  for (const disk of disks("B")) {
    await persist(disk, "-o", "-R", "-K", KEY, "-T", TYPE);
    expect(await persist(disk, "-i", "-r")).toContain(`Key=${KEY}`);
  }
}

test("fence: another host takes the disks: fenced, by whom, and whole over there", async () => {
  const a = await Daemon.start(makeTempDir("fence"));
  const drives = await a.addDrives(disks("A"));
  await a.must("POST", "/v1/arrays", { name: "tank", drives, force: true });
  await a.must("PUT", "/v1/exports/tank", { array: "tank" });
  await a.settle("tank");
  const client = await a.connect("tank");
  const bytes = new Uint8Array(64 * KIB).fill(7);
  expect((await client.write(0, bytes)).ok).toBe(true);
  expect((await client.flush()).ok).toBe(true);

  await take();
  expect(await client.write(0, new Uint8Array(4 * KIB))).toMatchObject({ ok: false });
  let fenced: ArrayStatus = await a.must("GET", "/v1/arrays/tank");
  await until("the holder is known", async () => {
    fenced = await a.must("GET", "/v1/arrays/tank");
    return fenced.reason?.includes(KEY) === true;
  });
  expect([fenced.state, fenced.degraded]).toEqual(["fenced", 0]);
  expect(fenced.reason).toContain(`(key ${KEY}, ${INITIATOR})`);
  const events = await a.must("GET", "/v1/events");
  expect(JSON.stringify(events)).toContain(`is held by another host: key ${KEY}, ${INITIATOR}`);
  expect(await a.stop()).toBe(0);

  const b = await Daemon.start(makeTempDir("fence"));
  await b.addDrives(disks("B"));
  const [there] = await b.must("GET", "/v1/arrays");
  expect(there.degraded).toBe(0);
  await b.must("PUT", "/v1/exports/tank", { array: "tank" });
  const over = await b.connect("tank");
  const read = await over.read(4 * KIB, 60 * KIB);
  expect(read).toEqual({ ok: true, value: bytes.subarray(4 * KIB) });
  expect(await b.stop()).toBe(0);
});
