/**
 * What is mounted, from /proc/self/mountinfo (proc(5)):
 *
 *   36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw,errors=continue
 *         device     where                    (any)     type source
 */
import { readText } from "../host/linux-text.ts";

export interface Mount {
  /** "8:1"; of a file system without a device of its own "0:42". */
  readonly deviceNumber: string;
  readonly place: string;
  readonly type: string;
  readonly source: string;
}

/** None where the host does not say. */
export function readMounts(procRoot = "/proc"): Mount[] {
  const text = readText(`${procRoot}/self/mountinfo`) ?? "";
  return text.split("\n").flatMap((line) => {
    const [front = "", back = ""] = line.split(" - ");
    const [, , deviceNumber, , place] = front.split(" ");
    const [type, source] = back.split(" ");
    if (deviceNumber === undefined || place === undefined) return [];
    if (type === undefined || source === undefined) return [];
    return [{ deviceNumber, place: plain(place), type, source: plain(source) }];
  });
}

/** The mount that a whole path lies on: the last one of the deepest place. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | null {
  let best: Mount | null = null;
  for (const mount of mounts) {
    const isUnder =
      mount.place === "/" || path === mount.place || path.startsWith(`${mount.place}/`);
    if (isUnder && mount.place.length >= (best?.place.length ?? 0)) best = mount;
  }
  return best;
}

/** A server that is gone makes whoever touches one of these wait, perhaps for ever. */
export function isRemote({ type }: Mount): boolean {
  return /^(nfs|cifs|smb|ceph|9p|afs|gfs|lustre|glusterfs|fuse)/.test(type);
}

/** Spaces, tabs, line ends and backslashes stand in octal. */
function plain(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, digits) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
