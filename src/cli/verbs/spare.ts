/** `parityd spare add|list|remove`: drives that arrays share. */
import { forWhom, type SpareView } from "../../appliance/spares/shared-spares.ts";
import { formatBytes } from "../../base/units.ts";
import { DaemonClient, fail } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { Exit } from "../exit.ts";
import { renderTable } from "../table-text.ts";
import { tell, tellDone } from "../tell.ts";
import { DRY_RUN, RUN_DIR } from "./shared-options.ts";

export const spareCommands: readonly CommandSpec[] = [
  {
    path: ["spare", "add"],
    summary: "Share a drive as a spare of all arrays, or of those that are named",
    examples: ["parityd spare add d5 --array tank --array pool"],
    answers: ["parityd.spare/1"],
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
      const { value } = put.value;
      const { drive, arrays: forArrays, fits } = value;
      const large = fits.length === 0 ? "" : `; large enough for ${fits.join(", ")}`;
      const line = `${drive} is a shared spare for ${forWhom(forArrays)}${large}`;
      tell(invocation, host, { schema: "parityd.spare/1", value, lines: () => [line] });
      return Exit.ok;
    },
  },
  {
    path: ["spare", "list"],
    summary: "List the shared spares",
    examples: ["parityd spare list"],
    answers: ["parityd.spares/1"],
    operands: [],
    options: { ...RUN_DIR },
    run: async (invocation, host) => {
      const spares = await new DaemonClient(host, invocation).get<SpareView[]>("/v1/spares");
      if (!spares.ok) return fail(host, spares.error);
      const value = { spares: spares.value.value };
      const lines = (columns: number) => spareTable(value.spares, columns);
      tell(invocation, host, { schema: "parityd.spares/1", value, lines });
      return Exit.ok;
    },
  },
  {
    path: ["spare", "remove"],
    summary: "Share a drive no more",
    examples: ["parityd spare remove d5"],
    answers: ["parityd.done/1"],
    operands: [{ name: "DRIVE", names: "spares" }],
    options: { ...DRY_RUN, ...RUN_DIR },
    run: async (invocation, host) => {
      const client = new DaemonClient(host, invocation);
      const removed = await client.call("DELETE", sparePath(invocation.operand(0)));
      if (!removed.ok) return fail(host, removed.error);
      tellDone(invocation, host, { did: "spare remove", of: invocation.operand(0) });
      return Exit.ok;
    },
  },
];

function sparePath(drive: string): string {
  return `/v1/spares/${encodeURIComponent(drive)}`;
}

function spareTable(spares: readonly SpareView[], columns: number): string[] {
  const rows = spares.map(({ drive, arrays, fits, state, sizeBytes, readAt }) => [
    drive,
    arrays?.join(" ") ?? "(all)",
    fits.join(" ") || "-",
    state,
    formatBytes(sizeBytes),
    readAt ?? "-",
  ]);
  return renderTable(["drive", "for", "fits", "state", "size", "read"], rows, columns);
}
