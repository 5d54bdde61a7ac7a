/** When arrays are scrubbed by themselves, and how that went. */
import type { ScheduleView } from "../../appliance/schedules/schedule-view.ts";
import { formatSeconds } from "../../base/quantity.ts";
import { ActionButtons } from "../actions/array-actions.tsx";
import { removeScheduleAction, scheduleAction } from "../actions/host-specs.ts";
import { useScene } from "../context.ts";
import { Table } from "../parts/table.tsx";

export function SchedulesView() {
  const { status } = useScene();
  const without = status.arrays.filter(
    ({ uuid }) => !status.schedules.some(({ arrayUuid }) => arrayUuid === uuid),
  );
  return (
    <>
      <h1 tabIndex={-1}>Schedules</h1>
      <Table
        label="Schedules"
        heads={["array", "window", "when older than", "mode", "next", "now", "last", "what to do"]}
        rows={status.schedules.map((schedule) => ({
          key: schedule.arrayUuid,
          cells: [
            schedule.array,
            `${schedule.cron} (${schedule.timezone}), ${formatSeconds(schedule.windowMinutes * 60)}`,
            `${schedule.maxAgeDays} d`,
            schedule.mode,
            schedule.next ?? "never again",
            nowOf(schedule),
            lastOf(schedule),
            <ActionButtons
              key="actions"
              actions={[
                ["Change", scheduleOf(schedule)],
                ["Remove", removeScheduleAction(schedule)],
              ]}
              of={schedule.array}
            />,
          ],
        }))}
      />
      {without.length > 0 && (
        <ul class="spares">
          {without.map((array) => (
            <li key={array.uuid}>
              {array.name} is scrubbed when somebody asks for it
              <ActionButtons
                actions={[["Schedule", scheduleAction(array, undefined)]]}
                of={array.name}
              />
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function scheduleOf(schedule: ScheduleView) {
  return scheduleAction({ name: schedule.array, uuid: schedule.arrayUuid }, schedule);
}

function nowOf({ window, pass, waitsFor, isMissed, isDue }: ScheduleView): string {
  const parts = [window === null ? "no window" : `a window until ${window.closesAt}`];
  if (pass !== "none") parts.push(`pass ${pass.replaceAll("-", " ")}`);
  if (waitsFor !== null) parts.push(`waits for ${waitsFor}`);
  if (isDue) parts.push("a pass is due");
  if (isMissed) parts.push("a window was missed");
  return parts.join(", ");
}

function lastOf({ last, lastResult, lastError }: ScheduleView): string {
  if (last === null) return "never";
  return `${last}, ${lastResult ?? "unknown"}${lastError === null ? "" : ` (${lastError})`}`;
}
