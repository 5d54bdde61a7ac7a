/**
 * Memory for a thread on which the host's own block devices may depend: the kernel makes none free
 * for it by writing to such a device, since that would wait for this very thread (prctl(2),
 * PR_SET_IO_FLUSHER, since Linux 5.6).
 *
 * It is the calling thread's, and of the threads that it makes from then on: workers, their helpers.
 */
import { libc } from "../../ffi/libc.ts";
import { IoFlusher } from "../../ffi/structs.ts";

/** False: without CAP_SYS_RESOURCE, or before Linux 5.6. Nothing has changed then. */
export function becomeIoFlusher(): boolean {
  return libc.prctl(IoFlusher.set, 1, 0, 0, 0) === 0;
}

/** Whether the calling thread is one, or that cannot be known, as without the capability: false. */
export function isIoFlusher(): boolean {
  return libc.prctl(IoFlusher.get, 0, 0, 0, 0) === 1;
}
