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
import { tell, tellDone } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

/** udev ends what takes long. */
const UDEV_TIMES: PatienceTimes = { answerMs: 2_000, notReadyMax: 1 };

export const driveCommands: readonly CommandSpec[] = [
  {
    path: ["drive", "add"],
    summary: "Tell the daemon about a drive; one of a known array joins it",
    examples: ["parityd drive add d0 /dev/disk/by-id/ata-WDC_WD40EFZX_1A"],
    answers: ["parityd.drive/1"],
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
      const { value } = answer.value;
      tell(invocation, host, { schema: "parityd.drive/1", value, lines: () => [driveLine(value)] });
      return Exit.ok;
    },
  },
  {
    path: ["drive", "list"],
    summary: "List the drives",
    examples: ["parityd drive list"],
    answers: ["parityd.drives/1"],
    operands: [],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const answer = await client.get<DriveStatus[]>("/v1/drives");
      if (!answer.ok) return fail(host, answer.error);
      const value = { drives: answer.value.value };
      const lines = (columns: number) => driveTable(value.drives, columns);
      tell(invocation, host, { schema: "parityd.drives/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["drive", "show"],
    summary: "Show one drive: what it is, and what its disk says of its health",
    examples: ["parityd drive show d0"],
    answers: ["parityd.drive/1"],
    operands: [{ name: "NAME", names: "drives" }],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const path = `/v1/drives/${encodeURIComponent(invocation.operand(0))}`;
      const answer = await client.get<DriveView>(path);
      if (!answer.ok) return fail(host, answer.error);
      const { value } = answer.value;
      tell(invocation, host, { schema: "parityd.drive/1", value, lines: () => driveLines(value) });
      return Exit.ok;
    },
  },
  {
    path: ["drive", "scan"],
    summary: "Look for members that nobody has named yet, and add them",
    examples: ["parityd drive scan --dry-run", "parityd drive scan --folder /srv/raid"],
    answers: ["parityd.drive-scan/1"],
    operands: [],
    options: {
      folder: {
        type: "string",
        multiple: true,
        value: "DIR",
        names: "files",
        help: "look at the files in it too; may be repeated",
      },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const folders = invocation.texts("folder").map((folder) => resolve(folder));
      const answer = await client.call<ScanResult>("POST", "/v1/drives/scan", { folders });
      if (!answer.ok) return fail(host, answer.error);
      const { value } = answer.value;
      const lines = (columns: number) => scanLines(value, columns);
      tell(invocation, host, { schema: "parityd.drive-scan/1", value, lines });
      // A folder stands among what was left alone only where it could not be looked into.
      const unread = value.found.filter(({ path }) => folders.includes(path));
      for (const { path, reason } of unread) host.warn(`parityd: ${path}: ${reason}`);
      return unread.length === 0 ? Exit.ok : Exit.failed;
    },
  },
  {
    path: ["drive", "appeared"],
    summary: "For udev: a missing drive may be at PATH; at once, and 0 where no daemon runs",
    examples: ["parityd drive appeared /dev/sdb"],
    answers: ["parityd.done/1"],
    operands: [{ name: "PATH", names: "files" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation, UDEV_TIMES);
      const told = await client.open("POST", "/v1/drives/appeared", {
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ path: resolve(invocation.operand(0)) }),
      });
      // A boot without the daemon is none of udev's troubles.
      if (!told.ok && told.error.exitCode === Exit.usage) return fail(host, told.error);
      const status = told.ok ? told.value.status : 503;
      if (status < 400 || status === 503) {
        tellDone(invocation, host, { did: "drive appeared", of: invocation.operand(0) });
        return Exit.ok;
      }
      return fail(host, { exitCode: Exit.failed, message: `the daemon answers ${status}` });
    },
  },
  {
    path: ["drive", "locate"],
    summary: "Light the lamp at a drive's slot (by ledctl), or switch it off",
    examples: ["parityd drive locate d0", "parityd drive locate d0 --off"],
    answers: ["parityd.drive-light/1"],
    operands: [{ name: "NAME", names: "drives" }],
    options: { off: { type: "boolean", help: "switch it off" }, ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const path = `/v1/drives/${encodeURIComponent(invocation.operand(0))}/locate`;
      const answer = await client.call<Located>("POST", path, { on: !invocation.isSet("off") });
      if (!answer.ok) return fail(host, answer.error);
      const { value } = answer.value;
      const light = `the light is ${value.on ? "on" : "off"}`;
      const lines = (): readonly string[] => [
        `${value.drive} (${value.disks.join(", ")}): ${light}`,
      ];
      tell(invocation, host, { schema: "parityd.drive-light/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["drive", "remove"],
    summary: "Forget a drive; of a member that is hot removal",
    examples: ["parityd drive remove d0"],
    answers: ["parityd.done/1"],
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
  const lines = (): readonly string[] => {
    if (now?.ok === true) return removedLines(name, now.value.value, { isDry });
    return [isDry ? `${name} would be removed` : `${name} is removed`];
  };
  tell(invocation, host, {
    schema: "parityd.done/1",
    value: { did: "drive remove", of: name },
    lines,
  });
  return Exit.ok;
}
