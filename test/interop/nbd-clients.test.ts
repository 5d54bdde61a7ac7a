/**
 * Goal: the NBD clients that people use work against the executable, on a whole and on a degraded
 * array: nbdinfo, nbdcopy, qemu-img, qemu-io, fio and Python's libnbd.
 *
 * Method: one daemon with one array in each of the two states. Each client writes in its own way,
 * and what it wrote is read back by another one, or verified by itself.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFile, makeFiles, mustRun, runProgram, sha256 } from "../helpers/daemon.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const MEMBER_BYTES = 20 * MIB;
const NO_MISMATCH = { state: "done", result: { mismatchBytes: 0 } };

let folder = "";
let daemon: Daemon;
const sizes = new Map<string, number>();

beforeAll(async () => {
  if (!CAN_RUN) return;
  folder = makeTempDir("nbd");
  daemon = await Daemon.start(folder);
  const drives = await daemon.addDrives(makeFiles(folder, 7, MEMBER_BYTES));
  const arrays = { whole: drives.slice(0, 4), degraded: drives.slice(4) };
  for (const [name, members] of Object.entries(arrays)) {
    const body = { name, drives: members, chunkKiB: 32 };
    sizes.set(name, (await daemon.must("POST", "/v1/arrays", body)).sizeBytes);
    await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
    await daemon.must("PUT", `/v1/exports/${name}-ro`, { array: name, readOnly: true });
    await daemon.settle(name);
  }
  await daemon.must("POST", "/v1/arrays/degraded/members/drive5/fail", {});
});

/** The state that each array is to be tested in has not changed, and its parity fits. */
async function expectSound(name: string): Promise<void> {
  const status = await daemon.settle(name);
  expect(status.degraded).toBe(name === "whole" ? 0 : 1);
  if (name !== "whole") return;
  expect(await daemon.must("POST", "/v1/arrays/whole/scrub?wait=60", {})).toMatchObject(
    NO_MISMATCH,
  );
}

function randomFile(name: string, seed: number, bytes: number): string {
  const path = join(folder, name);
  const data = new Uint8Array(bytes);
  fillRandom(new SeededRandom(seed), data);
  writeFileSync(path, data);
  return path;
}

const HAS_LIBNBD = CAN_RUN && needs("nbdinfo");
const HAS_QEMU = CAN_RUN && needs("qemu-img");
const HAS_FIO = CAN_RUN && needs("fio");
const HAS_PYTHON = CAN_RUN && needs("python3-libnbd");

