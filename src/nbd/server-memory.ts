/** What the NBD server takes of the memory: its part of the control area, and runs of payload. */
import { assert } from "../base/assert.ts";
import type { Carver } from "../base/memory.ts";
import { ROW_BYTES } from "../base/units.ts";
import type { SlabPool } from "../block/pool.ts";
import { ClientRequests } from "./client-requests.ts";
import type { NbdLimits } from "./limits.ts";
import { IOVEC_BYTES, IOVEC_COUNT, STAGING_BYTES } from "./outbox.ts";
import { REPLY_HEADER_BYTES_MAX } from "./wire-format.ts";

/** Receive buffers of all connections, the slots of their requests, and what the outbox needs. */
export function carveServerMemory(
  carver: Carver,
  { maxConnections, maxRequestsPerConnection, receiveBufferBytes }: NbdLimits,
) {
  const buffersAddress = carver.carve({
    bytes: maxConnections * receiveBufferBytes,
    alignment: ROW_BYTES,
  });
  const headersAddress = carver.carve({
    bytes: maxConnections * maxRequestsPerConnection * REPLY_HEADER_BYTES_MAX,
    alignment: REPLY_HEADER_BYTES_MAX,
  });
  const requests = new ClientRequests({
    connections: maxConnections,
    perConnection: maxRequestsPerConnection,
    headersAddress,
  });
  const iovecsAddress = carver.carve({ bytes: IOVEC_COUNT * IOVEC_BYTES, alignment: IOVEC_BYTES });
  const stagingAddress = carver.carve({ bytes: STAGING_BYTES, alignment: IOVEC_BYTES });
  return { buffersAddress, requests, iovecsAddress, stagingAddress };
}

/** The largest power of two up to `wanted` whose run fits, wherever in a row it begins. */
export function fittingRequestBytes(wanted: number, pool: SlabPool): number {
  assert(pool.startAddress % ROW_BYTES === 0, "runs begin on a row");
  const room = Math.min(wanted, pool.largestRunBytes - ROW_BYTES);
  return 2 ** Math.floor(Math.log2(room));
}
