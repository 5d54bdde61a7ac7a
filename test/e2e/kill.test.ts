/**
 * Goal: a daemon that is killed at any moment loses nothing that it has acknowledged, and the
 * array comes back consistent (faults.md R24): idle, under write load, in a rebuild, and while
 * members fail and are added, so that superblocks are being written.
 *
 * Method: `parityd serve` over five files of 64 MiB with O_DIRECT, and a sixth that takes the place
 * of a member, so that a rebuild never finds the right bytes there by chance. A load stamps sectors
 * over two NBD connections; SIGKILL comes at a seeded moment; the daemon is started again over the
 * same directories. Every sector must hold what was acknowledged or was under way; after the resync
 * or rebuild a check must find no mismatch. An array that was dirty and degraded must say so, and
 * start with force; with `ppl` it never is. A day takes one or two of the nine ways to be killed,
 * with the seed of the day; five days in a row take all. With SEED or KILLS given all are run.
 *
 *   SEED=7 KILLS=500 bun test ./test/e2e/kill.test.ts -t "kill: write load, ppl"
 *
 * The seed fixes what is done and when; how the kernel schedules it is not ours to repeat.
 */
import { expect, setDefaultTimeout, test } from "bun:test";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { KIB, MIB, roundDown } from "../../src/base/units.ts";
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import { LAYOUT_LEFT_SYMMETRIC } from "../../src/md/layout.ts";
import { Geometry } from "../../src/raid5/geometry.ts";
import { type Answer, Daemon, makeFiles } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { Share, TODAY, withShare } from "../helpers/share.ts";
import { StampLoad } from "../helpers/stamp-load.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { TEST_LIMIT_MS } from "../helpers/test-limit.ts";
import { until } from "../helpers/until.ts";

const IS_CHOSEN = process.env["SEED"] !== undefined || process.env["KILLS"] !== undefined;
const SEED = Number(process.env["SEED"] ?? TODAY);
const KILLS = Number(process.env["KILLS"] ?? 10);
const MEMBERS = 5;
const MEMBER_BYTES = 64 * MIB;
const CHUNK_BYTES = 64 * KIB;
const CAN_RUN = needs("libaio", "direct-io");
const ARRAY = "/v1/arrays/a";
const WRITES_UNDER_WAY = 10;
const FLAGS = ["--allow-fault-injection"];

// 500 kills take longer than a test may.
setDefaultTimeout(Math.max(TEST_LIMIT_MS, KILLS * 3_000));

/** What the array is doing when the kill comes, and its policy. */
const WAYS = [
  "idle, ppl",
  "write load, resync",
  "write load, bitmap",
  "write load, ppl",
  "rebuild, resync",
  "rebuild, ppl",
  "superblock update, resync",
  "superblock update, ppl",
  "stop",
] as const;
const DUE: readonly string[] = IS_CHOSEN ? WAYS : new Share("kills", 5).of(WAYS);

/** Does something to the array and resolves at the moment of the kill. */
type Disturbance = (bench: Bench) => Promise<void>;

class Bench {
  readonly random: SeededRandom;
  readonly load: StampLoad;
  readonly geometry: Geometry;
  daemon: Daemon;
  readonly policy: ConsistencyPolicy;
  /** Rounds in which the array was found dirty and degraded. */
  forcedStarts = 0;
  /** Rounds in which the array came back dirty, with all members. */
  resyncs = 0;
  /** From 1. */
  round = 0;
  /** Rounds in which the array came back in each state. */
  readonly found = new Map<string, number>();
  /** What still runs when the kill comes; it ends with the connections. */
  private readonly background: Promise<unknown>[] = [];

