/**
 * Requests: what each command is answered at and beyond its borders, in a session with simple and
 * in one with structured replies. After every answer the next request gets its own: the stream is
 * in step.
 */
import { expect } from "bun:test";
import { EINVAL, ENOSPC, EPERM } from "../../../src/base/errno.ts";
import { MIB } from "../../../src/base/units.ts";
import {
  Command,
  CommandFlag,
  concatenate,
  OptionCode,
  OptionReply,
  REQUEST_BYTES,
  TransmissionFlag,
} from "../../../src/nbd/wire-format.ts";
import { randomBytes } from "../../helpers/nbd-data.ts";
import { contextQuery, type Opened, type RawNbd, rawRequest } from "../../helpers/raw-nbd.ts";
import {
  disconnect,
  EXPORT,
  expectHungUp,
  expectInSync,
  type NbdCase,
  negotiating,
  opened,
  READ_ONLY_EXPORT,
} from "./lab.ts";

const { read, write, flush, trim, cache, writeZeroes, blockStatus } = Command;
const { fua, noHole, dontFragment, requestOne, fastZero } = CommandFlag;
const PAYLOAD_LENGTH_FLAG = 32;

interface Row {
  readonly what: string;
  readonly command: number;
  readonly flags?: number;
  readonly offset?: number | bigint;
  /** In place of `offset`: so far from the end. */
  readonly fromEnd?: number;
  readonly bytes?: number;
  readonly error?: number;
  /** Where the answer in a structured session is another one. */
  readonly structuredError?: number;
  readonly isReadOnly?: boolean;
  /** The flag that offers it; without it EINVAL, whatever `error` says. */
  readonly offeredBy?: number;
}

const TOO_LARGE = 32 * MIB + 1;
const HALF = 1n << 63n;
const LAST = (1n << 64n) - 1n;

