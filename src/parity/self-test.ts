/**
 * The start-up self-test: every kernel against a plain loop, on a scratch area of the shared
 * memory. A processor or an engine that gets one wrong must not touch an array.
 *
 *   scratch: 65 slots of 384 bytes (three groups), sources in 0..63, destination in 64
 */
import type { SharedMemory } from "../base/memory.ts";
import { err, ok, type Result } from "../base/result.ts";
import { FUSED_SOURCES_MAX } from "./kernel-code.ts";
import { PARITY_GROUP_BYTES, PARITY_SOURCES_MAX, type ParityKernels } from "./kernels.ts";

const SLOT_BYTES = 3 * PARITY_GROUP_BYTES;
const DESTINATION_SLOT = PARITY_SOURCES_MAX;
/** Each kernel: those for one number of sources, and the one for any number, at both its ends. */
const TESTED_COUNTS = [
  ...Array.from({ length: FUSED_SOURCES_MAX + 1 }, (_, index) => index + 1),
  PARITY_SOURCES_MAX,
];

/** Of a checksum that is folded, and more than its room holds at once; besides one that is not. */
const CRC_BYTES = 14 * SLOT_BYTES - 1;

/** What `verifyParityKernels` overwrites from its scratch address on. Any alignment will do. */
export const PARITY_SCRATCH_BYTES = (PARITY_SOURCES_MAX + 1) * SLOT_BYTES;

export interface WrongKernel {
  readonly kind: "wrong-kernel";
  readonly kernel: keyof ParityKernels;
  /** 0 for kernels that take no list of sources. */
  readonly sourceCount: number;
}

interface Scratch {
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly start: number;
}

/** Bytes without a period that the kernels' strides share (Knuth's multiplicative hash). */
function patternByte(index: number): number {
  return Math.imul(index + 1, 0x9e37_79b1) >>> 24;
}

function fillPattern({ bytes, start }: Scratch): void {
  for (let index = 0; index < PARITY_SCRATCH_BYTES; index += 1) {
    bytes[start + index] = patternByte(index);
  }
}

/** The XOR of byte `offset` of the first `sourceCount` slots, as the pattern has them. */
function expectedXor(sourceCount: number, offset: number): number {
  let value = 0;
  for (let slot = 0; slot < sourceCount; slot += 1)
    value ^= patternByte(slot * SLOT_BYTES + offset);
  return value;
}

function slotAddresses(start: number): Uint32Array {
  return Uint32Array.from(
    { length: PARITY_SOURCES_MAX + 1 },
    (_, slot) => start + slot * SLOT_BYTES,
  );
}

function isXorRight(kernels: ParityKernels, scratch: Scratch, sourceCount: number): boolean {
  const sources = slotAddresses(scratch.start);
  for (const destinationSlot of [DESTINATION_SLOT, sourceCount - 1]) {
    fillPattern(scratch);
    const destination = sources[destinationSlot]!;
    kernels.xor(destination, sources, sourceCount, SLOT_BYTES);
    for (let index = 0; index < PARITY_SCRATCH_BYTES; index += 1) {
      const offset = scratch.start + index - destination;
      const isResult = offset >= 0 && offset < SLOT_BYTES;
      const expected = isResult ? expectedXor(sourceCount, offset) : patternByte(index);
      if (scratch.bytes[scratch.start + index] !== expected) return false;
    }
  }
  return true;
}

function isFindMismatchRight(
  kernels: ParityKernels,
  { bytes, start }: Scratch,
  sourceCount: number,
): boolean {
  const sources = slotAddresses(start);
  const last = sources[sourceCount - 1]!;
  fillPattern({ bytes, start });
  for (let offset = 0; offset < SLOT_BYTES; offset += 1) {
    bytes[last + offset] = expectedXor(sourceCount - 1, offset);
  }
  if (kernels.findMismatch(sources, sourceCount, SLOT_BYTES) !== -1) return false;
  for (let offset = 0; offset < SLOT_BYTES; offset += 1) {
    const original = bytes[last + offset]!;
    bytes[last + offset] = original ^ 1;
    const found = kernels.findMismatch(sources, sourceCount, SLOT_BYTES);
    bytes[last + offset] = original;
    if (found !== offset - (offset % PARITY_GROUP_BYTES)) return false;
  }
  return true;
}