describe.each(["whole", "degraded"])("%s array", (name) => {
  test.skipIf(!HAS_LIBNBD)(
    "nbdinfo: size, flags, block sizes, list [needs libaio, direct-io, nbdinfo]",
    async () => {
      const nbdinfo = toolPath("nbdinfo")!;
      const info = JSON.parse(await mustRun([nbdinfo, "--json", daemon.uri(name)]));
      expect(info.exports[0]).toMatchObject({
        "export-size": sizes.get(name),
        is_read_only: false,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
      });
      expect(await mustRun([nbdinfo, "--size", daemon.uri(name)])).toBe(`${sizes.get(name)}\n`);
      const listed = JSON.parse(await mustRun([nbdinfo, "--list", "--json", daemon.uri("")]));
      const names = listed.exports.map((entry: Record<string, string>) => entry["export-name"]);
      expect(names.toSorted()).toEqual(["degraded", "degraded-ro", "whole", "whole-ro"]);
      expect(await mustRun([nbdinfo, "--is", "read-only", daemon.uri(`${name}-ro`)])).toBe("");
      const unknown = await runProgram([nbdinfo, daemon.uri("nobody")]);
      expect(unknown.exitCode).not.toBe(0);
      expect(unknown.stderr).toContain("No such file or directory for export: nobody");
    },
  );

  test.skipIf(!HAS_LIBNBD)(
    "nbdcopy: in and out over several connections: the same sum [needs libaio, direct-io, nbdinfo]",
    async () => {
      const nbdcopy = toolPath("nbdcopy")!;
      const source = randomFile(`${name}.in`, 1, sizes.get(name)!);
      for (const flags of [
        ["--connections=4", "--flush"],
        ["--connections=1", "--synchronous"],
      ]) {
        await mustRun([nbdcopy, ...flags, source, daemon.uri(name)]);
        const target = join(folder, `${name}.out`);
        makeFile(target, sizes.get(name)!);
        await mustRun([nbdcopy, ...flags, daemon.uri(name), target]);
        expect(sha256(target)).toBe(sha256(source));
        await mustRun(["rm", target]);
      }
      await expectSound(name);
    },
  );

  test.skipIf(!HAS_QEMU)(
    "qemu-img: convert there and back, compare, info [needs libaio, direct-io, qemu-img]",
    async () => {
      const qemuImg = toolPath("qemu-img")!;
      const source = randomFile(`${name}.raw`, 2, sizes.get(name)!);
      const uri = daemon.uri(name);
      const info = JSON.parse(await mustRun([qemuImg, "info", "--output=json", uri]));
      expect(info).toMatchObject({ format: "raw", "virtual-size": sizes.get(name) });
      const raw = ["-f", "raw", "-O", "raw"];
      await mustRun([qemuImg, "convert", "-n", "-W", "-m", "8", ...raw, source, uri]);
      const compare = [qemuImg, "compare", "-f", "raw", "-F", "raw"];
      expect(await mustRun([...compare, source, uri])).toContain("identical");
      const back = join(folder, `${name}.back`);
      await mustRun([qemuImg, "convert", "-W", "-m", "8", ...raw, uri, back]);
      expect(sha256(back)).toBe(sha256(source));
      await expectSound(name);
    },
  );

  test.skipIf(!HAS_QEMU)(
    "qemu-io: patterns, zeroes, discard, FUA, unaligned edges [needs libaio, direct-io, qemu-img]",
    async () => {
      const commands = [
        ...["write -P 0xa5 0 1M", "write -P 0x5a 65024 66048", "write -f -P 0x11 3M 4096"],
        ...["flush", "write -z 512k 100k", "discard 2M 1M", "write -P 0x77 5000k 512"],
        ...["read -P 0xa5 0 65024", "read -P 0x5a 65024 66048", "read -P 0xa5 131072 393216"],
        ...["read -P 0 512k 100k", "read -P 0xa5 612k 412k", "read -P 0x11 3M 4096"],
        "read -P 0x77 5000k 512",
      ];
      const words = commands.flatMap((command) => ["-c", command]);
      const output = await mustRun([toolPath("qemu-io")!, "-f", "raw", ...words, daemon.uri(name)]);
      expect(output).not.toContain("failed");
      expect(output.match(/^read \d+/gm)).toHaveLength(7);
      await expectSound(name);
    },
  );

  test.skipIf(!HAS_QEMU)(
    "qemu-img bench: writes with flushes, reads, 32 at a time: the pattern [needs libaio, direct-io, qemu-img]",
    async () => {
      const bench = [toolPath("qemu-img")!, "bench", "-f", "raw", "-c", "500", "-d", "32"];
      const uri = daemon.uri(name);
      const writes = ["-w", "-s", "16384", "--pattern=0x5c", "--flush-interval=50"];
      await mustRun([...bench, ...writes, uri]);
      // Odd steps, so that requests cross chunks.
      await mustRun([...bench, ...writes, "-o", "8M", "-S", "12288", uri]);
      await mustRun([...bench, "-s", "65536", "-S", "20480", uri]);
      const ranges = [`read -P 0x5c 0 ${500 * 16}k`, `read -P 0x5c 8M ${499 * 12 + 16}k`];
      const words = ranges.flatMap((command) => ["-c", command]);
      const output = await mustRun([toolPath("qemu-io")!, "-f", "raw", ...words, uri]);
      expect(output).not.toContain("failed");
      expect(output.match(/^read \d+/gm)).toHaveLength(2);
      await expectSound(name);
    },
  );

  test.skipIf(!HAS_FIO)(
    "fio: random writes verified, four jobs at once [needs libaio, direct-io, fio]",
    async () => {
      const random = ["--rw=randwrite", "--bsrange=512-128k", "--blockalign=512", "--iodepth=16"];
      expect(await fioErrors(name, [...random, "--size=16M"])).toEqual([0]);
      const apart = ["--rw=randrw", "--bs=4k", "--iodepth=8", "--numjobs=4", "--size=4M"];
      expect(await fioErrors(name, [...apart, "--offset_increment=4M"])).toEqual([0, 0, 0, 0]);
      await expectSound(name);
    },
  );

  test.skipIf(!HAS_PYTHON)(
    "libnbd in Python: unaligned, FUA, flush over connections, read-only [needs libaio, direct-io, python3-libnbd]",
    async () => {
      const words = [
        SYSTEM_PYTHON,
        "-c",
        PYTHON_CLIENT,
        daemon.uri(name),
        daemon.uri(`${name}-ro`),
      ];
      expect(await mustRun(words)).toBe("all is well\n");
      await expectSound(name);
    },
  );
});

