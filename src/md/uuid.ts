/**
 * UUIDs in the form that mdadm prints and mdadm.conf takes: the 16 bytes in order, in four groups
 * of eight hexadecimal digits, "00010203:04050607:08090a0b:0c0d0e0f".
 */
import { assert } from "../base/assert.ts";

const UUID_BYTES = 16;
const UUID_PATTERN = /^[0-9a-f]{8}(:[0-9a-f]{8}){3}$/;

export function isUuid(text: string): boolean {
  return UUID_PATTERN.test(text);
}

export function decodeUuid(bytes: Uint8Array, offset: number): string {
  assert(offset >= 0 && offset + UUID_BYTES <= bytes.length, "there are bytes for a uuid");
  let text = "";
  for (let index = 0; index < UUID_BYTES; index += 1) {
    if (index > 0 && index % 4 === 0) text += ":";
    text += bytes[offset + index]!.toString(16).padStart(2, "0");
  }
  assert(isUuid(text), "bytes make the form that is encoded again");
  return text;
}

export function encodeUuid(uuid: string, bytes: Uint8Array, offset: number): void {
  assert(isUuid(uuid), "a uuid has four groups of eight lower-case hexadecimal digits");
  assert(offset >= 0 && offset + UUID_BYTES <= bytes.length, "a uuid has room");
  const digits = uuid.replaceAll(":", "");
  for (let index = 0; index < UUID_BYTES; index += 1) {
    bytes[offset + index] = Number.parseInt(digits.slice(2 * index, 2 * index + 2), 16);
  }
}

/** The 16 bytes, as the checksums of the bitmap and the partial parity log need them. */
export function uuidBytes(uuid: string): Uint8Array {
  const bytes = new Uint8Array(UUID_BYTES);
  encodeUuid(uuid, bytes, 0);
  return bytes;
}
