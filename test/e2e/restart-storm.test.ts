/**
 * Goal: a daemon that is killed and started a hundred times is after the last start what it was
 * after the first: ready by as many steps, with nothing left over, and nothing that it has said
 * yes to is lost.
 *
 * Method: SIGKILL at a moment of its own each time, while two NBD clients write stamps, which
 * connect again after each start, and while settings are changed over the API. Behind each kill
 * state.db is judged as it lies there; behind each start the array, every sector, the last settings
 * that were answered, the ids of events, and what the process holds. Nothing is judged by time: a
 * start is bounded by the lines that it logs and the events that it makes. A day takes a quarter of
 * the hundred moments.
 */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { cpSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { nextBelow, SeededRandom } from "../../src/base/random.ts";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";
import { StampLoad } from "../helpers/stamp-load.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MOMENTS = Array.from({ length: 100 }, (_, index) => index + 1);
const DUE = new Share("restarts", 4).of(MOMENTS);
const CAN_RUN = needs("libaio", "direct-io");
/** What a start may say and record, however many there were before it. */
const START_LINES_MAX = 40;
const START_EVENTS_MAX = 12;
/** A start that finds other drives at once holds some more files for a moment. */
const STATE_BYTES_MAX = 4 * MIB;
const WINDOW_MINUTES = 60;

class Storm {
  readonly folder = makeTempDir("storm");
  readonly load = new StampLoad({
    seed: 1,
    windows: [0, 12 * MIB].map((offset) => ({ offset, bytes: MIB })),
  });
  daemon!: Daemon;
  resyncs = 0;
  /** Settings that were answered, and the one that was asked for last. */
  private answered = WINDOW_MINUTES;
  private asked = WINDOW_MINUTES;
  private lastEventId = 0;
  private readonly background: Promise<unknown>[] = [];
  private held: { files: number; run: string[]; state: string[] } | null = null;

  async begin(): Promise<void> {
    this.daemon = await Daemon.start(this.folder);
    const drives = await this.daemon.addDrives(makeFiles(this.folder, 3, 16 * MIB));
    const body = { name: "a", drives, chunkKiB: 64, consistencyPolicy: "resync" };
    await this.daemon.must("POST", "/v1/arrays", body);
    await this.daemon.must("PUT", "/v1/exports/a", { array: "a" });
    await this.putSchedule(WINDOW_MINUTES);
    await this.daemon.settle("a");
  }

  private putSchedule(windowMinutes: number): Promise<unknown> {
    // Once a year: none opens while this runs, but for a day of which it is said in advance.
    const cron = new Date().getMonth() === 0 ? "0 0 1 7 *" : "0 0 1 1 *";
    return this.daemon.must("PUT", "/v1/schedules/a", { cron, windowMinutes });
  }

  /** Clients write and settings change until the kill. */
  async work(): Promise<void> {
    const clients = await Promise.all([this.daemon.connect("a"), this.daemon.connect("a")]);
    this.inBackground(this.load.run(clients, { depth: 4 }));
    this.inBackground(this.changeSettings());
  }

  private async changeSettings(): Promise<void> {
    for (;;) {
      this.asked = this.answered + 1;
      await this.putSchedule(this.asked);
      this.answered = this.asked;
    }
  }

  private inBackground(work: Promise<unknown>): void {
    this.background.push(work.catch(() => {}));
  }

  /** At a moment that the number decides: at once, amid writes, or behind many of them. */
  async killAt(moment: number): Promise<void> {
    const random = new SeededRandom(moment);
    const writes = [0, 1, 1 + nextBelow(random, 300)][moment % 3]!;
    const goal = this.load.acknowledgedWrites + writes;
    await until("writes are acknowledged", () => this.load.acknowledgedWrites >= goal);
    await this.daemon.kill();
    await Promise.all(this.background.splice(0));
  }

  /** As it lies there: a copy, because to open it would be to mend it. */
  judgeStateFile(): void {
    const copy = makeTempDir("storm-state");
    cpSync(join(this.folder, "state"), copy, { recursive: true });
    const file = new Database(join(copy, "state.db"));
    expect(file.query("PRAGMA integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
    file.close();
  }

  async startAgain(): Promise<void> {
    this.daemon = await Daemon.start(this.folder);
    const lines = this.daemon.stderr.split("\n").length;
    expect(lines).toBeLessThan(START_LINES_MAX);
    if (this.daemon.stderr.includes("resync.started")) this.resyncs += 1;
  }

  async judge(): Promise<void> {
    const array = await this.daemon.must("GET", "/v1/arrays/a");
    expect(["clean", "active"]).toContain(array.state);
    expect(["idle", "resync"]).toContain(array.sync.action);
    expect(array.degraded).toBe(0);
    const { windowMinutes } = await this.daemon.must("GET", "/v1/schedules/a");
    expect([this.answered, this.asked]).toContain(windowMinutes);
    this.answered = windowMinutes;
    await this.judgeEvents();
    const client = await this.daemon.connect("a");
    expect(await this.load.verify(client)).toEqual([]);
    await client.disconnect();
    await this.judgeHeld();
  }

  /** Of the settings there are as many as were made; of the start itself a few. */
  private async judgeEvents(): Promise<void> {
    const path = `/v1/events?since=${this.lastEventId}`;
    const events: { id: number; kind: string }[] = await this.daemon.must("GET", path);
    const ids = events.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)].sort((one, other) => one - other));
    expect(ids.every((id) => id > this.lastEventId)).toBe(true);
    expect(events.filter(({ kind }) => kind !== "api.call").length).toBeLessThan(START_EVENTS_MAX);
    this.lastEventId = ids.at(-1) ?? this.lastEventId;
  }

  /** As many files, sockets and names as behind the first start. */
  private async judgeHeld(): Promise<void> {
    const { pid } = this.daemon.child;
    const files = (): number => readdirSync(`/proc/${pid}/fd`).length;
    const names = (part: string): string[] => readdirSync(join(this.folder, part)).sort();
    this.held ??= { files: files(), run: names("run"), state: names("state") };
    const { held } = this;
    await until("it holds no more files than before", () => files() <= held.files);
    expect({ run: names("run"), state: names("state") }).toEqual({
      ...{ run: held.run, state: held.state },
    });
    expect(processesOf(this.folder)).toEqual([pid]);
    const sizes = names("state").map((name) => statSync(join(this.folder, "state", name)).size);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(STATE_BYTES_MAX);
  }
}

