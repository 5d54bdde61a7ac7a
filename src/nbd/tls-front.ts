/**
 * What stands before a TCP client that may, or must, negotiate over TLS: greets it and takes its
 * options until STARTTLS. Pure: bytes in from two sides, calls of `FrontActions` out.
 *
 *   flags -> option -> data -> option ...        `required`: every option is answered here
 *                        \-> answer -> option    `optional`: forwarded, one at a time, and on from
 *                                     \-> open   here when the session behind has answered it
 *   option STARTTLS -> tls          GO acknowledged, or EXPORT_NAME -> open
 *
 * Invariant: at STARTTLS no option is under way, so nothing that was said in the clear has an
 * effect: the session behind is dropped with all that it negotiated, and what the client sent after
 * STARTTLS but before its handshake is never looked at (an attacker may have put it there).
 */
import { assert, unreachable } from "../base/assert.ts";
import {
  acceptClientFlags,
  countOption,
  createNegotiation,
  type Negotiation,
} from "./handshake.ts";
import type { NbdLimits } from "./limits.ts";
import {
  CLIENT_FLAGS_BYTES,
  concatenate,
  encodeOptionReply,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
  OPTION_REPLY_HEADER_BYTES,
  OPTION_REPLY_MAGIC_HIGH,
  OPTION_REPLY_MAGIC_LOW,
  OptionCode,
  OptionReply,
} from "./wire-format.ts";

export type TlsMode = "required" | "optional";

export interface FrontActions {
  /** Bytes for the client. */
  answer(bytes: Uint8Array): void;
  /** Bytes for the session behind, which the first of them opens. */
  forward(bytes: Uint8Array): void;
  /** The client waits for TLS once what was answered has been sent. */
  startTls(): void;
  /** Ends the connection once what was answered has been sent. `reason` null: as it should be. */
  close(reason: string | null): void;
}

export type FrontPhase = "flags" | "option" | "data" | "answer" | "open" | "tls" | "closed";

/** A type at or above this is an error, which ends the answers to an option as ACK does. */
const FIRST_ERROR = OptionReply.errorUnsupported;

const NOTHING = new Uint8Array(0);

export class TlsFront {
  phase: FrontPhase = "flags";
  private readonly mode: TlsMode;
  private readonly limits: NbdLimits;
  private readonly actions: FrontActions;
  private readonly negotiation: Negotiation = createNegotiation();
  /** Bytes of the client that are not used up. */
  private kept: Uint8Array = NOTHING;
  private option = 0;
  private leftBytes = 0;
  private readonly answerHeader = new Uint8Array(OPTION_REPLY_HEADER_BYTES);
  private answerHeaderBytes = 0;
  private answerLeftBytes = 0;
  private isLastAnswer = false;

  constructor(options: { mode: TlsMode; limits: NbdLimits; actions: FrontActions }) {
    this.mode = options.mode;
    this.limits = options.limits;
    this.actions = options.actions;
  }

  /** What the client asked for in its flags: it holds for the session behind, TLS or not. */
  get isWithoutZeroes(): boolean {
    return this.negotiation.isWithoutZeroes;
  }

  /** False while the session behind must answer first: then the client is not to be read. */
  get wantsClient(): boolean {
    return this.phase !== "answer";
  }

  fromClient(chunk: Uint8Array): void {
    if (this.phase === "tls" || this.phase === "closed") return;
    if (this.phase === "open") {
      this.actions.forward(chunk);
      return;
    }
    this.kept = this.kept.length === 0 ? chunk : concatenate([this.kept, chunk]);
    this.advance();
  }

  /** Passes on what the session behind says, and watches for the end of its answer. */
  fromSession(chunk: Uint8Array): void {
    this.actions.answer(chunk);
    if (this.phase !== "answer") return;
    let at = 0;
    while (at < chunk.length && this.phase === "answer") at += this.readAnswer(chunk, at);
    this.advance();
  }

  private advance(): void {
    while (this.step());
  }

  /** One step; false when it needs more bytes or another side. */
  private step(): boolean {
    switch (this.phase) {
      case "flags":
        return this.readFlags();
      case "option":
        return this.readOption();
      case "data":
        return this.readData();
      case "open": {
        // What came behind the last option is for the session.
        const rest = this.take(this.kept.length);
        if (rest.length > 0) this.actions.forward(rest);
        return false;
      }
      case "answer":
      case "tls":
      case "closed":
        return false;
      default:
        return unreachable(this.phase);
    }
  }

