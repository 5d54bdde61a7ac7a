/**
 * Goal: TRIM, WRITE_ZEROES and BLOCK_STATUS reach the array as the client meant them, with their
 * flags and of any length, and what the array says of its allocation comes back as extents.
 * Method: the whole server over a scripted socket kernel and an array front that completes when the
 * test says so; block status against a list of blocks, for every range of a small array.
 */
import { expect, test } from "bun:test";
import { FrontFlag, FrontOp } from "../../../src/array/front.ts";
import { EINVAL, EOPNOTSUPP, EPERM, ESHUTDOWN } from "../../../src/base/errno.ts";
import { GIB, KIB, MIB } from "../../../src/base/units.ts";
import {
  Command,
  CommandFlag,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
} from "../../../src/nbd/wire-format.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { CLIENT_FLAGS, errorsOf, NbdBench, request } from "../../helpers/nbd-bench.ts";

const { fua, noHole, fastZero, requestOne } = CommandFlag;

test("zeroes: every set of flags: the array gets its own, and the range as it was sent", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  for (let bits = 0; bits < 8; bits += 1) {
    let flags = (bits & 1) === 0 ? 0 : fua;
    if ((bits & 2) !== 0) flags |= noHole;
    if ((bits & 4) !== 0) flags |= fastZero;
    peer.send(request({ command: Command.writeZeroes, offset: 4097, bytes: 70_001, flags }));
    bench.loop.turns(2);
    expect(bench.front.pending).toMatchObject([
      { op: FrontOp.writeZeroes, offset: 4097, bytes: 70_001, flags: bits },
    ]);
    bench.front.complete();
    bench.loop.turn();
    expect(errorsOf(peer)).toEqual([0]);
  }
  expect(FrontFlag).toEqual({ fua: 1, noHole: 2, fastZero: 4 });
  bench.finish(peer);
});

test("trim: with and without FUA: handed on, and no payload memory is taken", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  peer.send(request({ command: Command.trim, offset: 512, bytes: 1024, flags: fua }));
  peer.send(request({ command: Command.trim, offset: 0, bytes: MIB }));
  bench.loop.turns(2);
  expect(bench.front.pending).toMatchObject([
    { op: FrontOp.trim, offset: 512, bytes: 1024, flags: FrontFlag.fua },
    { op: FrontOp.trim, offset: 0, bytes: MIB, flags: 0 },
  ]);
  expect(bench.pool.freeBytes).toBe(bench.pool.totalBytes);
  bench.front.completeAll();
  bench.loop.turn();
  expect(errorsOf(peer)).toEqual([0, 0]);
  bench.finish(peer);
});

test("zeroes: no bytes: success without the array", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  peer.send(request({ command: Command.writeZeroes, offset: MIB }));
  peer.send(request({ command: Command.trim, offset: MIB }));
  bench.loop.turns(2);
  expect(errorsOf(peer)).toEqual([0, 0]);
  expect(bench.front.submitted).toBe(0);
  bench.finish(peer);
});

test("zeroes: longer than a write may be: as one request", () => {
  const bench = new NbdBench({ limits: { maxRequestBytes: 128 * KIB } });
  const peer = bench.opened();
  peer.send(request({ command: Command.writeZeroes, bytes: MIB }));
  bench.loop.turns(2);
  expect(bench.front.pending).toMatchObject([{ bytes: MIB }]);
  bench.front.data.fill(1);
  bench.front.complete();
  bench.loop.turn();
  expect(errorsOf(peer)).toEqual([0]);
  expect(bench.front.data.every((byte) => byte === 0)).toBe(true);
  bench.finish(peer);
});

test("zeroes: the array says not fast, read-only, stopping: the error, and it goes on", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  for (const status of [EOPNOTSUPP, EPERM, ESHUTDOWN]) {
    peer.send(request({ command: Command.writeZeroes, bytes: 4096, flags: fastZero }));
    bench.loop.turns(2);
    bench.front.complete(0, status);
    bench.loop.turn();
    expect(errorsOf(peer)).toEqual([status]);
  }
  bench.front.isReadOnly = true;
  peer.send(request({ command: Command.trim, bytes: 4096 }));
  peer.send(request({ command: Command.writeZeroes, bytes: 4096 }));
  bench.loop.turns(2);
  expect(errorsOf(peer)).toEqual([EPERM, EPERM]);
  bench.finish(peer);
});

test("fast zeroing: not advertised: EINVAL, and zeroing works", () => {
  const bench = new NbdBench();
  bench.front.canTrim = false;
  const peer = bench.opened();
  // What was advertised counts, not what is possible by now.
  bench.front.canTrim = true;
  peer.send(request({ command: Command.writeZeroes, bytes: 4096, flags: fastZero }));
  peer.send(request({ command: Command.writeZeroes, bytes: 4096 }));
  bench.loop.turns(2);
  bench.front.completeAll();
  bench.loop.turn();
  expect(errorsOf(peer)).toEqual([EINVAL, 0]);
  bench.finish(peer);
});

