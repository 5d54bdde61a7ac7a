/**
 * Goal: a connection is served as the protocol says, however its bytes are cut, and gives back all
 * it took, wherever it ends.
 * Method: the whole server over a scripted socket kernel and an array front that completes when the
 * test says so. Every test ends with the check that pool, slots and connections are back.
 */
import { expect, test } from "bun:test";
import { FrontOp } from "../../../src/array/front.ts";
import { EINVAL, EIO, EMFILE, ENOSPC, EPERM, ESHUTDOWN } from "../../../src/base/errno.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { IOVEC_COUNT } from "../../../src/nbd/outbox.ts";
import {
  Command,
  CommandFlag,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
} from "../../../src/nbd/wire-format.ts";
import {
  CLIENT_FLAGS,
  errorsOf,
  NbdBench,
  parseReplies,
  request,
} from "../../helpers/nbd-bench.ts";

function pattern(bytes: number, seed: number): Uint8Array {
  const data = new Uint8Array(bytes);
  for (let index = 0; index < bytes; index += 1) data[index] = (index * 31 + seed) & 0xff;
  return data;
}

const NOTHING = new Uint8Array(0);

test("server: a write and a read at odd offsets: the same bytes, at congruent addresses", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const ranges: [number, number][] = [
    [0, 1],
    [4095, 2],
    [513, 70_000],
    [8192, 4096],
    [MIB - 1, 1],
  ];
  for (const [offset, bytes] of ranges) {
    const data = pattern(bytes, offset);
    peer.send(request({ command: Command.write, offset, bytes, cookie: 7 }), data);
    bench.loop.turns(6);
    expect(bench.front.pending.length).toBe(1);
    expect(peer.take().length).toBe(0);
    bench.front.complete();
    bench.loop.turn();
    expect(parseReplies(peer.take())).toEqual([{ error: 0, cookie: 7, data: NOTHING }]);
    expect(Buffer.compare(bench.front.data.subarray(offset, offset + bytes), data)).toBe(0);
    peer.send(request({ command: Command.read, offset, bytes, cookie: 8 }));
    bench.loop.turn();
    bench.front.complete();
    bench.loop.turn();
    expect(parseReplies(peer.take(), () => bytes)).toEqual([{ error: 0, cookie: 8, data }]);
  }
  bench.finish(peer);
});

test("server: the whole conversation one byte at a time, both ways: as in one piece", () => {
  const bench = new NbdBench();
  const peer = bench.peer();
  peer.take();
  peer.fragmentBytes = 1;
  peer.sendFragmentBytes = 1;
  const data = pattern(100, 3);
  peer.send(CLIENT_FLAGS, encodeOption(99, new Uint8Array(5)));
  peer.send(encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
  bench.loop.turns(400);
  expect(peer.take().length).toBe(20 + (20 + 12) + (20 + 14) + 20);
  peer.send(request({ command: Command.write, offset: 5, bytes: 100, cookie: 1 }), data);
  peer.send(request({ command: Command.read, offset: 0, bytes: 110, cookie: 2 }));
  for (let turn = 0; turn < 1000; turn += 1) {
    bench.loop.turn();
    if (bench.front.pending.length > 0) bench.front.complete();
  }
  const replies = parseReplies(peer.take(), (cookie) => (cookie === 2 ? 110 : 0));
  expect(replies.map((reply) => reply.error)).toEqual([0, 0]);
  expect(Buffer.compare(replies[1]!.data.subarray(5, 105), data)).toBe(0);
  peer.fragmentBytes = 28;
  bench.finish(peer);
});

test("server: everything in one piece with the handshake: each part is answered in order", () => {
  const bench = new NbdBench();
  const peer = bench.peer();
  peer.take();
  peer.send(
    Buffer.concat([
      CLIENT_FLAGS,
      encodeOption(OptionCode.list, new Uint8Array(0)),
      encodeOption(OptionCode.go, encodeInfoRequest("", [])),
      request({ command: Command.write, offset: 0, bytes: 3 }),
      new Uint8Array([1, 2, 3]),
      request({ command: Command.flush, cookie: 2 }),
      request({ command: Command.disconnect }),
    ]),
  );
  bench.loop.turns(2);
  expect(bench.front.pending.map((entry) => entry.op)).toEqual([FrontOp.write, FrontOp.flush]);
  expect(peer.isClosedByServer).toBe(false);
  bench.front.completeAll();
  bench.loop.turn();
  const handshakeBytes = 20 + 5 + 20 + (20 + 12) + (20 + 14) + 20;
  const replies = parseReplies(peer.take().slice(handshakeBytes));
  expect(replies.map((reply) => reply.cookie)).toEqual([1, 2]);
  expect(peer.isClosedByServer).toBe(true);
  bench.loop.turn();
  bench.checkNoLeak();
});

test("server: many small requests in one piece: few receives, one send for all replies", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const parts: Uint8Array[] = [];
  for (let index = 0; index < 32; index += 1) {
    parts.push(request({ command: Command.read, offset: index * 512, bytes: 512, cookie: index }));
  }
  peer.send(Buffer.concat(parts));
  const before = { recv: peer.recvCalls, send: peer.sendCalls };
  bench.loop.turn();
  expect(bench.front.pending.length).toBe(32);
  bench.front.completeAll();
  bench.loop.turn();
  expect(peer.recvCalls - before.recv).toBe(1);
  expect(peer.sendCalls - before.send).toBe(1);
  expect(parseReplies(peer.take(), () => 512).length).toBe(32);
  bench.finish(peer);
});

