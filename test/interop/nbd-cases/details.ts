/** What stands in the answers: chunks, contexts, extents; and what many requests at once leave. */
import { expect } from "bun:test";
import { EINVAL, ENOSPC, EOPNOTSUPP } from "../../../src/base/errno.ts";
import { fillRandom, nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import {
  ChunkFlag,
  ChunkType,
  Command,
  CommandFlag,
  concatenate,
  encodeInfoRequest,
  encodeOption,
  InfoType,
  OptionCode,
  OptionReply,
  TransmissionFlag,
} from "../../../src/nbd/wire-format.ts";
import { randomBytes } from "../../helpers/nbd-data.ts";
import { contextQuery, type RawNbd, rawRequest } from "../../helpers/raw-nbd.ts";
import {
  disconnect,
  EXPORT,
  expectHaggling,
  expectInSync,
  type NbdCase,
  type NbdLab,
  negotiating,
  opened,
  READ_ONLY_EXPORT,
  readAt,
} from "./lab.ts";

const { read, write, flush, trim, cache, writeZeroes, blockStatus } = Command;
const { ack, metaContext, errorInvalid, errorUnknown, errorUnsupported } = OptionReply;
const { structuredReply, setMetaContext, listMetaContext, go, info, exportName } = OptionCode;
const NOTHING = new Uint8Array(0);
const HOLE_AND_ZERO = 3;
/** Of three members with the default chunk. */
const STRIPE_BYTES_MAX = 2 * MIB;

function u32At(data: Uint8Array, at: number): number {
  return new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(at);
}

/** Structured, with base:allocation; answers with its number too. */
async function structured(lab: NbdLab): Promise<{ raw: RawNbd; context: number }> {
  const raw = await negotiating(lab);
  await raw.option(structuredReply);
  const answers = await raw.option(setMetaContext, contextQuery(EXPORT, ["base:allocation"]));
  await raw.go(EXPORT);
  return { raw, context: u32At(answers[0]!.data, 0) };
}

interface Extent {
  readonly bytes: number;
  readonly state: number;
}

async function extents(raw: RawNbd, offset: number, bytes: number): Promise<Extent[]> {
  raw.request({ command: blockStatus, offset, bytes });
  const { error, data } = await raw.anyReply();
  expect(error).toBe(0);
  const list: Extent[] = [];
  for (let at = 4; at < data.length; at += 8) {
    list.push({ bytes: u32At(data, at), state: u32At(data, at + 4) });
  }
  return list;
}

const CHUNKS: readonly NbdCase[] = [
  {
    name: "a READ in chunks: one of data with its offset, and done",
    run: async (lab) => {
      const { raw } = await structured(lab);
      raw.request({ command: read, offset: 70_001, bytes: 999, cookie: 77n });
      const { flags, type, cookie, payload } = await raw.chunk();
      expect([flags, type, cookie]).toEqual([ChunkFlag.done, ChunkType.offsetData, 77n]);
      expect([u32At(payload, 0), u32At(payload, 4)]).toEqual([0, 70_001]);
      expect(payload.length).toBe(8 + 999);
      await disconnect(raw);
    },
  },
  {
    name: "a READ of nothing in chunks: an empty one, and done",
    run: async (lab) => {
      const { raw } = await structured(lab);
      raw.request({ command: read, offset: 5 });
      const { flags, type, payload } = await raw.chunk();
      expect([flags, type, payload.length]).toEqual([ChunkFlag.done, ChunkType.none, 0]);
      await disconnect(raw);
    },
  },
  ...[read, blockStatus].map(
    (command): NbdCase => ({
      name: `an error of command ${command} in chunks: its number, and a message as long as it says`,
      run: async (lab) => {
        const { raw } = await structured(lab);
        raw.request({ command, offset: lab.sizeBytes, bytes: 1, cookie: 78n });
        const { flags, type, cookie, payload } = await raw.chunk();
        expect([flags, type, cookie]).toEqual([ChunkFlag.done, ChunkType.error, 78n]);
        expect(u32At(payload, 0)).toBe(EINVAL);
        const messageBytes = payload[4]! * 256 + payload[5]!;
        expect(payload.length).toBe(6 + messageBytes);
        await disconnect(raw);
      },
    }),
  ),
  {
    name: "EXPORT_NAME behind STRUCTURED_REPLY: DF is offered, reads come in chunks",
    run: async (lab) => {
      const raw = await negotiating(lab);
      await raw.option(structuredReply);
      raw.send(encodeOption(exportName, new TextEncoder().encode(EXPORT)));
      const answer = await raw.read(10);
      expect(answer[9]! & TransmissionFlag.sendDf).toBe(TransmissionFlag.sendDf);
      raw.request({ command: read, bytes: 16 });
      expect((await raw.chunk()).type).toBe(ChunkType.offsetData);
      await disconnect(raw);
    },
  },
];

const QUERY = contextQuery(EXPORT, ["base:allocation"]);

/** What is asked before GO, and whether BLOCK_STATUS is to be had then. */
const CONTEXTS: readonly (readonly [
  string,
  readonly (readonly [number, Uint8Array])[],
  boolean,
])[] = [
  ["no SET", [[structuredReply, NOTHING]], false],
  [
    "only LIST",
    [
      [structuredReply, NOTHING],
      [listMetaContext, QUERY],
    ],
    false,
  ],
  [
    "SET before STRUCTURED_REPLY",
    [
      [setMetaContext, QUERY],
      [structuredReply, NOTHING],
    ],
    false,
  ],
  [
    "SET",
    [
      [structuredReply, NOTHING],
      [setMetaContext, QUERY],
    ],
    true,
  ],
  [
    "SET, then LIST of nothing known",
    [
      [structuredReply, NOTHING],
      [setMetaContext, QUERY],
      [listMetaContext, contextQuery(EXPORT, ["x:y"])],
    ],
    true,
  ],
  [
    "SET, then GO of an unknown export",
    [
      [structuredReply, NOTHING],
      [setMetaContext, QUERY],
      [go, encodeInfoRequest("nobody", [])],
    ],
    true,
  ],
  [
    "SET, then INFO of another export",
    [
      [structuredReply, NOTHING],
      [setMetaContext, QUERY],
      [info, encodeInfoRequest(READ_ONLY_EXPORT, [])],
    ],
    true,
  ],
  ...(
    [
      ["SET without a query", contextQuery(EXPORT, [])],
      ["SET of nothing known", contextQuery(EXPORT, ["x:y"])],
      ["SET for another export", contextQuery(READ_ONLY_EXPORT, ["base:allocation"])],
      ["SET for an unknown export", contextQuery("nobody", ["base:allocation"])],
      ["a SET that is malformed", QUERY.subarray(0, QUERY.length - 1)],
      ["a SET that is too long", contextQuery(EXPORT, ["x".repeat(4000), "y".repeat(4200)])],
    ] as const
  ).map(
    ([what, data]) =>
      [
        `SET, then ${what}`,
        [
          [structuredReply, NOTHING],
          [setMetaContext, QUERY],
          [setMetaContext, data],
        ],
        false,
      ] as const,
  ),
];

const META: readonly NbdCase[] = [
  ...CONTEXTS.map(
    ([what, options, isOffered]): NbdCase => ({
      name: `${what}: BLOCK_STATUS is ${isOffered ? "answered" : "invalid"}`,
      run: async (lab) => {
        const raw = await negotiating(lab);
        for (const [option, data] of options) await raw.option(option, data);
        await raw.go(EXPORT);
        raw.request({ command: blockStatus, bytes: 4096 });
        expect((await raw.anyReply()).error).toBe(isOffered ? 0 : EINVAL);
        await expectInSync(raw);
        await disconnect(raw);
      },
    }),
  ),
  {
    name: "SET with the name thrice: one context, whose number BLOCK_STATUS repeats",
    run: async (lab) => {
      const raw = await negotiating(lab);
      await raw.option(structuredReply);
      const answers = await raw.option(
        setMetaContext,
        contextQuery(EXPORT, new Array(3).fill("base:allocation")),
      );
      expect(answers.map(({ type }) => type)).toEqual([metaContext, ack]);
      const { data } = answers[0]!;
      expect(new TextDecoder().decode(data.subarray(4))).toBe("base:allocation");
      await raw.go(EXPORT);
      raw.request({ command: blockStatus, bytes: 4096 });
      expect(u32At((await raw.anyReply()).data, 0)).toBe(u32At(data, 0));
      await disconnect(raw);
    },
  },
  ...(
    [
      ["an unknown export", contextQuery("nobody", []), [errorUnknown]],
      ["no data", NOTHING, [errorInvalid]],
      ["a query beyond the data", QUERY.subarray(0, QUERY.length - 3), [errorInvalid]],
      ["a byte too many", concatenate([QUERY, new Uint8Array(1)]), [errorInvalid]],
      ["a name of 4096 bytes", contextQuery("n".repeat(4096), []), [errorUnknown]],
      ["a name of 4097 bytes", contextQuery("n".repeat(4097), []), [errorInvalid]],
    ] as const
  ).map(
    ([what, data, types]): NbdCase => ({
      name: `LIST_META_CONTEXT with ${what}`,
      run: async (lab) => {
        const raw = await negotiating(lab);
        expect(await raw.optionTypes(listMetaContext, data)).toEqual([...types]);
        await expectHaggling(raw);
      },
    }),
  ),
  {
    name: "errors of every kind, then EXPORT_NAME: served",
    run: async (lab) => {
      const raw = await negotiating(lab);
      expect(await raw.optionTypes(go, encodeInfoRequest("nobody", []))).toEqual([errorUnknown]);
      expect(await raw.optionTypes(go, new Uint8Array(3))).toEqual([errorInvalid]);
      expect(await raw.optionTypes(99, new Uint8Array(9))).toEqual([errorUnsupported]);
      raw.send(encodeOption(exportName, new TextEncoder().encode(EXPORT)));
      await raw.read(10);
      await expectInSync(raw);
      await disconnect(raw);
    },
  },
  {
    name: "INFO and GO: the same answers; sizes of blocks that a client can use; the name",
    run: async (lab) => {
      const raw = await negotiating(lab);
      const data = encodeInfoRequest(EXPORT, [InfoType.blockSize, InfoType.name]);
      const told = await raw.option(info, data);
      expect(await raw.option(go, data)).toEqual(told);
      const of = (type: number) =>
        told.map((answer) => answer.data).find((item) => item[0] === 0 && item[1] === type)!;
      const blocks = of(InfoType.blockSize);
      const [least, preferred, most] = [2, 6, 10].map((at) => u32At(blocks, at));
      expect([blocks.length, least, most]).toEqual([14, 1, 32 * MIB]);
      expect(preferred).toBeGreaterThanOrEqual(512);
      expect(preferred! & (preferred! - 1)).toBe(0);
      expect(new TextDecoder().decode(of(InfoType.name).subarray(2))).toBe(EXPORT);
      await disconnect(raw);
    },
  },
];

async function must(raw: RawNbd, request: Parameters<RawNbd["request"]>[0], payload?: Uint8Array) {
  raw.request(request, payload);
  expect((await raw.anyReply()).error).toBe(0);
}

/** Pairs of a range with data and one inside of it that is zeroed. */
const INNER = [
  [4096, 8192],
  [1, 2],
  [511, 70_013],
  [0, 200_000],
  [65_536, 65_536],
] as const;

const ZEROES: readonly NbdCase[] = [
  ...[0, CommandFlag.noHole, CommandFlag.fua].flatMap((flags) =>
    INNER.map(
      ([from, bytes]): NbdCase => ({
        name: `WRITE_ZEROES with flags ${flags} of ${bytes} bytes at ${from}: zeros there and only there`,
        run: async (lab) => {
          const raw = await opened(lab);
          const offset = 9 * MIB + 17;
          const data = randomBytes(9, 300_000);
          await must(raw, { command: write, offset, bytes: data.length }, data);
          await must(raw, { command: writeZeroes, flags, offset: offset + from, bytes });
          data.fill(0, from, from + bytes);
          const found = await readAt(lab, offset, data.length);
          expect(Buffer.compare(found, data)).toBe(0);
          await disconnect(raw);
        },
      }),
    ),
  ),
  {
    name: "WRITE_ZEROES with FAST_ZERO of a part of a stripe: not supported, nothing has changed",
    run: async (lab) => {
      const raw = await opened(lab);
      const data = randomBytes(10, 8192);
      await must(raw, { command: write, offset: 4096, bytes: data.length }, data);
      for (const flags of [CommandFlag.fastZero, CommandFlag.fastZero | CommandFlag.noHole]) {
        raw.request({ command: writeZeroes, flags, offset: 4099, bytes: 4096 });
        expect((await raw.reply()).error).toBe(EOPNOTSUPP);
      }
      expect(Buffer.compare(await readAt(lab, 4096, data.length), data)).toBe(0);
      await disconnect(raw);
    },
  },
  {
    name: "TRIM of 4 stripes' room: what is not wholly in it stays, the rest is a hole or as it was",
    run: async (lab) => {
      const { raw } = await structured(lab);
      const bytes = 4 * STRIPE_BYTES_MAX;
      const data = new Uint8Array(bytes).fill(0x77);
      await must(raw, { command: write, offset: 0, bytes }, data);
      await must(raw, { command: trim, offset: 1, bytes: bytes - 2 });
      const found = await readAt(lab, 0, bytes);
      expect([found[0], found.at(-1)]).toEqual([0x77, 0x77]);
      expect(found.every((byte) => byte === 0 || byte === 0x77)).toBe(true);
      const list = await extents(raw, 0, bytes);
      expect(list.reduce((sum, extent) => sum + extent.bytes, 0)).toBe(bytes);
      const holes = list.filter(({ state }) => state === HOLE_AND_ZERO);
      expect(holes.length).toBeGreaterThan(0);
      let at = 0;
      for (const { bytes: length, state } of list) {
        const part = found.subarray(at, at + length);
        if (state === HOLE_AND_ZERO) expect(part.every((byte) => byte === 0)).toBe(true);
        at += length;
      }
      await must(raw, { command: write, offset: 0, bytes }, data);
      expect(await extents(raw, 0, bytes)).toEqual([{ bytes, state: 0 }]);
      await disconnect(raw);
    },
  },
  {
    name: "BLOCK_STATUS of everything, and of one extent: lengths within what was asked for",
    run: async (lab) => {
      const { raw, context } = await structured(lab);
      const list = await extents(raw, 0, lab.sizeBytes);
      expect(list.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(lab.sizeBytes);
      for (let index = 1; index < list.length; index += 1) {
        expect(list[index]!.state).not.toBe(list[index - 1]!.state);
      }
      for (const bytes of [1, 511, 65_536, lab.sizeBytes - 7]) {
        raw.request({ command: blockStatus, flags: CommandFlag.requestOne, offset: 7, bytes });
        const { data } = await raw.anyReply();
        expect([data.length, u32At(data, 0)]).toEqual([12, context]);
        expect(u32At(data, 4)).toBeGreaterThan(0);
        expect(u32At(data, 4)).toBeLessThanOrEqual(bytes);
      }
      await disconnect(raw);
    },
  },
];

interface Asked {
  readonly header: Uint8Array;
  readonly payload: Uint8Array;
  readonly error: number;
  readonly dataBytes: number;
}

/** Any request, good or bad, and what it is answered. */
function anyRequest(random: SeededRandom, sizeBytes: number, cookie: bigint): Asked {
  const bytes = 1 + nextBelow(random, nextBelow(random, 8) === 0 ? 300 * KIB : 9 * KIB);
  const isBeyond = nextBelow(random, 5) === 0;
  const offset = isBeyond ? sizeBytes - nextBelow(random, bytes) : nextBelow(random, 16 * MIB);
  const commands = [read, write, flush, trim, cache, writeZeroes, blockStatus, 200];
  const command = commands[nextBelow(random, commands.length)]!;
  const isFlush = command === flush;
  const range = isFlush ? {} : { offset, bytes };
  const payload = new Uint8Array(command === write ? bytes : 0);
  fillRandom(random, payload);
  const beyond = command === write || command === writeZeroes ? ENOSPC : EINVAL;
  const isUnknown = command === 200 || command === blockStatus;
  const error = isUnknown ? EINVAL : isBeyond && !isFlush ? beyond : 0;
  const header = rawRequest({ command, ...range, cookie });
  return { header, payload, error, dataBytes: command === read && error === 0 ? bytes : 0 };
}

const CROWDS: readonly NbdCase[] = [
  ...[1, 2, 3].map(
    (seed): NbdCase => ({
      name: `500 requests of every kind at once, good and bad, seed ${seed}: each its own answer`,
      run: async (lab) => {
        const raw = await opened(lab);
        const random = new SeededRandom(seed);
        const asked = new Map<bigint, Asked>();
        for (let index = 0; index < 500; index += 1) {
          const cookie = (BigInt(random.nextU32()) << 32n) | BigInt(index);
          asked.set(cookie, anyRequest(random, lab.sizeBytes, cookie));
        }
        raw.send(...[...asked.values()].flatMap(({ header, payload }) => [header, payload]));
        while (asked.size > 0) {
          const reply = await raw.replyTo((cookie) => asked.get(cookie)?.dataBytes ?? 0);
          expect(reply.error).toBe(asked.get(reply.cookie)?.error ?? -1);
          asked.delete(reply.cookie);
        }
        await expectInSync(raw);
        await disconnect(raw);
      },
    }),
  ),
  ...(["DISC", "a half close"] as const).map(
    (how): NbdCase => ({
      name: `${how} behind 60 writes and a flush: all are answered, and done`,
      run: async (lab) => {
        const raw = await opened(lab);
        const bytes = 30_001;
        const data = randomBytes(how.length, 60 * bytes);
        for (let index = 0; index < 60; index += 1) {
          const offset = index * bytes;
          const payload = data.subarray(offset, offset + bytes);
          raw.request({ command: write, offset, bytes, cookie: BigInt(index) }, payload);
        }
        raw.request({ command: flush, cookie: 60n });
        if (how === "DISC") raw.request({ command: Command.disconnect });
        else raw.halfClose();
        const cookies: bigint[] = [];
        for (let count = 0; count <= 60; count += 1) {
          const { error, cookie } = await raw.reply();
          expect(error).toBe(0);
          cookies.push(cookie);
        }
        expect(new Set(cookies).size).toBe(61);
        expect(await raw.isHungUp()).toBe(true);
        raw.close();
        expect(Buffer.compare(await readAt(lab, 0, data.length), data)).toBe(0);
      },
    }),
  ),
  ...[0n, 1n, 0xffff_ffff_ffff_ffffn, 0x0102_0304_0506_0708n].map(
    (cookie): NbdCase => ({
      name: `the cookie ${cookie}: comes back as it is, with data and with an error`,
      run: async (lab) => {
        for (const isStructured of [false, true]) {
          const raw = isStructured ? (await structured(lab)).raw : await opened(lab);
          raw.request({ command: read, bytes: 9, cookie });
          expect((await raw.anyReply(9)).cookie).toBe(cookie);
          raw.request({ command: read, offset: lab.sizeBytes, bytes: 9, cookie });
          expect((await raw.anyReply()).cookie).toBe(cookie);
          await disconnect(raw);
        }
      },
    }),
  ),
];

export const DETAIL_CASES: readonly NbdCase[] = [...CHUNKS, ...META, ...ZEROES, ...CROWDS];
