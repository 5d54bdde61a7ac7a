/**
 * How large an array may be that is taken over: what each limit rests on, in one place. What may be
 * created is less (array/commands/create.ts). What lies beyond is refused at assembly, with a
 * message of its own; below it nothing in the engine may fail for size.
 *
 * | limit                 | rests on                                                              |
 * |-----------------------|-----------------------------------------------------------------------|
 * | `ARRAY_MEMBERS_MAX`   | sets of roles and of chunks are one number each (bit-set.ts)          |
 * | `ARRAY_CHUNK_BYTES_MAX` | rows of a chunk are counted in 16 bits (raid5/stripe/segments.ts)          |
 * | a stripe in the pool  | a stripe is one run of the engine's pool (array/start/stripe-memory.ts)     |
 */
import { BIT_SET_SIZE } from "./bit-set.ts";
import { MIB } from "./units.ts";

/** md needs two for RAID5. */
export const ARRAY_MEMBERS_MIN = 2;
export const ARRAY_MEMBERS_MAX = BIT_SET_SIZE;

export const ARRAY_CHUNK_BYTES_MAX = 128 * MIB;
