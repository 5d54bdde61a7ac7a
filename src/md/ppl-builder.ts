/**
 * Builds units of the partial parity log in the shared memory, where they are written from.
 *
 *   address                    + 4096                 + 4096 + first pp_size
 *   | header, 148 entries max  | partial parity of 0  | partial parity of 1 | ...
 *
 * The caller puts an entry's partial parity at `partialParityAddress`, adds the entry, and so on;
 * `finish` seals the header. An entry that Linux could stumble over is a bug here and stops us, not
 * the host that later starts the array. Nothing allocates after the constructor.
 */
import { assert } from "../base/assert.ts";
import type { SharedMemory } from "../base/memory.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../base/units.ts";
import { writeU64 } from "./little-endian.ts";
import {
  type Crc32c,
  checkPplEntry,
  PPL_ENTRIES_MAX,
  PPL_ENTRIES_OFFSET,
  PPL_ENTRY_BYTES,
  PPL_HEADER_BYTES,
  PPL_RESERVED_BYTES,
  type PplEntry,
  type PplExtent,
  type PplGeometry,
  setPplEntry,
  writePplEntry,
} from "./ppl.ts";

/** CRC32C without inversion over bytes of the shared memory: `ParityKernels.crc32c`. */
export type Crc32cAt = (seed: number, address: number, bytes: number) => number;

/** The form for any bytes, which are copied to `scratchBytes` at `scratchAddress` on the way. */
export function crc32cThrough({
  memory,
  crc32c,
  scratchAddress,
  scratchBytes,
}: {
  readonly memory: SharedMemory;
  readonly crc32c: Crc32cAt;
  readonly scratchAddress: number;
  readonly scratchBytes: number;
}): Crc32c {
  assert(scratchBytes > 0, "the bytes have room on the way");
  return (seed, bytes) => {
    let value = seed;
    for (let done = 0; done < bytes.length; done += scratchBytes) {
      const part = bytes.subarray(done, done + scratchBytes);
      memory.bytes.set(part, scratchAddress);
      value = crc32c(value, scratchAddress, part.length);
    }
    return value;
  };
}

export interface PplUnitBuilderOptions {
  readonly memory: SharedMemory;
  readonly crc32c: Crc32cAt;
  readonly signature: number;
  readonly geometry: PplGeometry;
  /** The role of the member whose log the units are for. */
  readonly logRole: number;
  /** Of `PplSpace`. */
  readonly partialParityBytesMax: number;
}

export class PplUnitBuilder {
  private readonly options: PplUnitBuilderOptions;
  private address = 0;
  private count = 0;
  private partialParityBytes = 0;
  /** Member rows of the entries so far, to keep a row from being logged twice. */
  private readonly fromRow = new Float64Array(PPL_ENTRIES_MAX);
  /** The checksum behind the reserved bytes, which never change; -1: not known yet. */
  private reservedChecksum = -1;
  /** By entry count: what the zeros behind the entries make of each bit of the checksum. */
  private readonly zeroColumns = new Array<Uint32Array | null>(PPL_ENTRIES_MAX + 1).fill(null);
  private readonly toRow = new Float64Array(PPL_ENTRIES_MAX);
  private readonly entry: PplEntry = {
    dataSector: 0,
    partialParityBytes: 0,
    dataBytes: 0,
    parityRole: 0,
    checksum: 0,
  };

  constructor(options: PplUnitBuilderOptions) {
    const { partialParityBytesMax, logRole, geometry } = options;
    assert(partialParityBytesMax >= ROW_BYTES, "a unit has room for a row of partial parity");
    assert(logRole >= 0 && logRole <= geometry.dataCount, "the log is that of a member");
    this.options = options;
  }

  get entryCount(): number {
    return this.count;
  }

  /** Where the partial parity of the next entry belongs. */
  get partialParityAddress(): number {
    return this.address + PPL_HEADER_BYTES + this.partialParityBytes;
  }

  /** Nothing of the unit that was begun, if one was, will be written. */
  discard(): void {
    this.address = 0;
  }

  /** Starts a unit at `address`, with room for the header and all of its partial parity. */
  begin(address: number, generation: number): void {
    const { memory, signature } = this.options;
    assert(this.address === 0, "the unit before has been finished, or discarded");
    assert(address > 0 && address % ROW_BYTES === 0, "a unit is written in whole rows");
    this.address = address;
    this.count = 0;
    this.partialParityBytes = 0;
    memory.bytes.fill(0xff, address, address + PPL_RESERVED_BYTES);
    memory.bytes.fill(0, address + PPL_RESERVED_BYTES, address + PPL_HEADER_BYTES);
    memory.view.setUint32(address + 512, signature, true);
    writeU64(memory.view, address + 520, generation);
  }

