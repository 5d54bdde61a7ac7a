/**
 * Option haggling, as a pure function: one option in, the bytes to answer and what comes next.
 *
 * Nothing here touches a socket. Option data come from the network: each length is checked, and
 * what does not fit exactly is answered ERR_INVALID. An option without a handler is answered
 * ERR_UNSUP, so a later option (extended headers) is one more row of HANDLERS.
 */
import type { NbdCaller } from "../array/protocol.ts";
import type { NbdLimits } from "./limits.ts";
import {
  concatenate,
  EXPORT_NAME_PADDING_BYTES,
  encodeOptionReply,
  HandshakeFlag,
  InfoType,
  OptionCode,
  OptionReply,
  STRING_BYTES_MAX,
  TransmissionFlag,
  writeOffset,
} from "./wire-format.ts";

/** An export as it is offered to clients. */
export interface ExportOffer {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly sizeBytes: number;
  readonly isReadOnly: boolean;
  readonly isRotational: boolean;
  /** Trims make holes, and zeroing by holes is fast. */
  readonly canTrim: boolean;
  /** A power of two, at least 512. */
  readonly preferredBytes: number;
}

/** What negotiation sees of the server, each for the client that asks (null: of a Unix socket). */
export interface Catalog {
  readonly isStopping: boolean;
  readonly maxRequestBytes: number;
  /** The names of the exports that it can open now, or as soon as their array is there. */
  names(caller: NbdCaller | null): readonly Uint8Array[];
  /** The export of that name; the empty name is the only export there is. */
  find(name: Uint8Array, caller: NbdCaller | null): ExportOffer | undefined;
  /** What keeps it from opening the export of that name now; null: there is none. */
  obstacle(name: Uint8Array, caller: NbdCaller | null): ExportObstacle | null;
}

/** Why a known export is not served. */
export interface ExportObstacle {
  /** Its array is on its way: that passes by itself. */
  readonly isPassing: boolean;
  /** This client may not open it. Absent: it may. */
  readonly isForbidden?: true;
  /** A sentence for the client. */
  readonly reason: string;
}

/** What one client has negotiated so far. */
export interface Negotiation {
  isWithoutZeroes: boolean;
  /** What the client says comes through TLS, which ends before it gets here. */
  isSecure: boolean;
  /** Who the client is, for exports that are not for everybody; null: one of a Unix socket. */
  caller: NbdCaller | null;
  isStructured: boolean;
  /** The client has waited for an array for as long as it may. */
  hasWaited: boolean;
  /** The export whose contexts were set last, and whether base:allocation is among them. */
  contextExport: string | null;
  optionCount: number;
  optionBytes: number;
}

export type OptionOutcome =
  | OptionAnswer
  /** No answer yet: the same option is to be answered again when something has changed. */
  | { readonly kind: "await-array"; readonly reply: Uint8Array };

export type OptionAnswer =
  | { readonly kind: "continue"; readonly reply: Uint8Array }
  /** The transmission phase begins behind `reply`. */
  | {
      readonly kind: "open";
      readonly reply: Uint8Array;
      readonly offer: ExportOffer;
      readonly hasAllocationContext: boolean;
    }
  /** Close when `reply` has been sent. */
  | { readonly kind: "close"; readonly reply: Uint8Array };

const ALLOCATION_CONTEXT = "base:allocation";
export const ALLOCATION_CONTEXT_ID = 1;

const NOTHING = new Uint8Array(0);
const ENCODER = new TextEncoder();
const ALLOCATION_BYTES = ENCODER.encode(ALLOCATION_CONTEXT);
const BASE_NAMESPACE_BYTES = ENCODER.encode("base:");

export function createNegotiation(): Negotiation {
  return {
    isWithoutZeroes: false,
    isSecure: false,
    caller: null,
    isStructured: false,
    hasWaited: false,
    contextExport: null,
    optionCount: 0,
    optionBytes: 0,
  };
}

