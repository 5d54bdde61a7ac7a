/** `parityd schedule set|show|remove`: the windows in which an array is scrubbed by itself. */
import type { ScheduleView } from "../../appliance/schedules/schedule-view.ts";
import { formatSeconds } from "../../base/quantity.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { parseBytes, parseMinutes } from "../quantity.ts";
import { scheduleLines } from "../status-text.ts";
import { renderTable } from "../table-text.ts";
import { DRY_RUN, JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

const MINUTES_A_DAY = 24 * 60;

export const scheduleCommands: readonly CommandSpec[] = [
  {
    path: ["schedule", "set"],
    summary: "Scrub an array in windows that open by a cron expression",
    operands: [{ name: "ARRAY", names: "arrays" }],
    options: {
      cron: { type: "string", value: "CRON", help: 'when a window opens ("0 1 * * *"), needed' },
      timezone: { type: "string", value: "ZONE", help: "of the IANA database (UTC)" },
      window: { type: "string", value: "TIME", help: "how long it is open: 6h, 90min (6h)" },
      "max-age": { type: "string", value: "DAYS", help: "scrub when the last is older (30d)" },
      mode: {
        ...{ type: "string", value: "MODE", choices: ["check", "repair"] },
        help: "check, or repair: rewrite parity (check)",
      },
      limit: { type: "string", value: "RATE", help: "at most so much a second (200MiB/s)" },
      force: { type: "boolean", help: "also where another array on its disks has that time" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: setSchedule,
  },
  {
    path: ["schedule", "show"],
    summary: "Show the schedules: the next window, and how the last scrub went",
    operands: [{ name: "ARRAY", optional: true, names: "schedules" }],
    options: { ...JSON_OUTPUT, ...RUN_DIR },
    run: showSchedules,
  },
  {
    path: ["schedule", "remove"],
    summary: "Scrub an array no more by itself; a scrub that runs goes on",
    operands: [{ name: "ARRAY", names: "schedules" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const path = schedulePath(invocation.operand(0));
      const removed = await new DaemonClient(host, invocation).call("DELETE", path);
      return removed.ok ? Exit.ok : fail(host, removed.error);
    },
  },
];

async function setSchedule(invocation: Invocation, host: CliHost): Promise<number> {
  const cron = invocation.text("cron");
  if (cron === undefined) return usageFailure(host, '--cron is missing: like --cron "0 1 * * *"');
  const body: Record<string, string | number> = { cron };
  for (const key of ["timezone", "mode"]) {
    const text = invocation.text(key);
    if (text !== undefined) body[key] = text;
  }
  const window = invocation.text("window");
  if (window !== undefined) {
    const minutes = parseMinutes(window);
    if (!minutes.ok) return usageFailure(host, minutes.error);
    body["windowMinutes"] = minutes.value;
  }
  const maxAge = invocation.text("max-age");
  if (maxAge !== undefined) {
    // A bare number is one of days here.
    const minutes = parseMinutes(/^\d+$/.test(maxAge) ? `${maxAge}d` : maxAge);
    if (!minutes.ok) return usageFailure(host, minutes.error);
    if (minutes.value % MINUTES_A_DAY !== 0) {
      return usageFailure(host, `--max-age ${maxAge} is not a whole number of days`);
    }
    body["maxAgeDays"] = minutes.value / MINUTES_A_DAY;
  }
  const limit = invocation.text("limit");
  if (limit !== undefined) {
    const rate = parseBytes(limit);
    if (!rate.ok) return usageFailure(host, rate.error);
    body["limitBytesPerSecond"] = rate.value;
  }
  const force = invocation.isSet("force") ? "?force=true" : "";
  const path = `${schedulePath(invocation.operand(0))}${force}`;
  const put = await new DaemonClient(host, invocation).call<ScheduleView>("PUT", path, body);
  if (!put.ok) return fail(host, put.error);
  for (const line of scheduleLines(put.value.value)) host.print(line);
  return Exit.ok;
}

async function showSchedules(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const array = invocation.operands[0];
  if (array === undefined) {
    const all = await client.get<ScheduleView[]>("/v1/schedules");
    if (!all.ok) return fail(host, all.error);
    if (invocation.isSet("json")) host.print(JSON.stringify(all.value.value));
    else for (const line of tableOf(all.value.value)) host.print(line);
    return Exit.ok;
  }
  const one = await client.get<ScheduleView>(schedulePath(array));
  if (!one.ok) return fail(host, one.error);
  if (invocation.isSet("json")) host.print(JSON.stringify(one.value.value));
  else for (const line of scheduleLines(one.value.value)) host.print(line);
  return Exit.ok;
}

function tableOf(schedules: readonly ScheduleView[]): string[] {
  if (schedules.length === 0)
    return ['no schedules: parityd schedule set ARRAY --cron "0 1 * * *"'];
  const header = ["array", "cron", "timezone", "window", "max age", "next", "last", "result"];
  const rows = schedules.map((schedule) => [
    schedule.array,
    schedule.cron,
    schedule.timezone,
    formatSeconds(schedule.windowMinutes * 60),
    `${schedule.maxAgeDays} d`,
    schedule.next ?? "never",
    schedule.last ?? "never",
    schedule.lastResult ?? "-",
  ]);
  return renderTable(header, rows);
}

function schedulePath(array: string): string {
  return `/v1/schedules/${encodeURIComponent(array)}`;
}
