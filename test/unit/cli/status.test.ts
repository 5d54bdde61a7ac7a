/**
 * Goal: a look at `status` says what happened and what to do, and `--check` gives a monitor the
 * right exit code.
 * Method: each state of an array with the findings that go with it; the whole text of one example.
 */
import { expect, test } from "bun:test";
import { findingsOf, healthOf } from "../../../src/appliance/findings.ts";
import type { ArrayState, ArrayStatus, DriveStatus } from "../../../src/array/protocol.ts";
import { checkExit, renderArray, renderSilentDrives } from "../../../src/cli/status-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { exampleArray } from "../../helpers/sim-reactor.ts";

const CLEAN = exampleArray("raid_test", ["drive0", "drive1", "drive2"]);

function withFailedMember(): ArrayStatus {
  const members = CLEAN.members.map((member) =>
    member.role === 2
      ? {
          ...member,
          state: "faulty" as const,
          errors: { read: 0, write: 3, fixed: 0, slow: 2, retried: 0 },
          errorKinds: { EIO: 3 },
          errorsByOp: { write: { EIO: 3 } },
        }
      : member,
  );
  return { ...CLEAN, state: "degraded", degraded: 1, members };
}

function drive(name: string, state: DriveStatus["state"] = "member"): DriveStatus {
  const path = `/dev/disk/by-id/ata-WDC_${name}`;
  return { name, path, sizeBytes: 1, logicalBlockBytes: 512, state };
}

test("health: every state of an array", () => {
  const expected: Record<ArrayState, string> = {
    absent: "unusable",
    inactive: "unusable",
    broken: "unusable",
    fenced: "unusable",
    failed: "unusable",
    degraded: "degraded",
    "read-only": "fine",
    active: "fine",
    clean: "fine",
  };
  for (const [state, health] of Object.entries(expected)) {
    const array = { ...CLEAN, state: state as ArrayState };
    expect([state, healthOf(array)]).toEqual([state, health as "fine"]);
    const isQuiet = state === "active" || state === "clean" || state === "degraded";
    expect([state, findingsOf(array).length === 0]).toEqual([state, isQuiet]);
  }
  expect(healthOf({ ...CLEAN, lostBytes: 512 })).toBe("degraded");
  expect(healthOf({ ...CLEAN, state: "read-only", degraded: 1 })).toBe("degraded");
});

test("findings: a stale drive is offered for its own role alone, by force where it takes that", () => {
  const array = withFailedMember();
  const superblock = { arrayUuid: array.uuid, deviceUuid: "d", arrayName: "raid_test" };
  const stale = (role: number, more: Partial<DriveStatus> = {}): DriveStatus => {
    const known = { ...superblock, role, eventCount: 1 };
    return { ...drive("old", "stale"), superblock: known, ...more };
  };
  const actionFor = (...drives: DriveStatus[]) => findingsOf(array, drives)[0]?.action;
  expect(actionFor(stale(2))).toBe("take its drive back: parityd member add raid_test old");
  expect(actionFor(stale(1))).toBe("replace it: parityd member add raid_test NEW_DRIVE");
  expect(actionFor(stale(2, { needsForce: true }))).toBe(
    "replace it: parityd member add raid_test NEW_DRIVE; or give up what old alone may hold: " +
      "parityd member add raid_test old --force",
  );
});

test("findings: a drive that failed and has no role: let go of, by the array that it was of", () => {
  const known = { deviceUuid: "d", arrayName: "raid_test", role: 2, eventCount: 1 };
  const old: DriveStatus = {
    ...drive("old", "faulty"),
    superblock: { ...known, arrayUuid: CLEAN.uuid },
    detail: "superblock write: EIO",
  };
  expect(findingsOf(CLEAN, [old])).toEqual([
    {
      status: "drive old failed and has no role any more: superblock write: EIO.",
      action: "let go of it: parityd member remove raid_test old",
    },
  ]);
  // In its seat, of another array, or only stale: nothing is to be let go of.
  const others: DriveStatus[] = [
    { ...old, member: { array: "raid_test", role: 2 } },
    { ...old, superblock: { ...known, arrayUuid: "another" } },
    { ...old, state: "stale" },
  ];
  for (const other of others) expect(findingsOf(CLEAN, [other])).toEqual([]);
});

test("findings: a drive that does not answer: for how long, what follows; also of a start that waits", () => {
  const follows = "it is failed after 180 s, until then clients wait";
  const silent: DriveStatus = {
    ...drive("drive1"),
    member: { array: "raid_test", role: 1 },
    silence: { seconds: 12, waits: "write", follows },
  };
  const finding = {
    status: `drive drive1 has not answered a write for 12 s: ${follows}.`,
    action: "look after the drive, its cable and what it lies on: parityd drive show drive1",
  };
  expect(findingsOf(CLEAN, [silent])).toEqual([finding]);
  expect(findingsOf({ ...CLEAN, state: "inactive" }, [silent])[0]).toEqual(finding);
  expect([healthOf(CLEAN, [silent]), checkExit([CLEAN], [silent])]).toEqual(["degraded", 1]);
  expect(renderSilentDrives([silent])).toEqual([]);
  const other = { ...silent, member: { array: "other", role: 1 } };
  expect([findingsOf(CLEAN, [other]), healthOf(CLEAN, [other])]).toEqual([[], "fine"]);
  const free: DriveStatus = { ...drive("new", "available"), silence: silent.silence! };
  expect(checkExit([CLEAN], [free])).toBe(1);
  expect(renderSilentDrives([free])).toEqual([
    `  drive: new (${free.path}) has not answered a write for 12 s: ${follows}`,
  ]);
});

