/**
 * Goal: no peer, however many connections it opens and however silent it is, keeps others out or
 * takes the descriptors that the rest of the process needs.
 * Method: the choice of who goes is enumerated over all orders of three peers; the server over the
 * scripted kernel meets floods of one peer and of many.
 */
import { expect, test } from "bun:test";
import { EMFILE, ENFILE } from "../../../src/base/errno.ts";
import { silentLog } from "../../../src/base/log.ts";
import { Admission, fittingConnections, type Place } from "../../../src/nbd/admission.ts";
import { DEFAULT_NBD_LIMITS } from "../../../src/nbd/limits.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { NbdBench } from "../../helpers/nbd-bench.ts";

function admission(descriptorLimit = 1_000_000): Admission<Place> {
  const limits = DEFAULT_NBD_LIMITS;
  return new Admission({ limits, descriptorLimit, clock: new ManualClock(), log: silentLog });
}

test("admission: every limit of descriptors: a third of what is left of 128, 4 to 256", () => {
  for (let limit = 0; limit < 2000; limit += 1) {
    const count = fittingConnections(256, limit);
    expect(count).toBeGreaterThanOrEqual(4);
    expect(count).toBeLessThanOrEqual(256);
    // Also where each of them comes over TLS, with a pair of sockets behind its own.
    if (count > 4) expect(count * 3 + 128).toBeLessThanOrEqual(limit);
    if (count < 256 && limit > 140) expect((count + 1) * 3 + 128).toBeGreaterThan(limit);
  }
});

test("admission: few descriptors: one peer still has half of the places at most", () => {
  const small = admission(256);
  expect(small.maxConnections).toBe(42);
  const places = Array.from({ length: 21 }, (_, serial) => ({
    ...{ hasSocket: true, isSilent: false, peer: "a", serial },
  }));
  expect(small.isWelcome("a", places.slice(1))).toBe(true);
  expect(small.isWelcome("a", places)).toBe(false);
  expect(small.isWelcome("b", places)).toBe(true);
  expect(small.isWelcome("", places)).toBe(true);
  // What has no socket any more costs its peer nothing.
  expect(small.isWelcome("a", [...places.slice(1), { ...places[0]!, hasSocket: false }])).toBe(
    true,
  );
});

test("admission: who goes: the longest silent of the peer that has most, in every order", () => {
  const names = ["a", "b", "c"];
  for (let code = 0; code < 3 ** 6; code += 1) {
    const places: Place[] = [];
    for (let serial = 0; serial < 6; serial += 1) {
      const peer = names[Math.floor(code / 3 ** serial) % 3]!;
      places.push({ hasSocket: true, isSilent: serial !== code % 7, peer, serial });
    }
    const silent = places.filter(({ isSilent }) => isSilent);
    const countOf = (peer: string): number => silent.filter((place) => place.peer === peer).length;
    const most = Math.max(...names.map(countOf));
    const expected = silent.find(({ peer }) => countOf(peer) === most);
    expect(admission().victim(places)).toBe(expected!);
    expect(admission().victim(places.toReversed())).toBe(expected!);
  }
  expect(admission().victim([])).toBeUndefined();
});

const closed = (peers: readonly FakePeer[]): number =>
  peers.filter(({ isClosedByServer }) => isClosedByServer).length;

test("server: one peer takes its share in transmission: others come, its next is closed", () => {
  const bench = new NbdBench({ limits: { maxConnections: 8, maxConnectionsPerPeer: 4 } });
  const hog = Array.from({ length: 4 }, () => bench.opened({ name: "hog" }));
  const more = [bench.peer("hog"), bench.peer("hog"), bench.peer("hog")];
  expect([closed(hog), closed(more)]).toEqual([0, 3]);
  const others = ["a", "b", "c", "d"].map((name) => bench.opened({ name }));
  expect(closed(others)).toBe(0);
  // All places are taken by clients that are through: nobody goes for a newcomer.
  const late = bench.peer("e");
  expect([late.isClosedByServer, closed([...hog, ...others])]).toEqual([true, 0]);
  const refused = bench.messages.filter((message) => message.includes("refused"));
  expect(refused).toEqual([
    "nbd connection refused: too many of this peer: hog",
    "nbd connection refused: too many of this peer: hog",
    "nbd connection refused: too many: e",
  ]);
  hog[0]!.close();
  bench.loop.turns(2);
  expect(bench.opened({ name: "hog" }).isClosedByServer).toBe(false);
});

test("server: a peer that only connects: meets itself, and no handshake of others ends", () => {
  const bench = new NbdBench({ limits: { maxConnections: 8, maxHandshakes: 3 } });
  const slow = bench.peer("slow");
  const flood = Array.from({ length: 20 }, () => bench.peer("flood"));
  expect([closed([slow]), closed(flood)]).toEqual([0, 18]);
  expect(bench.server.connectionCount).toBe(3);
  expect(bench.opened({ name: "good" }).isClosedByServer).toBe(false);
  expect(slow.isClosedByServer).toBe(false);
});

test("server: refusals: said at the first and then at each power of two, anew after a calm", () => {
  const bench = new NbdBench({ limits: { maxConnectionsPerPeer: 1 } });
  bench.opened({ name: "hog" });
  const said = () => bench.messages.filter((message) => message.includes("refused")).length;
  for (let count = 0; count < 1000; count += 1) bench.peer("hog");
  expect(said()).toBe(10);
  bench.loop.clock.advance(600_001);
  bench.peer("hog");
  expect(said()).toBe(11);
});

test("server: few descriptors: as many places as are left beside the reserve", () => {
  const bench = new NbdBench({ descriptorLimit: 128 + 3 * 5 });
  const peers = Array.from({ length: 5 }, () => bench.opened());
  const late = bench.peer();
  expect([closed(peers), late.isClosedByServer]).toEqual([0, true]);
});

for (const errno of [EMFILE, ENFILE]) {
  test(`server: accept says ${errno} for a minute: asked ten times a second, not more`, () => {
    const bench = new NbdBench();
    bench.kernel.acceptErrno = errno;
    const peer = bench.kernel.connect(bench.listener);
    const before = bench.kernel.acceptCalls;
    for (let count = 0; count < 6000; count += 1) {
      bench.loop.turn();
      bench.loop.clock.advance(10);
    }
    expect(bench.kernel.acceptCalls - before).toBeLessThanOrEqual(601);
    const said = bench.messages.filter((message) => message.includes("accept failed"));
    expect(said.length).toBe(10);
    bench.kernel.acceptErrno = 0;
    bench.loop.clock.advance(100);
    bench.loop.turns(4);
    expect(peer.take().length).toBeGreaterThan(0);
  });
}
