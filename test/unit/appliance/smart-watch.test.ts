/**
 * Goal: disks are asked an hour apart, one after the other, and never while a drive hangs or the
 * kernel is not at ease with one; what becomes worse is told once, also over a restart.
 * Method: the real watch with a clock, drives and tools that do as they are told.
 */
import { expect, test } from "bun:test";
import { SmartWatch } from "../../../src/appliance/drives/smart-watch.ts";
import type { ToolAnswer, ToolRequest } from "../../../src/appliance/host/linux-tool.ts";
import { EventLog } from "../../../src/appliance/state/event-log.ts";
import type { StateStore } from "../../../src/appliance/state/state-store.ts";
import type { DriveStatus } from "../../../src/array/protocol.ts";
import { silentLog } from "../../../src/base/log.ts";
import { ok } from "../../../src/base/result.ts";
import { exited, FakeTools } from "../../helpers/fake-tools.ts";
import { memoryStore } from "../../helpers/sim-appliance.ts";
import { nvme, sataDisk } from "../../helpers/smart-outputs.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const WALL_MS = Date.parse("2026-11-30T12:00:00Z");
const ARRAY = "array-1";

interface ModelDrive {
  disks: string[];
  status: Partial<DriveStatus>;
}

class Model {
  readonly drives = new Map<string, ModelDrive>();
  readonly troubles = new Map<string, string>();
  /** What each disk prints; a function where it is no plain output. */
  readonly outputs = new Map<string, object | ((request: ToolRequest) => Promise<ToolAnswer>)>();
  readonly tools = new FakeTools((request) => this.answer(request));
  readonly store: StateStore;
  readonly watch: SmartWatch;
  nowMs = 0;
  exitCode = 0;
  isInstalled = true;
  private timers: { atMs: number; run: () => void }[] = [];

  constructor(store: StateStore = memoryStore()) {
    this.store = store;
    const { drives } = this;
    this.watch = new SmartWatch({
      drives: {
        get known() {
          return [...drives.keys()].map((name) => ({ name }));
        },
        disksOf: (names) => new Set(names.flatMap((name) => this.drives.get(name)?.disks ?? [])),
      },
      opener: { diskTrouble: async (disk) => this.troubles.get(disk) ?? null },
      listDrives: async () => ok(this.list()),
      labelOf: (uuid) => (uuid === ARRAY ? "tank" : uuid),
      tools: this.tools,
      store,
      events: new EventLog({ store, log: silentLog }),
      alarms: {
        nowMs: () => this.nowMs,
        wallMs: () => WALL_MS + this.nowMs,
        after: (delayMs, run) => {
          const timer = { atMs: this.nowMs + delayMs, run };
          this.timers.push(timer);
          return () => {
            this.timers = this.timers.filter((one) => one !== timer);
          };
        },
      },
    });
  }

  add(name: string, disks: string[], status: Partial<DriveStatus> = {}): ModelDrive {
    const superblock = {
      ...{ arrayUuid: ARRAY, deviceUuid: name, arrayName: "tank", role: 0, eventCount: 1 },
    };
    const drive = { disks, status: { state: "member", superblock, ...status } as const };
    this.drives.set(name, drive);
    for (const disk of disks) if (!this.outputs.has(disk)) this.outputs.set(disk, sataDisk());
    return drive;
  }

  list(): DriveStatus[] {
    return [...this.drives].map(([name, { status }]) => ({
      ...{ name, path: `/dev/${name}`, sizeBytes: 1, logicalBlockBytes: 512, state: "available" },
      ...status,
    }));
  }

  view(name: string) {
    return this.watch.view(this.list().find((drive) => drive.name === name)!);
  }

  get events(): readonly { readonly message: string }[] {
    return this.store.state.events.map(({ kind, severity, drive, array, message }) => ({
      ...{ kind, severity, drive, array, message },
    }));
  }

  get asked(): string[] {
    return this.tools.asked.map(({ words }) => words.at(-1)!);
  }

  /** Turns the clock, with every timer and everything that follows. */
  async run(forMs: number): Promise<void> {
    const endMs = this.nowMs + forMs;
    for (;;) {
      await settle();
      const next = this.timers.toSorted((left, right) => left.atMs - right.atMs)[0];
      if (next === undefined || next.atMs > endMs) break;
      this.timers = this.timers.filter((timer) => timer !== next);
      this.nowMs = next.atMs;
      next.run();
    }
    this.nowMs = endMs;
  }

