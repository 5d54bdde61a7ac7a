/**
 * Goal: every array that may be made works: 3 to 16 members, chunks of 4 KiB to 1 MiB, drives of
 * different sizes, of which the smallest counts.
 *
 * Method: each shape is created over sparse files, written, checked, and read without one member.
 */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFile, makeFiles } from "../helpers/daemon.ts";
import { writeAndReadBack } from "../helpers/nbd-data.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const MEMBER_BYTES = 8 * MIB;

/** Of the largest stripe: 16 chunks of 1 MiB. */
const MEMORY_MIB = "81";
const CHUNKS_KIB = [4, 8, 16, 32, 64, 128, 256, 512, 1024];
const SHAPES = Array.from({ length: 14 }, (_, index) => ({
  members: index + 3,
  chunkKiB: CHUNKS_KIB[index % CHUNKS_KIB.length]!,
}));
SHAPES.push({ members: 3, chunkKiB: 1024 }, { members: 16, chunkKiB: 4 });
SHAPES.push({ members: 16, chunkKiB: 1024 });

test.skipIf(!CAN_RUN)(
  "array create: 3 to 16 members, chunks of 4 KiB to 1 MiB: data, loss, check [needs libaio, direct-io]",
  async () => {
    const own = makeTempDir("shape");
    const many = await Daemon.start(own, { flags: ["--memory-mib", MEMORY_MIB] });
    const paths = makeFiles(own, 16, MEMBER_BYTES);
    const drives = await many.addDrives(paths);
    for (const { members, chunkKiB } of SHAPES) {
      const name = `a${members}-${chunkKiB}`;
      const body = { name, drives: drives.slice(0, members), chunkKiB };
      const created = await many.must("POST", "/v1/arrays", body);
      expect(created).toMatchObject({ chunkBytes: chunkKiB * KIB, degraded: 0 });
      expect(created.sizeBytes % ((members - 1) * chunkKiB * KIB)).toBe(0);
      await many.must("PUT", `/v1/exports/${name}`, { array: name });
      await writeAndReadBack(many, name, 2 * MIB + 4608);
      await many.settle(name);
      const scrub = await many.must("POST", `/v1/arrays/${name}/scrub?wait=60`, {});
      expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
      await many.must("POST", `/v1/arrays/${name}/members/drive1/fail`, {});
      await writeAndReadBack(many, name, 2 * MIB);
      await many.must("DELETE", `/v1/exports/${name}`);
      await many.must("DELETE", `/v1/arrays/${name}?zeroSuperblocks=true`);
    }
    expect(await many.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "array create: drives of different sizes: the smallest counts [needs libaio, direct-io]",
  async () => {
    const own = makeTempDir("sizes");
    const other = await Daemon.start(own);
    const sizes = [8, 12, 40, 8, 8].map((mebibytes) => mebibytes * MIB);
    for (const [index, bytes] of sizes.entries()) {
      const path = join(own, `d${index}`);
      makeFile(path, bytes);
      await other.must("POST", "/v1/drives", { name: `d${index}`, path });
    }
    const mixed = { name: "mixed", drives: ["d0", "d1", "d2"] };
    const { sizeBytes } = await other.must("POST", "/v1/arrays", mixed);
    await other.must("DELETE", "/v1/arrays/mixed?zeroSuperblocks=true");
    const alike = { name: "alike", drives: ["d0", "d3", "d4"] };
    expect((await other.must("POST", "/v1/arrays", alike)).sizeBytes).toBe(sizeBytes);
    expect(sizeBytes).toBeGreaterThanOrEqual(2 * 6 * MIB);
    expect(await other.stop()).toBe(0);
  },
);
