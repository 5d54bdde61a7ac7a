/**
 * Who may have one of the server's places, and who must go for somebody else.
 *
 * A place is a connection, a descriptor and a buffer. Of both there are few, and they are shared
 * with the API and the drives, so:
 * - All clients together leave `RESERVED_DESCRIPTORS` to the rest of the process.
 * - One peer (a host, or a process on this one) has its share of the places.
 * - Those that are still silent in their handshake have a share too. For a newcomer beyond it goes
 *   the one that is silent longest, of the peer that has most of them: so a flood meets itself.
 * - Whoever has opened an export, or waits for its array, is never dropped for another: beyond all
 *   places the newcomer is closed.
 */
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { isPowerOfTwo } from "../base/units.ts";
import type { NbdLimits } from "./limits.ts";

/** For the API and its clients, drives (also those that come later), state.db, threads, epoll. */
const RESERVED_DESCRIPTORS = 128;
/** A client over TLS has a socket pair behind its own socket. */
const DESCRIPTORS_PER_CLIENT = 3;
const LEAST_CONNECTIONS = 4;
/** Refusals are counted anew after so long without one. */
const CALM_MS = 600_000;

/** What admission knows of a connection. */
export interface Place {
  readonly hasSocket: boolean;
  /** In its handshake, and not waiting for an array. */
  readonly isSilent: boolean;
  /** "" where nobody can tell. */
  readonly peer: string;
  /** In the order of arrival. */
  readonly serial: number;
}

/** The connections that a process with so many descriptors can have. */
export function fittingConnections(wanted: number, descriptorLimit: number): number {
  const left = Math.floor((descriptorLimit - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CLIENT);
  return Math.min(wanted, Math.max(LEAST_CONNECTIONS, left));
}

export class Admission<P extends Place> {
  readonly maxConnections: number;
  private readonly maxPerPeer: number;
  private readonly maxSilent: number;
  private readonly clock: Clock;
  private readonly log: Log;
  private refusals = 0;
  private refusedMs = 0;

  constructor(options: { limits: NbdLimits; descriptorLimit: number; clock: Clock; log: Log }) {
    const { limits } = options;
    this.maxConnections = fittingConnections(limits.maxConnections, options.descriptorLimit);
    // However few there are: one peer has half of them at most.
    const share = this.maxConnections / limits.maxConnections;
    this.maxPerPeer = Math.max(1, Math.floor(limits.maxConnectionsPerPeer * share));
    this.maxSilent = Math.max(1, Math.floor(limits.maxHandshakes * share));
    this.clock = options.clock;
    this.log = options.log;
  }

  /** Whether `peer` may have one more place beside those that it has. */
  isWelcome(peer: string, places: Iterable<P>): boolean {
    if (peer === "") return true;
    let count = 0;
    for (const place of places) if (place.hasSocket && place.peer === peer) count += 1;
    return count < this.maxPerPeer;
  }

  hasTooManySilent(places: Iterable<P>): boolean {
    let count = 0;
    for (const place of places) if (place.isSilent) count += 1;
    return count > this.maxSilent;
  }

  /** Who goes for somebody else; undefined where all have said what they came for. */
  victim(places: Iterable<P>): P | undefined {
    const silent = [...places].filter(({ isSilent }) => isSilent);
    const counts = new Map<string, number>();
    for (const { peer } of silent) counts.set(peer, (counts.get(peer) ?? 0) + 1);
    let victim: P | undefined;
    let most = 0;
    for (const place of silent) {
      const count = counts.get(place.peer)!;
      if (victim !== undefined && count < most) continue;
      if (victim !== undefined && count === most && place.serial > victim.serial) continue;
      victim = place;
      most = count;
    }
    return victim;
  }

  /** Says that a client was refused, at the first and then at each power of two. */
  noteRefusal(reason: string, peer: string): void {
    const nowMs = this.clock.nowMs();
    if (nowMs - this.refusedMs > CALM_MS) this.refusals = 0;
    this.refusedMs = nowMs;
    this.refusals += 1;
    if (!isPowerOfTwo(this.refusals)) return;
    this.log.write("warn", `nbd connection refused: ${reason}`, { peer, refused: this.refusals });
  }
}
