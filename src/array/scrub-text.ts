/** What a scrub found, as a sentence. */
import type { MismatchList } from "../raid5/mismatch-ranges.ts";

/** "check finished: 8192 bytes in rows that do not match, the first at member sector 16". */
export function scrubText(
  mode: string,
  mismatchBytes: number,
  { ranges, truncated }: MismatchList,
): string {
  const text = `${mode} finished: ${mismatchBytes} bytes in rows that do not match`;
  const [first] = ranges;
  if (first === undefined) return text;
  const count = `${ranges.length}${truncated ? " and more" : ""}`;
  return (
    `${text}, ranges: ${count}, the first of ${first.sectorCount} sectors from sector ` +
    `${first.firstSector} of each member's data`
  );
}
