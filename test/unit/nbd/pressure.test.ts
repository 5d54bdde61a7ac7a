/**
 * Goal: no client can take more than its share, stop another for good, or make the server hold
 * more than its limits; and exports change and end without losing a request.
 * Method: the server over fakes, with a small pool; time is moved by hand.
 */
import { expect, test } from "bun:test";
import { EPERM, ESHUTDOWN } from "../../../src/base/errno.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { Command } from "../../../src/nbd/wire-format.ts";
import { FakeArrayFront } from "../../helpers/fake-array-front.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { CLIENT_FLAGS, NbdBench, parseReplies, request } from "../../helpers/nbd-bench.ts";

const SLAB = 64 * KIB;

function read(bytes: number, cookie = 1): Uint8Array {
  return request({ command: Command.read, bytes, cookie });
}

function disconnect(bench: NbdBench, ...peers: FakePeer[]): void {
  for (const peer of peers) peer.send(request({ command: Command.disconnect }));
  bench.loop.turns(4);
  bench.checkNoLeak();
}

/** Completes what is under way and turns, until nothing is left to do. */
function drain(bench: NbdBench): void {
  for (let turn = 0; turn < 200; turn += 1) {
    bench.front.completeAll();
    bench.loop.turn();
  }
}

test("pressure: more requests than a connection may have: the rest waits in the socket", () => {
  const bench = new NbdBench({ limits: { maxRequestsPerConnection: 4 } });
  const peer = bench.opened();
  const all = Array.from({ length: 700 }, (_, cookie) => request({ command: 3, cookie }));
  for (const one of all) peer.send(one);
  bench.loop.turns(10);
  expect(bench.front.pending.length).toBe(4);
  expect(peer.hasUnread).toBe(true);
  expect(bench.kernel.interestOf(peer.fd)).toBe(0);
  bench.front.complete();
  bench.loop.turns(2);
  expect(bench.front.pending.length).toBe(4);
  for (let turn = 0; turn < 1000; turn += 1) {
    bench.front.completeAll();
    bench.loop.turn();
  }
  const cookies = parseReplies(peer.take()).map((reply) => reply.cookie);
  expect(cookies).toEqual(all.map((_, cookie) => cookie));
  disconnect(bench, peer);
});

test("pressure: more payload than a connection may hold: it waits, a large request passes", () => {
  const bench = new NbdBench({ limits: { maxPayloadBytesPerConnection: 2 * SLAB } });
  const peer = bench.opened();
  peer.send(read(SLAB, 1), read(SLAB, 2), read(SLAB, 3), read(3 * SLAB, 4));
  bench.loop.turns(8);
  expect(bench.front.pending.length).toBe(2);
  bench.front.complete();
  bench.loop.turn();
  expect(bench.front.pending.length).toBe(2);
  drain(bench);
  const replies = parseReplies(peer.take(), (cookie) => (cookie === 4 ? 3 : 1) * SLAB);
  expect(replies.map((reply) => reply.cookie)).toEqual([1, 2, 3, 4]);
  disconnect(bench, peer);
});

test("pressure: a dry pool: a large request is served while small ones keep coming", () => {
  const limits = { freePayloadShare: 0 };
  const bench = new NbdBench({ limits, poolBytes: 16 * SLAB });
  const greedy = [bench.opened(), bench.opened()];
  const large = bench.opened();
  for (const peer of greedy) for (let count = 0; count < 100; count += 1) peer.send(read(SLAB));
  bench.loop.turns(200);
  expect(bench.pool.freeBytes).toBe(0);
  large.send(read(8 * SLAB));
  bench.loop.turns(2);
  let turns = 0;
  while (!bench.front.pending.some((entry) => entry.bytes === 8 * SLAB)) {
    // One slab is freed per turn, which the small requests would take at once if they could.
    bench.front.complete();
    bench.loop.turn();
    turns += 1;
    expect(turns).toBeLessThan(40);
  }
  drain(bench);
  for (const peer of greedy) expect(parseReplies(peer.take(), () => SLAB).length).toBe(100);
  expect(parseReplies(large.take(), () => 8 * SLAB).length).toBe(1);
  disconnect(bench, ...greedy, large);
});

