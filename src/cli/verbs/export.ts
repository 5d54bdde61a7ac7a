/** `parityd export add|list|attach|detach|remove`. */

import type { ExportView } from "../../appliance/state/export-book.ts";
import type { ExportAllow } from "../../array/protocol.ts";
import { DaemonClient, fail, usageFailure } from "../client.ts";
import type { CommandSpec, Invocation } from "../command.ts";
import { Exit } from "../exit.ts";
import { clientUris, exportLines } from "../export-text.ts";
import type { CliHost } from "../host.ts";
import { tell, tellDone } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

export const exportCommands: readonly CommandSpec[] = [
  {
    path: ["export", "add"],
    summary:
      "Offer an array as a network block device; of one that is there, what is not named stays",
    examples: [
      "parityd export add tank",
      "parityd export add tank tank-ro --read-only --allow-address 10.0.0.0/8",
      "parityd export add tank tank-ro --read-write --allow-all",
    ],
    answers: ["parityd.export/1"],
    operands: [
      { name: "ARRAY", names: "arrays" },
      { name: "NAME", optional: true },
    ],
    options: {
      "read-only": { type: "boolean", help: "refuse writes" },
      "read-write": { type: "boolean", help: "take writes (what a new one does)" },
      force: { type: "boolean", help: "also where clients lose it, or may write no more" },
      "allow-address": {
        ...{ type: "string", value: "CIDR", multiple: true },
        help: "over TCP only for clients of this network; again for more",
      },
      "allow-certificate": {
        ...{ type: "string", value: "NAME", multiple: true },
        help: "over TCP only with a certificate of this name; again for more",
      },
      "allow-all": {
        type: "boolean",
        help: "for every client, or for those alone that this line names",
      },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: addExport,
  },
  {
    path: ["export", "list"],
    summary: "List the exports",
    examples: ["parityd export list"],
    answers: ["parityd.exports/1"],
    operands: [],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const exports = await new DaemonClient(host, invocation).get<ExportView[]>("/v1/exports");
      if (!exports.ok) return fail(host, exports.error);
      const value = { exports: exports.value.value };
      const { networkName } = host;
      const lines = (columns: number) => exportLines(value.exports, { columns, networkName });
      tell(invocation, host, { schema: "parityd.exports/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["export", "attach"],
    summary: "Make an export a block device of this host: /dev/nbd0",
    examples: ["parityd export attach tank", "parityd export attach tank /dev/nbd0 --at-start"],
    answers: ["parityd.export/1"],
    operands: [
      { name: "NAME", names: "exports" },
      { name: "DEVICE", optional: true },
    ],
    options: {
      "at-start": { type: "boolean", help: "also at each start of the daemon" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const device = invocation.operands[1];
      const atStart = invocation.isSet("at-start");
      const body = { atStart, ...(device === undefined ? {} : { device }) };
      const client = new DaemonClient(host, invocation);
      const attached = await client.call<ExportView>("POST", attachPath(invocation), body);
      if (!attached.ok) return fail(host, attached.error);
      const { value } = attached.value;
      const lines = () => [value.attachment?.device ?? ""];
      tell(invocation, host, { schema: "parityd.export/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["export", "detach"],
    summary: "Take the block device of an export away",
    examples: ["parityd export detach tank"],
    answers: ["parityd.done/1"],
    operands: [{ name: "NAME", names: "exports" }],
    options: {
      force: { type: "boolean", help: "also while it is mounted: what was not written is lost" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const force = invocation.isSet("force") ? "?force=true" : "";
      const path = `${attachPath(invocation)}${force}`;
      const detached = await new DaemonClient(host, invocation).call("DELETE", path);
      if (!detached.ok) return fail(host, detached.error);
      tellDone(invocation, host, { did: "export detach", of: invocation.operand(0) });
      return Exit.ok;
    },
  },
  {
    path: ["export", "remove"],
    summary: "Withdraw an export",
    examples: ["parityd export remove tank-ro"],
    answers: ["parityd.done/1"],
    operands: [{ name: "NAME", names: "exports" }],
    options: {
      force: { type: "boolean", help: "also while clients are connected" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const force = invocation.isSet("force") ? "?force=true" : "";
      const path = `/v1/exports/${encodeURIComponent(invocation.operand(0))}${force}`;
      const removed = await new DaemonClient(host, invocation).call("DELETE", path);
      if (!removed.ok) return fail(host, removed.error);
      tellDone(invocation, host, { did: "export remove", of: invocation.operand(0) });
      return Exit.ok;
    },
  },
];

function attachPath(invocation: Invocation): string {
  return `/v1/exports/${encodeURIComponent(invocation.operand(0))}/attach`;
}

async function addExport(invocation: Invocation, host: CliHost): Promise<number> {
  const isReadOnly = invocation.isSet("read-only");
  if (isReadOnly && invocation.isSet("read-write")) {
    return usageFailure(host, "an export is --read-only or --read-write, not both");
  }
  const client = new DaemonClient(host, invocation);
  const array = invocation.operand(0);
  const name = invocation.operands[1] ?? array;
  // The call sets all of an export: what is not named here stays, above all who may open it.
  const known = await client.get<ExportView[]>("/v1/exports");
  if (!known.ok) return fail(host, known.error);
  const before = known.value.value.find((entry) => entry.name === name);
  const stays = !invocation.isSet("read-write") && before?.readOnly === true;
  const body = {
    array,
    readOnly: isReadOnly || stays,
    allow: allowOf(invocation, before?.allow ?? null),
  };
  const force = invocation.isSet("force") ? "?force=true" : "";
  const path = `/v1/exports/${encodeURIComponent(name)}${force}`;
  const put = await client.call<ExportView>("PUT", path, body);
  if (!put.ok) return fail(host, put.error);
  const { value } = put.value;
  tell(invocation, host, {
    schema: "parityd.export/1",
    value,
    lines: () => clientUris(value.uris, host.networkName),
  });
  return Exit.ok;
}

/** Null: everybody. */
function allowOf(invocation: Invocation, before: ExportAllow | null): ExportAllow | null {
  const addresses = invocation.texts("allow-address");
  const certificates = invocation.texts("allow-certificate");
  const allow = {
    ...(invocation.isSet("allow-all") ? null : before),
    ...(addresses.length === 0 ? {} : { addresses }),
    ...(certificates.length === 0 ? {} : { certificates }),
  };
  return Object.keys(allow).length === 0 ? null : allow;
}
