/**
 * What the kernel's NBD driver is told over generic netlink (linux/nbd-netlink.h, genetlink.h), as
 * bytes. Integers are in the host's order, little-endian, and every part begins at a multiple of 4.
 *
 * message                               attribute
 *   0 u32 bytes of all of it              0 u16 bytes, without the padding behind it
 *   4 u16 type: the number of a family    2 u16 type; 0x8000 is added where it holds attributes
 *   6 u16 flags   8 u32 sequence          4 value, and padding to a multiple of 4
 *  12 u32 port: 0
 *  16 u8 command  17 u8 version: 1        A message of type 2 ends what answers a request: it has
 *  20 attributes                          an i32 at 16, 0 or -errno.
 *
 * Why no nbd-client: version 3.24 does not tell the kernel to wait for a server that is gone, and
 * cannot give it new connections when that is back. On Linux 6.1 each restart of the daemon cost a
 * mounted file system its device, with `-persist` and without.
 */
const HEADER_BYTES = 16;
const ATTRIBUTES_AT = 20;
const ATTRIBUTE_HEADER_BYTES = 4;
const NESTED = 0x8000;
const REQUEST_AND_ACK = 1 | 4;
const TYPE_END = 2;

/** The family that knows the numbers of all others. */
const Controller = { family: 16, getFamily: 3, familyId: 1, familyName: 2 } as const;

export const NbdCommand = { connect: 1, disconnect: 2, reconfigure: 3 } as const;

const NbdAttribute = {
  index: 1,
  sizeBytes: 2,
  blockBytes: 3,
  timeoutSeconds: 4,
  serverFlags: 5,
  sockets: 7,
  deadConnectionSeconds: 8,
  /** Since Linux 5.14; older ones pass over it. */
  backend: 10,
} as const;
const SOCKET_ITEM = 1;
const SOCKET_FD = 1;

/** What a device is to be. */
export interface NbdSetting {
  readonly index: number;
  readonly sizeBytes: number;
  readonly blockBytes: number;
  /** What the server has said of the export. */
  readonly serverFlags: number;
  /** A request that takes longer is sent again, over another connection. */
  readonly timeoutSeconds: number;
  /** How long requests wait for a server that is gone, before they fail. */
  readonly deadConnectionSeconds: number;
  /** Whose it is: /sys/block/nbdN/backend. It stays as it is as long as the device is attached. */
  readonly backend: string;
  readonly fds: readonly number[];
}

/** Asks for the number of the family "nbd". */
export function encodeFamilyRequest(): Uint8Array<ArrayBuffer> {
  const { family, getFamily, familyName } = Controller;
  return message({ type: family, command: getFamily }, [attribute(familyName, text("nbd"))]);
}

/** `connect` takes a free device; `reconfigure` gives an attached one new connections. */
export function encodeNbdSetting(
  family: number,
  command: "connect" | "reconfigure",
  setting: NbdSetting,
): Uint8Array<ArrayBuffer> {
  const sockets = setting.fds.map((fd) =>
    attribute(SOCKET_ITEM | NESTED, attribute(SOCKET_FD, u32(fd))),
  );
  return message({ type: family, command: NbdCommand[command] }, [
    attribute(NbdAttribute.index, u32(setting.index)),
    attribute(NbdAttribute.sizeBytes, u64(setting.sizeBytes)),
    attribute(NbdAttribute.blockBytes, u64(setting.blockBytes)),
    attribute(NbdAttribute.timeoutSeconds, u64(setting.timeoutSeconds)),
    attribute(NbdAttribute.deadConnectionSeconds, u64(setting.deadConnectionSeconds)),
    attribute(NbdAttribute.serverFlags, u64(setting.serverFlags)),
    attribute(NbdAttribute.backend, text(setting.backend)),
    attribute(NbdAttribute.sockets | NESTED, joined(sockets)),
  ]);
}

export function encodeNbdDisconnect(family: number, index: number): Uint8Array<ArrayBuffer> {
  return message({ type: family, command: NbdCommand.disconnect }, [
    attribute(NbdAttribute.index, u32(index)),
  ]);
}

export type NetlinkPart =
  /** Attributes by their type. */
  | { readonly kind: "answer"; readonly attributes: ReadonlyMap<number, Uint8Array> }
  /** Positive; 0: it was done. */
  | { readonly kind: "end"; readonly errno: number };

/** The messages of one datagram; what does not fit into it is left out. */
export function decodeNetlink(bytes: Uint8Array): NetlinkPart[] {
  const view = viewOf(bytes);
  const parts: NetlinkPart[] = [];
  for (let at = 0; at + ATTRIBUTES_AT <= bytes.length; ) {
    const messageBytes = view.getUint32(at, true);
    if (messageBytes < ATTRIBUTES_AT || at + messageBytes > bytes.length) break;
    if (view.getUint16(at + 4, true) === TYPE_END) {
      parts.push({ kind: "end", errno: 0 - view.getInt32(at + HEADER_BYTES, true) });
    } else {
      const content = bytes.subarray(at + ATTRIBUTES_AT, at + messageBytes);
      parts.push({ kind: "answer", attributes: decodeAttributes(content) });
    }
    at += padded(messageBytes);
  }
  return parts;
}

/** What an answer to `encodeFamilyRequest` says, or null. */
export function familyOf(attributes: ReadonlyMap<number, Uint8Array>): number | null {
  const value = attributes.get(Controller.familyId);
  return value === undefined || value.length < 2 ? null : viewOf(value).getUint16(0, true);
}

function decodeAttributes(bytes: Uint8Array): Map<number, Uint8Array> {
  const view = viewOf(bytes);
  const attributes = new Map<number, Uint8Array>();
  for (let at = 0; at + ATTRIBUTE_HEADER_BYTES <= bytes.length; ) {
    const attributeBytes = view.getUint16(at, true);
    if (attributeBytes < ATTRIBUTE_HEADER_BYTES || at + attributeBytes > bytes.length) break;
    const type = view.getUint16(at + 2, true) & ~NESTED;
    attributes.set(type, bytes.subarray(at + ATTRIBUTE_HEADER_BYTES, at + attributeBytes));
    at += padded(attributeBytes);
  }
  return attributes;
}

function message(
  { type, command }: { type: number; command: number },
  attributes: readonly Uint8Array[],
): Uint8Array<ArrayBuffer> {
  const content = joined(attributes);
  const bytes = new Uint8Array(ATTRIBUTES_AT + content.length);
  const view = viewOf(bytes);
  view.setUint32(0, bytes.length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, REQUEST_AND_ACK, true);
  view.setUint32(8, 1, true);
  view.setUint8(HEADER_BYTES, command);
  view.setUint8(HEADER_BYTES + 1, 1);
  bytes.set(content, ATTRIBUTES_AT);
  return bytes;
}

function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(padded(ATTRIBUTE_HEADER_BYTES + value.length));
  const view = viewOf(bytes);
  view.setUint16(0, ATTRIBUTE_HEADER_BYTES + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, ATTRIBUTE_HEADER_BYTES);
  return bytes;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, true);
  return bytes;
}

function u64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setBigUint64(0, BigInt(value), true);
  return bytes;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(`${value}\0`);
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