/** Takes the client's flags; false where it sent one that does not exist. */
export function acceptClientFlags(negotiation: Negotiation, flags: number): boolean {
  const known = HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes;
  if ((flags & ~known) !== 0) return false;
  negotiation.isWithoutZeroes = (flags & HandshakeFlag.noZeroes) !== 0;
  return true;
}

/** Counts an announced option against the limits; false where it exceeds them. */
export function countOption(negotiation: Negotiation, bytes: number, limits: NbdLimits): boolean {
  negotiation.optionCount += 1;
  negotiation.optionBytes += bytes;
  return (
    negotiation.optionCount <= limits.maxOptions && negotiation.optionBytes <= limits.maxOptionBytes
  );
}

type Handler = (
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
) => OptionOutcome;

const HANDLERS: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [OptionCode.exportName, answerExportName],
  [OptionCode.abort, answerAbort],
  [OptionCode.list, answerList],
  [OptionCode.info, answerInfoOrGo],
  [OptionCode.go, answerInfoOrGo],
  [OptionCode.structuredReply, answerStructuredReply],
  [OptionCode.listMetaContext, answerMetaContext],
  [OptionCode.setMetaContext, answerMetaContext],
]);

/** Answers one option. `data` is the client's, complete and not shared with anybody. */
export function answerOption(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  if (catalog.isStopping && option !== OptionCode.abort) {
    // EXPORT_NAME has no way to say no but to hang up.
    if (option === OptionCode.exportName) return { kind: "close", reply: NOTHING };
    return refuse(option, OptionReply.errorShutdown, "the server is stopping");
  }
  // TLS is begun before a session (tls-front.ts), never in one, and never twice.
  if (option === OptionCode.starttls && negotiation.isSecure) {
    return refuse(option, OptionReply.errorInvalid, "TLS is on already");
  }
  const handler = HANDLERS.get(option);
  if (handler === undefined) return refuse(option, OptionReply.errorUnsupported, "");
  return handler(negotiation, option, data, catalog);
}

/** The answer to an option whose data were too long to keep, after they were read and dropped. */
export function answerOversizedOption(negotiation: Negotiation, option: number): OptionAnswer {
  switch (option) {
    case OptionCode.exportName:
      return { kind: "close", reply: NOTHING };
    case OptionCode.abort:
      return answerAbort(negotiation, option);
    case OptionCode.list:
    case OptionCode.structuredReply:
      return refuse(option, OptionReply.errorInvalid, "no data expected");
    case OptionCode.setMetaContext:
      negotiation.contextExport = null;
      break;
    default:
      if (!HANDLERS.has(option)) return refuse(option, OptionReply.errorUnsupported, "");
  }
  return refuse(option, OptionReply.errorTooBig, "too much option data");
}

export function canFastZero(offer: ExportOffer): boolean {
  return offer.canTrim && !offer.isReadOnly;
}

function transmissionFlags(offer: ExportOffer, isStructured: boolean): number {
  let flags =
    TransmissionFlag.hasFlags |
    TransmissionFlag.sendFlush |
    TransmissionFlag.sendFua |
    TransmissionFlag.canMultiConn |
    TransmissionFlag.sendCache;
  if (offer.isRotational) flags |= TransmissionFlag.rotational;
  if (offer.isReadOnly) flags |= TransmissionFlag.readOnly;
  else flags |= TransmissionFlag.sendWriteZeroes;
  if (canFastZero(offer)) flags |= TransmissionFlag.sendTrim | TransmissionFlag.sendFastZero;
  // A read is answered in one piece in any case.
  if (isStructured) flags |= TransmissionFlag.sendDf;
  return flags;
}

function refuse(option: number, type: number, message: string): OptionAnswer {
  return { kind: "continue", reply: encodeOptionReply(option, type, ENCODER.encode(message)) };
}

/**
 * The answer to an option that names an export which cannot be opened now. "Not available" is for
 * good, and clients give up; an array that is on its way is worth a wait, and after it the answer
 * that says "later" (as ESHUTDOWN does to requests), which is no word against the name.
 */
