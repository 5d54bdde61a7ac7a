/** Handshakes as clients make them, and as none should. */
import { expect } from "bun:test";
import {
  concatenate,
  EXPORT_NAME_PADDING_BYTES,
  encodeInfoRequest,
  encodeOption,
  InfoType,
  OptionCode,
  OptionReply,
  TransmissionFlag,
} from "../../../src/nbd/wire-format.ts";
import {
  BOTH_FLAGS,
  clientFlags,
  contextQuery,
  prefixed,
  RawNbd,
  rawRequest,
} from "../../helpers/raw-nbd.ts";
import {
  disconnect,
  EXPORT,
  expectHaggling,
  expectHungUp,
  expectInSync,
  type NbdCase,
  type NbdLab,
  negotiating,
  opened,
  READ_ONLY_EXPORT,
} from "./lab.ts";

const { ack, server, info, metaContext } = OptionReply;
const { errorInvalid, errorUnknown, errorUnsupported, errorTooBig } = OptionReply;
const ENCODER = new TextEncoder();
const NOTHING = new Uint8Array(0);

function bytesOf(...values: readonly number[]): Uint8Array {
  return new Uint8Array(values);
}

function u32(value: number): Uint8Array {
  return clientFlags(value);
}

/** An option whose header announces `announced` bytes, whatever follows. */
function announce(option: number, announced: number): Uint8Array {
  const bytes = encodeOption(option, NOTHING);
  new DataView(bytes.buffer).setUint32(12, announced);
  return bytes;
}

/** One option with these data is answered so, and the handshake goes on. */
function answered(
  name: string,
  [option, data, types]: readonly [number, Uint8Array, readonly number[]],
): NbdCase {
  return {
    name,
    run: async (lab) => {
      const raw = await negotiating(lab);
      expect(await raw.optionTypes(option, data)).toEqual([...types]);
      await expectHaggling(raw);
    },
  };
}

/** After these bytes behind the client flags the server hangs up without a word. */
function hungUp(name: string, ...parts: readonly Uint8Array[]): NbdCase {
  return {
    name,
    run: async (lab) => {
      const raw = await negotiating(lab);
      raw.send(...parts);
      await expectHungUp(raw);
    },
  };
}

const FLAGS: readonly NbdCase[] = [
  ...[0, 1, 2, 3].map(
    (flags): NbdCase => ({
      name: `client flags ${flags}: EXPORT_NAME is answered ${flags & 2 ? "without" : "with"} zeroes`,
      run: async (lab) => {
        const raw = await negotiating(lab, flags);
        raw.send(encodeOption(OptionCode.exportName, ENCODER.encode(EXPORT)));
        const answer = await raw.read(10);
        expect(Number(new DataView(answer.slice().buffer).getBigUint64(0))).toBe(lab.sizeBytes);
        if ((flags & 2) === 0) {
          const padding = await raw.read(EXPORT_NAME_PADDING_BYTES);
          expect(padding.every((byte) => byte === 0)).toBe(true);
        }
        await expectInSync(raw);
        await disconnect(raw);
      },
    }),
  ),
  ...[4, 0x10, 0x8000_0000, 0xffff_ffff].map(
    (flags): NbdCase => ({
      name: `client flags 0x${flags.toString(16)}: hung up`,
      run: async (lab) => expectHungUp(await negotiating(lab, flags)),
    }),
  ),
  {
    name: "GO without NO_ZEROES: no zeroes behind it all the same",
    run: async (lab) => {
      const raw = await negotiating(lab, 1);
      await expectHaggling(raw);
    },
  },
];

const EXPORT_NAMES: readonly NbdCase[] = [
  ...["nobody", "", "TANK", "tank\0", "x".repeat(4096)].map((name) =>
    hungUp(
      `EXPORT_NAME ${JSON.stringify(name.slice(0, 8))} of ${name.length}: unknown, hung up`,
      encodeOption(OptionCode.exportName, ENCODER.encode(name)),
    ),
  ),
  hungUp(
    "EXPORT_NAME longer than the buffer: read, hung up",
    encodeOption(OptionCode.exportName, new Uint8Array(9000)),
  ),
  ...["", "nobody", "tan", "tank-", "TANK"].map((name) =>
    answered(`GO ${JSON.stringify(name)}: unknown, and again`, [
      OptionCode.go,
      encodeInfoRequest(name, []),
      [errorUnknown],
    ]),
  ),
  answered("GO with a name of 4096 bytes: unknown", [
    OptionCode.go,
    encodeInfoRequest("n".repeat(4096), []),
    [errorUnknown],
  ]),
  answered("GO with a name of 4097 bytes: invalid", [
    OptionCode.go,
    encodeInfoRequest("n".repeat(4097), []),
    [errorInvalid],
  ]),
  answered("GO with a name that is no UTF-8: unknown", [
    OptionCode.go,
    concatenate([u32(2), bytesOf(0xff, 0xfe), bytesOf(0, 0)]),
    [errorUnknown],
  ]),
];

