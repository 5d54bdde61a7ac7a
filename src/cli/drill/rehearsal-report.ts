/** What a rehearsal says: the verdict, and what is printed. Pure. */
import type { JobStatus, PlaceList } from "../../array/protocol.ts";
import { printableLines } from "../../base/printable.ts";
import { formatSeconds } from "../../base/quantity.ts";
import { formatBytes } from "../../base/units.ts";

export const REHEARSAL_SCHEMA = "parityd.rehearsal/1";
/** So many places of each kind are printed; JSON has all that are listed. */
const PRINTED_PLACES_MAX = 16;

export interface PrintedRehearsal {
  readonly schema: typeof REHEARSAL_SCHEMA;
  readonly verdict: "PASS" | "FAIL";
  /** The exports of the array: what is lost of it is lost of them, at the same bytes. */
  readonly exports: readonly string[];
  readonly job: JobStatus;
}

/** Its name, what it says, and lines below that. */
type Row = readonly [string, string, (readonly string[])?];

export function judgeRehearsal(job: JobStatus, exports: readonly string[]): PrintedRehearsal {
  const verdict = job.result["verdict"] === "rebuilt" ? "PASS" : "FAIL";
  return { schema: REHEARSAL_SCHEMA, verdict, exports, job };
}

export function renderRehearsal({ verdict, exports, job }: PrintedRehearsal): string {
  const { result } = job;
  const spare = text(result["spare"]);
  const onto = spare === "" ? "no spare takes its role" : `its role goes to ${spare}`;
  const rate = number(result["rateBytesPerSecond"]);
  const seconds = number(result["rebuildSeconds"]);
  const rows: Row[] = [
    ["array", `${job.array}, without ${text(result["fails"])}: ${onto}`],
    [
      "unreadable",
      `${size(result["unreadableBytes"])} of the other members`,
      places(result["unreadablePlaces"]),
    ],
    [
      "lost",
      `${size(result["lostBytes"])} of the array${exportsText(exports)}`,
      places(result["lostPlaces"]),
    ],
    ["other than now", size(result["wrongBytes"]), places(result["wrongPlaces"])],
    ["mismatches", `${size(result["mismatchBytes"])} in rows whose parity does not match`],
    ["late answers", `${number(result["lateReads"])}; retries ${number(result["retries"])}`],
    ...notLookedAt(result),
    [
      "rebuild",
      `${formatBytes(rate)}/s of a member as things are now: about ${formatSeconds(seconds)} ` +
        "(with the comparison, without the writes to the spare)",
    ],
    ["verdict", `${verdict}: ${verdictText(job)}`],
  ];
  const width = Math.max(...rows.map(([name]) => name.length));
  const lines = rows.flatMap(([name, value, more = []]) => [
    `${name.padStart(width)}: ${value}`,
    ...more.map((line) => `${" ".repeat(width)}  - ${line}`),
  ]);
  return printableLines(["", ...lines].join("\n"));
}

function notLookedAt(result: JobStatus["result"]): Row[] {
  const rows: Row[] = [];
  const unchecked = number(result["uncheckedBytes"]);
  const unverified = number(result["unverifiedBytes"]);
  if (unchecked > 0) {
    const why = "of each member: one of them did not answer in time";
    rows.push(["passed over", `${formatBytes(unchecked)} ${why}`]);
  }
  if (unverified > 0) {
    const why = `could not be read from ${text(result["fails"])} to compare`;
    rows.push(["not compared", `${formatBytes(unverified)} ${why}`]);
  }
  return rows;
}

function verdictText({ array, result }: JobStatus): string {
  const fails = text(result["fails"]);
  switch (result["verdict"]) {
    case "rebuilt":
      return `${fails} would have been rebuilt, and nothing lost`;
    case "lost":
      return (
        `${fails} would have been rebuilt, with losses. While all members are there, parityd ` +
        `scrub start ${array} --mode repair --wait rewrites what cannot be read`
      );
    case "not-rebuilt":
      return `the array would have stayed degraded: ${text(result["obstacle"])}`;
    default:
      return "not all of it was looked at; run it again when the drive answers";
  }
}

function exportsText(exports: readonly string[]): string {
  return exports.length === 0 ? "" : `, and so of ${exports.join(", ")}`;
}

type Fact = JobStatus["result"][string] | undefined;

/** "drive0, byte 1064960: 4.0 KiB", a line for each. */
function places(fact: Fact): string[] {
  if (typeof fact !== "object" || !("places" in fact)) return [];
  const list: PlaceList = fact;
  const lines = list.places.slice(0, PRINTED_PLACES_MAX).map(({ drive, offset, bytes }) => {
    const whose = drive === null ? "" : `${drive}, `;
    return `${whose}byte ${offset}: ${formatBytes(bytes)}`;
  });
  const isMore = list.truncated || list.places.length > PRINTED_PLACES_MAX;
  return isMore ? [...lines, "and more (--json)"] : lines;
}

function number(fact: Fact): number {
  return typeof fact === "number" ? fact : 0;
}

function text(fact: Fact): string {
  return typeof fact === "string" ? fact : "";
}

function size(fact: Fact): string {
  return formatBytes(number(fact));
}
