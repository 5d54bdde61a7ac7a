/** Known bytes over an NBD connection: written, flushed, read back and compared. */
import { expect } from "bun:test";
import { fillRandom, SeededRandom } from "../../src/base/random.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";
import type { Daemon } from "./daemon.ts";

export function randomBytes(seed: number, bytes: number): Uint8Array {
  const data = new Uint8Array(bytes);
  fillRandom(new SeededRandom(seed), data);
  return data;
}

export async function mustWrite(
  client: NbdClient,
  offset: number,
  data: Uint8Array,
): Promise<void> {
  expect(await client.write(offset, data)).toEqual({ ok: true, value: undefined });
  expect(await client.flush()).toEqual({ ok: true, value: undefined });
}

export async function expectData(
  client: NbdClient,
  offset: number,
  data: Uint8Array,
): Promise<void> {
  const read = await client.read(offset, data.length);
  expect(read.ok && Buffer.compare(read.value, data)).toBe(0);
}

/** Writes to the middle of an export and reads it back. */
export async function writeAndReadBack(on: Daemon, name: string, bytes: number): Promise<void> {
  const client = await on.connect(name);
  const data = randomBytes(bytes, bytes);
  const offset = Math.max(0, Math.floor((client.sizeBytes - bytes) / 2));
  expect((await client.write(offset, data, { fua: true })).ok).toBe(true);
  await expectData(client, offset, data);
  await client.disconnect();
}
