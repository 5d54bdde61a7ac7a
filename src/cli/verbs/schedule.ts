/** `parityd schedule set|show|remove`: the windows in which an array is scrubbed by itself. */
import type { ScheduleView } from "../../appliance/schedules/schedule-view.ts";
import { formatSeconds } from "../../base/quantity.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import { parseBytes, parseMinutes } from "../quantity.ts";
import { scheduleLines } from "../status-text.ts";
import { renderTable } from "../table-text.ts";
import { tell, tellDone } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

const MINUTES_A_DAY = 24 * 60;

export const scheduleCommands: readonly CommandSpec[] = [
  {
    path: ["schedule", "set"],
    summary: "Scrub an array in windows that open by a cron expression; what is not named stays",
    examples: [
      'parityd schedule set tank --cron "0 1 * * *" --timezone Europe/Berlin',
      "parityd schedule set tank --window 4h --limit none",
    ],
    answers: ["parityd.schedule/1"],
    operands: [{ name: "ARRAY", names: "arrays" }],
    options: {
      cron: {
        type: "string",
        value: "CRON",
        help: 'when a window opens ("0 1 * * *"); needed once',
      },
      timezone: { type: "string", value: "ZONE", help: "of the IANA database (UTC)" },
      window: { type: "string", value: "TIME", help: "how long it is open: 6h, 360m (6h)" },
      "max-age": { type: "string", value: "DAYS", help: "scrub when the last is older (30d)" },
      mode: {
        ...{ type: "string", value: "MODE", choices: ["check", "repair"] },
        help: "check, or repair: rewrite parity (check)",
      },
      limit: {
        type: "string",
        value: "RATE",
        help: "at most so much a second: 200MiB/s, or none (none)",
      },
      force: { type: "boolean", help: "also where another array on its disks has that time" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: setSchedule,
  },
  {
    path: ["schedule", "show"],
    summary: "Show the schedules: the next window, and how the last scrub went",
    examples: ["parityd schedule show"],
    answers: ["parityd.schedules/1", "parityd.schedule/1"],
    operands: [{ name: "ARRAY", optional: true, names: "schedules" }],
    options: { ...RUN_DIR },
    run: showSchedules,
  },
  {
    path: ["schedule", "remove"],
    summary: "Scrub an array no more by itself; a scrub that runs goes on",
    examples: ["parityd schedule remove tank"],
    answers: ["parityd.done/1"],
    operands: [{ name: "ARRAY", names: "schedules" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const path = schedulePath(invocation.operand(0));
      const removed = await new DaemonClient(host, invocation).call("DELETE", path);
      if (!removed.ok) return fail(host, removed.error);
      tellDone(invocation, host, { did: "schedule remove", of: invocation.operand(0) });
      return Exit.ok;
    },
  },
];

async function setSchedule(invocation: Invocation, host: CliHost): Promise<number> {
  const changes = namedSettings(invocation);
  if (!changes.ok) return usageFailure(host, changes.error);
  const client = new DaemonClient(host, invocation);
  const array = invocation.operand(0);
  // The call sets all of a schedule: what is not named here stays as it is.
  const known = await client.get<ScheduleView[]>("/v1/schedules");
  if (!known.ok) return fail(host, known.error);
  const before = known.value.value.find((one) => one.array === array || one.arrayUuid === array);
  const body = { ...(before === undefined ? {} : settingsOf(before)), ...changes.value };
  if (!("cron" in body)) return usageFailure(host, '--cron is missing: like --cron "0 1 * * *"');
  const force = invocation.isSet("force") ? "?force=true" : "";
  const put = await client.call<ScheduleView>("PUT", `${schedulePath(array)}${force}`, body);
  if (!put.ok) return fail(host, put.error);
  tellSchedule(invocation, host, put.value.value);
  return Exit.ok;
}

type Settings = Pick<
  ScheduleView,
  "cron" | "timezone" | "windowMinutes" | "maxAgeDays" | "mode" | "limitBytesPerSecond"
>;

function settingsOf(schedule: ScheduleView): Settings {
  const { cron, timezone, windowMinutes, maxAgeDays, mode, limitBytesPerSecond } = schedule;
  return { cron, timezone, windowMinutes, maxAgeDays, mode, limitBytesPerSecond };
}

/** Those that the line says, or what is no value of one. */
function namedSettings(invocation: Invocation): Result<Record<string, unknown>, string> {
  const body: Record<string, unknown> = {};
  for (const key of ["cron", "timezone", "mode"]) {
    const text = invocation.text(key);
    if (text !== undefined) body[key] = text;
  }
  const window = invocation.text("window");
  if (window !== undefined) {
    const minutes = parseMinutes(window);
    if (!minutes.ok) return err(`--window ${minutes.error}`);
    body["windowMinutes"] = minutes.value;
  }
  const maxAge = invocation.text("max-age");
  if (maxAge !== undefined) {
    // A bare number is one of days here.
    const minutes = parseMinutes(/^\d+$/.test(maxAge) ? `${maxAge}d` : maxAge);
    if (!minutes.ok) return err(`--max-age ${minutes.error}`);
    if (minutes.value % MINUTES_A_DAY !== 0) {
      return err(`--max-age ${maxAge} is not a whole number of days`);
    }
    body["maxAgeDays"] = minutes.value / MINUTES_A_DAY;
  }
  const limit = invocation.text("limit");
  if (limit === "none") body["limitBytesPerSecond"] = null;
  else if (limit !== undefined) {
    const rate = parseBytes(limit);
    if (!rate.ok) return rate;
    body["limitBytesPerSecond"] = rate.value;
  }
  return ok(body);
}

async function showSchedules(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const array = invocation.operands[0];
  if (array === undefined) {
    const all = await client.get<ScheduleView[]>("/v1/schedules");
    if (!all.ok) return fail(host, all.error);
    const value = { schedules: all.value.value };
    const lines = (columns: number) => tableOf(value.schedules, columns);
    tell(invocation, host, { schema: "parityd.schedules/1", value, lines });
    return Exit.ok;
  }
  const one = await client.get<ScheduleView>(schedulePath(array));
  if (!one.ok) return fail(host, one.error);
  tellSchedule(invocation, host, one.value.value);
  return Exit.ok;
}

function tellSchedule(invocation: Invocation, host: CliHost, value: ScheduleView): void {
  const lines = (): readonly string[] => scheduleLines(value);
  tell(invocation, host, { schema: "parityd.schedule/1", value, lines });
}

function tableOf(schedules: readonly ScheduleView[], columns: number): string[] {
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
  const table = renderTable(header, rows);
  // A time that is cut says nothing: each is told as it is alone.
  return table.every((line) => line.length <= columns) ? table : schedules.flatMap(scheduleLines);
}

function schedulePath(array: string): string {
  return `/v1/schedules/${encodeURIComponent(array)}`;
}
