/**
 * Goal: the failure that parityd was written for (SPDK issue 3620) does not happen with the
 * executable: a rebuild whose writes succeed, are cut short, or fail for good is told for what it
 * is, and a backend that claims to have moved more than was asked for stops the daemon, safely.
 *
 * Method: `parityd serve` on files; drive2 is deleted, wiped and added as drive_new, as in the
 * issue; faults are injected below the array. The same story is told to the simulator
 * (test/sim/raid5/issue-3620.test.ts) and to real libaio in process
 * (test/interop/issue-3620.test.ts).
 */
import { expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFile, makeFiles } from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const MEMBER_BYTES = 32 * MIB;
const NAME = "raid_test";
/** With room for the partial parity log of the default policy. */
const DATA_OFFSET = 2 * MIB;

interface Story {
  readonly folder: string;
  readonly daemon: Daemon;
  readonly data: Uint8Array;
  /** The wiped drive's file. */
  readonly file: string;
}

/** The array of the issue, written, with drive2 deleted and wiped, and known as drive_new. */
async function tellIssue(seed: number): Promise<Story> {
  const folder = makeTempDir("issue-3620");
  const files = makeFiles(folder, 3, MEMBER_BYTES);
  const daemon = await Daemon.start(folder, { flags: ["--allow-fault-injection"] });
  const drives = await daemon.addDrives(files);
  await daemon.must("POST", "/v1/arrays", { name: NAME, drives, chunkKiB: 64 });
  await daemon.must("PUT", `/v1/exports/${NAME}`, { array: NAME });
  await daemon.settle(NAME);
  const client = await daemon.connect(NAME);
  const data = randomBytes(seed, 12 * MIB);
  await mustWrite(client, 0, data);
  await daemon.must("DELETE", "/v1/drives/drive2");
  await expectData(client, 0, data);
  await client.disconnect();
  rmSync(files[2]!);
  makeFile(files[2]!, MEMBER_BYTES);
  await daemon.must("POST", "/v1/drives", { name: "drive_new", path: files[2]! });
  return { folder, daemon, data, file: files[2]! };
}

async function expectWhole({ daemon, data }: Story): Promise<void> {
  expect(await daemon.must("GET", `/v1/arrays/${NAME}`)).toMatchObject({ degraded: 0 });
  const client = await daemon.connect(NAME);
  await expectData(client, 0, data);
  await client.disconnect();
  const scrub = await daemon.must("POST", `/v1/arrays/${NAME}/scrub?wait=60`, {});
  expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
}

test.skipIf(!CAN_RUN)(
  "issue 3620: the rebuild onto drive_new, nothing wrong: in sync, nothing tried again [needs libaio, direct-io]",
  async () => {
    const story = await tellIssue(1);
    const members = `/v1/arrays/${NAME}/members?wait=60`;
    const job = await story.daemon.must("POST", members, { drive: "drive_new" });
    expect(job).toMatchObject({ state: "done", error: null, result: { retries: 0 } });
    await expectWhole(story);
    expect(await story.daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "issue 3620: a backend that moves less than was asked: resumed, in sync [needs libaio, direct-io]",
  async () => {
    const story = await tellIssue(2);
    // The first transfer of some chunks; what is resumed begins behind the row of the fault.
    const short = { op: "any", at: "completion", bytes: 4 * KIB, count: 1, resultBytes: 20 * KIB };
    for (const drive of ["drive0", "drive1", "drive_new"]) {
      for (let chunk = 0; chunk < 60; chunk += 7) {
        const offset = DATA_OFFSET + chunk * 64 * KIB;
        await story.daemon.must("POST", "/v1/faults", { drive, ...short, offset });
      }
    }
    const members = `/v1/arrays/${NAME}/members?wait=60`;
    const job = await story.daemon.must("POST", members, { drive: "drive_new" });
    expect(job).toMatchObject({ state: "done", error: null });
    expect(job.result.retries).toBe(27);
    const faults = await story.daemon.must("GET", "/v1/faults");
    for (const { injected } of faults) expect(injected).toBe(1);
    await story.daemon.must("DELETE", "/v1/faults");
    await expectWhole(story);
    expect(await story.daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "issue 3620: the new drive fails for good: the job says why, degraded as before [needs libaio, direct-io]",
  async () => {
    const story = await tellIssue(3);
    const { daemon } = story;
    const fault = { drive: "drive_new", op: "write", at: "completion", errno: "ENXIO" };
    await daemon.must("POST", "/v1/faults", { ...fault, offset: 16 * MIB });
    const members = `/v1/arrays/${NAME}/members?wait=60`;
    const answer = await daemon.call("POST", members, { drive: "drive_new" });
    expect(answer.status).toBe(500);
    expect(answer.body.type).toBe("urn:parityd:problem:job-failed");
    expect(answer.body.detail).toContain("drive_new");
    const array = await daemon.must("GET", `/v1/arrays/${NAME}`);
    expect(array).toMatchObject({ state: "degraded", degraded: 1 });
    const client = await daemon.connect(NAME);
    await expectData(client, 0, story.data);
    await client.disconnect();
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "issue 3620: a backend that claims more than was asked: exit 70, and nothing is lost [needs libaio, direct-io]",
  async () => {
    const story = await tellIssue(4);
    // Clean before it happens: dirty and degraded would need force, and rightly.
    await story.daemon.calmDown(NAME);
    const more = { drive: "drive0", op: "read", at: "completion", resultBytes: 2 * MIB, count: 1 };
    await story.daemon.must("POST", "/v1/faults", more);
    // The daemon ends under this call, so that there may be no answer.
    const add = story.daemon.call("POST", `/v1/arrays/${NAME}/members`, { drive: "drive_new" });
    await add.catch(() => {});
    expect(await story.daemon.child.exited).toBe(70);
    expect(story.daemon.stderr).toContain("the kernel moved no more than was asked for");
    const daemon = await Daemon.start(story.folder);
    await daemon.settle(NAME);
    await expectWhole({ ...story, daemon });
    expect(await daemon.stop()).toBe(0);
  },
);