test.skipIf(!HAS_PYTHON)(
  "libnbd in Python: negotiation by hand, chunks on and off, extents, trims [needs libaio, direct-io, python3-libnbd]",
  async () => {
    const words = [SYSTEM_PYTHON, "-c", PYTHON_NEGOTIATOR, daemon.nbdSocket];
    expect(await mustRun(words)).toBe("all is well\n");
    await expectSound("whole");
  },
);

test.skipIf(!CAN_RUN)(
  "serve: after all these clients: no connection is left, stops clean [needs libaio, direct-io]",
  async () => {
    const exports: { connections: number }[] = await daemon.must("GET", "/v1/exports");
    expect(exports.map(({ connections }) => connections)).toEqual([0, 0, 0, 0]);
    expect(await daemon.stop()).toBe(0);
  },
);

/** Runs fio, which reads back and verifies what it wrote; answers with the error of each job. */
async function fioErrors(name: string, words: readonly string[]): Promise<number[]> {
  const output = join(folder, "fio.json");
  await mustRun(
    [
      ...[toolPath("fio")!, "--name=j", "--ioengine=nbd", `--uri=${daemon.uri(name)}`, "--thread"],
      ...[
        "--verify=crc32c",
        "--verify_state_save=0",
        "--verify_fatal=1",
        "--do_verify=1",
        "--output-format=json",
      ],
      ...[`--output=${output}`, ...words],
    ],
    { cwd: folder },
  );
  const text = await Bun.file(output).text();
  // Warnings may come first.
  const report: { jobs: { error: number; read: { total_ios: number } }[] } = JSON.parse(
    text.slice(text.indexOf("\n{")),
  );
  for (const job of report.jobs) expect(job.read.total_ios).toBeGreaterThan(0);
  return report.jobs.map(({ error }) => error);
}

const PYTHON_CLIENT = `
import errno, random, sys
import nbd

def connect(uri):
    h = nbd.NBD()
    h.connect_uri(uri)
    return h

def error_of(call, *arguments):
    try: call(*arguments)
    except nbd.Error as e: return e.errnum
    return 0

random.seed(7)
a, b = connect(sys.argv[1]), connect(sys.argv[1])
size = a.get_size()
assert a.can_flush() and a.can_fua() and a.can_multi_conn() and not a.is_read_only()
shadow = bytearray(a.pread(4 << 20, 0))
for _ in range(300):
    length = random.choice([1, 7, 511, 512, 513, 4095, 4096, 4097, 70001])
    offset = random.randrange(0, len(shadow) - length)
    data = random.randbytes(length)
    flags = nbd.CMD_FLAG_FUA if random.random() < 0.3 else 0
    random.choice([a, b]).pwrite(data, offset, flags)
    shadow[offset:offset + length] = data
    if random.random() < 0.1:
        # What one connection has acknowledged, the flush of the other one covers.
        random.choice([a, b]).flush()
    length = random.randrange(1, 100000)
    offset = random.randrange(0, len(shadow) - length)
    got = random.choice([a, b]).pread(length, offset)
    assert got == shadow[offset:offset + length], (offset, length)
# The very end of the array.
a.pwrite(b"end", size - 3, nbd.CMD_FLAG_FUA)
assert b.pread(3, size - 3) == b"end"
assert a.pread(4 << 20, 0) == bytes(shadow)
# Many at once on one connection.
buffers = [nbd.Buffer.from_bytearray(bytearray(random.randbytes(8192))) for _ in range(64)]
cookies = [a.aio_pwrite(x, (5 << 20) + 8192 * i) for i, x in enumerate(buffers)]
for cookie in cookies:
    while not a.aio_command_completed(cookie): a.poll(-1)
for i, x in enumerate(buffers): assert b.pread(8192, (5 << 20) + 8192 * i) == x.to_bytearray()
# Refusals: the connection goes on.
a.set_strict_mode(0)
assert error_of(a.pread, 512, size) in (errno.EINVAL, errno.ENOSPC)
assert error_of(a.pwrite, b"x" * 512, size - 256) in (errno.EINVAL, errno.ENOSPC)
assert a.pread(3, size - 3) == b"end"
r = connect(sys.argv[2])
assert r.is_read_only()
r.set_strict_mode(0)
assert error_of(r.pwrite, b"x" * 512, 0) == errno.EPERM
assert r.pread(4 << 20, 0) == bytes(shadow)
for h in (a, b, r): h.shutdown()
print("all is well")
`;

