/**
 * Goal: a scan adds the members that nobody has, under names that last, and leaves everything else
 * alone with its reason. Method: the judge is a function of what was found; each row of its table.
 */
import { expect, test } from "bun:test";
import { judgeScan, type ScanScene } from "../../../src/appliance/drives/scan-judge.ts";
import type { FoundDevice, LookResult } from "../../../src/appliance/helper/drive-opener.ts";

const NOTHING_KNOWN: ScanScene = {
  driveByUuid: new Map(),
  missing: new Map(),
  labels: new Map(),
  deleted: new Set(),
  running: new Map(),
  takenNames: new Set(),
};

function member(deviceUuid: string, more: Partial<NonNullable<FoundDevice["member"]>> = {}) {
  const facts = { arrayUuid: "array-1", level: 5, role: 0, events: 7, setName: "old-host:tank" };
  return { ...facts, deviceUuid, ...more };
}

function device(path: string, more: Partial<FoundDevice> = {}): FoundDevice {
  const identity = { byId: null, wwn: null, serial: null, model: null };
  return { ...identity, path, sizeBytes: 4096, member: null, unusable: null, ...more };
}

function judge(look: Partial<LookResult>, scene: Partial<ScanScene> = {}) {
  const result = { found: [], taken: [], unanswered: [], unreadable: [], isCut: false, ...look };
  return judgeScan(result, { ...NOTHING_KNOWN, ...scene });
}

const reasonOf = (found: FoundDevice, scene: Partial<ScanScene> = {}) => {
  const [entry] = judge({ found: [found] }, scene);
  return entry === undefined ? undefined : entry.reason;
};

test("scan: a member that nobody has: to be added, with what its superblock says", () => {
  const found = device("/dev/sdb", {
    member: member("d1"),
    byId: "/dev/disk/by-id/wwn-0x5",
    wwn: "naa.5",
    serial: "WD-WX12",
    model: "WDC",
  });
  expect(judge({ found: [found] })).toEqual([
    {
      path: "/dev/sdb",
      byId: "/dev/disk/by-id/wwn-0x5",
      wwn: "naa.5",
      serial: "WD-WX12",
      model: "WDC",
      sizeBytes: 4096,
      outcome: "would-be-added",
      drive: "WD-WX12",
      array: "tank",
      arrayUuid: "array-1",
      role: 0,
      eventCount: 7,
      state: null,
      reason: null,
    },
  ]);
  const labels = new Map([["array-1", "pool"]]);
  expect(judge({ found: [found] }, { labels })[0]!.array).toBe("pool");
  for (const [role, told] of [
    [2, 2],
    [0xffff, "spare"],
    [0xfffe, "faulty"],
    [0xfffd, "faulty"],
  ] as const) {
    const roled = device("/dev/sdb", { member: member("d1", { role }) });
    expect(judge({ found: [roled] })[0]!.role).toBe(told);
  }
});

test("scan: what is left alone: each with its reason", () => {
  const sdb = "/dev/sdb";
  const ours = device(sdb, { member: member("d1") });
  expect(reasonOf(device(sdb))).toBe("it carries no md superblock");
  expect(reasonOf(device("/srv/film.mkv"))).toBeUndefined();
  expect(reasonOf(device("/srv/x", { unusable: "it is torn." }))).toContain("it is torn.");
  const level1 = device(sdb, { member: member("d1", { level: 1 }) });
  expect(reasonOf(level1)).toContain("of level 1");
  const deleted = { deleted: new Set(["array-1"]), labels: new Map([["array-1", "old"]]) };
  expect(reasonOf(ours, deleted)).toContain("of array old, which was deleted here");
  const driveByUuid = new Map([["d1", "one"]]);
  expect(reasonOf(ours, { driveByUuid })).toContain("device UUID of drive one: a copy");
  const missing = new Map([["one", "it is another disk"]]);
  expect(reasonOf(ours, { driveByUuid, missing })).toContain("missing: it is another disk");
  expect(judge({ found: [ours] }, { driveByUuid })[0]!.drive).toBe("one");
  const nbd = device("/dev/nbd0", { member: member("d1") });
  expect(reasonOf(nbd)).toContain("network block device");
});

