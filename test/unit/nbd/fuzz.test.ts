/**
 * Goal: no bytes from a client make the server throw, leak or serve wrong data; other clients are
 * served meanwhile; what several clients write is what they read.
 * Method: seeded generators. The fuzzer sends conversations that began as good ones: parts
 * repeated, exchanged, cut or with a length far too large, bytes changed, all in pieces of any
 * size down to one byte, with hang-ups and resets. It counts 100,000 handshakes, options and
 * requests. A good client beside them gets every answer; after each round everything must be back.
 * The model lets clients with areas of their own write, read and flush over fragmenting sockets
 * and an array that completes in any order, against a copy in the test. A failure prints its seed;
 * repeat it with `SEED=… bun test test/unit/nbd/fuzz.test.ts`.
 */
import { expect, test } from "bun:test";
import { assert } from "../../../src/base/assert.ts";
import { EIO } from "../../../src/base/errno.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { CLIENT_DEPTH, type NbdClient } from "../../../src/nbd/client/client.ts";
import {
  encodeInfoRequest,
  encodeOption,
  OPTION_HEADER_BYTES,
  OptionCode,
  REQUEST_BYTES,
} from "../../../src/nbd/wire-format.ts";
import { FakeArrayFront } from "../../helpers/fake-array-front.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { CLIENT_FLAGS, NbdBench, parseReplies, request } from "../../helpers/nbd-bench.ts";
import { TAKES_ALL, TODAY } from "../../helpers/share.ts";

const CHOSEN_SEED = process.env["SEED"];
/** A day does one part in four, with seeds of its own. */
const PARTS = TAKES_ALL ? 1 : 4;
const SEEDS_A_DAY = 100_000;
const FIRST_SEED = Number(CHOSEN_SEED ?? (TAKES_ALL ? 1 : TODAY * SEEDS_A_DAY));
const FUZZ_FRAMES = CHOSEN_SEED === undefined ? 100_000 / PARTS : 1;
const GOOD_EXPORT = "unknown to the others";
const MODEL_SEEDS = CHOSEN_SEED === undefined ? 12 / PARTS : 1;

function randomBytes(random: SeededRandom, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  fillRandom(random, bytes);
  return bytes;
}

function randomOption(random: SeededRandom): Uint8Array {
  const option = nextBelow(random, 13);
  switch (nextBelow(random, 4)) {
    case 0:
      return encodeOption(option, randomBytes(random, nextBelow(random, 60)));
    case 1:
      return encodeOption(option, new Uint8Array(nextBelow(random, 20_000)));
    case 2:
      return encodeOption(OptionCode.structuredReply, new Uint8Array(0));
    default:
      return encodeOption(option, encodeInfoRequest("a", [1, 3]));
  }
}

function randomRequest(random: SeededRandom): Uint8Array {
  const offset = nextBelow(random, MIB + 8 * KIB);
  const bytes = nextBelow(random, nextBelow(random, 8) === 0 ? 300 * KIB : 9 * KIB);
  const command = nextBelow(random, 9);
  const flags = nextBelow(random, 6) === 0 ? nextBelow(random, 65_536) : nextBelow(random, 2);
  // A disconnect would end most conversations early.
  const isLast = command === 2 && nextBelow(random, 10) > 0;
  const header = request({ command: isLast ? 0 : command, offset, bytes, flags });
  if (nextBelow(random, 30) === 0) header[16 + nextBelow(random, 12)] = random.nextU32() & 0xff;
  return command === 1 ? Buffer.concat([header, new Uint8Array(bytes)]) : header;
}

/** What is wrong with a conversation, part by part. */
function damage(random: SeededRandom, parts: Uint8Array[]): void {
  const index = nextBelow(random, parts.length);
  const part = parts[index]!;
  const other = nextBelow(random, parts.length);
  switch (nextBelow(random, 6)) {
    case 0: // Twice.
      parts.splice(index, 0, part);
      return;
    case 1: // In another order.
      parts[index] = parts[other]!;
      parts[other] = part;
      return;
    case 2: // Cut.
      parts[index] = part.subarray(0, nextBelow(random, part.length));
      return;
    case 3: // A length far too large: that of an option or of a request.
      if (part.length >= REQUEST_BYTES) part.fill(0xff, REQUEST_BYTES - 4, REQUEST_BYTES);
      else if (part.length >= OPTION_HEADER_BYTES) part.fill(0xff, 12, OPTION_HEADER_BYTES);
      return;
    case 4: // A bit.
      if (part.length > 0) part[nextBelow(random, part.length)]! ^= 1 << nextBelow(random, 8);
      return;
    default: // Something else in its place.
      parts[index] = randomBytes(random, nextBelow(random, 60));
  }
}

