/**
 * Goal: over TCP nobody opens, or sees in a list, an export that is not for them, by any option;
 * who may no longer is disconnected, and nobody else.
 * Method: the rule enumerated; then a server with a Unix and a TCP listener, and every option.
 */
import { expect, test } from "bun:test";
import type { ExportAllow, NbdCaller } from "../../../src/array/protocol.ts";
import { assert } from "../../../src/base/assert.ts";
import { ExportAccess } from "../../../src/nbd/export-access.ts";
import {
  encodeInfoRequest,
  encodeOption,
  GREETING_BYTES,
  OptionCode,
  OptionReply,
} from "../../../src/nbd/wire-format.ts";
import type { FakePeer } from "../../helpers/fake-socket-kernel.ts";
import { CLIENT_FLAGS, NbdBench } from "../../helpers/nbd-bench.ts";
import { contextQuery } from "../../helpers/raw-nbd.ts";

const NEAR: NbdCaller = { address: "10.1.2.3", certificates: [] };
const BACKUP: NbdCaller = { address: "192.0.2.7", certificates: ["backup", "b.example"] };
const UNKNOWN: NbdCaller = { address: "", certificates: [] };

test("export access: the lists that there are, and who is in each", () => {
  for (const [allow, near, backup, unknown] of [
    [null, true, true, true],
    [{}, true, true, true],
    [{ addresses: [] }, false, false, false],
    [{ certificates: [] }, false, false, false],
    [{ addresses: ["10.0.0.0/8"] }, true, false, false],
    [{ addresses: ["10.0.0.0/8", "192.0.2.7"] }, true, true, false],
    [{ addresses: ["::ffff:10.0.0.0/104"] }, true, false, false],
    [{ addresses: ["0.0.0.0/0", "::/0"] }, true, true, false],
    [{ addresses: ["no network"] }, false, false, false],
    [{ certificates: ["backup"] }, false, true, false],
    [{ certificates: ["b.example"] }, false, true, false],
    [{ certificates: ["Backup", "back", "backup "] }, false, false, false],
    [{ addresses: ["10.0.0.0/8"], certificates: ["backup"] }, false, false, false],
    [{ addresses: ["192.0.2.0/24"], certificates: ["x", "backup"] }, false, true, false],
  ] as const) {
    const access = new ExportAccess(allow);
    const admitted = [NEAR, BACKUP, UNKNOWN].map((caller) => access.admits(caller));
    expect([allow, ...admitted]).toEqual([allow, near, backup, unknown]);
    expect(access.admits(null)).toBe(true);
  }
});

const NOTHING = new Uint8Array(0);

class Scene {
  readonly bench = new NbdBench();
  private readonly tcp: number;

  constructor() {
    assert(this.bench.server.listen({ kind: "tcp", host: "0.0.0.0", port: 1 }, 0).ok, "it listens");
    this.tcp = this.bench.kernel.lastListener;
    this.allow("b", null);
  }

  allow(name: string, allow: ExportAllow | null): void {
    assert(this.put(name, allow, { force: true }).ok, "the export is changed");
    this.bench.loop.turns(4);
  }

  put(name: string, allow: ExportAllow | null, rest: { force?: boolean; readOnly?: boolean }) {
    return this.bench.server.setExport(this.settings(name, allow, rest));
  }

  settings(name: string, allow: ExportAllow | null, rest: { force?: boolean; readOnly?: boolean }) {
    return { name, array: "md0", front: this.bench.front, readOnly: false, allow, ...rest };
  }

  /** A client that has been greeted; `address` null: over the Unix socket. */
  come(address: string | null): FakePeer {
    const { kernel, loop, listener } = this.bench;
    const peer = kernel.connect(address === null ? listener : this.tcp, `${Math.random()}`);
    peer.address = address ?? "";
    loop.turns(2);
    assert(peer.take().length === GREETING_BYTES, "the server greets");
    peer.send(CLIENT_FLAGS);
    return peer;
  }