test("check: the worst array decides, then the drives", () => {
  const degraded = withFailedMember();
  const failed: ArrayStatus = { ...CLEAN, state: "failed", degraded: 2 };
  expect(checkExit([], [])).toBe(0);
  expect(checkExit([CLEAN], [drive("drive0")])).toBe(0);
  expect(checkExit([CLEAN, degraded], [])).toBe(1);
  expect(checkExit([degraded, failed, CLEAN], [])).toBe(2);
  expect(checkExit([CLEAN], [drive("x", "missing")])).toBe(1);
  expect(checkExit([CLEAN], [drive("x", "faulty")])).toBe(1);
  const lost = { reason: null, waiting: 0, problems: ["state.db cannot be opened"] };
  expect(checkExit([CLEAN], [], lost)).toBe(1);
});

test("status: a degraded array that is being rebuilt: the whole text", () => {
  const TIB = 2 ** 40;
  const array: ArrayStatus = {
    ...withFailedMember(),
    sizeBytes: 8 * TIB,
    consistencyPolicy: "ppl",
    spares: ["drive9"],
    sync: {
      action: "rebuild",
      doneBytes: 1.2 * TIB,
      totalBytes: 2.9 * TIB,
      rateBytesPerSecond: 212 * 2 ** 20,
      etaSeconds: 8_460,
    },
  };
  const drives = ["drive0", "drive1", "drive2", "drive9"].map((name) => drive(name));
  expect(renderArray(array, { drives })).toEqual([
    "  array: raid_test   state: degraded (2 of 3 members)   size: 8.0 TiB   policy: ppl",
    " status: member drive2 (role 2) failed: 3 write errors (EIO).",
    " action: replace it: parityd member add raid_test NEW_DRIVE",
    "rebuild: 41.3 %  1.2 TiB of 2.9 TiB  212.0 MiB/s  2 h 21 min left",
    "   loss: a rebuild of 2.0 MiB: not measured yet",
    "   last: no scrub yet",
    "  role  drive   device          state    read  write  fixed  slow",
    "     0  drive0  ata-WDC_drive0  in-sync     0      0      0     0",
    "     1  drive1  ata-WDC_drive1  in-sync     0      0      0     0",
    "     2  drive2  ata-WDC_drive2  faulty      0      3      0     2",
    "     -  drive9  ata-WDC_drive9  spare       0      0      0     0",
  ]);
});

test("findings: losses before members before mismatches, each with a command to type", () => {
  const findings = [
    { ...withFailedMember(), lostBytes: 4_096, mismatchBytes: 512 },
    { ...withFailedMember(), mismatchBytes: 512 },
    { ...CLEAN, mismatchBytes: 512 },
    { ...CLEAN, state: "inactive", reason: "stopped" } as const,
    { ...CLEAN, state: "read-only", reason: "a record could not be made durable" } as const,
  ].map((array) => findingsOf(array).map(({ status }) => status));
  const lost = "4.0 KiB cannot be read from any member.";
  const failed = "member drive2 (role 2) failed: 3 write errors (EIO).";
  const mismatch = "the last scrub found 512 B whose parity does not match.";
  expect(findings).toEqual([
    [lost, failed, mismatch],
    [failed, mismatch],
    [mismatch],
    ["the array is not running: stopped."],
    ["the array takes no writes: a record could not be made durable."],
  ]);
});

test("status: over the daemon: text, JSON, -x, one array, exit codes of --check", async () => {
  const daemon = await startSimAppliance();
  expect((await runCli("status", { daemon })).stdout).toContain("no arrays");
  await addTestArray(daemon);
  const healthy = await runCli("status --check", { daemon });
  expect(healthy).toMatchObject({ exitCode: 0, stderr: "" });
  expect(healthy.stdout).toContain("array: raid_test   state: clean   size: 2.0 MiB");
  expect((await runCli("status -x", { daemon })).stdout).toBe("all arrays are healthy");

  await daemon.call("POST", "/v1/arrays/raid_test/members/b/fail");
  expect((await runCli("status --check", { daemon })).exitCode).toBe(1);
  expect((await runCli("status", { daemon })).exitCode).toBe(0);
  expect((await runCli("status -x", { daemon })).stdout).toContain("member b (role 1) failed");
  const document = JSON.parse((await runCli("status --json", { daemon })).stdout);
  expect(document).toMatchObject({
    schema: "parityd.status/1",
    arrays: [{ name: "raid_test", degraded: 1 }],
  });
  expect(document.drives).toHaveLength(4);
  expect((await runCli("status nowhere --check", { daemon })).exitCode).toBe(4);
  await daemon.call("POST", "/v1/arrays/raid_test/stop");
  expect((await runCli("status --check raid_test", { daemon })).exitCode).toBe(2);
});

