/**
 * Goal: the client says what the protocol asks for, keeps many requests apart, and turns every
 * kind of wrong or missing answer into an error value.
 * Method: against the real server over fakes, and against scripted bytes where the server would
 * never misbehave so.
 */
import { expect, test } from "bun:test";
import { ECONNRESET, EINVAL, EIO } from "../../../src/base/errno.ts";
import { MIB } from "../../../src/base/units.ts";
import { CLIENT_DEPTH, NbdClient, type NbdTransport } from "../../../src/nbd/client/client.ts";
import {
  encodeGreeting,
  encodeOptionReply,
  OptionCode,
  OptionReply,
  TransmissionFlag,
} from "../../../src/nbd/wire-format.ts";
import { NbdBench } from "../../helpers/nbd-bench.ts";

const NOTHING = new Uint8Array(0);

test("client: connect: size and flags are known; disconnect waits for the server", async () => {
  const bench = new NbdBench();
  const client = await bench.client();
  expect(client.sizeBytes).toBe(MIB);
  expect(client.flags & TransmissionFlag.canMultiConn).not.toBe(0);
  await bench.run(client.disconnect());
  await client.disconnect();
  bench.checkNoLeak();
});

test("client: more requests than its depth: all answered, never more under way", async () => {
  const bench = new NbdBench();
  const client = await bench.client();
  const writes = Array.from({ length: 200 }, (_, index) =>
    client.write(index * 1000, new Uint8Array(1000).fill(index)),
  );
  let most = 0;
  let turn = 0;
  const results = await bench.run(Promise.all(writes), () => {
    most = Math.max(most, bench.front.pending.length);
    turn += 1;
    if (turn < 200) return;
    if (bench.front.pending.length > 1) bench.front.complete(1);
    else if (bench.front.pending.length > 0) bench.front.complete();
  });
  expect(results.every((result) => result.ok)).toBe(true);
  expect(most).toBe(CLIENT_DEPTH);
  const read = await bench.run(client.read(999, 2), () => bench.front.completeAll());
  expect(read).toEqual({ ok: true, value: new Uint8Array([0, 1]) });
  const none = await bench.run(client.read(0, 0));
  expect(none).toEqual({ ok: true, value: NOTHING });
});

test("client: errors: the errno of the wire, and the connection goes on", async () => {
  const bench = new NbdBench();
  const client = await bench.client();
  expect(await bench.run(client.read(MIB, 1))).toEqual({ ok: false, error: EINVAL });
  const failed = await bench.run(client.read(0, 4096), () => {
    if (bench.front.pending.length > 0) bench.front.complete(0, EIO);
  });
  expect(failed).toEqual({ ok: false, error: EIO });
  const flushed = await bench.run(client.flush(), () => bench.front.completeAll());
  expect(flushed.ok).toBe(true);
});

test("client: the connection is lost: everything under way and later is ECONNRESET", async () => {
  const bench = new NbdBench();
  const client = await bench.client();
  const reads = Array.from({ length: CLIENT_DEPTH + 3 }, () => client.read(0, 512));
  bench.loop.turns(3);
  bench.server.removeExport("a", { force: true });
  const results = await bench.run(Promise.all(reads));
  for (const result of results) expect(result).toEqual({ ok: false, error: ECONNRESET });
  expect(await client.flush()).toEqual({ ok: false, error: ECONNRESET });
});

test("client: unknown export: refused with the server's message; list: the names", async () => {
  const bench = new NbdBench();
  const other = bench.kernel.connect(bench.listener).transport();
  bench.addDelivery(() => other.deliver());
  const refused = await bench.run(NbdClient.connect(other, { exportName: "b" }));
  expect(refused).toEqual({
    ok: false,
    error: {
      kind: "refused",
      reply: OptionReply.errorUnknown,
      detail: "there is no export of that name",
    },
  });
  const front = bench.front;
  bench.server.setExport({ name: "späth", array: "md0", front, readOnly: true });
  const lister = bench.kernel.connect(bench.listener).transport();
  bench.addDelivery(() => lister.deliver());
  const names = await bench.run(NbdClient.list(lister));
  expect(names).toEqual({ ok: true, value: ["a", "späth"] });
});