test("server: more replies than iovecs: all are sent, in order of completion", () => {
  const bench = new NbdBench({ limits: { maxRequestsPerConnection: 300 }, poolBytes: 32 * MIB });
  const peer = bench.opened();
  for (let index = 0; index < 300; index += 1) {
    peer.send(request({ command: Command.read, offset: index, bytes: 9, cookie: index }));
  }
  bench.loop.turns(20);
  bench.loop.turns(300);
  expect(bench.front.pending.length).toBe(300);
  const order: number[] = [];
  while (bench.front.pending.length > 0) {
    const index = (order.length * 7) % bench.front.pending.length;
    order.push(bench.front.pending[index]!.offset);
    bench.front.complete(index);
  }
  bench.loop.turns(3);
  expect(parseReplies(peer.take(), () => 9).map((reply) => reply.cookie)).toEqual(order);
  expect(bench.kernel.mostIovecs).toBe(IOVEC_COUNT);
  bench.finish(peer);
});

test("server: partial sends of replies with data: resumed where they stopped", () => {
  const bench = new NbdBench();
  bench.front.data.set(pattern(MIB, 1));
  for (const sendFragmentBytes of [1, 15, 16, 17, 28, 100]) {
    const peer = bench.opened();
    peer.sendFragmentBytes = sendFragmentBytes;
    for (let index = 0; index < 4; index += 1) {
      peer.send(request({ command: Command.read, offset: index * 7, bytes: 40, cookie: index }));
    }
    bench.loop.turns(5);
    bench.front.completeAll();
    bench.loop.turns(300);
    const replies = parseReplies(peer.take(), () => 40);
    for (const [index, reply] of replies.entries()) {
      expect(reply.data).toEqual(bench.front.data.slice(index * 7, index * 7 + 40));
    }
    expect(replies.length).toBe(4);
    bench.finish(peer);
  }
});

test("server: flags and commands of the array: FUA only on writes, flush without a range", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const flags = CommandFlag.fua;
  peer.send(request({ command: Command.write, bytes: 1, flags }), new Uint8Array(1));
  peer.send(request({ command: Command.write, bytes: 1 }), new Uint8Array(1));
  peer.send(request({ command: Command.read, bytes: 1, flags, cookie: 9 }));
  peer.send(request({ command: Command.flush, flags }));
  peer.send(request({ command: Command.cache, bytes: 5, flags }));
  bench.loop.turns(10);
  const submitted = bench.front.pending.map(({ op, isFua, bytes }) => [op, isFua, bytes]);
  expect(submitted).toEqual([
    [FrontOp.write, true, 1],
    [FrontOp.write, false, 1],
    [FrontOp.read, false, 1],
    [FrontOp.flush, false, 0],
  ]);
  bench.front.completeAll();
  bench.loop.turn();
  expect(parseReplies(peer.take(), (cookie) => (cookie === 9 ? 1 : 0)).length).toBe(5);
  bench.finish(peer);
});

test("server: zero bytes: success without the array", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  for (const command of [Command.read, Command.write, Command.cache]) {
    peer.send(request({ command, offset: MIB }));
  }
  bench.loop.turns(6);
  expect(errorsOf(peer)).toEqual([0, 0, 0]);
  expect(bench.front.submitted).toBe(0);
  bench.finish(peer);
});

