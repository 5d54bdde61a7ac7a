/**
 * The six RAID5 layouts of md, by the numbers that the superblock holds.
 *
 * The RAID6 numbers (6, 16 and above) are no layouts of a RAID5 array: md refuses them too.
 */
/** md's default, and the layout of every array that parityd makes. */
export const LAYOUT_LEFT_SYMMETRIC = 2;

const NAMES = [
  "left-asymmetric",
  "right-asymmetric",
  "left-symmetric",
  "right-symmetric",
  "parity-first",
  "parity-last",
] as const;

export type LayoutName = (typeof NAMES)[number];

export function isLayout(layout: number): boolean {
  return Number.isInteger(layout) && layout >= 0 && layout < NAMES.length;
}

/** "left-symmetric" for 2; undefined for a number that is no RAID5 layout. */
export function layoutName(layout: number): LayoutName | undefined {
  return NAMES[layout];
}
