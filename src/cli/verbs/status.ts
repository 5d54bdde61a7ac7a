/** `parityd status`: the table, the exit code of a health check, or JSON. */

import type { StuckAlerts } from "../../appliance/alerts/alert-queue.ts";
import { type DriveOffers, offerDrives } from "../../appliance/drive-offers.ts";
import type { ShownDrive } from "../../appliance/drives/shown-drive.ts";
import { findingsOf } from "../../appliance/findings.ts";
import type { ScheduleView } from "../../appliance/schedules/schedule-view.ts";
import type { SpareView } from "../../appliance/spares/shared-spares.ts";
import type { RecordingHealth } from "../../appliance/state/state-store.ts";
import type { ArrayStatus } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { CheckExit, Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import {
  checkExit,
  renderArray,
  renderDaemonTroubles,
  renderFailingDrives,
  renderLostDrives,
  renderSpares,
} from "../status-text.ts";
import { JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

export const statusCommand: CommandSpec = {
  path: ["status"],
  summary: "Show the arrays, what is wrong with them and what to do",
  operands: [{ name: "ARRAY", optional: true, names: "arrays" }],
  options: {
    check: {
      type: "boolean",
      help: "exit 0 fine, 1 degraded, 2 unusable, 4 cannot be told",
    },
    unhealthy: { type: "boolean", short: "x", help: "only what is not clean" },
    ...JSON_OUTPUT,
    ...RUN_DIR,
  },
  run: status,
};

async function status(invocation: Invocation, host: CliHost): Promise<number> {
  const isCheck = invocation.isSet("check");
  const client = new DaemonClient(host, invocation);
  const arrays = await client.get<ArrayStatus[]>("/v1/arrays");
  const drives = arrays.ok ? await client.get<ShownDrive[]>("/v1/drives") : arrays;
  const spares = drives.ok ? await client.get<SpareView[]>("/v1/spares") : drives;
  const health = spares.ok
    ? await client.get<{ recording: RecordingHealth; alerts: StuckAlerts[] }>("/-/healthy")
    : spares;
  const schedules = health.ok ? await client.get<ScheduleView[]>("/v1/schedules") : health;
  if (!arrays.ok || !drives.ok || !spares.ok || !health.ok || !schedules.ok) {
    const failed = [arrays, drives, spares, health, schedules].find((answer) => !answer.ok);
    const exitCode = failed?.ok === false ? fail(host, failed.error) : Exit.failed;
    return isCheck ? CheckExit.cannotTell : exitCode;
  }
  const name = invocation.operands[0];
  const { recording, alerts } = health.value.value;
  const wanted = arrays.value.value.filter(
    (array) => name === undefined || array.name === name || array.uuid === name,
  );
  if (name !== undefined && wanted.length === 0) {
    const exitCode = isCheck ? CheckExit.cannotTell : Exit.failed;
    return fail(host, { exitCode, message: `there is no array ${name}` });
  }
  // The drives of other arrays are no concern of a question about one.
  const judged = name === undefined ? drives.value.value : [];
  show(invocation, host, {
    ...{ wanted, drives: drives.value.value, judged, recording, alerts },
    spares: name === undefined ? spares.value.value : [],
    schedules: schedules.value.value,
    offers: offerDrives(arrays.value.value, drives.value.value),
  });
  if (!isCheck) return Exit.ok;
  if (name === undefined) return checkExit(wanted, judged, recording, alerts);
  return checkExit(wanted, seatedIn(wanted, drives.value.value));
}

/** The drives that serve in these arrays. */
function seatedIn(arrays: readonly ArrayStatus[], drives: readonly ShownDrive[]): ShownDrive[] {
  const seated = new Set(arrays.flatMap(({ members }) => members.map(({ drive }) => drive)));
  return drives.filter(({ name }) => seated.has(name));
}

function show(
  invocation: Invocation,
  host: CliHost,
  known: {
    readonly wanted: readonly ArrayStatus[];
    readonly drives: readonly ShownDrive[];
    readonly spares: readonly SpareView[];
    readonly judged: readonly ShownDrive[];
    readonly recording: RecordingHealth;
    readonly alerts: readonly StuckAlerts[];
    readonly schedules: readonly ScheduleView[];
    readonly offers: DriveOffers;
  },
): void {
  const { drives, spares, recording, alerts, schedules, offers } = known;
  const isOnlyUnhealthy = invocation.isSet("unhealthy");
  const shown = known.wanted.filter(
    (array) => !isOnlyUnhealthy || findingsOf(array, drives, offers).length > 0,
  );
  if (invocation.isSet("json")) {
    const document = {
      ...{
        schema: "parityd.status/1",
        arrays: shown,
        drives,
        spares,
        recording,
        alerts,
        schedules,
      },
    };
    host.print(JSON.stringify(document));
    return;
  }
  const blocks = shown.map((array) => renderArray(array, drives, schedules, offers).join("\n"));
  const troubles = renderDaemonTroubles(recording, alerts);
  if (troubles.length > 0) blocks.unshift(troubles.join("\n"));
  const isUsable = ({ state }: SpareView) => state === "ready" || state === "seating";
  const told = isOnlyUnhealthy ? spares.filter((spare) => !isUsable(spare)) : spares;
  if (told.length > 0) blocks.push(renderSpares(told).join("\n"));
  const lost = [...renderLostDrives(known.judged), ...renderFailingDrives(known.judged)];
  if (lost.length > 0) blocks.push(lost.join("\n"));
  if (blocks.length > 0) host.print(blocks.join("\n\n"));
  else if (known.wanted.length > 0) host.print("all arrays are healthy");
  else host.print("no arrays: parityd drive scan finds members, parityd array create makes one");
}
