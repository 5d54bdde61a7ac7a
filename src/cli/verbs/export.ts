/** `parityd export add|list|attach|detach|remove`. */

import type { Attachment, ExportView } from "../../appliance/state/export-book.ts";
import type { ExportAllow } from "../../array/protocol.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import { renderTable } from "../table-text.ts";
import { JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

export const exportCommands: readonly CommandSpec[] = [
  {
    path: ["export", "add"],
    summary: "Offer an array as a network block device",
    operands: [
      { name: "ARRAY", names: "arrays" },
      { name: "NAME", optional: true },
    ],
    options: {
      "read-only": { type: "boolean", help: "refuse writes" },
      "allow-address": {
        ...{ type: "string", value: "CIDR", multiple: true },
        help: "over TCP only for clients of this network; again for more",
      },
      "allow-certificate": {
        ...{ type: "string", value: "NAME", multiple: true },
        help: "over TCP only with a certificate of this name; again for more",
      },
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const array = invocation.operand(0);
      const name = invocation.operands[1] ?? array;
      const path = `/v1/exports/${encodeURIComponent(name)}`;
      const body = {
        array,
        readOnly: invocation.isSet("read-only"),
        allow: allowOf(invocation),
      };
      const put = await new DaemonClient(host, invocation).call<ExportView>("PUT", path, body);
      if (!put.ok) return fail(host, put.error);
      for (const uri of put.value.value.uris) host.print(uri);
      return Exit.ok;
    },
  },
  {
    path: ["export", "list"],
    summary: "List the exports",
    operands: [],
    options: { ...JSON_OUTPUT, ...RUN_DIR },
    run: async (invocation, host) => {
      const exports = await new DaemonClient(host, invocation).get<ExportView[]>("/v1/exports");
      if (!exports.ok) return fail(host, exports.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(exports.value.value));
      else {
        const rows = exports.value.value.map((entry) => [
          entry.name,
          entry.array,
          entry.readOnly ? "read-only" : "read-write",
          entry.connections,
          attachmentText(entry.attachment),
          allowText(entry.allow),
          entry.uris.join(" ") || "(waits for its array)",
        ]);
        const header = ["export", "array", "access", "clients", "device", "allowed", "uri"];
        for (const line of renderTable(header, rows)) host.print(line);
      }
      return Exit.ok;
    },
  },
  {
    path: ["export", "attach"],
    summary: "Make an export a block device of this host: /dev/nbd0",
    operands: [
      { name: "NAME", names: "exports" },
      { name: "DEVICE", optional: true },
    ],
    options: {
      "at-start": { type: "boolean", help: "also at each start of the daemon" },
      ...JSON_OUTPUT,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const device = invocation.operands[1];
      const atStart = invocation.isSet("at-start");
      const body = { atStart, ...(device === undefined ? {} : { device }) };
      const client = new DaemonClient(host, invocation);
      const attached = await client.call<ExportView>("POST", attachPath(invocation), body);
      if (!attached.ok) return fail(host, attached.error);
      const view = attached.value.value;
      if (invocation.isSet("json")) host.print(JSON.stringify(view));
      else host.print(view.attachment?.device ?? "");
      return Exit.ok;
    },
  },
  {
    path: ["export", "detach"],
    summary: "Take the block device of an export away",
    operands: [{ name: "NAME", names: "exports" }],
    options: {
      force: { type: "boolean", help: "also while it is mounted: what was not written is lost" },
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const force = invocation.isSet("force") ? "?force=true" : "";
      const path = `${attachPath(invocation)}${force}`;
      const detached = await new DaemonClient(host, invocation).call("DELETE", path);
      return detached.ok ? Exit.ok : fail(host, detached.error);
    },
  },
  {
    path: ["export", "remove"],
    summary: "Withdraw an export",
    operands: [{ name: "NAME", names: "exports" }],
    options: {
      force: { type: "boolean", help: "also while clients are connected" },
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const force = invocation.isSet("force") ? "?force=true" : "";
      const path = `/v1/exports/${encodeURIComponent(invocation.operand(0))}${force}`;
      const removed = await new DaemonClient(host, invocation).call("DELETE", path);
      return removed.ok ? Exit.ok : fail(host, removed.error);
    },
  },
];

function attachPath(invocation: Invocation): string {
  return `/v1/exports/${encodeURIComponent(invocation.operand(0))}/attach`;
}

function attachmentText(attachment: Attachment | null): string {
  if (attachment === null) return "-";
  const { device, isAttached, atStart } = attachment;
  if (!isAttached) return `(${device})`;
  return atStart ? `${device} at each start` : device;
}

/** Null: everybody. */
function allowOf(invocation: Invocation): ExportAllow | null {
  const addresses = invocation.texts("allow-address");
  const certificates = invocation.texts("allow-certificate");
  if (addresses.length === 0 && certificates.length === 0) return null;
  return {
    ...(addresses.length === 0 ? {} : { addresses }),
    ...(certificates.length === 0 ? {} : { certificates }),
  };
}

function allowText(allow: ExportAllow | null): string {
  if (allow === null) return "all";
  const { addresses, certificates } = allow;
  const parts = [addresses?.join(" ") ?? "all", ...(certificates === undefined ? [] : ["with"])];
  return [...parts, ...(certificates ?? [])].join(" ").trim() || "nobody over TCP";
}
