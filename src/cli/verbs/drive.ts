/** `parityd drive add|list|show|scan|appeared|locate|remove`. */

import { resolve } from "node:path";
import type { DriveView } from "../../appliance/drives/drive-care.ts";
import type { ScanResult } from "../../appliance/drives/drive-scan.ts";
import type { Located } from "../../appliance/drives/locator.ts";
import type { ArrayStatus, DriveStatus } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { driveLine, driveLines, driveTable, removedLines, scanLines } from "../drive-text.ts";
import { Exit } from "../exit.ts";
import type { CliHost } from "../host.ts";
import type { PatienceTimes } from "../patience.ts";
import { DRY_RUN, JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

/** udev ends what takes long. */
const UDEV_TIMES: PatienceTimes = { answerMs: 2_000, notReadyMax: 1 };

export const driveCommands: readonly CommandSpec[] = [
  {
    path: ["drive", "add"],
    summary: "Tell the daemon about a drive; one of a known array joins it",
    operands: [{ name: "NAME" }, { name: "PATH", names: "files" }],
    options: {
      "no-direct": { type: "boolean", help: "without O_DIRECT: for file systems that refuse it" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const answer = await client.call<DriveStatus>("POST", "/v1/drives", {
        name: invocation.operand(0),
        path: resolve(invocation.operand(1)),
        direct: !invocation.isSet("no-direct"),
      });
      if (!answer.ok) return fail(host, answer.error);
      host.print(driveLine(answer.value.value));
      return Exit.ok;
    },
  },
  {
    path: ["drive", "list"],
    summary: "List the drives",
    operands: [],
    options: { ...JSON_OUTPUT, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const answer = await client.get<DriveStatus[]>("/v1/drives");
      if (!answer.ok) return fail(host, answer.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(answer.value.value));
      else for (const line of driveTable(answer.value.value)) host.print(line);
      return Exit.ok;
    },
  },
  {
    path: ["drive", "show"],
    summary: "Show one drive: what it is, and what its disk says of its health",
    operands: [{ name: "NAME" }],
    options: { ...JSON_OUTPUT, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const path = `/v1/drives/${encodeURIComponent(invocation.operand(0))}`;
      const answer = await client.get<DriveView>(path);
      if (!answer.ok) return fail(host, answer.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(answer.value.value));
      else for (const line of driveLines(answer.value.value)) host.print(line);
      return Exit.ok;
    },
  },
  {
    path: ["drive", "scan"],
    summary: "Look for members that nobody has named yet, and add them",
    operands: [],
    options: {
      folder: {
        type: "string",
        multiple: true,
        value: "DIR",
        help: "look at the files in it too; may be repeated",
      },
      ...DRY_RUN,
      ...JSON_OUTPUT,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const folders = invocation.texts("folder").map((folder) => resolve(folder));
      const answer = await client.call<ScanResult>("POST", "/v1/drives/scan", { folders });
      if (!answer.ok) return fail(host, answer.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(answer.value.value));
      else for (const line of scanLines(answer.value.value)) host.print(line);
      return Exit.ok;
    },
  },
  {
    path: ["drive", "appeared"],
    summary: "For udev: a missing drive may be at PATH; at once, and 0 where no daemon runs",
    operands: [{ name: "PATH" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation, UDEV_TIMES);
      const told = await client.open("POST", "/v1/drives/appeared", {
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ path: resolve(invocation.operand(0)) }),
      });
      // A boot without the daemon is none of udev's troubles.
      if (!told.ok) return told.error.exitCode === Exit.usage ? fail(host, told.error) : Exit.ok;
      const { status } = told.value;
      if (status < 400 || status === 503) return Exit.ok;
      return fail(host, { exitCode: Exit.failed, message: `the daemon answers ${status}` });
    },
  },
  {
    path: ["drive", "locate"],
    summary: "Light the lamp at a drive's slot (by ledctl), or switch it off",
    operands: [{ name: "NAME" }],
    options: {
      off: { type: "boolean", help: "switch it off" },
      ...DRY_RUN,
      ...JSON_OUTPUT,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const path = `/v1/drives/${encodeURIComponent(invocation.operand(0))}/locate`;
      const answer = await client.call<Located>("POST", path, { on: !invocation.isSet("off") });
      if (!answer.ok) return fail(host, answer.error);
      const { drive, disks, on } = answer.value.value;
      if (invocation.isSet("json")) host.print(JSON.stringify(answer.value.value));
      else host.print(`${drive} (${disks.join(", ")}): the light is ${on ? "on" : "off"}`);
      return Exit.ok;
    },
  },
  {
    path: ["drive", "remove"],
    summary: "Forget a drive; of a member that is hot removal",
    operands: [{ name: "NAME", names: "drives" }],
    options: {
      force: { type: "boolean", help: "also where the array cannot spare it" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: removeDrive,
  },
];

/** Says what has become of the array of a member that is taken out, and the way on. */
async function removeDrive(invocation: Invocation, host: CliHost): Promise<number> {
  const client = new DaemonClient(host, invocation);
  const name = invocation.operand(0);
  const path = `/v1/drives/${encodeURIComponent(name)}`;
  const before = await client.get<DriveStatus>(path);
  const force = invocation.isSet("force") ? "?force=true" : "";
  const removed = await client.call("DELETE", `${path}${force}`);
  if (!removed.ok) return fail(host, removed.error);
  const drive = before.ok ? before.value.value : null;
  const array = drive?.state === "member" ? (drive.member?.array ?? null) : null;
  const now =
    array === null
      ? null
      : await client.get<ArrayStatus>(`/v1/arrays/${encodeURIComponent(array)}`);
  const isDry = invocation.isSet("dry-run");
  if (now === null || !now.ok)
    host.print(isDry ? `${name} would be removed` : `${name} is removed`);
  else for (const line of removedLines(name, now.value.value, { isDry })) host.print(line);
  return Exit.ok;
}
