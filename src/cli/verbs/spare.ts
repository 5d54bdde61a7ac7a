/** `parityd spare add|list|remove`: drives that arrays share. */
import { forWhom, type SpareView } from "../../appliance/spares/shared-spares.ts";
import { formatBytes } from "../../base/units.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { Exit } from "../exit.ts";
import { renderTable } from "../table-text.ts";
import { DRY_RUN, JSON_OUTPUT, RUN_DIR } from "./shared-options.ts";

export const spareCommands: readonly CommandSpec[] = [
  {
    path: ["spare", "add"],
    summary: "Share a drive as a spare of all arrays, or of those that are named",
    operands: [{ name: "DRIVE", names: "drives" }],
    options: {
      array: {
        type: "string",
        multiple: true,
        value: "ARRAY",
        names: "arrays",
        help: "an array that may take it; may be repeated",
      },
      sparse: { type: "boolean", help: "leave a file sparse" },
      ...DRY_RUN,
      ...RUN_DIR,
    },
    run: async (invocation, host) => {
      const arrays = invocation.texts("array");
      const put = await new DaemonClient(host, invocation).call<SpareView>(
        "PUT",
        sparePath(invocation.operand(0)),
        {
          ...(arrays.length === 0 ? {} : { arrays }),
          ...(invocation.isSet("sparse") ? { allocate: false } : {}),
        },
      );
      if (!put.ok) return fail(host, put.error);
      const { drive, arrays: forArrays, fits } = put.value.value;
      const large = fits.length === 0 ? "" : `; large enough for ${fits.join(", ")}`;
      host.print(`${drive} is a shared spare for ${forWhom(forArrays)}${large}`);
      return Exit.ok;
    },
  },
  {
    path: ["spare", "list"],
    summary: "List the shared spares",
    operands: [],
    options: { ...JSON_OUTPUT, ...RUN_DIR },
    run: async (invocation, host) => {
      const spares = await new DaemonClient(host, invocation).get<SpareView[]>("/v1/spares");
      if (!spares.ok) return fail(host, spares.error);
      if (invocation.isSet("json")) host.print(JSON.stringify(spares.value.value));
      else for (const line of spareTable(spares.value.value)) host.print(line);
      return Exit.ok;
    },
  },
  {
    path: ["spare", "remove"],
    summary: "Share a drive no more",
    operands: [{ name: "DRIVE", names: "spares" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const removed = await client.call("DELETE", sparePath(invocation.operand(0)));
      return removed.ok ? Exit.ok : fail(host, removed.error);
    },
  },
];

function sparePath(drive: string): string {
  return `/v1/spares/${encodeURIComponent(drive)}`;
}

function spareTable(spares: readonly SpareView[]): string[] {
  const rows = spares.map(({ drive, arrays, fits, state, sizeBytes, readAt }) => [
    drive,
    arrays?.join(" ") ?? "(all)",
    fits.join(" ") || "-",
    state,
    formatBytes(sizeBytes),
    readAt ?? "-",
  ]);
  return renderTable(["drive", "for", "fits", "state", "size", "read"], rows);
}