  /** Types of the replies to an option. */
  ask(peer: FakePeer, option: number, data: Uint8Array): number[] {
    peer.send(encodeOption(option, data));
    this.bench.loop.turns(4);
    const bytes = peer.take();
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const types: number[] = [];
    for (let at = 0; at < bytes.length; at += 20 + view.getUint32(at + 16)) {
      types.push(view.getUint32(at + 12));
    }
    return types;
  }

  open(address: string | null, name = "a"): FakePeer {
    const peer = this.come(address);
    const types = this.ask(peer, OptionCode.go, encodeInfoRequest(name, []));
    assert(types.at(-1) === OptionReply.ack, "it is opened");
    return peer;
  }
}

const FORBIDDEN = [OptionReply.errorPolicy];

test("export access: every option that names an export: ERR_POLICY, and the handshake goes on", () => {
  const scene = new Scene();
  scene.allow("a", { addresses: ["10.0.0.0/8", "2001:db8::/32"] });
  const request = encodeInfoRequest("a", []);
  for (const [address, isAllowed] of [
    ["10.1.2.3", true],
    ["2001:db8:0:0:0:0:0:1", true],
    ["0:0:0:0:0:ffff:a01:203", true],
    ["11.1.2.3", false],
    ["2001:db9:0:0:0:0:0:1", false],
    // A socket that tells no address is no Unix socket.
    ["", false],
    [null, true],
  ] as const) {
    const peer = scene.come(address);
    const refusals = [OptionCode.info, OptionCode.listMetaContext].map((option) => {
      const data = option === OptionCode.info ? request : contextQuery("a", []);
      return scene.ask(peer, option, data);
    });
    scene.ask(peer, OptionCode.structuredReply, NOTHING);
    refusals.push(
      scene.ask(peer, OptionCode.setMetaContext, contextQuery("a", ["base:allocation"])),
    );
    const listed = scene.ask(peer, OptionCode.list, NOTHING);
    expect([address, listed.length - 1]).toEqual([address, isAllowed ? 2 : 1]);
    refusals.push(scene.ask(peer, OptionCode.go, request));
    for (const types of refusals) {
      if (isAllowed) expect(types.at(-1)).toBe(OptionReply.ack);
      else expect(types).toEqual(FORBIDDEN);
    }
    if (isAllowed) continue;
    // The other export is still to be had.
    const types = scene.ask(peer, OptionCode.go, encodeInfoRequest("b", []));
    expect(types.at(-1)).toBe(OptionReply.ack);
  }
});

test("export access: EXPORT_NAME: hung up on who may not", () => {
  const scene = new Scene();
  scene.allow("a", { addresses: ["10.0.0.0/8"] });
  for (const [address, isAllowed] of [
    ["10.1.2.3", true],
    ["11.1.2.3", false],
    [null, true],
  ] as const) {
    const peer = scene.come(address);
    peer.send(encodeOption(OptionCode.exportName, new TextEncoder().encode("a")));
    scene.bench.loop.turns(4);
    expect([address, peer.take().length, peer.isClosedByServer]).toEqual([
      address,
      isAllowed ? 10 : 0,
      !isAllowed,
    ]);
  }
});

test("export access: one that waits for its array is refused at once, where it may not open it", () => {
  const bench = new NbdBench({ obstacleOf: () => ({ isPassing: true, reason: "it starts" }) });
  assert(bench.server.listen({ kind: "tcp", host: "0.0.0.0", port: 1 }, 0).ok, "it listens");
  const settings = { name: "late", array: "md1", front: null, readOnly: false };
  assert(bench.server.setExport({ ...settings, allow: { addresses: ["::1"] } }).ok, "it is put");
  const peer = bench.kernel.connect(bench.kernel.lastListener);
  peer.address = "10.1.2.3";
  peer.send(CLIENT_FLAGS, encodeOption(OptionCode.go, encodeInfoRequest("late", [])));
  bench.loop.turns(4);
  const reply = peer.take().slice(GREETING_BYTES);
  expect(new DataView(reply.buffer).getUint32(12)).toBe(OptionReply.errorPolicy);
});

