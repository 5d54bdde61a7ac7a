/**
 * How often one address may be wrong: after FAILURES_MAX wrong tokens within a minute its next
 * wrong ones are told to wait (429), until the first of those is a minute old. What is told to wait
 * counts for nothing, so the wait does end. Pure: the clock is handed in.
 *
 * A good token passes all the while: behind one address may be a whole office, of which one is
 * wrong. So this is no defence against guesses, which is the length of the tokens alone (the one
 * that is made has 256 bits, and none is shorter than 16 characters); it tells a client with an old
 * token to slow down.
 *
 * An address is what one customer has: an IPv4 address, or an IPv6 network of 64 bits. So many are
 * remembered; the one that failed longest ago makes room.
 */
import { peerOfAddress } from "../appliance/nbd-address.ts";
import { assert } from "../base/assert.ts";

export const FAILURES_MAX = 10;
export const WINDOW_MS = 60_000;
export const ADDRESSES_MAX = 1_024;

export class LoginLimit {
  private readonly nowMs: () => number;
  /** The times of the last failures of each, oldest first. */
  private readonly failures = new Map<string, number[]>();

  constructor(nowMs: () => number = () => performance.now()) {
    this.nowMs = nowMs;
  }

  /** Seconds until a wrong token of this address is a 401 again; 0: the next one is. */
  waitSeconds(address: string): number {
    const times = this.failures.get(peerOfAddress(address)) ?? [];
    const [oldest] = times;
    if (oldest === undefined || times.length < FAILURES_MAX) return 0;
    return Math.max(0, Math.ceil((oldest + WINDOW_MS - this.nowMs()) / 1_000));
  }

  failed(address: string): void {
    const key = peerOfAddress(address);
    const times = [...(this.failures.get(key) ?? []), this.nowMs()].slice(-FAILURES_MAX);
    this.failures.delete(key);
    this.failures.set(key, times);
    const longestAgo = this.failures.keys().next().value;
    assert(longestAgo !== undefined, "there is the one that was just put there");
    if (this.failures.size > ADDRESSES_MAX) this.failures.delete(longestAgo);
  }
}