test("pressure: several that take all they can get: the next one has memory at once", () => {
  const limits = { maxPayloadBytesPerConnection: 32 * SLAB };
  const bench = new NbdBench({ limits, poolBytes: 64 * SLAB });
  const greedy = Array.from({ length: 5 }, () => bench.opened());
  for (const peer of greedy) {
    peer.windowBytes = 0;
    for (let count = 0; count < 100; count += 1) peer.send(read(SLAB));
    drain(bench);
  }
  // Half for the first, as it was alone; a fifth of what was left for each of the others.
  expect(bench.pool.freeBytes).toBe(14 * SLAB);
  const next = bench.opened();
  next.send(read(2 * SLAB));
  bench.loop.turns(2);
  bench.front.complete();
  bench.loop.turn();
  expect(parseReplies(next.take(), () => 2 * SLAB).length).toBe(1);
  for (const peer of greedy) peer.windowBytes = Number.POSITIVE_INFINITY;
  drain(bench);
  for (const peer of greedy) expect(parseReplies(peer.take(), () => SLAB).length).toBe(100);
  disconnect(bench, ...greedy, next);
});

test("pressure: two clients on a pool of one slab: served in turn", () => {
  const bench = new NbdBench({ poolBytes: 2 * SLAB });
  const peers = [bench.opened(), bench.opened()];
  for (const [index, peer] of peers.entries()) {
    for (let count = 0; count < 20; count += 1) {
      peer.send(request({ command: Command.read, offset: index * 4096, bytes: 2 * KIB }));
    }
  }
  bench.loop.turns(50);
  const order: number[] = [];
  while (bench.front.pending.length > 0) {
    order.push(bench.front.pending[0]!.offset / 4096);
    bench.front.complete();
    bench.loop.turns(2);
  }
  expect(order.length).toBe(40);
  // After the first grab neither is ever more than two ahead of the other.
  let ahead = 0;
  for (const index of order.slice(2)) {
    ahead += index === 0 ? 1 : -1;
    expect(Math.abs(ahead)).toBeLessThanOrEqual(3);
  }
  disconnect(bench, ...peers);
});

test("pressure: a slow reader: what it may pin is bounded, and it is left alone when alone", () => {
  const bench = new NbdBench({ limits: { maxPayloadBytesPerConnection: 4 * SLAB } });
  const slow = bench.opened();
  slow.windowBytes = 0;
  for (let count = 0; count < 50; count += 1) slow.send(read(SLAB));
  drain(bench);
  expect(bench.pool.totalBytes - bench.pool.freeBytes).toBe(4 * SLAB);
  bench.loop.clock.advance(3_600_000);
  drain(bench);
  expect(slow.isClosedByServer).toBe(false);
  slow.windowBytes = Number.POSITIVE_INFINITY;
  drain(bench);
  expect(parseReplies(slow.take(), () => SLAB).length).toBe(50);
  disconnect(bench, slow);
});

test("pressure: a slow reader waits for what it holds itself: kept", () => {
  const bench = new NbdBench({ poolBytes: 4 * SLAB });
  const slow = bench.opened();
  slow.windowBytes = 0;
  for (let count = 0; count < 10; count += 1) slow.send(read(SLAB));
  drain(bench);
  expect(bench.server.gate.waiting).toBe(1);
  for (let period = 0; period < 5; period += 1) {
    bench.loop.clock.advance(10_000);
    bench.loop.turns(2);
  }
  expect(slow.isClosedByServer).toBe(false);
  slow.windowBytes = Number.POSITIVE_INFINITY;
  drain(bench);
  expect(parseReplies(slow.take(), () => SLAB).length).toBe(10);
  disconnect(bench, slow);
});

for (const culprit of ["does not read", "does not send"] as const) {
  test(`pressure: a client ${culprit} while others wait: dropped in time`, () => {
    const bench = new NbdBench({ poolBytes: 8 * SLAB });
    const stalled = bench.opened();
    if (culprit === "does not read") {
      stalled.windowBytes = 100;
      stalled.send(read(3 * SLAB), read(2 * SLAB));
    } else {
      const header = request({ command: Command.write, offset: 1, bytes: 4 * SLAB });
      stalled.send(header, new Uint8Array(100_000));
    }
    drain(bench);
    expect(bench.pool.freeBytes).toBe(3 * SLAB);
    const waiting = bench.opened();
    waiting.send(read(4 * SLAB));
    bench.loop.turns(2);
    expect(bench.server.gate.waiting).toBe(1);
    bench.loop.clock.advance(9_999);
    bench.loop.turn();
    expect(stalled.isClosedByServer).toBe(false);
    bench.loop.clock.advance(1);
    bench.loop.turns(2);
    expect(stalled.isClosedByServer).toBe(true);
    drain(bench);
    expect(parseReplies(waiting.take(), () => 4 * SLAB).length).toBe(1);
    disconnect(bench, waiting);
  });
}