  private constructor(
    daemon: Daemon,
    sizeBytes: number,
    { seed, policy }: { seed: number; policy: ConsistencyPolicy },
  ) {
    this.daemon = daemon;
    this.policy = policy;
    this.random = new SeededRandom(seed);
    this.geometry = new Geometry({
      memberCount: MEMBERS,
      chunkBytes: CHUNK_BYTES,
      layout: LAYOUT_LEFT_SYMMETRIC,
      memberSizeBytes: sizeBytes / (MEMBERS - 1),
    });
    const last = roundDown(sizeBytes, MIB) - 2 * MIB;
    this.load = new StampLoad({
      seed,
      windows: [0, roundDown(last / 2, MIB), last].map((offset) => ({ offset, bytes: 2 * MIB })),
    });
  }

  static async make(seed: number, policy: ConsistencyPolicy): Promise<Bench> {
    const folder = makeTempDir("kill");
    const files = makeFiles(folder, MEMBERS + 1, MEMBER_BYTES);
    const daemon = await Daemon.start(folder, { flags: FLAGS });
    const drives = await daemon.addDrives(files);
    const chunkKiB = CHUNK_BYTES / KIB;
    const body = { name: "a", drives: drives.slice(1), chunkKiB, consistencyPolicy: policy };
    const { sizeBytes } = await daemon.must("POST", "/v1/arrays", body);
    await daemon.must("PUT", "/v1/exports/a", { array: "a" });
    await daemon.settle("a");
    return new Bench(daemon, sizeBytes, { seed, policy });
  }

  below(bound: number): number {
    return nextBelow(this.random, bound);
  }

  pause(milliseconds: number): Promise<void> {
    return Bun.sleep(this.below(milliseconds));
  }

  /** Resolves when it is well under way. */
  async startLoad(): Promise<void> {
    const { load } = this;
    const clients = await Promise.all([this.daemon.connect("a"), this.daemon.connect("a")]);
    const goal = load.acknowledgedWrites + WRITES_UNDER_WAY;
    this.inBackground(load.run(clients, { depth: 6 }));
    await until("writes are acknowledged", () => load.acknowledgedWrites >= goal);
  }

  /** Runs on until the kill; what the kill does to it is no failure. */
  inBackground(work: Promise<unknown>): void {
    this.background.push(work.catch(() => {}));
  }

  /** Resolves when the daemon is gone and the load has noticed. */
  async kill(): Promise<void> {
    await this.daemon.kill();
    await Promise.all(this.background.splice(0));
  }

  async restart(): Promise<void> {
    this.daemon = await Daemon.start(this.daemon.folder, { flags: FLAGS });
  }

  async status(): Promise<Answer["body"]> {
    return this.daemon.must("GET", ARRAY);
  }

  /** A dirty and degraded array is refused with its reason; force starts it. */
  async assemble(): Promise<void> {
    let status = await this.status();
    const { found } = this;
    const what = status.sync.action === "idle" ? status.state : status.sync.action;
    found.set(what, (found.get(what) ?? 0) + 1);
    if (this.daemon.stderr.includes("event=resync.started")) this.resyncs += 1;
    if (status.state !== "inactive") return;
    expect(this.policy).not.toBe("ppl");
    const refused = await this.daemon.call("POST", `${ARRAY}/start`, {});
    expect(refused.body.type).toBe("urn:parityd:problem:dirty-and-degraded");
    expect(refused.status).toBe(409);
    expect(refused.body.detail).toContain("force");
    status = await this.daemon.must("POST", `${ARRAY}/start`, { force: true });
    this.forcedStarts += 1;
    const missing = status.members.find((member: { state: string }) => member.state !== "in-sync");
    this.load.forgiveRole(missing.role, this.geometry);
  }

  async verify(): Promise<void> {
    const client = await this.daemon.connect("a");
    const wrong = await this.load.verify(client);
    await client.disconnect();
    expect(wrong.slice(0, 5)).toEqual([]);
  }

  /** The names of the drives that are members, from any of them on, and of the others. */
  async drives(): Promise<{ members: string[]; free: string[] }> {
    const all: { name: string; state: string }[] = await this.daemon.must("GET", "/v1/drives");
    const names = (isMember: boolean) =>
      all.filter(({ state }) => (state === "member") === isMember).map(({ name }) => name);
    const members = names(true);
    const first = this.below(members.length);
    return { members: [...members.slice(first), ...members.slice(0, first)], free: names(false) };
  }

