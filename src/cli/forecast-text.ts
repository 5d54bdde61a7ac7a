/**
 * What is printed of forecasts: a line or two of `parityd status`, and the whole of
 * `parityd member fail --dry-run`. Pure.
 */

import type { FailForecast } from "../appliance/fail-forecast.ts";
import type { ArrayStatus, ForecastMeeting, RebuildTimes } from "../array/protocol.ts";
import { unreachable } from "../base/assert.ts";
import { counted } from "../base/counted.ts";
import { printable } from "../base/printable.ts";
import { formatSeconds } from "../base/quantity.ts";
import { formatBytes } from "../base/units.ts";

/** How long a rebuild would take, and which members must not be lost now. */
export function forecastLines({ forecast }: Pick<ArrayStatus, "forecast">): string[] {
  if (forecast === null) return [];
  const { members, load } = forecast;
  const longest = members.toSorted((one, other) => other.rebuildBytes - one.rebuildBytes)[0];
  if (longest === undefined) return [];
  const { rebuildBytes: bytes, rebuild } = longest;
  const lines = [`   loss: a rebuild of ${formatBytes(bytes)}: ${timesText(rebuild, load)}`];
  const needed = members.filter(({ unreadableBytes }) => unreadableBytes === null);
  if (needed.length > 0) {
    const names = needed.map(({ drive }) => drive ?? "?").join(", ");
    lines.push(`   loss: the array cannot do without any of ${names}`);
  }
  for (const { role, drive, unreadableBytes } of members) {
    if (unreadableBytes === null || unreadableBytes === 0) continue;
    const what = `${formatBytes(unreadableBytes)} could not be read`;
    lines.push(`   loss: without ${drive ?? "?"} (role ${role}) ${what}`);
  }
  return lines;
}

export function renderFailForecast(plan: FailForecast): string[] {
  const { array, drive, role, state, degraded, unreadable, meets, rebuild, load } = plan;
  const { ranges, truncated, bytes } = unreadable;
  const lines = [
    `would take ${drive} (role ${role}) of ${array} for faulty:`,
    `       state: ${state}, ${degraded} missing`,
    `  unreadable: ${bytes === 0 ? "nothing" : `${formatBytes(bytes)} of the array`}`,
    ...ranges.map(
      ({ offset, bytes: length }) => `              bytes ${offset} to ${offset + length - 1}`,
    ),
    ...(truncated ? ["              and more behind these"] : []),
    ...meets.map((meeting) => `       meets: ${meetingText(meeting)}`),
    `     rebuild: ${formatBytes(plan.rebuildBytes)}: ${timesText(rebuild, load)}`,
    `       spare: ${spareText(plan)}`,
  ];
  return lines.map(printable);
}

/** "about 2 h 21 min idle, 9 h 3 min beside clients (now: idle)". */
function timesText({ idle, busy }: RebuildTimes, load: "idle" | "busy"): string {
  if (idle === null && busy === null) return "not measured yet";
  const text = (time: RebuildTimes["idle"]): string =>
    time === null ? "not measured yet" : `about ${formatSeconds(time.seconds)}`;
  const now = load === "idle" ? "no client at work" : "clients at work";
  return `${text(idle)} idle, ${text(busy)} beside clients (now: ${now})`;
}

function meetingText(meeting: ForecastMeeting): string {
  switch (meeting.kind) {
    case "bad-blocks": {
      const { count, drive, role, bytes } = meeting;
      const entries = `${counted(count, "entry", "entries")} of its bad-block log`;
      return `${drive} (role ${role}): ${entries}, ${formatBytes(bytes)}`;
    }
    default:
      return unreachable(meeting.kind);
  }
}

function spareText({ array, spare, state, degradedSeconds }: FailForecast): string {
  if (state !== "degraded") return `none is used by an array that is ${state}`;
  if (spare === null) {
    return `none stands ready: degraded until there is one: parityd member add ${array} NEW_DRIVE`;
  }
  const { drive, from } = spare;
  const who =
    from === "replacement"
      ? `${drive}, which it is being copied to`
      : `${drive} (${from}) stands ready`;
  const howLong =
    degradedSeconds === null
      ? "for how long it is degraded was not measured yet"
      : `degraded for about ${formatSeconds(degradedSeconds)}`;
  return `${who}; ${howLong}`;
}
