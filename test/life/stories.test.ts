/**
 * Goal: what the lives of the daemon have found once is not lost again.
 * Method: each violation as the shortest story that shows it, on the same simulated machine; the
 * seed that found it stands behind its name, although a change of the lives gives it another story.
 */
import { expect, test } from "bun:test";
import { parseUuid } from "../../src/appliance/state/labels.ts";
import type { ArrayStatus, DriveStatus } from "../../src/array/protocol.ts";
import { SeededRandom } from "../../src/base/random.ts";
import type { Superblock } from "../../src/md/superblock.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { type SimArrayOptions, simMembers, withSuperblock } from "../helpers/sim-members.ts";
import { patchImage } from "../sim/world/media.ts";
import { areasOf, superblockOf } from "../sim/world/member-oracle.ts";
import { type ApiAnswer, LifeProcess } from "./life-process.ts";
import { type Disk, DRIVE_BYTES } from "./sim-host.ts";
import { OPENED_MS, Story } from "./story.ts";

const DEGRADED_START_MS = 31_000;

// Kind 1: names ---------------------------------------------------------------------------------

test("a deleted array whose drives stay: not there at the next start, its name is free", () => {
  const story = new Story(6);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 1);
  story.must("DELETE", "/v1/arrays/tank");
  const { uuid } = story.create("tank", "d4 d5 d6");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 2);
  for (const how of ["SIGTERM", "SIGKILL"] as const) {
    story.restart(how);
    expect(story.arrays().map((text) => text.split(" ")[0])).toEqual(["tank"]);
    expect(story.must("GET", "/v1/arrays/tank").uuid).toBe(uuid);
    expect(story.firstByte("x")).toBe(2);
  }
});

test("two arrays of one name, whose state is lost: two labels, each serves its own", () => {
  const story = new Story(6);
  const { uuid: one } = story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: one });
  story.fill("x", 1);
  story.must("DELETE", "/v1/arrays/tank");
  const { uuid: two } = story.create("tank", "d4 d5 d6");
  story.must("PUT", "/v1/exports/y", { array: two });
  story.fill("y", 2);
  story.restart("SIGTERM", () => {
    story.stateFile.trouble = "gone";
  });
  for (const [index, { path }] of story.disks.entries()) {
    story.must("POST", "/v1/drives", { name: `d${index + 1}`, path });
  }
  const names = (story.must("GET", "/v1/arrays") as ArrayStatus[]).map(({ name }) => name);
  expect(new Set(names).size).toBe(2);
  for (const [array, byte] of [
    [one, 1],
    [two, 2],
  ] as const) {
    story.must("PUT", `/v1/exports/e${byte}`, { array });
    expect(story.firstByte(`e${byte}`)).toBe(byte);
  }
});

test("names of mdadm that are none of the API: each can be shown, exported, stopped, started", () => {
  const story = new Story(0);
  const long = "a-name-of-28-characters-long";
  for (const [count, name] of ["nas:my raid", "nas:données", "a/b", long, long].entries()) {
    const setNameBytes = new Uint8Array(32);
    setNameBytes.set(new TextEncoder().encode(name).subarray(0, 32));
    const arrayUuid = parseUuid(`${count + 1}`.repeat(32))!;
    const shape = { memberCount: 3, chunkBytes: 8192, policy: "resync", deviceBytes: DRIVE_BYTES };
    const images = simMembers({ ...shape, fields: { setNameBytes, arrayUuid } } as SimArrayOptions);
    for (const image of images) {
      const disk = story.host.addDisk();
      const superblock = superblockOf(image) as Superblock;
      const deviceUuid = parseUuid(`${disk.number}`.padStart(32, "d"))!;
      disk.content = { ...withSuperblock(image, { ...superblock, deviceUuid }), name: disk.id };
      story.must("POST", "/v1/drives", { name: disk.id, path: disk.path });
    }
  }
  const names = (story.must("GET", "/v1/arrays") as ArrayStatus[]).map(({ name }) => name);
  expect(new Set(names).size).toBe(5);
  for (const name of names) {
    story.must("GET", `/v1/arrays/${name}`);
    story.must("PUT", `/v1/exports/of-${name}`, { array: name });
    expect(story.firstByte(`of-${name}`)).toBe(0);
    story.run(500);
    story.must("POST", `/v1/arrays/${name}/stop`);
    story.must("POST", `/v1/arrays/${name}/start`);
  }
});

