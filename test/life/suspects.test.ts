/**
 * Goal: a suspect member is told of, and where that is wanted it is replaced by a spare while it
 * serves: the array is degraded at no time, one is replaced at a time, and what did not work is not
 * begun again at once.
 * Method: stories on the simulated machine, by the API; a disk that does not take some writes.
 */
import { expect, test } from "bun:test";
import { AGAIN_MS } from "../../src/appliance/spares/pick-suspect.ts";
import type { ArrayStatus, JobStatus, MemberStatus } from "../../src/array/protocol.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { Story } from "./story.ts";

const DONE_MS = 10_000;
const TRANSIENT_EIO = { kind: "result", result: -5 } as const;
const ARRAY = "/v1/arrays/tank";
const SLOWLY = { syncSpeedMin: 4_096, syncSpeedMax: 4_096 };
const AT_ONCE = { syncSpeedMin: 1e9, syncSpeedMax: 1e9 };

/** One write of each of so many does not work at the first try. */
function troubleWrites(story: Story, drive: string, count = 3): void {
  const device = story.disks[Number(drive.slice(1)) - 1]!.device!;
  story.must("PUT", "/v1/exports/tank", { array: "tank" });
  const client = story.connect("tank");
  for (let turn = 0; turn < count; turn += 1) {
    device.faults.plan({ op: Op.write, fault: TRANSIENT_EIO, count: 1 });
    // All members are written to.
    const data = new Uint8Array(16 * 1024).fill(7);
    expect(story.process.world.run(client.write(0, data, { fua: true }))).toBe(0);
  }
  client.transport.cutAfter(0);
  story.run(1_500);
}

function tank(story: Story): ArrayStatus {
  return story.must("GET", ARRAY) as ArrayStatus;
}

function members(story: Story): string {
  const { members, state } = tank(story);
  return [state, ...members.map(({ drive }) => drive)].join(" ");
}

function memberOf(story: Story, drive: string): MemberStatus {
  return tank(story).members.find((member) => member.drive === drive)!;
}

function replaces(story: Story): JobStatus[] {
  return (story.must("GET", "/v1/jobs") as JobStatus[]).filter(({ kind }) => kind === "replace");
}

function told(story: Story, ...kinds: string[]): string[] {
  return story.events(...kinds);
}

/** An array of d1, d2 and d3 in which suspects are replaced. */
function started(disks: number, wanted: object = { replaceSuspects: true }): Story {
  const story = new Story(disks);
  story.create("tank", "d1 d2 d3");
  story.must("PATCH", ARRAY, wanted);
  return story;
}

test("suspect: told once, shown by the API, by status and by the metrics; nothing is begun", () => {
  const story = started(4, { suspectWriteErrors: 3 });
  story.must("PUT", "/v1/spares/d4", {});
  troubleWrites(story, "d2", 2);
  expect(told(story, "member.suspect")).toEqual([]);
  troubleWrites(story, "d2");
  expect(told(story, "member.suspect", "member.failed")).toEqual(["member.suspect"]);
  const { suspect } = memberOf(story, "d2");
  expect(suspect).toMatchObject({
    reason: "write-errors",
    detail: expect.stringMatching(/^\d+ write errors in a day, the limit is 3$/),
  });
  const { stdout } = story.process.cli("status");
  expect(stdout).toContain(` status: member d2 (role 1) is suspect since ${suspect!.since}: `);
  const action = / action: replace it while it serves: parityd (.*)/.exec(stdout);
  expect(action?.[1]).toBe("member replace tank d2 d4");
  expect(story.process.cli("status --check").exitCode).toBe(1);
  const metrics = String(story.ask("GET", "/metrics").body);
  const line = 'parityd_member_suspect{array="tank",role="1",reason="write-errors"} 1';
  expect(metrics).toContain(line);
  story.run(DONE_MS);
  expect([members(story), replaces(story)]).toEqual(["clean d1 d2 d3", []]);
  // By hand, as it was said; the suspicion goes with the drive.
  expect(story.process.cli(`${action![1]!} --wait`).exitCode).toBe(0);
  story.run(DONE_MS);
  expect(members(story)).toBe("clean d1 d4 d3");
  expect(story.process.cli("status --check").exitCode).toBe(0);
});

