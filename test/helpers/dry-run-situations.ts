/**
 * Situations for calls that change something, by the call as /openapi.json has it: one that it is
 * taken in, and one for each reason that it knows to refuse. Those of arrays are dry-run-arrays.ts.
 */
import { expect } from "bun:test";
import type { AlertWay } from "../../src/appliance/alerts/alert.ts";
import {
  ARRAY,
  absent,
  aDriveIsAway,
  almostTakenOver,
  at,
  attached,
  bodyOf,
  CREATE,
  client,
  degraded,
  deleted,
  does,
  exported,
  forgotten,
  full,
  kept,
  other,
  refused,
  renamed,
  type Situation,
  scheduled,
  scrubbed,
  shared,
  smallDrive,
  stopped,
  taken,
  takenOver,
  toReadOnly,
  unknown,
  withArray,
  withDevices,
  withDrives,
  withFence,
} from "./dry-run-steps.ts";
import { FakeNbdDriver } from "./fake-nbd-driver.ts";
import { exited, FakeTools } from "./fake-tools.ts";
import { addTestArray, startSimAppliance } from "./sim-appliance.ts";
import { TEST_ARRAY } from "./sim-reactor.ts";

const SCHEDULE = { cron: "0 2 * * *", windowMinutes: 30 };
const FAULT = { drive: "a", op: "read", errno: "EIO" };

const way: AlertWay = {
  ...{ via: "webhook1", target: "https://webhook1", key: "webhook1", least: "warning" },
  deliver: async () => ({ kind: "arrived", detail: "status 204" }),
  abort: () => {},
};
const changes: Situation["same"] = (dry, real) => {
  if ("type" in real) {
    const foretold = real.detail
      .replace(/(was|were) refused/, "would be refused")
      .replace("the others are done", "the others would be done");
    expect(dry).toEqual({ ...real, detail: foretold });
    return;
  }
  const planned = real.changes.map((change: object) => ({ ...change, outcome: "planned" }));
  expect(dry.changes).toEqual(planned);
};
const found: Situation["same"] = (dry, real) => {
  const named = (each: { path: string; drive: string | null }) => [each.path, each.drive];
  expect(dry.found.map(named)).toEqual(real.found.map(named));
};

/** Two devices of the kernel's: how many are somebody's, and which is mounted. */
function devices(options: { taken?: number; mounted?: number; isPermitted?: boolean } = {}) {
  return () => {
    const driver = new FakeNbdDriver(2);
    driver.backends.fill("somebody's", 0, options.taken ?? 0);
    if (options.mounted !== undefined) driver.mounted.add(options.mounted);
    driver.isPermitted = options.isPermitted ?? true;
    return driver;
  };
}