test("the last drive of a deleted array joins another by force: it is not there (seed 723481554)", () => {
  const story = new Story(6);
  story.create("tank", "d1 d2 d3");
  story.must("DELETE", "/v1/arrays/tank");
  const { uuid } = story.create("tank", "d4 d5 d6");
  for (const drive of ["d1", "d2", "d3"]) {
    story.must("POST", `/v1/arrays/${uuid}/members`, { drive, force: true });
  }
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("the drives of a deleted array go to another, the last by a replace: it is not there (seed 803085275)", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  story.must("DELETE", "/v1/arrays/tank");
  const { uuid } = story.create("pool", "d1 d2 d4", { force: true });
  story.must("POST", `/v1/arrays/${uuid}/members/d2/replace`, { with: "d3", force: true });
  story.run(60_000);
  expect(story.arrays()).toEqual(["pool clean"]);
});

test("start of a deleted array: it runs, and is answered so (seed 9)", () => {
  const story = new Story(3);
  const { uuid } = story.create("tank", "d1 d2 d3");
  story.must("DELETE", "/v1/arrays/tank");
  expect(story.must("POST", `/v1/arrays/${uuid}/start`, {})).toMatchObject({ state: "clean" });
  expect(story.arrays()).toEqual(["tank clean"]);
  story.restart("SIGKILL");
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("start of a deleted array that another host holds: refused, it stays deleted (seed 252)", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.must("DELETE", "/v1/arrays/tank");
  const fence = (isFenced: boolean) => () => {
    for (const disk of story.disks) disk.isFenced = isFenced;
  };
  story.restart("SIGTERM", fence(true));
  const { status, body } = story.ask("POST", "/v1/arrays/tank/start");
  expect([status, body.detail]).toEqual([409, expect.stringContaining("another host")]);
  story.restart("SIGTERM", fence(false));
  expect(story.arrays()).toEqual([]);
});

test("a create by force while the drives are being opened: gives nothing up (seed 323)", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 5);
  story.process.kill();
  story.restart("SIGKILL", () => {});
  story.process.kill();
  story.process = new LifeProcess({
    ...{ host: story.host, stateFile: story.stateFile, random: new SeededRandom(2) },
    ...{ newUuid: () => parseUuid("f".repeat(32))!, wallAheadMs: 0 },
  });
  const body = { name: "tank", drives: ["d1", "d2", "d3"], force: true };
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(409);
  story.run(OPENED_MS);
  expect(story.firstByte("x")).toBe(5);
});

test("a create by force over a stopped array, a drive hangs: refused, that array is whole (seed 1718)", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 7);
  story.must("POST", "/v1/arrays/tank/stop");
  const hung = story.disks[3]!;
  hung.device!.hang();
  const body = { name: "vault", drives: ["d1", "d2", "d4"], chunkKiB: 8, force: true };
  const refused = story.ask("POST", "/v1/arrays", body);
  expect([refused.status, refused.body.detail]).toEqual([500, expect.stringContaining("drive d4")]);
  hung.device!.release();
  story.must("POST", "/v1/arrays/tank/start");
  expect([story.firstByte("x"), ...story.arrays()]).toEqual([7, "tank clean"]);
});