  /**
   * Adds a drive as a member. A kill may have come between its empty logs and its first superblock:
   * it no longer reads as zeros, and nothing on it says whose it is, so it takes force.
   */
  async addMember(drive: string, query = ""): Promise<Answer["body"]> {
    const path = `${ARRAY}/members${query}`;
    const { state } = await this.daemon.must("GET", `/v1/drives/${drive}`);
    const isHalfLaidOut = state === "foreign";
    if (isHalfLaidOut) {
      const refused = await this.daemon.call("POST", path, { drive });
      expect(refused.body.type).toBe("urn:parityd:problem:drive-has-data");
    }
    return this.daemon.must("POST", path, { drive, force: isHalfLaidOut });
  }

  /** All members in sync again: adds the one that is not, and waits. */
  async mend(): Promise<void> {
    const status = await this.daemon.settle("a");
    if (status.degraded === 0) return;
    const { free } = await this.drives();
    const job = await this.addMember(free[this.below(free.length)]!, "?wait=60");
    expect(job.state).toBe("done");
    await this.verify();
  }

  async check(): Promise<void> {
    const { state, degraded } = await this.daemon.settle("a");
    expect({ degraded, isWhole: state === "clean" || state === "active" }).toEqual({
      degraded: 0,
      isWhole: true,
    });
    const job = await this.daemon.must("POST", `${ARRAY}/scrub?wait=60`, { mode: "check" });
    expect(job).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
  }
}

async function killAgainAndAgain(
  kind: string,
  policy: ConsistencyPolicy,
  disturb: Disturbance,
): Promise<Bench> {
  const bench = await Bench.make(SEED, policy);
  for (let round = 1; round <= KILLS; round += 1) {
    bench.round = round;
    try {
      await disturb(bench);
      await bench.kill();
      await bench.restart();
      await bench.assemble();
      await bench.verify();
      await bench.mend();
      await bench.check();
    } catch (error) {
      const repeat = `SEED=${SEED} KILLS=${KILLS} bun test ./test/e2e/kill.test.ts -t "kill: ${kind}, ${policy}"`;
      const message = error instanceof Error ? error.message : String(error);
      throw new Error(`${repeat}\nround ${round}: ${message}\n${bench.daemon.stderr}`);
    }
  }
  expect(await bench.daemon.stop()).toBe(0);
  return bench;
}

function testIfDue(way: string, name: string, body: () => Promise<void>): void {
  if (DUE.includes(way)) test.skipIf(!CAN_RUN)(name, () => withShare(body));
}

testIfDue(
  "stop",
  "stop: SIGTERM under write load: clean, every acknowledged write is there [needs libaio, direct-io]",
  async () => {
    const bench = await Bench.make(SEED, "ppl");
    for (let round = 1; round <= Math.ceil(KILLS / 2); round += 1) {
      await bench.startLoad();
      await bench.pause(200);
      expect(await bench.daemon.stop()).toBe(0);
      await bench.kill();
      await bench.restart();
      await bench.assemble();
      await bench.verify();
    }
    expect([...bench.found.keys()]).toEqual(["clean"]);
    expect(bench.resyncs).toBe(0);
    await bench.check();
    expect(await bench.daemon.stop()).toBe(0);
  },
);

testIfDue(
  "idle, ppl",
  "kill: idle, ppl: comes back clean, without a resync [needs libaio, direct-io]",
  async () => {
    const bench = await killAgainAndAgain("idle", "ppl", async (b) => {
      const client = await b.daemon.connect("a");
      await b.load.burst(client, 3);
      while ((await b.status()).state !== "clean") await Bun.sleep(10);
      await b.pause(60);
    });
    expect([...bench.found]).toEqual([["clean", KILLS]]);
    expect(bench.resyncs).toBe(0);
  },
);