  private answer(request: ToolRequest): ToolAnswer | Promise<ToolAnswer> {
    if (!this.isInstalled) return { kind: "absent" };
    const output = this.outputs.get(request.words.at(-1)!.slice("/dev/".length));
    if (typeof output === "function") return output(request);
    return exited(JSON.stringify(output ?? {}), this.exitCode);
  }
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

function started(store?: StateStore): Model {
  const model = new Model(store);
  model.watch.start();
  return model;
}

test("smart watch: disks are asked at the start and each hour, each once for all drives on it", async () => {
  const model = started();
  model.add("a", ["sda"]);
  model.add("a2", ["sda"]);
  model.add("b", ["cciss!c0d0"]);
  expect(model.view("a")).toMatchObject({
    readAt: null,
    reason: "the disk has not been asked yet",
  });
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sda", "/dev/cciss/c0d0"]);
  const [{ program, words, deadlineMs }] = model.tools.asked as [ToolRequest];
  expect([program, deadlineMs]).toEqual(["smartctl", 30_000]);
  for (const word of ["--json=c", "--nocheck=standby,3"]) expect(words).toContain(word);
  const shown = { health: "passed", readAt: "2026-11-30T12:00:05.000Z", reason: null };
  for (const name of ["a", "a2"]) expect(model.view(name)).toMatchObject(shown);
  await model.run(HOUR_MS - 2 * MINUTE_MS);
  expect(model.asked).toHaveLength(2);
  await model.run(3 * MINUTE_MS);
  expect(model.asked).toHaveLength(4);
  await model.run(24 * HOUR_MS);
  expect(model.asked.length).toBeGreaterThanOrEqual(2 * 24);
  expect(model.asked.length).toBeLessThanOrEqual(2 * 27);
  expect(model.events).toEqual([]);
  model.watch.stop();
  const count = model.asked.length;
  await model.run(2 * HOUR_MS);
  expect(model.asked).toHaveLength(count);
});

test("smart watch: none while any member hangs, nor of a disk whose own drive does", async () => {
  const model = started();
  const a = model.add("a", ["sda"]);
  model.add("b", ["sdb"]);
  a.status = { ...a.status, isSilent: true };
  await model.run(2 * HOUR_MS);
  expect(model.asked).toEqual([]);
  expect(model.view("b").reason).toBe("not asked: drive a does not answer");
  // It was failed: its own disk is still left alone, the others are not.
  a.status = { ...a.status, state: "faulty" };
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sdb"]);
  expect(model.view("a").reason).toBe("not asked: drive a does not answer");
  expect(model.view("b").reason).toBeNull();
  // A drive beside it on the same disk is left alone, too.
  model.add("a2", ["sda"]);
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sdb"]);
  a.status = { state: "faulty" };
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sdb", "/dev/sda"]);
});

test("smart watch: a member begins to hang while a disk is asked: the next one is not", async () => {
  const model = started();
  model.add("a", ["sda"]);
  const b = model.add("b", ["sdb"]);
  model.outputs.set("sda", async () => {
    b.status = { ...b.status, isSilent: true };
    return exited(JSON.stringify(sataDisk()));
  });
  await model.run(10 * MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sda"]);
});

test("smart watch: none of a disk that the kernel is not at ease with", async () => {
  const model = started();
  model.add("a", ["sda"]);
  model.add("b", ["sdb"]);
  model.troubles.set("sda", "its controller host0 is in recovery");
  await model.run(2 * HOUR_MS);
  expect(model.asked).toEqual(["/dev/sdb", "/dev/sdb"]);
  expect(model.view("a").reason).toBe("not asked: its controller host0 is in recovery");
  model.troubles.clear();
  await model.run(MINUTE_MS);
  expect(model.asked).toContain("/dev/sda");
  expect(model.view("a").reason).toBeNull();
});

test("smart watch: no answer, too much, none installed: said, the last reading is shown", async () => {
  const model = started();
  model.add("a", ["sda"]);
  model.isInstalled = false;
  await model.run(MINUTE_MS);
  expect(model.view("a")).toMatchObject({ readAt: null, health: "unknown" });
  expect(model.view("a").reason).toContain("smartctl is not installed");
  model.isInstalled = true;
  await model.run(MINUTE_MS);
  expect(model.view("a")).toMatchObject({ health: "passed", reason: null });
  const { readAt } = model.view("a");
  for (const [answer, text] of [
    [{ kind: "late" }, "did not answer within 30 s"],
    [{ kind: "stuck" }, "still waits for the disk"],
    [{ kind: "flooded" }, "printed far more"],
    [{ kind: "failed", detail: "EACCES" }, "could not be started: EACCES"],
    [exited("", 3), "sleeps, and was not woken"],
    [exited("nonsense"), "no JSON object"],
    [{ ...exited(""), exitCode: null }, "ended by a signal"],
  ] as const) {
    model.outputs.set("sda", async () => answer as ToolAnswer);
    await model.run(HOUR_MS + MINUTE_MS);
    const view = model.view("a");
    expect(view).toMatchObject({ readAt, health: "passed", powerOnHours: 12_034 });
    expect(view.reason).toContain(text);
  }
  expect(model.events).toEqual([]);
});

test("smart watch: programs that wait for other disks: four of them, and no more is started", async () => {
  const model = started();
  model.add("a", ["sda"]);
  model.tools.overdueCount = 4;
  await model.run(HOUR_MS);
  expect(model.asked).toEqual([]);
  expect(model.view("a").reason).toContain("4 programs still wait");
  model.tools.overdueCount = 3;
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sda"]);
});

test("smart watch: one at a time, and a slow one keeps its turn", async () => {
  const model = started();
  let answer: (value: ToolAnswer) => void = () => {};
  model.add("a", ["sda"]);
  model.add("b", ["sdb"]);
  model.outputs.set("sda", () => new Promise((resolve) => (answer = resolve)));
  await model.run(10 * MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sda"]);
  answer(exited(JSON.stringify(sataDisk())));
  await model.run(MINUTE_MS);
  expect(model.asked).toEqual(["/dev/sda", "/dev/sdb"]);
});

test("smart watch: no disk, several, a missing drive: the reason, and nobody is asked", async () => {
  const model = started();
  model.add("tmpfs", ["0:42"]);
  model.add("lvm", ["sda", "sdb"]);
  model.add("gone", [], { state: "missing" });
  await model.run(2 * HOUR_MS);
  expect(model.asked).toEqual([]);
  expect(model.view("tmpfs").reason).toBe("it lies on no disk that this host can name");
  expect(model.view("lvm").reason).toBe("it lies on several disks: sda, sdb");
  expect(model.view("gone").reason).toBe("the drive is missing");
});

test("smart watch: what becomes worse is told once, and a restart tells nothing twice", async () => {
  let model = started();
  model.add("a", ["sda"]);
  model.outputs.set("sda", sataDisk({ reallocated: 8, passed: false }));
  await model.run(3 * HOUR_MS);
  const first = [
    {
      ...{ kind: "drive.smart-failing", severity: "critical", drive: "a", array: "tank" },
      message:
        "drive a is failing by its own account (SMART): its own assessment is that it is failing",
    },
    {
      ...{ kind: "drive.smart-worse", severity: "warning", drive: "a", array: "tank" },
      message: "drive a (SMART): 8 reallocated sectors",
    },
  ] as const;
  expect(model.events).toEqual([...first]);
  const { outputs, store } = model;
  model = started(store);
  model.add("a", ["sda"]);
  // What was read before is shown before anybody is asked again.
  expect(model.view("a")).toMatchObject({ health: "failing", reallocatedSectors: 8 });
  model.outputs.set("sda", outputs.get("sda")!);
  await model.run(3 * HOUR_MS);
  expect(model.asked.length).toBeGreaterThan(2);
  expect(model.events).toEqual([...first]);
  model.outputs.set("sda", sataDisk({ reallocated: 16, passed: false }));
  await model.run(3 * HOUR_MS);
  expect(model.events.slice(2).map(({ message }) => message)).toEqual([
    "drive a (SMART): 16 reallocated sectors",
  ]);
});

test("smart watch: another disk under the same name: told of anew", async () => {
  const model = started();
  model.add("a", ["sda"]);
  model.outputs.set("sda", sataDisk({ reallocated: 8 }));
  await model.run(HOUR_MS);
  model.outputs.set("sda", sataDisk({ reallocated: 4, serial: "WD-OTHER" }));
  await model.run(2 * HOUR_MS);
  expect(model.events.map(({ message }) => message)).toEqual([
    "drive a (SMART): 8 reallocated sectors",
    "drive a (SMART): 4 reallocated sectors",
  ]);
});

test("smart watch: the disk is pulled while it is asked: what it says is nobody's", async () => {
  const model = started();
  const a = model.add("a", ["sda"]);
  model.outputs.set("sda", async () => {
    a.disks = ["sdb"];
    return exited(JSON.stringify(nvme({ warning: 8 })));
  });
  await model.run(MINUTE_MS);
  expect(model.events).toEqual([]);
  expect(model.view("a").readAt).toBeNull();
});
