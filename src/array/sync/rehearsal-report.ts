/**
 * What a rehearsal has found so far: its job's result, and one sentence about it at the end.
 *
 * | fact                                | what the real thing would have met                      |
 * |-------------------------------------|---------------------------------------------------------|
 * | `fails`, `spare`                    | who is lost, and who would take the role ("": nobody)   |
 * | `unreadableBytes`, `…Places`        | of the survivors, by drive and byte of the drive        |
 * | `lostBytes`, `lostPlaces`           | of the array: what no member would have given any more  |
 * | `wrongBytes`, `wrongPlaces`         | of the array: what would read otherwise than it does now |
 * | `mismatchBytes`, `mismatchRanges`   | rows whose parity does not match, as a scrub has them   |
 * | `uncheckedBytes`                    | of each member: passed over, a member did not answer    |
 * | `unverifiedBytes`                   | of who is lost: could not be read to compare            |
 * | `lateReads`, `retries`              | answers past the deadline; requests tried again         |
 * | `obstacle`                          | why the rebuild would not have come to its end          |
 * | `rateBytesPerSecond`, `rebuildSeconds` | of a member; how long a rebuild takes at that        |
 * | `verdict`                           | RehearsalVerdict                                        |
 */
import { assert } from "../../base/assert.ts";
import { formatBytes, ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import type { Geometry } from "../../raid5/geometry.ts";
import { MismatchRanges } from "../../raid5/sync/mismatch-ranges.ts";
import type { JobResult, Place, PlaceList, RehearsalVerdict, Severity } from "../protocol.ts";
import { placedIn } from "./scrub-report.ts";

/** A member, as places on it are told. */
export interface RehearsedMember {
  readonly drive: string;
  /** Of its device. */
  readonly dataOffset: number;
}

export class RehearsalReport {
  readonly fails: string;
  readonly spare: string;
  private readonly geometry: Geometry;
  /** By role. */
  private readonly members: readonly RehearsedMember[];
  private readonly failedRole: number;
  /** By role: bytes of the members' data regions. */
  private readonly unreadable: readonly MismatchRanges[];
  private unreadableBytes = 0;
  /** Bytes of the array. */
  private readonly losses = new MismatchRanges();
  private lostBytes = 0;
  private readonly wrongs = new MismatchRanges();
  private wrongBytes = 0;
  private readonly mismatches = new MismatchRanges();
  private mismatchBytes = 0;
  private obstacle: string | null;
  uncheckedBytes = 0;
  unverifiedBytes = 0;
  lateReads = 0;
  retries = 0;
  /** Time in which it ran, and what it did then. */
  private ranMs = 0;
  private doneBytes = 0;

  constructor(options: {
    geometry: Geometry;
    members: readonly RehearsedMember[];
    failedRole: number;
    spare: string | null;
    /** What would keep it from being rebuilt, as far as that is known before; null: nothing. */
    obstacle: string | null;
  }) {
    const { geometry, members, failedRole } = options;
    assert(members.length === geometry.memberCount, "a report is about each member");
    this.geometry = geometry;
    this.members = members;
    this.failedRole = failedRole;
    this.fails = members[failedRole]!.drive;
    this.spare = options.spare ?? "";
    this.obstacle = options.obstacle;
    this.unreadable = members.map(() => new MismatchRanges());
  }

  // What was met -----------------------------------------------------------------------------

  /** A row that `roles` cannot give, each a survivor; `who is lost` cannot either. */
  noteLost(stripe: number, row: number, roles: readonly number[]): void {
    const { geometry, failedRole } = this;
    const memberByte = stripe * geometry.chunkBytes + row * ROW_BYTES;
    for (const role of roles) {
      assert(role !== failedRole, "who is lost is no survivor");
      this.unreadable[role]!.note(memberByte, ROW_BYTES);
      this.unreadableBytes += ROW_BYTES;
      this.noteLostData(stripe, row, role);
    }
    this.noteLostData(stripe, row, failedRole);
  }

  private noteLostData(stripe: number, row: number, role: number): void {
    const at = this.arrayByteOf(stripe, row, role);
    if (at < 0) return;
    this.losses.note(at, ROW_BYTES);
    this.lostBytes += ROW_BYTES;
  }

  /** A row that a rebuild would fill with something else than who is lost holds. */
  noteMismatch(stripe: number, row: number): void {
    this.mismatches.note(stripe * this.geometry.chunkBytes + row * ROW_BYTES, ROW_BYTES);
    this.mismatchBytes += ROW_BYTES;
    const at = this.arrayByteOf(stripe, row, this.failedRole);
    if (at < 0) return;
    this.wrongs.note(at, ROW_BYTES);
    this.wrongBytes += ROW_BYTES;
  }

  /** The first one counts: there the rebuild would have ended. */
  noteObstacle(obstacle: string): void {
    this.obstacle ??= obstacle;
  }

  noteRun(ranMs: number, doneBytes: number): void {
    assert(ranMs >= 0 && doneBytes >= 0, "a run takes time, and comes on");
    this.ranMs += ranMs;
    this.doneBytes += doneBytes;
  }

  /** -1: the role holds parity there. */
  private arrayByteOf(stripe: number, row: number, role: number): number {
    const { geometry } = this;
    const dataIndex = geometry.dataIndexOf(stripe, role);
    return dataIndex < 0 ? -1 : geometry.arrayOffsetOf(stripe, dataIndex) + row * ROW_BYTES;
  }

  // What is told -----------------------------------------------------------------------------

  get verdict(): RehearsalVerdict {
    if (this.obstacle !== null) return "not-rebuilt";
    if (this.lostBytes + this.wrongBytes > 0) return "lost";
    return this.uncheckedBytes > 0 ? "unproven" : "rebuilt";
  }

  get severity(): Severity {
    return this.verdict === "rebuilt" ? "info" : "warning";
  }

  /** Of a member; 0 before anything was done. */
  private get rateBytesPerSecond(): number {
    return this.ranMs > 0 ? Math.round((this.doneBytes * 1000) / this.ranMs) : 0;
  }

  /** What is known while it runs. */
  get result(): JobResult {
    return {
      fails: this.fails,
      spare: this.spare,
      unreadableBytes: this.unreadableBytes,
      lostBytes: this.lostBytes,
      wrongBytes: this.wrongBytes,
      mismatchBytes: this.mismatchBytes,
      lateReads: this.lateReads,
      retries: this.retries,
      ...(this.obstacle === null ? {} : { obstacle: this.obstacle }),
      ...(this.uncheckedBytes > 0 ? { uncheckedBytes: this.uncheckedBytes } : {}),
      ...(this.unverifiedBytes > 0 ? { unverifiedBytes: this.unverifiedBytes } : {}),
    };
  }

  /** What is known at its end. */
  get whole(): JobResult {
    const rate = this.rateBytesPerSecond;
    const { memberSizeBytes } = this.geometry;
    return {
      verdict: this.verdict,
      ...this.result,
      unreadablePlaces: this.unreadablePlaces,
      lostPlaces: placesOf(this.losses),
      wrongPlaces: placesOf(this.wrongs),
      mismatchRanges: placedIn(this.geometry, this.mismatches),
      rateBytesPerSecond: rate,
      rebuildSeconds: rate > 0 ? Math.ceil(memberSizeBytes / rate) : 0,
    };
  }

  private get unreadablePlaces(): PlaceList {
    const lists = this.members.map(({ drive, dataOffset }, role) =>
      placesOf(this.unreadable[role]!, { drive, offset: dataOffset }),
    );
    return {
      places: lists.flatMap(({ places }) => places),
      truncated: lists.some(({ truncated }) => truncated),
    };
  }

  /** "without drive b, rebuilt onto d: 8192 bytes of the array would have been lost". */
  get text(): string {
    const begin = `rehearsal finished: without drive ${this.fails}`;
    const { obstacle, spare, unreadableBytes, lostBytes, wrongBytes } = this;
    const met: string[] = [];
    if (unreadableBytes > 0) met.push(`${formatBytes(unreadableBytes)} unreadable on the others`);
    if (lostBytes > 0) met.push(`${formatBytes(lostBytes)} of the array lost`);
    if (wrongBytes > 0) met.push(`${formatBytes(wrongBytes)} of it other than now`);
    const all = met.length === 0 ? "" : `: ${met.join(", ")}`;
    switch (this.verdict) {
      case "not-rebuilt":
        return `${begin} the array would have stayed degraded (${obstacle})${all}`;
      case "lost":
        return `${begin} it would have been rebuilt onto drive ${spare} with losses${all}`;
      case "unproven":
        return (
          `${begin} it would have been rebuilt onto drive ${spare}, as far as can be told: a ` +
          `member did not answer, and ${formatBytes(this.uncheckedBytes)} of each were passed over`
        );
      default:
        return `${begin} it would have been rebuilt onto drive ${spare}, and nothing lost`;
    }
  }
}

function placesOf(
  found: MismatchRanges,
  where: { readonly drive: string | null; readonly offset: number } = { drive: null, offset: 0 },
): PlaceList {
  const { ranges, truncated } = found.list;
  const places = ranges.map(({ firstSector, sectorCount }): Place => {
    const offset = where.offset + firstSector * SECTOR_BYTES;
    return { drive: where.drive, offset, bytes: sectorCount * SECTOR_BYTES };
  });
  return { places, truncated };
}
