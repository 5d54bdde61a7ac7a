/** What is printed of exports: the table, and their addresses as a client can use them. Pure. */
import type { Attachment, ExportView } from "../appliance/state/export-book.ts";
import type { ExportAllow } from "../array/protocol.ts";
import { renderRows, renderTable } from "./table-text.ts";

/** "Every address of this host", as sockets say it. */
const ANY_HOST = /^(nbds?:\/\/)(?:0\.0\.0\.0|\[::\]):/;

/**
 * What is bound, in words for clients: nobody connects to 0.0.0.0 or [::]. This host's name stands
 * there, by which certificates know it, too.
 */
export function clientUris(uris: readonly string[], networkName: string): string[] {
  return [...new Set(uris.map((uri) => uri.replace(ANY_HOST, `$1${networkName}:`)))];
}

/**
 * A line for each with its addresses behind it; where that does not fit, below it: a URI that is
 * cut is none.
 */
export function exportLines(
  exports: readonly ExportView[],
  { columns, networkName }: { columns: number; networkName: string },
): string[] {
  const header = ["export", "array", "access", "clients", "device", "allowed"];
  const rows = exports.map((entry) => [
    entry.name,
    entry.array,
    entry.readOnly ? "read-only" : "read-write",
    entry.connections,
    attachmentText(entry.attachment),
    allowText(entry.allow),
  ]);
  const uris = exports.map((entry) => {
    const usable = clientUris(entry.uris, networkName);
    return usable.length === 0 ? ["(waits for its array)"] : usable;
  });
  const wide = renderTable(
    [...header, "uri"],
    rows.map((row, index) => [...row, uris[index]!.join(" ")]),
  );
  if (wide.every((line) => line.length <= columns)) return wide;
  const [titles = [], ...lines] = renderRows(header, rows, columns);
  const below = lines.map((row, index) => [...row, ...uris[index]!.map((uri) => `  ${uri}`)]);
  return [titles, ...below].flat();
}

function attachmentText(attachment: Attachment | null): string {
  if (attachment === null) return "-";
  const { device, isAttached, atStart } = attachment;
  if (!isAttached) return `(${device})`;
  return atStart ? `${device} at each start` : device;
}

function allowText(allow: ExportAllow | null): string {
  if (allow === null) return "all";
  const { addresses, certificates } = allow;
  const parts = [addresses?.join(" ") ?? "all", ...(certificates === undefined ? [] : ["with"])];
  return [...parts, ...(certificates ?? [])].join(" ").trim() || "nobody over TCP";
}