test("status: no daemon: 69, and 4 with --check", async () => {
  const plain = await runCli("status --run-dir /nowhere");
  expect(plain.exitCode).toBe(69);
  expect(plain.stderr).toContain("/nowhere/api.sock");
  expect((await runCli("status --check")).exitCode).toBe(4);
});

test("a suspect member: what it did, and the replace with what is at hand; not while that runs", () => {
  const suspect = {
    ...{ reason: "write-errors" as const, since: "2026-11-30T12:00:00.000Z" },
    detail: "3 write errors in a day, the limit is 3",
  };
  const members = CLEAN.members.map((member) =>
    member.role === 1 ? { ...member, suspect, isAvoided: true as const } : member,
  );
  const array: ArrayStatus = { ...CLEAN, members };
  const status =
    "member drive1 (role 1) is suspect since 2026-11-30T12:00:00.000Z: 3 write errors in a day, " +
    "the limit is 3.";
  const byHand = (other: string) => `parityd member replace raid_test drive1 ${other}`;
  const actionOf = (of: ArrayStatus, drives: DriveStatus[] = []) =>
    findingsOf(of, drives)[0]?.action;
  expect(findingsOf(array)).toEqual([
    { status, action: `replace it while it serves: ${byHand("NEW_DRIVE")}` },
  ]);
  const free = [drive("small", "available"), drive("free", "available")];
  expect(actionOf({ ...array, candidates: ["free"] }, free)).toEndWith(byHand("free"));
  expect(actionOf(array, free)).toEndWith(byHand("NEW_DRIVE"));
  expect(actionOf({ ...array, sharedSpares: ["shared"] })).toEndWith(byHand("shared"));
  expect(actionOf({ ...array, spares: ["own"], sharedSpares: ["s"] })).toEndWith(byHand("own"));
  expect(actionOf({ ...array, replaceSuspects: true })).toStartWith("a spare replaces it");
  expect([healthOf(array), checkExit([array], [])]).toEqual(["degraded", 1]);
  expect(renderArray(array, { drives: [] }).join("\n")).toContain(
    "   note: member drive1 (role 1) is too slow: reads are answered by the others",
  );
  const replacement = { drive: "new", copiedBytes: 0 };
  const replaced = array.members.map((member) =>
    member.role === 1 ? { ...member, replacement } : member,
  );
  expect(findingsOf({ ...array, members: replaced })).toMatchObject([
    { status: "member drive1 is being replaced by new." },
  ]);
  // A member has failed meanwhile, and a spare took its role: that has no redundancy.
  const both = replaced.map((member) =>
    member.role === 2 ? { ...member, state: "rebuilding" as const } : member,
  );
  expect(findingsOf({ ...array, degraded: 1, members: both })).toMatchObject([
    { status: expect.stringContaining("(role 2) is being rebuilt") },
  ]);
  expect(renderArray({ ...array, members: replaced }, { drives: [] }).join("\n")).toMatch(
    /\n +1 +drive1 .*\n +> +new +- +replacing /,
  );
});

test("findings: the drive that waits to replace another is offered where no other is free", () => {
  const failed = withFailedMember();
  const replacement = { drive: "new", copiedBytes: 0 };
  const members = failed.members.map((member) =>
    member.role === 1 ? { ...member, replacement } : member,
  );
  const actionFor = (...drives: DriveStatus[]) =>
    findingsOf({ ...failed, members, candidates: ["free"] }, drives)[0]?.action;
  expect(actionFor(drive("small", "available"))).toBe(
    "use drive new, which waits to replace another: parityd member remove raid_test new, then " +
      "parityd member add raid_test new",
  );
  expect(actionFor(drive("free", "available"))).toBe(
    "replace it: parityd member add raid_test free",
  );
});

test("findings: a free drive that would not be taken is not offered", () => {
  const array = withFailedMember();
  const drives = [drive("small", "available"), drive("free", "available")];
  const actionFor = (candidates: string[]) =>
    findingsOf({ ...array, candidates }, drives)[0]?.action;
  expect(actionFor(["free"])).toBe("replace it: parityd member add raid_test free");
  expect(actionFor([])).toBe("replace it: parityd member add raid_test NEW_DRIVE");
});

test("findings: work that waits says for what, and how it goes on", () => {
  const findingFor = (waits: string) =>
    findingsOf({ ...CLEAN, sync: { ...CLEAN.sync, action: "reshape", waits } });
  expect(findingFor("no space on a member")).toEqual([
    {
      status: "the reshape waits: no space on a member.",
      action: "make room on what its drives lie on: it goes on by itself",
    },
  ]);
  expect(findingFor("a member does not answer")).toEqual([
    {
      status: "the reshape waits: a member does not answer.",
      action: "look after its drives (parityd array show raid_test): it goes on by itself",
    },
  ]);
});
