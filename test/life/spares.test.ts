/**
 * Goal: a failed member is replaced by a spare without anybody's doing, and never by a surprise: a
 * shared spare is in one place, whatever happens; it fits, can be read and holds nothing.
 * Method: stories on the simulated machine. A crash is tried at each moment of a take-over.
 */
import { expect, test } from "bun:test";
import type { SpareView } from "../../src/appliance/spares/shared-spares.ts";
import type { ArrayStatus, DriveStatus } from "../../src/array/protocol.ts";
import { KIB } from "../../src/base/units.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { DRIVE_BYTES } from "./sim-host.ts";
import { Story } from "./story.ts";

const TAKEN_MS = 10_000;
const EIO = { kind: "result", result: -5 } as const;

function share(story: Story, drive: string, ...arrays: readonly string[]): SpareView {
  return story.must("PUT", `/v1/spares/${drive}`, arrays.length === 0 ? {} : { arrays });
}

function shared(story: Story): string[] {
  const spares = story.must("GET", "/v1/spares") as SpareView[];
  return spares.map(({ drive, state }) => `${drive} ${state}`);
}

function members(story: Story, array: string): string {
  const { members, state } = story.must("GET", `/v1/arrays/${array}`) as ArrayStatus;
  return [state, ...members.map(({ drive }) => drive)].join(" ");
}

function exportArray(story: Story, array: string): void {
  story.must("PUT", `/v1/exports/${array}`, { array });
}

/** The disk is gone, and the next write of a client meets that. */
function lose(story: Story, drive: string, array: string): void {
  story.host.pull(story.disks[Number(drive.slice(1)) - 1]!);
  const exported = story.must("GET", "/v1/exports") as { name: string }[];
  if (exported.every(({ name }) => name !== array)) exportArray(story, array);
  const client = story.connect(array);
  story.process.world.run(client.write(0, new Uint8Array(32 * KIB).fill(7), { fua: true }));
  client.transport.cutAfter(0);
}

/** Each drive is in one place: in one seat, among one array's spares, or shared. */
function expectOnePlace(story: Story): void {
  const arrays = story.must("GET", "/v1/arrays") as ArrayStatus[];
  const places = arrays.flatMap(({ members, spares }) => [
    ...members.flatMap(({ drive }) => drive ?? []),
    ...spares,
  ]);
  for (const { drive, state } of story.must("GET", "/v1/spares") as SpareView[]) {
    if (state === "ready") places.push(drive);
  }
  expect(places).toEqual([...new Set(places)]);
}

// A take-over -----------------------------------------------------------------------------------

test("a member fails: the shared spare takes its role, and status says how to be rid of the old", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  expect(share(story, "d4")).toMatchObject({ arrays: null, fits: ["tank"], state: "ready" });
  expect(story.must("GET", "/v1/arrays/tank").sharedSpares).toEqual(["d4"]);
  expect(story.drive("d4")).toMatchObject({ state: "spare", detail: "shared, for all arrays" });
  lose(story, "d3", "tank");
  story.run(TAKEN_MS);
  expect([members(story, "tank"), shared(story)]).toEqual(["clean d1 d2 d4", []]);
  expect(story.firstByte("tank")).toBe(7);
  expect(story.events("spare.taken", "spares.missing", "rebuild.finished")).toEqual([
    "spare.taken",
    "rebuild.finished",
    "spares.missing",
  ]);
  expect(story.process.cli("status --check").exitCode).toBe(1);
  const action = / action: let go of it: parityd (.*)/.exec(story.process.cli("status").stdout);
  expect(action?.[1]).toBe("member remove tank d3");
  expect(story.process.cli(action![1]!)).toMatchObject({ exitCode: 0, stderr: "" });
  expect(story.drive("d3")).toMatchObject({ state: "foreign" });
  expect(story.process.cli("status").stdout).not.toContain(" action: ");
  expect(story.process.cli("status --check").exitCode).toBe(0);
});