test("suspect: settings are kept over a restart, shown, and bad ones change nothing", () => {
  const story = started(3, {
    ...{ suspectWriteErrors: 9, suspectFixedSectors: 8, suspectLateReads: 7 },
    ...{ suspectLatencyFactor: 6, replaceSuspects: true },
  });
  for (const how of ["SIGTERM", "SIGKILL"] as const) {
    story.restart(how);
    expect(tank(story)).toMatchObject({
      ...{ suspectWriteErrors: 9, suspectFixedSectors: 8, suspectLateReads: 7 },
      ...{ suspectLatencyFactor: 6, replaceSuspects: true },
    });
  }
  const shown =
    "suspect: with 9 write errors, 8 fixed sectors, 7 late reads, 6 times the latency of its " +
    "peers in a day; then a spare replaces it";
  expect(story.process.cli("array show tank").stdout).toContain(shown);
  for (const body of [
    { suspectWriteErrors: -1 },
    { suspectFixedSectors: 1.5 },
    { suspectLateReads: "3" },
    { suspectLatencyFactor: 1 },
    { replaceSuspects: "yes" },
  ]) {
    expect([body, story.ask("PATCH", ARRAY, body).status]).toEqual([body, 422]);
  }
  expect(story.process.cli("array set tank --suspect-latency 1").exitCode).toBe(1);
  expect(story.process.cli("array set tank --replace-suspects perhaps").exitCode).toBe(64);
  expect(story.process.cli("array set tank --suspect-fixed x").exitCode).toBe(64);
  expect(story.process.cli("array show tank").stdout).toContain(shown);
  const off = "--suspect-write-errors 0 --suspect-fixed 0 --suspect-late-reads 0";
  const set = story.process.cli(`array set tank ${off} --suspect-latency 0 --replace-suspects no`);
  expect(set.stdout).toContain("suspect: never");
  expect(tank(story)).toMatchObject({ suspectLatencyFactor: 0, replaceSuspects: false });
});

test("suspect: replaced by the array's own spare, and never degraded", () => {
  const story = new Story(5);
  story.create("tank", "d1 d2 d3", { spares: ["d4"] });
  story.must("PUT", "/v1/spares/d5", {});
  story.must("PATCH", ARRAY, { replaceSuspects: true });
  troubleWrites(story, "d3");
  story.run(DONE_MS);
  expect(members(story)).toBe("clean d1 d2 d4");
  expect(story.firstByte("tank")).toBe(7);
  expect(
    told(story, "member.suspect", "replace.finished", "array.degraded", "spare.taken"),
  ).toEqual(["member.suspect", "replace.finished"]);
  expect(story.must("GET", "/v1/spares")).toMatchObject([{ drive: "d5", state: "ready" }]);
});

test("suspect: replaced by a shared spare, also one that comes later", () => {
  const story = started(5);
  troubleWrites(story, "d1");
  story.run(DONE_MS);
  expect(members(story)).toBe("clean d1 d2 d3");
  story.must("PUT", "/v1/spares/d5", {});
  story.run(DONE_MS);
  expect([members(story), story.must("GET", "/v1/spares")]).toEqual(["clean d5 d2 d3", []]);
  expect(told(story, "spare.taken", "replace.finished", "array.degraded")).toEqual([
    "spare.taken",
    "replace.finished",
  ]);
});

test("suspect: it is wanted only later: then it is replaced", () => {
  const story = started(4, { replaceSuspects: false });
  story.must("PUT", "/v1/spares/d4", {});
  troubleWrites(story, "d2");
  story.run(DONE_MS);
  expect(replaces(story)).toEqual([]);
  story.must("PATCH", ARRAY, { replaceSuspects: true });
  story.run(DONE_MS);
  expect(members(story)).toBe("clean d1 d4 d3");
});

