/**
 * Goal: every option gets the answer that the protocol asks for, and malformed option data never
 * more than a refusal.
 * Method: the pure function over a catalog of literals; every truncation of every option tried.
 */
import { expect, test } from "bun:test";
import {
  acceptClientFlags,
  answerOption,
  answerOversizedOption,
  type Catalog,
  countOption,
  createNegotiation,
  type ExportOffer,
  type Negotiation,
  type OptionOutcome,
} from "../../../src/nbd/handshake.ts";
import { DEFAULT_NBD_LIMITS } from "../../../src/nbd/limits.ts";
import {
  encodeInfoRequest,
  InfoType,
  OptionCode,
  OptionReply,
  TransmissionFlag,
} from "../../../src/nbd/wire-format.ts";

const TEXT = new TextEncoder();
const NOTHING = new Uint8Array(0);

function offer(name: string, changes: Partial<ExportOffer> = {}): ExportOffer {
  const nameBytes = TEXT.encode(name);
  const fixed = {
    sizeBytes: 2 ** 33 + 512,
    isReadOnly: false,
    isRotational: false,
    canTrim: true,
    preferredBytes: 65_536,
  };
  return { name, nameBytes, ...fixed, ...changes };
}

function catalog(offers: readonly ExportOffer[], isStopping = false): Catalog {
  return {
    isStopping,
    maxRequestBytes: 1 << 25,
    names: () => offers.map(({ nameBytes }) => nameBytes),
    obstacle: () => null,
    find: (name) => {
      const text = new TextDecoder().decode(name);
      if (text === "") return offers.length === 1 ? offers[0] : undefined;
      return offers.find((candidate) => candidate.name === text);
    },
  };
}

const ONE = catalog([offer("tank")]);
const TWO = catalog([offer("tank"), offer("späth")]);

interface Answer {
  readonly type: number;
  readonly data: Uint8Array;
}

function parse(outcome: OptionOutcome, option: number): Answer[] {
  const view = new DataView(outcome.reply.buffer);
  const answers: Answer[] = [];
  let at = 0;
  while (at < outcome.reply.length) {
    expect(view.getBigUint64(at)).toBe(0x3e889045565a9n);
    expect(view.getUint32(at + 8)).toBe(option);
    const bytes = view.getUint32(at + 16);
    const data = outcome.reply.slice(at + 20, at + 20 + bytes);
    answers.push({ type: view.getUint32(at + 12), data });
    at += 20 + bytes;
  }
  expect(at).toBe(outcome.reply.length);
  return answers;
}

function types(outcome: OptionOutcome, option: number): number[] {
  return parse(outcome, option).map((answer) => answer.type);
}

function answer(option: number, data: Uint8Array, from = ONE, negotiation?: Negotiation) {
  return answerOption(negotiation ?? createNegotiation(), option, data, from);
}

function metaQuery(name: string, queries: readonly string[]): Uint8Array {
  const strings = [name, ...queries].map((text) => TEXT.encode(text));
  const total = strings.reduce((sum, bytes) => sum + 4 + bytes.length, 4);
  const data = new Uint8Array(total);
  const view = new DataView(data.buffer);
  let at = 0;
  for (const [index, bytes] of strings.entries()) {
    view.setUint32(at, bytes.length);
    data.set(bytes, at + 4);
    at += 4 + bytes.length;
    if (index !== 0) continue;
    view.setUint32(at, queries.length);
    at += 4;
  }
  return data;
}

function structured(): Negotiation {
  const negotiation = createNegotiation();
  negotiation.isStructured = true;
  return negotiation;
}

test("client flags: every bit: only the two known ones are taken", () => {
  for (let bit = 0; bit < 32; bit += 1) {
    const flags = (1 << bit) >>> 0;
    expect(acceptClientFlags(createNegotiation(), flags)).toBe(bit < 2);
  }
  const negotiation = createNegotiation();
  expect(acceptClientFlags(negotiation, 3)).toBe(true);
  expect(negotiation.isWithoutZeroes).toBe(true);
  expect(acceptClientFlags(negotiation, 0)).toBe(true);
  expect(negotiation.isWithoutZeroes).toBe(false);
});

