/**
 * Goal: a client that names a known export whose array is on its way is answered when that has
 * come, or told why not after a bounded time; it is never told that there is no such export.
 * Method: the server over the scripted kernel; the array's front is put and taken, the reason for
 * its absence changes, and the clock is moved. Each option that names an export is tried.
 */
import { expect, test } from "bun:test";
import type { ExportObstacle } from "../../../src/nbd/handshake.ts";
import {
  Command,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
} from "../../../src/nbd/wire-format.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { CLIENT_FLAGS, NbdBench, parseReplies, request } from "../../helpers/nbd-bench.ts";

const TEXT = new TextEncoder();
const NOTHING = new Uint8Array(0);
const ERR_UNKNOWN = 0x80000006;
const ERR_SHUTDOWN = 0x80000007;

interface Waiting {
  readonly bench: NbdBench;
  /** Changes why the array is not there, and tells the server. */
  become(obstacle: ExportObstacle): void;
  serve(): void;
}

/** The export "a" without a front, whose array is on its way. */
function waiting(options: { maxConnections?: number } = {}): Waiting {
  let obstacle: ExportObstacle = { isPassing: true, reason: "array md0 is starting" };
  const bench = new NbdBench({ limits: options, obstacleOf: () => obstacle });
  const put = (front: typeof bench.front | null): void => {
    const set = bench.server.setExport({ name: "a", array: "md0", front, readOnly: false });
    expect(set).toMatchObject({ ok: true, value: { isServed: front !== null } });
  };
  put(null);
  return {
    bench,
    become: (next) => {
      obstacle = next;
      bench.server.reviewWaits();
    },
    serve: () => put(bench.front),
  };
}

function metaQuery(name: string): Uint8Array {
  const query = "base:allocation";
  const data = Buffer.alloc(12 + name.length + query.length);
  data.writeUInt32BE(name.length, 0);
  data.write(name, 4);
  data.writeUInt32BE(1, 4 + name.length);
  data.writeUInt32BE(query.length, 8 + name.length);
  data.write(query, 12 + name.length);
  return data;
}

const NAMING: readonly (readonly [string, Uint8Array])[] = [
  ["exportName", encodeOption(OptionCode.exportName, TEXT.encode("a"))],
  ["info", encodeOption(OptionCode.info, encodeInfoRequest("a", []))],
  ["go", encodeOption(OptionCode.go, encodeInfoRequest("a", []))],
  ["go, the default export", encodeOption(OptionCode.go, encodeInfoRequest("", []))],
  ["listMetaContext", encodeOption(OptionCode.listMetaContext, metaQuery("a"))],
  ["setMetaContext", encodeOption(OptionCode.setMetaContext, metaQuery("a"))],
];

/** A peer that has asked `option`, after structured replies. */
function asking(bench: NbdBench, option: Uint8Array): FakePeer {
  const peer = bench.peer();
  peer.send(CLIENT_FLAGS, encodeOption(OptionCode.structuredReply, NOTHING));
  bench.loop.turns(3);
  peer.take();
  peer.send(option);
  bench.loop.turns(3);
  return peer;
}

/** The types of the option replies, and the text of the last one. */
function answers(peer: FakePeer): { types: number[]; text: string } {
  const bytes = Buffer.from(peer.take());
  const types: number[] = [];
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    types.push(bytes.readUInt32BE(at + 12));
    const length = bytes.readUInt32BE(at + 16);
    text = bytes.toString("utf8", at + 20, at + 20 + length);
    at += 20 + length;
  }
  return { types, text };
}

function goAway(bench: NbdBench, ...peers: FakePeer[]): void {
  for (const peer of peers) peer.close();
  bench.loop.turns(3);
  bench.checkNoLeak();
}

for (const [name, option] of NAMING) {
  test(`wait: ${name} before the array is there: answered when it comes, as if it had been`, () => {
    const { bench, serve } = waiting();
    const peer = asking(bench, option);
    bench.loop.clock.advance(50_000);
    bench.loop.turns(3);
    expect([peer.take().length, peer.isClosedByServer]).toEqual([0, false]);
    serve();
    bench.loop.turns(2);
    const late = peer.take();
    const served = asking(bench, option);
    expect(late.length).toBeGreaterThan(0);
    expect(Buffer.compare(late, served.take())).toBe(0);
    goAway(bench, peer, served);
  });

  test(`wait: ${name} and the array does not come: after a minute it is told "later"`, () => {
    const { bench } = waiting();
    const peer = asking(bench, option);
    bench.loop.clock.advance(59_999);
    bench.loop.turns(2);
    expect([peer.take().length, peer.isClosedByServer]).toEqual([0, false]);
    bench.loop.clock.advance(1);
    bench.loop.turns(3);
    if (name === "exportName") expect(peer.isClosedByServer).toBe(true);
    else expect(answers(peer)).toEqual({ types: [ERR_SHUTDOWN], text: "array md0 is starting" });
    goAway(bench, peer);
  });

  test(`wait: ${name} and the start fails for good: told why at that moment`, () => {
    const { bench, become } = waiting();
    const peer = asking(bench, option);
    become({ isPassing: false, reason: "array md0 is stopped" });
    bench.loop.turns(3);
    if (name === "exportName") expect(peer.isClosedByServer).toBe(true);
    else expect(answers(peer)).toEqual({ types: [ERR_UNKNOWN], text: "array md0 is stopped" });
    goAway(bench, peer);
  });
}

