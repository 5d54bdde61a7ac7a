/**
 * Goal: every parity kernel gives what a plain loop over bytes gives, and touches nothing else.
 *
 * Method: enumeration. XOR runs for every kernel, lengths around the group size and up
 * to 8 KiB, and every choice of destination (its own buffer, or each of the sources), with guard
 * bytes around each buffer. Comparison is asked about a flipped byte in every group. The checksum
 * is held against published vectors and a bitwise loop from every start within 16 bytes.
 */
import { expect, test } from "bun:test";
import { AssertionError } from "../../../src/base/assert.ts";
import { CONTROL_BYTES } from "../../../src/base/memory.ts";
import { fillRandom, SeededRandom } from "../../../src/base/random.ts";
import { FUSED_SOURCES_MAX } from "../../../src/parity/kernel-code.ts";
import {
  assembleParityModule,
  createParityKernels,
  PARITY_GROUP_BYTES,
  PARITY_SOURCES_MAX,
} from "../../../src/parity/kernels.ts";
import { testMemory } from "../../helpers/memory.ts";

const memory = testMemory();
const bytes = memory.bytes;
const kernels = createParityKernels(memory.memory);

const START = CONTROL_BYTES;
const GUARD_BYTES = 128;
const BUFFER_BYTES = 8192;
/** Each slot is a guard and a buffer; one more guard ends the last slot. */
const SLOT_BYTES = GUARD_BYTES + BUFFER_BYTES;
const SLOT_COUNT = PARITY_SOURCES_MAX + 1;
const AREA_BYTES = SLOT_COUNT * SLOT_BYTES + GUARD_BYTES;
const LENGTHS = [128, 256, 384, 512, 4096, 4096 + 128, 8192 - 128, 8192];

/** All that have a kernel of their own, and both ends and the middle of those that share one. */
const COUNTS = [
  ...Array.from({ length: FUSED_SOURCES_MAX + 2 }, (_, index) => index + 1),
  33,
  PARITY_SOURCES_MAX,
];
const SLOTS = Uint32Array.from(
  { length: SLOT_COUNT },
  (_, slot) => START + slot * SLOT_BYTES + GUARD_BYTES,
);

const pristine = new Uint8Array(AREA_BYTES);
fillRandom(new SeededRandom(1), pristine);

function restore(): void {
  bytes.set(pristine, START);
}

/** Whether the test area is equal to `expected`, byte for byte. */
function areaEquals(expected: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(START, START + AREA_BYTES), expected) === 0;
}

function plainXor(expected: Uint8Array, destinationSlot: number, count: number, length: number) {
  const result = new Uint8Array(length);
  for (let slot = 0; slot < count; slot += 1) {
    const start = SLOTS[slot]! - START;
    for (let offset = 0; offset < length; offset += 1) {
      result[offset] = result[offset]! ^ expected[start + offset]!;
    }
  }
  expected.set(result, SLOTS[destinationSlot]! - START);
}

function bitwiseCrc(seed: number, data: Uint8Array): number {
  let crc = seed;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f6_3b78 : crc >>> 1;
  }
  return crc >>> 0;
}

for (const count of COUNTS) {
  test(`parity xor: ${count} sources, every length and destination: as the plain loop`, () => {
    for (const length of LENGTHS) {
      for (let target = 0; target <= count; target += 1) {
        const destinationSlot = target === count ? SLOT_COUNT - 1 : target;
        restore();
        const expected = pristine.slice();
        plainXor(expected, destinationSlot, count, length);
        kernels.xor(SLOTS[destinationSlot]!, SLOTS, count, length);
        expect({ length, destinationSlot, equal: areaEquals(expected) }).toEqual({
          length,
          destinationSlot,
          equal: true,
        });
      }
    }
  });
}

test("parity xor: the same source several times: equal ones cancel out", () => {
  restore();
  const [a, b, c] = [SLOTS[0]!, SLOTS[1]!, SLOTS[2]!];
  kernels.xor(c, Uint32Array.of(a, b, a, c, c), 5, 4096);
  expect(Buffer.compare(bytes.subarray(c, c + 4096), bytes.subarray(b, b + 4096))).toBe(0);
});

test("parity xor: sources and destination at odd addresses: as the plain loop", () => {
  for (let shift = 1; shift < 16; shift += 1) {
    restore();
    const sources = Uint32Array.of(SLOTS[0]! + shift, SLOTS[1]! + 2 * shift, SLOTS[2]!);
    kernels.xor(SLOTS[3]! + shift, sources, 3, 512);
    for (let offset = 0; offset < 512; offset += 1) {
      const expected = sources.reduce((sum, source) => sum ^ bytes[source + offset]!, 0);
      expect(bytes[SLOTS[3]! + shift + offset]).toBe(expected);
    }
  }
});