test("handshake limits: the last option and byte that fit, and the first that do not", () => {
  const many = createNegotiation();
  for (let count = 1; count <= 64; count += 1) {
    expect(countOption(many, 0, DEFAULT_NBD_LIMITS)).toBe(true);
  }
  expect(countOption(many, 0, DEFAULT_NBD_LIMITS)).toBe(false);
  const long = createNegotiation();
  expect(countOption(long, 65_536, DEFAULT_NBD_LIMITS)).toBe(true);
  expect(countOption(long, 1, DEFAULT_NBD_LIMITS)).toBe(false);
  expect(countOption(createNegotiation(), 0xffff_ffff, DEFAULT_NBD_LIMITS)).toBe(false);
});

test("GO: a known name: size, flags and block sizes, then transmission", () => {
  const outcome = answer(OptionCode.go, encodeInfoRequest("tank", []));
  expect(outcome.kind).toBe("open");
  const [info, blocks, ack] = parse(outcome, OptionCode.go);
  expect([info?.type, blocks?.type, ack?.type]).toEqual([3, 3, 1]);
  const infoView = new DataView(info!.data.buffer);
  expect(infoView.getUint16(0)).toBe(InfoType.export);
  expect(infoView.getBigUint64(2)).toBe(BigInt(2 ** 33 + 512));
  const { hasFlags, sendFlush, sendFua, canMultiConn, sendCache } = TransmissionFlag;
  const { sendTrim, sendWriteZeroes, sendFastZero } = TransmissionFlag;
  const flags = hasFlags | sendFlush | sendFua | canMultiConn | sendCache | sendWriteZeroes;
  expect(infoView.getUint16(10)).toBe(flags | sendTrim | sendFastZero);
  const blockView = new DataView(blocks!.data.buffer);
  expect(blockView.getUint16(0)).toBe(InfoType.blockSize);
  expect([2, 6, 10].map((at) => blockView.getUint32(at))).toEqual([1, 65_536, 1 << 25]);
});

test("GO: read-only and structured: the flags say so", () => {
  const readOnly = catalog([offer("tank", { isReadOnly: true })]);
  const outcome = answer(OptionCode.go, encodeInfoRequest("tank", []), readOnly, structured());
  const flags = new DataView(parse(outcome, OptionCode.go)[0]!.data.buffer).getUint16(10);
  expect(flags & TransmissionFlag.readOnly).not.toBe(0);
  expect(flags & TransmissionFlag.sendDf).not.toBe(0);
  const { sendTrim, sendWriteZeroes, sendFastZero } = TransmissionFlag;
  expect(flags & (sendTrim | sendWriteZeroes | sendFastZero)).toBe(0);
});

test("GO: an array that makes no holes: zeroing is offered, trim and fast zeroing are not", () => {
  const solid = catalog([offer("tank", { canTrim: false })]);
  const outcome = answer(OptionCode.go, encodeInfoRequest("tank", []), solid);
  const flags = new DataView(parse(outcome, OptionCode.go)[0]!.data.buffer).getUint16(10);
  const { sendTrim, sendWriteZeroes, sendFastZero } = TransmissionFlag;
  expect(flags & (sendTrim | sendWriteZeroes | sendFastZero)).toBe(sendWriteZeroes);
});

test("GO: a member that turns: said, and else not", () => {
  for (const isRotational of [true, false]) {
    const drives = catalog([offer("tank", { isRotational })]);
    const outcome = answer(OptionCode.go, encodeInfoRequest("tank", []), drives);
    const flags = new DataView(parse(outcome, OptionCode.go)[0]!.data.buffer).getUint16(10);
    expect((flags & TransmissionFlag.rotational) !== 0).toBe(isRotational);
  }
});

test("INFO: the same answers as GO, and haggling goes on", () => {
  const outcome = answer(OptionCode.info, encodeInfoRequest("tank", [3]));
  expect(outcome.kind).toBe("continue");
  expect(types(outcome, OptionCode.info)).toEqual([3, 3, 1]);
});

