/** How much of a run passes inside of the parity kernels. */
import type { ParityKernels } from "../../src/parity/kernels.ts";

/** The kernels, with a stop-watch around those that move bulk data. */
export class TimedKernels {
  nanoseconds = 0;

  around(kernels: ParityKernels): ParityKernels {
    return {
      xor: (destination, sources, count, bytes) => {
        const start = Bun.nanoseconds();
        kernels.xor(destination, sources, count, bytes);
        this.nanoseconds += Bun.nanoseconds() - start;
      },
      findMismatch: (sources, count, bytes) => {
        const start = Bun.nanoseconds();
        const found = kernels.findMismatch(sources, count, bytes);
        this.nanoseconds += Bun.nanoseconds() - start;
        return found;
      },
      copy: (destination, source, bytes) => kernels.copy(destination, source, bytes),
      fill: (destination, value, bytes) => kernels.fill(destination, value, bytes),
      isZero: (address, bytes) => kernels.isZero(address, bytes),
      crc32c: (seed, address, bytes) => kernels.crc32c(seed, address, bytes),
    };
  }
}
