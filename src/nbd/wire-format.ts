/**
 * The NBD wire format: numbers, and codecs over a DataView at an address (proto.md of the NBD
 * project, "fixed newstyle"). All integers are big-endian.
 *
 * request (28 bytes)                    simple reply (16 bytes)
 *   0 u32 magic 0x25609513                0 u32 magic 0x67446698
 *   4 u16 flags   6 u16 command           4 u32 error
 *   8 8 bytes cookie                      8 8 bytes cookie
 *  16 u64 offset  24 u32 length
 *
 * structured chunk (20 bytes and payload)
 *   0 u32 magic 0x668e33ef   4 u16 flags   6 u16 type   8 8 bytes cookie   16 u32 payload length
 *
 * The cookie lies at byte 8 of a request and of every kind of reply (of the extended headers too),
 * so it is copied as raw bytes once and never becomes a number.
 */

export const GREETING_MAGIC_HIGH = 0x4e42444d; // "NBDMAGIC"
export const GREETING_MAGIC_LOW = 0x41474943;
export const OPTION_MAGIC_HIGH = 0x49484156; // "IHAVEOPT"
export const OPTION_MAGIC_LOW = 0x454f5054;
export const OPTION_REPLY_MAGIC_HIGH = 0x0003e889;
export const OPTION_REPLY_MAGIC_LOW = 0x045565a9;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const CHUNK_MAGIC = 0x668e33ef;

export const HandshakeFlag = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const TransmissionFlag = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendFua: 8,
  rotational: 16,
  sendTrim: 32,
  sendWriteZeroes: 64,
  sendDf: 128,
  canMultiConn: 256,
  sendResize: 512,
  sendCache: 1024,
  sendFastZero: 2048,
} as const;

export const OptionCode = {
  exportName: 1,
  abort: 2,
  list: 3,
  starttls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
  extendedHeaders: 11,
} as const;

export const OptionReply = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  errorUnsupported: 0x80000001,
  errorPolicy: 0x80000002,
  errorInvalid: 0x80000003,
  errorPlatform: 0x80000004,
  errorTlsRequired: 0x80000005,
  errorUnknown: 0x80000006,
  errorShutdown: 0x80000007,
  errorBlockSizeRequired: 0x80000008,
  errorTooBig: 0x80000009,
} as const;

export const InfoType = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

export const Command = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
} as const;

export const CommandFlag = {
  fua: 1,
  noHole: 2,
  dontFragment: 4,
  requestOne: 8,
  fastZero: 16,
} as const;

export const ChunkFlag = { done: 1 } as const;

export const ChunkType = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

export const GREETING_BYTES = 18;
export const CLIENT_FLAGS_BYTES = 4;
export const OPTION_HEADER_BYTES = 16;
export const OPTION_REPLY_HEADER_BYTES = 20;
export const REQUEST_BYTES = 28;
export const SIMPLE_REPLY_BYTES = 16;
export const CHUNK_HEADER_BYTES = 20;
const OFFSET_DATA_HEADER_BYTES = CHUNK_HEADER_BYTES + 8;
const ERROR_CHUNK_BYTES = CHUNK_HEADER_BYTES + 6;
const BLOCK_STATUS_BYTES = CHUNK_HEADER_BYTES + 12;
/** The head of a block status chunk, and each extent behind it. */
const BLOCK_STATUS_HEAD_BYTES = CHUNK_HEADER_BYTES + 4;
export const EXTENT_BYTES = 8;
/** Room for the longest reply header. */
export const REPLY_HEADER_BYTES_MAX = 32;
/** What follows size and flags in the answer to EXPORT_NAME, unless the client asked without. */
export const EXPORT_NAME_PADDING_BYTES = 124;
export const STRING_BYTES_MAX = 4096;

const COOKIE_AT = 8;
const HIGH_WORD = 0x1_0000_0000;
/** Above this the high word of an offset takes it past the integers that a double holds. */
const SAFE_HIGH_WORD_MAX = 0x1f_ffff;

/** A decoded request header, without its cookie. One object is reused for all requests. */
export interface RequestHeader {
  isMagicRight: boolean;
  flags: number;
  command: number;
  /** Infinity where the 64 bits are no safe integer: out of range for every export. */
  offset: number;
  bytes: number;
}

export function createRequestHeader(): RequestHeader {
  return { isMagicRight: false, flags: 0, command: 0, offset: 0, bytes: 0 };
}

/** Decodes the 28 bytes at `address` into `header`. */
export function decodeRequest(view: DataView, address: number, header: RequestHeader): void {
  header.isMagicRight = view.getUint32(address) === REQUEST_MAGIC;
  header.flags = view.getUint16(address + 4);
  header.command = view.getUint16(address + 6);
  header.offset = readOffset(view, address + 16);
  header.bytes = view.getUint32(address + 24);
}

/** Reads 64 bits as a number; Infinity where that would lose bits. */
export function readOffset(view: DataView, address: number): number {
  const high = view.getUint32(address);
  if (high > SAFE_HIGH_WORD_MAX) return Number.POSITIVE_INFINITY;
  return high * HIGH_WORD + view.getUint32(address + 4);
}

/** Writes a non-negative safe integer as 64 bits. */
export function writeOffset(view: DataView, address: number, value: number): void {
  view.setUint32(address, Math.floor(value / HIGH_WORD));
  view.setUint32(address + 4, value >>> 0);
}