test("INFO: the name is asked for through the empty name: the real one is told", () => {
  const outcome = answer(OptionCode.info, encodeInfoRequest("", [1, 2, 77]));
  const [, , name] = parse(outcome, OptionCode.info);
  expect(new DataView(name!.data.buffer).getUint16(0)).toBe(InfoType.name);
  expect(new TextDecoder().decode(name!.data.slice(2))).toBe("tank");
});

test("default export: with one export it is that one, with two or none unknown", () => {
  for (const [from, isKnown] of [[ONE, true] as const, [TWO, false] as const]) {
    const outcome = answer(OptionCode.go, encodeInfoRequest("", []), from);
    expect(outcome.kind).toBe(isKnown ? "open" : "continue");
    const named = answer(OptionCode.exportName, NOTHING, from);
    expect(named.kind).toBe(isKnown ? "open" : "close");
  }
  const none = answer(OptionCode.go, encodeInfoRequest("", []), catalog([]));
  expect(types(none, OptionCode.go)).toEqual([OptionReply.errorUnknown]);
});

test("unknown export: GO and INFO are told, EXPORT_NAME is hung up on", () => {
  for (const option of [OptionCode.go, OptionCode.info]) {
    const outcome = answer(option, encodeInfoRequest("tan", []));
    expect(types(outcome, option)).toEqual([OptionReply.errorUnknown]);
  }
  expect(answer(OptionCode.exportName, TEXT.encode("tan"))).toEqual({
    kind: "close",
    reply: NOTHING,
  });
});

test("EXPORT_NAME: size and flags, with 124 zeros unless the client asked without", () => {
  for (const isWithoutZeroes of [true, false]) {
    const negotiation = createNegotiation();
    negotiation.isWithoutZeroes = isWithoutZeroes;
    const outcome = answer(OptionCode.exportName, TEXT.encode("tank"), ONE, negotiation);
    expect(outcome.kind).toBe("open");
    expect(outcome.reply.length).toBe(isWithoutZeroes ? 10 : 134);
    expect(new DataView(outcome.reply.buffer).getBigUint64(0)).toBe(BigInt(2 ** 33 + 512));
    expect(outcome.reply.subarray(10).every((byte) => byte === 0)).toBe(true);
  }
});

test("LIST: every export and an end; data with it is invalid", () => {
  const answers = parse(answer(OptionCode.list, NOTHING, TWO), OptionCode.list);
  expect(answers.map((entry) => entry.type)).toEqual([2, 2, 1]);
  const names = answers.slice(0, 2).map((entry) => {
    const bytes = new DataView(entry.data.buffer).getUint32(0);
    expect(bytes).toBe(entry.data.length - 4);
    return new TextDecoder().decode(entry.data.slice(4));
  });
  expect(names).toEqual(["tank", "späth"]);
  const refused = answer(OptionCode.list, new Uint8Array(1));
  expect(types(refused, OptionCode.list)).toEqual([OptionReply.errorInvalid]);
});

test("ABORT: acknowledged, then closed", () => {
  const outcome = answer(OptionCode.abort, NOTHING);
  expect(outcome.kind).toBe("close");
  expect(types(outcome, OptionCode.abort)).toEqual([OptionReply.ack]);
});

test("unknown options: every number without a handler: unsupported, haggling goes on", () => {
  for (const option of [0, 4, 5, 11, 12, 100, 0xffff_ffff]) {
    const outcome = answer(option, new Uint8Array(3));
    expect(outcome.kind).toBe("continue");
    expect(types(outcome, option)).toEqual([OptionReply.errorUnsupported]);
    expect(types(answerOversizedOption(createNegotiation(), option), option)).toEqual([
      OptionReply.errorUnsupported,
    ]);
  }
  const go = answerOversizedOption(createNegotiation(), OptionCode.go);
  expect(types(go, OptionCode.go)).toEqual([OptionReply.errorTooBig]);
  expect(answerOversizedOption(createNegotiation(), OptionCode.exportName).kind).toBe("close");
});

