/**
 * Goal: before TLS nothing of a client has an effect but STARTTLS and ABORT where TLS is required,
 * and where it is optional options pass to and fro unchanged until STARTTLS makes them void.
 * Method: the pure front between a client and a session that are lists of bytes; every case is
 * repeated with the bytes of both sides cut into single ones.
 */
import { expect, test } from "bun:test";
import { DEFAULT_NBD_LIMITS } from "../../../src/nbd/limits.ts";
import { TlsFront, type TlsMode } from "../../../src/nbd/tls-front.ts";
import {
  concatenate,
  encodeInfoRequest,
  encodeOption,
  encodeOptionReply,
  OptionCode,
  OptionReply,
} from "../../../src/nbd/wire-format.ts";

const NOTHING = new Uint8Array(0);
const FLAGS = new Uint8Array([0, 0, 0, 3]);
const STARTTLS = encodeOption(OptionCode.starttls, NOTHING);
const LIST = encodeOption(OptionCode.list, NOTHING);
const GO = encodeOption(OptionCode.go, encodeInfoRequest("tank", [3]));
const ABORT = encodeOption(OptionCode.abort, NOTHING);
const SECRET = new Uint8Array(40).fill(0x53);

class Bench {
  readonly front: TlsFront;
  readonly toClient: Uint8Array[] = [];
  readonly toSession: Uint8Array[] = [];
  readonly said: string[] = [];
  private readonly pieceBytes: number;

  constructor(mode: TlsMode, pieceBytes: number) {
    this.pieceBytes = pieceBytes;
    this.front = new TlsFront({
      mode,
      limits: DEFAULT_NBD_LIMITS,
      actions: {
        answer: (bytes) => this.toClient.push(bytes.slice()),
        forward: (bytes) => this.toSession.push(bytes.slice()),
        startTls: () => this.said.push("tls"),
        close: (reason) => this.said.push(reason ?? "end"),
      },
    });
  }

  client(...parts: readonly Uint8Array[]): void {
    for (const piece of this.cut(concatenate(parts))) this.front.fromClient(piece);
  }

  session(...parts: readonly Uint8Array[]): void {
    for (const piece of this.cut(concatenate(parts))) this.front.fromSession(piece);
  }

  private cut(bytes: Uint8Array): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += this.pieceBytes) {
      pieces.push(bytes.slice(at, at + this.pieceBytes));
    }
    return pieces;
  }

  get clientBytes(): Uint8Array {
    return concatenate(this.toClient);
  }

  get sessionBytes(): Uint8Array {
    return concatenate(this.toSession);
  }
}

function reply(option: number, type: number, data: Uint8Array = NOTHING): Uint8Array {
  return encodeOptionReply(option, type, data);
}

const { ack, errorTlsRequired, errorInvalid, errorUnknown } = OptionReply;

