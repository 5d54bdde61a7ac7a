/**
 * Goal: a defect in one NBD session ends that connection, and no other, and the server goes on and
 * can be stopped. Method: each of the functions of a session and what it is made of throws once for
 * the first of two clients, at each of its calls in a short conversation; what sessions share
 * (slots, payload memory) is not theirs, and its throw passes.
 */
import { expect, test } from "bun:test";
import { SharedAssertionError } from "../../../src/base/assert.ts";
import { Outbox } from "../../../src/nbd/outbox.ts";
import { ReceiveBuffer } from "../../../src/nbd/receive-buffer.ts";
import { Session } from "../../../src/nbd/session.ts";
import { Transmission } from "../../../src/nbd/transmission.ts";
import {
  Command,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
} from "../../../src/nbd/wire-format.ts";
import { CLIENT_FLAGS, NbdBench, parseReplies, request } from "../../helpers/nbd-bench.ts";

type Method = (this: unknown, ...words: unknown[]) => unknown;
type Methods = Record<string, Method>;

const CALLS_MAX = 3;
/** What takes a socket, or ends it, may not fail as well: then nothing is known of the socket. */
const ENDS = new Set(["constructor", "close", "enter", "stopWaiting", "release"]);
ENDS.add("takeOver").add("reset").add("dropPayload").add("forget").add("freeRun");
const PLACES = { Session, Transmission, Outbox, ReceiveBuffer } as const;

function methodsOf(place: keyof typeof PLACES): string[] {
  const prototype = PLACES[place].prototype as unknown as Methods;
  return Object.getOwnPropertyNames(prototype).filter((name) => {
    const { value } = Object.getOwnPropertyDescriptor(prototype, name) ?? {};
    return typeof value === "function" && !ENDS.has(name);
  });
}

/** Both clients talk; the nth call of a method throws. False: it was not called so often. */
async function converse(
  place: keyof typeof PLACES,
  name: string,
  nth: number,
  error: Error,
): Promise<boolean> {
  const prototype = PLACES[place].prototype as unknown as Methods;
  const whole = prototype[name]!;
  const bench = new NbdBench();
  const other = bench.opened();
  let calls = 0;
  let isFirst = true;
  prototype[name] = function (...words) {
    if (isFirst) calls += 1;
    if (isFirst && calls === nth) throw error;
    return whole.apply(this, words);
  };
  try {
    const peer = bench.peer();
    peer.send(CLIENT_FLAGS, encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
    bench.loop.turns(4);
    const data = new Uint8Array(40_000).fill(7);
    peer.send(request({ command: Command.write, bytes: data.length, cookie: 1 }), data);
    peer.send(request({ command: Command.read, bytes: 5000, cookie: 2 }));
    peer.send(request({ command: Command.flush, cookie: 3 }));
    bench.loop.turns(4);
    while (bench.front.pending.length > 0) bench.front.complete();
    bench.loop.turns(4);
    if (calls >= nth && !peer.isClosedByServer) throw new Error(`${place}.${name} ${nth}: open`);
  } finally {
    isFirst = false;
    prototype[name] = whole;
  }
  other.send(request({ command: Command.flush, cookie: 9 }));
  bench.loop.turns(3);
  while (bench.front.pending.length > 0) bench.front.complete();
  bench.loop.turns(3);
  expect(parseReplies(other.take()).map(({ error: status }) => status)).toEqual([0]);
  await bench.run(bench.server.shutdown());
  expect(other.isClosedByServer).toBe(true);
  expect(bench.server.connectionCount).toBe(0);
  return calls >= nth;
}

for (const place of Object.keys(PLACES) as (keyof typeof PLACES)[]) {
  test(`nbd defect: anything of ${place} throws: that connection ends, the other is served`, async () => {
    let thrown = 0;
    for (const name of methodsOf(place)) {
      for (let nth = 1; nth <= CALLS_MAX; nth += 1) {
        if (!(await converse(place, name, nth, new Error(`planted in ${place}.${name}`)))) break;
        thrown += 1;
      }
    }
    expect(thrown).toBeGreaterThan(4);
  });
}

test("nbd defect: what all sessions share: the throw passes, and ends the process", async () => {
  const shared = new SharedAssertionError("a slot in the free list is free");
  const conversation = converse("Transmission", "start", 1, shared);
  expect(conversation).rejects.toThrow("a slot in the free list");
  await conversation.catch(() => {});
});