test("after a restart the drive that was replaced is stale: it is let go of as well", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  share(story, "d4");
  story.must("POST", "/v1/arrays/tank/members/d2/fail");
  story.run(TAKEN_MS);
  expect(members(story, "tank")).toBe("clean d1 d4 d3");
  story.restart("SIGTERM");
  expect(story.drive("d2").state).toBe("stale");
  story.must("DELETE", "/v1/arrays/tank/members/d2");
  expect(story.drive("d2")).toMatchObject({
    state: "foreign",
    detail: expect.stringContaining("array tank has let go of it"),
  });
  expect(story.ask("DELETE", "/v1/arrays/tank/members/d9").status).toBe(404);
  // There it may come back without a word; elsewhere only by force.
  expect(story.ask("PUT", "/v1/spares/d2", {}).status).toBe(409);
  expect(story.must("POST", "/v1/arrays/tank/members", { drive: "d2" }).spares).toEqual(["d2"]);
});

test("an array's own spare comes first; the shared one stays for the next", () => {
  const story = new Story(5);
  story.create("tank", "d1 d2 d3", { spares: ["d4"] });
  share(story, "d5");
  lose(story, "d1", "tank");
  story.run(TAKEN_MS);
  expect([members(story, "tank"), shared(story)]).toEqual(["clean d4 d2 d3", ["d5 ready"]]);
  lose(story, "d2", "tank");
  story.run(TAKEN_MS);
  expect([members(story, "tank"), shared(story)]).toEqual(["clean d4 d5 d3", []]);
});

test("two arrays at a time: each gets one; the smallest that fits, and only where it is for", () => {
  const story = new Story(6);
  const large = story.addDrive({ sizeBytes: 2 * DRIVE_BYTES });
  const small = story.addDrive();
  const other = story.addDrive();
  story.create("tank", "d1 d2 d3");
  story.create("pool", "d4 d5 d6");
  share(story, large);
  share(story, small);
  share(story, other, "pool");
  lose(story, "d1", "tank");
  story.run(1_000);
  lose(story, "d4", "pool");
  story.run(TAKEN_MS);
  expect(members(story, "tank")).toBe(`clean ${small} d2 d3`);
  expect(members(story, "pool")).toBe(`clean ${other} d5 d6`);
  expect(shared(story)).toEqual([`${large} ready`]);
});

test("a rebuild that fails moves on to the next; the drive that failed is not taken again", () => {
  const story = new Story(6);
  story.create("tank", "d1 d2 d3");
  for (const drive of ["d4", "d5", "d6"]) share(story, drive);
  story.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: 4_096, syncSpeedMax: 4_096 });
  // The first does not take its first write, the second dies in its rebuild.
  story.disks[3]!.device!.faults.plan({ op: Op.write, fault: EIO, count: 10_000 });
  story.must("POST", "/v1/arrays/tank/members/d1/fail");
  story.run(2_000);
  expect(members(story, "tank")).toBe("degraded d5 d2 d3");
  expect(shared(story)).toEqual(["d4 failed", "d6 ready"]);
  story.host.pull(story.disks[4]!);
  story.must("PATCH", "/v1/arrays/tank", { syncSpeedMin: 1e9, syncSpeedMax: 1e9 });
  story.run(TAKEN_MS);
  expect([members(story, "tank"), shared(story)]).toEqual(["clean d6 d2 d3", ["d4 failed"]]);
  expect(story.events("spare.failed")).toEqual(["spare.failed"]);
  expect(story.drive("d5").state).toBe("faulty");
  // A person who shares it again wants it tried again.
  story.disks[3]!.device!.faults.quiet();
  expect(share(story, "d4").state).toBe("ready");
  story.must("POST", "/v1/arrays/tank/members/d2/fail");
  story.run(TAKEN_MS);
  expect(members(story, "tank")).toBe("clean d6 d4 d3");
});