  /** Whether an entry with this much partial parity still goes into the unit. */
  hasRoomFor(partialParityBytes: number): boolean {
    return (
      this.count < PPL_ENTRIES_MAX &&
      this.partialParityBytes + partialParityBytes <= this.options.partialParityBytesMax
    );
  }

  /** The checksum for an entry whose partial parity lies at `partialParityAddress`. */
  partialParityChecksum(bytes: number): number {
    assert(this.address !== 0, "partial parity is that of a unit that has begun");
    return ~this.options.crc32c(0xffffffff, this.partialParityAddress, bytes) >>> 0;
  }

  /** Adds the entry of an extent; if it has partial parity, that lies at its address already. */
  addExtent(extent: PplExtent): void {
    const { entry } = this;
    setPplEntry(entry, extent, this.options.geometry);
    const { partialParityBytes } = entry;
    if (partialParityBytes > 0) entry.checksum = this.partialParityChecksum(partialParityBytes);
    this.addEntry(entry);
  }

  /** Copies what it needs of `entry`, which the caller may use again. */
  addEntry(entry: Readonly<PplEntry>): void {
    const { memory, geometry, logRole } = this.options;
    assert(this.address !== 0, "a unit has begun");
    assert(this.hasRoomFor(entry.partialParityBytes), "the entry fits into the unit");
    assert(checkPplEntry(entry, geometry, logRole) === null, "an entry is right for this array");
    assert(
      entry.partialParityBytes > 0 || entry.checksum === 0,
      "without partial parity the checksum is that of nothing",
    );
    this.claimRows(entry);
    const offset = this.address + PPL_ENTRIES_OFFSET + this.count * PPL_ENTRY_BYTES;
    writePplEntry(memory.view, offset, entry);
    this.count += 1;
    this.partialParityBytes += entry.partialParityBytes;
    assert(this.partialParityBytes % ROW_BYTES === 0, "the next partial parity begins at a row");
  }

  /** Seals the unit. Bytes to write from its address: header and partial parity. */
  finish(): number {
    const { memory } = this.options;
    assert(this.address !== 0 && this.count > 0, "a unit has entries");
    memory.view.setUint32(this.address + 528, this.count, true);
    memory.view.setUint32(this.address + 532, 0, true);
    memory.view.setUint32(this.address + 532, ~this.headerChecksum() >>> 0, true);
    this.address = 0;
    return PPL_HEADER_BYTES + this.partialParityBytes;
  }

  /**
   * CRC32C of the header. Most of it is constant: the reserved bytes in front are looked at once,
   * and the zeros behind the entries are a linear map of the checksum's bits (32 columns) that is made
   * once for each number of entries.
   */
  private headerChecksum(): number {
    const { crc32c } = this.options;
    const { address, count } = this;
    if (this.reservedChecksum < 0) {
      this.reservedChecksum = crc32c(0xffffffff, address, PPL_RESERVED_BYTES);
    }
    const start = address + PPL_RESERVED_BYTES;
    const end = address + PPL_ENTRIES_OFFSET + count * PPL_ENTRY_BYTES;
    assert(end <= address + PPL_HEADER_BYTES, "the entries lie in the header");
    const columns = this.zeroColumns[count] ?? this.makeZeroColumns(end);
    let bits = crc32c(this.reservedChecksum, start, end - start);
    let checksum = 0;
    while (bits !== 0) {
      const index = 31 - Math.clz32(bits);
      checksum ^= columns[index]!;
      bits ^= 1 << index;
    }
    return checksum;
  }

  private makeZeroColumns(end: number): Uint32Array {
    const bytes = this.address + PPL_HEADER_BYTES - end;
    const columns = Uint32Array.from({ length: 32 }, (_, index) =>
      this.options.crc32c((1 << index) >>> 0, end, bytes),
    );
    this.zeroColumns[this.count] = columns;
    return columns;
  }

  private claimRows(entry: Readonly<PplEntry>): void {
    const { geometry } = this.options;
    const { partialParityBytes, dataBytes } = entry;
    const offset = entry.dataSector * SECTOR_BYTES;
    const stripe = Math.floor(offset / geometry.stripeBytes);
    const inChunk = (offset - stripe * geometry.stripeBytes) % geometry.chunkBytes;
    const columnBytes =
      partialParityBytes === 0 ? dataBytes / geometry.dataCount : partialParityBytes;
    const fromRow = (stripe * geometry.chunkBytes + inChunk) / ROW_BYTES;
    const toRow = fromRow + columnBytes / ROW_BYTES;
    assert(Number.isInteger(fromRow) && toRow > fromRow, "an entry has whole rows");
    for (let index = 0; index < this.count; index += 1) {
      const isApart = toRow <= this.fromRow[index]! || this.toRow[index]! <= fromRow;
      assert(isApart, "a row is in a unit once: each replay would undo the other");
    }
    this.fromRow[this.count] = fromRow;
    this.toRow[this.count] = toRow;
  }
}
