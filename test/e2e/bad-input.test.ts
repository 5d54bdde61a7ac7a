/**
 * Goal: whatever wrong thing is asked for, the answer is a problem that says what to do, and not
 * one byte of any drive has changed.
 *
 * Method: one daemon with drives of many kinds; each request is refused with its status and
 * type; the sums of all drive files are the same before and after.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { type Answer, Attached, Daemon, makeFile, makeFiles, sums } from "../helpers/daemon.ts";
import { writeAndReadBack } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir, takesDirectIo } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const MEMBER_BYTES = 8 * MIB;

let folder = "";
let daemon: Daemon;
let files: string[] = [];

/** drive0 to drive5 are free, drive6 to drive8 make the array "taken". */
beforeAll(async () => {
  if (!CAN_RUN) return;
  folder = makeTempDir("bad");
  daemon = await Daemon.start(folder);
  files = makeFiles(folder, 9, MEMBER_BYTES);
  const drives = await daemon.addDrives(files);
  const small = join(folder, "small.img");
  makeFile(small, 64 * KIB);
  files.push(small);
  await daemon.must("POST", "/v1/drives", { name: "small", path: small });
  const foreign = join(folder, "ext.img");
  makeFile(foreign, MEMBER_BYTES);
  plantExt4(foreign);
  files.push(foreign);
  await daemon.must("POST", "/v1/drives", { name: "ext", path: foreign });
  await daemon.must("POST", "/v1/arrays", { name: "taken", drives: drives.slice(6) });
  await daemon.calmDown("taken");
});

/** The few bytes by which an ext4 file system is known. */
function plantExt4(path: string): void {
  const superblock = new Uint8Array(4096);
  const view = new DataView(superblock.buffer);
  view.setUint16(1024 + 0x38, 0xef53, true);
  view.setUint32(1024 + 0x5c, 0x4, true);
  view.setUint32(1024 + 0x60, 0x2c0, true);
  writeFileSync(path, superblock, { flag: "r+" });
}

function expectProblem(answer: Answer, status: number, type: string, detail: RegExp): void {
  expect(answer.headers.get("content-type")).toBe("application/problem+json");
  expect(answer.body).toMatchObject({
    status,
    type: `urn:parityd:problem:${type}`,
    title: expect.any(String),
    detail: expect.stringMatching(detail),
  });
  expect(answer.status).toBe(status);
}

/** Without what their disks say, which comes by itself. */
async function listDrives(): Promise<object[]> {
  const drives = await daemon.must("GET", "/v1/drives");
  return drives.map(({ smart: _smart, ...drive }: { smart: object }) => drive);
}

/** Asks for something that must be refused without a trace. */
async function expectRefused(
  ask: () => Promise<Answer>,
  wanted: { status: number; type: string; detail: RegExp; pointer?: string },
): Promise<void> {
  const before = sums(files);
  const drives = await listDrives();
  const answer = await ask();
  expectProblem(answer, wanted.status, wanted.type, wanted.detail);
  if (wanted.pointer !== undefined) expect(answer.body.errors[0].pointer).toBe(wanted.pointer);
  expect(sums(files)).toEqual(before);
  expect(await listDrives()).toEqual(drives);
  expect((await daemon.must("GET", "/v1/arrays")).length).toBe(1);
}

const FREE = ["drive0", "drive1", "drive2"];
const VALUES = { status: 422, type: "bad-values" };

