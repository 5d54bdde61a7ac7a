/**
 * How large an array may be, and how much is remembered: one place for what the API, the commands,
 * the engine and the format's codecs hold to.
 *
 * | of an array  | at create      | at take-over     | what the last rests on                    |
 * |--------------|----------------|------------------|-------------------------------------------|
 * | members      | 3 to 16        | 2 to 53          | sets of roles are one number (bit-set.ts) |
 * | chunk, a 2^n | 4 KiB to 1 MiB | 4 KiB to 128 MiB | rows of a chunk are counted in 16 bits    |
 * |              |                |                  | (raid5/stripe/segments.ts)                |
 * | spares       | 0 to 16        | any              |                                           |
 * | stripe       | a run of the engine's pool: array/start/stripe-memory.ts says which fit     |
 *
 * What lies beyond the limits of a take-over is refused at assembly, with a message of its own;
 * below them nothing in the engine may fail for size.
 */
import { BIT_SET_SIZE } from "./bit-set.ts";
import { KIB, MIB, ROW_BYTES } from "./units.ts";

export const NEW_ARRAY_MEMBERS_MIN = 3;
export const NEW_ARRAY_MEMBERS_MAX = 16;
export const NEW_ARRAY_SPARES_MAX = 16;
export const NEW_ARRAY_CHUNK_BYTES_MIN = 4 * KIB;
export const NEW_ARRAY_CHUNK_BYTES_MAX = MIB;

/** md needs two for RAID5. */
export const ARRAY_MEMBERS_MIN = 2;
export const ARRAY_MEMBERS_MAX = BIT_SET_SIZE;

export const ARRAY_CHUNK_BYTES_MIN = ROW_BYTES;
export const ARRAY_CHUNK_BYTES_MAX = 128 * MIB;

/** Events in state.db; older ones go. */
export const KEPT_EVENTS = 100_000;
/** Of those the latest are answered from memory, whatever becomes of the file. */
export const EVENTS_IN_MEMORY = 10_000;
export const KEPT_JOBS = 1_000;
/** Answers to POSTs with an Idempotency-Key. */
export const ANSWERS_MAX = 10_000;
export const ANSWER_KEPT_MS = 24 * 3_600_000;
/** Alerts that wait for one way; then the oldest of the least severe goes. */
export const ALERTS_WAITING_MAX = 1_000;
