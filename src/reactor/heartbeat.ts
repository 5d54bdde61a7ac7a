/**
 * The reactor's sign of life: a counter of turns at a fixed place of the shared memory.
 *
 * The first page of the memory is never carved, so that address 0 can mean "none". The counter
 * lies in it at byte 64. A reactor that lives turns at least once a second, even when idle.
 */
const HEARTBEAT_WORD = 64 / 4;

/** Counts a turn; called by the reactor only. */
export function beat(i32: Int32Array<ArrayBufferLike>): void {
  Atomics.add(i32, HEARTBEAT_WORD, 1);
}

/** Turns so far, modulo 2^32; for any thread. */
export function readHeartbeat(i32: Int32Array<ArrayBufferLike>): number {
  return Atomics.load(i32, HEARTBEAT_WORD) >>> 0;
}