const BAD_ARRAYS: [string, object, Parameters<typeof expectRefused>[1]][] = [
  ["no drives", { drives: [] }, { ...VALUES, detail: /3 to 16/, pointer: "#/drives" }],
  ["too few drives", { drives: FREE.slice(1) }, { ...VALUES, detail: /3 to 16/ }],
  [
    "too many drives",
    { drives: Array.from({ length: 17 }, (_, index) => `d${index}`) },
    { ...VALUES, detail: /3 to 16/, pointer: "#/drives" },
  ],
  [
    "a drive listed twice",
    { drives: ["drive0", "drive1", "drive0"] },
    { ...VALUES, detail: /drive0 is named twice/, pointer: "#/drives/2" },
  ],
  [
    "a drive that is a spare as well",
    { drives: FREE, spares: ["drive1"] },
    { ...VALUES, detail: /drive1 is named twice/, pointer: "#/spares/0" },
  ],
  [
    "an unknown drive",
    { drives: ["drive0", "drive1", "nobody"] },
    { status: 404, type: "unknown-drive", detail: /nobody.*POST \/v1\/drives/ },
  ],
  [
    "a drive in use",
    { drives: ["drive0", "drive1", "drive7"] },
    { status: 409, type: "drive-in-use", detail: /drive7 is in use by array taken.*another/ },
  ],
  [
    "a drive in use, with force",
    { drives: ["drive0", "drive1", "drive7"], force: true },
    { status: 409, type: "drive-in-use", detail: /drive7 is in use by array taken/ },
  ],
  [
    "a drive too small",
    { drives: ["drive0", "drive1", "small"] },
    { status: 422, type: "drive-too-small", detail: /small is too small/ },
  ],
  [
    "a spare too small",
    { drives: FREE, spares: ["small"] },
    { status: 422, type: "drive-too-small", detail: /small is/ },
  ],
  [
    "somebody's data without force",
    { drives: ["drive0", "drive1", "ext"] },
    { status: 409, type: "drive-has-data", detail: /ext4.*"force": true/ },
  ],
  [
    "a chunk of no power of two",
    { drives: FREE, chunkKiB: 48 },
    { ...VALUES, detail: /power of two/, pointer: "#/chunkKiB" },
  ],
  ["a chunk too small", { drives: FREE, chunkKiB: 2 }, { ...VALUES, detail: /chunkKiB/ }],
  ["a chunk too large", { drives: FREE, chunkKiB: 2048 }, { ...VALUES, detail: /chunkKiB/ }],
  ["a chunk of a fraction", { drives: FREE, chunkKiB: 64.5 }, { ...VALUES, detail: /chunkKiB/ }],
  ["a chunk as text", { drives: FREE, chunkKiB: "64" }, { ...VALUES, detail: /chunkKiB/ }],
  [
    "a member size beyond the drives",
    { drives: FREE, sizeKiB: 1024 * 1024 },
    { status: 422, type: "bad-size", detail: /between one chunk and/ },
  ],
  [
    "a policy that nobody knows",
    { drives: FREE, consistencyPolicy: "journal" },
    { ...VALUES, detail: /consistencyPolicy/, pointer: "#/consistencyPolicy" },
  ],
  [
    "a word that nobody knows",
    { drives: FREE, chunkKib: 64 },
    { ...VALUES, detail: /no such value/, pointer: "#/chunkKib" },
  ],
  ["a name of two words", { name: "a b", drives: FREE }, { ...VALUES, detail: /1 to 32/ }],
  ["a name too long", { name: "a".repeat(33), drives: FREE }, { ...VALUES, detail: /1 to 32/ }],
  [
    "a name in use",
    { name: "taken", drives: FREE },
    { status: 409, type: "name-in-use", detail: /taken already/ },
  ],
];