const ROWS: readonly Row[] = [
  { what: "READ of one byte", command: read, bytes: 1 },
  { what: "READ across a row", command: read, offset: 4095, bytes: 2 },
  { what: "READ across chunks and stripes", command: read, offset: 65_535, bytes: 300_001 },
  { what: "READ of nothing", command: read, offset: 17 },
  { what: "READ of nothing at the end", command: read, fromEnd: 0 },
  { what: "READ of the last byte", command: read, fromEnd: -1, bytes: 1 },
  { what: "READ over the end", command: read, fromEnd: -1, bytes: 2, error: EINVAL },
  { what: "READ behind the end", command: read, fromEnd: 0, bytes: 1, error: EINVAL },
  { what: "READ at 2^53", command: read, offset: 1n << 53n, bytes: 1, error: EINVAL },
  { what: "READ at 2^63", command: read, offset: HALF, bytes: 1, error: EINVAL },
  { what: "READ of nothing at 2^63", command: read, offset: HALF, error: EINVAL },
  { what: "READ that wraps 2^64", command: read, offset: LAST, bytes: 4096, error: EINVAL },
  { what: "READ of 32 MiB", command: read, offset: 1, bytes: 32 * MIB },
  { what: "READ of 32 MiB and a byte", command: read, bytes: TOO_LARGE, error: EINVAL },
  { what: "READ of 4 GiB", command: read, bytes: 0xffff_ffff, error: EINVAL },
  { what: "READ with FUA", command: read, bytes: 512, flags: fua },
  {
    what: "READ with DF",
    command: read,
    bytes: 70_000,
    flags: dontFragment,
    error: EINVAL,
    structuredError: 0,
  },
  ...[noHole, requestOne, fastZero, PAYLOAD_LENGTH_FLAG, 0x8000].map((flags) => ({
    what: `READ with flag ${flags}`,
    command: read,
    bytes: 512,
    flags,
    error: EINVAL,
  })),
  { what: "READ of a read-only export", command: read, bytes: 512, isReadOnly: true },

  { what: "WRITE of one byte", command: write, offset: 3, bytes: 1 },
  { what: "WRITE across chunks, unaligned", command: write, offset: 65_533, bytes: 200_003 },
  { what: "WRITE with FUA", command: write, offset: 4096, bytes: 4096, flags: fua },
  { what: "WRITE of nothing", command: write, offset: 99 },
  { what: "WRITE of the last byte", command: write, fromEnd: -1, bytes: 1 },
  { what: "WRITE over the end", command: write, fromEnd: -511, bytes: 512, error: ENOSPC },
  { what: "WRITE behind the end", command: write, fromEnd: 0, bytes: 1, error: ENOSPC },
  { what: "WRITE at 2^53", command: write, offset: 1n << 53n, bytes: 512, error: ENOSPC },
  { what: "WRITE at 2^63", command: write, offset: HALF, bytes: 512, error: ENOSPC },
  { what: "WRITE that wraps 2^64", command: write, offset: LAST, bytes: 512, error: ENOSPC },
  { what: "WRITE of 32 MiB", command: write, offset: 4097, bytes: 32 * MIB },
  { what: "WRITE of 32 MiB and a byte", command: write, bytes: TOO_LARGE, error: EINVAL },
  ...[noHole, dontFragment, requestOne, fastZero, 0x4000].map((flags) => ({
    what: `WRITE with flag ${flags}`,
    command: write,
    bytes: 700,
    flags,
    error: EINVAL,
  })),
  {
    what: "WRITE to a read-only export",
    command: write,
    bytes: 70_000,
    isReadOnly: true,
    error: EPERM,
  },

  { what: "FLUSH", command: flush },
  { what: "FLUSH with FUA", command: flush, flags: fua },
  { what: "FLUSH with an offset", command: flush, offset: 512, error: EINVAL },
  { what: "FLUSH with a length", command: flush, bytes: 512, error: EINVAL },
  { what: "FLUSH with NO_HOLE", command: flush, flags: noHole, error: EINVAL },
  { what: "FLUSH of a read-only export", command: flush, isReadOnly: true },

  { what: "CACHE", command: cache, offset: 5, bytes: 70_000 },
  { what: "CACHE with FUA", command: cache, bytes: 4096, flags: fua },
  { what: "CACHE of nothing", command: cache, offset: 4096 },
  { what: "CACHE at 2^63", command: cache, offset: HALF, bytes: 512, error: EINVAL },
  { what: "CACHE of 4 GiB", command: cache, bytes: 0xffff_ffff, error: EINVAL },
  { what: "CACHE over the end", command: cache, fromEnd: -1, bytes: 2, error: EINVAL },
  { what: "CACHE with an unknown flag", command: cache, bytes: 1, flags: 64, error: EINVAL },

  { what: "BLOCK_STATUS", command: blockStatus, bytes: 4096, error: EINVAL, structuredError: 0 },
  {
    what: "BLOCK_STATUS of one extent",
    command: blockStatus,
    bytes: 70_001,
    flags: requestOne,
    error: EINVAL,
    structuredError: 0,
  },
  {
    what: "BLOCK_STATUS with FUA",
    command: blockStatus,
    bytes: 4096,
    flags: fua,
    error: EINVAL,
    structuredError: 0,
  },
  { what: "BLOCK_STATUS at 2^63", command: blockStatus, offset: HALF, bytes: 1, error: EINVAL },
  { what: "BLOCK_STATUS of nothing", command: blockStatus, error: EINVAL },
  { what: "BLOCK_STATUS over the end", command: blockStatus, fromEnd: -1, bytes: 2, error: EINVAL },
  {
    what: "BLOCK_STATUS with NO_HOLE",
    command: blockStatus,
    bytes: 512,
    flags: noHole,
    error: EINVAL,
  },

  ...[
    { name: "TRIM", command: trim, offeredBy: TransmissionFlag.sendTrim, beyond: EINVAL },
    {
      name: "WRITE_ZEROES",
      command: writeZeroes,
      offeredBy: TransmissionFlag.sendWriteZeroes,
      beyond: ENOSPC,
    },
  ].flatMap(({ name, command, offeredBy, beyond }): Row[] => [
    { what: name, command, offeredBy, offset: MIB, bytes: MIB },
    { what: `${name}, unaligned`, command, offeredBy, offset: 4097, bytes: 300_001 },
    { what: `${name} with FUA`, command, offeredBy, bytes: 4096, flags: fua },
    { what: `${name} of nothing`, command, offeredBy, offset: 4097 },
    { what: `${name} of 80 MiB`, command, offeredBy, bytes: 80 * MIB },
    { what: `${name} that wraps 2^64`, command, offset: LAST, bytes: 0xffff_ffff, error: beyond },
    { what: `${name} with an unknown flag`, command, bytes: 512, flags: 0x40, error: EINVAL },
    { what: `${name} over the end`, command, offeredBy, fromEnd: -1, bytes: 2, error: beyond },
    { what: `${name} at 2^63`, command, offeredBy, offset: HALF, bytes: 512, error: beyond },
    { what: `${name} with DF`, command, bytes: 4096, flags: dontFragment, error: EINVAL },
    { what: `${name} read-only`, command, offeredBy, bytes: 512, isReadOnly: true, error: EPERM },
  ]),
  {
    what: "WRITE_ZEROES with NO_HOLE",
    command: writeZeroes,
    offeredBy: TransmissionFlag.sendWriteZeroes,
    bytes: 70_000,
    flags: noHole,
  },

  ...[8, 9, 100, 256, 257, 0xffff].map((command) => ({
    what: `command ${command}`,
    command,
    bytes: 512,
    error: EINVAL,
  })),
];

