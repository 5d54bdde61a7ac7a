/**
 * Goal: the executable does what a user with `curl` asks of it, and comes back after a stop and
 * after a crash with all that it knew.
 *
 * Method: `parityd serve` over files in a temporary folder; every call of the story is a plain
 * `curl --unix-socket`; data goes over NBD with the project's own client.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  statSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import {
  binaryPath,
  Daemon,
  keepTrack,
  makeFile,
  makeFiles,
  mustRun,
  runProgram,
  runVerb,
  serveWords,
  sha256,
  tryConnectNbd,
} from "../helpers/daemon.ts";
import { expectData, mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio", "direct-io");
const HAS_CURL = CAN_RUN && toolPath("curl") !== undefined;
const MEMBER_BYTES = 24 * MIB;

/** One call as a user makes it. `words` are further arguments of curl. */
async function curl(daemon: Daemon, path: string, words: readonly string[] = []) {
  const stdout = await mustRun([
    ...[toolPath("curl")!, "-sS", "--unix-socket", daemon.apiSocket, "-D", "-"],
    ...["-w", "\n%{http_code}", ...words, `http://localhost${path}`],
  ]);
  const [head = "", ...rest] = stdout.split("\r\n\r\n");
  const text = rest.join("\r\n\r\n");
  const end = text.lastIndexOf("\n");
  const body = text.slice(0, end);
  return {
    status: Number(text.slice(end + 1)),
    head: head.toLowerCase(),
    body: body.startsWith("{") || body.startsWith("[") ? JSON.parse(body) : body,
  };
}

function post(body: object, method = "POST"): string[] {
  return ["-X", method, "-H", "Content-Type: application/json", "-d", JSON.stringify(body)];
}

/** Changes bytes of a file behind the daemon's back. */
function corrupt(path: string, offset: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, offset);
  fsyncSync(file);
  closeSync(file);
}

const STORY_NEEDS = "[needs libaio, direct-io, curl]";

