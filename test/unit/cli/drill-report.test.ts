/**
 * Goal: the drill passes only where everything was seen and nothing was lost, and says the rest.
 *
 * Method: the facts of a good drill pass; each single thing that can be missing from them fails
 * it. The plan of faults, their harvest and their counters, the options and the ledger are pure.
 */

import { expect, test } from "bun:test";
import { z } from "zod";
import type { JobStatus, MemberStatus } from "../../../src/array/protocol.ts";
import { GIB, MIB } from "../../../src/base/units.ts";
import { Invocation } from "../../../src/cli/command.ts";
import {
  errorKindsOf,
  FAULT_KINDS,
  FaultHarvest,
  findUnseen,
  noFaults,
  planCuredError,
  planFaults,
} from "../../../src/cli/drill/faults.ts";
import { planDrill, readDrillOptions } from "../../../src/cli/drill/options.ts";
import {
  type DrillFacts,
  judgeDrill,
  renderReport,
  WRITTEN_PHASES,
} from "../../../src/cli/drill/report.ts";
import { judgeFailedRebuild } from "../../../src/cli/drill/second-act.ts";
import { drillSchema } from "../../../src/cli/report-schemas.ts";
import { Ledger } from "../../../src/nbd/client/load/ledger.ts";

function goodFacts(changes: Partial<DrillFacts> = {}): DrillFacts {
  const phase = { seconds: 5.00049, writesAcknowledged: 10, bytesVerified: MIB };
  return {
    isComplete: true,
    phases: [...WRITTEN_PHASES, "verify"].map((name) => ({ name, ...phase })),
    faults: { EAGAIN: 1, EINTR: 2, "short-read": 3, "short-write": 4, "EIO-cured": 5, slow: 6 },
    retries: 15,
    rebuild: { bytes: 128 * MIB, seconds: 2 },
    loadedRebuildSeconds: 8,
    bytesWritten: GIB,
    bytesVerified: 2 * GIB,
    failures: [],
    ...changes,
  };
}

test("verdict: everything seen, nothing lost: PASS, in the shape of the schema", () => {
  const report = judgeDrill(goodFacts());
  expect(z.strictObject(drillSchema.shape).parse(report)).toEqual(report);
  expect(Object.keys(report)).toEqual([
    "schema",
    "verdict",
    "phases",
    "faults",
    "retries",
    "rebuild",
    "failures",
  ]);
  expect(report).toMatchObject({ schema: "parityd.drill/1", verdict: "PASS", failures: [] });
  expect(report.phases[0]).toEqual({
    name: "whole",
    seconds: 5,
    writesAcknowledged: 10,
    bytesVerified: MIB,
  });
  expect(Object.keys(report.faults)).toEqual([...FAULT_KINDS]);
});

test("verdict: one failure: FAIL", () => {
  const report = judgeDrill(goodFacts({ failures: ["a byte is wrong"] }));
  expect(report).toMatchObject({ verdict: "FAIL", failures: ["a byte is wrong"] });
});

for (const name of WRITTEN_PHASES) {
  test(`verdict: no write in the phase ${name}, or no such phase: FAIL`, () => {
    const { phases } = goodFacts();
    const idle = phases.map((phase) =>
      phase.name === name ? { ...phase, writesAcknowledged: 0 } : phase,
    );
    for (const changed of [idle, phases.filter((phase) => phase.name !== name)]) {
      const report = judgeDrill(goodFacts({ phases: changed }));
      expect(report.verdict).toBe("FAIL");
      expect(report.failures).toEqual([`no write was acknowledged in the phase ${name}`]);
    }
  });
}

for (const kind of FAULT_KINDS) {
  test(`verdict: no ${kind} was injected: FAIL`, () => {
    const faults = { ...goodFacts().faults, [kind]: 0 };
    const report = judgeDrill(goodFacts({ faults }));
    expect(report.failures).toEqual([`no ${kind} was injected during the rebuild`]);
    expect(report.verdict).toBe("FAIL");
  });
}

test("verdict: cut short, or nothing verified: FAIL", () => {
  const cut = judgeDrill(goodFacts({ isComplete: false }));
  expect(cut).toMatchObject({ verdict: "FAIL", failures: ["the drill did not come to its end"] });
  // What was not reached is no finding of its own.
  const early = judgeDrill(goodFacts({ isComplete: false, phases: [], failures: ["no disk"] }));
  expect(early.failures).toEqual(["no disk"]);
  expect(judgeDrill(goodFacts({ bytesVerified: 0 })).verdict).toBe("FAIL");
});