function isCopyRight(kernels: ParityKernels, scratch: Scratch): boolean {
  const { bytes, start } = scratch;
  fillPattern(scratch);
  kernels.copy(start + SLOT_BYTES + 1, start, SLOT_BYTES - 3);
  for (let index = 0; index < 2 * SLOT_BYTES; index += 1) {
    const offset = index - SLOT_BYTES - 1;
    const isCopied = offset >= 0 && offset < SLOT_BYTES - 3;
    if (bytes[start + index] !== patternByte(isCopied ? offset : index)) return false;
  }
  return true;
}

function isFillRight(kernels: ParityKernels, scratch: Scratch): boolean {
  const { bytes, start } = scratch;
  fillPattern(scratch);
  kernels.fill(start + 1, 0x5a, SLOT_BYTES - 3);
  for (let index = 0; index < SLOT_BYTES; index += 1) {
    const isFilled = index >= 1 && index < SLOT_BYTES - 2;
    if (bytes[start + index] !== (isFilled ? 0x5a : patternByte(index))) return false;
  }
  return true;
}

function isZeroRight(kernels: ParityKernels, { bytes, start }: Scratch): boolean {
  bytes.fill(0, start, start + SLOT_BYTES);
  if (!kernels.isZero(start, SLOT_BYTES)) return false;
  for (let index = 0; index < SLOT_BYTES; index += 1) {
    bytes[start + index] = 1;
    const claimsZero = kernels.isZero(start, SLOT_BYTES);
    bytes[start + index] = 0;
    if (claimsZero) return false;
  }
  return true;
}

function isCrcRight(kernels: ParityKernels, scratch: Scratch): boolean {
  const { bytes, start } = scratch;
  fillPattern(scratch);
  let expected = 0xffff_ffff;
  for (let index = 0; index < CRC_BYTES; index += 1) {
    if (index === SLOT_BYTES - 1 && kernels.crc32c(0xffff_ffff, start, index) !== expected >>> 0) {
      return false;
    }
    expected ^= bytes[start + index]!;
    for (let bit = 0; bit < 8; bit += 1) {
      expected = expected & 1 ? (expected >>> 1) ^ 0x82f6_3b78 : expected >>> 1;
    }
  }
  return kernels.crc32c(0xffff_ffff, start, CRC_BYTES) === expected >>> 0;
}

/** Overwrites `PARITY_SCRATCH_BYTES` at `scratchAddress`; names the first kernel that is wrong. */
export function verifyParityKernels(
  kernels: ParityKernels,
  memory: SharedMemory,
  scratchAddress: number,
): Result<undefined, WrongKernel> {
  const scratch: Scratch = { bytes: memory.bytes, start: scratchAddress };
  const wrong = (kernel: keyof ParityKernels, sourceCount = 0): Result<undefined, WrongKernel> =>
    err({ kind: "wrong-kernel", kernel, sourceCount });
  for (const sourceCount of TESTED_COUNTS) {
    if (!isXorRight(kernels, scratch, sourceCount)) return wrong("xor", sourceCount);
    if (!isFindMismatchRight(kernels, scratch, sourceCount)) {
      return wrong("findMismatch", sourceCount);
    }
  }
  if (!isCopyRight(kernels, scratch)) return wrong("copy");
  if (!isFillRight(kernels, scratch)) return wrong("fill");
  if (!isZeroRight(kernels, scratch)) return wrong("isZero");
  if (!isCrcRight(kernels, scratch)) return wrong("crc32c");
  return ok();
}
