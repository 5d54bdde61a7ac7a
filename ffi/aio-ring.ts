/**
 * The completion ring that `io_setup` maps at the address of the context (struct aio_ring in the
 * kernel's fs/aio.c), read without a system call.
 *
 *   0 u32 id      4 u32 nr     8 u32 head               12 u32 tail
 *  16 u32 magic  20 u32 compat_features  24 u32 incompat_features  28 u32 header_length
 *  32 nr events of 32 bytes (struct io_event)
 *
 * The kernel writes events and moves `tail`; whoever takes events moves `head`. One thread may take
 * them, and it must not use io_getevents at the same time. Everything is read with Atomics, which
 * also orders the read of an event behind that of `tail`, and the write of `head` behind both.
 */
import { type Pointer, toArrayBuffer } from "bun:ffi";

const HEADER_BYTES = 32;
const EVENT_WORDS = 8;
const MAGIC = 0xa10a10a1 | 0;
const NR = 1;
const HEAD = 2;
const TAIL = 3;
const MAGIC_WORD = 4;
const INCOMPATIBLE = 6;
const HEADER_LENGTH = 7;

export class AioRing {
  private readonly words: Int32Array;
  private readonly count: number;

  private constructor(words: Int32Array, count: number) {
    this.words = words;
    this.count = count;
  }

  /** The ring of a context, or null where it is not laid out as above. */
  static of(context: number): AioRing | null {
    const header = new Int32Array(toArrayBuffer(context as Pointer, 0, HEADER_BYTES));
    const isKnown =
      Atomics.load(header, MAGIC_WORD) === MAGIC &&
      Atomics.load(header, INCOMPATIBLE) === 0 &&
      Atomics.load(header, HEADER_LENGTH) === HEADER_BYTES;
    const count = Atomics.load(header, NR);
    if (!isKnown || count <= 0) return null;
    const bytes = HEADER_BYTES + count * EVENT_WORDS * 4;
    return new AioRing(new Int32Array(toArrayBuffer(context as Pointer, 0, bytes)), count);
  }

  /** Events that are there to be taken. */
  get used(): number {
    const used = Atomics.load(this.words, TAIL) - Atomics.load(this.words, HEAD);
    return used < 0 ? used + this.count : used;
  }

  /** Moves up to `max` events to word `at` of `to`. How many there were. */
  take(to: Int32Array<ArrayBufferLike>, at: number, max: number): number {
    const { words, count } = this;
    const tail = Atomics.load(words, TAIL);
    let head = Atomics.load(words, HEAD);
    let taken = 0;
    while (head !== tail && taken < max) {
      const from = HEADER_BYTES / 4 + head * EVENT_WORDS;
      const target = at + taken * EVENT_WORDS;
      for (let word = 0; word < EVENT_WORDS; word += 1) {
        to[target + word] = Atomics.load(words, from + word);
      }
      head = head + 1 === count ? 0 : head + 1;
      taken += 1;
    }
    if (taken > 0) Atomics.store(words, HEAD, head);
    return taken;
  }
}
