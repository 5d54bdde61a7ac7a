/** What the cases of nbd-conformance.test.ts share: a daemon with one array and these exports. */
import { expect } from "bun:test";
import { Command } from "../../../src/nbd/wire-format.ts";
import type { Daemon } from "../../helpers/daemon.ts";
import { BOTH_FLAGS, type Opened, RawNbd, type Where } from "../../helpers/raw-nbd.ts";

export const EXPORT = "tank";
export const READ_ONLY_EXPORT = "tank-ro";

export interface NbdLab {
  readonly daemon: Daemon;
  readonly unix: Where;
  readonly tcp: Where;
  readonly sizeBytes: number;
}

export interface NbdCase {
  readonly name: string;
  run(lab: NbdLab): Promise<void>;
}

/** Greets and sends flags; negotiation is next. */
export function negotiating(lab: NbdLab, flags: number = BOTH_FLAGS): Promise<RawNbd> {
  return RawNbd.greeted(lab.unix, flags);
}

/** In the transmission phase, with simple replies. */
export async function opened(
  lab: NbdLab,
  name: string = EXPORT,
  where: Where = lab.unix,
): Promise<RawNbd & { readonly info: Opened }> {
  const raw = await RawNbd.greeted(where);
  const info = await raw.go(name);
  return Object.assign(raw, { info });
}

/** Nothing is left over in the stream: the next request gets the next answer. */
export async function expectInSync(raw: RawNbd): Promise<void> {
  const cookie = 0xfeed_f00d_0000_0001n;
  raw.request({ command: Command.read, offset: 5, bytes: 3, cookie });
  const reply = await raw.anyReply(3);
  expect([reply.error, reply.cookie, reply.data.length]).toEqual([0, cookie, 3]);
}

/** CMD_DISC, to which the server answers by hanging up. */
export async function disconnect(raw: RawNbd): Promise<void> {
  raw.request({ command: Command.disconnect });
  expect(await raw.isHungUp()).toBe(true);
  raw.close();
}

/** Handshake goes on: an option gets its answer. */
export async function expectHaggling(raw: RawNbd): Promise<void> {
  await raw.go(EXPORT);
  await expectInSync(raw);
  await disconnect(raw);
}

export async function expectHungUp(raw: RawNbd): Promise<void> {
  expect(await raw.isHungUp()).toBe(true);
  raw.close();
}

export async function readAt(lab: NbdLab, offset: number, bytes: number): Promise<Uint8Array> {
  const raw = await opened(lab);
  raw.request({ command: Command.read, offset, bytes });
  const reply = await raw.reply(bytes);
  expect(reply.error).toBe(0);
  raw.close();
  return reply.data;
}