test("a create by force whose drive cannot be read at the moment: it stays what it was", () => {
  const story = new Story(5);
  story.create("tank", "d1 d2 d3");
  story.must("POST", "/v1/arrays/tank/stop");
  const fault = { kind: "result", result: -5 } as const;
  story.disks[2]!.device!.faults.plan({ op: Op.read, fault, count: 60 });
  const body = { name: "vault", drives: ["d3", "d4", "d5"], chunkKiB: 8 };
  expect(story.ask("POST", "/v1/arrays", { ...body, force: true }).status).toBe(500);
  expect(story.drive("d3").state).toBe("member");
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(409);
  story.disks[2]!.device!.faults.quiet();
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(409);
  story.must("POST", "/v1/arrays/tank/start");
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("a create by force that fails: what it was to take the name of stays (seed 323)", () => {
  const story = new Story(6);
  const { uuid } = story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.restart("SIGTERM", () => {
    for (const disk of story.disks.slice(0, 3)) story.host.pull(disk);
  });
  // Nobody has noticed yet.
  story.host.pull(story.disks[5]!);
  const body = { name: "tank", drives: ["d4", "d5", "d6"], chunkKiB: 8, force: true };
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(500);
  for (let turn = 0; turn < 2; turn += 1) {
    const tank = (story.must("GET", "/v1/arrays") as ArrayStatus[]).find(
      (array) => array.uuid === uuid,
    );
    expect(tank).toMatchObject({ name: "tank", state: "absent" });
    expect(story.must("GET", "/v1/exports")).toMatchObject([{ name: "x", arrayUuid: uuid }]);
    story.restart("SIGKILL");
  }
});

/** Starts one call, and the other at each moment of its way: what both were answered. */
function* overlapped(
  make: () => Story,
  first: readonly [string, string, unknown?],
  second: readonly [string, string, unknown?],
): Generator<{ story: Story; answers: ApiAnswer[] }> {
  const alone = make();
  const beganMs = alone.process.nowMs;
  alone.ask(...first);
  const tookMs = alone.process.nowMs - beganMs;
  // Most of it is the drives'; messages go to and fro at its begin and at its end.
  const moments = Array.from({ length: 40 }, (_, index) => (index % 20) * 0.005);
  for (const [index, offsetMs] of moments.entries()) {
    const afterMs = index < 20 ? offsetMs : Math.max(0, tookMs - offsetMs);
    const story = make();
    const { world } = story.process;
    const calls = [story.process.call(...first)];
    story.run(afterMs);
    calls.push(story.process.call(...second));
    yield { story, answers: calls.map((call) => world.run(call)) };
  }
}

test("an export put while its array is made, which then fails: refused (seed 225)", () => {
  const make = (): Story => {
    const story = new Story(3);
    story.host.pull(story.disks[2]!);
    return story;
  };
  const body = { name: "pool", drives: ["d1", "d2", "d3"], chunkKiB: 8 };
  const put = ["PUT", "/v1/exports/x", { array: "pool" }] as const;
  for (const { story, answers } of overlapped(make, ["POST", "/v1/arrays", body], put)) {
    expect(answers.map(({ status }) => status)).toEqual([500, 404]);
    expect(story.must("GET", "/v1/exports")).toEqual([]);
  }
});

test("an export put after a kill in the middle of a create: refused (seed 6963)", () => {
  const story = new Story(4);
  const hung = story.disks[2]!;
  hung.device!.hang();
  const body = { name: "tank", drives: ["d1", "d2", "d3"], chunkKiB: 8, sizeKiB: 32 };
  void story.process.call("POST", "/v1/arrays", body);
  story.run(1_000);
  hung.manner = "hangs";
  story.restart("SIGKILL");
  const refused = story.ask("PUT", "/v1/exports/x", { array: "tank" });
  expect([refused.status, refused.body.type]).toEqual([409, expect.stringContaining("unfinished")]);
  story.host.letGo(hung);
  story.run(DEGRADED_START_MS);
  expect([story.arrays(), story.must("GET", "/v1/exports")]).toEqual([[], []]);
});

test("an export's removal that is refused, and its array is deleted: no export stays (seed 13345)", () => {
  for (let stepsBetween = 0; stepsBetween < 12; stepsBetween += 1) {
    const story = new Story(3);
    story.create("tank", "d1 d2 d3");
    story.must("PUT", "/v1/exports/x", { array: "tank" });
    story.connect("x");
    const { process } = story;
    const removed = process.call("DELETE", "/v1/exports/x");
    for (let step = 0; step < stepsBetween; step += 1) process.world.simulation.step();
    const deleted = process.call("DELETE", "/v1/arrays/tank?force=true");
    const statuses = process.world.run(Promise.all([removed, deleted])).map(({ status }) => status);
    expect([stepsBetween, ...statuses]).toEqual([stepsBetween, 409, 204]);
    expect([story.arrays(), story.must("GET", "/v1/exports")]).toEqual([[], []]);
  }
});

test("a delete that fails while its name is taken again: no two of one name (seed 1398)", () => {
  const make = (): Story => {
    const story = new Story(6);
    story.create("tank", "d1 d2 d3");
    story.host.pull(story.disks[2]!);
    return story;
  };
  const remove = ["DELETE", "/v1/arrays/tank?zeroSuperblocks=true"] as const;
  const body = { name: "tank", drives: ["d4", "d5", "d6"], chunkKiB: 8, sizeKiB: 32 };
  for (const { story, answers } of overlapped(make, remove, ["POST", "/v1/arrays", body])) {
    expect(answers[0]!.status).toBe(500);
    const names = (story.must("GET", "/v1/arrays") as ArrayStatus[]).map(({ name }) => name);
    expect(names).toEqual([...new Set(names)]);
  }
});

test("two renames to one name while the state is locked: one of them", () => {
  const story = new Story(6);
  const arrays = [story.create("tank", "d1 d2 d3"), story.create("pool", "d4 d5 d6")];
  story.stateFile.trouble = "locked";
  const renames = arrays.map(({ uuid }) =>
    story.process.call("PATCH", `/v1/arrays/${uuid}`, { name: "vault" }),
  );
  story.run(100);
  story.stateFile.trouble = "none";
  const statuses = renames.map((rename) => story.process.world.run(rename).status);
  expect(statuses.sort()).toEqual([200, 409]);
});

// Kind 4: the state file ------------------------------------------------------------------------

for (const trouble of ["full", "read-only"] as const) {
  test(`the state directory is ${trouble}: nothing that must be recorded is done`, () => {
    const story = new Story(6);
    story.create("tank", "d1 d2 d3");
    story.must("PUT", "/v1/exports/x", { array: "tank" });
    story.fill("x", 3);
    story.stateFile.trouble = trouble;
    const before = [
      story.arrays(),
      story.must("GET", "/v1/exports"),
      story.must("GET", "/v1/drives"),
    ];
    const calls: [string, string, unknown?][] = [
      ["POST", "/v1/arrays", { name: "pool", drives: ["d4", "d5", "d6"] }],
      ["PATCH", "/v1/arrays/tank", { name: "other" }],
      ["PUT", "/v1/exports/y", { array: "tank" }],
      ["DELETE", "/v1/exports/x"],
      ["DELETE", "/v1/arrays/tank"],
      ["DELETE", "/v1/drives/d6"],
      ["POST", "/v1/drives", { name: "d7", path: story.host.addDisk().path }],
    ];
    for (const [method, path, body] of calls) {
      expect([method, path, story.ask(method, path, body).status]).toEqual([method, path, 507]);
    }
    const after = [
      story.arrays(),
      story.must("GET", "/v1/exports"),
      story.must("GET", "/v1/drives"),
    ];
    expect(after).toEqual(before);
    expect(story.firstByte("x")).toBe(3);
    story.restart("SIGKILL");
    expect(story.firstByte("x")).toBe(3);
    // With room again the same call is done, and remembered.
    story.stateFile.trouble = "none";
    story.run(5_000);
    const [method, path, body] = calls.at(-1)!;
    story.must(method, path, body);
    story.restart("SIGKILL");
    expect(story.drive("d7").state).toBe("available");
  });

  test(`the state directory is ${trouble}, a member fails: clients are served, after a kill too`, () => {
    const story = new Story(3);
    story.create("tank", "d1 d2 d3");
    story.must("PUT", "/v1/exports/x", { array: "tank" });
    story.stateFile.trouble = trouble;
    story.must("POST", "/v1/arrays/tank/members/d2/fail");
    story.fill("x", 5);
    expect([story.firstByte("x"), ...story.arrays()]).toEqual([5, "tank degraded"]);
    story.restart("SIGKILL");
    expect([story.firstByte("x"), ...story.arrays()]).toEqual([5, "tank degraded"]);
  });
}

// Kind 6: drives that move ----------------------------------------------------------------------

test("a drive hangs as it is added, the state directory is lost meanwhile: it never was added (seed 797891343)", () => {
  const story = new Story(0);
  const [disk, twin] = [story.host.addDisk(), story.host.addDisk()];
  disk.manner = "hangs";
  const add = { name: "d1", path: disk.path };
  const added = story.process.call("POST", "/v1/drives", add);
  story.run(100);
  // Its name and its path are taken until it is known what becomes of it.
  expect(story.ask("POST", "/v1/drives", { ...add, path: twin.path }).status).toBe(423);
  expect(story.ask("POST", "/v1/drives", { ...add, name: "d2" }).status).toBe(409);
  story.stateFile.trouble = "read-only";
  expect(story.process.world.run(added).status).toBe(500);
  story.stateFile.trouble = "none";
  story.restart("SIGKILL", () => {
    disk.manner = "prompt";
  });
  expect(story.must("GET", "/v1/drives")).toEqual([]);
  story.must("POST", "/v1/drives", add);
});

test("disks without a lasting name, another boot: each is found again (seeds 496, 539)", () => {
  for (let turn = 0; turn < 8; turn += 1) {
    const story = new Story(5, { tellsId: false });
    story.create("tank", "d1 d2 d3");
    story.must("PUT", "/v1/exports/x", { array: "tank" });
    story.fill("x", 7);
    story.restart("SIGTERM", () => {
      for (let shuffle = 0; shuffle <= turn; shuffle += 1) story.host.shuffleLetters();
    });
    expect(story.arrays()).toEqual(["tank clean"]);
    expect(story.firstByte("x")).toBe(7);
  }
});

test("a create, and the daemon is killed at once: its drives are its drives (seed 998)", () => {
  for (const tellsId of [true, false]) {
    const story = new Story(3, { tellsId });
    story.create("tank", "d1 d2 d3");
    story.must("DELETE", "/v1/arrays/tank?zeroSuperblocks=true");
    story.run(1_000);
    const body = { name: "tank", drives: ["d1", "d2", "d3"], chunkKiB: 8, sizeKiB: 32 };
    story.must("POST", "/v1/arrays", body);
    story.restart("SIGKILL");
    expect(story.arrays()).toHaveLength(1);
    expect(story.arrays()[0]).not.toContain("absent");
  }
});

test("a disk that comes after the start: the array is whole, or its drive is told to be stale", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  const last = story.disks[2]!;
  story.restart("SIGTERM", () => story.host.pull(last));
  expect(story.arrays()).toEqual(["tank inactive"]);
  story.host.plug(last);
  story.run(5_000);
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("the last but one disk comes after the wait: started without the last, after another wait", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  const [, two, three] = story.disks as [Disk, Disk, Disk];
  story.restart("SIGTERM", () => {
    story.host.pull(two);
    story.host.pull(three);
  });
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["tank inactive"]);
  story.host.plug(two);
  story.run(10_000);
  expect(story.arrays()).toEqual(["tank inactive"]);
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["tank degraded"]);
});