describe.skipIf(!CAN_RUN)("with one daemon", () => {
  test.each(BAD_ARRAYS)(
    "array create: %s: refused, nothing written [needs libaio, direct-io]",
    async (_, body, wanted) => {
      const ask = () => daemon.call("POST", "/v1/arrays", { name: "wrong", ...body });
      await expectRefused(ask, wanted);
    },
  );

  const BAD_TEXTS: [string, string, string, Parameters<typeof expectRefused>[1]][] = [
    [
      "bad JSON",
      '{"name": "a",',
      "application/json",
      { status: 400, type: "bad-json", detail: /not JSON/ },
    ],
    [
      "no JSON at all",
      "name=a",
      "text/plain",
      { status: 415, type: "media-type", detail: /Content-Type/ },
    ],
    ["JSON of another shape", "[1, 2]", "application/json", { ...VALUES, detail: /./ }],
    [
      "a body too large",
      `"${"x".repeat(70_000)}"`,
      "application/json",
      { status: 413, type: "too-large", detail: /65536/ },
    ],
    ["no body", "", "application/json", { ...VALUES, detail: /./ }],
  ];

  test.each(BAD_TEXTS)(
    "array create: %s: refused, nothing written [needs libaio, direct-io]",
    async (_, text, mediaType, wanted) => {
      await expectRefused(async () => {
        const response = await fetch("http://parityd/v1/arrays", {
          unix: daemon.apiSocket,
          method: "POST",
          headers: { "Content-Type": mediaType },
          body: text,
        } as BunFetchRequestInit);
        const { status, headers } = response;
        return { status, headers, body: await response.json() };
      }, wanted);
    },
  );

  const BAD_PATHS: [string, () => string, Parameters<typeof expectRefused>[1]][] = [
    [
      "no such path",
      () => join(folder, "nothing"),
      { status: 422, type: "no-such-drive", detail: /nothing/ },
    ],
    [
      "a folder",
      () => folder,
      {
        status: 422,
        type: "not-a-drive",
        detail: /is a folder: a drive is a regular file or a block device/,
      },
    ],
    [
      "a character device",
      () => "/dev/null",
      { status: 422, type: "not-a-drive", detail: /is a character device/ },
    ],
    [
      "a socket",
      () => daemon.apiSocket,
      { status: 422, type: "not-a-drive", detail: /is a socket/ },
    ],
    [
      "a relative path",
      () => "member0.img",
      { ...VALUES, detail: /absolute path/, pointer: "#/path" },
    ],
    [
      "a file of another drive",
      () => files[0]!,
      { status: 409, type: "path-in-use", detail: /as drive drive0/ },
    ],
    [
      "an empty file",
      () => plain("empty", 0),
      { status: 422, type: "drive-too-small", detail: /4 KiB/ },
    ],
    [
      "a link to another drive's file",
      () => link("link", files[1]!),
      { status: 423, type: "drive-in-use", detail: /drive1 already has/ },
    ],
  ];

  test.each(BAD_PATHS)(
    "drive add: %s: refused, nothing written [needs libaio, direct-io]",
    async (_, path, wanted) => {
      const body = { name: "wrong", path: path() };
      await expectRefused(() => daemon.call("POST", "/v1/drives", body), wanted);
    },
  );

  test("drive add: a name in use: refused [needs libaio, direct-io]", async () => {
    const body = { name: "drive0", path: plain("other.img", MEMBER_BYTES) };
    await expectRefused(() => daemon.call("POST", "/v1/drives", body), {
      ...{ status: 409, type: "drive-exists", detail: /choose another name/ },
    });
  });

  test("drive add: a file that another parityd has: busy [needs libaio, direct-io]", async () => {
    const path = makeTempDir("held");
    const held = makeFiles(path, 3, MEMBER_BYTES);
    const other = await Daemon.start(path);
    const drives = await other.addDrives(held);
    await other.must("POST", "/v1/arrays", { name: "h", drives });
    await expectRefused(() => daemon.call("POST", "/v1/drives", { name: "held", path: held[0] }), {
      ...{ status: 423, type: "drive-in-use", detail: /is in use: another program/ },
    });
    await other.stop();
    const { attached, uri } = await Attached.start(held);
    expect(uri).not.toBeNull();
    await expectRefused(() => daemon.call("POST", "/v1/drives", { name: "held", path: held[0] }), {
      ...{ status: 423, type: "drive-in-use", detail: /is in use: another program/ },
    });
    expect(await attached.stop()).toBe(0);
  });

  test.skipIf(toolPath("flock") === undefined)(
    "drive add: a file that another program has locked: busy [needs libaio, direct-io, flock]",
    async () => {
      const path = plain("locked.img", MEMBER_BYTES);
      const holder = Bun.spawn([toolPath("flock")!, path, "sh", "-c", "echo locked; sleep 30"], {
        stdout: "pipe",
      });
      await holder.stdout.getReader().read();
      await expectRefused(() => daemon.call("POST", "/v1/drives", { name: "locked", path }), {
        ...{ status: 423, type: "drive-in-use", detail: /another program holds its lock/ },
      });
      holder.kill();
      await holder.exited;
    },
  );

  test("array: unknown names: 404, each with a way out [needs libaio, direct-io]", async () => {
    const cases: [string, string, object | undefined][] = [
      ["GET", "/v1/arrays/nobody", undefined],
      ["POST", "/v1/arrays/nobody/start", {}],
      ["POST", "/v1/arrays/nobody/members", { drive: "drive0" }],
      ["POST", "/v1/arrays/nobody/scrub", {}],
      ["PUT", "/v1/exports/e", { array: "nobody" }],
      ["GET", "/v1/drives/nobody", undefined],
      ["DELETE", "/v1/drives/nobody", undefined],
      ["POST", "/v1/arrays/taken/members", { drive: "nobody" }],
      ["GET", "/v1/jobs/999999", undefined],
      ["GET", "/v1/nothing", undefined],
    ];
    for (const [method, path, body] of cases) {
      const answer = await daemon.call(method, path, body);
      expect({ method, path, status: answer.status }).toEqual({ method, path, status: 404 });
      expect(answer.headers.get("content-type")).toBe("application/problem+json");
      expect(answer.body.detail.length).toBeGreaterThan(10);
    }
  });

  test("member add: drives that cannot be: refused, nothing written [needs libaio, direct-io]", async () => {
    const add = (drive: string) => () => daemon.call("POST", "/v1/arrays/taken/members", { drive });
    await expectRefused(add("drive7"), {
      ...{ status: 409, type: "drive-in-use", detail: /in use by array taken/ },
    });
    await expectRefused(add("ext"), {
      ...{ status: 409, type: "drive-has-data", detail: /ext4.*force/ },
    });
    await expectRefused(add("small"), {
      ...{ status: 422, type: "drive-too-small", detail: /./ },
    });
  });

  test("array create: somebody's data with force: its drive is taken [needs libaio, direct-io]", async () => {
    const path = plain("old.img", MEMBER_BYTES);
    plantExt4(path);
    await daemon.must("POST", "/v1/drives", { name: "old", path });
    const drives = ["drive3", "drive4", "old"];
    const refused = await daemon.call("POST", "/v1/arrays", { name: "forced", drives });
    expectProblem(refused, 409, "drive-has-data", /ext4/);
    const body = { name: "forced", drives, force: true };
    expect((await daemon.call("POST", "/v1/arrays", body)).status).toBe(201);
    await daemon.must("DELETE", "/v1/arrays/forced?zeroSuperblocks=true");
    await daemon.must("DELETE", "/v1/drives/old");
  });

  test("serve: after all these refusals: stops clean [needs libaio, direct-io]", async () => {
    expect(await daemon.stop()).toBe(0);
  });
});