test("a crash at each moment of a take-over: the drive is in one place, and the array gets whole", () => {
  const ends = new Set<string>();
  for (const how of ["SIGKILL", "power cut"] as const) {
    for (let step = 0; step < 30; step += 1) {
      const story = new Story(4);
      story.create("tank", "d1 d2 d3");
      share(story, "d4");
      lose(story, "d3", "tank");
      story.run(45 + step * 0.5);
      const before = shared(story)[0] ?? "d4 member";
      ends.add(before);
      story.restart(how);
      expectOnePlace(story);
      story.run(45_000);
      expectOnePlace(story);
      expect([how, step, members(story, "tank")]).toEqual([how, step, "clean d1 d2 d4"]);
      expect(shared(story)).toEqual([]);
      expect(story.firstByte("tank")).toBe(7);
    }
  }
  expect([...ends].sort()).toEqual(["d4 member", "d4 ready", "d4 seating"]);
});

test("the state directory is full: nothing that must be recorded is done", () => {
  const story = new Story(5);
  story.create("tank", "d1 d2 d3");
  share(story, "d4");
  story.stateFile.trouble = "full";
  expect(story.ask("PUT", "/v1/spares/d5", {}).status).toBe(507);
  expect(story.ask("DELETE", "/v1/spares/d4").status).toBe(507);
  expect(shared(story)).toEqual(["d4 ready"]);
});

test("nothing is recorded while an array takes it, and the daemon is killed: it is shared no more", () => {
  const story = new Story(5);
  story.create("tank", "d1 d2 d3");
  share(story, "d4");
  exportArray(story, "tank");
  story.stateFile.trouble = "read-only";
  lose(story, "d3", "tank");
  story.run(TAKEN_MS);
  expect([members(story, "tank"), shared(story)]).toEqual(["clean d1 d2 d4", []]);
  story.restart("SIGKILL");
  expect([shared(story), story.drive("d4").state]).toEqual([[], "member"]);
  story.stateFile.trouble = "none";
  story.run(60_000);
  story.restart("SIGKILL");
  expect([shared(story), story.drive("d4").state]).toEqual([[], "member"]);
});

// Never a surprise ------------------------------------------------------------------------------

test("what somebody has put on it since it was shared: not taken, and told", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  share(story, "d4");
  story.disks[3]!.holds = "an ext4 file system";
  lose(story, "d3", "tank");
  story.run(TAKEN_MS);
  expect(members(story, "tank")).toBe("degraded d1 d2 d3");
  expect([shared(story), story.events("spare.failed")]).toEqual([["d4 foreign"], ["spare.failed"]]);
  expect(story.host.memberOn(story.disks[3]!)).toBeNull();
  const { stdout } = story.process.cli("status");
  expect(stdout).toContain("no array can take the shared spare d4: it holds an ext4 file system");
  const action = / action: share it no more: parityd (.*)/.exec(stdout);
  expect(story.process.cli(action![1]!).exitCode).toBe(0);
  expect(shared(story)).toEqual([]);
});

test("a spare in two places, or that is none: a problem that says the way out, nothing changed", () => {
  const story = new Story(7);
  story.create("tank", "d1 d2 d3", { spares: ["d4"] });
  share(story, "d5", "tank");
  story.disks[5]!.holds = "data that is not zero";
  // What is on a drive is shown since it was last looked at.
  expect(story.ask("PUT", "/v1/spares/d6", {}).status).toBe(409);
  const cases: [string, object, number, RegExp][] = [
    ["d1", {}, 409, /is a member of array tank.*DELETE \/v1\/arrays\/tank\/members\/d1/],
    ["d4", {}, 409, /is a spare of array tank alone/],
    ["d5", {}, 409, /is shared already, for tank.*v1\/spares\/d5/],
    ["d6", {}, 409, /holds data that is not zero.*wipe it/],
    ["d9", {}, 404, /no drive named d9/],
    ["d7", { arrays: ["nobody"] }, 404, /no array nobody/],
    ["d7", { arrays: [] }, 422, /./],
  ];
  const before = [shared(story), story.must("GET", "/v1/drives"), story.must("GET", "/v1/arrays")];
  for (const [drive, body, status, detail] of cases) {
    const answer = story.ask("PUT", `/v1/spares/${drive}`, body);
    expect([drive, answer.status, answer.body.detail]).toEqual([
      drive,
      status,
      expect.stringMatching(detail),
    ]);
  }
  expect(story.ask("DELETE", "/v1/spares/d4").status).toBe(404);
  expect([shared(story), story.must("GET", "/v1/drives"), story.must("GET", "/v1/arrays")]).toEqual(
    before,
  );
  story.must("DELETE", "/v1/spares/d5");
  story.must("DELETE", "/v1/arrays/tank");
  expect(story.ask("PUT", "/v1/spares/d5", { arrays: ["tank"] }).status).toBe(409);
  story.must("POST", "/v1/arrays/tank/start");
  share(story, "d5", "tank");
  // The same again is no second place.
  expect(story.ask("PUT", "/v1/spares/d5", { arrays: ["tank"] }).status).toBe(200);
});

