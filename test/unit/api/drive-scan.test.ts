/**
 * Goal: members that nobody has named come to be drives by one call, disks that several drives of
 * an array share are told of, and nothing is touched by a dry run.
 * Method: the real services and verbs on simulated drives.
 */
import { expect, test } from "bun:test";
import { sharedDisks } from "../../../src/appliance/drives/shared-disks.ts";
import type { DriveStatus } from "../../../src/array/protocol.ts";
import { driveTable } from "../../../src/cli/drive-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { diskAt, hostWithDisks, TEST_ARRAY, testUuid } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

async function body(answer: Promise<Response>) {
  // biome-ignore lint/suspicious/noExplicitAny: the body is whatever the API answers.
  return (await (await answer).json()) as any;
}

/** The drives of an array of another installation: this one knows nothing of them. */
async function takenOver(): Promise<SimAppliance> {
  const before = await startSimAppliance();
  await addTestArray(before);
  await body(before.call("POST", "/v1/arrays/raid_test/stop"));
  return startSimAppliance({ host: before.host });
}

test("scan: a dry run says what there is, and adds nothing", async () => {
  const { call, store } = await takenOver();
  const scan = await body(call("POST", "/v1/drives/scan", { dryRun: true }));
  expect(scan).toMatchObject({ dryRun: true, isCut: false });
  expect(scan.found).toHaveLength(4);
  expect(scan.found[0]).toMatchObject({
    path: "/dev/a",
    outcome: "would-be-added",
    drive: "a",
    array: TEST_ARRAY,
    arrayUuid: testUuid(TEST_ARRAY),
    role: 0,
    state: null,
  });
  expect(scan.found[3]).toMatchObject({ outcome: "left", reason: "it carries no md superblock" });
  expect(store.state.drives.size).toBe(0);
  expect(await body(call("GET", "/v1/arrays"))).toEqual([]);
});

test("scan: the members are added, and their array runs; again: they are open here", async () => {
  const daemon = await takenOver();
  const { call } = daemon;
  const scan = await runCli("drive scan", { daemon });
  expect(scan.exitCode).toBe(0);
  const lines = scan.stdout.split("\n");
  expect(lines[1]).toMatch(/^\/dev\/a +3\.0 MiB +raid_test +0 +added as a, member$/);
  expect(lines.at(-1)).toBe("3 members were added");
  expect(await body(call("GET", "/v1/arrays/raid_test"))).toMatchObject({ state: "clean" });
  const again = await body(call("POST", "/v1/drives/scan", {}));
  expect(again.found.map(({ reason }: { reason: string }) => reason)).toEqual([
    ...["a", "b", "c"].map((name) => `open here as drive ${name}`),
    "it carries no md superblock",
  ]);
  const told = await runCli("drive scan --dry-run", { daemon });
  expect(told.stdout.split("\n").at(-1)).toBe("0 members would be added");
  expect(JSON.parse((await runCli("drive scan --json", { daemon })).stdout).dryRun).toBe(false);
});

test("scan: one that cannot be opened, one that is a copy: left, and the others come", async () => {
  const daemon = await takenOver();
  diskAt(daemon.host, "/dev/b").manner = "EIO";
  daemon.host.clone(diskAt(daemon.host, "/dev/c")).path = "/dev/x";
  const dry = await body(daemon.call("POST", "/v1/drives/scan?dryRun=true", {}));
  const { found } = await body(daemon.call("POST", "/v1/drives/scan", {}));
  const reasons = (scan: { found: { reason: string }[] }) => scan.found.map(({ reason }) => reason);
  expect(reasons(dry)).toEqual(reasons({ found }));
  expect(dry.found.map(({ outcome }: { outcome: string }) => outcome)).toEqual([
    ...["would-be-added", "left", "left", "left", "left"],
  ]);
  expect(found.map(({ outcome }: { outcome: string }) => outcome)).toEqual([
    ...["added", "left", "left", "left", "left"],
  ]);
  expect(found[1].reason).toContain("EIO");
  expect(found[2].reason).toContain("one of them is a copy");
});

