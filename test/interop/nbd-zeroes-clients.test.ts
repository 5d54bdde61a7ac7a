/**
 * Goal: what is empty stays empty: the clients that people use see the holes of an array, copy them
 * as holes, and give space back, through the executable and its helper thread.
 * Method: arrays on files of one daemon; nbdinfo, nbdcopy, qemu-img and Python's libnbd.
 */
import { beforeAll, expect, test } from "bun:test";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, mustRun, runProgram } from "../helpers/daemon.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const HAS_LIBNBD = CAN_RUN && needs("nbdinfo");
const HAS_QEMU = CAN_RUN && needs("qemu-img");
const HAS_PYTHON = CAN_RUN && needs("python3-libnbd");
const CHUNK_KIB = 32;
/** Of three members. */
const STRIPE = 2 * CHUNK_KIB * KIB;

let folder = "";
let daemon: Daemon;
let files: string[] = [];
const sizes = new Map<string, number>();

beforeAll(async () => {
  if (!CAN_RUN) return;
  folder = makeTempDir("nbd-zeroes");
  daemon = await Daemon.start(folder);
  files = makeFiles(folder, 9, 40 * MIB);
  const drives = await daemon.addDrives(files);
  for (const [index, name] of ["empty", "image", "python"].entries()) {
    const members = drives.slice(3 * index, 3 * index + 3);
    const body = { name, drives: members, chunkKiB: CHUNK_KIB };
    sizes.set(name, (await daemon.must("POST", "/v1/arrays", body)).sizeBytes);
    await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
    await daemon.must("PUT", `/v1/exports/${name}-ro`, { array: name, readOnly: true });
    await daemon.settle(name);
  }
});

async function expectSound(name: string): Promise<void> {
  await daemon.settle(name);
  const job = await daemon.must("POST", `/v1/arrays/${name}/scrub?wait=60`, {});
  expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
}

function storedBytes(path: string): number {
  return statSync(path).blocks * 512;
}

test.skipIf(!HAS_LIBNBD)(
  "nbdinfo: a new array: one hole; what can be asked for is said [needs libaio, direct-io, nbdinfo]",
  async () => {
    const nbdinfo = toolPath("nbdinfo")!;
    const map = JSON.parse(await mustRun([nbdinfo, "--map", "--json", daemon.uri("empty")]));
    expect(map).toMatchObject([{ offset: 0, length: sizes.get("empty"), type: 3 }]);
    for (const what of ["trim", "zero", "fast-zero", "fua", "flush", "multi-conn", "cache"]) {
      const words = [nbdinfo, "--can", what];
      expect((await runProgram([...words, daemon.uri("empty")])).exitCode).toBe(0);
      const isForWriting = ["trim", "zero", "fast-zero"].includes(what);
      const { exitCode } = await runProgram([...words, daemon.uri("empty-ro")]);
      expect([what, exitCode]).toEqual([what, isForWriting ? 2 : 0]);
    }
  },
);

test.skipIf(!HAS_LIBNBD)(
  "nbdcopy: an empty array: a sparse copy, and back: nothing is stored [needs libaio, direct-io, nbdinfo]",
  async () => {
    const nbdcopy = toolPath("nbdcopy")!;
    const copy = join(folder, "empty.out");
    await mustRun([nbdcopy, daemon.uri("empty"), copy]);
    expect([statSync(copy).size, storedBytes(copy)]).toEqual([sizes.get("empty")!, 0]);
    const before = files.slice(0, 3).map(storedBytes);
    await mustRun([nbdcopy, copy, daemon.uri("empty")]);
    expect(files.slice(0, 3).map(storedBytes)).toEqual(before);
    await expectSound("empty");
  },
);

test.skipIf(!HAS_QEMU)(
  "qemu-img: convert a sparse image there and back, map, compare: holes stay [needs libaio, direct-io, qemu-img]",
  async () => {
    const qemuImg = toolPath("qemu-img")!;
    const uri = daemon.uri("image");
    const source = join(folder, "image.raw");
    const sizeBytes = sizes.get("image")!;
    const data = new Uint8Array(3 * STRIPE);
    fillRandom(new SeededRandom(4), data);
    writeFileSync(source, "");
    await mustRun(["truncate", "-s", String(sizeBytes), source]);
    const seek = ["conv=notrunc", "bs=64K", "seek=100"];
    writeFileSync(join(folder, "data"), data);
    await mustRun(["dd", `if=${join(folder, "data")}`, `of=${source}`, ...seek]);
    const raw = ["-f", "raw", "-O", "raw"];
    await mustRun([qemuImg, "convert", "-n", ...raw, source, uri]);
    await mustRun([qemuImg, "compare", "-f", "raw", "-F", "raw", source, uri]);
    const map: { start: number; length: number; zero: boolean }[] = JSON.parse(
      await mustRun([qemuImg, "map", "--output=json", "-f", "raw", uri]),
    );
    const used = map.filter(({ zero }) => !zero);
    expect(used).toMatchObject([{ start: 100 * 64 * KIB, length: data.length }]);
    const back = join(folder, "image.back");
    await mustRun([qemuImg, "convert", ...raw, uri, back]);
    await mustRun([qemuImg, "compare", "-f", "raw", "-F", "raw", source, back]);
    expect(storedBytes(back)).toBeLessThan(data.length + 128 * KIB);
    await expectSound("image");
  },
);