  private take(bytes: number): Uint8Array {
    const taken = this.kept.subarray(0, bytes);
    this.kept = this.kept.length === bytes ? NOTHING : this.kept.subarray(bytes);
    return taken;
  }

  private close(reason: string | null): boolean {
    this.phase = "closed";
    this.kept = NOTHING;
    this.actions.close(reason);
    return false;
  }

  private readFlags(): boolean {
    if (this.kept.length < CLIENT_FLAGS_BYTES) return false;
    const flags = viewOf(this.take(CLIENT_FLAGS_BYTES)).getUint32(0);
    if (!acceptClientFlags(this.negotiation, flags)) return this.close("unknown client flags");
    this.phase = "option";
    return true;
  }

  private readOption(): boolean {
    if (this.kept.length < OPTION_HEADER_BYTES) return false;
    const header = this.take(OPTION_HEADER_BYTES);
    const view = viewOf(header);
    const isMagicRight =
      view.getUint32(0) === OPTION_MAGIC_HIGH && view.getUint32(4) === OPTION_MAGIC_LOW;
    if (!isMagicRight) return this.close("bad option magic");
    this.option = view.getUint32(8);
    this.leftBytes = view.getUint32(12);
    if (!countOption(this.negotiation, this.leftBytes, this.limits)) {
      return this.close("too many options, or too much option data");
    }
    this.phase = "data";
    if (this.option === OptionCode.starttls && this.leftBytes === 0) return this.startTls();
    if (this.isForwarded) this.actions.forward(header);
    return true;
  }

  private get isForwarded(): boolean {
    return this.mode === "optional" && this.option !== OptionCode.starttls;
  }

  private readData(): boolean {
    const bytes = Math.min(this.leftBytes, this.kept.length);
    const data = this.take(bytes);
    this.leftBytes -= bytes;
    if (this.isForwarded && bytes > 0) this.actions.forward(data);
    if (this.leftBytes > 0) return false;
    return this.isForwarded ? this.awaitAnswer() : this.answerHere();
  }

  private startTls(): boolean {
    this.reply(OptionReply.ack);
    this.phase = "tls";
    this.kept = NOTHING;
    this.actions.startTls();
    return false;
  }

  private awaitAnswer(): boolean {
    // It has no answer that could be told from what follows it.
    if (this.option === OptionCode.exportName) {
      this.phase = "open";
      return true;
    }
    this.phase = "answer";
    return false;
  }

  private answerHere(): boolean {
    switch (this.option) {
      case OptionCode.exportName:
        return this.close("TLS is required"); // There is no other way to say no to it.
      case OptionCode.abort:
        this.reply(OptionReply.ack);
        return this.close(null);
      case OptionCode.starttls: // It came with data.
        this.reply(OptionReply.errorInvalid);
        break;
      default:
        this.reply(OptionReply.errorTlsRequired);
    }
    this.phase = "option";
    return true;
  }

  private reply(type: number): void {
    this.actions.answer(encodeOptionReply(this.option, type, NOTHING));
  }

  /** Reads on in the answers at `at`; the number of bytes used. */
  private readAnswer(chunk: Uint8Array, at: number): number {
    if (this.answerHeaderBytes < OPTION_REPLY_HEADER_BYTES) {
      const wanted = OPTION_REPLY_HEADER_BYTES - this.answerHeaderBytes;
      const part = chunk.subarray(at, at + wanted);
      this.answerHeader.set(part, this.answerHeaderBytes);
      this.answerHeaderBytes += part.length;
      if (part.length === wanted) this.readAnswerHeader();
      return part.length;
    }
    const bytes = Math.min(this.answerLeftBytes, chunk.length - at);
    this.answerLeftBytes -= bytes;
    if (this.answerLeftBytes === 0) this.endAnswer();
    return bytes;
  }

  private readAnswerHeader(): void {
    const view = viewOf(this.answerHeader);
    const isMagicRight =
      view.getUint32(0) === OPTION_REPLY_MAGIC_HIGH && view.getUint32(4) === OPTION_REPLY_MAGIC_LOW;
    assert(isMagicRight, "the session behind answers options in their own form");
    const type = view.getUint32(12);
    this.isLastAnswer = type === OptionReply.ack || type >= FIRST_ERROR;
    this.answerLeftBytes = view.getUint32(16);
    if (this.answerLeftBytes === 0) this.endAnswer();
  }

  private endAnswer(): void {
    this.answerHeaderBytes = 0;
    if (!this.isLastAnswer) return;
    const hasOpened =
      this.option === OptionCode.go && viewOf(this.answerHeader).getUint32(12) === OptionReply.ack;
    this.phase = hasOpened ? "open" : "option";
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
