/** Where a known drive may be, whether what is there is it, and what lay there from the start. */
import { dirname } from "node:path";
import type { FoundDevice } from "./helper/drive-opener.ts";
import type { StoredDrive } from "./state/state.ts";

export function pathsOf({ path, byId }: StoredDrive): string[] {
  return byId === null || byId === path ? [path] : [byId, path];
}

export function isDevicePath(path: string): boolean {
  return path.startsWith("/dev/");
}

/** Where the files among these drives were. */
export function foldersOf(drives: readonly StoredDrive[]): string[] {
  const files = drives.filter(({ path }) => !isDevicePath(path));
  return [...new Set(files.map(({ path }) => dirname(path)))];
}

/** Whether what was found carries the drive's own superblock. */
export function isItself(drive: StoredDrive, { member }: FoundDevice): boolean {
  return member !== null && member.deviceUuid === drive.deviceUuid;
}

/** The files that lay in the folders of missing drives at the first look there. */
export class FilesBeside {
  private readonly foldersSeen = new Set<string>();
  private readonly files = new Set<string>();

  note(drives: readonly StoredDrive[], found: readonly FoundDevice[]): void {
    for (const folder of foldersOf(drives)) {
      if (this.foldersSeen.has(folder)) continue;
      this.foldersSeen.add(folder);
      for (const { path } of found) if (dirname(path) === folder) this.files.add(path);
    }
  }

  has(path: string): boolean {
    return this.files.has(path);
  }
}