describe.skipIf(!HAS_CURL)("the story by curl", () => {
  const data = randomBytes(1, 3 * MIB + 512);
  const more = randomBytes(2, MIB);
  let daemon: Daemon;
  let files: string[] = [];
  let client: NbdClient;

  beforeAll(async () => {
    const folder = makeTempDir("story");
    daemon = await Daemon.start(folder, { flags: ["--allow-fault-injection"] });
    files = makeFiles(folder, 4, MEMBER_BYTES);
  });

  test(`serve: drives and an array: created, exported, written ${STORY_NEEDS}`, async () => {
    for (const [index, path] of files.entries()) {
      const added = await curl(daemon, "/v1/drives", post({ name: `drive${index}`, path }));
      expect(added).toMatchObject({ status: 201, body: { state: "available" } });
      expect(added.head).toContain(`location: /v1/drives/drive${index}`);
    }
    const drives = ["drive0", "drive1", "drive2"];
    const wanted = { name: "raid_test", drives, chunkKiB: 64, consistencyPolicy: "resync" };
    const created = await curl(daemon, "/v1/arrays", post(wanted));
    expect(created).toMatchObject({ status: 201, body: { level: "raid5", degraded: 0 } });
    expect(created.head).toContain("etag:");
    const drive = await curl(daemon, "/v1/drives/drive2");
    expect(drive.body.member).toEqual({ array: "raid_test", role: 2 });
    const put = post({ array: "raid_test" }, "PUT");
    expect((await curl(daemon, "/v1/exports/raid_test", put)).status).toBe(201);
    const exported = await curl(daemon, "/v1/exports/raid_test", put);
    expect(exported.status).toBe(200);
    expect(exported.body.uris).toEqual([daemon.uri("raid_test")]);
    client = await daemon.connect("raid_test");
    expect(client.sizeBytes).toBe(created.body.sizeBytes);
    await mustWrite(client, 4 * KIB + 512, data);
    await daemon.settle("raid_test");
  });

  test(`serve: a bad sector: the reader gets its bytes all the same ${STORY_NEEDS}`, async () => {
    const fault = { drive: "drive0", op: "read", errno: "EIO", untilWritten: true };
    const range = { offset: MIB, bytes: MIB };
    const injected = await curl(daemon, "/v1/faults", post({ ...fault, ...range }));
    expect(injected.status).toBe(201);
    await expectData(client, 4 * KIB + 512, data);
    const faults = await curl(daemon, "/v1/faults");
    expect(faults.body[0]).toMatchObject({ drive: "drive0", errno: "EIO" });
    expect(faults.body[0].injected).toBeGreaterThan(0);
    expect((await curl(daemon, "/v1/faults", ["-X", "DELETE"])).status).toBe(204);
  });

  test(`serve: a drive dies: the array goes on without it ${STORY_NEEDS}`, async () => {
    const dead = { drive: "drive1", op: "any", errno: "ENXIO" };
    expect((await curl(daemon, "/v1/faults", post(dead))).status).toBe(201);
    await mustWrite(client, 8 * MIB, more);
    const degraded = await curl(daemon, "/v1/arrays/raid_test");
    expect(degraded.body).toMatchObject({ state: "degraded", degraded: 1 });
    expect(degraded.body.members[1].state).toBe("faulty");
    await expectData(client, 4 * KIB + 512, data);
    await expectData(client, 8 * MIB, more);
    expect((await curl(daemon, "/v1/drives/drive1")).body.state).toBe("faulty");
    const removed = await curl(daemon, "/v1/arrays/raid_test/members/drive1", ["-X", "DELETE"]);
    expect(removed.status).toBe(204);
  });

  test(`serve: a new member: rebuilt, the job is waited for ${STORY_NEEDS}`, async () => {
    const adding = await curl(daemon, "/v1/arrays/raid_test/members", post({ drive: "drive3" }));
    expect(adding).toMatchObject({ status: 202, body: { kind: "rebuild" } });
    const job = /location: (\S+)/.exec(adding.head)?.[1];
    expect(job).toBe(`/v1/jobs/${adding.body.id}`);
    const rebuilt = await curl(daemon, `${job}?wait=60`);
    expect(rebuilt).toMatchObject({ status: 200, body: { state: "done", error: null } });
    const whole = await curl(daemon, "/v1/arrays/raid_test");
    expect(whole.body.degraded).toBe(0);
    expect(whole.body.members[1]).toMatchObject({ drive: "drive3", state: "in-sync" });
    await expectData(client, 8 * MIB, more);
  });

  test(`serve: silent corruption: check finds it, repair mends parity ${STORY_NEEDS}`, async () => {
    const examined = await runVerb(["examine", "--json", files[3]!]);
    const dataOffset = JSON.parse(examined.stdout).dataOffsetSectors * 512;
    expect(dataOffset).toBeGreaterThan(0);
    await daemon.calmDown("raid_test");
    corrupt(files[3]!, dataOffset + 5 * MIB, randomBytes(3, 4 * KIB));
    const before = sha256(files[3]!);
    const scrub = "/v1/arrays/raid_test/scrub?wait=60";
    const checked = await curl(daemon, scrub, post({ mode: "check" }));
    expect(checked).toMatchObject({ status: 200, body: { state: "done" } });
    expect(checked.body.result.mismatchBytes).toBe(4 * KIB);
    expect((await curl(daemon, "/v1/arrays/raid_test")).body.mismatchBytes).toBe(4 * KIB);
    expect(sha256(files[3]!)).toBe(before);
    const repaired = await curl(daemon, scrub, post({ mode: "repair" }));
    expect(repaired).toMatchObject({ status: 200, body: { state: "done" } });
    const again = await curl(daemon, scrub, post({ mode: "check" }));
    expect(again.body.result.mismatchBytes).toBe(0);
    expect((await curl(daemon, "/v1/arrays/raid_test")).body.lastScrub.mode).toBe("check");
  });

  test(`serve: events and metrics: tell what happened ${STORY_NEEDS}`, async () => {
    const listed = await curl(daemon, "/v1/events?since=0", ["-H", "Accept: application/json"]);
    const kinds = listed.body.map(({ kind }: { kind: string }) => kind);
    for (const kind of ["array.created", "member.failed", "array.degraded", "rebuild.finished"]) {
      expect(kinds).toContain(kind);
    }
    const stream = await runProgram([
      ...[toolPath("curl")!, "-sSN", "--max-time", "1", "--unix-socket", daemon.apiSocket],
      "http://localhost/v1/events?since=0",
    ]);
    expect(stream.exitCode).toBe(28); // It never ends by itself.
    expect(stream.stdout).toContain("event: array.created\n");
    expect(stream.stdout).toMatch(/id: \d+\nevent: scrub.finished\ndata: \{/);
    const metrics = await curl(daemon, "/metrics");
    expect(metrics.body).toContain('parityd_array_degraded{array="raid_test"} 0');
  });

  test(`serve: SIGTERM: exit 0, one line on stdout in all ${STORY_NEEDS}`, async () => {
    await client.disconnect();
    expect(await daemon.stop()).toBe(0);
    expect(daemon.stdout).toBe(`ready api=${daemon.apiSocket} nbd=${daemon.nbdSocket}\n`);
  });
});

test.skipIf(!CAN_RUN)(
  "serve: the sockets: 0660, and gone or replaced after a stop [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("mode");
    const first = await Daemon.start(folder);
    for (const path of [first.apiSocket, first.nbdSocket]) {
      expect((statSync(path).mode & 0o7777).toString(8)).toBe("660");
    }
    expect(statSync(join(folder, "state")).mode & 0o007).toBe(0);
    await first.kill();
    const second = await Daemon.start(folder);
    expect((await second.call("GET", "/-/ready")).status).toBe(200);
    expect(await second.stop()).toBe(0);
    expect(existsSync(second.apiSocket)).toBe(false);
  },
);

