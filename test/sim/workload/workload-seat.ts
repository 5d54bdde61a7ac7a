/**
 * The place of one client of a run: a client of the front, or a connection that may be cut in the
 * middle of requests and is opened again.
 *
 * What was under way when a connection was cut is answered ECONNRESET here, but not before the
 * server has let go of it: until then the array may still be carrying it out. One seat of a run is
 * cut at a time, so that the number of connections tells when that is.
 */
import { ECONNRESET } from "../../../src/base/errno.ts";
import { nextBelow, type SeededRandom } from "../../../src/base/random.ts";
import { REQUEST_BYTES } from "../../../src/nbd/wire-format.ts";
import { type SimClient, SocketClient, type ZeroOptions } from "../world/sim-clients.ts";
import type { SimWorld } from "../world/sim-world.ts";

const POLL_MS_MAX = 50;

export class Seat implements SimClient {
  private readonly world: SimWorld;
  private readonly seatCount: number;
  private current: SimClient;
  private ready: Promise<SimClient>;
  private released: Promise<void> = Promise.resolve();

  constructor(options: { world: SimWorld; client: SimClient; seatCount: number }) {
    this.world = options.world;
    this.seatCount = options.seatCount;
    this.current = options.client;
    this.ready = Promise.resolve(options.client);
  }

  get canBeCut(): boolean {
    return this.current instanceof SocketClient && !this.current.transport.isCut;
  }

  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<number> {
    const client = await this.ready;
    return this.ended(client, await client.write(offset, data, options));
  }

  async read(offset: number, bytes: number): Promise<{ status: number; data: Uint8Array }> {
    const client = await this.ready;
    const { status, data } = await client.read(offset, bytes);
    return { status: await this.ended(client, status), data };
  }

  async flush(): Promise<number> {
    const client = await this.ready;
    return this.ended(client, await client.flush());
  }

  async zero(offset: number, bytes: number, options: ZeroOptions = {}): Promise<number> {
    const client = await this.ready;
    const fastZero = options.fastZero === true && offers(client, "canFastZero");
    return this.ended(client, await client.zero(offset, bytes, { ...options, fastZero }));
  }

  /** Nothing happens where the server does not offer it. */
  async trim(offset: number, bytes: number): Promise<number> {
    const client = await this.ready;
    if (!offers(client, "canTrim")) return 0;
    return this.ended(client, await client.trim(offset, bytes));
  }

  /** The client dies with whatever it has under way. */
  async cut(): Promise<void> {
    const client = await this.ready;
    if (!(client instanceof SocketClient)) return;
    client.transport.cutAfter(0);
    await this.replace(client);
  }

  /** A write of which the client sends a part, and then dies. It must never be carried out. */
  async cutWrite(offset: number, data: Uint8Array, random: SeededRandom): Promise<number> {
    const client = await this.ready;
    if (!(client instanceof SocketClient)) return client.write(offset, data);
    client.transport.cutAfter(1 + nextBelow(random, REQUEST_BYTES + data.length - 1));
    return this.ended(client, await client.write(offset, data));
  }

  private async ended(client: SimClient, status: number): Promise<number> {
    const isCut = client instanceof SocketClient && client.transport.isCut;
    if (status === ECONNRESET && isCut) await this.replace(client);
    return status;
  }

  /** Resolves when the server has let go of the old connection; opens a new one after that. */
  private replace(client: SimClient): Promise<void> {
    if (this.current === client) {
      this.released = this.release();
      this.ready = this.released
        .then(() => this.world.nbdClient())
        .then((opened) => {
          this.current = opened;
          return opened;
        });
      // Until the new one is there, nobody replaces the old one again.
      this.current = NOBODY;
    }
    return this.released;
  }

  private async release(): Promise<void> {
    const { timers } = this.world.context;
    for (let pollMs = 1; ; pollMs = Math.min(pollMs * 2, POLL_MS_MAX)) {
      await timers.sleep(pollMs);
      const { connectionCount, lingeringCount } = this.world.server;
      if (connectionCount < this.seatCount && lingeringCount === 0) return;
    }
  }
}

const NOBODY: SimClient = {
  write: () => Promise.resolve(ECONNRESET),
  read: () => Promise.resolve({ status: ECONNRESET, data: new Uint8Array(0) }),
  flush: () => Promise.resolve(ECONNRESET),
  zero: () => Promise.resolve(ECONNRESET),
  trim: () => Promise.resolve(ECONNRESET),
};

/** What the export can do is told when a client connects. */
function offers(client: SimClient, what: "canTrim" | "canFastZero"): boolean {
  return !(client instanceof SocketClient) || client[what];
}