interface Script {
  readonly transport: NbdTransport;
  readonly written: Uint8Array[];
  isClosed: boolean;
}

function script(): Script {
  const written: Uint8Array[] = [];
  const made: Script = {
    isClosed: false,
    written,
    transport: {
      write: (bytes) => written.push(bytes.slice()),
      onData: () => {},
      onClose: () => {},
      close: () => {
        made.isClosed = true;
      },
    },
  };
  return made;
}

async function settle(): Promise<void> {
  for (let count = 0; count < 20; count += 1) await Promise.resolve();
}

test("client: wrong servers and hang-ups: errors, the transport is closed", async () => {
  const garbage = new Uint8Array(18).fill(65);
  const oldstyle = encodeGreeting();
  oldstyle[17] = 0;
  const badReply = encodeOptionReply(OptionCode.go, OptionReply.ack, NOTHING);
  badReply[0] = 1;
  const noSize = encodeOptionReply(OptionCode.go, OptionReply.ack, NOTHING);
  const cases: [Uint8Array[], string][] = [
    [[garbage], "protocol"],
    [[oldstyle], "protocol"],
    [[encodeGreeting(), badReply], "protocol"],
    [[encodeGreeting(), noSize], "protocol"],
    [[encodeGreeting().slice(0, 17)], "disconnected"],
    [[encodeGreeting(), noSize.slice(0, 19)], "disconnected"],
    [[], "disconnected"],
  ];
  for (const [chunks, kind] of cases) {
    const made = script();
    const result = NbdClient.connect(made.transport, { exportName: "a" });
    for (const chunk of chunks) {
      made.transport.onData(chunk);
      await settle();
    }
    made.transport.onClose();
    const answer = await result;
    expect(!answer.ok && answer.error.kind).toBe(kind as "protocol");
    expect(made.isClosed).toBe(true);
  }
});

/** A client that has connected to scripted bytes. */
async function scripted(): Promise<{ client: NbdClient; made: Script }> {
  const made = script();
  const connecting = NbdClient.connect(made.transport, { exportName: "a" });
  const info = new Uint8Array(12);
  info[8] = 1;
  const bytes = Buffer.concat([
    encodeGreeting(),
    encodeOptionReply(OptionCode.go, OptionReply.info, info),
    encodeOptionReply(OptionCode.go, OptionReply.ack, NOTHING),
  ]);
  for (const byte of bytes) made.transport.onData(new Uint8Array([byte]));
  const connected = await connecting;
  expect(connected.ok).toBe(true);
  if (!connected.ok) throw new Error("the client connects");
  return { client: connected.value, made };
}

test("client: replies that nobody asked for: the connection is given up", async () => {
  for (const reply of ["67446698000000000000000000000005", "00000000000000000000000000000000"]) {
    const { client, made } = await scripted();
    const reading = client.read(0, 4);
    made.transport.onData(Buffer.from(reply, "hex"));
    expect(await reading).toEqual({ ok: false, error: ECONNRESET });
    expect(made.isClosed).toBe(true);
  }
});

test("client: answers out of order and in pieces: each to its own request", async () => {
  const { client, made } = await scripted();
  const first = client.read(0, 3);
  const second = client.read(8, 2);
  const cookies = made.written.slice(-2).map((header) => Buffer.from(header).readUInt32BE(12));
  const reply = (cookie: number, data: number[]) => {
    const header = Buffer.from("67446698000000000000000000000000", "hex");
    header.writeUInt32BE(cookie, 12);
    return Buffer.concat([header, new Uint8Array(data)]);
  };
  const bytes = Buffer.concat([reply(cookies[1]!, [4, 5]), reply(cookies[0]!, [1, 2, 3])]);
  for (const byte of bytes) made.transport.onData(new Uint8Array([byte]));
  expect(await first).toEqual({ ok: true, value: new Uint8Array([1, 2, 3]) });
  expect(await second).toEqual({ ok: true, value: new Uint8Array([4, 5]) });
});
