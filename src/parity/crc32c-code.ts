/**
 * The wasm code of CRC32C: folding where there is much, slicing-by-16 for the rest.
 *
 * *Folding* needs no carry-less multiplication, which WebAssembly does not have. The generator
 * divides a polynomial of six terms that lie whole bytes apart (found by search):
 *
 *   x^(8 * 290) + x^(8 * 136) + x^(8 * 113) + x^(8 * 107) + x^(8 * 32) + 1
 *
 * so a byte may be taken away if it is added 154, 177, 183, 258 and 290 bytes further on: five
 * XORs, of any number of bytes at once that is less than the least of these distances. From front
 * to back all of the message goes that way but its last 304 bytes and what is no whole group.
 * (Sparse multiples for folding: K. Russell, "Chorba: A novel CRC32 implementation", 2024.)
 *
 *   memory 1, in bytes
 *   0       tables of slicing-by-16
 *   16384   what was taken away last, 304     <- q: a group is read from the message and, where it
 *   16688   what is taken away, 4096 at most     was added to, from behind; it goes to q + 304.
 *   20784   zeros, 304: nothing more is          At the end of this room q starts over.
 *   21088   the message's end, 304, with all that was added to it
 */
import { CodeBuilder, OP, type WasmFunction } from "./wasm-assembler.ts";

/** The Castagnoli polynomial, reflected (RFC 3720, appendix B.4). */
const CASTAGNOLI = 0x82f6_3b78;
const SLICES = 16;
const SLICE_BYTES = 256 * 4;
const CRC_TABLE_BYTES = SLICES * SLICE_BYTES;

const DISTANCES = [154, 177, 183, 258, 290] as const;
const FARTHEST = 290;
const VECTOR_BYTES = 16;
/** Vectors taken away at once: less than the least distance. */
const GROUP_VECTORS = 8;
const GROUP_BYTES = GROUP_VECTORS * VECTOR_BYTES;
/** The farthest distance, in whole vectors. */
const REACH_BYTES = 304;
const ROOM_BYTES = 32 * GROUP_BYTES;
const HISTORY_ADDRESS = CRC_TABLE_BYTES;
const END_ADDRESS = HISTORY_ADDRESS + REACH_BYTES + ROOM_BYTES + REACH_BYTES;
/** From here on folding is worth its begin and its end. */
const FOLDED_BYTES_MIN = 2 * REACH_BYTES;

/** What the checksum has of memory 1, from its address 0 on. */
export const CRC_MEMORY_BYTES = END_ADDRESS + REACH_BYTES;

/**
 * Slicing-by-16 tables: entry [slice][byte], little-endian u32, is what `byte` does to the crc when
 * `slice` zero bytes follow it.
 */
export function crcTables(): Uint8Array {
  const table = new Uint32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ CASTAGNOLI : crc >>> 1;
    table[byte] = crc;
  }
  for (let index = 256; index < table.length; index += 1) {
    const previous = table[index - 256]!;
    table[index] = (previous >>> 8) ^ table[previous & 0xff]!;
  }
  const bytes = new Uint8Array(CRC_TABLE_BYTES);
  const view = new DataView(bytes.buffer);
  table.forEach((entry, index) => {
    view.setUint32(index * 4, entry, true);
  });
  return bytes;
}

/** Locals of the function. */
interface Locals {
  readonly crc: number;
  readonly address: number;
  readonly remaining: number;
  readonly word: number;
}

/** Pushes the table's entry for byte `byteOfWord` of the word in `word`. */
function lookUp(body: CodeBuilder, word: number, byteOfWord: number, slice: number): void {
  // An entry is four bytes: the shift leaves byte * 4, the mask drops the rest.
  body.get(word);
  if (byteOfWord === 0) body.constant(2).op(OP.i32Shl);
  else body.constant(byteOfWord * 8 - 2).op(OP.i32ShrU);
  body
    .constant(0xff << 2)
    .op(OP.i32And)
    .loadOwnI32(slice * SLICE_BYTES);
}

/** Takes 16 bytes into the crc; `loadWord` pushes the word that lies so many bytes into them. */
function sliceTurn(
  body: CodeBuilder,
  { crc, word }: Locals,
  loadWord: (offset: number) => void,
): void {
  for (let index = 0; index < SLICES; index += 1) {
    const byteOfWord = index % 4;
    if (byteOfWord === 0) {
      loadWord(index);
      if (index === 0) body.get(crc).op(OP.i32Xor);
      body.set(word);
    }
    lookUp(body, word, byteOfWord, SLICES - 1 - index);
    if (index > 0) body.op(OP.i32Xor);
  }
  body.set(crc);
}