test("server: refused writes: their payload is not taken for requests", () => {
  const bench = new NbdBench({ readOnly: true });
  const peer = bench.opened();
  const fake = Buffer.concat([request({ command: Command.disconnect }), new Uint8Array(40_000)]);
  peer.send(request({ command: Command.write, bytes: fake.length }), fake);
  peer.send(request({ command: Command.flush, cookie: 2 }));
  bench.loop.turns(20);
  bench.front.completeAll();
  bench.loop.turn();
  expect(errorsOf(peer)).toEqual([EPERM, 0]);
  bench.finish(peer);
});

test("server: a write that is being received: the array is told, and when it will not come", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const head = request({ command: Command.write, offset: 8192, bytes: 40_000 });
  peer.send(head, new Uint8Array(4096));
  bench.loop.turns(2);
  expect([...bench.front.coming]).toEqual([8192]);
  peer.close();
  bench.loop.turns(4);
  expect([...bench.front.coming]).toEqual([]);
  bench.checkNoLeak();
});

test("server: a refused write is answered when its payload has come, not before", () => {
  const bench = new NbdBench({ readOnly: true });
  const peer = bench.opened();
  const payload = new Uint8Array(40_000);
  peer.send(request({ command: Command.write, bytes: payload.length }), payload.subarray(0, 4096));
  bench.loop.turns(20);
  expect(errorsOf(peer)).toEqual([]);
  peer.send(payload.subarray(4096, 39_999));
  bench.loop.turns(20);
  expect(errorsOf(peer)).toEqual([]);
  peer.send(payload.subarray(39_999));
  bench.loop.turns(2);
  expect(errorsOf(peer)).toEqual([EPERM]);
  // One that goes in the middle leaves nothing behind.
  peer.send(request({ command: Command.write, bytes: payload.length }), payload.subarray(0, 4096));
  bench.loop.turns(2);
  peer.end();
  bench.loop.turns(5);
  bench.checkNoLeak();
});

test("server: bad requests: each its error, and the connection goes on", () => {
  const bench = new NbdBench({ limits: { maxRequestBytes: 128 * KIB } });
  const peer = bench.opened();
  const huge = 128 * KIB + 1;
  peer.send(request({ command: Command.write, offset: MIB, bytes: 1 }), new Uint8Array(1));
  peer.send(request({ command: Command.read, offset: MIB, bytes: 1 }));
  peer.send(request({ command: Command.trim, offset: MIB, bytes: 1 }));
  peer.send(request({ command: Command.writeZeroes, bytes: 1, flags: CommandFlag.requestOne }));
  peer.send(request({ command: Command.blockStatus, bytes: 4096 }));
  peer.send(request({ command: 999, bytes: 4096 }));
  peer.send(request({ command: Command.read, bytes: huge }));
  peer.send(request({ command: Command.write, bytes: huge }), new Uint8Array(huge));
  peer.send(request({ command: Command.read, bytes: 1, flags: CommandFlag.dontFragment }));
  bench.loop.turns(60);
  expect(errorsOf(peer)).toEqual([ENOSPC, ...new Array(8).fill(EINVAL)]);
  expect(bench.front.submitted).toBe(0);
  bench.finish(peer);
});

test("server: a write far above the limit, a wrong magic: disconnected", () => {
  const bench = new NbdBench({ limits: { maxSkippedPayloadBytes: 8 * MIB } });
  const large = bench.opened();
  large.send(request({ command: Command.write, bytes: 8 * MIB + 1 }));
  const wrong = bench.opened();
  wrong.send(new Uint8Array(28));
  bench.loop.turns(2);
  expect([large.isClosedByServer, wrong.isClosedByServer]).toEqual([true, true]);
  expect(bench.messages.length).toBe(2);
  bench.checkNoLeak();
});

test("server: the array's errors: mapped, and a failed read sends no data", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  for (const status of [EIO, ENOSPC, EPERM, ESHUTDOWN, 61]) {
    peer.send(request({ command: Command.read, bytes: 4096 }));
    peer.send(request({ command: Command.write, bytes: 2 }), new Uint8Array(2));
    bench.loop.turns(4);
    bench.front.complete(0, status);
    bench.front.complete(0, status);
    bench.loop.turn();
    const expected = status === 61 ? EIO : status;
    expect(errorsOf(peer)).toEqual([expected, expected]);
  }
  bench.finish(peer);
});