test("suspect: two at a time: one after the other, the first that was suspect first", () => {
  const story = started(6);
  story.must("PATCH", ARRAY, SLOWLY);
  troubleWrites(story, "d3");
  troubleWrites(story, "d1");
  for (const drive of ["d5", "d6"]) story.must("PUT", `/v1/spares/${drive}`, {});
  story.run(3_000);
  const replaced = tank(story).members.filter(({ replacement }) => replacement !== undefined);
  expect(replaced.map(({ drive }) => drive)).toEqual(["d3"]);
  story.must("PATCH", ARRAY, AT_ONCE);
  story.run(2 * DONE_MS);
  expect(members(story)).toBe("clean d6 d2 d5");
  expect(replaces(story).map(({ state }) => state)).toEqual(["done", "done"]);
  expect(told(story, "array.degraded")).toEqual([]);
});

test("suspect: a replace that is cancelled, or whose spare dies: not again within a day", () => {
  for (const how of ["cancel", "spare dies"] as const) {
    const story = started(6);
    story.must("PATCH", ARRAY, SLOWLY);
    for (const drive of ["d5", "d6"]) story.must("PUT", `/v1/spares/${drive}`, {});
    troubleWrites(story, "d2");
    story.run(2_000);
    const [job] = replaces(story);
    expect(job).toMatchObject({ state: "running", result: { drive: "d5", replaces: "d2" } });
    if (how === "cancel") story.must("DELETE", `/v1/jobs/${job!.id}`);
    else story.host.pull(story.disks[4]!);
    story.must("PATCH", ARRAY, AT_ONCE);
    story.run(60_000);
    expect([how, replaces(story).length, members(story)]).toEqual([how, 1, "clean d1 d2 d3"]);
    expect(memberOf(story, "d2").suspect).toBeDefined();
    expect(told(story, "member.suspect")).toEqual(["member.suspect"]);
    // By hand at any time.
    const replace = { with: "d6" };
    story.must("POST", `${ARRAY}/members/d2/replace`, replace);
    story.run(DONE_MS);
    expect(members(story)).toBe("clean d1 d6 d3");
  }
  expect(AGAIN_MS).toBe(24 * 3_600_000);
});

test("suspect: somebody has cancelled a replace by hand: none is begun in its place", () => {
  const story = started(5, { replaceSuspects: false });
  story.must("PATCH", ARRAY, SLOWLY);
  troubleWrites(story, "d2");
  story.must("PATCH", ARRAY, { replaceSuspects: true });
  const job = story.must("POST", `${ARRAY}/members/d2/replace`, { with: "d4" }) as JobStatus;
  story.must("PUT", "/v1/spares/d5", {});
  story.run(3_000);
  story.must("DELETE", `/v1/jobs/${job.id}`);
  story.run(60_000);
  expect([replaces(story).length, members(story)]).toEqual([1, "clean d1 d2 d3"]);
});

test("suspect: another member is lost: the spare goes to the free role, nobody is replaced", () => {
  const story = started(4);
  troubleWrites(story, "d2");
  story.must("POST", `${ARRAY}/members/d1/fail`);
  story.must("PUT", "/v1/spares/d4", {});
  story.run(DONE_MS);
  expect([members(story), replaces(story)]).toEqual(["clean d4 d2 d3", []]);
  expect(memberOf(story, "d2").suspect).toBeDefined();
});

test("suspect: what somebody has put on the shared spare: not taken, and told", () => {
  const story = started(4);
  story.must("PUT", "/v1/spares/d4", {});
  story.disks[3]!.holds = "an ext4 file system";
  troubleWrites(story, "d2");
  story.run(DONE_MS);
  expect([members(story), replaces(story)]).toEqual(["clean d1 d2 d3", []]);
  expect(told(story, "spare.failed")).toEqual(["spare.failed"]);
  expect(story.host.memberOn(story.disks[3]!)).toBeNull();
});