test("too small for all that it is for: refused, with the bytes; for one of two: told for which", () => {
  const story = new Story(6);
  story.create("tank", "d1 d2 d3");
  story.create("pool", "d4 d5 d6", { sizeKiB: 64 });
  const small = story.addDrive({ sizeBytes: 128 * KIB });
  const middle = story.addDrive({ sizeBytes: 192 * KIB });
  const refused = story.ask("PUT", `/v1/spares/${small}`, {});
  expect(refused.status).toBe(422);
  const needed = Number(
    /the smallest is tank.* at least (\d+) bytes/.exec(refused.body.detail)?.[1],
  );
  expect(needed).toBeGreaterThan(128 * KIB);
  expect(needed).toBeLessThanOrEqual(192 * KIB);
  expect(story.ask("PUT", `/v1/spares/${middle}`, { arrays: ["pool"] })).toMatchObject({
    status: 422,
    body: { detail: expect.stringMatching(/the smallest is pool/) },
  });
  expect(share(story, middle, "pool", "tank")).toMatchObject({
    arrays: ["pool", "tank"],
    fits: ["tank"],
  });
  lose(story, "d4", "pool");
  story.run(TAKEN_MS);
  expect([members(story, "pool"), shared(story)]).toEqual([
    "degraded d4 d5 d6",
    [`${middle} ready`],
  ]);
  // An array's own is refused when it is added, too.
  expect(story.ask("POST", "/v1/arrays/tank/members", { drive: small }).status).toBe(422);
  const body = { name: "vault", drives: ["d7", "d8"], spares: [] };
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(422);
});

test("one that is used by hand is shared no more; one whose use is refused stays shared", () => {
  const story = new Story(8);
  story.create("tank", "d1 d2 d3");
  for (const drive of ["d4", "d5", "d6", "d7", "d8"]) share(story, drive);
  const body = { name: "tank", drives: ["d6", "d7", "d8"], chunkKiB: 8, sizeKiB: 32 };
  expect(story.ask("POST", "/v1/arrays", body).status).toBe(409);
  story.must("POST", "/v1/arrays/tank/members", { drive: "d4" });
  expect(shared(story)).toEqual(["d5 ready", "d6 ready", "d7 ready", "d8 ready"]);
  story.create("pool", "d6 d7 d8");
  expect(shared(story)).toEqual(["d5 ready"]);
  story.must("DELETE", "/v1/drives/d5");
  expect(shared(story)).toEqual([]);
  story.restart("SIGKILL");
  expect(shared(story)).toEqual([]);
});

test("an array's own spare is known by its disk from the answer on, wherever that is after a crash", () => {
  const story = new Story(5, { tellsId: false });
  story.create("tank", "d1 d2 d3");
  story.must("POST", "/v1/arrays/tank/members", { drive: "d4" });
  const [fourth, fifth] = [story.disks[3]!, story.disks[4]!];
  const { path } = fourth;
  fourth.path = fifth.path;
  fifth.path = path;
  story.restart("SIGKILL");
  expect(story.must("GET", "/v1/arrays/tank")).toMatchObject({ spares: ["d4"] });
});