function refuseExport(
  negotiation: Negotiation,
  option: number,
  name: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  const obstacle = catalog.obstacle(name, negotiation.caller);
  const isPassing = obstacle?.isPassing === true;
  if (isPassing && !negotiation.hasWaited) return { kind: "await-array", reply: NOTHING };
  // EXPORT_NAME has no way to say no but to hang up.
  if (option === OptionCode.exportName) return { kind: "close", reply: NOTHING };
  if (obstacle?.isForbidden) return refuse(option, OptionReply.errorPolicy, obstacle.reason);
  const type = isPassing ? OptionReply.errorShutdown : OptionReply.errorUnknown;
  return refuse(option, type, obstacle?.reason ?? "there is no export of that name");
}

function acknowledge(option: number): OptionOutcome {
  return { kind: "continue", reply: encodeOptionReply(option, OptionReply.ack, NOTHING) };
}

function answerExportName(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  const offer = catalog.find(data, negotiation.caller);
  if (offer === undefined) return refuseExport(negotiation, option, data, catalog);
  const padding = negotiation.isWithoutZeroes ? 0 : EXPORT_NAME_PADDING_BYTES;
  const reply = new Uint8Array(10 + padding);
  const view = new DataView(reply.buffer);
  writeOffset(view, 0, offer.sizeBytes);
  view.setUint16(8, transmissionFlags(offer, negotiation.isStructured));
  return open(negotiation, offer, reply);
}

function open(negotiation: Negotiation, offer: ExportOffer, reply: Uint8Array): OptionOutcome {
  const hasAllocationContext = negotiation.isStructured && negotiation.contextExport === offer.name;
  return { kind: "open", reply, offer, hasAllocationContext };
}

function answerAbort(_negotiation: Negotiation, option: number): OptionAnswer {
  return { kind: "close", reply: encodeOptionReply(option, OptionReply.ack, NOTHING) };
}

function answerList(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  if (data.length !== 0) return refuse(option, OptionReply.errorInvalid, "LIST takes no data");
  const parts: Uint8Array[] = [];
  for (const name of catalog.names(negotiation.caller)) {
    parts.push(encodeOptionReply(option, OptionReply.server, prefixLength(name)));
  }
  parts.push(encodeOptionReply(option, OptionReply.ack, NOTHING));
  return { kind: "continue", reply: concatenate(parts) };
}

/** A 32-bit number, then the bytes: a string as options carry it, or a context and its name. */
function prefixNumber(value: number, bytes: Uint8Array): Uint8Array {
  const data = new Uint8Array(4 + bytes.length);
  new DataView(data.buffer).setUint32(0, value);
  data.set(bytes, 4);
  return data;
}

function prefixLength(bytes: Uint8Array): Uint8Array {
  return prefixNumber(bytes.length, bytes);
}

function answerStructuredReply(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
): OptionOutcome {
  if (data.length !== 0) return refuse(option, OptionReply.errorInvalid, "no data expected");
  negotiation.isStructured = true;
  return acknowledge(option);
}

/** Reads option data from the front; `isBroken` once something did not fit. */
class OptionReader {
  isBroken = false;
  private readonly data: Uint8Array;
  private readonly view: DataView;
  private at = 0;

