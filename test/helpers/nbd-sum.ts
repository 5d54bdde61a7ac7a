/** The sha256 of everything that an NBD client reads. */
import { MIB } from "../../src/base/units.ts";
import type { NbdClient } from "../../src/nbd/client/client.ts";

export async function sumOf(client: NbdClient): Promise<string> {
  const hasher = new Bun.CryptoHasher("sha256");
  const { sizeBytes } = client;
  for (let offset = 0; offset < sizeBytes; offset += MIB) {
    const read = await client.read(offset, Math.min(MIB, sizeBytes - offset));
    if (!read.ok) throw new Error(`read at ${offset}: errno ${read.error}`);
    hasher.update(read.value);
  }
  return hasher.digest("hex");
}
