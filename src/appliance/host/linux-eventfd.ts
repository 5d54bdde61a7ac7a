/** The eventfd that wakes the reactor: control writes 1, the reactor's epoll sees it readable. */
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { EventFdFlag } from "../../../ffi/structs.ts";
import { errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";

export interface WakeUp {
  readonly fd: number;
  ring(): void;
}

export function createWakeUp(): Result<WakeUp, string> {
  const fd = libc.eventfd(0, EventFdFlag.nonBlock + EventFdFlag.closeOnExec);
  if (fd < 0) return err(`cannot make an eventfd: ${errnoName(lastErrno())}`);
  const one = new Uint8Array(new ArrayBuffer(8));
  one[0] = 1;
  return ok({
    fd,
    // EAGAIN means that the counter is full: the reactor is then woken anyway.
    ring: () => {
      libc.write(fd, one, one.length);
    },
  });
}
