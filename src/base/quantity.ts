/** Times and progress as people read them. */
import { formatBytes } from "./units.ts";

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