test("a disk that missed a boot, and is there at the next: what the bitmap knows is rebuilt", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3", { consistencyPolicy: "bitmap" });
  const last = story.disks[2]!;
  story.restart("SIGTERM", () => story.host.pull(last));
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["tank degraded"]);
  story.restart("SIGTERM", () => story.host.plug(last));
  story.run(10_000);
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("three disks of one array hang at the start: the array beside it is served at once", () => {
  const story = new Story(6);
  story.create("dead", "d1 d2 d3");
  story.create("tank", "d4 d5 d6");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 6);
  const hung = story.disks.slice(0, 3);
  story.restart("SIGTERM", () => {
    for (const disk of hung) disk.manner = "hangs";
  });
  expect(story.arrays()).toContain("tank clean");
  expect(story.firstByte("x")).toBe(6);
  for (const disk of hung) story.host.letGo(disk);
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["dead clean", "tank clean"]);
});

test("a renamed file: told of, taken when it is named", () => {
  const story = new Story(4, { areFiles: true });
  story.create("tank", "d1 d2 d3");
  const file = story.disks[2]!;
  story.restart("SIGTERM", () => {
    file.path = `${file.path}.dead`;
  });
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["tank degraded"]);
  const { state, detail } = story.drive("d3");
  expect(state).toBe("missing");
  const [, name, path] = /parityd drive add (\S+) (\S+)$/.exec(detail ?? "") ?? [];
  expect([name, path]).toEqual(["d3", file.path]);
  const refused = story.ask("POST", "/v1/drives", { name, path: story.disks[3]!.path });
  expect([refused.status, story.drive("d3").state]).toEqual([409, "missing"]);
  story.must("POST", "/v1/drives", { name, path });
  story.run(1_000);
  expect([story.drive("d3").path, ...story.arrays()]).toEqual([file.path, "tank clean"]);
  story.restart("SIGTERM");
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("a file that appears under another name after the start: taken", () => {
  const story = new Story(3, { areFiles: true });
  story.create("tank", "d1 d2 d3");
  const file = story.disks[2]!;
  story.restart("SIGTERM", () => story.host.pull(file));
  story.run(DEGRADED_START_MS);
  expect(story.arrays()).toEqual(["tank degraded"]);
  file.path = `${file.path}.back`;
  story.host.plug(file);
  story.run(10_000);
  expect(story.drive("d3")).toMatchObject({ path: file.path, state: "member" });
  expect(story.arrays()).toEqual(["tank clean"]);
});

test("two files that have each other's name: each drive is at the other path", () => {
  const story = new Story(3, { areFiles: true });
  story.create("tank", "d1 d2 d3");
  const [one, two] = story.disks as [Disk, Disk, Disk];
  const paths = [one.path, two.path] as const;
  story.restart("SIGTERM", () => {
    [two.path, one.path] = paths;
  });
  story.run(10_000);
  expect([story.drive("d1").path, story.drive("d2").path]).toEqual([paths[1], paths[0]]);
  expect(story.arrays()).toEqual(["tank clean"]);
});

// Kind 9: under clients ---------------------------------------------------------------------------

test("stop, delete and zero with a client: refused, and nothing has changed", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  const client = story.connect("x");
  for (const [method, path] of [
    ["POST", "/v1/arrays/tank/stop"],
    ["DELETE", "/v1/arrays/tank"],
    ["DELETE", "/v1/arrays/tank?zeroSuperblocks=true"],
    ["DELETE", "/v1/exports/x"],
  ] as const) {
    expect([path, story.ask(method, path).status]).toEqual([path, 409]);
    expect(story.process.world.run(client.read(0, 512)).status).toBe(0);
  }
  story.restart("SIGKILL");
  expect(story.arrays()[0]).toStartWith("tank");
  expect(story.firstByte("x")).toBe(0);
});

