/**
 * Who may hold connections to the API, so that nobody takes every descriptor of the process.
 *
 *   class      what                               when its places are taken
 *   anonymous  over TCP, no good token shown yet  the oldest idle one of the largest peer goes
 *   short      everything else                    the oldest idle one goes
 *   long       an event stream or a `?wait=`      503 for one more
 *
 * The largest peer is the address with the most of them: a flood from one address drops its own.
 * Idle means that no whole request is in hand: silent, slow to send, or between two requests. Where
 * none is idle the newcomer is refused. Long ones have places of their own: a hundred waiting cron
 * lines leave room for `status`. Pure: connections are what the caller makes of them.
 */
export interface BudgetLimits {
  /** Connections at one time, without the long ones. */
  readonly short: number;
  readonly long: number;
  /** Of the short ones, those without a token. */
  readonly anonymous: number;
}

/** A thousand clients and 300 open pages, of which each has a stream of events. */
const LIMITS_MAX: BudgetLimits = { short: 2_048, long: 512, anonymous: 128 };
const PLACES_MIN = 8;

/** An eighth of what the process may open goes to a listener, and half as much to its long ones. */
export function limitsFor(openFilesMax: number): BudgetLimits {
  const short = Math.max(PLACES_MIN, Math.floor(openFilesMax / 8));
  const long = Math.max(PLACES_MIN, Math.floor(openFilesMax / 16));
  return {
    short: Math.min(short, LIMITS_MAX.short),
    long: Math.min(long, LIMITS_MAX.long),
    anonymous: Math.min(Math.floor((short * 2) / 3), LIMITS_MAX.anonymous),
  };
}

/** One connection. */
export interface Place {
  readonly peer: string;
  /** A token was good, or none is needed. */
  isKnown: boolean;
  /** No whole request is in hand. */
  isIdle: boolean;
  isLong: boolean;
  /** Ends it: another takes its place. */
  drop(): void;
}

export class ConnectionBudget {
  private readonly limits: BudgetLimits;
  /** A set goes through its elements in the order in which they came. */
  private readonly places = new Set<Place>();

  constructor(limits: BudgetLimits) {
    this.limits = limits;
  }

  get all(): readonly Place[] {
    return [...this.places];
  }

  /** Takes it in, where needed in the place of another; false: there is none to be had. */
  admit(place: Place): boolean {
    const { short, anonymous } = this.limits;
    const shorts = this.all.filter(({ isLong }) => !isLong);
    const unknown = shorts.filter(({ isKnown }) => !isKnown);
    if (!place.isKnown && unknown.length >= anonymous) {
      if (!this.dropIdle(ofLargestPeer(unknown))) return false;
    } else if (shorts.length >= short) {
      // Who has shown a token loses its place last.
      if (!this.dropIdle(ofLargestPeer(unknown)) && !this.dropIdle(shorts)) return false;
    }
    this.places.add(place);
    return true;
  }

  /** A long request begins; false: all long places are taken. */
  lengthen(place: Place): boolean {
    if (this.all.filter(({ isLong }) => isLong).length >= this.limits.long) return false;
    place.isLong = true;
    return true;
  }

  release(place: Place): void {
    this.places.delete(place);
  }

  private dropIdle(candidates: readonly Place[]): boolean {
    const victim = candidates.find(({ isIdle }) => isIdle);
    if (victim === undefined) return false;
    this.places.delete(victim);
    victim.drop();
    return true;
  }
}

/** Those of the peer that has the most that are idle. */
function ofLargestPeer(places: readonly Place[]): readonly Place[] {
  const byPeer = Map.groupBy(
    places.filter(({ isIdle }) => isIdle),
    ({ peer }) => peer,
  );
  let largest: readonly Place[] = [];
  for (const group of byPeer.values()) if (group.length > largest.length) largest = group;
  return largest;
}
