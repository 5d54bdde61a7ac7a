/** What is told of the health that disks themselves speak of (SMART). Pure. */
import type { DriveSmart } from "../appliance/drives/smart-watch.ts";

/** "  smart: passed, read 2026-12-01T01:00:00.000Z: 31 °C, 12034 h, 8 reallocated". */
export function smartLines(smart: DriveSmart): string[] {
  const { readAt, reason, health, failures } = smart;
  const lines: string[] = [];
  if (readAt !== null) {
    const numbers = numbersOf(smart);
    const told = numbers.length === 0 ? "" : `: ${numbers.join(", ")}`;
    lines.push(`  smart: ${health}, read ${readAt}${told}`);
    for (const failure of failures) lines.push(`         ${failure}`);
  }
  if (reason !== null)
    lines.push(`${readAt === null ? "  smart: none" : "         no newer"}: ${reason}`);
  return lines;
}

function numbersOf(smart: DriveSmart): string[] {
  const all = [
    [smart.temperatureCelsius, "°C"],
    [smart.powerOnHours, "h"],
    [smart.reallocatedSectors, "reallocated"],
    [smart.pendingSectors, "pending"],
    [smart.uncorrectableSectors, "uncorrectable"],
    [smart.mediaErrors, "media errors"],
    [smart.percentageUsed, "% used"],
    [smart.availableSparePercent, "% spare"],
  ] as const;
  return all.flatMap(([value, unit]) => (value === null ? [] : [`${value} ${unit}`]));
}
