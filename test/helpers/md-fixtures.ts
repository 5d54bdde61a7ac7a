/**
 * Arrays that Linux and mdadm made (test/fixtures/md, see its README.md), unpacked in memory.
 *
 * The archives are tar files whose members are sparse in GNU's old form (type "S"): the header
 * holds four pairs of octal numbers (offset, bytes), blocks of 21 pairs follow while the flag
 * behind the last pair is set, then comes the data of all pairs without the holes. Reading it here
 * keeps the tests free of the host's tar.
 */
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { roundUp } from "../../src/base/units.ts";

export const MD_FIXTURES = join(import.meta.dir, "../fixtures/md");

/** The fields of manifest.json that tests use; names as they stand there, sizes in sectors. */
export interface FixtureMember {
  readonly image: string;
  readonly feature: number;
  readonly size: number;
  readonly data_offset: number;
  readonly data_size: number;
  readonly recovery_offset: number;
  readonly dev_number: number;
  readonly bb_size: number;
  readonly bb_offset: number;
  readonly events: number;
  readonly resync_offset: number;
  readonly max_dev: number;
  readonly role: number;
  readonly used: boolean;
  readonly badblocks?: readonly (readonly [number, number])[];
}

export interface FixtureFacts {
  readonly array_bytes: number;
  readonly raid_disks: number;
  readonly chunk_bytes: number;
  readonly layout: number;
  readonly kernel_sha256: string;
  readonly raw_assembled_sha256: string;
  readonly members: readonly FixtureMember[];
  readonly examine: Readonly<Record<string, string>>;
  readonly images_sha256: Readonly<Record<string, string>>;
  /** By what the kernel was given: "full", "miss0", "miss0-force". */
  readonly after_kernel_recovery: Readonly<Record<string, { readonly sha256: string | null }>>;
}

export function fixtureFacts(): Readonly<Record<string, FixtureFacts>> {
  const text = readFileSync(join(MD_FIXTURES, "manifest.json"), "utf8");
  return (JSON.parse(text) as { fixtures: Record<string, FixtureFacts> }).fixtures;
}

/** Writes the member images of one fixture into `folder`, sparse; their paths, in their order. */
export function writeFixture(name: string, folder: string): string[] {
  return [...loadFixture(name)].map(([image, bytes]) => {
    const path = join(folder, image);
    const file = openSync(path, "wx");
    ftruncateSync(file, bytes.length);
    for (let offset = 0; offset < bytes.length; offset += HOLE_BYTES) {
      const piece = bytes.subarray(offset, offset + HOLE_BYTES);
      const isHole = Buffer.compare(piece, ZEROS.subarray(0, piece.length)) === 0;
      if (!isHole) writeSync(file, piece, 0, piece.length, offset);
    }
    closeSync(file);
    return path;
  });
}

const HOLE_BYTES = 65_536;
const ZEROS = new Uint8Array(HOLE_BYTES);

/** The member images of one fixture by name ("m0.img"), each a fresh copy. */
export function loadFixture(name: string): Map<string, Uint8Array> {
  const archive = readFileSync(join(MD_FIXTURES, `${name}.tar.zst`));
  return unpackSparseTar(new Uint8Array(Bun.zstdDecompressSync(archive)));
}

const BLOCK_BYTES = 512;
const PAIR_BYTES = 24;

function unpackSparseTar(tar: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  let next = 0;
  while (tar[next] !== 0) {
    const header = next;
    const type = String.fromCharCode(tar[header + 156]!);
    assert(type === "S" || type === "0", "the archive holds plain and sparse files only");
    const storedBytes = octal(tar, header + 124, 12);
    const isSparse = type === "S";
    const map = isSparse ? readPairs(tar, header + 386, 4) : [];
    next += BLOCK_BYTES;
    let hasMore = isSparse && tar[header + 482] === 1;
    while (hasMore) {
      map.push(...readPairs(tar, next, 21));
      hasMore = tar[next + 504] === 1;
      next += BLOCK_BYTES;
    }
    if (!isSparse) map.push({ offset: 0, bytes: storedBytes });
    const file = new Uint8Array(isSparse ? octal(tar, header + 483, 12) : storedBytes);
    let source = next;
    for (const { offset, bytes } of map) {
      file.set(tar.subarray(source, source + bytes), offset);
      source += bytes;
    }
    files.set(text(tar, header, 100), file);
    next += roundUp(storedBytes, BLOCK_BYTES);
  }
  return files;
}

function readPairs(tar: Uint8Array, start: number, count: number) {
  const pairs: { offset: number; bytes: number }[] = [];
  for (let index = 0; index < count; index += 1) {
    const at = start + index * PAIR_BYTES;
    if (tar[at] === 0) break;
    pairs.push({ offset: octal(tar, at, 12), bytes: octal(tar, at + 12, 12) });
  }
  return pairs;
}

function octal(tar: Uint8Array, start: number, length: number): number {
  return Number.parseInt(text(tar, start, length), 8);
}

function text(tar: Uint8Array, start: number, length: number): string {
  const bytes = tar.subarray(start, start + length);
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end)).trim();
}