const STOPS = { SIGTERM: true, SIGKILL: false } as const;

test.skipIf(!CAN_RUN).each(Object.entries(STOPS))(
  "serve: restarted after %s: drives, exports, whole and degraded arrays are back [needs libaio, direct-io]",
  async (_, isClean) => {
    const folder = makeTempDir("again");
    const files = makeFiles(folder, 7, MEMBER_BYTES);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    const whole = { name: "whole", drives: drives.slice(0, 3), chunkKiB: 16 };
    const degraded = { name: "degraded", drives: drives.slice(3, 7), chunkKiB: 256 };
    for (const body of [whole, degraded]) await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/one", { array: "whole" });
    await daemon.must("PUT", "/v1/exports/two", { array: "whole", readOnly: true });
    await daemon.must("PUT", "/v1/exports/three", { array: "degraded" });
    await daemon.must("PATCH", "/v1/arrays/whole", { readDeadlineMs: 1234 });
    const contents = [randomBytes(1, MIB), randomBytes(2, MIB)] as const;
    for (const [index, name] of ["one", "three"].entries()) {
      const client = await daemon.connect(name);
      await mustWrite(client, 700 * KIB, contents[index]!);
      await client.disconnect();
    }
    await daemon.must("POST", "/v1/arrays/degraded/members/drive4/fail", {});
    // A crash while it is dirty and degraded would need force: let it be marked clean.
    for (const name of ["whole", "degraded"]) await daemon.calmDown(name);
    const member = (await daemon.must("GET", "/v1/arrays/degraded")).members[1];
    expect(member).toMatchObject({ drive: "drive4", state: "faulty" });
    const jobs = await daemon.must("GET", "/v1/jobs");
    if (isClean) expect(await daemon.stop()).toBe(0);
    else await daemon.kill();

    daemon = await Daemon.start(folder);
    const names = (await daemon.must("GET", "/v1/drives")).map((d: { name: string }) => d.name);
    expect(names).toEqual(drives);
    const arrays = await daemon.must("GET", "/v1/arrays");
    const states = Object.fromEntries(
      arrays.map((array: { name: string; degraded: number }) => [array.name, array.degraded]),
    );
    expect(states).toEqual({ whole: 0, degraded: 1 });
    expect((await daemon.must("GET", "/v1/arrays/whole")).readDeadlineMs).toBe(1234);
    const exports = await daemon.must("GET", "/v1/exports");
    expect(exports).toMatchObject([
      { name: "one", array: "whole", readOnly: false, uris: [daemon.uri("one")] },
      { name: "three", array: "degraded", readOnly: false, uris: [daemon.uri("three")] },
      { name: "two", array: "whole", readOnly: true, uris: [daemon.uri("two")] },
    ]);
    for (const [index, name] of ["two", "three"].entries()) {
      const client = await daemon.connect(name);
      await expectData(client, 700 * KIB, contents[index]!);
      await client.disconnect();
    }
    const old = jobs.map(({ id }: { id: number }) => id);
    const back = await daemon.must("GET", "/v1/jobs");
    expect(back.map(({ id }: { id: number }) => id)).toEqual(expect.arrayContaining(old));
    const rebuilt = await daemon.must("POST", "/v1/arrays/degraded/members?wait=60", {
      drive: "drive4",
    });
    expect(rebuilt.state).toBe("done");
    expect(old).not.toContain(rebuilt.id);
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: a drive that does not come: its array starts without it, degraded [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("lacking");
    const files = makeFiles(folder, 3, MEMBER_BYTES);
    const flags = ["--degraded-start-seconds", "1"];
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "a", drives });
    await daemon.settle("a");
    expect(await daemon.stop()).toBe(0);
    // Beside the others it would be found.
    mkdirSync(join(folder, "away"));
    await mustRun(["mv", files[1]!, join(folder, "away")]);

    daemon = await Daemon.start(folder, { flags });
    expect((await daemon.must("GET", "/v1/arrays/a")).state).toBe("inactive");
    const stateNow = async () => (await daemon.must("GET", "/v1/arrays/a")).state;
    await until("it starts by itself", async () => (await stateNow()) !== "inactive");
    expect(await stateNow()).toBe("degraded");
    const stopped = await daemon.must("POST", "/v1/arrays/a/stop", {});
    expect(stopped).toMatchObject({ state: "inactive", isHeld: true });
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: a schedule whose window is open: scrubs at once, tells the result, is kept [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("schedule");
    const files = makeFiles(folder, 3, MEMBER_BYTES);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files);
    await daemon.must("POST", "/v1/arrays", { name: "a", drives });
    await daemon.settle("a");
    const body = { cron: "* * * * *", timezone: "Europe/Berlin", windowMinutes: 1 };
    const put = await daemon.must("PUT", "/v1/schedules/a", body);
    expect(put).toMatchObject({ ...body, array: "a", isDue: true, last: null });
    const view = () => daemon.must("GET", "/v1/schedules/a");
    await until("the scrub has ended", async () => (await view()).lastResult === "clean");
    const { last } = await view();
    expect((await daemon.must("GET", "/v1/arrays/a")).lastScrub.finishedAt).toBe(last);
    expect(await daemon.stop()).toBe(0);

    daemon = await Daemon.start(folder);
    expect(await view()).toMatchObject({ ...body, isDue: false, last, lastResult: "clean" });
    const shown = await runVerb(["schedule", "show", "--run-dir", join(folder, "run")]);
    expect(shown.stdout).toContain("* * * * *");
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!CAN_RUN)(
  "serve: a drive that is gone at the restart: shown as missing, its array waits for a word [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("gone");
    const files = makeFiles(folder, 3, MEMBER_BYTES);
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(files.slice(0, 2));
    const elsewhere = join(folder, "elsewhere.img");
    makeFile(elsewhere, MEMBER_BYTES);
    await daemon.must("POST", "/v1/drives", { name: "drive9", path: elsewhere });
    await daemon.must("POST", "/v1/arrays", { name: "a", drives: [...drives, "drive9"] });
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    await daemon.settle("a");
    expect(await daemon.stop()).toBe(0);
    mkdirSync(join(folder, "away"));
    await mustRun(["mv", elsewhere, join(folder, "away")]);

    daemon = await Daemon.start(folder);
    expect((await daemon.must("GET", "/v1/drives/drive9")).state).toBe("missing");
    const waiting = await daemon.must("GET", "/v1/arrays/a");
    expect(waiting.state).toBe("inactive");
    expect(waiting.reason).toContain("start the array to run degraded");
    expect(await daemon.must("GET", "/v1/exports")).toMatchObject([{ name: "a", array: "a" }]);
    // The start is not over yet: it waits with the array, and is not told that there is none.
    const early = tryConnectNbd(daemon.nbdSocket, "a");
    const started = await daemon.must("POST", "/v1/arrays/a/start", {});
    expect(started).toMatchObject({ state: "degraded", degraded: 1 });
    const client = await early;
    if (!client.ok) throw new Error(JSON.stringify(client.error));
    await mustWrite(client.value, 0, randomBytes(5, MIB));
    await client.value.disconnect();
    expect(await daemon.stop()).toBe(0);
  },
);