// Kind 10: truth ----------------------------------------------------------------------------------

test("an array that was known and is gone: listed, and status says so", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.restart("SIGTERM", () => {
    for (const disk of story.disks) story.host.pull(disk);
  });
  expect(story.arrays()).toEqual(["tank absent"]);
  expect(story.process.cli("status").stdout).toContain("array: tank   state: absent");
  // By the name that the operator knows, and with what it lacks.
  for (const call of ["start", "scrub"]) {
    const { status, body } = story.ask("POST", `/v1/arrays/tank/${call}`, {});
    expect([status, body.detail]).toEqual([404, expect.stringContaining("array tank is absent")]);
  }
  expect(story.process.cli("array start tank").stderr).toContain("array tank is absent");
  expect(story.process.cli("status --check").exitCode).toBe(2);
});

test("superblocks wiped while it is off: told, and made again over the drives the data are there", () => {
  const story = new Story(3);
  const { sizeBytes } = story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  story.fill("x", 7);
  story.restart("SIGTERM", () => {
    for (const disk of story.disks) {
      disk.content = patchImage(story.host.imageOf(disk), 0x1000, new Uint8Array(0x3000));
    }
  });
  expect(story.arrays()).toEqual(["tank absent"]);
  expect(story.process.cli("status --check").exitCode).toBe(2);
  const again = story.create("tank", "d1 d2 d3", { assumeClean: true, force: true });
  expect(again.sizeBytes).toBe(sizeBytes);
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  expect(story.firstByte("x")).toBe(7);
  const scrub = story.must("POST", "/v1/arrays/tank/scrub?wait=60&strict=true");
  expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
  expect(story.process.cli("status --check").exitCode).toBe(0);
});

