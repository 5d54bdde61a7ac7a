/** What a scrub has found so far: its job's result, and one sentence about it at the end. */
import { type MismatchList, MismatchRanges } from "../raid5/mismatch-ranges.ts";
import type { ScrubFindings } from "../raid5/stripe-sync.ts";
import type { JobResult, Severity } from "./protocol.ts";

export class ScrubReport implements ScrubFindings {
  readonly mismatches: MismatchRanges;
  readonly losses: MismatchRanges;
  mismatchBytes = 0;
  lostBytes = 0;

  /** `before`: what an interrupted scrub had found. */
  constructor(before: JobResult = {}) {
    this.mismatches = new MismatchRanges(listIn(before["mismatchRanges"]));
    this.losses = new MismatchRanges(listIn(before["lostRanges"]));
    this.mismatchBytes = Number(before["mismatchBytes"] ?? 0);
    this.lostBytes = Number(before["lostBytes"] ?? 0);
  }

  get result(): JobResult {
    return {
      mismatchBytes: this.mismatchBytes,
      mismatchRanges: this.mismatches.list,
      lostBytes: this.lostBytes,
      lostRanges: this.losses.list,
    };
  }

  get isAny(): boolean {
    return this.mismatchBytes + this.lostBytes > 0;
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

function listIn(fact: JobResult[string] | undefined): MismatchList | undefined {
  return typeof fact === "object" ? fact : undefined;
}

function rangesText({ ranges, truncated }: MismatchList): string {
  const [first] = ranges;
  if (first === undefined) return "";
  const count = `${ranges.length}${truncated ? " and more" : ""}`;
  return (
    `, ranges: ${count}, the first of ${first.sectorCount} sectors from sector ` +
    `${first.firstSector} of each member's data`
  );
}
