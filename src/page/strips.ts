/**
 * Where things lie along the members of an array, as parts of a strip from 0 to 1. Pure.
 *
 *   areas   what the whole member is made of, one behind the other, from 0 to 1 without a gap
 *   marks   what lies at single places: bad sectors, mismatches, losses. Places that one could not
 *           tell apart are one mark, and none is too small to be seen
 *
 * Offsets are bytes from the begin of the member's data.
 */
import type { ArrayStatus, JobStatus, MemberStatus, MismatchList } from "../array/statuses.ts";

export type AreaKind = "in-sync" | "rebuilt" | "pending" | "copied" | "checked" | "absent";
export type MarkKind = "bad" | "mismatch" | "lost";

export interface Area {
  readonly kind: AreaKind;
  readonly from: number;
  readonly to: number;
}

export interface Mark {
  readonly kind: MarkKind;
  readonly from: number;
  readonly to: number;
  /** Ranges that it stands for. */
  readonly count: number;
}

export interface Strip {
  readonly areas: readonly Area[];
  readonly marks: readonly Mark[];
}

/** Marks closer than this are one; none is drawn smaller. */
const MARK_SPAN = 1 / 200;
const SECTOR_BYTES = 512;

/** Bytes of each member that hold data or parity; 0: not known. */
export function memberBytes({ sizeBytes, members }: ArrayStatus): number {
  return members.length < 2 ? 0 : sizeBytes / (members.length - 1);
}

export function stripOf(array: ArrayStatus, member: MemberStatus, scrub: JobStatus | null): Strip {
  const whole = memberBytes(array);
  return {
    areas: areasOf(array, member, whole),
    marks: isPresent(member) ? marksOf(member, scrub, whole) : [],
  };
}

function isPresent({ state }: MemberStatus): boolean {
  return state === "in-sync" || state === "rebuilding";
}

function areasOf({ sync }: ArrayStatus, member: MemberStatus, whole: number): Area[] {
  if (!isPresent(member)) return split("absent", "absent", 1);
  if (member.state === "rebuilding") {
    return split("rebuilt", "pending", fraction(member.recoveredBytes ?? 0, whole));
  }
  if (member.replacement !== undefined) {
    return split("copied", "in-sync", fraction(member.replacement.copiedBytes, whole));
  }
  if (sync.action === "idle") return split("in-sync", "in-sync", 1);
  const done = fraction(sync.doneBytes, sync.totalBytes);
  switch (sync.action) {
    case "resync":
    case "grow":
      return split("in-sync", "pending", done);
    case "check":
    case "repair":
    case "rehearsal":
    case "reshape":
      return split("checked", "in-sync", done);
    default:
      return split("in-sync", "in-sync", 1);
  }
}

function split(before: AreaKind, after: AreaKind, at: number): Area[] {
  const areas: Area[] = [
    { kind: before, from: 0, to: at },
    { kind: after, from: at, to: 1 },
  ];
  return areas.filter(({ from, to }) => to > from);
}

function marksOf(member: MemberStatus, scrub: JobStatus | null, whole: number): Mark[] {
  if (whole === 0) return [];
  const bad = (member.badBlocks ?? []).map(({ offset, bytes }) => [offset, bytes] as const);
  const found = (key: string): [number, number][] =>
    listIn(scrub?.result[key])
      .filter(({ roles }) => roles === null || roles.includes(member.role))
      .map(({ firstSector, sectorCount }) => [
        firstSector * SECTOR_BYTES,
        sectorCount * SECTOR_BYTES,
      ]);
  return [
    ...toMarks("mismatch", found("mismatchRanges"), whole),
    ...toMarks("bad", bad, whole),
    ...toMarks("lost", found("lostRanges"), whole),
  ];
}

function listIn(fact: JobStatus["result"][string] | undefined): MismatchList["ranges"] {
  return typeof fact === "object" && "ranges" in fact ? fact.ranges : [];
}

/** Ranges as marks: neighbours that nobody could tell apart are one. */
export function toMarks(
  kind: MarkKind,
  ranges: readonly (readonly [offset: number, bytes: number])[],
  whole: number,
): Mark[] {
  const marks: Mark[] = [];
  for (const [offset, bytes] of ranges.toSorted(([one], [other]) => one - other)) {
    const from = Math.min(fraction(offset, whole), 1 - MARK_SPAN);
    const to = Math.max(fraction(offset + bytes, whole), from + MARK_SPAN);
    const last = marks.at(-1);
    if (last === undefined || from > last.to) marks.push({ kind, from, to, count: 1 });
    else marks[marks.length - 1] = { ...last, to: Math.max(last.to, to), count: last.count + 1 };
  }
  return marks;
}

/** The scrub whose findings hold still: the last one of the array that was not cancelled. */
export function scrubOf(array: ArrayStatus, jobs: readonly JobStatus[]): JobStatus | null {
  const ofArray = jobs.filter(({ arrayUuid, kind }) => {
    return arrayUuid === array.uuid && (kind === "check" || kind === "repair");
  });
  const [last] = ofArray.toSorted((one, other) => other.id - one.id);
  if (last === undefined) return null;
  // What a repair has found it has put right.
  return last.kind === "repair" && last.state === "done" ? null : last;
}

const AREA_WORDS: Readonly<Record<AreaKind, string>> = {
  "in-sync": "in sync",
  rebuilt: "rebuilt",
  pending: "not in sync yet",
  copied: "copied to its replacement",
  checked: "read by the work under way",
  absent: "missing",
};
const MARK_WORDS: Readonly<Record<MarkKind, string>> = {
  bad: "bad sectors",
  mismatch: "parity mismatch",
  lost: "lost sectors",
};

/** The strip in words: "rebuilt to 41 %, not in sync yet from there; bad sectors at 12 %". */
export function stripWords({ areas, marks }: Strip): string {
  const parts = areas.map(({ kind, to }) =>
    to === 1 ? AREA_WORDS[kind] : `${AREA_WORDS[kind]} to ${percent(to)}, behind that`,
  );
  const places = marks.map(({ kind, from, count }) => {
    const times = count === 1 ? "" : ` (${count} places)`;
    return `${MARK_WORDS[kind]} at ${percent(from)}${times}`;
  });
  return [parts.join(" "), ...places].join("; ");
}

function percent(part: number): string {
  return `${Math.floor(part * 100)} %`;
}

function fraction(value: number, whole: number): number {
  return whole <= 0 ? 0 : Math.min(1, Math.max(0, value / whole));
}
