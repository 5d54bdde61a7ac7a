/**
 * Goal: the start-up self-test passes the real kernels and catches a wrong one of each kind.
 *
 * Method: each kernel is replaced in turn by one with a small fault, and the self-test has to
 * name it. Guard bytes around the scratch area show that it stays inside.
 */
import { expect, test } from "bun:test";
import { CONTROL_BYTES } from "../../../src/base/memory.ts";
import { err, ok } from "../../../src/base/result.ts";
import { createParityKernels, type ParityKernels } from "../../../src/parity/kernels.ts";
import { PARITY_SCRATCH_BYTES, verifyParityKernels } from "../../../src/parity/self-test.ts";
import { testMemory } from "../../helpers/memory.ts";

const memory = testMemory();
const kernels = createParityKernels(memory.memory);
const SCRATCH = CONTROL_BYTES + 4096;

/** The real kernels, with those in `replaced` put in their place. */
function withFault(replaced: Partial<ParityKernels>): ParityKernels {
  return {
    xor: (...operands) => kernels.xor(...operands),
    findMismatch: (...operands) => kernels.findMismatch(...operands),
    copy: (...operands) => kernels.copy(...operands),
    fill: (...operands) => kernels.fill(...operands),
    isZero: (...operands) => kernels.isZero(...operands),
    crc32c: (...operands) => kernels.crc32c(...operands),
    ...replaced,
  };
}

function flip(address: number): void {
  memory.bytes[address] = memory.bytes[address]! ^ 1;
}

test("parity self-test: the real kernels, any alignment: right, only scratch is used", () => {
  for (const shift of [0, 1, 77]) {
    const start = SCRATCH + shift;
    const end = start + PARITY_SCRATCH_BYTES;
    memory.bytes.fill(0xee, start - 256, end + 256);
    expect(verifyParityKernels(kernels, memory, start)).toEqual(ok());
    for (let offset = 0; offset < 256; offset += 1) {
      expect(memory.bytes[start - 256 + offset]).toBe(0xee);
      expect(memory.bytes[end + offset]).toBe(0xee);
    }
  }
});

for (const faulty of [...Array.from({ length: 17 }, (_, index) => index + 1), 64]) {
  test(`parity self-test: a wrong last byte from ${faulty} sources: xor is named`, () => {
    const broken = withFault({
      xor(destination, sources, count, bytes) {
        kernels.xor(destination, sources, count, bytes);
        if (count === faulty) flip(destination + bytes - 1);
      },
    });
    expect(verifyParityKernels(broken, memory, SCRATCH)).toEqual(
      err({ kind: "wrong-kernel", kernel: "xor", sourceCount: faulty }),
    );
  });

  test(`parity self-test: the last of ${faulty} sources left out: findMismatch is named`, () => {
    const broken = withFault({
      findMismatch: (sources, count, bytes) =>
        count === faulty && kernels.findMismatch(sources, count, bytes) === 256
          ? -1
          : kernels.findMismatch(sources, count, bytes),
    });
    expect(verifyParityKernels(broken, memory, SCRATCH)).toEqual(
      err({ kind: "wrong-kernel", kernel: "findMismatch", sourceCount: faulty }),
    );
  });
}

const faults: readonly [string, keyof ParityKernels, Partial<ParityKernels>][] = [
  [
    "a byte written behind the destination",
    "xor",
    {
      xor(destination, sources, count, bytes) {
        kernels.xor(destination, sources, count, bytes);
        flip(destination - 1);
      },
    },
  ],
  ["a mismatch where there is none", "findMismatch", { findMismatch: () => 0 }],
  ["one byte too many", "copy", { copy: (to, from, bytes) => kernels.copy(to, from, bytes + 1) }],
  ["one byte too few", "fill", { fill: (to, value, bytes) => kernels.fill(to, value, bytes - 1) }],
  ["the tail not looked at", "isZero", { isZero: (at, bytes) => kernels.isZero(at, bytes - 1) }],
  ["never zero", "isZero", { isZero: () => false }],
  ["a forgotten seed", "crc32c", { crc32c: (_, at, bytes) => kernels.crc32c(0, at, bytes) }],
  [
    "long messages cut off",
    "crc32c",
    { crc32c: (seed, at, bytes) => kernels.crc32c(seed, at, Math.min(bytes, 4096)) },
  ],
];

for (const [fault, kernel, replaced] of faults) {
  test(`parity self-test: ${kernel} with ${fault}: ${kernel} is named`, () => {
    const result = verifyParityKernels(withFault(replaced), memory, SCRATCH);
    expect(result).toMatchObject({ ok: false, error: { kernel } });
  });
}