const INFO_DATA: readonly (readonly [string, Uint8Array])[] = [
  ["nothing at all", NOTHING],
  ["three bytes", bytesOf(0, 0, 0)],
  ["a name length of 4 GiB", concatenate([u32(0xffff_ffff), bytesOf(0, 0)])],
  ["a name longer than the data", concatenate([u32(5), ENCODER.encode("tank"), bytesOf(0, 0)])],
  ["no count of items", prefixed(EXPORT)],
  ["half a count", concatenate([prefixed(EXPORT), bytesOf(0)])],
  ["one item announced, none sent", concatenate([prefixed(EXPORT), bytesOf(0, 1)])],
  ["65535 items announced, one sent", concatenate([prefixed(EXPORT), bytesOf(255, 255, 0, 3)])],
  ["a byte too many", concatenate([prefixed(EXPORT), bytesOf(0, 0, 0)])],
  ["an item too many", concatenate([prefixed(EXPORT), bytesOf(0, 1, 0, 3, 0, 3)])],
];

const INFO_AND_GO: readonly NbdCase[] = [
  ...[OptionCode.info, OptionCode.go].flatMap((option) =>
    INFO_DATA.map(([what, data]) =>
      answered(`${option === OptionCode.go ? "GO" : "INFO"} with ${what}: invalid`, [
        option,
        data,
        [errorInvalid],
      ]),
    ),
  ),
  answered("INFO without items: export and block sizes", [
    OptionCode.info,
    encodeInfoRequest(EXPORT, []),
    [info, info, ack],
  ]),
  answered("INFO with the name asked for twice: told once", [
    OptionCode.info,
    encodeInfoRequest(EXPORT, [InfoType.name, InfoType.name]),
    [info, info, info, ack],
  ]),
  answered("INFO with unknown items: as if not asked", [
    OptionCode.info,
    encodeInfoRequest(EXPORT, [99, 0xffff, InfoType.description]),
    [info, info, ack],
  ]),
  answered("INFO with 1000 items: answered", [
    OptionCode.info,
    encodeInfoRequest(EXPORT, new Array(1000).fill(InfoType.blockSize)),
    [info, info, ack],
  ]),
  {
    name: "GO: size, flags, block sizes",
    run: async (lab) => {
      const { hasFlags, sendFlush, sendFua, sendDf, canMultiConn, readOnly } = TransmissionFlag;
      const raw = await opened(lab);
      const wanted = hasFlags | sendFlush | sendFua | canMultiConn;
      expect(raw.info.sizeBytes).toBe(lab.sizeBytes);
      expect(raw.info.flags & (wanted | sendDf | readOnly)).toBe(wanted);
      expect(raw.info.maxRequestBytes).toBe(32 * 1024 * 1024);
      await disconnect(raw);
      const reader = await opened(lab, READ_ONLY_EXPORT);
      expect(reader.info.flags & readOnly).toBe(readOnly);
      await disconnect(reader);
    },
  },
  {
    name: "GO behind STRUCTURED_REPLY: DF is offered",
    run: async (lab) => {
      const raw = await negotiating(lab);
      expect(await raw.optionTypes(OptionCode.structuredReply)).toEqual([ack]);
      const { flags } = await raw.go(EXPORT);
      expect(flags & TransmissionFlag.sendDf).toBe(TransmissionFlag.sendDf);
      await disconnect(raw);
    },
  },
];

const LISTS: readonly NbdCase[] = [
  {
    name: "LIST: every export, then ACK",
    run: async (lab) => {
      const raw = await negotiating(lab);
      const answers = await raw.option(OptionCode.list);
      const names = answers.slice(0, -1).map(({ type, data }) => {
        expect(type).toBe(server);
        return new TextDecoder().decode(data.subarray(4));
      });
      expect([names.toSorted(), answers.at(-1)!.type]).toEqual([[EXPORT, READ_ONLY_EXPORT], ack]);
      await expectHaggling(raw);
    },
  },
  answered("LIST with one byte: invalid", [OptionCode.list, bytesOf(0), [errorInvalid]]),
  answered("LIST with 8000 bytes: invalid", [
    OptionCode.list,
    new Uint8Array(8000),
    [errorInvalid],
  ]),
  answered("LIST with 60 000 bytes: invalid too", [
    OptionCode.list,
    new Uint8Array(60_000),
    [errorInvalid],
  ]),
];