interface Session extends RawNbd {
  readonly info: Opened;
}

async function openFor(
  lab: Parameters<NbdCase["run"]>[0],
  { name, isStructured }: { name: string; isStructured: boolean },
): Promise<Session> {
  if (!isStructured) return opened(lab, name);
  const raw = await negotiating(lab);
  await raw.option(OptionCode.structuredReply);
  const query = contextQuery(name, ["base:allocation"]);
  const answers = await raw.option(OptionCode.setMetaContext, query);
  expect(answers.map(({ type }) => type)).toEqual([OptionReply.metaContext, OptionReply.ack]);
  return Object.assign(raw, { info: await raw.go(name) });
}

function wantedError(row: Row, session: Session, isStructured: boolean): number {
  const { error = 0, structuredError = error, offeredBy = 0 } = row;
  // A read-only export offers neither, and says why it refuses them.
  const isOffered = row.isReadOnly || (session.info.flags & offeredBy) === offeredBy;
  if (!isOffered) return EINVAL;
  return isStructured ? structuredError : error;
}

function caseOf(row: Row, isStructured: boolean): NbdCase {
  const { what, command, flags = 0, bytes = 0 } = row;
  return {
    name: `${what}, ${isStructured ? "structured" : "simple"} replies`,
    run: async (lab) => {
      const name = row.isReadOnly === true ? READ_ONLY_EXPORT : EXPORT;
      const session = await openFor(lab, { name, isStructured });
      const { fromEnd } = row;
      const offset = fromEnd === undefined ? (row.offset ?? 0) : lab.sizeBytes + fromEnd;
      const payload = command === write ? randomBytes(7, bytes) : new Uint8Array(0);
      const cookie = 0x8123_4567_89ab_cdefn;
      session.request({ command, flags, offset, bytes, cookie }, payload);
      const error = wantedError(row, session, isStructured);
      const dataBytes = command === read ? bytes : 0;
      const reply = await session.anyReply(dataBytes);
      expect([reply.error, reply.cookie]).toEqual([error, cookie]);
      // Chunks were asked for, or they were not; only two commands need them.
      expect(reply.isChunk).toBe(isStructured && (command === read || command === blockStatus));
      if (command === read && error === 0) expect(reply.data.length).toBe(bytes);
      await expectInSync(session);
      if (command === write && error === 0 && bytes > 0) {
        session.request({ command: read, offset, bytes });
        expect(Buffer.compare((await session.anyReply(bytes)).data, payload)).toBe(0);
      }
      await disconnect(session);
    },
  };
}