test("report: the table: phases, faults by kind, retries, rate and verdict", () => {
  const facts = goodFacts();
  const text = renderReport(facts, judgeDrill(facts));
  expect(text).toContain("rebuild-after-cursor");
  expect(text).toContain("EAGAIN 1, EINTR 2, short-read 3, short-write 4, EIO-cured 5, slow 6");
  expect(text).toContain("64.0 MiB/s");
  expect(text).toContain("retries: 15");
  expect(text).toContain("verdict: PASS: nothing was lost");
  const failed = goodFacts({ failures: ["byte 7 is wrong"] });
  const failedText = renderReport(failed, judgeDrill(failed));
  expect(failedText).toContain("verdict: FAIL");
  expect(failedText).toContain("- byte 7 is wrong");
});

// Faults ----------------------------------------------------------------------------------------

const FAULTED = { sources: ["drive0", "drive1"], target: "drive_new", dataOffsetBytes: MIB };

test("fault plan: every kind but the cured error: planned, in the data region alone", () => {
  const planned = planFaults(FAULTED);
  expect(new Set([...planned.map(({ kind }) => kind), "EIO-cured"])).toEqual(new Set(FAULT_KINDS));
  for (const { kind, request } of planned) {
    expect(request.offset).toBe(MIB);
    expect(request.every).toBeGreaterThan(1);
    // More bytes than a request has would be a defect of the injection.
    if (request.resultBytes !== undefined) expect([512, 4096]).toContain(request.resultBytes);
    if (kind === "short-write") expect(request.op).toBe("write");
    if (kind === "short-read") expect(request.op).toBe("read");
    if (request.drive === "drive_new") expect(request.op).not.toBe("read");
  }
});

test("fault plan: the cured error: hits once, on the target and each source in turn", () => {
  const drives = [0, 1, 2, 3, 4].map((round) => {
    const { kind, request } = planCuredError({ ...FAULTED, round });
    expect(kind).toBe("EIO-cured");
    expect(request).toMatchObject({ count: 1, errno: "EIO", offset: MIB });
    return `${request.op} ${request.drive}`;
  });
  expect(drives).toEqual([
    "write drive_new",
    "read drive0",
    "write drive_new",
    "read drive1",
    "write drive_new",
  ]);
});

test("fault harvest: counts by kind; what has gone keeps its last count", () => {
  const harvest = new FaultHarvest();
  harvest.posted(1, "EAGAIN");
  harvest.posted(2, "EAGAIN");
  harvest.posted(3, "slow");
  harvest.absorb([
    { id: 1, injected: 4 },
    { id: 3, injected: 1 },
    { id: 9, injected: 100 },
  ]);
  harvest.absorb([
    { id: 2, injected: 2 },
    { id: 3, injected: 0 },
  ]);
  expect(harvest.counts()).toEqual({ ...noFaults(), EAGAIN: 6, slow: 1 });
});

function kindsOf(errorKinds: Readonly<Record<string, Record<string, number>>>) {
  return errorKindsOf(
    Object.entries(errorKinds).map(
      ([drive, kinds]) => ({ drive, errorKinds: kinds }) as MemberStatus,
    ),
  );
}

test("fault counters: the growth since before the rebuild covers what was injected: seen", () => {
  const injected = { ...noFaults(), EAGAIN: 3, "short-read": 2, "short-write": 2, "EIO-cured": 1 };
  const before = kindsOf({ drive0: { EAGAIN: 50 } });
  const after = kindsOf({
    drive0: { EAGAIN: 52, short: 2, EIO: 1 },
    drive_new: { EAGAIN: 1, short: 2 },
  });
  expect(findUnseen(injected, { before, after })).toEqual([]);
});

test("fault counters: one fewer than injected, of any kind: found", () => {
  const injected = { ...noFaults(), EAGAIN: 1, EINTR: 1, "short-read": 1, "EIO-cured": 1, slow: 9 };
  const full: Record<string, number> = { EAGAIN: 1, EINTR: 1, short: 1, EIO: 1 };
  const before = kindsOf({});
  expect(findUnseen(injected, { before, after: kindsOf({ drive0: full }) })).toEqual([]);
  for (const name of Object.keys(full)) {
    const after = kindsOf({ drive0: { ...full, [name]: 0 } });
    expect(findUnseen(injected, { before, after })).toHaveLength(1);
  }
});