test("pressure: a slow client that moves while others wait: kept", () => {
  const bench = new NbdBench({ poolBytes: 8 * SLAB, limits: { minStallBytes: 1000 } });
  const slow = bench.opened();
  slow.windowBytes = 100;
  slow.send(read(4 * SLAB), read(4 * SLAB));
  drain(bench);
  const waiting = bench.opened();
  waiting.send(read(2 * SLAB));
  bench.loop.turns(2);
  expect(bench.server.gate.waiting).toBe(1);
  for (let period = 0; period < 5; period += 1) {
    slow.windowBytes = 1000;
    bench.loop.turn();
    bench.loop.clock.advance(10_000);
    bench.loop.turn();
    expect(slow.isClosedByServer).toBe(false);
  }
  slow.windowBytes = Number.POSITIVE_INFINITY;
  drain(bench);
  disconnect(bench, slow, waiting);
});

test("pressure: a client leaves while it waits for the pool: the next one goes on", () => {
  const bench = new NbdBench({ poolBytes: 4 * SLAB });
  const [holder, leaver, next] = [bench.opened(), bench.opened(), bench.opened()];
  holder.send(read(2 * SLAB));
  bench.loop.turn();
  leaver.send(request({ command: Command.read, offset: 1, bytes: 2 * SLAB }));
  bench.loop.turn();
  next.send(read(SLAB));
  bench.loop.turn();
  expect(bench.server.gate.waiting).toBe(2);
  leaver.close();
  bench.loop.turns(2);
  expect(bench.front.pending.map((entry) => entry.bytes)).toEqual([2 * SLAB, SLAB]);
  drain(bench);
  disconnect(bench, holder, next);
});

test("pool: barely the size of the largest request: the limit is lowered, odd offsets fit", () => {
  const bench = new NbdBench({ poolBytes: 16 * SLAB });
  expect(bench.server.maxRequestBytes).toBe(8 * SLAB);
  const peer = bench.opened();
  peer.send(request({ command: Command.read, offset: 4095, bytes: 8 * SLAB }));
  bench.loop.turns(2);
  drain(bench);
  expect(parseReplies(peer.take(), () => 8 * SLAB).length).toBe(1);
  disconnect(bench, peer);
});

// Exports ---------------------------------------------------------------------------------------

function otherFront(bench: NbdBench): FakeArrayFront {
  return new FakeArrayFront({ memory: bench.memory, sizeBytes: MIB });
}

function setFront(bench: NbdBench, front: FakeArrayFront | null, readOnly = false): void {
  const settings = { name: "a", array: "md0", front, readOnly };
  expect(bench.server.setExport({ ...settings, force: true }).ok).toBe(true);
}

test("export: the array stops: requests under way finish, later ones are ESHUTDOWN", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const flush = request({ command: Command.flush, cookie: 2 });
  peer.send(read(4096), request({ command: Command.write, bytes: 100_000, cookie: 3 }));
  bench.loop.turns(3);
  setFront(bench, null);
  peer.send(new Uint8Array(100_000), flush, read(1, 4), read(0, 5));
  bench.loop.turns(10);
  const replies = parseReplies(peer.take());
  expect(replies.map(({ error, cookie }) => [error, cookie])).toEqual([
    [ESHUTDOWN, 3],
    [ESHUTDOWN, 2],
    [ESHUTDOWN, 4],
    [ESHUTDOWN, 5],
  ]);
  expect(bench.front.clients.size).toBe(1);
  bench.front.complete();
  bench.loop.turn();
  expect(bench.front.clients.size).toBe(0);
  expect(parseReplies(peer.take(), () => 4096).length).toBe(1);
  const late = bench.peer();
  late.take();
  late.send(
    CLIENT_FLAGS,
    Buffer.from("49484156454f50540000000700000007000000016100" + "00", "hex"),
  );
  bench.loop.turns(3);
  expect(Buffer.from(late.take()).readUInt32BE(12)).toBe(0x80000006);
  late.close();
  disconnect(bench, peer);
});