test("scan: a deleted array: its members are left alone", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await daemon.call("DELETE", "/v1/arrays/raid_test");
  for (const drive of ["a", "b", "c", "d"]) await daemon.call("DELETE", `/v1/drives/${drive}`);
  const { found } = await body(daemon.call("POST", "/v1/drives/scan", {}));
  expect(found[0]).toMatchObject({ outcome: "left", drive: null });
  expect(found[0].reason).toContain("deleted here");
  expect(daemon.store.state.drives.size).toBe(0);
});

test("scan: a member that was replaced: a former one, not taken; its array lacks nothing", async () => {
  const daemon = await startSimAppliance();
  const { call } = daemon;
  await addTestArray(daemon);
  const job = await body(call("POST", "/v1/arrays/raid_test/members/b/replace", { with: "d" }));
  daemon.reactor.world.waitJob(job.id);
  expect((await call("DELETE", "/v1/drives/b")).status).toBe(204);
  for (const line of ["drive scan --dry-run", "drive scan"]) {
    const { stdout } = await runCli(line, { daemon });
    expect([line, stdout]).toEqual([
      line,
      expect.stringMatching(/\/dev\/b .* former member of array raid_test, .*: not taken/),
    ]);
  }
  expect(daemon.store.state.drives.has("b")).toBe(false);
  expect((await runCli("status --check", { daemon })).exitCode).toBe(0);
});

test("scan: a member that was away: taken where its role is free", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  expect((await daemon.call("DELETE", "/v1/drives/b?force=true")).status).toBeLessThan(300);
  const { found } = await body(daemon.call("POST", "/v1/drives/scan", {}));
  const entry = found.find(({ path }: { path: string }) => path === "/dev/b");
  expect(entry).toMatchObject({ outcome: "added", drive: "b" });
});

test("scan: files of a folder: those that carry a superblock, and no other", async () => {
  const host = hostWithDisks([]);
  const [fileSystem] = host.fileSystems;
  for (let count = 0; count < 4; count += 1) host.addDisk({ fileSystem });
  const before = await startSimAppliance({ host });
  const paths = [...host.disks.values()].map(({ path }) => path);
  for (const [index, path] of paths.entries()) {
    await before.call("POST", "/v1/drives", { name: `d${index}`, path });
  }
  const drives = ["d0", "d1", "d2"];
  const made = { name: "files", drives, assumeClean: true, force: true };
  expect((await before.call("POST", "/v1/arrays", made)).status).toBe(201);
  await before.call("POST", "/v1/arrays/files/stop");
  const daemon = await startSimAppliance({ host });
  expect((await body(daemon.call("POST", "/v1/drives/scan", {}))).found).toEqual([]);
  const line = `drive scan --folder ${fileSystem!.folder} --json`;
  const scan = JSON.parse((await runCli(line, { daemon })).stdout);
  expect(scan.found.map(({ path }: { path: string }) => path)).toEqual(paths.slice(0, 3));
  expect(await body(daemon.call("GET", "/v1/arrays/files"))).toMatchObject({ degraded: 0 });
});

test("scan: a folder that cannot be read: named with the reason, exit 1; the others are scanned", async () => {
  const host = hostWithDisks([]);
  const [fileSystem] = host.fileSystems;
  const daemon = await startSimAppliance({ host });
  const line = `drive scan --folder /nope --folder ${fileSystem!.folder}`;
  const scan = await runCli(line, { daemon });
  expect(scan.exitCode).toBe(1);
  expect(scan.stderr).toBe("parityd: /nope: the folder cannot be read: ENOENT");
  expect(scan.stdout).toContain("/nope  -     -      -     left alone: the folder cannot be read");
  const json = await runCli(`${line} --json`, { daemon });
  expect(JSON.parse(json.stdout).found).toMatchObject([{ path: "/nope", outcome: "left" }]);
});

