/**
 * What `smartctl --json` (7.0 and later) says of a drive, read with mistrust. Pure.
 *
 * | kind | health                             | counted                                        |
 * |------|------------------------------------|------------------------------------------------|
 * | ATA  | smart_status, prefail attributes   | raw values of attributes 5, 197, 198           |
 * | NVMe | critical_warning of its health log | media_errors, percentage_used, available_spare |
 * | SCSI | smart_status                       | grown defects, uncorrected errors of the log   |
 *
 * The exit status is a set of bits (smartctl(8)):
 *
 *   0 the command line   1 the device could not be opened   2 a command of several failed
 *   3 the drive says that it is failing   4 a prefail attribute is at its threshold
 *   5 one was, or an age attribute is   6 and 7 entries in its logs
 *
 * STANDBY_EXIT (bits 0 and 1, which smartctl never sets together) is what it is told to end with
 * where the disk sleeps. Anything in the output may be missing, or of another type: that is null.
 */
import { printable } from "../../base/printable.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SMART_KINDS, type SmartReading } from "../state/smart-row.ts";

export const STANDBY_EXIT = 3;

/** Before the path of the disk. */
export const SMARTCTL_WORDS: readonly string[] = [
  "--json=c",
  `--nocheck=standby,${STANDBY_EXIT}`,
  ...["--info", "--health", "--attributes", "--log=error"],
];

const Exit = { commandLine: 1, open: 2, failing: 8, prefail: 16 } as const;

const SERIAL_CHARACTERS_MAX = 64;
const MESSAGE_CHARACTERS_MAX = 200;

/** The error is a sentence: why there is no reading. */
export function readSmart(stdout: string, exitCode: number): Result<SmartReading, string> {
  if (exitCode === STANDBY_EXIT) return err("the disk sleeps, and was not woken for it");
  const document = parse(stdout);
  if (document === null) {
    const isOld = (exitCode & Exit.commandLine) !== 0;
    return err(
      isOld
        ? "smartctl took no --json: smartmontools 7.0 or later is needed"
        : `smartctl printed what is no JSON object (exit status ${exitCode})`,
    );
  }
  const support = document.at("smart_support");
  if (support.at("available").value === false) return err("the drive has no SMART");
  if (support.at("enabled").value === false) {
    return err("SMART is switched off in the drive: smartctl --smart=on switches it on");
  }
  if ((exitCode & (Exit.commandLine | Exit.open)) !== 0) return err(refusal(document, exitCode));
  const reading = readingOf(document, exitCode);
  const { health, failures: _, kind: _kind, serial: _serial, ...numbers } = reading;
  const isEmpty = Object.values(numbers).every((value) => value === null || value === false);
  if (health === "unknown" && isEmpty) return err(refusal(document, exitCode));
  return ok(reading);
}

function refusal(document: Json, exitCode: number): string {
  const messages = document.at("smartctl").at("messages").items();
  const isError = (message: Json): boolean => message.at("severity").value === "error";
  const said = (messages.find(isError) ?? messages[0])?.at("string").text(MESSAGE_CHARACTERS_MAX);
  return `smartctl says nothing of its health (exit status ${exitCode}): ${said ?? "no reason"}`;
}

function readingOf(document: Json, exitCode: number): SmartReading {
  const nvme = document.at("nvme_smart_health_information_log");
  const attribute = attributesOf(document);
  const protocol = document.at("device").at("protocol").text(16)?.toLowerCase();
  const errors = document.at("scsi_error_counter_log");
  const uncorrected = ["read", "write", "verify"].map((way) =>
    errors.at(way).at("total_uncorrected_errors").count(),
  );
  const health = healthOf(document, exitCode);
  return {
    kind: SMART_KINDS.find((kind) => kind === protocol) ?? null,
    serial: document.at("serial_number").text(SERIAL_CHARACTERS_MAX),
    ...health,
    temperatureCelsius: temperature(document.at("temperature").at("current").value),
    powerOnHours:
      document.at("power_on_time").at("hours").count() ?? nvme.at("power_on_hours").count(),
    reallocatedSectors: attribute(5) ?? document.at("scsi_grown_defect_list").count(),
    pendingSectors: attribute(197),
    uncorrectableSectors: attribute(198),
    mediaErrors: nvme.at("media_errors").count() ?? sumOf(uncorrected),
    percentageUsed:
      nvme.at("percentage_used").count() ??
      document.at("endurance_used").at("current_percent").count() ??
      document.at("scsi_percentage_used_endurance_indicator").count(),
    availableSparePercent:
      nvme.at("available_spare").count() ??
      document.at("spare_available").at("current_percent").count(),
  };
}