test("parity xor: no bytes: nothing changes", () => {
  restore();
  for (const count of COUNTS) kernels.xor(SLOTS[SLOT_COUNT - 1]!, SLOTS, count, 0);
  expect(areaEquals(pristine)).toBe(true);
  expect(kernels.findMismatch(SLOTS, 3, 0)).toBe(-1);
});

test("parity xor: counts and lengths out of range: refused", () => {
  for (const [count, length] of [
    [0, 128],
    [PARITY_SOURCES_MAX + 1, 128],
    [3, 64],
    [3, 129],
    [3, -128],
  ] as const) {
    expect(() => kernels.xor(SLOTS[SLOT_COUNT - 1]!, SLOTS, count, length)).toThrow(AssertionError);
    expect(() => kernels.findMismatch(SLOTS, count, length)).toThrow(AssertionError);
  }
  expect(() => kernels.xor(SLOTS[SLOT_COUNT - 1]!, SLOTS.slice(0, 2), 3, 128)).toThrow(
    AssertionError,
  );
});

for (const count of COUNTS) {
  test(`parity findMismatch: ${count} sources, a flipped byte in each group: its group`, () => {
    restore();
    const last = SLOTS[count - 1]!;
    if (count === 1) kernels.fill(last, 0, BUFFER_BYTES);
    else kernels.xor(last, SLOTS, count - 1, BUFFER_BYTES);
    for (const length of LENGTHS) expect(kernels.findMismatch(SLOTS, count, length)).toBe(-1);
    for (let group = 0; group < BUFFER_BYTES; group += PARITY_GROUP_BYTES) {
      for (let within = 0; within < PARITY_GROUP_BYTES; within += 1) {
        // Each byte of a group is flipped in one of the sources, and each source has its turn.
        const address = SLOTS[within % count]! + group + within;
        bytes[address] = bytes[address]! ^ 0x80;
        const found = kernels.findMismatch(SLOTS, count, BUFFER_BYTES);
        const foundBefore = group === 0 ? -1 : kernels.findMismatch(SLOTS, count, group);
        bytes[address] = bytes[address]! ^ 0x80;
        if (found !== group || foundBefore !== -1) {
          expect({ group, within, found, foundBefore }).toEqual({
            group,
            within,
            found: group,
            foundBefore: -1,
          });
        }
      }
    }
  });
}

test("parity findMismatch: several groups differ: the first", () => {
  bytes.fill(0, SLOTS[0]!, SLOTS[0]! + BUFFER_BYTES);
  bytes[SLOTS[0]! + 4000] = 1;
  bytes[SLOTS[0]! + 700] = 1;
  expect(kernels.findMismatch(SLOTS, 1, BUFFER_BYTES)).toBe(640);
});

test("parity findMismatch, isZero: equal bits in any two vectors of a group: do not cancel", () => {
  const start = SLOTS[0]!;
  bytes.fill(0, start, start + 256);
  for (let first = 0; first < 8; first += 1) {
    for (let second = 0; second < first; second += 1) {
      for (const vector of [first, second]) bytes[start + 128 + vector * 16 + 9] = 4;
      expect(kernels.findMismatch(SLOTS, 1, 256)).toBe(128);
      expect(kernels.isZero(start, 256)).toBe(false);
      bytes.fill(0, start, start + 256);
    }
  }
});

test("parity copy: every small length and alignment: as the plain loop, guards untouched", () => {
  for (let length = 0; length <= 70; length += 1) {
    for (let shift = 0; shift < 16; shift += 1) {
      restore();
      const expected = pristine.slice();
      const source = SLOTS[0]! + 3 - START;
      expected.set(pristine.subarray(source, source + length), SLOTS[1]! + shift - START);
      kernels.copy(SLOTS[1]! + shift, SLOTS[0]! + 3, length);
      if (!areaEquals(expected)) expect({ length, shift }).toBeUndefined();
    }
  }
});

test("parity copy: overlapping ranges, both directions: as memmove", () => {
  for (const [destination, source] of [
    [100, 0],
    [0, 100],
    [1, 0],
    [0, 1],
    [0, 0],
  ] as const) {
    restore();
    const expected = pristine.slice();
    expected.copyWithin(destination, source, source + 5000);
    kernels.copy(START + destination, START + source, 5000);
    expect(areaEquals(expected)).toBe(true);
  }
});

test("parity fill: every small length and alignment: as the plain loop, guards untouched", () => {
  for (let length = 0; length <= 70; length += 1) {
    for (let shift = 0; shift < 16; shift += 1) {
      restore();
      const start = SLOTS[1]! + shift;
      const expected = pristine.slice().fill(0xa5, start - START, start - START + length);
      kernels.fill(start, 0x1a5, length);
      if (!areaEquals(expected)) expect({ length, shift }).toBeUndefined();
    }
  }
});

