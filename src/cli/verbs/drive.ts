/** `parityd drive add|list|remove`. */

import { resolve } from "node:path";
import type { ScanResult } from "../../appliance/drives/drive-scan.ts";
import type { DriveStatus } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { driveLine, driveTable, scanLines } from "../drive-text.ts";
import { Exit } from "../exit.ts";
import { DRY_RUN, JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

export const driveCommands: readonly CommandSpec[] = [
  {
    path: ["drive", "add"],
    summary: "Tell the daemon about a drive; one of a known array joins it",
    operands: [{ name: "NAME" }, { name: "PATH", names: "files" }],
    options: {
      "no-direct": { type: "boolean", help: "without O_DIRECT: for file systems that refuse it" },
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
      const body = { dryRun: invocation.isSet("dry-run"), folders };
      const answer = await client.call<ScanResult>("POST", "/v1/drives/scan", body);
      if (!answer.ok) return fail(host, answer.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(answer.value.value));
      else for (const line of scanLines(answer.value.value)) host.print(line);
      return Exit.ok;
    },
  },
  {
    path: ["drive", "remove"],
    summary: "Forget a drive; of a member that is hot removal",
    operands: [{ name: "NAME", names: "drives" }],
    options: {
      force: { type: "boolean", help: "also where the array cannot spare it" },
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const force = invocation.isSet("force") ? "?force=true" : "";
      const path = `/v1/drives/${encodeURIComponent(invocation.operand(0))}${force}`;
      const answer = await client.call("DELETE", path);
      return answer.ok ? Exit.ok : fail(host, answer.error);
    },
  },
];
