/**
 * Goal: what smartctl says is read right for each kind of drive, and nothing that it says, or that
 * somebody says in its place, does harm. Method: outputs in the shape of smartmontools 7; then
 * every part of them missing, of another type, or cut off.
 */
import { expect, test } from "bun:test";
import { readSmart } from "../../../src/appliance/drives/smart-report.ts";
import type { SmartReading } from "../../../src/appliance/state/smart-row.ts";
import {
  nvme,
  sasDisk,
  sataDisk,
  sataSsd,
  sleepingDisk,
  virtualDisk,
} from "../../helpers/smart-outputs.ts";

function reading(document: unknown, exitCode = 0): SmartReading {
  const read = readSmart(JSON.stringify(document), exitCode);
  if (!read.ok) throw new Error(read.error);
  return read.value;
}

function refusal(text: string, exitCode = 0): string {
  const read = readSmart(text, exitCode);
  if (read.ok) throw new Error(JSON.stringify(read.value));
  return read.error;
}

test("smart: a SATA disk: its own assessment, and the raw values that are counts", () => {
  expect(reading(sataDisk({ reallocated: 8, pending: 3 }))).toEqual({
    kind: "ata",
    serial: "WD-WX12D80ABCDE",
    health: "passed",
    failures: [],
    isOutsideTemperature: false,
    temperatureCelsius: 31,
    powerOnHours: 12_034,
    reallocatedSectors: 8,
    pendingSectors: 3,
    uncorrectableSectors: 0,
    mediaErrors: null,
    percentageUsed: null,
    availableSparePercent: null,
  });
});

test("smart: a SATA SSD, NVMe, SAS: what each has", () => {
  expect(reading(sataSsd())).toMatchObject({
    ...{ kind: "ata", percentageUsed: 4, availableSparePercent: 100, powerOnHours: 20_111 },
  });
  expect(reading(nvme({ mediaErrors: 2, used: 104, spare: 11 }))).toMatchObject({
    ...{ kind: "nvme", health: "passed", temperatureCelsius: 38, powerOnHours: 9_120 },
    ...{ mediaErrors: 2, percentageUsed: 104, availableSparePercent: 11 },
    ...{ reallocatedSectors: null, pendingSectors: null },
  });
  expect(reading(sasDisk())).toMatchObject({
    ...{ kind: "scsi", health: "passed", serial: "ZC11ABCD0000C8" },
    ...{ reallocatedSectors: 6, mediaErrors: 3, temperatureCelsius: 33 },
  });
});

test("smart: failing: by its assessment, an attribute that foretells it, or the exit status", () => {
  const own = reading(sataDisk({ passed: false }));
  expect(own).toMatchObject({ health: "failing", failures: [expect.stringContaining("its own")] });
  expect(reading(sataDisk(), 8)).toMatchObject({ health: "failing" });
  const now = reading(sataDisk({ prefailNow: true }), 16);
  expect(now).toMatchObject({ health: "failing", failures: ["attribute 5 is at its threshold"] });
  expect(reading(sasDisk(), 16).failures).toHaveLength(1);
});

test("smart: exit status: each of its 256 values", () => {
  for (let exitCode = 0; exitCode < 256; exitCode += 1) {
    const read = readSmart(JSON.stringify(sataDisk()), exitCode);
    const isRefused = (exitCode & 3) !== 0;
    const health = (exitCode & 24) !== 0 ? "failing" : "passed";
    expect([exitCode, read.ok ? read.value.health : null]).toEqual([
      exitCode,
      isRefused ? null : health,
    ]);
  }
});

test("smart: NVMe warnings: each bit; one that is only too hot is not failing", () => {
  for (let warning = 0; warning < 64; warning += 1) {
    const { health, failures, isOutsideTemperature } = reading(nvme({ warning }), 8);
    expect([warning, health]).toEqual([warning, (warning & ~2) === 0 ? "passed" : "failing"]);
    expect(isOutsideTemperature).toBe((warning & 2) !== 0);
    const count = warning.toString(2).replaceAll("0", "").length;
    expect(failures).toHaveLength(count - (isOutsideTemperature ? 1 : 0));
  }
});

test("smart: no reading: each with its reason", () => {
  expect(refusal(JSON.stringify(sleepingDisk()), 3)).toContain("sleeps");
  expect(refusal("", 3)).toContain("sleeps");
  const virtual = refusal(JSON.stringify(virtualDisk()), 1);
  expect(virtual).toContain("(exit status 1): /dev/vda: Unable to detect device type");
  expect(refusal("UNRECOGNIZED OPTION: json=c", 1)).toContain("7.0 or later");
  expect(refusal("", 0)).toContain("no JSON object");
  expect(refusal(JSON.stringify({ smart_support: { available: false } }), 4)).toContain("no SMART");
  const off = { smart_support: { available: true, enabled: false } };
  expect(refusal(JSON.stringify(off))).toContain("switched off");
  expect(refusal("{}")).toContain("says nothing of its health (exit status 0): no reason");
});

test("smart: hostile outputs: no throw, and no number that is none", () => {
  for (const text of [
    ...["null", "[]", "7", '"x"', "{", "[".repeat(200_000), `{"a":`.repeat(100_000)],
    ...["\u0000", "{}{}", '{"__proto__":{"serial_number":"x"}}'],
  ]) {
    expect(typeof refusal(text)).toBe("string");
  }
  const disk = sataDisk();
  for (const hostile of [
    ...[null, true, "1e9", "", -1, -0.5, {}, [], [[]], { current: { current: 1 } }],
    ...[{ value: 1 }, { table: [null, 7, "x", { id: 5 }, { id: 5, raw: 7 }] }, { passed: "no" }],
  ]) {
    for (const key of Object.keys(disk)) {
      const read = readSmart(JSON.stringify({ ...disk, [key]: hostile }), 0);
      if (read.ok) expectSane(read.value);
    }
  }
  const endless = readSmart('{"smart_status":{"passed":true},"power_on_time":{"hours":1e400}}', 0);
  expect(endless).toMatchObject({ value: { powerOnHours: Number.MAX_SAFE_INTEGER } });
  const huge = reading({ ...nvme({ mediaErrors: 1e300, used: 255 }), serial_number: "\u001b[2Jx" });
  expect(huge.mediaErrors).toBe(Number.MAX_SAFE_INTEGER);
  expect(huge.serial).toBe("\\u001b[2Jx");
  expect(reading({ ...disk, serial_number: "😀".repeat(100) }).serial).toHaveLength(128);
  expect(reading({ ...disk, temperature: { current: 4_000 } }).temperatureCelsius).toBeNull();
});

test("smart: an output that is cut anywhere: refused, or as much as there is", () => {
  const text = JSON.stringify(sasDisk());
  for (let length = 0; length < text.length; length += 1) {
    expect(readSmart(text.slice(0, length), 0).ok).toBe(false);
  }
});

function expectSane(value: SmartReading): void {
  for (const number of Object.values(value)) {
    if (typeof number === "number") expect(Number.isSafeInteger(number)).toBe(true);
  }
  expect(["passed", "failing", "unknown"]).toContain(value.health);
}
