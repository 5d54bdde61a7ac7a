/**
 * Goal: nobody's data is taken for an empty drive, and an empty drive for nobody's data. Method: the
 * real open on files that the tools themselves wrote, on single bytes everywhere in sparse and
 * written files, and on what only looks full.
 */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { closeAll, identifyDrive, openDrive } from "../../../src/appliance/helper/linux-drive.ts";
import { GIB, KIB, MIB } from "../../../src/base/units.ts";
import { toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const folder = makeTempDir("content");
const DATA = "data that is not zero";

const pathOf = (name: string) => join(folder, name);

function contentOf(path: string, direct = true): { signature: string | null; readsZeros: boolean } {
  const known = identifyDrive(path, []);
  if (!known.ok) throw new Error(known.error.detail);
  const request = { name: "drive", path, direct, readOnly: true };
  const opened = openDrive(request, known.value.identities);
  if (!opened.ok) throw new Error(opened.error.detail);
  closeAll([opened.value.drive.fd, ...opened.value.lockFds]);
  const { signature, readsZeros } = opened.value.drive;
  return { signature, readsZeros };
}

function makeSparse(name: string, sizeBytes: number): string {
  const path = pathOf(name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

/** At least a row, as every drive is. */
function pad(path: string): string {
  if (statSync(path).size < 8 * KIB) truncateSync(path, 8 * KIB);
  return path;
}

function byTool(name: string, words: (path: string) => readonly string[], sizeBytes = 0): string {
  const path = pathOf(name);
  if (sizeBytes > 0) makeSparse(name, sizeBytes);
  const [program, ...rest] = words(path);
  const { success, stderr } = Bun.spawnSync([toolPath(program!)!, ...rest], { cwd: folder });
  if (!success) throw new Error(`${program}: ${stderr}`);
  return pad(path);
}

function makeDatabase(): string {
  const path = pathOf("app.sqlite");
  const database = new Database(path);
  database.run("create table t (x)");
  database.run("insert into t values (zeroblob(1000000))");
  database.close();
  return path;
}

function makeText(name: string, content: string | Uint8Array): string {
  writeFileSync(pathOf(name), content);
  return pad(pathOf(name));
}

const image = (format: string) => (path: string) =>
  ["qemu-img", "create", "-q", "-f", format, path, "8M"] as const;

/** A fixed VHD is the disk, then 512 bytes of footer: its start is the guest's. */
const fixedVhd = (path: string) =>
  ["qemu-img", "create", "-q", "-f", "vpc", "-o", "subformat=fixed", path, "8M"] as const;

interface Maker {
  readonly what: string;
  /** The program it takes; absent: none. */
  readonly tool?: string;
  readonly make: () => string;
  readonly expected: string;
}

const MAKERS: readonly Maker[] = [
  { what: "bun:sqlite", make: makeDatabase, expected: "an SQLite database" },
  {
    what: "the program that runs this",
    make: () => {
      copyFileSync(process.execPath, pathOf("program"));
      return pathOf("program");
    },
    expected: "an ELF program or library",
  },
  {
    what: "gzip",
    make: () => makeText("x.gz", gzipSync("text")),
    expected: "gzip compressed data",
  },
  {
    what: "zstd",
    make: () => makeText("x.zst", zstdCompressSync("text")),
    expected: "zstd compressed data",
  },
  { what: "zlib, without a magic", make: () => makeText("x.z", deflateSync("t")), expected: DATA },
  { what: "a text", make: () => makeText("notes.txt", "bread\nmilk\n"), expected: DATA },
  {
    what: "tar",
    tool: "tar",
    make: () => byTool("x.tar", (path) => ["tar", "-cf", path, "/etc/hostname"]),
    expected: "a tar archive",
  },
  {
    what: "xz",
    tool: "xz",
    make: () => makeText("x.xz", Bun.spawnSync(["xz", "-c", "/etc/hostname"]).stdout),
    expected: "xz compressed data",
  },
  {
    what: "bzip2",
    tool: "bzip2",
    make: () => makeText("x.bz2", Bun.spawnSync(["bzip2", "-c", "/etc/hostname"]).stdout),
    expected: "bzip2 compressed data",
  },
  {
    what: "zip",
    tool: "zip",
    make: () => byTool("x.zip", (path) => ["zip", "-q", path, "/etc/hostname"]),
    expected: "a ZIP archive",
  },
  ...(
    [
      ["qcow2", image("qcow2"), "a qcow disk image"],
      ["qcow", image("qcow"), "a qcow disk image"],
      ["vmdk", image("vmdk"), "a VMDK disk image"],
      ["vdi", image("vdi"), "a VDI disk image"],
      ["vhdx", image("vhdx"), "a VHDX disk image"],
      ["vpc", image("vpc"), "a VHD disk image"],
      ["vpc-fixed", fixedVhd, "a VHD disk image"],
      ["qed", image("qed"), "a QED disk image"],
      ["parallels", image("parallels"), "a Parallels disk image"],
    ] as const
  ).map(([name, words, expected]) => ({
    what: `qemu-img ${name}`,
    tool: "qemu-img",
    make: () => byTool(`disk.${name}`, words),
    expected,
  })),
  ...(
    [
      ["mkfs.ext4", ["-q"], "an ext4 file system"],
      ["mkfs.xfs", ["-q"], "an XFS file system"],
      ["mkfs.btrfs", ["-q"], "a btrfs file system"],
      ["mkfs.f2fs", ["-q"], "an F2FS file system"],
      ["mkfs.vfat", [], "a FAT file system"],
      ["mkfs.ntfs", ["-q", "-F"], "an NTFS file system"],
      ["mkswap", [], "swap space"],
    ] as const
  ).map(([tool, flags, expected]) => ({
    what: tool,
    tool,
    make: () => byTool(tool, (path) => [tool, ...flags, path], 320 * MIB),
    expected,
  })),
];

/** Without its program there is nothing to look at; the table's own test has its magic. */
const POSSIBLE = MAKERS.filter(({ tool }) => tool === undefined || toolPath(tool) !== undefined);

for (const { what, make, expected } of POSSIBLE) {
  test(`content: made by ${what}: ${expected}`, () => {
    const path = make();
    expect(contentOf(path)).toEqual({ signature: expected, readsZeros: false });
    expect(contentOf(path, false).signature).toBe(expected);
  });
}

test("content: holes, space that is only allocated, zeros that were written: empty", () => {
  const sparse = makeSparse("sparse", 64 * MIB);
  expect(contentOf(sparse)).toEqual({ signature: null, readsZeros: true });
  const huge = makeSparse("huge", 8 * 1024 * GIB);
  expect(contentOf(huge)).toEqual({ signature: null, readsZeros: true });
  const allocated = makeSparse("allocated", 64 * MIB);
  expect(Bun.spawnSync(["fallocate", "-l", "64M", allocated]).success).toBe(true);
  expect(contentOf(allocated).signature).toBe(null);
  const written = makeText("written", new Uint8Array(20 * MIB));
  expect(contentOf(written)).toEqual({ signature: null, readsZeros: false });
});

test("content: one byte anywhere in a written file of 8 MiB: somebody's data", () => {
  const path = makeText("one-byte", new Uint8Array(8 * MIB));
  const fd = openSync(path, "r+");
  for (let offset = 0; offset < 8 * MIB; offset += 509 * KIB + 13) {
    writeSync(fd, new Uint8Array([1]), 0, 1, offset);
    expect(contentOf(path).signature).toBe(DATA);
    writeSync(fd, new Uint8Array([0]), 0, 1, offset);
  }
  writeSync(fd, new Uint8Array([1]), 0, 1, 8 * MIB - 1);
  expect(contentOf(path).signature).toBe(DATA);
  closeSync(fd);
});

test("content: one stored byte anywhere in a sparse file of 1 TiB: somebody's data", () => {
  for (const offset of [0, 5, 17 * MIB, 3 * GIB + 77, 700 * GIB + 4095, 1024 * GIB - 1]) {
    const path = makeSparse("byte-in-holes", 1024 * GIB);
    const fd = openSync(path, "r+");
    writeSync(fd, new Uint8Array([1]), 0, 1, offset);
    closeSync(fd);
    expect(contentOf(path)).toEqual({ signature: DATA, readsZeros: false });
  }
});

test("content: sizes that are no whole rows: the last byte counts", () => {
  for (const bytes of [4097, 8191, MIB - 1, MIB + 1, MIB + 4095, 3 * MIB + 511]) {
    const path = makeText("odd", new Uint8Array(bytes));
    expect(contentOf(path).signature).toBe(null);
    const fd = openSync(path, "r+");
    writeSync(fd, new Uint8Array([1]), 0, 1, bytes - 1);
    expect(contentOf(path).signature).toBe(DATA);
    ftruncateSync(fd, bytes - 1);
    expect(contentOf(path).signature).toBe(null);
    closeSync(fd);
  }
});

test("content: looked at: nothing is written, and no time of change moves", () => {
  const path = makeText("untouched", "bread");
  const before = [readFileSync(path), statSync(path).mtimeMs, statSync(path).ctimeMs];
  contentOf(path);
  expect([readFileSync(path), statSync(path).mtimeMs, statSync(path).ctimeMs]).toEqual(before);
});
