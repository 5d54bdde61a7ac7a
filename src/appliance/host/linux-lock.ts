/**
 * The lock on the state directory: two daemons never share one. The kernel drops it when the
 * process ends, however it ends. The fd stays open for the life of the process.
 */
import { dirname } from "node:path";
import { cString } from "../../../ffi/arena.ts";
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { FlockOperation } from "../../../ffi/structs.ts";
import { EAGAIN, EDQUOT, ENOSPC, EROFS, errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";

const O_RDONLY = 0;
const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_CLOEXEC = 0o2000000;

/**
 * Takes the lock file at `path`; where it cannot be made, because the file system is full or
 * read-only, the folder itself is locked. `held`: another process has it.
 */
export function takeLock(path: string): Result<{ release(): void }, "held" | { errno: string }> {
  const name = cString(path);
  if (name === null) return err({ errno: "EINVAL" });
  const fd = openLock(path, name);
  if (fd < 0) return err({ errno: errnoName(-fd) });
  if (libc.flock(fd, FlockOperation.exclusive + FlockOperation.nonBlock) < 0) {
    const errno = lastErrno();
    libc.close(fd);
    return err(errno === EAGAIN ? "held" : { errno: errnoName(errno) });
  }
  return ok({
    release: () => {
      libc.close(fd);
    },
  });
}

/** An fd, or -errno. A lock needs no more than an open file, whatever it was opened for. */
function openLock(path: string, name: Uint8Array): number {
  const made = libc.open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600);
  if (made >= 0) return made;
  const errno = lastErrno();
  if (errno !== EROFS && errno !== ENOSPC && errno !== EDQUOT) return -errno;
  const there = libc.open(name, O_RDONLY | O_CLOEXEC, 0);
  if (there >= 0) return there;
  const folder = libc.open(cString(dirname(path))!, O_RDONLY | O_CLOEXEC, 0);
  return folder >= 0 ? folder : -errno;
}