/** Copies the cookie of the request at `from` to its place in the reply header at `to`. */
export function copyCookie(view: DataView, from: number, to: number): void {
  view.setUint32(to + COOKIE_AT, view.getUint32(from + COOKIE_AT));
  view.setUint32(to + COOKIE_AT + 4, view.getUint32(from + COOKIE_AT + 4));
}

/** The encoders below leave the cookie alone and answer the number of header bytes. */
export function encodeSimpleReply(view: DataView, address: number, error: number): number {
  view.setUint32(address, SIMPLE_REPLY_MAGIC);
  view.setUint32(address + 4, error);
  return SIMPLE_REPLY_BYTES;
}

function encodeChunk(view: DataView, address: number, type: number, payloadBytes: number): void {
  view.setUint32(address, CHUNK_MAGIC);
  view.setUint16(address + 4, ChunkFlag.done);
  view.setUint16(address + 6, type);
  view.setUint32(address + 16, payloadBytes);
}

/** The only chunk of a reply without content. */
export function encodeNoneChunk(view: DataView, address: number): number {
  encodeChunk(view, address, ChunkType.none, 0);
  return CHUNK_HEADER_BYTES;
}

/** The head of a chunk with `bytes` of data read at `offset`; the data follow. */
export function encodeDataChunk(
  view: DataView,
  address: number,
  offset: number,
  bytes: number,
): number {
  encodeChunk(view, address, ChunkType.offsetData, bytes + 8);
  writeOffset(view, address + CHUNK_HEADER_BYTES, offset);
  return OFFSET_DATA_HEADER_BYTES;
}

/** An error chunk with no message. */
export function encodeErrorChunk(view: DataView, address: number, error: number): number {
  encodeChunk(view, address, ChunkType.error, 6);
  view.setUint32(address + CHUNK_HEADER_BYTES, error);
  view.setUint16(address + CHUNK_HEADER_BYTES + 4, 0);
  return ERROR_CHUNK_BYTES;
}

/** A block status chunk with one extent of `bytes` whose status flags are `status`. */
export function encodeBlockStatus(
  view: DataView,
  address: number,
  contextId: number,
  bytes: number,
  status: number,
): number {
  encodeBlockStatusHead(view, address, contextId, 1);
  encodeExtent(view, address + BLOCK_STATUS_HEAD_BYTES, bytes, status);
  return BLOCK_STATUS_BYTES;
}

/** The head of a block status chunk; `extentCount` extents follow. */
export function encodeBlockStatusHead(
  view: DataView,
  address: number,
  contextId: number,
  extentCount: number,
): number {
  encodeChunk(view, address, ChunkType.blockStatus, 4 + extentCount * EXTENT_BYTES);
  view.setUint32(address + CHUNK_HEADER_BYTES, contextId);
  return BLOCK_STATUS_HEAD_BYTES;
}

export function encodeExtent(view: DataView, address: number, bytes: number, status: number): void {
  view.setUint32(address, bytes);
  view.setUint32(address + 4, status);
}

/** Writes a request header whose cookie is {0, `cookie`}. */
export function encodeRequest(
  view: DataView,
  address: number,
  request: { flags: number; command: number; cookie: number; offset: number; bytes: number },
): void {
  view.setUint32(address, REQUEST_MAGIC);
  view.setUint16(address + 4, request.flags);
  view.setUint16(address + 6, request.command);
  view.setUint32(address + COOKIE_AT, 0);
  view.setUint32(address + COOKIE_AT + 4, request.cookie);
  writeOffset(view, address + 16, request.offset);
  view.setUint32(address + 24, request.bytes);
}

/** What a server says first: both magics and its handshake flags. */
export function encodeGreeting(): Uint8Array {
  const bytes = new Uint8Array(GREETING_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, GREETING_MAGIC_HIGH);
  view.setUint32(4, GREETING_MAGIC_LOW);
  view.setUint32(8, OPTION_MAGIC_HIGH);
  view.setUint32(12, OPTION_MAGIC_LOW);
  view.setUint16(16, HandshakeFlag.fixedNewstyle | HandshakeFlag.noZeroes);
  return bytes;
}

/** One option reply: header and data. */
export function encodeOptionReply(option: number, type: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OPTION_REPLY_HEADER_BYTES + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, OPTION_REPLY_MAGIC_HIGH);
  view.setUint32(4, OPTION_REPLY_MAGIC_LOW);
  view.setUint32(8, option);
  view.setUint32(12, type);
  view.setUint32(16, data.length);
  bytes.set(data, OPTION_REPLY_HEADER_BYTES);
  return bytes;
}

/** One option as a client sends it: header and data. */
export function encodeOption(option: number, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(OPTION_HEADER_BYTES + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, OPTION_MAGIC_HIGH);
  view.setUint32(4, OPTION_MAGIC_LOW);
  view.setUint32(8, option);
  view.setUint32(12, data.length);
  bytes.set(data, OPTION_HEADER_BYTES);
  return bytes;
}

/** The data of INFO and GO: a name, and which items the client asks for. */
export function encodeInfoRequest(name: string, items: readonly number[]): Uint8Array {
  const nameBytes = new TextEncoder().encode(name);
  const bytes = new Uint8Array(4 + nameBytes.length + 2 + items.length * 2);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, nameBytes.length);
  bytes.set(nameBytes, 4);
  view.setUint16(4 + nameBytes.length, items.length);
  for (const [index, item] of items.entries()) {
    view.setUint16(6 + nameBytes.length + index * 2, item);
  }
  return bytes;
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  let total = 0;
  for (const part of parts) total += part.length;
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