test.skipIf(!HAS_PYTHON)(
  "libnbd in Python: trim, zero, fast zero, extents, refusals, space given back [needs libaio, direct-io, python3-libnbd]",
  async () => {
    const uris = [daemon.uri("python"), daemon.uri("python-ro")];
    const words = [SYSTEM_PYTHON, "-c", PYTHON_CLIENT, ...uris, String(STRIPE)];
    const before = files.slice(6).map(storedBytes);
    expect(await mustRun(words)).toBe("all is well\n");
    // 16 MiB were written and trimmed again.
    const after = files.slice(6).map(storedBytes);
    for (const [index, bytes] of after.entries()) {
      expect(bytes - before[index]!).toBeLessThan(3 * MIB);
    }
    await expectSound("python");
    await daemon.must("POST", "/v1/arrays/python/stop", {});
    await daemon.must("POST", "/v1/arrays/python/start", { force: false });
    const map = await mustRun([SYSTEM_PYTHON, "-c", PYTHON_MAP, daemon.uri("python")]);
    expect(map).toBe(`${sizes.get("python")} 0\n`);
  },
);

const PYTHON_MAP = `
import sys
import nbd

h = nbd.NBD()
h.add_meta_context("base:allocation")
h.connect_uri(sys.argv[1])
extents = []
h.block_status(h.get_size(), 0, lambda name, offset, entries, error: extents.extend(entries))
print(*extents)
h.shutdown()
`;

const PYTHON_CLIENT = `
import errno, random, sys
import nbd

stripe = int(sys.argv[3])
size = 0

def connect(uri):
    h = nbd.NBD()
    h.add_meta_context("base:allocation")
    h.connect_uri(uri)
    return h

def error_of(call, *arguments):
    try: call(*arguments)
    except nbd.Error as e: return e.errnum
    return 0

def extents(h, count, offset, flags=0):
    entries = []
    h.block_status(count, offset, lambda n, o, e, error: entries.extend(e), flags)
    return list(zip(entries[::2], entries[1::2]))

random.seed(3)
h = connect(sys.argv[1])
size = h.get_size()
assert h.can_trim() and h.can_zero() and h.can_fast_zero() and h.can_df()
assert extents(h, size, 0) == [(size, 3)]
shadow = bytearray(random.randbytes(16 << 20))
h.pwrite(bytes(shadow), 0)
assert extents(h, size, 0) == [(16 << 20, 0), (size - (16 << 20), 3)]
fua, no_hole, fast = nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO
for _ in range(60):
    length = random.choice([1, 511, 4096, 70001, stripe, 5 * stripe + 17])
    offset = random.randrange(0, len(shadow) - length)
    h.zero(length, offset, random.choice([0, fua, no_hole, no_hole | fua]))
    shadow[offset:offset + length] = bytes(length)
    data = random.randbytes(5000)
    offset = random.randrange(0, len(shadow) - len(data))
    h.pwrite(data, offset)
    shadow[offset:offset + len(data)] = data
assert h.pread(len(shadow), 0) == bytes(shadow)
# What is called zero is zero.
at = 0
for length, state in extents(h, len(shadow), 0):
    if state & 2: assert not any(shadow[at:at + length])
    at += length
assert at == len(shadow)
# A fast zero is for whole stripes; in other cases nothing changes.
h.pwrite(bytes([7]) * (4 * stripe), 0)
assert error_of(h.zero, stripe - 1, 0, fast) == errno.ENOTSUP
assert error_of(h.zero, stripe, 512, fast) == errno.ENOTSUP
assert h.pread(4 * stripe, 0) == bytes([7]) * (4 * stripe)
h.zero(2 * stripe, stripe, fast | fua)
assert h.pread(4 * stripe, 0) == bytes([7]) * stripe + bytes(2 * stripe) + bytes([7]) * stripe
assert extents(h, 4 * stripe, 0) == [(stripe, 0), (2 * stripe, 3), (stripe, 0)]
assert extents(h, 4 * stripe, stripe + 5, nbd.CMD_FLAG_REQ_ONE) == [(2 * stripe - 5, 3)]
# A trim rounds inward.
h.trim(2 * stripe - 2, 1)
assert h.pread(stripe, 0) == bytes([7]) * stripe
h.trim(16 << 20, 0, fua)
assert h.pread(16 << 20, 0) == bytes(16 << 20)
assert extents(h, size, 0) == [(size, 3)]
# The longest there is, beyond what a write may carry.
h.zero(size, 0)
h.flush()
# Refusals: the connection goes on.
h.set_strict_mode(0)
assert error_of(h.zero, 4096, size - 1) == errno.ENOSPC
assert error_of(h.trim, 4096, size - 1) == errno.EINVAL
assert error_of(h.zero, 4096, 0, nbd.CMD_FLAG_REQ_ONE) == errno.EINVAL
assert error_of(h.trim, 4096, 0, fast) == errno.EINVAL
assert error_of(h.block_status, 0, 0, lambda *a: 0) == errno.EINVAL
assert error_of(h.cache, 4096, 0) == 0
r = connect(sys.argv[2])
assert not r.can_trim() and not r.can_zero() and not r.can_fast_zero()
r.set_strict_mode(0)
assert error_of(r.zero, 4096, 0) == errno.EPERM
assert error_of(r.zero, 4096, 0, fast) == errno.EINVAL
assert error_of(r.trim, 4096, 0) == errno.EPERM
assert extents(r, size, 0) == [(size, 3)]
for c in (h, r): c.shutdown()
print("all is well")
`;
