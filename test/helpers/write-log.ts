/**
 * The log of Linux's dm-log-writes (drivers/md/dm-log-writes.c): what reached a device, in the
 * order in which it became durable. A write without FUA enters the log with the next flush, so the
 * whole log, replayed, is the device after a power cut that took everything unflushed with it.
 *
 * Little-endian; all counts in sectors of `sectorsize` bytes.
 *
 *   sector 0   u64 magic   u64 version   u64 entries   u32 sectorsize
 *   then, for each entry, one sector and the data behind it:
 *              u64 sector  u64 sectors   u64 flags     u64 bytes of data that lie in this sector
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { assert } from "../../src/base/assert.ts";

const MAGIC = 0x6a73_6677_7368_72n;
const FLAG_FLUSH = 1;
const FLAG_FUA = 2;
const FLAG_DISCARD = 4;
const FLAG_MARK = 8;

export interface ReplayCounts {
  readonly writes: number;
  readonly flushes: number;
  readonly fuas: number;
  /** A mark is its last entry: what came before the mark is all there. */
  readonly endsInMark: boolean;
}

/** Puts the logged writes onto `imagePath`, a copy of the device as it was before the first. */
export function replayWriteLog(logPath: string, imagePath: string): ReplayCounts {
  const log = openSync(logPath, "r");
  const image = openSync(imagePath, "r+");
  const header = readExactly(log, 0, 28);
  assert(header.getBigUint64(0, true) === MAGIC, "the file is a log of dm-log-writes");
  const entries = Number(header.getBigUint64(16, true));
  const sectorBytes = header.getUint32(24, true);
  let at = sectorBytes;
  const counts = { writes: 0, flushes: 0, fuas: 0, endsInMark: false };
  for (let index = 0; index < entries; index += 1) {
    const entry = readExactly(log, at, 32);
    const [sector, sectors, flags] = [0, 8, 16].map((byte) =>
      Number(entry.getBigUint64(byte, true)),
    ) as [number, number, number];
    assert((flags & FLAG_DISCARD) === 0, "nothing discards in this test");
    at += sectorBytes;
    if ((flags & FLAG_FLUSH) !== 0) counts.flushes += 1;
    if ((flags & FLAG_FUA) !== 0) counts.fuas += 1;
    counts.endsInMark = (flags & FLAG_MARK) !== 0;
    if (sectors === 0) continue;
    counts.writes += 1;
    const data = readExactly(log, at, sectors * sectorBytes);
    writeSync(image, data, 0, data.byteLength, sector * sectorBytes);
    at += data.byteLength;
  }
  closeSync(log);
  closeSync(image);
  return counts;
}

function readExactly(file: number, offset: number, bytes: number): DataView {
  const buffer = new Uint8Array(bytes);
  assert(readSync(file, buffer, 0, bytes, offset) === bytes, "the log is whole");
  return new DataView(buffer.buffer);
}