function plain(name: string, bytes: number): string {
  const path = join(folder, name);
  makeFile(path, bytes);
  return path;
}

function link(name: string, target: string): string {
  const path = join(folder, name);
  symlinkSync(target, path);
  return path;
}

// A file system without O_DIRECT ------------------------------------------------------------------

/** Mounts a memory file system that has no direct I/O; false where this host does not let us. */
function mountRam(path: string): boolean {
  const mount = toolPath("mount");
  return mount !== undefined && Bun.spawnSync([mount, "-t", "ramfs", "none", path]).success;
}

function unmount(path: string): void {
  // Lazily: a daemon of a failed test may still have files open there.
  Bun.spawnSync([toolPath("umount")!, "-l", path]);
}

function canMountWithoutDirectIo(): boolean {
  if (!CAN_RUN || !needs("root")) return false;
  const path = makeTempDir("ram");
  if (!mountRam(path)) return false;
  const isWithout = !takesDirectIo(path);
  unmount(path);
  return isWithout;
}

test.skipIf(!canMountWithoutDirectIo())(
  'drive add: no O_DIRECT there: refused; with "direct": false it works [needs libaio, direct-io, root, ramfs]',
  async () => {
    const ramPath = makeTempDir("ram");
    expect(mountRam(ramPath)).toBe(true);
    try {
      await withoutDirectIo(makeFiles(ramPath, 3, MEMBER_BYTES));
    } finally {
      unmount(ramPath);
    }
  },
);

async function withoutDirectIo(members: readonly string[]): Promise<void> {
  const before = sums(members);
  const other = await Daemon.start(makeTempDir("ramd"));
  const refused = await other.call("POST", "/v1/drives", { name: "d", path: members[0] });
  expectProblem(refused, 422, "no-direct-io", /"direct": false/);
  expect(sums(members)).toEqual(before);
  for (const [index, path] of members.entries()) {
    await other.must("POST", "/v1/drives", { name: `d${index}`, path, direct: false });
  }
  await other.must("POST", "/v1/arrays", { name: "a", drives: ["d0", "d1", "d2"] });
  await other.must("PUT", "/v1/exports/a", { array: "a" });
  await writeAndReadBack(other, "a", 3 * MIB);
  expect(await other.stop()).toBe(0);
  const direct = await Attached.start(members);
  expect(direct.uri).toBeNull();
  expect(direct.attached.stderr).toContain("O_DIRECT");
  const { attached, uri } = await Attached.start(members, ["--no-direct"]);
  expect(uri).not.toBeNull();
  expect(await attached.stop()).toBe(0);
}