test("export: the array starts again: new requests wait for those of the old front", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const second = otherFront(bench);
  peer.send(read(4096, 1));
  bench.loop.turn();
  setFront(bench, null);
  setFront(bench, second);
  peer.send(request({ command: Command.flush, cookie: 4 }));
  bench.loop.turns(2);
  expect(second.pending.length).toBe(0);
  peer.send(request({ command: Command.write, bytes: 1, cookie: 2 }), new Uint8Array([7]));
  peer.send(read(1, 3));
  bench.loop.turns(5);
  expect(second.pending.length).toBe(0);
  bench.front.complete();
  bench.loop.turns(6);
  expect(bench.front.clients.size).toBe(0);
  expect(second.pending.length).toBe(3);
  second.completeAll();
  bench.loop.turns(2);
  expect(second.data[0]).toBe(7);
  const replies = parseReplies(peer.take(), (cookie) => [0, 4096, 0, 1, 0][cookie]!);
  expect(replies.map((reply) => reply.cookie)).toEqual([1, 4, 2, 3]);
  disconnect(bench, peer);
});

test("export: a write whose payload ends while fronts change: goes to the new one, once", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const second = otherFront(bench);
  peer.send(read(1, 1), request({ command: Command.write, bytes: 4, cookie: 2 }));
  bench.loop.turns(2);
  setFront(bench, second);
  peer.send(new Uint8Array([1, 2, 3, 4]));
  bench.loop.turns(3);
  expect([bench.front.submitted, second.submitted]).toEqual([1, 0]);
  bench.front.complete();
  bench.loop.turns(2);
  expect(second.submitted).toBe(1);
  second.completeAll();
  bench.loop.turn();
  expect([...second.data.slice(0, 5)]).toEqual([1, 2, 3, 4, 0]);
  peer.take();
  disconnect(bench, peer);
});

test("export: read-only: counts whom it takes writing from, not those that opened it read-only", () => {
  const bench = new NbdBench({ readOnly: true });
  const reader = bench.opened();
  const wanted = { name: "a", array: "md0", front: bench.front };
  expect(bench.server.setExport({ ...wanted, readOnly: false }).ok).toBe(true);
  expect(bench.server.setExport({ ...wanted, readOnly: true }).ok).toBe(true);
  expect(bench.server.setExport({ ...wanted, readOnly: false }).ok).toBe(true);
  const writer = bench.opened();
  expect(bench.server.setExport({ ...wanted, readOnly: true })).toMatchObject({
    error: { code: "export-in-use", detail: expect.stringMatching(/^1 client of .* may write/) },
  });
  // Those that would be disconnected are all of them.
  expect(bench.server.setExport({ ...wanted, array: "md1", readOnly: true })).toMatchObject({
    error: { detail: expect.stringMatching(/^2 clients of .* have another array/) },
  });
  expect(bench.server.removeExport("a", { force: false })).toMatchObject({
    error: { detail: expect.stringMatching(/^2 clients of export a would be disconnected/) },
  });
  reader.close();
  disconnect(bench, writer);
});

test("export: read-only under a client: refused; forced: writes are EPERM; other arrays refused", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  const wanted = { name: "a", array: "md0", front: bench.front, readOnly: true };
  expect(bench.server.setExport(wanted)).toMatchObject({
    error: { code: "export-in-use", detail: expect.stringContaining("1 client of export a") },
  });
  setFront(bench, bench.front, true);
  peer.send(request({ command: Command.write, bytes: 1 }), new Uint8Array(1));
  bench.loop.turns(3);
  expect(parseReplies(peer.take())[0]!.error).toBe(EPERM);
  setFront(bench, bench.front, false);
  bench.front.isReadOnly = true;
  peer.send(request({ command: Command.write, bytes: 1 }), new Uint8Array(1));
  bench.loop.turns(3);
  expect(parseReplies(peer.take())[0]!.error).toBe(EPERM);
  expect(bench.front.clients.size).toBe(1);
  const front = otherFront(bench);
  const other = bench.server.setExport({ name: "a", array: "md1", front, readOnly: false });
  expect(!other.ok && other.error.kind).toBe("conflict");
  disconnect(bench, peer);
  const alone = bench.server.setExport({ name: "a", array: "md1", front, readOnly: false });
  expect(alone).toEqual({
    ok: true,
    value: { name: "a", array: "md1", readOnly: false, connections: 0, isServed: true },
  });
});