for (const pieceBytes of [1, 7, 1_000_000]) {
  const cut = `in pieces of ${pieceBytes}`;

  test(`tls front: required, every other option: ERR_TLS_REQD, ${cut}`, () => {
    const bench = new Bench("required", pieceBytes);
    const options = [0, 3, 4, 6, 7, 8, 9, 10, 11, 77, 0xffff_ffff];
    bench.client(FLAGS);
    for (const option of options) bench.client(encodeOption(option, SECRET));
    const wanted = options.map((option) => reply(option, errorTlsRequired));
    expect(bench.clientBytes).toEqual(concatenate(wanted));
    expect([bench.toSession, bench.said, bench.front.phase]).toEqual([[], [], "option"]);
  });

  test(`tls front: STARTTLS: acknowledged, and what follows is never looked at, ${cut}`, () => {
    for (const mode of ["required", "optional"] as const) {
      const bench = new Bench(mode, pieceBytes);
      bench.client(FLAGS, STARTTLS, LIST, GO, SECRET);
      expect(bench.clientBytes).toEqual(reply(OptionCode.starttls, ack));
      expect([bench.toSession, bench.said, bench.front.phase]).toEqual([[], ["tls"], "tls"]);
      expect(bench.front.isWithoutZeroes).toBe(true);
    }
  });

  test(`tls front: STARTTLS with data: invalid, and again without: TLS, ${cut}`, () => {
    for (const mode of ["required", "optional"] as const) {
      const bench = new Bench(mode, pieceBytes);
      bench.client(FLAGS, encodeOption(OptionCode.starttls, SECRET), STARTTLS);
      const { starttls } = OptionCode;
      const wanted = [reply(starttls, errorInvalid), reply(starttls, ack)];
      expect(bench.clientBytes).toEqual(concatenate(wanted));
      expect([bench.toSession, bench.said]).toEqual([[], ["tls"]]);
    }
  });

  test(`tls front: required, ABORT: acknowledged; EXPORT_NAME: hung up, ${cut}`, () => {
    const abort = new Bench("required", pieceBytes);
    abort.client(FLAGS, ABORT, STARTTLS);
    expect(abort.clientBytes).toEqual(reply(OptionCode.abort, ack));
    expect(abort.said).toEqual(["end"]);
    const named = new Bench("required", pieceBytes);
    named.client(FLAGS, encodeOption(OptionCode.exportName, SECRET), STARTTLS);
    expect([named.clientBytes, named.said]).toEqual([NOTHING, ["TLS is required"]]);
  });

  test(`tls front: optional, options: one at a time, each when the last is answered, ${cut}`, () => {
    const bench = new Bench("optional", pieceBytes);
    bench.client(FLAGS, LIST);
    expect([bench.sessionBytes, bench.front.wantsClient]).toEqual([LIST, false]);
    bench.client(GO, SECRET); // Sent without waiting: kept.
    expect(bench.sessionBytes).toEqual(LIST);
    const listed = [
      reply(OptionCode.list, OptionReply.server, SECRET),
      reply(OptionCode.list, OptionReply.server, NOTHING),
    ];
    bench.session(...listed);
    expect(bench.sessionBytes).toEqual(LIST);
    bench.session(reply(OptionCode.list, ack));
    expect(bench.sessionBytes).toEqual(concatenate([LIST, GO]));
    const opened = [reply(OptionCode.go, OptionReply.info, SECRET), reply(OptionCode.go, ack)];
    bench.session(...opened);
    expect(bench.front.phase).toBe("open");
    expect(bench.sessionBytes).toEqual(concatenate([LIST, GO, SECRET]));
    // From here nothing is looked at: STARTTLS is payload.
    bench.client(STARTTLS);
    bench.session(SECRET);
    expect(bench.sessionBytes).toEqual(concatenate([LIST, GO, SECRET, STARTTLS]));
    const answers = [...listed, reply(OptionCode.list, ack), ...opened, SECRET];
    expect([bench.clientBytes, bench.said]).toEqual([concatenate(answers), []]);
  });

  test(`tls front: optional, STARTTLS behind other options: TLS, ${cut}`, () => {
    const bench = new Bench("optional", pieceBytes);
    bench.client(FLAGS, GO, STARTTLS, SECRET);
    expect([bench.sessionBytes, bench.said]).toEqual([GO, []]);
    bench.session(reply(OptionCode.go, errorUnknown, SECRET));
    expect([bench.sessionBytes, bench.said]).toEqual([GO, ["tls"]]);
    expect(bench.clientBytes).toEqual(
      concatenate([reply(OptionCode.go, errorUnknown, SECRET), reply(OptionCode.starttls, ack)]),
    );
  });

  test(`tls front: optional, EXPORT_NAME: open at once, ${cut}`, () => {
    const bench = new Bench("optional", pieceBytes);
    const named = encodeOption(OptionCode.exportName, new TextEncoder().encode("tank"));
    bench.client(FLAGS, named, SECRET);
    expect(bench.front.phase).toBe("open");
    expect(bench.sessionBytes).toEqual(concatenate([named, SECRET]));
    bench.session(SECRET);
    expect(bench.clientBytes).toEqual(SECRET);
  });

  test(`tls front: unknown flags, bad magic, too many, too much: hung up, ${cut}`, () => {
    const large = encodeOption(77, NOTHING);
    new DataView(large.buffer).setUint32(12, 70_000);
    const cases: readonly (readonly [Uint8Array, string])[] = [
      [new Uint8Array([0, 0, 0, 4]), "unknown client flags"],
      [concatenate([FLAGS, SECRET]), "bad option magic"],
      [
        concatenate([FLAGS, ...new Array(65).fill(LIST)]),
        "too many options, or too much option data",
      ],
      [concatenate([FLAGS, large]), "too many options, or too much option data"],
    ];
    for (const [bytes, reason] of cases) {
      const bench = new Bench("required", pieceBytes);
      bench.client(bytes, STARTTLS);
      expect([bench.said, bench.front.phase]).toEqual([[reason], "closed"]);
    }
  });
}