test("zeroes: the client hangs up with one in the array: all is given back when it ends", () => {
  const bench = new NbdBench();
  const peer = bench.opened();
  peer.send(request({ command: Command.writeZeroes, bytes: MIB }));
  bench.loop.turns(2);
  peer.close();
  bench.loop.turns(2);
  bench.front.complete();
  bench.loop.turns(2);
  bench.checkNoLeak();
});

/** A peer that has set the context base:allocation. */
function withContext(bench: NbdBench): FakePeer {
  const peer = bench.peer();
  peer.take();
  const name = new TextEncoder().encode("base:allocation");
  const query = Buffer.from([0, 0, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, name.length, ...name]);
  peer.send(CLIENT_FLAGS, encodeOption(OptionCode.structuredReply, new Uint8Array(0)));
  peer.send(encodeOption(OptionCode.setMetaContext, query));
  peer.send(encodeOption(OptionCode.go, encodeInfoRequest("a", [])));
  bench.loop.turns(4);
  peer.take();
  return peer;
}

/** [bytes, state] of each extent in the one chunk of a block status reply. */
function extents(peer: FakePeer): [number, number][] {
  const bytes = peer.take();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  expect([view.getUint32(0), view.getUint32(4)]).toEqual([0x668e33ef, 0x0001_0005]);
  expect([view.getUint32(16), view.getUint32(20)]).toEqual([bytes.length - 20, 1]);
  const list: [number, number][] = [];
  for (let at = 24; at < bytes.length; at += 8) {
    list.push([view.getUint32(at), view.getUint32(at + 4)]);
  }
  return list;
}

/** What the extents of [offset, offset + bytes) are, block by block. */
function expected(states: readonly number[], block: number, offset: number, bytes: number) {
  const list: [number, number][] = [];
  for (let at = offset; at < offset + bytes; ) {
    const end = Math.min(offset + bytes, (Math.floor(at / block) + 1) * block);
    const state = states[Math.floor(at / block)] ?? 0;
    const last = list.at(-1);
    if (last !== undefined && last[1] === state) last[0] += end - at;
    else list.push([end - at, state]);
    at = end;
  }
  return list;
}

test("block status: every range of an array in blocks: neighbours alike are one extent", () => {
  const bench = new NbdBench({ sizeBytes: 8 * 4096 });
  const { front } = bench;
  front.statusBlockBytes = 4096;
  front.allocation.push(3, 3, 0, 2, 2, 3, 0, 0);
  const peer = withContext(bench);
  const edges = [0, 1, 4095, 4096, 4097, 8192, 12_288, 16_000, 20_480, 28_672, 32_767, 32_768];
  for (const offset of edges) {
    for (const end of edges) {
      if (end <= offset) continue;
      const bytes = end - offset;
      const all = expected(front.allocation, 4096, offset, bytes);
      peer.send(request({ command: Command.blockStatus, offset, bytes }));
      bench.loop.turns(2);
      expect(extents(peer)).toEqual(all);
      peer.send(request({ command: Command.blockStatus, offset, bytes, flags: requestOne }));
      bench.loop.turns(2);
      expect(extents(peer)).toEqual([all[0]!]);
    }
  }
  bench.finish(peer);
});

test("block status: more extents than one reply holds: the first of them", () => {
  const blockBytes = 4;
  const bench = new NbdBench({ sizeBytes: 64 * KIB });
  const { front } = bench;
  front.statusBlockBytes = blockBytes;
  for (let index = 0; index < 10_000; index += 1) front.allocation.push((index % 2) * 3);
  const peer = withContext(bench);
  peer.send(request({ command: Command.blockStatus, bytes: 40_000 }));
  bench.loop.turns(2);
  const list = extents(peer);
  expect(list.length).toBe(8192);
  expect(list.slice(0, 2)).toEqual([
    [4, 0],
    [4, 3],
  ]);
  bench.finish(peer);
});

test("block status: no payload memory for a list: it waits, one extent does not", () => {
  const bench = new NbdBench();
  bench.front.allocation.push(3, 0);
  const peer = withContext(bench);
  const taken: number[] = [];
  const take = () => bench.pool.allocate(1) || bench.pool.allocateReserved(1);
  for (let run = take(); run !== 0; run = take()) taken.push(run);
  peer.send(request({ command: Command.blockStatus, bytes: MIB, flags: requestOne }));
  peer.send(request({ command: Command.blockStatus, bytes: MIB }));
  bench.loop.turns(3);
  expect(extents(peer)).toEqual([[65_536, 3]]);
  for (const run of taken) bench.pool.free(run, 1);
  bench.loop.turns(3);
  expect(extents(peer)).toEqual([
    [65_536, 3],
    [MIB - 65_536, 0],
  ]);
  bench.finish(peer);
});

test("block status: up to 4 GiB in one request: EINVAL beyond the end of the array", () => {
  const bench = new NbdBench();
  const peer = withContext(bench);
  peer.send(request({ command: Command.blockStatus, bytes: 4 * GIB - 1 }));
  bench.loop.turns(2);
  expect(Buffer.from(peer.take()).toString("hex")).toEndWith("00000016" + "0000");
  bench.finish(peer);
});
