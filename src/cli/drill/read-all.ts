/** Reads the whole array over NBD, in order, several pieces ahead. */
import { errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { MIB } from "../../base/units.ts";
import type { NbdClient } from "../../nbd/client/client.ts";
import { within } from "./deadline.ts";

const PIECE_BYTES = MIB;
const PIECES_AHEAD = 8;
const ANSWER_SECONDS = 30;

export async function readAll(
  client: NbdClient,
  onPiece: (offset: number, data: Uint8Array) => void,
): Promise<Result<undefined, string>> {
  const { sizeBytes } = client;
  const ahead: Promise<Result<Uint8Array, number>>[] = [];
  let asked = 0;
  for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
    while (asked < sizeBytes && ahead.length < PIECES_AHEAD) {
      ahead.push(client.read(asked, Math.min(PIECE_BYTES, sizeBytes - asked)));
      asked += PIECE_BYTES;
    }
    const what = `the read of ${PIECE_BYTES} bytes at ${offset}`;
    const read = await within(ahead.shift()!, { seconds: ANSWER_SECONDS, what });
    if (!read.ok) return read;
    if (!read.value.ok) return err(`${what} was refused with ${errnoName(read.value.error)}`);
    onPiece(offset, read.value.value);
  }
  return ok();
}