test("parity isZero: one bit anywhere, every length to 300: found only inside the range", () => {
  const address = SLOTS[0]! + 5;
  for (let length = 0; length <= 300; length += 1) {
    bytes.fill(0xff, address - 5, address + 400);
    bytes.fill(0, address, address + length);
    expect(kernels.isZero(address, length)).toBe(true);
    for (let offset = 0; offset < length; offset += 1) {
      bytes[address + offset] = 1 << (offset % 8);
      if (kernels.isZero(address, length)) expect({ length, offset }).toBeUndefined();
      bytes[address + offset] = 0;
    }
  }
});

test("parity crc32c: published vectors: their checksums", () => {
  const ascending = Uint8Array.from({ length: 32 }, (_, index) => index);
  const text = new TextEncoder().encode("123456789");
  // RFC 3720 appendix B.4, and the check value of CRC-32/ISCSI.
  const vectors: [Uint8Array, number][] = [
    [new Uint8Array(32), 0x8a91_36aa],
    [new Uint8Array(32).fill(0xff), 0x62a8_ab43],
    [ascending, 0x46dd_794e],
    [ascending.slice().reverse(), 0x113f_db5c],
    [text, 0xe306_9283],
  ];
  for (const [data, checksum] of vectors) {
    bytes.set(data, SLOTS[0]!);
    expect(~kernels.crc32c(0xffff_ffff, SLOTS[0]!, data.length) >>> 0).toBe(checksum);
  }
});

test("parity crc32c: every start within 16 bytes, every length to 100: as the bitwise loop", () => {
  restore();
  for (let shift = 0; shift < 16; shift += 1) {
    for (let length = 0; length <= 100; length += 1) {
      const start = SLOTS[0]! + shift;
      for (const seed of [0, 0xffff_ffff, 0x1234_5678]) {
        const expected = bitwiseCrc(seed, bytes.subarray(start, start + length));
        expect(kernels.crc32c(seed, start, length)).toBe(expected);
      }
    }
  }
});

test("parity crc32c: lengths around all that folding does: as the bitwise loop", () => {
  restore();
  // Where it begins, where a group more is taken away, where its room starts over, once and again.
  const lengths = Array.from({ length: 300 }, (_, index) => 560 + index);
  for (const turn of [1, 2]) {
    for (let off = -140; off <= 140; off += 7) lengths.push(turn * 4096 + 304 + off);
  }
  for (const [index, length] of lengths.entries()) {
    const start = SLOTS[0]! + (index % 17);
    const seed = Math.imul(index, 0x9e37_79b1) >>> 0;
    const expected = bitwiseCrc(seed, bytes.subarray(start, start + length));
    expect([length, kernels.crc32c(seed, start, length)]).toEqual([length, expected]);
  }
});

test("parity crc32c: up to the last byte of the memory, and not one of what lies behind", () => {
  restore();
  const end = memory.bytes.length;
  for (const length of [100, 608, 4097]) {
    const expected = bitwiseCrc(1, bytes.subarray(end - length, end));
    expect(kernels.crc32c(1, end - length, length)).toBe(expected);
  }
});

test("parity crc32c: continued in parts: as in one go", () => {
  restore();
  const whole = kernels.crc32c(0xffff_ffff, SLOTS[0]!, 4096);
  for (let cut = 0; cut <= 4096; cut += 61) {
    const head = kernels.crc32c(0xffff_ffff, SLOTS[0]!, cut);
    expect(kernels.crc32c(head, SLOTS[0]! + cut, 4096 - cut)).toBe(whole);
  }
});

test("parity kernels: the last bytes of the memory: reached, and not passed", () => {
  const end = memory.bytes.length;
  bytes.fill(0, end - 256, end);
  kernels.xor(end - 128, Uint32Array.of(end - 256, end - 128), 2, 128);
  expect(kernels.findMismatch(Uint32Array.of(end - 256), 1, 256)).toBe(-1);
  expect(kernels.isZero(end - 256, 256)).toBe(true);
  expect(() => kernels.findMismatch(Uint32Array.of(end - 128), 1, 256)).toThrow(
    WebAssembly.RuntimeError,
  );
  expect(() => kernels.fill(end - 128, 1, 129)).toThrow(WebAssembly.RuntimeError);
});

test("parity module: one module, two instances: do not disturb each other", () => {
  const module = assembleParityModule(memory.memory);
  const first = createParityKernels(memory.memory, module);
  const second = createParityKernels(memory.memory, module);
  restore();
  first.xor(SLOTS[SLOT_COUNT - 1]!, SLOTS, 4, 4096);
  second.xor(SLOTS[15]!, SLOTS, 2, 4096);
  expect(
    first.findMismatch(Uint32Array.of(...SLOTS.slice(0, 4), SLOTS[SLOT_COUNT - 1]!), 5, 4096),
  ).toBe(-1);
  expect(second.findMismatch(Uint32Array.of(SLOTS[15]!, SLOTS[1]!, SLOTS[0]!), 3, 4096)).toBe(-1);
});