test("output: whoever reads it has gone: a verb ends without a word", async () => {
  // The reader ends before anything is written to it.
  const script = `{ sleep 0.3; "${binaryPath()}" --help; echo "code $?" >&2; } | true`;
  const { stdout, stderr } = await runProgram(["sh", "-c", `${script}; sleep 1`]);
  expect([stdout, stderr]).toEqual(["", "code 0\n"]);
});

test.skipIf(!CAN_RUN)(
  "log: whoever reads it has gone: the daemon goes on, and stops clean [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("unread");
    const words = [binaryPath(), ...serveWords(folder)];
    const child = keepTrack(Bun.spawn(words, { stdin: "ignore", stdout: "pipe", stderr: "pipe" }));
    const ready = await child.stdout.getReader().read();
    expect(new TextDecoder().decode(ready.value)).toStartWith("ready ");
    await child.stderr.cancel();
    const call = async (method: string, path: string, body: object | null) => {
      const answer = await fetch(`http://parityd/v1${path}`, {
        unix: join(folder, "run", "api.sock"),
        method,
        headers: { "Content-Type": "application/json" },
        ...(body === null ? {} : { body: JSON.stringify(body) }),
      });
      return [answer.ok, ((await answer.json()) as { state?: string }).state];
    };
    const drives = makeFiles(folder, 3, MEMBER_BYTES).map((path, index) => ({
      name: `drive${index}`,
      path,
    }));
    for (const drive of drives) expect((await call("POST", "/drives", drive))[0]).toBe(true);
    // Each of these is told in the log.
    const body = { name: "unread", drives: drives.map(({ name }) => name) };
    expect((await call("POST", "/arrays", body))[0]).toBe(true);
    expect((await call("POST", "/arrays/unread/members/drive1/fail", {}))[0]).toBe(true);
    await Bun.sleep(300);
    expect(await call("GET", "/arrays/unread", null)).toEqual([true, "degraded"]);
    child.kill("SIGTERM");
    expect(await child.exited).toBe(0);
  },
);
