/** Small reads of /sys and /proc, where whatever is missing is unknown and no error. */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";

export function readText(path: string): string | null {
  return orNull(() => readFileSync(path, "utf8").trim());
}

export function readBytes(path: string): Uint8Array | null {
  return orNull(() => new Uint8Array(readFileSync(path)));
}

/** Sorted, so that what is said of a host does not depend on the order of its folders. */
export function listFolder(path: string): string[] {
  return orNull(() => readdirSync(path).sort()) ?? [];
}

export function linkTarget(path: string): string | null {
  return orNull(() => readlinkSync(path));
}

export function realPath(path: string): string | null {
  return orNull(() => realpathSync(path));
}

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}