// Health ----------------------------------------------------------------------------------------

/** Bits of critical_warning (NVMe base specification, SMART / Health Information). */
const NVME_WARNINGS: readonly (readonly [bit: number, failure: string])[] = [
  [0, "its spare blocks are used up"],
  [2, "its reliability is degraded by errors"],
  [3, "it has gone read-only"],
  [4, "the backup of its volatile memory has failed"],
  [5, "its persistent memory is unreliable"],
];
const NVME_TEMPERATURE_BIT = 1;

function healthOf(
  document: Json,
  exitCode: number,
): Pick<SmartReading, "health" | "failures" | "isOutsideTemperature"> {
  const warning = document.at("nvme_smart_health_information_log").at("critical_warning").count();
  if (warning !== null) {
    // smartctl calls a drive that is only too hot failing: that passes.
    const failures = NVME_WARNINGS.flatMap(([bit, failure]) =>
      hasBit(warning, bit) ? [failure] : [],
    );
    const isOutsideTemperature = hasBit(warning, NVME_TEMPERATURE_BIT);
    const health = failures.length === 0 ? "passed" : "failing";
    return { health, failures, isOutsideTemperature };
  }
  const failures: string[] = [];
  const passed = document.at("smart_status").at("passed").value;
  if (passed === false || (exitCode & Exit.failing) !== 0) {
    failures.push("its own assessment is that it is failing");
  }
  for (const id of failedAttributes(document)) {
    failures.push(`attribute ${id} is at its threshold`);
  }
  if (failures.length === 0 && (exitCode & Exit.prefail) !== 0) {
    failures.push("an attribute that foretells a failure is at its threshold");
  }
  const isFailing = failures.length > 0;
  const health = isFailing ? "failing" : passed === true ? "passed" : "unknown";
  return { health, failures, isOutsideTemperature: false };
}

function hasBit(bits: number, bit: number): boolean {
  return Math.floor(bits / 2 ** bit) % 2 === 1;
}

/** Of the prefail attributes, which foretell a failure within a day. */
function failedAttributes(document: Json): number[] {
  return document
    .at("ata_smart_attributes")
    .at("table")
    .items()
    .filter((row) => row.at("when_failed").value === "now")
    .filter((row) => row.at("flags").at("prefailure").value === true)
    .flatMap((row) => row.at("id").count() ?? []);
}

function attributesOf(document: Json): (id: number) => number | null {
  const table = document.at("ata_smart_attributes").at("table").items();
  return (id) => {
    const row = table.find((candidate) => candidate.at("id").value === id);
    return row?.at("raw").at("value").count() ?? null;
  };
}

// Values ----------------------------------------------------------------------------------------

function sumOf(counts: readonly (number | null)[]): number | null {
  const known = counts.filter((count) => count !== null);
  if (known.length === 0) return null;
  return Math.min(
    known.reduce((sum, count) => sum + count, 0),
    Number.MAX_SAFE_INTEGER,
  );
}

function temperature(value: unknown): number | null {
  const isOne = typeof value === "number" && value > -100 && value < 200;
  return isOne ? Math.round(value) : null;
}

/** A value of JSON that may be anything. */
class Json {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }

  /** Of what is no object, and of a key that it does not have: nothing. */
  at(key: string): Json {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) return NOTHING;
    return Object.hasOwn(value, key) ? new Json((value as Record<string, unknown>)[key]) : NOTHING;
  }

  items(): Json[] {
    return Array.isArray(this.value) ? this.value.map((item) => new Json(item)) : [];
  }

  /** A whole number that is not negative; what is too large to be exact is the largest that is. */
  count(): number | null {
    const { value } = this;
    if (typeof value !== "number" || !(value >= 0)) return null;
    return Math.min(Math.floor(value), Number.MAX_SAFE_INTEGER);
  }

  text(charactersMax: number): string | null {
    const { value } = this;
    if (typeof value !== "string") return null;
    return printable([...value.trim()].slice(0, charactersMax).join("")) || null;
  }
}

const NOTHING = new Json(undefined);

function parse(text: string): Json | null {
  try {
    const value: unknown = JSON.parse(text);
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    return isObject ? new Json(value) : null;
  } catch {
    return null;
  }
}