export const OTHER_SITUATIONS: Readonly<Record<string, readonly Situation[]>> = {
  "POST /v1/drives": at("/v1/drives", [
    taken("new", () => startSimAppliance(), { body: { name: "x", path: "/dev/a" } }),
    taken("the last member of an array", almostTakenOver, { body: { name: "c", path: "/dev/c" } }),
    taken("one that was removed", withArray(does("DELETE", "/v1/drives/b")), {
      body: { name: "b", path: "/dev/b" },
    }),
    taken("a member of a deleted array", withArray(deleted, does("DELETE", "/v1/drives/a")), {
      body: { name: "a", path: "/dev/a" },
    }),
    taken("a member of a new array", takenOver, { body: { name: "x", path: "/dev/a" } }),
    refused(
      "another host has it",
      "fenced",
      withFence(() => startSimAppliance(), "/dev/a"),
      {
        body: { name: "x", path: "/dev/a" },
      },
    ),
    refused("its name is taken", "drive-exists", withDrives(), {
      body: { name: "a", path: "/dev/z" },
    }),
    refused("its path is taken", "path-in-use", withDrives(), {
      body: { name: "z", path: "/dev/a" },
    }),
    refused("nothing there", "no-such-drive", withDrives(), {
      body: { name: "z", path: "/dev/z" },
    }),
    refused(
      "state.db is full",
      "not-recorded",
      full(() => startSimAppliance()),
      { body: { name: "x", path: "/dev/a" } },
    ),
  ]),
  "POST /v1/drives/scan": at("/v1/drives/scan", [
    taken("members of another installation", takenOver, { body: {}, same: found }),
    taken("nothing new", withArray(), { body: {}, same: found }),
  ]),
  "POST /v1/drives/appeared": at("/v1/drives/appeared", [
    taken("nothing is missing", withArray(), { body: { path: "/dev/a" } }),
    taken("drives are missing", absent, { body: { path: "/dev/a" } }),
  ]),
  "POST /v1/drives/{name}/locate": at("/v1/drives/a/locate", [
    taken("by ledctl", async () => {
      const daemon = await startSimAppliance({ tools: new FakeTools(() => exited("")) });
      await addTestArray(daemon);
      return daemon;
    }),
    refused("no ledctl", "no-ledctl", withArray()),
    refused("unknown", "drive-not-found", withArray(), { path: "/v1/drives/nobody/locate" }),
    refused("missing", "no-disk", absent),
  ]),
  "DELETE /v1/drives/{name}": at("/v1/drives/a", [
    taken("free", withArray(), { path: "/v1/drives/d" }),
    taken("a member", withArray(), { path: "/v1/drives/b" }),
    refused("needed", "would-lose-data", withArray(degraded)),
    taken("needed, forced", withArray(degraded), { query: "force=true" }),
    taken("missing", absent),
    refused("unknown", "drive-not-found", withArray(), { path: "/v1/drives/nobody" }),
  ]),
  "PUT /v1/spares/{drive}": at("/v1/spares/d", [
    taken("new", withArray(), { body: {} }),
    taken("for one", withArray(), { body: { arrays: [TEST_ARRAY] } }),
    taken("again", withArray(shared), { body: {} }),
    refused("for others", "spare-exists", withArray(shared), { body: { arrays: [TEST_ARRAY] } }),
    refused("a member", "drive-in-use", withArray(), { path: "/v1/spares/a", body: {} }),
    refused("too small", "drive-too-small", withArray(smallDrive), {
      path: "/v1/spares/small",
      body: {},
    }),
    refused("unknown", "drive-not-found", withArray(), { path: "/v1/spares/z", body: {} }),
    refused("for nobody", "unknown-array", withArray(), { body: { arrays: ["none"] } }),
    refused("state.db is full", "not-recorded", full(withArray()), { body: {} }),
  ]),
  "DELETE /v1/spares/{drive}": at("/v1/spares/d", [
    taken("shared", withArray(shared)),
    refused("not shared", "spare-not-found", withArray()),
  ]),
  "PUT /v1/schedules/{array}": at(`/v1/schedules/${TEST_ARRAY}`, [
    taken("new", withArray(), { body: SCHEDULE }),
    taken("another", withArray(scheduled), { body: SCHEDULE }),
    refused("deleted", "array-deleted", withArray(deleted), { body: SCHEDULE }),
    refused("bad values", "bad-values", withArray(), { body: { cron: "never" } }),
    unknown("/v1/schedules/none", SCHEDULE),
  ]),
  "DELETE /v1/schedules/{array}": at(`/v1/schedules/${TEST_ARRAY}`, [
    taken("there", withArray(scheduled)),
    refused("none", "no-schedule", withArray()),
    unknown("/v1/schedules/none"),
  ]),
  "PUT /v1/exports/{name}": at("/v1/exports/disk", [
    taken("new", withArray(), { body: { array: TEST_ARRAY, readOnly: true } }),
    taken("the same, with a client", withArray(exported, client), { body: { array: TEST_ARRAY } }),
    refused("read-only, with a client", "export-in-use", withArray(exported, client), {
      body: { array: TEST_ARRAY, readOnly: true },
    }),
    taken("read-only, forced", withArray(exported, client), {
      query: "force=true",
      body: { array: TEST_ARRAY, readOnly: true },
    }),
    refused("another array, with a client", "export-in-use", withArray(exported, client, other), {
      body: { array: "other" },
    }),
    taken("another array, forced", withArray(exported, client, other), {
      query: "force=true",
      body: { array: "other" },
    }),
    taken("of a stopped one", withArray(stopped()), { body: { array: TEST_ARRAY } }),
    refused("of a deleted one", "array-deleted", withArray(deleted), {
      body: { array: TEST_ARRAY },
    }),
    refused("state.db is full", "not-recorded", full(withArray()), { body: { array: TEST_ARRAY } }),
    unknown("/v1/exports/disk", { array: "none" }),
  ]),
  "DELETE /v1/exports/{name}": at("/v1/exports/disk", [
    taken("there", withArray(exported)),
    refused("clients", "export-in-use", withArray(exported, client)),
    taken("clients, forced", withArray(exported, client), { query: "force=true" }),
    refused("none", "export-not-found", withArray()),
  ]),
  "POST /v1/exports/{name}/attach": at("/v1/exports/disk/attach", [
    taken("the first that is free", withDevices(devices()), { body: {} }),
    taken("at each start", withDevices(devices()), { body: { atStart: true } }),
    taken("again, and no more at each start", withDevices(devices(), attached), { body: {} }),
    refused("another one", "already-attached", withDevices(devices(), attached), {
      body: { device: "/dev/nbd1" },
    }),
    refused("somebody's", "device-in-use", withDevices(devices({ taken: 1 })), {
      body: { device: "/dev/nbd0" },
    }),
    refused("none is free", "no-free-device", withDevices(devices({ taken: 2 })), { body: {} }),
    refused("there is none", "device-not-found", withDevices(devices()), {
      body: { device: "/dev/nbd7" },
    }),
    refused("its array is stopped", "export-not-served", withDevices(devices(), stopped()), {
      body: { atStart: true },
    }),
    refused(
      "no permission",
      "no-permission-to-attach",
      withDevices(devices({ isPermitted: false })),
      {
        body: { atStart: true },
      },
    ),
    refused("no driver", "no-nbd-driver", withArray(exported), { body: {} }),
    refused("state.db is full", "not-recorded", full(withDevices(devices())), {
      body: { atStart: true },
    }),
    refused("unknown", "export-not-found", withDevices(devices()), {
      ...{ path: "/v1/exports/nobody/attach", body: {} },
    }),
  ]),
  "DELETE /v1/exports/{name}/attach": at("/v1/exports/disk/attach", [
    taken("attached", withDevices(devices(), attached)),
    refused("mounted", "device-in-use", withDevices(devices({ mounted: 0 }), attached)),
    taken("mounted, forced", withDevices(devices({ mounted: 0 }), attached), {
      query: "force=true",
    }),
    refused("attached to none", "not-attached", withDevices(devices())),
    refused("unknown", "export-not-found", withArray()),
  ]),
  "DELETE /v1/jobs/{id}": at("/v1/jobs/1", [
    taken("it runs", withArray(scrubbed)),
    taken("it is paused", withArray(scrubbed, does("POST", `${ARRAY}/scrub/pause`))),
    taken("it has ended", withArray(scrubbed, does("DELETE", "/v1/jobs/1"))),
    refused(
      "a resync",
      "resync-needed",
      withDrives(
        does("POST", "/v1/arrays", CREATE),
        does("PATCH", "/v1/arrays/tank", { syncSpeedMax: 1, syncSpeedMin: 1 }),
      ),
    ),
    refused("unknown", "job-not-found", withArray(), { path: "/v1/jobs/77" }),
  ]),
  "POST /v1/faults": at("/v1/faults", [
    taken("new", withArray(), { body: FAULT }),
    refused("unknown drive", "unknown-drive", withArray(), { body: { ...FAULT, drive: "z" } }),
    refused(
      "not allowed",
      "faults-not-allowed",
      () => startSimAppliance({ allowFaultInjection: false }),
      { body: FAULT },
    ),
  ]),
  "DELETE /v1/faults": at("/v1/faults", [
    taken("all", withArray(does("POST", "/v1/faults", FAULT))),
  ]),
  "DELETE /v1/faults/{id}": at("/v1/faults/7", [
    taken("one", withArray(does("POST", "/v1/faults", FAULT)), { path: "/v1/faults/1" }),
    refused("unknown", "unknown-fault", withArray()),
  ]),
  "POST /v1/events/test": at("/v1/events/test", [
    taken("a way", () => startSimAppliance({ alertWays: [way] }), {
      body: {},
      same: (dry, real) => {
        const told = ({ via, target }: { via: string; target: string }) => [via, target];
        expect(dry.ways.map(told)).toEqual(real.ways.map(told));
      },
    }),
    refused("none", "no-alerts", () => startSimAppliance(), { body: {} }),
    refused("unknown", "unknown-webhook", () => startSimAppliance({ alertWays: [way] }), {
      body: { webhook: 3 },
    }),
  ]),
  "PUT /v1/configuration": at("/v1/configuration", [
    taken("as it is here", withArray(exported, kept), { bodyOf, same: changes }),
    taken("all that was forgotten", forgotten, { bodyOf, same: changes }),
    taken("settings differ", withArray(kept, renamed), { bodyOf, same: changes }),
    refused("clients may write", "configuration-incomplete", withArray(toReadOnly), {
      ...{ bodyOf, same: changes },
    }),
    refused("a drive is not there", "configuration-incomplete", aDriveIsAway, {
      ...{ bodyOf, same: changes },
    }),
  ]),
  "PUT /v1/log": at("/v1/log", [
    taken("a level", withArray(), { body: { level: "debug" } }),
    refused("bad values", "bad-values", withArray(), { body: { level: "all" } }),
  ]),
};
