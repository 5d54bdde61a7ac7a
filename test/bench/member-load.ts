/**
 * Sequential reads or writes of several drives at once through the aio layer alone: no filters, no
 * array. What a job on all members is held against.
 */
import type { OpenDrive } from "../../src/array/protocol.ts";
import type { ReactorContext } from "../../src/array/reactor-context.ts";
import { assert } from "../../src/base/assert.ts";
import { Op } from "../../src/reactor/io-table.ts";
import type { Reactor } from "../../src/reactor/reactor.ts";
import type { LoadResult } from "./load.ts";
import { stopwatch } from "./stopwatch.ts";

/** Which part of each drive is moved, again and again. */
export interface Extent {
  readonly drive: OpenDrive;
  readonly offset: number;
  readonly bytes: number;
}

export interface RawMove {
  readonly kind: "read" | "write";
  readonly requestBytes: number;
  /** Requests under way to each drive. */
  readonly depth: number;
}

export function moveRaw(
  { context, reactor }: { context: ReactorContext; reactor: Reactor },
  extents: readonly Extent[],
  { kind, requestBytes, depth, ms }: RawMove & { readonly ms: number },
): LoadResult {
  const { table, payloadPool: pool } = context;
  const bufferBytes = extents.length * depth * requestBytes;
  const buffer = pool.allocate(bufferBytes);
  assert(buffer !== 0, "the pool holds the buffers of the load");
  let operations = 0;
  let isRunning = true;
  const devices = extents.map(({ drive, offset, bytes }, index) => {
    const device = context.openDevice(drive);
    const placeCount = Math.floor(bytes / requestBytes);
    let place = 0;
    const submit = (request: number): void => {
      table.offset[request] = offset + place * requestBytes;
      place = place + 1 === placeCount ? 0 : place + 1;
      device.submit(request);
    };
    device.onComplete = (request, result) => {
      assert(result === requestBytes, "each request is whole");
      operations += 1;
      if (isRunning) submit(request);
      else table.free(request);
    };
    for (let lane = 0; lane < depth; lane += 1) {
      const request = table.allocate();
      table.op[request] = kind === "read" ? Op.read : Op.write;
      table.isFua[request] = 0;
      table.bytes[request] = requestBytes;
      table.address[request] = buffer + (lane * extents.length + index) * requestBytes;
      submit(request);
    }
    return device;
  });
  const startedMs = stopwatch.nowMs();
  while (stopwatch.nowMs() - startedMs < ms) reactor.turn(stopwatch.turnWaitMs);
  const seconds = (stopwatch.nowMs() - startedMs) / 1000;
  const done = operations;
  isRunning = false;
  for (const device of devices) {
    while (device.outstanding > 0) reactor.turn(stopwatch.turnWaitMs);
    device.close();
  }
  pool.free(buffer, bufferBytes);
  return { operations: done, bytes: done * requestBytes, seconds };
}
