/**
 * Hands out payload runs in arrival order.
 *
 * Invariant: while a connection waits, nobody who came later gets a run. So the one at the head
 * sees the pool drain until its run fits, however large and contiguous it must be, and no client
 * can starve another. A connection waits with one request at most (it is not read further), and
 * a grant is good for one run: after it the connection is last again.
 *
 * Small runs are the exception: the pool keeps a reserve for them, out of which the head could not
 * be served anyway. So whoever wants little does not wait for those who want much.
 */
import { assertShared } from "../base/assert.ts";
import { IndexQueue } from "../base/index-queue.ts";
import { SLAB_BYTES, type SlabPool } from "../block/pool.ts";

const NOBODY = -1;
/** One part in so many of the pool is the reserve for small runs. */
const RESERVE_SHARE = 16;
const SMALL_BYTES = 4 * SLAB_BYTES;

export class PayloadGate {
  private readonly pool: SlabPool;
  /** The connections that wait. */
  private readonly queue: IndexQueue;
  private readonly maxConnections: number;
  /** The connection that was taken from the head and may try once. */
  private granted = NOBODY;
  private pumpIsDue = false;
  private grantCount = 0;

  constructor({ pool, maxConnections }: { pool: SlabPool; maxConnections: number }) {
    this.pool = pool;
    this.maxConnections = maxConnections;
    this.queue = new IndexQueue(maxConnections);
    const reserveSlabs = Math.floor(pool.slabCount / RESERVE_SHARE);
    // Of a pool as small as those of tests nothing is kept: it would hold no run.
    if (reserveSlabs * SLAB_BYTES >= SMALL_BYTES) pool.reserve(reserveSlabs);
    pool.onFreed(() => {
      this.pumpIsDue = true;
    });
  }

  get waiting(): number {
    return this.queue.length;
  }

  /** Counts runs given to connections that had waited: stands still while the head cannot go on. */
  get grants(): number {
    return this.grantCount;
  }

  get isPumpDue(): boolean {
    return this.pumpIsDue && this.queue.length > 0;
  }

  /** Whether anybody but `connection` waits. */
  hasOthersWaiting(connection: number): boolean {
    return this.queue.length > 1 || (this.queue.length === 1 && this.queue.peek() !== connection);
  }

  /** A run, or 0: then the connection has joined the queue and is resumed by `pump`. */
  take(connection: number, bytes: number): number {
    const isGranted = this.granted === connection;
    this.granted = isGranted ? NOBODY : this.granted;
    if (isGranted || this.queue.length === 0) {
      const address = this.pool.allocate(bytes);
      if (address !== 0) {
        if (isGranted) this.grantCount += 1;
        return address;
      }
    }
    if (bytes <= SMALL_BYTES) {
      const address = this.pool.allocateReserved(bytes);
      if (address !== 0) {
        if (isGranted) this.grantCount += 1;
        return address;
      }
    }
    assertShared(this.queue.length < this.maxConnections, "a connection waits once");
    if (isGranted) this.queue.unshift(connection);
    else this.queue.push(connection);
    return 0;
  }

  /** Lets connections go on from the head, until one of them cannot. */
  pump(resume: (connection: number) => void): void {
    this.pumpIsDue = false;
    while (this.queue.length > 0) {
      const connection = this.queue.shift();
      this.granted = connection;
      resume(connection);
      this.granted = NOBODY;
      // Back at the head: its run does not fit yet, and nobody passes it.
      if (this.queue.peek() === connection) {
        if (this.pool.hasReserved) this.pumpReserve(resume);
        return;
      }
    }
  }

  /** The head cannot go on, but those behind it that want little can. */
  private pumpReserve(resume: (connection: number) => void): void {
    // A whole round: who must wait on goes to the end, so the order is in the end as it was.
    for (let left = this.queue.length - 1; left > 0; left -= 1) resume(this.popSecond());
  }

  /** The connection is gone, or no longer wants what it waited for. */
  leave(connection: number): void {
    if (this.queue.remove(connection) > 0) this.pumpIsDue = true;
  }

  /** The one behind the head. */
  private popSecond(): number {
    const head = this.queue.shift();
    const second = this.queue.shift();
    this.queue.unshift(head);
    return second;
  }
}
