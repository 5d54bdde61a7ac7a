/**
 * The part of a connection that haggles: takes the client's flags and its options out of the
 * receive buffer, one at a time, and has handshake.ts judge them.
 *
 * Nothing is remembered of an option that must wait: its data stay in the buffer, and the same step
 * is taken again when what it waits for has come.
 */
import type { NbdCaller } from "../array/protocol.ts";
import { assert } from "../base/assert.ts";
import type { SharedMemory } from "../base/memory.ts";
import {
  acceptClientFlags,
  answerOption,
  answerOversizedOption,
  type Catalog,
  countOption,
  createNegotiation,
  type Negotiation,
  type OptionAnswer,
} from "./handshake.ts";
import type { NbdLimits } from "./limits.ts";
import type { ReceiveBuffer } from "./receive-buffer.ts";
import type { Phase, SessionEvent } from "./session-state.ts";
import {
  CLIENT_FLAGS_BYTES,
  OPTION_HEADER_BYTES,
  OPTION_MAGIC_HIGH,
  OPTION_MAGIC_LOW,
} from "./wire-format.ts";

/** Who has connected. */
export interface Newcomer {
  /** As `SocketKernel.peerOf` says it, of the client: the socket may be our own. */
  readonly peer: string;
  /** As exports judge it; null: a client of a Unix socket. */
  readonly caller: NbdCaller | null;
}

/** What a client and the part of the server that greeted it have agreed on. */
export interface Greeted extends Newcomer {
  /** The client's side of the socket is behind TLS. */
  readonly isSecure: boolean;
  readonly isWithoutZeroes: boolean;
}

export type NegotiationStep =
  /** More bytes must come first. */
  | { readonly kind: "more" }
  /** What was answered must be sent first. */
  | { readonly kind: "output" }
  | { readonly kind: "passed"; readonly event: SessionEvent }
  | { readonly kind: "answered"; readonly outcome: OptionAnswer }
  /** The array of the export that the option names is on its way. */
  | { readonly kind: "await-array" }
  | { readonly kind: "violation"; readonly reason: string };

/** Option data are kept up to this share of the buffer; longer ones are dropped and refused. */
const OPTION_DATA_SHARE = 2;
const MORE = { kind: "more" } as const;

export class Negotiator {
  /** What was agreed on so far. */
  negotiation: Negotiation = createNegotiation();
  private readonly memory: SharedMemory;
  private readonly buffer: ReceiveBuffer;
  private readonly limits: NbdLimits;
  private readonly catalog: Catalog;
  private option = 0;
  /** Bytes of option data that are still to come. */
  private leftBytes = 0;

  constructor(options: {
    memory: SharedMemory;
    buffer: ReceiveBuffer;
    limits: NbdLimits;
    catalog: Catalog;
  }) {
    this.memory = options.memory;
    this.buffer = options.buffer;
    this.limits = options.limits;
    this.catalog = options.catalog;
  }

  begin({ isSecure, isWithoutZeroes, caller }: Greeted): void {
    this.negotiation = { ...createNegotiation(), isSecure, isWithoutZeroes, caller };
    this.leftBytes = 0;
  }

  /** `canAnswer`: what was answered before has been sent, so that what is queued stays bounded. */
  step(phase: Phase, canAnswer: boolean): NegotiationStep {
    switch (phase) {
      case "client-flags":
        return this.readClientFlags();
      case "option":
        return canAnswer ? this.readOptionHeader() : { kind: "output" };
      case "option-data":
        return this.readOptionData();
      case "option-skip":
        return this.skipOptionData();
      default:
        assert(false, "a connection that negotiates is in one of these phases");
    }
  }

  private readClientFlags(): NegotiationStep {
    if (this.buffer.usedBytes < CLIENT_FLAGS_BYTES) return MORE;
    const flags = this.memory.view.getUint32(this.buffer.readAddress);
    this.buffer.consume(CLIENT_FLAGS_BYTES);
    return acceptClientFlags(this.negotiation, flags)
      ? { kind: "passed", event: "flags-read" }
      : { kind: "violation", reason: "unknown client flags" };
  }

  private readOptionHeader(): NegotiationStep {
    if (this.buffer.usedBytes < OPTION_HEADER_BYTES) return MORE;
    const { view } = this.memory;
    const address = this.buffer.readAddress;
    const isMagicRight =
      view.getUint32(address) === OPTION_MAGIC_HIGH &&
      view.getUint32(address + 4) === OPTION_MAGIC_LOW;
    if (!isMagicRight) return { kind: "violation", reason: "bad option magic" };
    this.option = view.getUint32(address + 8);
    this.leftBytes = view.getUint32(address + 12);
    this.buffer.consume(OPTION_HEADER_BYTES);
    if (!countOption(this.negotiation, this.leftBytes, this.limits)) {
      return { kind: "violation", reason: "too many options, or too much option data" };
    }
    const isKept = this.leftBytes <= this.buffer.capacityBytes / OPTION_DATA_SHARE;
    return { kind: "passed", event: isKept ? "option-announced" : "option-refused" };
  }

  private readOptionData(): NegotiationStep {
    if (this.buffer.usedBytes < this.leftBytes) return MORE;
    const address = this.buffer.readAddress;
    // A copy of its own: the buffer is used again.
    const data = this.memory.bytes.slice(address, address + this.leftBytes);
    const outcome = answerOption(this.negotiation, this.option, data, this.catalog);
    if (outcome.kind === "await-array") return { kind: "await-array" };
    this.buffer.consume(this.leftBytes);
    this.leftBytes = 0;
    return { kind: "answered", outcome };
  }

  private skipOptionData(): NegotiationStep {
    const bytes = Math.min(this.leftBytes, this.buffer.usedBytes);
    this.buffer.consume(bytes);
    this.leftBytes -= bytes;
    if (this.leftBytes > 0) return MORE;
    return { kind: "answered", outcome: answerOversizedOption(this.negotiation, this.option) };
  }
}
