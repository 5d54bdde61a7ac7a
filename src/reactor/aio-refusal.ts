/** Why the kernel gives no AIO context, in a sentence that says what helps. Pure. */
import { EAGAIN, ENOMEM, ENOSYS, EPERM, errnoName } from "../base/errno.ts";

export interface AioCounts {
  /** /proc/sys/fs/aio-nr: requests that all contexts of the host may have under way. */
  readonly used: number | null;
  /** /proc/sys/fs/aio-max-nr. */
  readonly max: number | null;
  /** How many this process asks for. */
  readonly wanted: number;
}

/** Takes the positive errno of io_setup. */
export function aioRefusal(errno: number, { used, max, wanted }: AioCounts): string {
  const start = `the kernel gives no asynchronous I/O (io_setup: ${errnoName(errno)}): `;
  switch (errno) {
    case EAGAIN: {
      const counts =
        used === null || max === null ? "" : `, fs.aio-nr ${used} of fs.aio-max-nr ${max},`;
      return (
        `${start}what this host allows is in use by other programs${counts} and ${wanted} are ` +
        "needed: raise it (sysctl -w fs.aio-max-nr=1048576, and in /etc/sysctl.d), or stop one: " +
        "grep -l '\\[aio\\]' /proc/[0-9]*/maps lists them"
      );
    }
    case ENOSYS:
    case EPERM:
      return (
        `${start}it is built without it (CONFIG_AIO), or a sandbox keeps it back: the seccomp ` +
        "profile of a container, SystemCallFilter= of a unit, gVisor"
      );
    case ENOMEM:
      return `${start}there is no memory for it: look at the memory limit of the unit or container`;
    default:
      return start.slice(0, -2);
  }
}