test("stopping: options are refused as such, EXPORT_NAME is closed, ABORT still works", () => {
  const stopping = catalog([offer("tank")], true);
  for (const option of [OptionCode.go, OptionCode.info, OptionCode.list, 99]) {
    const outcome = answer(option, NOTHING, stopping);
    expect(types(outcome, option)).toEqual([OptionReply.errorShutdown]);
  }
  expect(answer(OptionCode.exportName, TEXT.encode("tank"), stopping).kind).toBe("close");
  expect(types(answer(OptionCode.abort, NOTHING, stopping), 2)).toEqual([OptionReply.ack]);
});

test("malformed data: every truncation and a byte too many: refused as invalid", () => {
  const whole = new Map<number, Uint8Array>([
    [OptionCode.go, encodeInfoRequest("tank", [1, 3])],
    [OptionCode.info, encodeInfoRequest("tank", [3])],
    [OptionCode.setMetaContext, metaQuery("tank", ["base:allocation", "x"])],
    [OptionCode.listMetaContext, metaQuery("tank", ["base:"])],
  ]);
  for (const [option, data] of whole) {
    const extended = new Uint8Array(data.length + 1);
    extended.set(data);
    const broken = [extended];
    for (let length = 0; length < data.length; length += 1) broken.push(data.slice(0, length));
    for (const bytes of broken) {
      const outcome = answer(option, bytes, ONE, structured());
      expect(types(outcome, option)).toEqual([OptionReply.errorInvalid]);
    }
    const huge = data.slice();
    new DataView(huge.buffer).setUint32(0, 0xffff_ffff);
    const outcome = answer(option, huge, ONE, structured());
    expect(types(outcome, option)).toEqual([OptionReply.errorInvalid]);
  }
});

test("meta contexts: base:allocation is set for the export that is opened, and only for it", () => {
  const set = OptionCode.setMetaContext;
  const before = answer(set, metaQuery("tank", ["base:allocation"]));
  expect(types(before, set)).toEqual([OptionReply.errorInvalid]);

  const negotiation = createNegotiation();
  expect(types(answer(8, NOTHING, TWO, negotiation), 8)).toEqual([OptionReply.ack]);
  const outcome = answer(set, metaQuery("tank", ["x:y", "base:allocation"]), TWO, negotiation);
  const [context] = parse(outcome, set);
  expect(context?.type).toBe(OptionReply.metaContext);
  expect(new DataView(context!.data.buffer).getUint32(0)).toBe(1);
  expect(new TextDecoder().decode(context!.data.slice(4))).toBe("base:allocation");
  for (const [name, has] of [["tank", true] as const, ["späth", false] as const]) {
    const opened = answer(OptionCode.go, encodeInfoRequest(name, []), TWO, negotiation);
    expect(opened.kind === "open" && opened.hasAllocationContext).toBe(has);
  }

  const others = answer(set, metaQuery("tank", ["x:y"]), TWO, negotiation);
  expect(types(others, set)).toEqual([OptionReply.ack]);
  const opened = answer(OptionCode.go, encodeInfoRequest("tank", []), TWO, negotiation);
  expect(opened.kind === "open" && opened.hasAllocationContext).toBe(false);
});

test("meta contexts: listed without queries, by name and by namespace, and not otherwise", () => {
  const list = OptionCode.listMetaContext;
  const cases: [string[], number[]][] = [
    [[], [4, 1]],
    [["base:"], [4, 1]],
    [["base:allocation"], [4, 1]],
    [["qemu:"], [1]],
  ];
  for (const [queries, expected] of cases) {
    expect(types(answer(list, metaQuery("tank", queries)), list)).toEqual(expected);
  }
  const unknown = answer(list, metaQuery("nope", []));
  expect(types(unknown, list)).toEqual([OptionReply.errorUnknown]);
});

test("STARTTLS: in a session behind TLS: invalid; in a plain one: unsupported", () => {
  const secure = { ...createNegotiation(), isSecure: true };
  const { starttls } = OptionCode;
  expect(types(answerOption(secure, starttls, NOTHING, ONE), starttls)).toEqual([
    OptionReply.errorInvalid,
  ]);
  expect(types(answer(starttls, NOTHING), starttls)).toEqual([OptionReply.errorUnsupported]);
});