/** Adds to the vector on the stack what earlier ones, which were taken away, leave there. */
function addEarlier(body: CodeBuilder, q: number, offset: number): void {
  for (const distance of DISTANCES) {
    body
      .get(q)
      .loadOwnVector(REACH_BYTES - distance + offset)
      .xorVector();
  }
}

/** Takes groups away until fewer than REACH_BYTES and a group remain. */
function foldGroups(body: CodeBuilder, { address, remaining }: Locals, q: number): void {
  const vectors = Array.from({ length: GROUP_VECTORS }, () => body.local("v128"));
  body.whileAtLeast(remaining, REACH_BYTES + GROUP_BYTES, () => {
    vectors.forEach((vector, index) => {
      body.get(address).loadVector(index * VECTOR_BYTES);
      addEarlier(body, q, index * VECTOR_BYTES);
      body.set(vector);
    });
    vectors.forEach((vector, index) => {
      body
        .get(q)
        .get(vector)
        .storeOwnVector(REACH_BYTES + index * VECTOR_BYTES);
    });
    body.advance(address, GROUP_BYTES).advance(q, GROUP_BYTES);
    body.advance(remaining, -GROUP_BYTES);
    body
      .get(q)
      .constant(HISTORY_ADDRESS + ROOM_BYTES)
      .op(OP.i32Eq);
    body.when(() => {
      body.constant(HISTORY_ADDRESS).get(q).constant(REACH_BYTES).copyOwnMemory();
      body.constant(HISTORY_ADDRESS).set(q);
    });
  });
}

/** The crc of all that lies before the last bytes that are no whole vector's. */
function fold(body: CodeBuilder, locals: Locals): void {
  const { crc, address, remaining } = locals;
  const q = body.local("i32");
  const at = body.local("i32");
  body.constant(HISTORY_ADDRESS).tee(q).constant(0).constant(REACH_BYTES).fillOwnMemory();
  // As if it had been taken away so far in front of the message: it is added to its first bytes.
  body
    .get(q)
    .get(crc)
    .storeOwnI32(REACH_BYTES - FARTHEST);
  foldGroups(body, locals, q);
  body.get(q).constant(REACH_BYTES).op(OP.i32Add).constant(0).constant(REACH_BYTES).fillOwnMemory();
  body.loop(() => {
    body.get(at).get(address).loadVector(0);
    addEarlier(body, q, 0);
    body.storeOwnVector(END_ADDRESS);
    body.advance(address, VECTOR_BYTES).advance(q, VECTOR_BYTES).advance(at, VECTOR_BYTES);
    body.get(at).constant(REACH_BYTES).op(OP.i32LtU).branchIf(0);
  });
  body.advance(remaining, -REACH_BYTES).constant(0).set(crc).constant(0).set(at);
  body.loop(() => {
    sliceTurn(body, locals, (offset) => body.get(at).loadOwnI32(END_ADDRESS + offset));
    body.advance(at, SLICES);
    body.get(at).constant(REACH_BYTES).op(OP.i32LtU).branchIf(0);
  });
}

/** crc32c(seed, address, bytes) -> crc, without inversion at either end. */
export function crcFunction(): WasmFunction {
  const body = new CodeBuilder(3);
  const locals = { crc: 0, address: 1, remaining: 2, word: body.local("i32") };
  const { crc, address, remaining, word } = locals;
  body.get(remaining).constant(FOLDED_BYTES_MIN).op(OP.i32GeU);
  body.when(() => fold(body, locals));
  body.whileAtLeast(remaining, SLICES, () => {
    sliceTurn(body, locals, (offset) => body.get(address).loadI32(offset));
    body.advance(address, SLICES).advance(remaining, -SLICES);
  });
  body.whileAtLeast(remaining, 1, () => {
    body.get(address).loadByte(0).get(crc).op(OP.i32Xor).set(word);
    lookUp(body, word, 0, 0);
    body.get(crc).constant(8).op(OP.i32ShrU).op(OP.i32Xor).set(crc);
    body.advance(address, 1).advance(remaining, -1);
  });
  body.get(crc);
  return { exportName: "crc32c", parameterCount: 3, returnsI32: true, body };
}