/** Handshake, options and requests, and how many of them there are. */
function randomConversation(random: SeededRandom): { bytes: Uint8Array; frames: number } {
  const parts: Uint8Array[] = [CLIENT_FLAGS.slice()];
  for (let count = nextBelow(random, 5); count > 0; count -= 1) parts.push(randomOption(random));
  parts.push(encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
  for (let count = nextBelow(random, 40); count > 0; count -= 1) parts.push(randomRequest(random));
  const frames = parts.length;
  // Half of them stay good: only those get far.
  for (let count = Math.max(0, nextBelow(random, 8) - 3); count > 0; count -= 1) {
    damage(random, parts);
  }
  return { bytes: Buffer.concat(parts), frames };
}

function disturb(random: SeededRandom, peer: FakePeer): void {
  const sizes = [1, 7, 28, 1000, 16_384, Number.POSITIVE_INFINITY];
  peer.fragmentBytes = sizes[nextBelow(random, sizes.length)]!;
  peer.sendFragmentBytes = sizes[nextBelow(random, sizes.length)]!;
  peer.windowBytes = nextBelow(random, 3) === 0 ? nextBelow(random, 5000) : 1e9;
}

/** A client that does everything right, on an export that nobody else knows. */
class GoodClient {
  private readonly peer: FakePeer;
  private readonly front: FakeArrayFront;
  private asked = 0;

  constructor(bench: NbdBench) {
    this.front = new FakeArrayFront({ memory: bench.memory, sizeBytes: 64 * KIB });
    this.front.data.forEach((_, index, data) => {
      data[index] = index % 251;
    });
    const settings = { name: GOOD_EXPORT, array: "md1", front: this.front, readOnly: false };
    assert(bench.server.setExport(settings).ok, "there is room for a second export");
    this.peer = bench.peer();
    this.peer.send(CLIENT_FLAGS);
    this.peer.send(encodeOption(OptionCode.go, encodeInfoRequest(GOOD_EXPORT, [])));
    bench.loop.turns(3);
    this.peer.take();
  }

  ask(): void {
    this.peer.send(request({ command: 0, offset: this.asked, bytes: 100, cookie: this.asked }));
    this.asked += 1;
  }

  work(): void {
    this.front.completeAll();
  }

  /** Every question was answered, with the right bytes. */
  end(): void {
    const replies = parseReplies(this.peer.take(), () => 100);
    assert(replies.length === this.asked, "the good client got all its answers");
    for (const { cookie, data } of replies) {
      assert(data.length === 100 && data[99] === (cookie + 99) % 251, "of its own export");
    }
    this.peer.close();
  }
}

/** One conversation per peer, all at once, to their bitter ends. Answers with how many frames. */
function fuzz(seed: number): number {
  const random = new SeededRandom(seed);
  const limits = { maxRequestBytes: 128 * KIB, maxRequestsPerConnection: 8, maxOptions: 6 };
  const bench = new NbdBench({ limits, poolBytes: 512 * KIB });
  const good = new GoodClient(bench);
  const sent: { peer: FakePeer; bytes: Uint8Array; at: number }[] = [];
  let frames = 0;
  for (let count = 1 + nextBelow(random, 4); count > 0; count -= 1) {
    const peer = bench.kernel.connect(bench.listener);
    disturb(random, peer);
    const conversation = randomConversation(random);
    frames += conversation.frames;
    sent.push({ peer, bytes: conversation.bytes, at: 0 });
  }
  for (let turn = 0; turn < 150; turn += 1) {
    for (const conversation of sent) {
      const { peer, bytes, at } = conversation;
      const count = nextBelow(random, 20_000);
      peer.send(bytes.slice(at, at + count));
      conversation.at = Math.min(at + count, bytes.length);
      if (nextBelow(random, 40) === 0) disturb(random, peer);
      if (nextBelow(random, 200) === 0) peer.reset();
      if (nextBelow(random, 200) === 0) peer.close();
    }
    if (turn % 30 === 0) good.ask();
    bench.loop.turn();
    good.work();
    const pending = bench.front.pending;
    for (let count = nextBelow(random, 6); count > 0 && pending.length > 0; count -= 1) {
      const status = nextBelow(random, 10) === 0 ? EIO : 0;
      bench.front.complete(nextBelow(random, pending.length), status);
    }
  }
  for (const { peer } of sent) {
    peer.fragmentBytes = Number.POSITIVE_INFINITY;
    peer.close();
  }
  for (let turn = 0; turn < 40; turn += 1) {
    bench.loop.turn();
    good.work();
    bench.front.completeAll();
  }
  for (const { peer } of sent) assert(peer.isClosedByServer, "every connection has ended");
  good.end();
  bench.loop.turns(2);
  bench.checkNoLeak();
  return frames;
}

test("fuzz: frames, damaged: no throw, no leak, a good client is served", () => {
  let frames = 0;
  let seed = FIRST_SEED;
  try {
    do {
      frames += fuzz(seed);
      seed += 1;
    } while (frames < FUZZ_FRAMES);
  } catch (error) {
    console.error(`SEED=${seed} bun test test/unit/nbd/fuzz.test.ts`);
    throw error;
  }
  expect(frames).toBeGreaterThanOrEqual(FUZZ_FRAMES);
});

const AREA_BYTES = 128 * KIB;

/** Writes and reads in one area, many at a time; ranges that overlap wait for each other. */
async function exercise(options: {
  client: NbdClient;
  random: SeededRandom;
  base: number;
  copy: Uint8Array;
}): Promise<void> {
  const { client, random, base, copy } = options;
  for (let round = 0; round < 6; round += 1) {
    const requests: Promise<void>[] = [];
    // Disjoint ranges within a round, so that the copy knows what each of them must see.
    let at = nextBelow(random, 3000);
    while (at < AREA_BYTES && requests.length < CLIENT_DEPTH * 2) {
      const bytes = Math.min(1 + nextBelow(random, 12_000), AREA_BYTES - at);
      if (nextBelow(random, 2) === 0) {
        const data = randomBytes(random, bytes);
        copy.set(data, at);
        const fua = nextBelow(random, 3) === 0;
        requests.push(
          client.write(base + at, data, { fua }).then((result) => {
            assert(result.ok, "a write succeeds");
          }),
        );
      } else {
        const expected = copy.slice(at, at + bytes);
        requests.push(
          client.read(base + at, bytes).then((result) => {
            assert(
              result.ok && Buffer.compare(result.value, expected) === 0,
              "reads what it wrote",
            );
          }),
        );
      }
      at += bytes + nextBelow(random, 50);
    }
    await Promise.all(requests);
    assert((await client.flush()).ok, "a flush succeeds");
  }
  await client.disconnect();
}

async function model(seed: number): Promise<void> {
  const random = new SeededRandom(seed);
  const limits = { maxRequestBytes: 64 * KIB, maxRequestsPerConnection: 16 };
  // Small enough that the connections wait for each other.
  const bench = new NbdBench({ limits, poolBytes: 512 * KIB, sizeBytes: 4 * AREA_BYTES });
  const copies: Uint8Array[] = [];
  const work: Promise<void>[] = [];
  for (let index = 0; index < 4; index += 1) {
    const client = await bench.client();
    const copy = new Uint8Array(AREA_BYTES);
    copies.push(copy);
    work.push(exercise({ client, random: random.split(), base: index * AREA_BYTES, copy }));
  }
  for (const peer of bench.peers) {
    peer.fragmentBytes = 1 + nextBelow(random, 20_000);
    peer.sendFragmentBytes = 1 + nextBelow(random, 20_000);
  }
  await bench.run(Promise.all(work), () => {
    const pending = bench.front.pending;
    for (let count = nextBelow(random, 8); count > 0 && pending.length > 0; count -= 1) {
      bench.front.complete(nextBelow(random, pending.length));
    }
  });
  for (const [index, copy] of copies.entries()) {
    const area = bench.front.data.subarray(index * AREA_BYTES, (index + 1) * AREA_BYTES);
    assert(Buffer.compare(area, copy) === 0, "the array holds what was written last");
  }
  bench.loop.turns(3);
  bench.checkNoLeak();
}

test("model: four clients, a small pool, any order: every byte as written", async () => {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + MODEL_SEEDS; seed += 1) {
    try {
      await model(seed);
    } catch (error) {
      console.error(`SEED=${seed} bun test test/unit/nbd/fuzz.test.ts`);
      throw error;
    }
  }
  expect(MODEL_SEEDS).toBeGreaterThan(0);
});