test("mismatches that a scrub found: a strict one fails, status and a restart remember them", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  const [disk] = story.disks;
  story.restart("SIGTERM", () => {
    const data = areasOf(story.host.imageOf(disk!)).find(({ name }) => name === "data")!;
    const bytes = new Uint8Array(512).fill(0x5a);
    disk!.content = patchImage(story.host.imageOf(disk!), data.offset, bytes);
  });
  const failed = story.ask("POST", "/v1/arrays/tank/scrub?wait=60&strict=true");
  expect([failed.status, JSON.stringify(failed.body)]).toEqual([
    409,
    expect.stringMatching(/4096/),
  ]);
  for (const how of ["SIGTERM", "SIGKILL"] as const) {
    const { mismatchBytes, lastScrub } = story.must("GET", "/v1/arrays/tank") as ArrayStatus;
    expect([how, mismatchBytes, lastScrub !== null]).toEqual([how, 4096, true]);
    expect(story.process.cli("status --check").exitCode).toBe(1);
    story.restart(how);
  }
  story.must("POST", "/v1/arrays/tank/scrub?wait=60", { mode: "repair" });
  expect(story.process.cli("status --check").exitCode).toBe(0);
});

test("a stale drive in the place of its successor: shown as stale, not in the seat", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3", { consistencyPolicy: "resync" });
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  const [, second, stale] = story.disks;
  story.host.pull(stale!);
  story.fill("x", 1);
  story.fill("x", 2);
  story.restart("SIGTERM", () => {
    story.host.plug(stale!);
    story.host.pull(second!);
  });
  story.run(DEGRADED_START_MS);
  const [array] = story.must("GET", "/v1/arrays") as ArrayStatus[];
  const seats = array!.members.map(({ drive, state }) => `${drive} ${state}`);
  expect(seats).not.toContain("d3 in-sync");
  const drives = story.must("GET", "/v1/drives") as DriveStatus[];
  expect(drives.find(({ name }) => name === "d3")!.state).toBe("stale");
});

