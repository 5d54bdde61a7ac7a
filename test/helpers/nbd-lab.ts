/** What the host and the guest of lab-nbd.test.ts agree on; guest/nbd-fs.ts says how. */

export const FILE_SYSTEMS = ["ext4", "xfs"] as const;

export type FileSystem = (typeof FILE_SYSTEMS)[number];

/** The name of its test in the guest. */
export function nbdTestOf(system: FileSystem): string {
  return `nbd: ${system} on the kernel's client`;
}

/** Of the array under the file system, in this order. */
export const STAGES = ["whole", "degraded", "rebuilding", "rebuilt"] as const;

export type Stage = (typeof STAGES)[number];

/** Of the kernel's client. */
export const NBD_CONNECTIONS = 4;
