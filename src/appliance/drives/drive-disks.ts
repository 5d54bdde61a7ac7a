/** The physical disks below drives, as programs of the host name them. Pure. */

export interface DriveDisks {
  readonly known: readonly { readonly name: string }[];
  /** By their names in the kernel ("sda"), or the number of a file system that is on none. */
  disksOf(drives: readonly string[]): ReadonlySet<string>;
}

/** Where the host cannot tell the disk, the number of the file system stands for it: no disk. */
export function isDisk(name: string): boolean {
  return !/^\d+:\d+$/.test(name);
}

/** "/dev/sda"; the kernel writes a slash in a name as "!". */
export function diskPath(disk: string): string {
  return `/dev/${disk.replaceAll("!", "/")}`;
}

export function diskPaths(disks: Iterable<string>): string[] {
  return [...disks].filter(isDisk).map(diskPath).sort();
}