test("wait: an unknown export, or one that was removed meanwhile: told so at once", () => {
  const { bench } = waiting();
  const unknown = asking(bench, encodeOption(OptionCode.go, encodeInfoRequest("b", [])));
  expect(answers(unknown)).toEqual({
    types: [ERR_UNKNOWN],
    text: "there is no export of that name",
  });
  const peer = asking(bench, NAMING[2]![1]);
  expect(bench.server.removeExport("a", { force: false }).ok).toBe(true);
  bench.loop.turns(3);
  expect(answers(peer).types).toEqual([ERR_UNKNOWN]);
  goAway(bench, unknown, peer);
});

test("wait: LIST: names what is served or on its way, and not what is stopped", () => {
  const { bench, become } = waiting();
  const list = encodeOption(OptionCode.list, NOTHING);
  const peer = asking(bench, list);
  expect(answers(peer).types).toEqual([2, 1]);
  become({ isPassing: false, reason: "array md0 is stopped" });
  peer.send(list);
  bench.loop.turns(3);
  expect(answers(peer).types).toEqual([1]);
  goAway(bench, peer);
});

test("wait: options and requests behind GO: answered in order when the array comes", () => {
  const { bench, serve } = waiting();
  const peer = asking(bench, NAMING[1]![1]);
  peer.send(NAMING[2]![1], request({ command: Command.flush, cookie: 9 }));
  bench.loop.turns(3);
  expect(peer.take().length).toBe(0);
  serve();
  bench.loop.turns(4);
  bench.front.complete();
  bench.loop.turns(2);
  const bytes = peer.take();
  const infoBytes = 20 + 12 + (20 + 14) + 20;
  const reply = bytes.slice(2 * infoBytes);
  expect(Buffer.from(reply).readUInt32BE(0)).toBe(0x67446698);
  goAway(bench, peer);
});

for (const ending of ["end", "close", "reset"] as const) {
  test(`wait: the client's ${ending} while it waits: noticed, its place is free`, () => {
    const { bench, serve } = waiting({ maxConnections: 1 });
    const peer = asking(bench, NAMING[2]![1]);
    expect(bench.server.connectionCount).toBe(1);
    peer[ending]();
    bench.loop.turns(3);
    expect([peer.isClosedByServer, bench.server.connectionCount]).toEqual([true, 0]);
    serve();
    bench.finish(bench.opened());
  });
}

test("wait: a client that fills the buffer while it waits: not read on, and served then", () => {
  const { bench, serve } = waiting();
  const peer = asking(bench, NAMING[2]![1]);
  const flushes: Uint8Array[] = [];
  for (let cookie = 0; cookie < 1000; cookie += 1) {
    flushes.push(request({ command: Command.flush, cookie }));
  }
  peer.send(Buffer.concat(flushes));
  bench.loop.turns(10);
  expect(peer.hasUnread).toBe(true);
  const calls = peer.recvCalls;
  bench.loop.turns(10);
  expect(peer.recvCalls).toBe(calls);
  serve();
  for (let turn = 0; turn < 200; turn += 1) {
    bench.loop.turn();
    bench.front.completeAll();
  }
  expect(bench.front.submitted).toBe(1000);
  goAway(bench, peer);
});

test("wait: one that asks again and again: waits a minute in all, then is told at once", () => {
  const { bench } = waiting();
  const peer = asking(bench, NAMING[1]![1]);
  bench.loop.clock.advance(60_000);
  bench.loop.turns(3);
  expect(answers(peer).types).toEqual([ERR_SHUTDOWN]);
  peer.send(NAMING[1]![1], NAMING[1]![1]);
  bench.loop.turns(4);
  expect(answers(peer).types).toEqual([ERR_SHUTDOWN, ERR_SHUTDOWN]);
  bench.loop.clock.advance(10_000);
  bench.loop.turns(3);
  expect(peer.isClosedByServer).toBe(true);
  bench.checkNoLeak();
});

test("wait: the place of one whose wait is over: the next client has a wait of its own", () => {
  const { bench } = waiting({ maxConnections: 1 });
  const first = asking(bench, NAMING[2]![1]);
  bench.loop.clock.advance(30_000);
  bench.loop.turn();
  first.close();
  bench.loop.turns(3);
  const second = asking(bench, NAMING[2]![1]);
  bench.loop.clock.advance(59_999);
  bench.loop.turns(2);
  expect([second.take().length, second.isClosedByServer]).toEqual([0, false]);
  bench.loop.clock.advance(1);
  bench.loop.turns(2);
  expect(answers(second).types).toEqual([ERR_SHUTDOWN]);
  goAway(bench, second);
});

test("wait: the server stops: whoever waits is told so", async () => {
  const { bench } = waiting();
  const peer = asking(bench, NAMING[2]![1]);
  const done = bench.server.shutdown();
  bench.loop.turns(3);
  await done;
  expect(answers(peer)).toEqual({ types: [ERR_SHUTDOWN], text: "the server is stopping" });
  expect(peer.isClosedByServer).toBe(true);
  bench.checkNoLeak();
});

test("wait: a connected client whose array stops and starts: goes on as before", () => {
  const { bench, serve, become } = waiting();
  serve();
  const peer = bench.opened();
  bench.server.setExport({ name: "a", array: "md0", front: null, readOnly: false });
  become({ isPassing: false, reason: "array md0 is stopped" });
  peer.send(request({ command: Command.flush, cookie: 1 }));
  bench.loop.turns(2);
  serve();
  peer.send(request({ command: Command.flush, cookie: 2 }));
  bench.loop.turns(2);
  bench.front.complete();
  bench.loop.turns(2);
  expect(parseReplies(peer.take()).map(({ error }) => error)).toEqual([108, 0]);
  bench.finish(peer);
});