const UNKNOWN_OPTIONS: readonly NbdCase[] = [
  ...[0, 4, OptionCode.starttls, OptionCode.extendedHeaders, 12, 0x7fff_ffff, 0xffff_ffff].map(
    (option) => answered(`option ${option}: unsupported`, [option, NOTHING, [errorUnsupported]]),
  ),
  ...[1, 4096, 8192, 8193, 60_000].map((bytes) =>
    answered(`an unknown option with ${bytes} bytes: unsupported, the bytes are read`, [
      77,
      new Uint8Array(bytes).fill(0x49),
      [errorUnsupported],
    ]),
  ),
];

const META: readonly NbdCase[] = [
  answered("SET_META_CONTEXT before STRUCTURED_REPLY: invalid", [
    OptionCode.setMetaContext,
    contextQuery(EXPORT, ["base:allocation"]),
    [errorInvalid],
  ]),
  ...(
    [
      ["no query", [], [metaContext, ack]],
      ["the namespace", ["base:"], [metaContext, ack]],
      ["the name", ["base:allocation"], [metaContext, ack]],
      ["the name thrice", ["base:allocation", "base:allocation", "base:"], [metaContext, ack]],
      ["an unknown name", ["base:other", "qemu:"], [ack]],
      ["no colon", ["base"], [ack]],
      ["a query without a letter", [""], [ack]],
    ] as const
  ).map(([what, queries, types]) =>
    answered(`LIST_META_CONTEXT with ${what}`, [
      OptionCode.listMetaContext,
      contextQuery(EXPORT, queries),
      types,
    ]),
  ),
  ...(
    [
      ["no query", contextQuery(EXPORT, []), [ack]],
      ["the name", contextQuery(EXPORT, ["base:allocation"]), [metaContext, ack]],
      ["a wildcard", contextQuery(EXPORT, ["base:"]), [ack]],
      ["300 queries", contextQuery(EXPORT, new Array(300).fill("x:y")), [ack]],
      ["an unknown export", contextQuery("nobody", ["base:allocation"]), [errorUnknown]],
      ["no data", NOTHING, [errorInvalid]],
      ["a count of 4 Gi", concatenate([prefixed(EXPORT), u32(0xffff_ffff)]), [errorInvalid]],
      [
        "a query beyond the data",
        concatenate([prefixed(EXPORT), u32(1), u32(99), bytesOf(65)]),
        [errorInvalid],
      ],
      [
        "a byte too many",
        concatenate([contextQuery(EXPORT, ["base:allocation"]), bytesOf(0)]),
        [errorInvalid],
      ],
      ["too much data", contextQuery(EXPORT, ["x".repeat(4000), "y".repeat(4200)]), [errorTooBig]],
    ] as const
  ).map(
    ([what, data, types]): NbdCase => ({
      name: `SET_META_CONTEXT with ${what}`,
      run: async (lab) => {
        const raw = await negotiating(lab);
        expect(await raw.optionTypes(OptionCode.structuredReply)).toEqual([ack]);
        expect(await raw.optionTypes(OptionCode.setMetaContext, data)).toEqual([...types]);
        await expectHaggling(raw);
      },
    }),
  ),
];

