/** What a scrub has found so far: its job's result, and one sentence about it at the end. */
import { assert } from "../../base/assert.ts";
import { counted } from "../../base/counted.ts";
import { Outcome } from "../../block/io-error.ts";
import type { Geometry, GeometryOptions } from "../../raid5/geometry.ts";
import type { MemberSet } from "../../raid5/members/member-set.ts";
import { areRowsOf, placesOf } from "../../raid5/sync/export-ranges.ts";
import { MismatchRanges, type RowList } from "../../raid5/sync/mismatch-ranges.ts";
import type { ScrubFindings, StripeResult } from "../../raid5/sync/stripe-sync.ts";
import type { JobResult, MismatchList, Severity } from "../protocol.ts";

export class ScrubReport implements ScrubFindings {
  readonly mismatches: MismatchRanges;
  readonly losses: MismatchRanges;
  mismatchBytes = 0;
  lostBytes = 0;
  /** Of each member: passed over, because a member did not answer. */
  uncheckedBytes = 0;
  private readonly geometry: Geometry;

  /** `before`: what an interrupted scrub had found. */
  constructor(geometry: Geometry, before: JobResult = {}) {
    this.geometry = geometry;
    this.mismatches = new MismatchRanges(rowsIn(geometry, before["mismatchRanges"]));
    this.losses = new MismatchRanges(rowsIn(geometry, before["lostRanges"]));
    this.mismatchBytes = Number(before["mismatchBytes"] ?? 0);
    this.lostBytes = Number(before["lostBytes"] ?? 0);
    this.uncheckedBytes = Number(before["uncheckedBytes"] ?? 0);
  }

  get result(): JobResult {
    return {
      mismatchBytes: this.mismatchBytes,
      mismatchRanges: placedIn(this.geometry, this.mismatches),
      lostBytes: this.lostBytes,
      lostRanges: placedIn(this.geometry, this.losses),
      geometry: factsOf(this.geometry),
      ...(this.uncheckedBytes > 0 ? { uncheckedBytes: this.uncheckedBytes } : {}),
    };
  }

  addMismatches({ mismatches, mismatchBytes }: ScrubReport): void {
    this.mismatches.noteAll(mismatches);
    this.mismatchBytes += mismatchBytes;
  }

  /** What is lost, and what could not be looked at. */
  addLosses({ losses, lostBytes, uncheckedBytes }: ScrubReport): void {
    this.losses.noteAll(losses);
    this.lostBytes += lostBytes;
    this.uncheckedBytes += uncheckedBytes;
  }

  get hasMismatches(): boolean {
    return !this.mismatches.isEmpty;
  }

  /** Nothing was noted, and nothing passed over. */
  get isBlank(): boolean {
    return this.mismatches.isEmpty && this.losses.isEmpty && !this.isAny;
  }

  get isAny(): boolean {
    return this.mismatchBytes + this.lostBytes + this.uncheckedBytes > 0;
  }

  get severity(): Severity {
    if (this.lostBytes > 0) return "critical";
    return this.mismatchBytes > 0 ? "warning" : "info";
  }

  /** "check finished: 8192 bytes in rows that do not match, ranges: 1, the first of …". */
  text(mode: string): string {
    const text =
      `${mode} finished: ${this.mismatchBytes} bytes in rows that do not match` +
      rangesText(this.mismatches.list);
    if (this.lostBytes === 0) return text;
    const lost = `${this.lostBytes} bytes are lost: no member gives them`;
    return `${text}; ${lost}${rangesText(this.losses.list)}`;
  }
}

/** A member has not answered in time, and is a member all the same. */
export function isLate(result: StripeResult | null, members: MemberSet): boolean {
  if (result === null || result.kind === "done") return false;
  return result.error.outcome === Outcome.timedOut && members.isPresent(result.error.role);
}

/** What was found, and where it is in the array. */
export function placedIn(geometry: Geometry, found: MismatchRanges): MismatchList {
  const { ranges, truncated } = found.list;
  return { ranges: ranges.map((rows) => ({ ...rows, ...placesOf(geometry, rows) })), truncated };
}

/** Why a scrub that has been everywhere has not looked at everything. */
export function uncheckedText(uncheckedBytes: number): string {
  assert(uncheckedBytes > 0, "what was passed over are bytes");
  return (
    `a member did not answer, and so ${uncheckedBytes} bytes of each member were passed over: run ` +
    "it again when the drive answers"
  );
}

export function listIn(fact: JobResult[string] | undefined): MismatchList | undefined {
  const isList = typeof fact === "object" && "ranges" in fact && Array.isArray(fact.ranges);
  return isList ? fact : undefined;
}

function rowsIn(geometry: Geometry, fact: JobResult[string] | undefined): RowList {
  const { ranges, truncated } = listIn(fact) ?? { ranges: [], truncated: false };
  return { ranges: ranges.filter((range) => areRowsOf(geometry, range)), truncated };
}

/** What explains ranges later, whatever has become of the array (scrub-explain.ts). */
function factsOf({ memberCount, chunkBytes, layout, memberSizeBytes }: Geometry): GeometryOptions {
  return { memberCount, chunkBytes, layout, memberSizeBytes };
}

function rangesText({ ranges, truncated }: RowList): string {
  const [first] = ranges;
  if (first === undefined) return "";
  const count = `${ranges.length}${truncated ? " and more" : ""}`;
  return (
    `, ranges: ${count}, the first of ${counted(first.sectorCount, "sector")} from sector ` +
    `${first.firstSector} of each member's data`
  );
}
