/**
 * The lock on the state directory: two daemons never share one. The kernel drops it when the
 * process ends, however it ends. The fd stays open for the life of the process.
 */
import { cString } from "../../ffi/arena.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { FlockOperation } from "../../ffi/structs.ts";
import { EAGAIN, errnoName } from "../base/errno.ts";
import { err, ok, type Result } from "../base/result.ts";

const O_RDWR = 0o2;
const O_CREAT = 0o100;
const O_CLOEXEC = 0o2000000;

/** Takes the lock file at `path`. `held`: another process has it. */
export function takeLock(path: string): Result<{ release(): void }, "held" | { errno: string }> {
  const name = cString(path);
  if (name === null) return err({ errno: "EINVAL" });
  const fd = libc.open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0o600);
  if (fd < 0) return err({ errno: errnoName(lastErrno()) });
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