const ORDERS: readonly NbdCase[] = [
  answered("STRUCTURED_REPLY with data: invalid", [
    OptionCode.structuredReply,
    bytesOf(1),
    [errorInvalid],
  ]),
  {
    name: "STRUCTURED_REPLY twice: acknowledged twice",
    run: async (lab) => {
      const raw = await negotiating(lab);
      expect(await raw.optionTypes(OptionCode.structuredReply)).toEqual([ack]);
      expect(await raw.optionTypes(OptionCode.structuredReply)).toEqual([ack]);
      await expectHaggling(raw);
    },
  },
  answered("STRUCTURED_REPLY with 9000 bytes: invalid too", [
    OptionCode.structuredReply,
    new Uint8Array(9000),
    [errorInvalid],
  ]),
  ...[0, 1, 100, 9000].map(
    (bytes): NbdCase => ({
      name: `ABORT with ${bytes} bytes: acknowledged, hung up`,
      run: async (lab) => {
        const raw = await negotiating(lab);
        expect(await raw.optionTypes(OptionCode.abort, new Uint8Array(bytes))).toEqual([ack]);
        await expectHungUp(raw);
      },
    }),
  ),
  {
    name: "five options in each of their 120 orders: each gets its answer",
    run: async (lab) => {
      const options = [OptionCode.structuredReply, OptionCode.setMetaContext, OptionCode.list];
      await inEveryOrder(lab, [...options, OptionCode.info, 77]);
    },
  },
  {
    name: "the whole handshake and a read in one packet: all are answered",
    run: async (lab) => {
      const raw = RawNbd.open(lab.unix);
      raw.send(
        clientFlags(BOTH_FLAGS),
        encodeOption(OptionCode.list, NOTHING),
        encodeOption(77, bytesOf(1, 2, 3)),
        encodeOption(OptionCode.go, encodeInfoRequest(EXPORT, [])),
        rawRequest({ command: 0, offset: 1, bytes: 2, cookie: 9n }),
      );
      await raw.greeting();
      expect((await raw.answers(OptionCode.list)).at(-1)!.type).toBe(ack);
      expect((await raw.answers(77)).at(-1)!.type).toBe(errorUnsupported);
      expect((await raw.answers(OptionCode.go)).at(-1)!.type).toBe(ack);
      expect(await raw.reply(2)).toMatchObject({ error: 0, cookie: 9n });
      await disconnect(raw);
    },
  },
  ...[1, 3, 7].map(
    (pieceBytes): NbdCase => ({
      name: `the whole handshake and a read ${pieceBytes} bytes at a time: as in one piece`,
      run: async (lab) => {
        const raw = RawNbd.open(lab.unix);
        const all = [
          clientFlags(BOTH_FLAGS),
          encodeOption(OptionCode.go, encodeInfoRequest(EXPORT, [])),
          rawRequest({ command: 0, offset: 1, bytes: 2, cookie: 9n }),
        ];
        await raw.sendPieces(concatenate(all), pieceBytes);
        await raw.greeting();
        expect((await raw.answers(OptionCode.go)).at(-1)!.type).toBe(ack);
        expect(await raw.reply(2)).toMatchObject({ error: 0, cookie: 9n });
        await disconnect(raw);
      },
    }),
  ),
];

/** What each of them is answered, where it matters on what came before. */
async function inEveryOrder(lab: NbdLab, options: readonly number[]): Promise<void> {
  for (const order of permutations(options)) {
    const raw = await negotiating(lab);
    let isStructured = false;
    for (const option of order) {
      const isContext = option === OptionCode.setMetaContext;
      const data = isContext
        ? contextQuery(EXPORT, ["base:allocation"])
        : option === OptionCode.info
          ? encodeInfoRequest(EXPORT, [])
          : NOTHING;
      const wanted =
        option === 77 ? errorUnsupported : isContext && !isStructured ? errorInvalid : ack;
      expect((await raw.option(option, data)).at(-1)!.type).toBe(wanted);
      isStructured ||= option === OptionCode.structuredReply;
    }
    await raw.go(EXPORT);
    raw.close();
  }
}

function permutations(items: readonly number[]): number[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item) =>
    permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]),
  );
}

const BROKEN: readonly NbdCase[] = [
  hungUp("a wrong option magic", new Uint8Array(16).fill(0x41)),
  hungUp("the second half of the option magic wrong", encodeOption(3, NOTHING).fill(0, 4, 8)),
  hungUp("a request where an option belongs", rawRequest({ command: 0, bytes: 512 })),
  hungUp("an option of 4 GiB", announce(OptionCode.list, 0xffff_ffff)),
  hungUp("an option of 64 KiB and a byte", announce(77, 65_537)),
  hungUp("a second client flags word", clientFlags(BOTH_FLAGS), new Uint8Array(12)),
  {
    name: "an option behind GO: hung up",
    run: async (lab) => {
      const raw = await opened(lab);
      raw.send(encodeOption(OptionCode.list, NOTHING), new Uint8Array(12));
      await expectHungUp(raw);
    },
  },
];

export const HANDSHAKE_CASES: readonly NbdCase[] = [
  ...FLAGS,
  ...EXPORT_NAMES,
  ...INFO_AND_GO,
  ...LISTS,
  ...UNKNOWN_OPTIONS,
  ...META,
  ...ORDERS,
  ...BROKEN,
];
