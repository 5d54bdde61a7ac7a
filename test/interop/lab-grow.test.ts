/**
 * Goal: an array that parityd has grown is one of that size for Linux, with parity that is right;
 * and one that Linux grows is taken over, also in the middle of the resync of its new part.
 *
 * Method: one boot of the kernel lab, everything by sha256. Arrays of each policy are made smaller
 * than their drives and filled, and grown under writes by parityd; Linux assembles them, mdadm says
 * their size, a check finds nothing, and what Linux writes then parityd reads back. Linux grows
 * arrays of its own (it refuses that with a partial parity log) and is stopped in their resync;
 * parityd reads the same of them, goes on to the end, and finds parity right. A day takes one of
 * these arrays; five days in a row take all.
 */
import { expect, test } from "bun:test";
import { KIB } from "../../src/base/units.ts";
import { decodeSuperblock } from "../../src/md/superblock.ts";
import { ArrayImages, expectAccepted, once, writeNoise } from "../helpers/array-images.ts";
import { Daemon } from "../helpers/daemon.ts";
import { POLICY_WORDS } from "../helpers/foreign-arrays.ts";
import { type ResizeTask, runMd } from "../helpers/md-lab.ts";
import { sumOf } from "../helpers/nbd-sum.ts";
import { needs } from "../helpers/needs.ts";
import { POLICIES } from "../helpers/policies.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const NEEDS = "[needs lab, libaio, direct-io]";
const MEMBERS = 3;
const OLD_KIB = 1024;
const CHUNK_KIB = 16;

const images = new ArrayImages();
const ALL = [
  ...POLICIES.map((policy) => ({ policy, by: "parityd", percent: 100 }) as const),
  ...(["resync", "bitmap"] as const).map(
    (policy) => ({ policy, by: "Linux", percent: 50 }) as const,
  ),
];
const TODAY = new Share("grown arrays", ALL.length).of(ALL);
const OWN = TODAY.filter(({ by }) => by === "parityd");
const FOREIGN = TODAY.filter(({ by }) => by === "Linux");

function shareTest(name: string, body: () => Promise<void>): void {
  test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

interface Own {
  readonly name: string;
  readonly uuid: string;
  readonly sum: string;
  readonly memberKib: number;
}

async function makeOwn(daemon: Daemon, consistencyPolicy: string): Promise<Own> {
  const name = `own-${consistencyPolicy}`;
  const paths = images.paths(images.make(name, MEMBERS));
  const drives = paths.map((_, index) => `${name}-${index}`);
  for (const [index, path] of paths.entries()) {
    await daemon.must("POST", "/v1/drives", { name: drives[index], path });
  }
  const size = { sizeKiB: OLD_KIB, chunkKiB: CHUNK_KIB };
  await daemon.must("POST", "/v1/arrays", { name, drives, consistencyPolicy, ...size });
  await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
  const before = await daemon.connect(name);
  await writeNoise(before, { seed: 1, count: 40 });
  await daemon.must("PATCH", `/v1/arrays/${name}`, { sizeKiB: "max" });
  await writeNoise(before, { seed: 2, count: 10 });
  const { sizeBytes, uuid } = await daemon.settle(name);
  const client = await daemon.connect(name);
  expect(client.sizeBytes).toBe(sizeBytes);
  await writeNoise(client, { seed: 3, count: 40 });
  const sum = await sumOf(client);
  return { name, uuid, sum, memberKib: sizeBytes / (MEMBERS - 1) / KIB };
}

const madeByParityd = once(async () => {
  const daemon = await Daemon.start(makeTempDir("grow"));
  const own: Own[] = [];
  for (const { policy } of OWN) own.push(await makeOwn(daemon, policy));
  expect(await daemon.stop()).toBe(0);
  return own;
});

const bootOfLinux = once(async () => {
  const own = await madeByParityd();
  const resize = FOREIGN.map(({ policy, percent }): ResizeTask => {
    const name = `linux-${policy}`;
    const words = ["--level=5", `--chunk=${CHUNK_KIB}`, ...POLICY_WORDS[policy]];
    return { name, files: images.make(name, MEMBERS), words, oldKib: OLD_KIB, percent };
  });
  return runMd(images.folder, { assemble: own.map(({ name }) => images.task(name)), resize });
});

for (const [index, { policy }] of OWN.entries()) {
  shareTest(`grown by parityd: ${policy}: Linux takes it as it is, and back ${NEEDS}`, async () => {
    const { name, uuid, sum, memberKib } = (await madeByParityd())[index]!;
    const report = (await bootOfLinux()).assembled[name]!;
    expect([report.degradedBefore, report.isDirty]).toEqual([0, false]);
    expect(memberKib).toBeGreaterThan(2 * OLD_KIB);
    for (const text of report.examined) {
      expect(text).toContain(`Array UUID : ${uuid}`);
      expect(text).toContain(`Array Size : ${memberKib * (MEMBERS - 1)} KiB`);
      expect(text).toMatch(/State : clean/);
    }
    expect(report.detail).toMatch(new RegExp(`Used Dev Size : ${memberKib}\\b`));
    expectAccepted(report, { name, memberCount: MEMBERS, policy, sum });
    expect(await images.readOnlySum(name, images.files.get(name)!)).toBe(report.sumWritten);
  });
}

for (const { policy, percent } of FOREIGN) {
  shareTest(
    `grown by Linux: ${policy}, stopped at ${percent} % of the new part: parityd goes on ${NEEDS}`,
    async () => {
      const name = `linux-${policy}`;
      const { sum } = (await bootOfLinux()).resized[name]!;
      const [first] = images.pathsOf(name);
      const block = new Uint8Array(await Bun.file(first!).slice(4096, 8192).arrayBuffer());
      const superblock = decodeSuperblock(block, { deviceBytes: Bun.file(first!).size });
      if (!superblock.ok) throw new Error(superblock.error.detail);
      const { resyncOffsetSectors, sizeSectors } = superblock.value;
      expect(resyncOffsetSectors).toBeGreaterThan(OLD_KIB * 2);
      expect(resyncOffsetSectors).toBeLessThan(sizeSectors);
      expect(await images.readOnlySum(name, images.files.get(name)!)).toBe(sum);
      const daemon = await Daemon.start(makeTempDir("grow"));
      for (const [index, path] of images.pathsOf(name).entries()) {
        await daemon.must("POST", "/v1/drives", { name: `drive${index}`, path });
      }
      const [{ name: label }] = await daemon.must("GET", "/v1/arrays");
      await daemon.must("PUT", "/v1/exports/e", { array: label });
      expect(await sumOf(await daemon.connect("e"))).toBe(sum);
      expect(await daemon.settle(label)).toMatchObject({ degraded: 0 });
      const path = `/v1/arrays/${label}/scrub?wait=60`;
      const scrub = await daemon.must("POST", path, { mode: "check" });
      expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
      expect(await sumOf(await daemon.connect("e"))).toBe(sum);
      expect(await daemon.stop()).toBe(0);
    },
  );
}
