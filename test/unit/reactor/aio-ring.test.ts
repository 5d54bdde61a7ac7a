/**
 * Goal: events are taken from the completion ring once each, in order, across its end; a ring that
 * is laid out in another way is left to io_getevents. Method: a ring in the test's own memory, on
 * which the test plays the kernel's part.
 */
import { ptr } from "bun:ffi";
import { expect, test } from "bun:test";
import { AioRing } from "../../../ffi/aio-ring.ts";

const NR = 5;
const [HEAD, TAIL, MAGIC, INCOMPATIBLE, HEADER_LENGTH] = [2, 3, 4, 6, 7];

/** Words of a ring; more than a small array, whose address would not stay. */
function kernelRing(): { words: Uint32Array; ring: () => AioRing | null; complete(): void } {
  const words = new Uint32Array(new ArrayBuffer(4096));
  words.set([77, NR, 0, 0, 0xa10a10a1, 1, 0, 32]);
  let number = 0;
  return {
    words,
    ring: () => AioRing.of(ptr(words)),
    complete() {
      const tail = words[TAIL]!;
      for (let word = 0; word < 8; word += 1) words[8 + tail * 8 + word] = number * 8 + word;
      number += 1;
      words[TAIL] = (tail + 1) % NR;
    },
  };
}

test("aio ring: every head and count: each event once, in order, whole", () => {
  const { ring, words, complete } = kernelRing();
  const taker = ring()!;
  const to = new Int32Array(NR * 8 + 3);
  let expected = 0;
  // Counts that differ from round to round bring the head to every place.
  for (let round = 0; round < 200; round += 1) {
    const added = round % NR;
    for (let index = 0; index < added; index += 1) complete();
    expect(taker.used).toBe(added);
    const max = 1 + (round % 3);
    let left = added;
    while (left > 0) {
      to.fill(-1);
      const taken = taker.take(to, 3, max);
      expect(taken).toBe(Math.min(max, left));
      const values = Array.from({ length: taken * 8 }, (_, index) => expected * 8 + index);
      expect([...to.subarray(0, 3 + taken * 8)]).toEqual([-1, -1, -1, ...values]);
      expect(to[3 + taken * 8] ?? -1).toBe(-1);
      expected += taken;
      left -= taken;
      expect(taker.used).toBe(left);
    }
    expect(words[HEAD]).toBe(words[TAIL]!);
    expect(taker.take(to, 0, NR)).toBe(0);
  }
});

test("aio ring: another magic, feature or header: no ring", () => {
  for (const [word, value] of [
    [MAGIC, 0xa10a10a2],
    [INCOMPATIBLE, 1],
    [HEADER_LENGTH, 40],
    [1, 0],
  ] as const) {
    const { ring, words } = kernelRing();
    expect(ring()).not.toBeNull();
    words[word!] = value;
    expect(ring()).toBeNull();
  }
});
