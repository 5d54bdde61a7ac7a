/** Connections that end in every way, and clients that send noise. */
import { expect } from "bun:test";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { MIB } from "../../../src/base/units.ts";
import {
  Command,
  concatenate,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
  REQUEST_BYTES,
} from "../../../src/nbd/wire-format.ts";
import { randomBytes } from "../../helpers/nbd-data.ts";
import { BOTH_FLAGS, clientFlags, RawNbd, rawRequest } from "../../helpers/raw-nbd.ts";
import {
  disconnect,
  EXPORT,
  expectInSync,
  type NbdCase,
  type NbdLab,
  opened,
  readAt,
} from "./lab.ts";

const GO = encodeOption(OptionCode.go, encodeInfoRequest(EXPORT, []));
const OLD = 0x11;
const NEW = 0x22;

/** Long enough for the server to have taken in what was sent. */
function aMoment(): Promise<void> {
  return Bun.sleep(10);
}

async function expectServing(lab: NbdLab): Promise<void> {
  const raw = await opened(lab);
  await expectInSync(raw);
  await disconnect(raw);
}

const IN_NEGOTIATION: readonly NbdCase[] = (
  [
    ["before the flags", []],
    ["in the flags", [clientFlags(BOTH_FLAGS).subarray(0, 3)]],
    ["behind the flags", [clientFlags(BOTH_FLAGS)]],
    ["in an option header", [clientFlags(BOTH_FLAGS), GO.subarray(0, 9)]],
    ["in option data", [clientFlags(BOTH_FLAGS), GO.subarray(0, GO.length - 1)]],
    [
      "in option data that are dropped",
      [clientFlags(BOTH_FLAGS), encodeOption(77, new Uint8Array(60_000)).subarray(0, 30_000)],
    ],
    ["behind GO, the answer unread", [clientFlags(BOTH_FLAGS), GO]],
  ] as const
).flatMap(([where, parts]) =>
  (["hangs up", "half closes"] as const).map((how) => ({
    name: `the client ${how} ${where}: the connection is gone, others are served`,
    run: async (lab: NbdLab) => {
      const raw = RawNbd.open(lab.unix);
      await raw.greeting();
      if (parts.length > 0) raw.send(...parts);
      if (how === "hangs up") raw.close();
      else {
        raw.halfClose();
        await raw.readToEnd();
        raw.close();
      }
      await expectServing(lab);
    },
  })),
);

/** Fills a range, sends half of a write over it, ends so, and finds the range as it was. */
function halfAWrite(how: string, end: (raw: RawNbd) => void, isTcp: boolean): NbdCase {
  return {
    name: `${how} in the middle of a write: not a byte of it is applied`,
    run: async (lab) => {
      for (const [bytes, sent] of [
        [512, 511],
        [70_000, 65_536],
        [MIB, MIB - 1],
      ] as const) {
        const offset = 2 * MIB + 100;
        const raw = await opened(lab, EXPORT, isTcp ? lab.tcp : lab.unix);
        raw.request({ command: Command.write, offset, bytes }, new Uint8Array(bytes).fill(OLD));
        expect((await raw.reply()).error).toBe(0);
        const payload = new Uint8Array(sent).fill(NEW);
        raw.request({ command: Command.write, offset, bytes }, payload);
        await aMoment();
        end(raw);
        await aMoment();
        const found = await readAt(lab, offset, bytes);
        expect(found.every((byte) => byte === OLD)).toBe(true);
      }
    },
  };
}

const hangUp = (raw: RawNbd): void => raw.close();
const reset = (raw: RawNbd): void => raw.reset();

/** With a hundred replies under way. */
function repliesPending(how: string, end: (raw: RawNbd) => void, isTcp: boolean): NbdCase {
  return {
    name: `${how} with 100 replies under way: an ordinary event`,
    run: async (lab) => {
      for (const pauseMs of [0, 2]) {
        const raw = await opened(lab, EXPORT, isTcp ? lab.tcp : lab.unix);
        raw.pause();
        const header = rawRequest({ command: Command.read, offset: 77, bytes: 100_000 });
        raw.send(...new Array(100).fill(header));
        await Bun.sleep(pauseMs);
        end(raw);
        await expectServing(lab);
      }
    },
  };
}