for (const policy of ["resync", "bitmap", "ppl"] as const) {
  testIfDue(
    `write load, ${policy}`,
    `kill: write load, ${policy}: every acknowledged write is there [needs libaio, direct-io]`,
    async () => {
      const bench = await killAgainAndAgain("write load", policy, async (b) => {
        await b.startLoad();
        await b.pause(150);
      });
      expect(bench.load.acknowledgedWrites).toBeGreaterThanOrEqual(KILLS * WRITES_UNDER_WAY);
      expect(bench.forcedStarts).toBe(0);
      // Nearly always there was a write within the last moments, so parity is made anew; by a
      // replay it is right at the start.
      if (policy === "ppl") expect(bench.resyncs).toBeLessThan(KILLS / 2);
      else expect(bench.resyncs).toBeGreaterThan(KILLS / 2);
      expect(bench.found.has("degraded")).toBe(false);
    },
  );
}

for (const policy of ["resync", "ppl"] as const) {
  testIfDue(
    `rebuild, ${policy}`,
    `kill: rebuild, ${policy}: goes on, with and without writes [needs libaio, direct-io]`,
    async () => {
      const bench = await killAgainAndAgain("rebuild", policy, async (b) => {
        const { members, free } = await b.drives();
        const speed = 100 * MIB + b.below(300) * MIB;
        await b.daemon.must("PATCH", ARRAY, { syncSpeedMin: speed, syncSpeedMax: speed });
        await b.daemon.must("POST", `${ARRAY}/members/${members[0]}/fail`, {});
        await b.daemon.must("DELETE", `${ARRAY}/members/${members[0]}`);
        await b.load.burst(await b.daemon.connect("a"), 3);
        // Dirty and degraded needs force: in most rounds it is only degraded.
        if (b.round % 3 === 1) await b.startLoad();
        else await b.daemon.calmDown("a");
        await b.addMember(free[0]!);
        await b.pause(350);
      });
      expect(bench.found.get("rebuild") ?? 0).toBeGreaterThan(0);
      if (policy === "resync") expect(bench.forcedStarts).toBeGreaterThan(0);
    },
  );

  testIfDue(
    `superblock update, ${policy}`,
    `kill: superblock update, ${policy}: members fail and are added [needs libaio, direct-io]`,
    async () => {
      const bench = await killAgainAndAgain("superblock update", policy, async (b) => {
        const writes = (["on", "none", "some"] as const)[b.round % 3]!;
        b.inBackground(changeMembers(b, { writes }));
        const goal = b.load.acknowledgedWrites + WRITES_UNDER_WAY;
        // Dirty and degraded for certain; in the other rounds the kill may come before that.
        const isDirty = async () =>
          b.load.acknowledgedWrites >= goal && (await b.status()).degraded > 0;
        if (writes === "on" && b.round % 2 === 0) await until("dirty and degraded", isDirty);
        await b.pause(b.below(2) === 0 ? 40 : 250);
      });
      expect([...bench.found.keys()].length).toBeGreaterThan(1);
      if (policy === "resync") expect(bench.forcedStarts).toBeGreaterThan(0);
    },
  );
}

/** Replaces one member after the other. With writes "on" one dies under them, and that is all. */
async function changeMembers(
  bench: Bench,
  { writes }: { writes: "none" | "some" | "on" },
): Promise<void> {
  const { daemon, load } = bench;
  const client = await daemon.connect("a");
  let { members, free } = await bench.drives();
  for (;;) {
    const [victim, ...rest] = members;
    if (writes === "on") {
      const dead = { drive: victim, op: "any", errno: "ENXIO" };
      await daemon.must("POST", "/v1/faults", dead);
      await load.run([client], { depth: 3 });
      return;
    }
    await daemon.must("POST", `${ARRAY}/members/${victim}/fail`, {});
    if (writes === "some") await load.burst(client, 4);
    await daemon.must("DELETE", `${ARRAY}/members/${victim}`);
    await bench.addMember(free[0]!, "?wait=60");
    members = [...rest, free[0]!];
    free = [victim!];
  }
}