const FAILED_JOB: JobStatus = {
  id: 3,
  kind: "rebuild",
  array: "raid_test",
  arrayUuid: "00000000:00000000:00000000:0000000a",
  state: "failed",
  done: 48 * MIB,
  total: 100 * MIB,
  unit: "bytes",
  rateBytesPerSecond: 0,
  etaSeconds: null,
  error: "drive drive_dying failed",
  result: {},
  startedAt: "2026-01-01T00:00:00Z",
  finishedAt: "2026-01-01T00:00:01Z",
};

test("second act: a rebuild that failed half way with a reason: as it should be", () => {
  expect(judgeFailedRebuild(FAILED_JOB)).toEqual([]);
});

const WRONG_ENDS: readonly [string, Partial<JobStatus>][] = [
  ["done", { state: "done" }],
  ["cancelled", { state: "cancelled" }],
  ["without a reason", { error: null }],
  ["with an empty reason", { error: "" }],
  ["at the start", { done: 0 }],
  ["at the end", { done: 100 * MIB }],
];
for (const [name, changes] of WRONG_ENDS) {
  test(`second act: a rebuild that ended ${name}: found`, () => {
    expect(judgeFailedRebuild({ ...FAILED_JOB, ...changes })).toHaveLength(1);
  });
}

// Options and ledger ----------------------------------------------------------------------------

test("options: none: 3 members of 256 MiB together; some: taken", () => {
  expect(readDrillOptions(new Invocation({}, []))).toEqual({
    ok: true,
    value: { members: 3, sizeBytes: 256 * MIB, directory: null, json: false },
  });
  const given = { members: "5", size: "1GiB", dir: "/x", json: true };
  expect(readDrillOptions(new Invocation(given, []))).toEqual({
    ok: true,
    value: { members: 5, sizeBytes: GIB, directory: "/x", json: true },
  });
});

for (const values of [
  { members: "2" },
  { members: "17" },
  { members: "3.5" },
  { members: "three" },
  { members: "" },
  { size: "15MiB" },
  { size: "2TiB" },
  { size: "256MB" },
]) {
  test(`options: ${JSON.stringify(values)}: refused`, () => {
    expect(readDrillOptions(new Invocation(values, [])).ok).toBe(false);
  });
}

test("plan: 3 to 16 members: whole chunks, at least the size, room before the data", () => {
  for (let members = 3; members <= 16; members += 1) {
    for (const sizeBytes of [16 * MIB, 100 * MIB + 1, 256 * MIB, 300 * GIB]) {
      const plan = planDrill({ members, sizeBytes });
      expect(plan.sizeBytes).toBe(plan.memberBytes * (members - 1));
      expect(plan.memberBytes % (64 * 1024)).toBe(0);
      expect(plan.sizeBytes).toBeGreaterThanOrEqual(sizeBytes);
      expect(plan.sizeBytes - sizeBytes).toBeLessThan(64 * 1024 * members);
      // The headroom of mdadm: at most a thousandth and a few MiB.
      expect(plan.fileBytes).toBeGreaterThan(plan.memberBytes * 1.002 + 4 * MIB);
      expect(plan.driveNames).toHaveLength(members);
      expect(plan.driveNames).toContain("drive2");
    }
  }
});

test("ledger: a write that crosses phases: counted in the sum, in neither phase", () => {
  let nowMs = 1_000;
  const ledger = new Ledger(() => nowMs);
  const whole = ledger.begin("whole");
  ledger.acknowledged(100, ledger.phase);
  const submittedIn = ledger.phase;
  nowMs = 3_500;
  const degraded = ledger.begin("degraded");
  ledger.acknowledged(50, submittedIn);
  ledger.verified(7);
  nowMs = 4_000;
  ledger.end();
  ledger.verified(1);
  ledger.acknowledged(1, null);
  expect(whole).toEqual({ name: "whole", seconds: 2.5, writesAcknowledged: 1, bytesVerified: 0 });
  expect(degraded).toMatchObject({ seconds: 0.5, writesAcknowledged: 0, bytesVerified: 7 });
  expect(ledger).toMatchObject({ writesAcknowledged: 3, bytesWritten: 151, bytesVerified: 8 });
});

test("ledger: thousands of failures: the first ones are kept", () => {
  const ledger = new Ledger(() => 0);
  for (let count = 0; count < 5_000; count += 1) ledger.fail(`failure ${count}`);
  expect(ledger.failures).toHaveLength(20);
  expect(ledger.failures[0]).toBe("failure 0");
});