const IN_TRANSMISSION: readonly NbdCase[] = [
  {
    name: "the client hangs up in a request header, at each of its bytes: others are served",
    run: async (lab) => {
      const header = rawRequest({ command: Command.write, bytes: 4096 });
      for (let cut = 1; cut <= REQUEST_BYTES; cut += 1) {
        const raw = await opened(lab);
        raw.send(header.subarray(0, cut));
        raw.close();
      }
      await expectServing(lab);
    },
  },
  halfAWrite("a hang-up", hangUp, false),
  halfAWrite("a hang-up on TCP", hangUp, true),
  halfAWrite("a reset", reset, true),
  halfAWrite("a half close", (raw) => raw.halfClose(), false),
  repliesPending("a hang-up", hangUp, false),
  repliesPending("a hang-up on TCP", hangUp, true),
  repliesPending("a reset", reset, true),
  {
    name: "a half close with 100 reads under way: all are answered, then hung up",
    run: async (lab) => {
      const raw = await opened(lab);
      raw.send(...new Array(100).fill(rawRequest({ command: Command.read, bytes: 5000 })));
      raw.halfClose();
      expect((await raw.readToEnd()).length).toBe(100 * 5016);
      raw.close();
    },
  },
  {
    name: "writes and a flush, then a hang-up: each write is whole, old or new",
    run: async (lab) => {
      const bytes = 70_000;
      const fill = await opened(lab);
      const old = new Uint8Array(20 * bytes).fill(OLD);
      fill.request({ command: Command.write, offset: 0, bytes: old.length }, old);
      expect((await fill.reply()).error).toBe(0);
      const raw = await opened(lab);
      for (let index = 0; index < 20; index += 1) {
        const request = { command: Command.write, offset: index * bytes, bytes };
        raw.request(request, new Uint8Array(bytes).fill(NEW));
      }
      raw.request({ command: Command.flush });
      await Bun.sleep(3);
      raw.close();
      fill.request({ command: Command.flush });
      expect((await fill.reply()).error).toBe(0);
      // Those that were received whole may still be under way, and a read beside them sees a part.
      let torn = 20;
      for (let round = 0; round < 100 && torn > 0; round += 1) {
        await aMoment();
        fill.request({ command: Command.read, offset: 0, bytes: old.length });
        const { data } = await fill.reply(old.length);
        torn = 0;
        for (let index = 0; index < 20; index += 1) {
          const part = data.subarray(index * bytes, (index + 1) * bytes);
          if (!part.every((byte) => byte === part[0])) torn += 1;
        }
      }
      expect(torn).toBe(0);
      await disconnect(fill);
    },
  },
];

const SEEDS = 60;

/** Noise that is a little like NBD: good pieces, cut, repeated and with bytes changed. */
function noise(random: SeededRandom, pieces: readonly Uint8Array[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const count = 1 + nextBelow(random, 20);
  for (let index = 0; index < count; index += 1) {
    const piece = pieces[nextBelow(random, pieces.length)]!.slice();
    if (nextBelow(random, 3) === 0) piece[nextBelow(random, piece.length)] = nextBelow(random, 256);
    parts.push(
      nextBelow(random, 8) === 0 ? piece.subarray(0, nextBelow(random, piece.length)) : piece,
    );
  }
  return concatenate(parts);
}

function fuzz(
  what: string,
  isOpened: boolean,
  make: (random: SeededRandom, seed: number) => Uint8Array,
): NbdCase {
  return {
    name: `${what}, ${SEEDS} seeds: at most a hang-up, others are served`,
    run: async (lab) => {
      for (let seed = 1; seed <= SEEDS; seed += 1) {
        // A read-only export: what looks like a write must not hit what other cases compare.
        const raw = isOpened ? await opened(lab, `${EXPORT}-ro`) : RawNbd.open(lab.unix);
        raw.send(make(new SeededRandom(seed), seed));
        raw.halfClose();
        await raw.readToEnd();
        raw.close();
      }
      await expectServing(lab);
    },
  };
}

const FUZZ: readonly NbdCase[] = [
  fuzz("random bytes in place of a handshake", false, (_, seed) => randomBytes(seed, 3000)),
  fuzz("random bytes behind good flags", false, (_, seed) =>
    concatenate([clientFlags(BOTH_FLAGS), randomBytes(seed, 3000)]),
  ),
  fuzz("options, cut and changed", false, (random) =>
    concatenate([
      clientFlags(BOTH_FLAGS),
      noise(random, [
        GO,
        encodeOption(OptionCode.list, new Uint8Array(0)),
        encodeOption(OptionCode.structuredReply, new Uint8Array(0)),
        encodeOption(OptionCode.info, encodeInfoRequest(EXPORT, [1, 2, 3])),
        encodeOption(OptionCode.setMetaContext, randomBytes(1, 40)),
      ]),
    ]),
  ),
  fuzz("requests, cut and changed", true, (random) =>
    noise(random, [
      rawRequest({ command: Command.read, offset: 4096, bytes: 4096 }),
      rawRequest({ command: Command.read, offset: 1n << 63n, bytes: 1 }),
      concatenate([rawRequest({ command: Command.write, bytes: 600 }), randomBytes(2, 600)]),
      rawRequest({ command: Command.flush }),
      rawRequest({ command: Command.trim, bytes: 4096 }),
      rawRequest({ command: Command.blockStatus, bytes: 4096 }),
      rawRequest({ command: 99, flags: 0xffff, bytes: 0xffff_ffff }),
    ]),
  ),
  fuzz("random bytes in place of requests", true, (_, seed) => randomBytes(seed, 3000)),
];

export const END_CASES: readonly NbdCase[] = [...IN_NEGOTIATION, ...IN_TRANSMISSION, ...FUZZ];