test("export: removed: refused while connected, unless forced", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  peer.send(read(4096));
  bench.loop.turn();
  expect(bench.server.exports()).toEqual([
    { name: "a", array: "md0", readOnly: false, connections: 1, isServed: true },
  ]);
  const refused = bench.server.removeExport("a", { force: false });
  expect(!refused.ok && refused.error.kind).toBe("conflict");
  expect(bench.server.removeExport("a", { force: true }).ok).toBe(true);
  expect([peer.isClosedByServer, bench.server.exports().length]).toEqual([true, 0]);
  const unknown = bench.server.removeExport("a", { force: true });
  expect(!unknown.ok && unknown.error.kind).toBe("not-found");
  bench.front.complete();
  bench.loop.turns(2);
  expect(bench.front.clients.size).toBe(0);
  bench.checkNoLeak();
});

test("export: names that NBD cannot carry: refused", () => {
  const bench = new NbdBench();
  for (const name of ["", "x".repeat(4097)]) {
    const settings = { name, array: "md0", front: null, readOnly: false };
    const result = bench.server.setExport(settings);
    expect(!result.ok && result.error.kind).toBe("invalid");
  }
});

// Shutdown --------------------------------------------------------------------------------------

test("shutdown: requests under way are answered, later ones ESHUTDOWN, then all ends", async () => {
  const bench = new NbdBench({ poolBytes: 4 * SLAB });
  const [busy, idle, waiter] = [bench.opened(), bench.opened(), bench.opened()];
  busy.send(read(2 * SLAB));
  bench.loop.turn();
  waiter.send(read(2 * SLAB), read(SLAB), read(SLAB));
  bench.loop.turns(4);
  let isDone = false;
  const done = bench.server.shutdown().then(() => {
    isDone = true;
  });
  bench.loop.turns(2);
  expect(bench.kernel.openFds.has(bench.listener)).toBe(false);
  idle.send(read(1));
  bench.loop.turns(2);
  expect(parseReplies(idle.take())[0]!.error).toBe(ESHUTDOWN);
  expect(busy.isClosedByServer).toBe(false);
  await Promise.resolve();
  expect(isDone).toBe(false);
  bench.front.completeAll();
  bench.loop.turns(3);
  await done;
  expect(parseReplies(busy.take(), () => 2 * SLAB).length).toBe(1);
  const errors = parseReplies(waiter.take(), () => 2 * SLAB).map((reply) => reply.error);
  expect([...errors].sort((left, right) => left - right)).toEqual([0, ESHUTDOWN, ESHUTDOWN]);
  expect([busy, idle, waiter].every((peer) => peer.isClosedByServer)).toBe(true);
  expect(bench.front.clients.size).toBe(0);
  bench.checkNoLeak();
});

test("shutdown: a client that does not read: is not waited for longer than the limit", async () => {
  const bench = new NbdBench();
  const slow = bench.opened();
  slow.windowBytes = 1;
  slow.send(read(4096));
  bench.loop.turn();
  bench.front.completeAll();
  bench.loop.turns(2);
  const done = bench.server.shutdown();
  bench.loop.turns(3);
  expect(slow.isClosedByServer).toBe(false);
  bench.loop.clock.advance(5_000);
  bench.loop.turns(2);
  await done;
  expect(slow.isClosedByServer).toBe(true);
  bench.checkNoLeak();
});

test("shutdown: with nothing under way, and again: ends in a turn", async () => {
  const bench = new NbdBench();
  const negotiating = bench.peer();
  const done = [bench.server.shutdown(), bench.server.shutdown()];
  bench.loop.turn();
  await Promise.all(done);
  expect(negotiating.isClosedByServer).toBe(true);
  const late = bench.server.listen({ kind: "unix", path: "x" }, 0o600);
  expect(!late.ok && late.error.kind).toBe("stopping");
  bench.checkNoLeak();
});