test("server: structured replies: data, nothing, errors and block status in chunks", () => {
  const bench = new NbdBench();
  bench.front.data.set(pattern(MIB, 9));
  const peer = bench.peer();
  peer.take();
  const name = new TextEncoder().encode("base:allocation");
  const query = Buffer.from([0, 0, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, name.length, ...name]);
  peer.send(CLIENT_FLAGS, encodeOption(OptionCode.structuredReply, new Uint8Array(0)));
  peer.send(encodeOption(OptionCode.setMetaContext, query));
  peer.send(encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
  bench.loop.turns(4);
  peer.take();
  const flags = CommandFlag.dontFragment;
  peer.send(request({ command: Command.read, offset: 1000, bytes: 3, cookie: 1, flags }));
  bench.loop.turns(2);
  bench.front.complete();
  bench.loop.turn();
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
  const data = hex(bench.front.data.slice(1000, 1003));
  const head = (type: string, cookie: number, length: string) =>
    `668e33ef0001${type}000000000000000${cookie}${length}`;
  expect(hex(peer.take())).toBe(`${head("0001", 1, "0000000b")}00000000000003e8${data}`);
  peer.send(request({ command: Command.read, cookie: 2 }));
  bench.loop.turn();
  expect(hex(peer.take())).toBe(head("0000", 2, "00000000"));
  peer.send(request({ command: Command.read, offset: MIB, bytes: 1, cookie: 3 }));
  bench.loop.turn();
  expect(hex(peer.take())).toBe(`${head("8001", 3, "00000006")}000000160000`);
  peer.send(request({ command: Command.blockStatus, bytes: 65_536, cookie: 4 }));
  bench.loop.turn();
  expect(hex(peer.take())).toBe(`${head("0005", 4, "0000000c")}000000010001000000000000`);
  peer.send(request({ command: Command.flush, cookie: 5 }));
  bench.loop.turn();
  bench.front.complete();
  bench.loop.turn();
  expect(parseReplies(peer.take()).map((reply) => reply.cookie)).toEqual([5]);
  bench.finish(peer);
});

/** The parts of a whole conversation, to be cut off anywhere. */
function conversation(): Uint8Array {
  return Buffer.concat([
    CLIENT_FLAGS,
    encodeOption(55, new Uint8Array(9)),
    encodeOption(OptionCode.go, encodeInfoRequest("a", [])),
    request({ command: Command.write, offset: 10, bytes: 60 }),
    pattern(60, 1),
    request({ command: Command.read, offset: 3, bytes: 50 }),
    request({ command: Command.write, offset: MIB, bytes: 20 }),
    new Uint8Array(20),
    request({ command: Command.flush }),
    request({ command: Command.disconnect }),
  ]);
}

for (const ending of ["end", "close", "reset"] as const) {
  test(`server: the client's ${ending} after any byte: no half write, all is freed`, () => {
    const bench = new NbdBench();
    const bytes = conversation();
    const headersBytes = bytes.length - 60 - 28 - 28 - 20 - 28 - 28;
    for (let cut = 0; cut <= bytes.length; cut += 1) {
      bench.front.data.fill(0);
      const peer = bench.peer();
      peer.send(bytes.slice(0, cut));
      bench.loop.turns(2);
      const hasWrite = bench.front.pending.some((entry) => entry.op === FrontOp.write);
      expect([cut, hasWrite]).toEqual([cut, cut >= headersBytes + 60]);
      peer[ending]();
      bench.loop.turns(2);
      const freeBytes = bench.pool.freeBytes;
      // The drives may still write into the buffers of what is under way.
      const underWay = bench.front.pending.filter((entry) => entry.op !== FrontOp.flush).length;
      expect(bench.pool.totalBytes - freeBytes).toBe(underWay * 65_536);
      bench.front.completeAll();
      bench.loop.turns(3);
      const written = bench.front.data.subarray(0, 100);
      const expected = new Uint8Array(100);
      if (hasWrite) expected.set(pattern(60, 1), 10);
      expect(Buffer.compare(written, expected)).toBe(0);
      expect(bench.kernel.openFds.size).toBe(1);
      bench.checkNoLeak();
    }
  });
}

test("server: a client hangs up while replies wait to be sent: they are dropped", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  peer.windowBytes = 10;
  peer.send(request({ command: Command.read, bytes: 100_000 }));
  peer.send(request({ command: Command.read, bytes: 100_000 }));
  bench.loop.turns(2);
  bench.front.complete();
  bench.loop.turns(2);
  expect(bench.pool.freeBytes).toBeLessThan(bench.pool.totalBytes);
  peer.close();
  bench.loop.turns(2);
  expect(peer.isClosedByServer).toBe(true);
  bench.front.completeAll();
  bench.loop.turn();
  bench.checkNoLeak();
});