test("no spare left: told once, and again only after there was one in between", () => {
  const story = new Story(6);
  story.create("tank", "d1 d2 d3");
  const told = () => story.events("spares.missing").length;
  story.run(1_000);
  expect(told()).toBe(0);
  for (const [round, drive] of ["d4", "d5"].entries()) {
    share(story, drive);
    story.restart("SIGKILL");
    expect(told()).toBe(round);
    story.must("DELETE", `/v1/spares/${drive}`);
    story.run(1_000);
    story.restart("SIGKILL");
    story.run(1_000);
    expect(told()).toBe(round + 1);
  }
  story.must("POST", "/v1/arrays/tank/members", { drive: "d6" });
  story.run(1_000);
  story.must("DELETE", "/v1/arrays/tank/members/d6");
  story.run(1_000);
  expect(told()).toBe(3);
});

// Read in a scrub -------------------------------------------------------------------------------

test("a scrub reads the spares: a dead one is known before it is needed", () => {
  const story = new Story(7);
  story.create("tank", "d1 d2 d3", { spares: ["d4", "d5"] });
  share(story, "d6");
  share(story, "d7");
  for (const index of [3, 5]) {
    story.disks[index]!.device!.faults.plan({ op: Op.read, fault: EIO, count: 10_000 });
  }
  story.must("POST", "/v1/arrays/tank/scrub?wait=60&strict=true");
  story.run(60_000);
  const spares = story.must("GET", "/v1/spares") as SpareView[];
  expect(spares.map(({ drive, state }) => `${drive} ${state}`)).toEqual(["d6 failed", "d7 ready"]);
  expect(spares.map(({ readAt }) => readAt !== null)).toEqual([false, true]);
  expect(story.must("GET", "/v1/arrays/tank").spares).toEqual(["d5"]);
  expect(story.events("spare.failed")).toEqual(["spare.failed", "spare.failed"]);
  expect((story.drive("d4") as DriveStatus).state).toBe("faulty");
  expect(story.process.cli("status --check").exitCode).toBe(1);
  for (const file of story.disks) file.device?.faults.quiet();
  // What status says is done, and then all is well.
  for (const [, line] of story.process.cli("status").stdout.matchAll(/ action: .*?parityd (.*)/g)) {
    expect(story.process.cli(line!)).toMatchObject({ exitCode: 0, stderr: "" });
  }
  expect(story.process.cli("status --check").exitCode).toBe(0);
  story.restart("SIGKILL");
  expect([shared(story), story.must("GET", "/v1/arrays/tank").spares]).toEqual([
    ["d7 ready"],
    ["d5"],
  ]);
});

test("spares are read at the speed of the scrub, beside it, and rest when it rests", () => {
  const story = new Story(4);
  story.create("tank", "d1 d2 d3");
  share(story, "d4");
  const device = story.disks[3]!.device!;
  const { refusalOf } = device;
  let readBytes = 0;
  device.refusalOf = (op, offset, bytes) => {
    if (op === Op.read) readBytes += bytes;
    return refusalOf?.(op, offset, bytes) ?? 0;
  };
  const limitBytesPerSecond = 16 * KIB;
  story.must("POST", "/v1/arrays/tank/scrub", { limitBytesPerSecond });
  story.run(1_000);
  story.must("POST", "/v1/arrays/tank/scrub/pause");
  story.run(60_000);
  expect(readBytes).toBeGreaterThan(0);
  expect(readBytes).toBeLessThanOrEqual(256 * KIB);
  // It goes on with the scrub, and to its own end after that.
  story.must("POST", "/v1/arrays/tank/scrub?wait=600", { limitBytesPerSecond: null });
  story.run(400_000);
  expect(readBytes).toBe(DRIVE_BYTES);
});
