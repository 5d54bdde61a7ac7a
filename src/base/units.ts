/** Byte units and the sizes that every layer agrees on. */

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;
export const TIB = 1024 * GIB;

/** Sectors are the unit of the md format. */
export const SECTOR_BYTES = 512;

/** A row: the unit of member I/O and of a column range (write-rules 17). */
export const ROW_SHIFT = 12;
export const ROW_BYTES = 1 << ROW_SHIFT;

/**
 * Bytes by which a whole number lies behind the begin of its row. Of numbers that are not small
 * `%` is a call into the C library, and this is one instruction.
 */
export function withinRow(value: number): number {
  return value & (ROW_BYTES - 1);
}

export function roundDown(value: number, multiple: number): number {
  return value - (value % multiple);
}

export function roundUp(value: number, multiple: number): number {
  return roundDown(value + multiple - 1, multiple);
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}

/** Renders a size for people: "8.0 TiB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}
