/**
 * Random 4 KiB reads of one file through the aio layer alone: no filters, no array.
 *
 * The file is stamped first: row number plus 1 in the first word of each row, checked with each
 * read.
 */
import { writeSync } from "node:fs";
import type { OpenDrive } from "../../src/array/protocol.ts";
import type { ReactorContext } from "../../src/array/reactor-context.ts";
import { assert } from "../../src/base/assert.ts";
import { MIB, ROW_BYTES } from "../../src/base/units.ts";
import { Op } from "../../src/reactor/io-table.ts";
import type { Reactor } from "../../src/reactor/reactor.ts";
import type { LoadResult } from "./load.ts";
import { WORDS_PER_ROW } from "./stamps.ts";

export function stampFile(fd: number, bytes: number): void {
  const block = new Uint32Array(MIB / 4);
  for (let done = 0; done < bytes; done += MIB) {
    for (let row = 0; row < MIB / ROW_BYTES; row += 1) {
      block[row * WORDS_PER_ROW] = (done + row * ROW_BYTES) / ROW_BYTES + 1;
    }
    assert(writeSync(fd, block, 0, MIB, done) === MIB, "the file system has room");
  }
}

export function readRaw(
  { context, reactor }: { context: ReactorContext; reactor: Reactor },
  drive: OpenDrive,
  options: { depth: number; warmMs: number; measureMs: number },
): LoadResult {
  const { table, memory, payloadPool: pool } = context;
  const device = context.openDevice(drive);
  const rowCount = drive.sizeBytes / ROW_BYTES;
  const bufferBytes = options.depth * ROW_BYTES;
  const buffer = pool.allocate(bufferBytes);
  assert(buffer !== 0, "the pool holds the buffers of the load");
  let state = 0x9e3779b9;
  let operations = 0;
  let wrongRows = 0;
  let isRunning = true;

  function submit(request: number): void {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    table.offset[request] = ((state >>> 0) % rowCount) * ROW_BYTES;
    device.submit(request);
  }

  device.onComplete = (request, result) => {
    assert(result === ROW_BYTES, "each read is whole");
    const row = table.offset[request]! / ROW_BYTES;
    if (memory.u32[table.address[request]! / 4] !== row + 1) wrongRows += 1;
    operations += 1;
    if (isRunning) submit(request);
    else table.free(request);
  };
  for (let lane = 0; lane < options.depth; lane += 1) {
    const request = table.allocate();
    table.op[request] = Op.read;
    table.isFua[request] = 0;
    table.bytes[request] = ROW_BYTES;
    table.address[request] = buffer + lane * ROW_BYTES;
    submit(request);
  }
  const begunMs = performance.now();
  while (performance.now() - begunMs < options.warmMs) reactor.turn(10);
  operations = 0;
  const startedMs = performance.now();
  while (performance.now() - startedMs < options.measureMs) reactor.turn(10);
  const seconds = (performance.now() - startedMs) / 1000;
  const done = operations;
  isRunning = false;
  while (device.outstanding > 0) reactor.turn(10);
  device.close();
  pool.free(buffer, bufferBytes);
  assert(wrongRows === 0, `all rows read are those asked for (${wrongRows} are not)`);
  return { operations: done, bytes: done * ROW_BYTES, seconds };
}
