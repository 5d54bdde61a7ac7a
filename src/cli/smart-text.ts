/** What is told of the health that disks themselves speak of (SMART). Pure. */
import type { DriveView } from "../appliance/drives/drive-care.ts";
import type { DriveSmart } from "../appliance/drives/smart-watch.ts";
import type { ArrayStatus, DriveStatus } from "../array/protocol.ts";
import type { Finding } from "./suspect-text.ts";

/** A drive as it is shown, by a daemon that asks disks or by one that does not. */
export type ShownDrive = DriveStatus & Partial<Pick<DriveView, "smart">>;

export function isFailing({ state, smart }: ShownDrive): boolean {
  return state !== "missing" && smart?.health === "failing";
}

/** One for each member that is not being replaced, and each spare, whose disk is failing. */
export function smartFindings(array: ArrayStatus, drives: readonly ShownDrive[]): Finding[] {
  const failingOf = (name: string): ShownDrive | undefined =>
    drives.find((drive) => drive.name === name && isFailing(drive));
  const members = array.members.flatMap(({ drive, role, replacement }): Finding[] => {
    const failing = drive === null ? undefined : failingOf(drive);
    if (failing === undefined || replacement !== undefined) return [];
    const free = drives.find((other) => other.state === "available" && !isFailing(other));
    const other = array.spares.find((spare) => failingOf(spare) === undefined) ?? free?.name;
    return [
      {
        status: `member ${drive} (role ${role}) is failing by its own account: ${whyOf(failing)}.`,
        action:
          `replace it while it serves: parityd member replace ${array.name} ${drive} ` +
          `${other ?? "NEW_DRIVE"}`,
      },
    ];
  });
  const spares = array.spares.flatMap((spare): Finding[] => {
    const failing = failingOf(spare);
    if (failing === undefined) return [];
    return [
      {
        status: `spare ${spare} is failing by its own account: ${whyOf(failing)}.`,
        action: `let go of it, and add another: parityd member remove ${array.name} ${spare}`,
      },
    ];
  });
  return [...members, ...spares];
}

export function whyOf({ smart }: ShownDrive): string {
  return smart?.failures.join("; ") || "it gives no reason";
}

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