test("scan: bad values: 422 that points at them", async () => {
  const { call } = await startSimAppliance();
  for (const [wrong, pointer] of [
    [{ folders: ["srv"] }, "#/folders/0"],
    [{ folders: Array.from({ length: 65 }, () => "/srv") }, "#/folders"],
    [{ dryRun: "yes" }, "#/dryRun"],
    [{ path: "/srv" }, "#/path"],
  ] as const) {
    const answer = await call("POST", "/v1/drives/scan", wrong);
    expect([answer.status, (await body(Promise.resolve(answer))).errors]).toMatchObject([
      422,
      [{ pointer }],
    ]);
  }
});

test("shared disks: by disk, members and spares; what is no disk does not count", () => {
  const disks: Readonly<Record<string, string[]>> = {
    ...{ a: ["sda"], b: ["sda", "sdb"], c: ["sdb"], d: ["0:42"], e: ["0:42"], f: [] },
  };
  const of = (...drives: string[]) => sharedDisks(drives, (drive) => new Set(disks[drive]));
  expect(of("a", "b", "c", "d", "e", "f")).toEqual([
    { disk: "sda", drives: ["a", "b"] },
    { disk: "sdb", drives: ["b", "c"] },
  ]);
  expect(of("a", "a", "c", "f")).toEqual([]);
});

test("shared disks: told at create and add, shown while it is so, once as an event", async () => {
  const host = hostWithDisks(["/dev/a", "/dev/b"]);
  for (const path of ["/dev/c", "/dev/d"]) {
    host.addDisk({ tellsId: false, spindle: diskAt(host, "/dev/b").spindle }).path = path;
  }
  const daemon = await startSimAppliance({ host });
  const { call, store } = daemon;
  for (const name of ["a", "b", "c", "d"])
    await runCli(`drive add ${name} /dev/${name}`, { daemon });
  const line = "array create tank a b c --assume-clean --force";
  const disk = diskAt(host, "/dev/b").spindle;
  const warning = `parityd: drives b, c lie on one disk (${disk}): with the disk all of them are lost`;
  const dry = await runCli(`${line} --dry-run`, { daemon });
  expect(dry.stderr).toBe(`dry run: nothing is changed; this is what it would say\n${warning}`);
  expect((await runCli(line, { daemon })).stderr).toBe(warning);
  const told = () => store.state.events.filter(({ kind }) => kind === "array.shared-disk");
  await until("it is told", () => told().length === 1);
  expect(told()[0]).toMatchObject({ severity: "warning", array: "tank" });
  expect(told()[0]!.message).toContain(`drives b, c lie on one disk (${disk})`);
  expect(await body(call("GET", "/v1/arrays/tank"))).toMatchObject({
    sharedDisks: [{ disk, drives: ["b", "c"] }],
  });
  expect((await runCli("status", { daemon })).stdout).toContain(
    "note: drives b, c lie on one disk",
  );
  // A note is no trouble: what was chosen is not to be repaired.
  expect((await runCli("status --check", { daemon })).exitCode).toBe(0);
  const added = await runCli("member add tank d", { daemon });
  expect(added.stderr).toContain("drives b, c, d lie on one disk");
  expect((await body(call("GET", "/v1/arrays/tank"))).sharedDisks[0].drives).toHaveLength(3);
});

test("drive list: what is known of the disks, in columns that somebody has", () => {
  const base = { sizeBytes: 4096, logicalBlockBytes: 512, state: "available" } as const;
  const file: DriveStatus = { ...base, name: "f", path: "/srv/f", isRotational: true };
  expect(driveTable([file])).toEqual([
    "drive  state      member  size     path",
    "f      available  -       4.0 KiB  /srv/f",
  ]);
  const disk: DriveStatus = {
    ...{ ...base, name: "s", path: "/dev/sda", isRotational: true, model: "WDC", serial: "W1" },
    ...{ wwn: "naa.5", byId: "/dev/disk/by-id/wwn-0x5" },
  };
  expect(driveTable([file, disk])).toEqual([
    "drive  state      member  size     path      kind  model  serial  wwn    by-id",
    "f      available  -       4.0 KiB  /srv/f    -     -      -       -      -",
    "s      available  -       4.0 KiB  /dev/sda  disk  WDC    W1      naa.5  wwn-0x5",
  ]);
});
