/** A running 64-bit hash of everything that a simulation does: equal runs have equal hashes. */
export class TraceHash {
  private low = 0x811c9dc5;
  private high = 0x9747b28c;
  private readonly doubles = new Float64Array(1);
  private readonly words = new Uint32Array(this.doubles.buffer);

  number(value: number): void {
    this.doubles[0] = value;
    this.word(this.words[0]!);
    this.word(this.words[1]!);
  }

  text(value: string): void {
    for (let index = 0; index < value.length; index += 1) this.word(value.charCodeAt(index));
    this.word(value.length);
  }

  /** The length of `bytes` is a multiple of 4, and so is where they begin in their buffer. */
  bytes(bytes: Uint8Array): void {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2);
    for (let index = 0; index < words.length; index += 1) this.word(words[index]!);
  }

  get hex(): string {
    const half = (word: number) => (word >>> 0).toString(16).padStart(8, "0");
    return half(this.high) + half(this.low);
  }

  private word(word: number): void {
    this.low = Math.imul(this.low ^ word, 0x0100_0193);
    this.high = Math.imul(this.high ^ (word + this.low), 0x85eb_ca6b);
    this.high ^= this.high >>> 13;
  }
}
