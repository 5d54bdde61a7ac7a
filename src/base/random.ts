/** Randomness as the lower layers see it, and the seeded generator that tests use. */

export interface Random {
  /** An unsigned 32-bit integer. */
  nextU32(): number;
}

/** A fraction in [0, 1). */
export function nextFraction(random: Random): number {
  return random.nextU32() / 0x1_0000_0000;
}

/** An integer in [0, bound). `bound` is at most 2^32. */
export function nextBelow(random: Random, bound: number): number {
  return Math.floor(nextFraction(random) * bound);
}

/** Fills `bytes` with random bytes. */
export function fillRandom(random: Random, bytes: Uint8Array): void {
  for (let index = 0; index < bytes.length; index += 1) bytes[index] = random.nextU32() & 0xff;
}

/** sfc32 (PractRand's small fast counter generator): deterministic for a seed. */
export class SeededRandom implements Random {
  private a: number;
  private b: number;
  private c: number;
  private counter: number;

  constructor(seed: number) {
    this.a = 0x9e3779b9;
    this.b = 0x243f6a88;
    this.c = seed | 0;
    this.counter = 1;
    for (let warmUp = 0; warmUp < 16; warmUp += 1) this.nextU32();
  }

  nextU32(): number {
    const sum = (((this.a + this.b) | 0) + this.counter) | 0;
    this.counter = (this.counter + 1) | 0;
    this.a = this.b ^ (this.b >>> 9);
    this.b = (this.c + (this.c << 3)) | 0;
    this.c = ((this.c << 21) | (this.c >>> 11)) + sum;
    this.c |= 0;
    return sum >>> 0;
  }

  /** A generator of its own for a part of a simulation, so that parts do not disturb each other. */
  split(): SeededRandom {
    return new SeededRandom(this.nextU32());
  }
}
