/**
 * What is worth telling of a reading, by what has been told before. Pure.
 *
 * | what                                         | is told                                |
 * |----------------------------------------------|----------------------------------------|
 * | the drive says that it is failing            | once (critical), until it says no more |
 * | sectors reallocated, pending, uncorrectable; | when there are some, then each time    |
 * | media errors                                 | that they have doubled                 |
 * | percentage used                              | at 80, 90, 100 and each ten above      |
 * | available spare                              | at 50, 25 and 10 percent               |
 * | outside of its own limits of temperature     | once, until it is inside again         |
 *
 * A count that has fallen below half of what was told (pending sectors that were written) is told
 * anew when it grows. What was told is kept with the drive, so that a restart tells nothing twice.
 */
import { counted } from "../../base/counted.ts";
import type { SmartReading } from "../state/smart-row.ts";

/** By what it was told of; what is not in it was not told. */
export type SmartTold = Readonly<Record<string, number>>;

export interface SmartNews {
  readonly told: SmartTold;
  /** The drive says that it is failing, and that is new: why. */
  readonly failing: string | null;
  /** What has become worse. */
  readonly worse: readonly string[];
}

type Rule = "doubles" | "steps";

interface Watched {
  readonly key: string;
  readonly rule: Rule;
  /** What is compared; null: not known now, and what was told stands. */
  readonly measure: (reading: SmartReading) => number | null;
  readonly text: (reading: SmartReading) => string;
}

const WATCHED: readonly Watched[] = [
  doubling("reallocatedSectors", "reallocated sector"),
  doubling(
    "pendingSectors",
    "sector that could not be read and waits to be written",
    "sectors that could not be read and wait to be written",
  ),
  doubling("uncorrectableSectors", "uncorrectable sector"),
  doubling("mediaErrors", "media error"),
  {
    key: "wear",
    rule: "steps",
    measure: ({ percentageUsed: used }) =>
      used === null ? null : Math.max(0, Math.floor(used / 10) - 7),
    text: ({ percentageUsed }) => `${percentageUsed} % of its expected life is used`,
  },
  {
    key: "spare",
    rule: "steps",
    measure: ({ availableSparePercent: spare }) =>
      spare === null ? null : [50, 25, 10].filter((limit) => spare <= limit).length,
    text: ({ availableSparePercent }) => `${availableSparePercent} % of its spare blocks are left`,
  },
  {
    key: "temperature",
    rule: "steps",
    measure: ({ isOutsideTemperature }) => (isOutsideTemperature ? 1 : 0),
    text: ({ temperatureCelsius }) =>
      `it is outside of its limits of temperature (${temperatureCelsius ?? "unknown"} °C)`,
  },
];

function doubling(
  key: "reallocatedSectors" | "pendingSectors" | "uncorrectableSectors" | "mediaErrors",
  one: string,
  many?: string,
): Watched {
  const text = (reading: SmartReading): string => counted(reading[key] ?? 0, one, many);
  return { key, rule: "doubles", measure: (reading) => reading[key], text };
}

export function judgeSmart(reading: SmartReading, before: SmartTold): SmartNews {
  const told: Record<string, number> = { ...before };
  const isTold = (before["failing"] ?? 0) > 0;
  const isFailing = reading.health === "failing";
  // A reading that does not say leaves it as it was.
  if (reading.health !== "unknown") told["failing"] = isFailing ? 1 : 0;
  const worse: string[] = [];
  for (const { key, rule, measure, text } of WATCHED) {
    const value = measure(reading);
    if (value === null) continue;
    const last = before[key] ?? 0;
    const isNews = rule === "doubles" ? value > 0 && value >= 2 * last : value > last;
    const isLess = rule === "doubles" ? 2 * value < last : value < last;
    if (isNews) worse.push(text(reading));
    if (isNews || isLess) told[key] = value;
  }
  const failing = isFailing && !isTold ? reading.failures.join("; ") : null;
  return { told, failing, worse };
}
