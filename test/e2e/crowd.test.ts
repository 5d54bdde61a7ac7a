/**
 * Goal: 1,000 idle and 200 busy API clients and 300 open pages are all served at one time, by a
 * daemon whose NBD clients do not notice and that is as it was before when they have gone.
 * Method: the compiled daemon; a crowd in a process of its own over the Unix socket, a part of it
 * over TCP with a token, as ten or more machines with a browser would be; a load over NBD that
 * knows what it wrote; one page in a true browser. What it costs in time is a row of the
 * benchmark. Where this process may open too few files for so many the crowd is smaller.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { raiseDescriptorLimit } from "../../src/reactor/linux-descriptors.ts";
import { openPage } from "../helpers/browser.ts";
import { Crowd } from "../helpers/crowd.ts";
import { Daemon, keepTrack, makeFiles } from "../helpers/daemon.ts";
import { listeningPortOf } from "../helpers/listening-port.ts";
import { needs } from "../helpers/needs.ts";
import { StampLoad } from "../helpers/stamp-load.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const CAN_RUN = needs("libaio", "direct-io");
const TOKEN = "admin-token-0123456789";
/** Whom it takes to have a place for each. */
const FILES_NEEDED = 16_384;
const PART = Math.min(1, raiseDescriptorLimit() / FILES_NEEDED);
/** What so many connections may take: what each holds, and what a runtime keeps of it. */
const MEMORY_BYTES_MAX = 384 * MIB;
const WRITES = 50;

let daemon: Daemon;
let load: StampLoad;
let before = { files: 0, bytes: 0 };
const crowds: Crowd[] = [];

function usage(): { files: number; bytes: number } {
  const { pid } = daemon.child;
  const resident = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return { files: readdirSync(`/proc/${pid}/fd`).length, bytes: Number(resident) * 1024 };
}

async function writesGoOn(): Promise<void> {
  const goal = load.acknowledgedWrites + WRITES;
  await until("writes are acknowledged", () => load.acknowledgedWrites >= goal);
}

beforeAll(async () => {
  if (!CAN_RUN) return;
  const folder = makeTempDir("crowd");
  mkdirSync(join(folder, "state"));
  writeFileSync(join(folder, "state", "api-token"), `admin ${TOKEN} crowd\n`, { mode: 0o400 });
  daemon = await Daemon.start(folder, { flags: ["--api-tcp", "127.0.0.1:0"] });
  const drives = await daemon.addDrives(makeFiles(folder, 3, 16 * MIB));
  await daemon.must("POST", "/v1/arrays", { name: "a", drives });
  await daemon.must("PUT", "/v1/exports/a", { array: "a" });
  await daemon.settle("a");
  load = new StampLoad({ seed: 1, windows: [{ offset: 0, bytes: 8 * MIB }] });
});

afterAll(async () => {
  for (const crowd of crowds) await crowd.leave();
});

describe.skipIf(!CAN_RUN)("with one daemon", () => {
  test("crowd: 1,500 clients at one time: all are served, and NBD goes on [needs libaio, direct-io]", async () => {
    const clients = [await daemon.connect("a"), await daemon.connect("a")];
    const writing = load.run(clients, { depth: 4 });
    await writesGoOn();
    before = usage();
    const of = (count: number): number => Math.floor(count * PART);
    const port = listeningPortOf(daemon.child.pid);
    const unix = { idle: of(900), busy: of(150), pages: of(200) };
    const tcp = { idle: of(100), busy: of(50), pages: of(100) };
    crowds.push(new Crowd({ unix: daemon.apiSocket, ...unix }, keepTrack));
    crowds.push(new Crowd({ port, token: TOKEN, ...tcp }, keepTrack));
    await Promise.all(crowds.map((crowd) => crowd.isThere()));
    await writesGoOn();
    // All who follow hear of it.
    const heard = crowds.map(({ now }) => now.events);
    await daemon.must("PUT", "/v1/log", { level: "info" });
    for (const [index, crowd] of crowds.entries()) {
      const all = heard[index]! + crowd.streams;
      await until("each stream has the event", () => crowd.now.events >= all);
    }
    // Twice the time between two requests of the idle ones.
    const answers = crowds.map(({ now }) => now.answers);
    for (const [index, crowd] of crowds.entries()) {
      const many = answers[index]! + 4 * crowd.size;
      await until("all have been served again and again", () => crowd.now.answers >= many);
      await writesGoOn();
    }
    for (const crowd of crowds) {
      const { refused, dropped, wrong, served } = crowd.now;
      expect({ refused, dropped, wrong }).toEqual({ refused: 0, dropped: 0, wrong: [] });
      expect(served).toBe(crowd.size - crowd.streams);
    }
    expect(usage().bytes - before.bytes).toBeLessThan(MEMORY_BYTES_MAX);
    load.stop();
    await writing;
    for (const client of clients) await client.disconnect();
  });

  test.skipIf(!needs("chromium"))(
    "crowd: a page in a browser beside them: what happens is seen as it does [needs libaio, direct-io, chromium]",
    async () => {
      const { page, faults } = await openPage("light", "desktop");
      await page.goto(`http://127.0.0.1:${listeningPortOf(daemon.child.pid)}/`);
      await page.getByLabel("Token").fill(TOKEN);
      await page.keyboard.press("Enter");
      await page.getByText("3 members").first().waitFor();
      await daemon.must("POST", "/v1/arrays/a/members/drive2/fail", {});
      await page.getByText("degraded").first().waitFor();
      expect(faults).toEqual([]);
      await page.close();
    },
  );

  test("crowd: they leave: no descriptor is kept, and what was written is there [needs libaio, direct-io]", async () => {
    for (const crowd of crowds.splice(0)) await crowd.leave();
    // Without the two NBD clients that were there then.
    await until("its descriptors are back", () => usage().files <= before.files - 2);
    const client = await daemon.connect("a");
    expect(await load.verify(client)).toEqual([]);
    await client.disconnect();
    expect(await daemon.stop()).toBe(0);
  });
});
