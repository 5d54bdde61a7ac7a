/**
 * How fast work on stripes was: bytes a second of each member, by kind of work, apart for when
 * clients were at work and when they were not. What a rebuild would take now is told from it.
 *
 * | what               | is                                                                      |
 * |--------------------|-------------------------------------------------------------------------|
 * | a sample           | a second of work under one load and one limit; at the end of a work      |
 * |                    | what is left of one, from 200 ms on                                     |
 * | a rate             | the mean over the last member's worth of bytes: a disk is slower inside  |
 * | another limit      | begins anew: what was held back by one says nothing of another           |
 * | what is not counted| a scrub that was asked to be slow, waits for space, members gone around  |
 *
 * Nothing is guessed: what was not measured is not there. Control remembers the list.
 */
import { assert } from "../../base/assert.ts";
import { isoTime } from "../../base/time.ts";
import type { ClientLoad, JobKind, RebuildTime, SyncRate } from "../protocol.ts";

const SAMPLE_MS = 1_000;
const SAMPLE_MS_MIN = 200;
/** A rate this near to its limit was held back by it. */
const HELD_BACK_SHARE = 0.8;

/** What tells most of a rebuild comes first. */
const KINDS: readonly JobKind[] = ["rebuild", "replace", "resync", "repair", "check"];

interface Measured {
  readonly kind: JobKind;
  readonly load: ClientLoad;
  readonly limit: number | null;
  bytes: number;
  ms: number;
  measuredAt: string;
}

export class SyncRates {
  private measured: Measured[] = [];

  get list(): readonly SyncRate[] {
    return this.measured.map(({ kind, load, limit, bytes, ms, measuredAt }) => ({
      kind,
      load,
      bytesPerSecond: Math.round((bytes * 1_000) / ms),
      limitBytesPerSecond: limit,
      measuredBytes: Math.round(bytes),
      measuredAt,
    }));
  }

  /** What was measured before this run of the reactor, where nothing newer is known. */
  remember(rates: readonly SyncRate[]): void {
    for (const { kind, load, bytesPerSecond, limitBytesPerSecond, ...rate } of rates) {
      const { measuredBytes: bytes, measuredAt } = rate;
      const ms = (bytes * 1_000) / bytesPerSecond;
      const isUsable = bytes > 0 && Number.isFinite(ms);
      if (!isUsable || this.of(kind, load) !== undefined) continue;
      this.measured.push({ kind, load, limit: limitBytesPerSecond, bytes, ms, measuredAt });
    }
  }

  /** `memberBytes`: how much of a rate is remembered. */
  add(sample: Omit<Measured, "limit"> & { limit: number; memberBytes: number }): void {
    const { kind, load, bytes, ms, measuredAt, memberBytes } = sample;
    assert(bytes > 0 && ms > 0, "a sample is of work that took time");
    const limit = limitOf(sample.limit);
    const before = this.of(kind, load);
    const isSame = before !== undefined && before.limit === limit;
    const rate: Measured = isSame ? before : { kind, load, limit, bytes: 0, ms: 0, measuredAt };
    rate.bytes += bytes;
    rate.ms += ms;
    rate.measuredAt = measuredAt;
    const kept = Math.min(1, memberBytes / rate.bytes);
    rate.bytes *= kept;
    rate.ms *= kept;
    if (isSame) return;
    this.measured = [...this.measured.filter((other) => other !== before), rate];
  }

  /**
   * How long `bytes` of a member take under this load and limit; null: that was not measured, or
   * nothing is done under this limit (a least speed of 0 beside clients).
   */
  timeFor(bytes: number, { load, limit }: { load: ClientLoad; limit: number }): RebuildTime | null {
    if (limit <= 0) return null;
    for (const kind of KINDS) {
      const rate = this.of(kind, load);
      if (rate === undefined) continue;
      const bytesPerSecond = rateUnder(rate, limitOf(limit));
      if (bytesPerSecond === null) continue;
      return {
        seconds: Math.ceil(bytes / bytesPerSecond),
        bytesPerSecond: Math.round(bytesPerSecond),
        measuredBy: kind,
        measuredAt: rate.measuredAt,
      };
    }
    return null;
  }

  private of(kind: JobKind, load: ClientLoad): Measured | undefined {
    return this.measured.find((rate) => rate.kind === kind && rate.load === load);
  }
}

/** Null: it was held back by a limit that is higher now, and what it could do nobody knows. */
function rateUnder({ bytes, ms, limit: before }: Measured, limit: number | null): number | null {
  const rate = (bytes * 1_000) / ms;
  const wasHeldBack = before !== null && rate >= HELD_BACK_SHARE * before;
  if (wasHeldBack && (limit === null || limit > before)) return null;
  return limit === null ? rate : Math.min(rate, limit);
}

/** Null: no limit. */
function limitOf(limit: number): number | null {
  return limit >= Number.MAX_SAFE_INTEGER ? null : limit;
}

/** Cuts the work that runs into samples. */
export class SyncMeter {
  private readonly rates: SyncRates;
  private readonly memberBytes: number;
  private readonly open = { idle: { bytes: 0, ms: 0 }, busy: { bytes: 0, ms: 0 } };
  private readonly limits = { idle: 0, busy: 0 };
  private kind: JobKind = "check";
  private lastMs = 0;

  constructor(options: { rates: SyncRates; memberBytes: number }) {
    this.rates = options.rates;
    this.memberBytes = options.memberBytes;
  }

  begin(kind: JobKind, nowMs: number): void {
    this.kind = kind;
    this.lastMs = nowMs;
    this.drop("idle");
    this.drop("busy");
  }

  /** What has passed until now tells nothing. */
  skip(nowMs: number): void {
    this.lastMs = nowMs;
  }

  /** So many bytes of each member are done since the last call. */
  note(
    bytes: number,
    now: { readonly nowMs: number; readonly wallMs: number; load: ClientLoad; limit: number },
  ): void {
    const { nowMs, wallMs, load, limit } = now;
    const sample = this.open[load];
    if (this.limits[load] !== limit) this.drop(load);
    this.limits[load] = limit;
    sample.bytes += bytes;
    sample.ms += nowMs - this.lastMs;
    assert(nowMs >= this.lastMs, "the clock goes forward");
    this.lastMs = nowMs;
    if (sample.ms >= SAMPLE_MS) this.close(load, wallMs);
  }

  end(wallMs: number): void {
    for (const load of ["idle", "busy"] as const) {
      if (this.open[load].ms >= SAMPLE_MS_MIN) this.close(load, wallMs);
    }
  }

  private close(load: ClientLoad, wallMs: number): void {
    const { kind, memberBytes } = this;
    const { bytes, ms } = this.open[load];
    const limit = this.limits[load];
    const measuredAt = isoTime(wallMs);
    if (bytes > 0) this.rates.add({ kind, load, limit, bytes, ms, measuredAt, memberBytes });
    this.drop(load);
  }

  private drop(load: ClientLoad): void {
    this.open[load].bytes = 0;
    this.open[load].ms = 0;
  }
}