test("scan: a member of an array that runs here: taken where its role is free, else a former one", () => {
  const labels = new Map([["array-1", "tank"]]);
  const scene = (roles: readonly number[]): Partial<ScanScene> => {
    const holders = new Map(roles.map((role) => [role, `drive-${role}`]));
    const array = { eventCount: 7, holders, isWhole: roles.length === 3 };
    return { labels, running: new Map([["array-1", array]]) };
  };
  const reasonAt = (roles: readonly number[], role: number, events = 7): string | null =>
    reasonOf(device("/dev/sdb", { member: member("d1", { role, events }) }), scene(roles)) ?? null;
  const former = "former member of array tank, in which drive drive-1 has its role: not taken";
  expect(reasonAt([0, 1, 2], 1)).toBe(former);
  expect(reasonAt([0, 1], 1, 3)).toBe(former);
  // The array's own count may be one step behind.
  expect(reasonAt([0, 1], 1, 8)).toBe(former);
  expect(reasonAt([0, 1], 1, 9)).toStartWith("it was written to apart from array tank, in which");
  expect(reasonAt([0, 2], 1, 3)).toBeNull();
  expect(reasonAt([0, 1, 2], 0xfffe)).toBe("former member of array tank: not taken");
  expect(reasonAt([0, 1], 0xfffe)).toBeNull();
  expect(reasonAt([0, 1, 2], 0xffff)).toBeNull();
});

test("scan: what others have, and what did not answer: named, and not touched", () => {
  const entries = judge({
    taken: [
      { path: "/dev/sdc", sizeBytes: 1, claim: "mounted at /", drive: null },
      { path: "/dev/sda", sizeBytes: 1, claim: "open in parityd", drive: "one" },
    ],
    unanswered: ["/dev/sdb"],
  });
  expect(entries.map(({ path, outcome, drive }) => [path, outcome, drive])).toEqual([
    ["/dev/sda", "left", "one"],
    ["/dev/sdb", "left", null],
    ["/dev/sdc", "left", null],
  ]);
  expect(entries.map(({ reason }) => reason)).toEqual([
    "open here as drive one",
    expect.stringContaining("did not answer"),
    "in use: mounted at /",
  ]);
});

test("scan: copies: none of them is taken; two ways to one disk: the first is", () => {
  const copies = ["/dev/sda", "/dev/sdb"].map((path) => device(path, { member: member("d1") }));
  expect(judge({ found: copies }).map(({ outcome }) => outcome)).toEqual(["left", "left"]);
  const others = copies.map((copy, index) => ({ ...copy, wwn: `naa.${index}` }));
  expect(judge({ found: others }).map(({ outcome }) => outcome)).toEqual(["left", "left"]);
  const ways = copies.map((copy) => ({ ...copy, wwn: "naa.5" }));
  expect(judge({ found: ways }).map(({ outcome, reason }) => [outcome, reason])).toEqual([
    ["would-be-added", null],
    ["left", "another way to /dev/sda"],
  ]);
});

test("scan: names: of the serial, else of the path; usable, free and short enough", () => {
  const named = (path: string, serial: string | null, taken: readonly string[] = []) => {
    const found = [device(path, { serial, member: member("d1") })];
    return judge({ found }, { takenNames: new Set(taken) })[0]!.drive;
  };
  expect(named("/dev/sda1", "S/N 12 34-part1")).toBe("S-N-12-34-part1");
  expect(named("/srv/member 0.img", null)).toBe("member-0.img");
  expect(named("/srv/..", "  ")).toBe("drive");
  expect(named("/dev/sda", "A", ["A", "A-2"])).toBe("A-3");
  expect(named("/dev/sda", "x".repeat(80), ["x".repeat(64)])).toBe(`${"x".repeat(62)}-2`);
  const twins = [0, 1].map((index) =>
    device(`/srv/${index}/a.img`, { member: member(`d${index}`) }),
  );
  expect(judge({ found: twins }).map(({ drive }) => drive)).toEqual(["a.img", "a.img-2"]);
});
