/** CRC32C by table, apart from the kernels: what tests of the log's codecs check against. */
import type { Crc32c } from "../../src/md/ppl.ts";

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = (value >>> 1) ^ (value & 1 ? 0x82f63b78 : 0);
  return value;
});

/** Without inversion at either end. */
export const crc32c: Crc32c = (seed, bytes) => {
  let value = seed;
  for (let index = 0; index < bytes.length; index += 1) {
    value = TABLE[(value ^ bytes[index]!) & 0xff]! ^ (value >>> 8);
  }
  return value >>> 0;
};
