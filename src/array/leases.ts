/**
 * Leases: a command holds its drives and its array for as long as it runs, so that commands which
 * overlap run one after the other.
 *
 * A lease is a set of keys, taken all at once or not at all. Who waits is served in the order of
 * asking: nobody overtakes one that wants the same key. Drives are taken before arrays, each in one
 * step, so that no circle of waiting can arise: who waits for an array holds drives only, and who
 * holds an array never waits for a drive.
 */
import { assert } from "../base/assert.ts";

export interface Lease {
  release(): void;
}

interface Waiter {
  readonly keys: readonly string[];
  readonly holder: string;
  /** Null: refused. */
  readonly grant: (lease: Lease | null) => void;
}

export class LeaseTable {
  /** Who holds a key: the name of a command, for the message to those who wait in vain. */
  private readonly holders = new Map<string, string>();
  private waiters: Waiter[] = [];

  /** Waits for all `keys`; null where it gave up, or was refused, before they were free. */
  take(
    keys: readonly string[],
    holder: string,
    onWait: (giveUp: () => void) => void = () => {},
  ): Promise<Lease | null> {
    assert(holder !== "", "who holds something says who it is");
    const wanted = [...new Set(keys)];
    return new Promise((resolve) => {
      const waiter: Waiter = { keys: wanted, holder, grant: resolve };
      this.waiters.push(waiter);
      this.grantWhatIsFree();
      if (!this.waiters.includes(waiter)) return;
      onWait(() => {
        const index = this.waiters.indexOf(waiter);
        if (index < 0) return;
        this.waiters.splice(index, 1);
        resolve(null);
        this.grantWhatIsFree();
      });
    });
  }

  /** The command that holds one of these keys, or null. */
  holderOf(keys: readonly string[]): string | null {
    for (const key of keys) {
      const holder = this.holders.get(key);
      if (holder !== undefined) return holder;
    }
    return null;
  }

  /** Whoever waits now gets nothing. */
  refuseWaiting(): void {
    const refused = this.waiters;
    this.waiters = [];
    for (const { grant } of refused) grant(null);
  }

  private grantWhatIsFree(): void {
    const blocked = new Set<string>();
    const left: Waiter[] = [];
    const granted: Waiter[] = [];
    for (const waiter of this.waiters) {
      const isFree = waiter.keys.every((key) => !this.holders.has(key) && !blocked.has(key));
      if (isFree) {
        for (const key of waiter.keys) this.holders.set(key, waiter.holder);
        granted.push(waiter);
        continue;
      }
      for (const key of waiter.keys) blocked.add(key);
      left.push(waiter);
    }
    this.waiters = left;
    for (const { keys, holder, grant } of granted) grant(this.leaseOf(keys, holder));
  }

  private leaseOf(keys: readonly string[], holder: string): Lease {
    let isHeld = true;
    return {
      release: () => {
        assert(isHeld, "a lease is given back once");
        isHeld = false;
        for (const key of keys) {
          assert(this.holders.get(key) === holder, "what is held is given to nobody else");
          this.holders.delete(key);
        }
        this.grantWhatIsFree();
      },
    };
  }
}