const PYTHON_NEGOTIATOR = `
import errno, sys
import nbd

def haggling(flags=3, structured=True):
    h = nbd.NBD()
    h.set_opt_mode(True)
    h.set_handshake_flags(flags)
    h.set_request_structured_replies(structured)
    h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.connect_unix(sys.argv[1])
    return h

def error_of(call, *arguments):
    try: call(*arguments)
    except nbd.Error as e: return e.errnum
    return 0

h = haggling()
names = []
assert h.opt_list(lambda name, description: names.append(name)) == 4
assert sorted(names) == ["degraded", "degraded-ro", "whole", "whole-ro"], names
contexts = []
h.set_export_name("whole")
h.opt_list_meta_context(contexts.append)
assert contexts == ["base:allocation"], contexts
h.set_export_name("nobody")
assert error_of(h.opt_info) != 0
assert error_of(h.opt_go) != 0
h.set_export_name("whole-ro")
h.opt_info()
assert h.is_read_only() and h.can_meta_context("base:allocation")
h.set_export_name("whole")
h.opt_info()
size = h.get_size()
assert not h.is_read_only()
low, best, high = (h.get_block_size(k) for k in
    (nbd.SIZE_MINIMUM, nbd.SIZE_PREFERRED, nbd.SIZE_MAXIMUM))
assert low == 1 and best & (best - 1) == 0 and high == 16 << 20, (low, best, high)
h.opt_go()
assert h.get_size() == size and h.get_structured_replies_negotiated()
assert h.can_df() and h.can_trim() and h.can_zero() and h.can_fast_zero() and h.can_cache()

# Chunks: a whole read in one of them, also where fragments are not allowed.
chunks = []
def on_chunk(data, offset, status, error): chunks.append((offset, bytes(data), status))
h.pwrite(b"abc" * 1000, 4001, nbd.CMD_FLAG_FUA)
got = h.pread_structured(3000, 4001, on_chunk, nbd.CMD_FLAG_DF)
assert got == b"abc" * 1000 and chunks == [(4001, b"abc" * 1000, nbd.READ_DATA)]

# A trim of stripes shows, what is written shows again, and one extent is one.
stripe = 3 * 32 << 10
h.pwrite(bytes([7]) * (4 * stripe), 0)
h.trim(2 * stripe, stripe)
seen = []
h.block_status(4 * stripe, 0, lambda context, offset, entries, error: seen.append(entries))
assert seen == [[stripe, 0, 2 * stripe, 3, stripe, 0]], seen
seen.clear()
h.block_status(stripe + 5, stripe - 5, lambda c, o, e, error: seen.append(e), nbd.CMD_FLAG_REQ_ONE)
assert seen == [[5, 0]], seen
assert h.pread(4 * stripe, 0) == bytes([7]) * stripe + bytes(2 * stripe) + bytes([7]) * stripe
h.zero(stripe, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_FUA)
assert error_of(h.zero, 100, 0, nbd.CMD_FLAG_FAST_ZERO) == errno.ENOTSUP
h.zero(100, 3 * stripe + 1, nbd.CMD_FLAG_NO_HOLE)
assert h.pread(102, 3 * stripe) == b"\\x07" + bytes(100) + b"\\x07"
h.cache(stripe, 0)
h.flush()
h.shutdown()

# The flags of old clients, and no chunks.
for flags in (0, 1, 2, 3):
    old = haggling(flags, structured=False)
    if not old.aio_is_negotiating():
        # Without fixed newstyle it is EXPORT_NAME, which opened the only way it can.
        continue
    old.set_export_name("whole")
    old.opt_go()
    assert not old.get_structured_replies_negotiated() and not old.can_df()
    assert old.pread(4, 3 * stripe + 101) == bytes([7]) * 4
    old.shutdown()
h = haggling()
h.opt_abort()
assert h.aio_is_closed()
print("all is well")
`;