// Nothing takes it down ---------------------------------------------------------------------------

test("an array none of whose drives answers: listed, and nothing ends (seed 635)", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  const [first, second, third] = story.disks;
  story.restart("SIGTERM", () => {
    story.host.pull(first!);
    story.host.pull(second!);
  });
  third!.device!.hang();
  const starting = story.process.call("POST", "/v1/arrays/tank/start", {});
  story.run(2_000);
  expect(story.arrays()).toEqual(["tank inactive"]);
  story.host.letGo(third!);
  story.process.world.run(starting);
});

test("SIGTERM of a fenced array of which a drive hangs: no wait for that (seed 11179)", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  const client = story.connect("x");
  story.disks[2]!.device!.hang();
  void client.write(0, new Uint8Array(16 * 1024).fill(1));
  story.run(100);
  for (const disk of story.disks) disk.isFenced = true;
  void client.read(0, 512);
  story.run(100);
  expect(story.arrays()).toEqual(["tank fenced"]);
  const startMs = story.process.nowMs;
  expect(story.process.stop()).toBe(true);
  expect(story.process.nowMs - startMs).toBeLessThan(5_000);
});

test("SIGTERM while a drive hangs: its write deadline, and the array is clean (seed 64)", () => {
  const story = new Story(3);
  story.create("tank", "d1 d2 d3");
  story.must("PUT", "/v1/exports/x", { array: "tank" });
  const client = story.connect("x");
  const { world } = story.process;
  expect(world.run(client.write(0, new Uint8Array(4096).fill(9)))).toBe(0);
  expect(world.run(client.flush())).toBe(0);
  story.disks[1]!.device!.hang();
  expect(story.process.stop()).toBe(true);
  expect(story.process.nowMs).toBeLessThan(240_000);
  story.host.pull(story.disks[1]!);
  story.restart("SIGKILL");
  story.run(DEGRADED_START_MS);
  expect(story.firstByte("x")).toBe(9);
});

test("a failed array whose drive is back: a start is refused with the way out, which works", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  story.must("POST", "/v1/arrays/tank/members/d1/fail");
  const removed = story.process.cli("drive remove d2 --force").stdout;
  const wayOut = "parityd array stop tank --force && parityd array start tank";
  expect(removed).toContain(`parityd drive add d2 PATH; ${wayOut}`);
  const { stdout } = story.process.cli(`drive add d2 ${story.disks[1]!.path}`);
  expect(stdout).toContain("array tank has failed without it");
  expect(stdout).toContain(wayOut);
  const refused = story.process.cli("array start tank");
  expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining(wayOut)]);
  expect(story.process.cli("array start tank --dry-run").exitCode).toBe(1);
  story.must("POST", "/v1/arrays/tank/stop", { force: true });
  story.must("POST", "/v1/arrays/tank/start", {});
  expect(story.arrays()).toEqual(["tank degraded"]);
  story.restart("SIGTERM");
  const stale = story.process.cli("drive show d1").stdout;
  expect(stale).toContain("to have it rebuilt: parityd member add tank d1");
});

test("a member that a spare has replaced: its array is whole without it, and what it says of it works", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  story.must("POST", "/v1/arrays/tank/members/d1/fail");
  story.must("POST", "/v1/arrays/tank/members", { drive: "d4" });
  story.run(60_000);
  story.restart("SIGTERM");
  expect(story.arrays()).toEqual(["tank clean"]);
  const shown = story.process.cli("drive show d1").stdout;
  expect(shown).toContain("the array is whole without it");
  const asSpare = /as a spare: parityd (.*--force)/.exec(shown)![1]!;
  expect(story.process.cli(asSpare).exitCode).toBe(0);
  expect(story.must("GET", "/v1/arrays/tank")).toMatchObject({ spares: ["d1"] });
});