test("export access: a change: who may no longer is disconnected, who still may stays", () => {
  const scene = new Scene();
  const near = scene.open("10.1.2.3");
  const far = scene.open("11.1.2.3");
  const local = scene.open(null);
  const other = scene.open("11.1.2.3", "b");
  const isClosed = () => [near, far, local, other].map((peer) => peer.isClosedByServer);
  scene.allow("a", { addresses: ["10.0.0.0/8", "11.0.0.0/8"] });
  expect(isClosed()).toEqual([false, false, false, false]);
  scene.allow("a", { addresses: ["10.0.0.0/8"] });
  expect(isClosed()).toEqual([false, true, false, false]);
  scene.allow("a", { certificates: ["backup"] });
  expect(isClosed()).toEqual([true, true, false, false]);
  scene.allow("a", { addresses: [] });
  expect(isClosed()).toEqual([true, true, false, false]);
  scene.allow("a", null);
  scene.open("11.1.2.3");
  expect(scene.bench.server.exports().map(({ connections }) => connections)).toEqual([2, 1]);
});

test("export access: a change that would cut clients off: refused with their number, unless forced", () => {
  const scene = new Scene();
  const { server } = scene.bench;
  const peers = ["10.1.2.3", "11.1.2.3", "11.1.2.4", null].map((address) => scene.open(address));
  const areClosed = () => peers.map((peer) => peer.isClosedByServer);
  const near = { addresses: ["10.0.0.0/8"] };
  const cut =
    "2 clients of export a may not open it any more, and would be disconnected: " +
    "disconnect them, or say force=true";
  const refused = { ok: false, error: { kind: "conflict", code: "export-in-use", detail: cut } };
  expect(server.foretellExport(scene.settings("a", near, {}))).toEqual(refused as never);
  expect(scene.put("a", near, {})).toEqual(refused as never);
  scene.bench.loop.turns(4);
  expect(areClosed()).toEqual([false, false, false, false]);
  // What is refused has changed nothing.
  scene.open("11.1.2.5").close();
  scene.bench.loop.turns(4);
  expect(scene.put("a", { addresses: ["10.0.0.0/8", "11.0.0.0/8"] }, {}).ok).toBe(true);
  expect(scene.put("a", near, { readOnly: true })).toMatchObject({
    error: {
      detail:
        "2 clients of export a may not open it any more, and would be disconnected; " +
        "2 clients of export a may write, which would be refused from now on: " +
        "disconnect them, or say force=true",
    },
  });
  expect(scene.put("a", near, { force: true })).toMatchObject({ value: { connections: 2 } });
  scene.bench.loop.turns(4);
  expect(areClosed()).toEqual([false, true, true, false]);
  expect(scene.put("a", { addresses: [] }, {})).toMatchObject({
    error: { detail: expect.stringMatching(/^1 client of .* disconnect it, or say force=true$/) },
  });
});

test("export access: an array that stops and starts again leaves its exports to whom they are", () => {
  const scene = new Scene();
  scene.allow("a", { addresses: ["10.0.0.0/8"] });
  scene.bench.server.serveArray("md0", null);
  scene.bench.server.serveArray("md0", scene.bench.front);
  scene.open("10.1.2.3");
  const peer = scene.come("11.1.2.3");
  expect(scene.ask(peer, OptionCode.go, encodeInfoRequest("a", []))).toEqual(FORBIDDEN);
});

test("export access: a client that was greeted elsewhere: by the names of its certificate", () => {
  const scene = new Scene();
  scene.allow("a", { certificates: ["backup"] });
  for (const [caller, isAllowed] of [
    [BACKUP, true],
    [NEAR, false],
  ] as const) {
    const peer = scene.bench.kernel.connect(scene.bench.listener);
    const fd = scene.bench.kernel.accept(scene.bench.listener);
    const greeted = { isSecure: true, isWithoutZeroes: true, peer: caller.address, caller };
    assert(scene.bench.server.adopt(fd, greeted).ok, "there is a place");
    const types = scene.ask(peer, OptionCode.go, encodeInfoRequest("a", []));
    expect(types.at(-1)).toBe(isAllowed ? OptionReply.ack : OptionReply.errorPolicy);
  }
});