/** Whose words name the folder. */
function processesOf(folder: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(folder);
      } catch {
        return false; // It has ended meanwhile.
      }
    })
    .map(Number);
}

test.skipIf(!CAN_RUN)(
  "restarts: killed and started again and again: nothing is lost, nothing is left over [needs libaio, direct-io]",
  () =>
    withShare(async () => {
      const storm = new Storm();
      await storm.begin();
      for (const moment of DUE) {
        try {
          await storm.work();
          await storm.killAt(moment);
          expect(processesOf(storm.folder)).toEqual([]);
          storm.judgeStateFile();
          await storm.startAgain();
          await storm.judge();
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          throw new Error(`moment ${moment}: ${message}\n${storm.daemon.stderr}`);
        }
      }
      expect(storm.resyncs).toBeGreaterThan(DUE.length / 4);
      expect(storm.load.acknowledgedWrites).toBeGreaterThan(DUE.length);
      await storm.daemon.settle("a");
      const scrub = await storm.daemon.must("POST", "/v1/arrays/a/scrub?wait=60", {});
      expect(scrub).toMatchObject({ state: "done", result: { mismatchBytes: 0 } });
      expect(await storm.daemon.stop()).toBe(0);
      expect(processesOf(storm.folder)).toEqual([]);
    }),
);
