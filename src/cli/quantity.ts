/** Sizes, rates and times as people write and read them. */
import { err, ok, type Result } from "../base/result.ts";
import { formatBytes, GIB, KIB, MIB, TIB } from "../base/units.ts";

const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  B: 1,
  KiB: KIB,
  MiB: MIB,
  GiB: GIB,
  TiB: TIB,
};

/** `200MiB`, `64KiB`, `4096`; with `/s` for a rate. A unit of ten (MB) is refused, not guessed. */
export function parseBytes(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text.replace(/\/s$/, ""));
  const factor = FACTORS[match?.[2] ?? "none"];
  const bytes = Math.round(Number(match?.[1]) * (factor ?? Number.NaN));
  if (!Number.isSafeInteger(bytes) || bytes <= 0) {
    return err(`"${text}" is not a size: write it like 64KiB, 200MiB or 1.5TiB`);
  }
  return ok(bytes);
}

const MINUTES_OF: Readonly<Record<string, number>> = { "": 1, min: 1, h: 60, d: 1_440, w: 10_080 };

/** `90min`, `6h`, `30d`, `2w`, in whole minutes; a bare number is one of minutes. */
export function parseMinutes(text: string): Result<number, string> {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/.exec(text);
  const factor = MINUTES_OF[match?.[2] ?? "none"];
  const minutes = Number(match?.[1]) * (factor ?? Number.NaN);
  if (!Number.isSafeInteger(minutes) || minutes <= 0) {
    return err(`"${text}" is no time in whole minutes: write it like 90min, 6h or 30d`);
  }
  return ok(minutes);
}

/** "2 h 21 min", "12 min", "45 s". */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly rateBytesPerSecond: number;
  readonly etaSeconds: number | null;
}

/** "41.3 %  1.2 TiB of 2.9 TiB  212.0 MiB/s  2 h 21 min left". */
export function formatProgress(progress: Progress): string {
  const parts = [
    `${formatPercent(progress)} %`,
    `${formatBytes(progress.done)} of ${formatBytes(progress.total)}`,
  ];
  if (progress.rateBytesPerSecond > 0) {
    parts.push(`${formatBytes(Math.round(progress.rateBytesPerSecond))}/s`);
  }
  if (progress.etaSeconds !== null) parts.push(`${formatSeconds(progress.etaSeconds)} left`);
  return parts.join("  ");
}

/** Rounded down: 100.0 is said of nothing that is not done. */
export function formatPercent({ done, total }: Pick<Progress, "done" | "total">): string {
  if (total === 0) return "0.0";
  return (Math.floor((done / total) * 1_000) / 10).toFixed(1);
}