test("server: the connection number is reused: not before its old requests have completed", () => {
  const bench = new NbdBench({ limits: { maxConnections: 1 } });
  const first = bench.opened();
  first.send(request({ command: Command.read, bytes: 4096 }));
  bench.loop.turn();
  first.close();
  bench.loop.turns(2);
  const refused = bench.peer();
  expect([refused.isClosedByServer, refused.take().length]).toEqual([true, 0]);
  bench.front.complete();
  bench.loop.turns(2);
  const second = bench.opened();
  second.send(request({ command: Command.read, bytes: 1, cookie: 5 }));
  bench.loop.turn();
  bench.front.complete();
  bench.loop.turn();
  expect(parseReplies(second.take(), () => 1).map((reply) => reply.cookie)).toEqual([5]);
  bench.finish(second);
});

test("server: all places taken by handshakes: the oldest goes, whoever is through stays", () => {
  const bench = new NbdBench({ limits: { maxConnections: 3 } });
  const through = bench.opened();
  const [first, second] = [bench.peer(), bench.peer()];
  const next = bench.opened();
  expect([first, second, next].map((peer) => peer.isClosedByServer)).toEqual([true, false, false]);
  const last = bench.opened();
  expect(second.isClosedByServer).toBe(true);
  const refused = bench.peer();
  expect([refused.isClosedByServer, refused.take().length]).toEqual([true, 0]);
  for (const peer of [through, next, last]) {
    peer.send(request({ command: Command.flush, cookie: 7 }));
    bench.loop.turn();
    bench.front.complete();
    bench.loop.turn();
    expect(parseReplies(peer.take()).map((reply) => reply.cookie)).toEqual([7]);
  }
  for (const peer of [through, next, last]) peer.close();
  bench.loop.turns(2);
  bench.checkNoLeak();
});

test("server: a slow handshake: dropped after its time, an open connection is not", () => {
  const bench = new NbdBench();
  const opened = bench.opened();
  const slow = bench.peer();
  slow.send(CLIENT_FLAGS);
  bench.loop.turn();
  bench.loop.clock.advance(9_999);
  bench.loop.turn();
  expect(slow.isClosedByServer).toBe(false);
  bench.loop.clock.advance(1);
  bench.loop.turn();
  expect([slow.isClosedByServer, opened.isClosedByServer]).toEqual([true, false]);
  bench.finish(opened);
});

test("server: oversize option data: drained and refused below the cap, disconnected above", () => {
  const bench = new NbdBench();
  const peer = bench.peer();
  peer.take();
  peer.send(CLIENT_FLAGS, encodeOption(OptionCode.go, new Uint8Array(30_000)));
  peer.send(encodeOption(77, new Uint8Array(30_000)));
  bench.loop.turns(20);
  const reply = Buffer.from(peer.take());
  expect(reply.readUInt32BE(12)).toBe(0x80000009);
  expect(reply.readUInt32BE(20 + reply.readUInt32BE(16) + 12)).toBe(0x80000001);
  peer.send(encodeOption(77, new Uint8Array(10_000)));
  bench.loop.turns(3);
  expect(peer.isClosedByServer).toBe(true);
  bench.checkNoLeak();
});

test("server: no descriptors left: the listener rests and then goes on", () => {
  const bench = new NbdBench();
  bench.kernel.acceptErrno = EMFILE;
  bench.loop.turn();
  expect(bench.kernel.interestOf(bench.listener)).toBe(0);
  bench.kernel.acceptErrno = 0;
  bench.loop.clock.advance(100);
  bench.loop.turn();
  const peer = bench.opened();
  bench.finish(peer);
});

test("server: a listener that cannot be opened: an error that names it", () => {
  const bench = new NbdBench();
  bench.kernel.listenErrno = 98;
  const result = bench.server.listen({ kind: "tcp", host: "127.0.0.1", port: 10_809 }, 0);
  expect(result).toEqual({
    ok: false,
    error: {
      kind: "io",
      code: "nbd-address-taken",
      detail: expect.stringMatching(/^cannot listen on 127\.0\.0\.1:10809: EADDRINUSE: another/),
    },
  });
  bench.kernel.listenErrno = 0;
  const second = bench.server.listen({ kind: "tcp", host: "127.0.0.1", port: 0 }, 0);
  expect(second).toEqual({ ok: true, value: { kind: "tcp", host: "127.0.0.1", port: 10_809 } });
});