  constructor(data: Uint8Array) {
    this.data = data;
    this.view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  get isAtEnd(): boolean {
    return !this.isBroken && this.at === this.data.length;
  }

  u16(): number {
    return this.has(2) ? this.view.getUint16(this.at - 2) : 0;
  }

  u32(): number {
    return this.has(4) ? this.view.getUint32(this.at - 4) : 0;
  }

  /** A length and so many bytes. */
  text(): Uint8Array {
    const bytes = this.u32();
    if (bytes > STRING_BYTES_MAX) this.isBroken = true;
    return this.has(bytes) ? this.data.subarray(this.at - bytes, this.at) : NOTHING;
  }

  /** Steps over `bytes` where they are there. */
  private has(bytes: number): boolean {
    if (this.at + bytes > this.data.length) this.isBroken = true;
    if (this.isBroken) return false;
    this.at += bytes;
    return true;
  }
}

function answerInfoOrGo(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  const reader = new OptionReader(data);
  const name = reader.text();
  const itemCount = reader.u16();
  let wantsName = false;
  for (let index = 0; index < itemCount && !reader.isBroken; index += 1) {
    if (reader.u16() === InfoType.name) wantsName = true;
  }
  if (!reader.isAtEnd) return refuse(option, OptionReply.errorInvalid, "malformed option data");
  const offer = catalog.find(name, negotiation.caller);
  if (offer === undefined) return refuseExport(negotiation, option, name, catalog);

  const parts: Uint8Array[] = [];
  parts.push(encodeOptionReply(option, OptionReply.info, exportInfo(negotiation, offer)));
  // Always told: a client that did not ask must skip what it does not know.
  parts.push(encodeOptionReply(option, OptionReply.info, blockSizeInfo(offer, catalog)));
  if (wantsName) {
    const info = new Uint8Array(2 + offer.nameBytes.length);
    new DataView(info.buffer).setUint16(0, InfoType.name);
    info.set(offer.nameBytes, 2);
    parts.push(encodeOptionReply(option, OptionReply.info, info));
  }
  parts.push(encodeOptionReply(option, OptionReply.ack, NOTHING));
  const reply = concatenate(parts);
  return option === OptionCode.go ? open(negotiation, offer, reply) : { kind: "continue", reply };
}

function exportInfo(negotiation: Negotiation, offer: ExportOffer): Uint8Array {
  const info = new Uint8Array(12);
  const view = new DataView(info.buffer);
  view.setUint16(0, InfoType.export);
  writeOffset(view, 2, offer.sizeBytes);
  view.setUint16(10, transmissionFlags(offer, negotiation.isStructured));
  return info;
}

function blockSizeInfo(offer: ExportOffer, catalog: Catalog): Uint8Array {
  const info = new Uint8Array(14);
  const view = new DataView(info.buffer);
  view.setUint16(0, InfoType.blockSize);
  view.setUint32(2, 1);
  view.setUint32(6, offer.preferredBytes);
  view.setUint32(10, catalog.maxRequestBytes);
  return info;
}

function answerMetaContext(
  negotiation: Negotiation,
  option: number,
  data: Uint8Array,
  catalog: Catalog,
): OptionOutcome {
  const isSet = option === OptionCode.setMetaContext;
  // A new choice replaces the old one, even where it fails.
  if (isSet) negotiation.contextExport = null;
  if (isSet && !negotiation.isStructured) {
    return refuse(option, OptionReply.errorInvalid, "structured replies come first");
  }
  const reader = new OptionReader(data);
  const name = reader.text();
  const queryCount = reader.u32();
  // A list without queries asks for everything.
  let isWanted = queryCount === 0 && !isSet;
  for (let index = 0; index < queryCount && !reader.isBroken; index += 1) {
    const query = reader.text();
    if (equalBytes(query, ALLOCATION_BYTES)) isWanted = true;
    if (!isSet && equalBytes(query, BASE_NAMESPACE_BYTES)) isWanted = true;
  }
  if (!reader.isAtEnd) return refuse(option, OptionReply.errorInvalid, "malformed option data");
  const offer = catalog.find(name, negotiation.caller);
  if (offer === undefined) return refuseExport(negotiation, option, name, catalog);
  if (!isWanted) return acknowledge(option);
  if (isSet) negotiation.contextExport = offer.name;
  const context = prefixNumber(isSet ? ALLOCATION_CONTEXT_ID : 0, ALLOCATION_BYTES);
  const parts = [
    encodeOptionReply(option, OptionReply.metaContext, context),
    encodeOptionReply(option, OptionReply.ack, NOTHING),
  ];
  return { kind: "continue", reply: concatenate(parts) };
}

export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let index = 0; index < left.length; index += 1) {
    if (left[index] !== right[index]) return false;
  }
  return true;
}