const STREAMS: readonly NbdCase[] = [
  {
    name: "a refused WRITE whose payload is made of requests: none of them is obeyed",
    run: async (lab) => {
      const raw = await opened(lab);
      const zeroes = new Uint8Array(512);
      raw.request({ command: write, offset: 8192, bytes: 512 }, zeroes);
      expect((await raw.reply()).error).toBe(0);
      const evil = concatenate([
        rawRequest({ command: write, offset: 8192, bytes: 512, cookie: 666n }),
        new Uint8Array(512).fill(0x66),
      ]);
      const payload = concatenate(new Array(50).fill(evil));
      raw.request({ command: write, offset: HALF, bytes: payload.length, cookie: 5n }, payload);
      expect(await raw.reply()).toMatchObject({ error: ENOSPC, cookie: 5n });
      raw.request({ command: read, offset: 8192, bytes: 512 });
      expect(Buffer.compare((await raw.reply(512)).data, zeroes)).toBe(0);
      await disconnect(raw);
    },
  },
  {
    name: "a good WRITE whose payload is made of requests: it is data",
    run: async (lab) => {
      const raw = await opened(lab);
      const header = rawRequest({ command: Command.disconnect });
      const payload = concatenate(new Array(1000).fill(header));
      raw.request({ command: write, offset: 333, bytes: payload.length }, payload);
      expect((await raw.reply()).error).toBe(0);
      raw.request({ command: read, offset: 333, bytes: payload.length });
      expect(Buffer.compare((await raw.reply(payload.length)).data, payload)).toBe(0);
      await disconnect(raw);
    },
  },
  {
    name: "1000 requests at once, far above the limit of a connection: all answered, each once",
    run: async (lab) => {
      const raw = await opened(lab);
      const cookies = Array.from({ length: 1000 }, (_, index) => BigInt(index) << 40n);
      raw.send(
        ...cookies.map((cookie, index) =>
          rawRequest({ command: read, offset: index * 4099, bytes: 16, cookie }),
        ),
      );
      const seen = new Set<bigint>();
      for (const _ of cookies) {
        const reply = await raw.reply(16);
        expect(reply.error).toBe(0);
        seen.add(reply.cookie);
      }
      expect(seen).toEqual(new Set(cookies));
      await disconnect(raw);
    },
  },
  {
    name: "one cookie for all requests: each answered",
    run: async (lab) => {
      const raw = await opened(lab);
      raw.send(...new Array(50).fill(rawRequest({ command: flush, cookie: 0n })));
      for (let count = 0; count < 50; count += 1) {
        expect(await raw.reply()).toMatchObject({ error: 0, cookie: 0n });
      }
      await disconnect(raw);
    },
  },
  {
    name: "a write a byte at a time among others: read back as sent",
    run: async (lab) => {
      const raw = await opened(lab);
      const payload = randomBytes(3, 600);
      const header = rawRequest({ command: write, offset: 12_345, bytes: 600, flags: fua });
      await raw.sendPieces(concatenate([header, payload]), 1);
      expect((await raw.reply()).error).toBe(0);
      raw.request({ command: read, offset: 12_345, bytes: 600 });
      expect(Buffer.compare((await raw.reply(600)).data, payload)).toBe(0);
      await disconnect(raw);
    },
  },
  {
    name: "what one connection wrote, another reads at once and flushes",
    run: async (lab) => {
      const [one, two] = [await opened(lab), await opened(lab)];
      const payload = randomBytes(4, 70_000);
      one.request({ command: write, offset: 777, bytes: payload.length }, payload);
      expect((await one.reply()).error).toBe(0);
      two.request({ command: flush });
      expect((await two.reply()).error).toBe(0);
      two.request({ command: read, offset: 777, bytes: payload.length });
      expect(Buffer.compare((await two.reply(payload.length)).data, payload)).toBe(0);
      await disconnect(one);
      await disconnect(two);
    },
  },
  {
    name: "a WRITE above 64 MiB: hung up, as its payload is not worth reading",
    run: async (lab) => {
      const raw = await opened(lab);
      raw.request({ command: write, bytes: 64 * MIB + 1 });
      await expectHungUp(raw);
    },
  },
  ...[0, 28, 512].map(
    (bytes): NbdCase => ({
      name: `a wrong request magic with ${bytes} bytes behind it: hung up`,
      run: async (lab) => {
        const raw = await opened(lab);
        raw.send(rawRequest({ command: read, bytes: 1, magic: 0x25609514 }), new Uint8Array(bytes));
        await expectHungUp(raw);
      },
    }),
  ),
  {
    name: "DISC with flags, offset and length: hung up all the same",
    run: async (lab) => {
      const raw = await opened(lab);
      raw.request({ command: Command.disconnect, flags: 0xffff, offset: LAST, bytes: 4096 });
      await expectHungUp(raw);
    },
  },
  {
    name: "DISC behind 100 reads: all are answered, what follows it is not",
    run: async (lab) => {
      const raw = await opened(lab);
      const reads = new Array(100).fill(rawRequest({ command: read, bytes: 4096 }));
      raw.send(...reads, rawRequest({ command: Command.disconnect }), ...reads);
      expect((await raw.readToEnd()).length).toBe(100 * (16 + 4096));
      raw.close();
    },
  },
  {
    name: "a request header cut at each byte: answered when it is whole",
    run: async (lab) => {
      const raw = await opened(lab);
      const header = rawRequest({ command: read, offset: 9, bytes: 9, cookie: 9n });
      for (let cut = 1; cut < REQUEST_BYTES; cut += 1) {
        raw.send(header.subarray(0, cut));
        await new Promise((resolve) => setImmediate(resolve));
        raw.send(header.subarray(cut));
        expect(await raw.reply(9)).toMatchObject({ error: 0, cookie: 9n });
      }
      await disconnect(raw);
    },
  },
];

export const REQUEST_CASES: readonly NbdCase[] = [
  ...ROWS.flatMap((row) => [caseOf(row, false), caseOf(row, true)]),
  ...STREAMS,
];
