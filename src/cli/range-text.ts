/**
 * What is printed of the ranges that a scrub has found: a line for each, and where they were
 * explained the bytes of the exported device that each concerns. Pure.
 */
import type { JobStatus, MismatchRange } from "../array/protocol.ts";
import { listIn } from "../array/sync/scrub-report.ts";

const INDENT = "          ";

export function rangeLines({ result }: Pick<JobStatus, "result">): string[] {
  return (["mismatch", "lost"] as const).flatMap((what) => {
    const list = listIn(result[`${what}Ranges`]);
    if (list === undefined) return [];
    const lines = list.ranges.flatMap((range) => [
      `${what}: ${rangeText(range)}`,
      ...explainedLines(range),
    ]);
    return list.truncated ? [...lines, `${what}: more behind these`] : lines;
  });
}

/** "sectors 16 to 23 of each member's data (stripe 0, byte 8192 of the array, role unknown)". */
function rangeText(range: MismatchRange): string {
  const { firstSector, sectorCount, stripe, stripeCount, arrayOffset, roles } = range;
  const stripes =
    stripeCount === 1 ? `stripe ${stripe}` : `stripes ${stripe} to ${stripe + stripeCount - 1}`;
  const who = roles === null ? "role unknown" : `roles ${roles.join(" and ")}`;
  return (
    `sectors ${firstSector} to ${firstSector + sectorCount - 1} of each member's data ` +
    `(${stripes}, byte ${arrayOffset} of the array, ${who})`
  );
}

function explainedLines({ exportRanges }: MismatchRange): string[] {
  if (exportRanges === undefined) return [];
  const lines = exportRanges.ranges.map(
    ({ offset, bytes }) =>
      `${INDENT}bytes ${offset} to ${offset + bytes - 1} of the exported device`,
  );
  return exportRanges.truncated ? [...lines, `${INDENT}more behind these`] : lines;
}
