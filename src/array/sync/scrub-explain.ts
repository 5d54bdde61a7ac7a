/**
 * Says of a scrub's ranges which bytes of the exported device they concern. Pure: from what the job
 * has kept, also when the array is another one by now, or gone. What was kept may be anything.
 */

import { err, ok, type Result } from "../../base/result.ts";
import { isPowerOfTwo, ROW_BYTES } from "../../base/units.ts";
import { isLayout } from "../../md/layout.ts";
import { Geometry } from "../../raid5/geometry.ts";
import { areRowsOf, exportRangesOf } from "../../raid5/sync/export-ranges.ts";
import type { CommandError, JobResult, JobStatus } from "../protocol.ts";
import { listIn } from "./scrub-report.ts";

/** The job, with `exportRanges` in each of its ranges. */
export function explainJob(job: JobStatus): Result<JobStatus, CommandError> {
  const { id, kind, result } = job;
  const refused = (why: string): Result<never, CommandError> =>
    err({ kind: "conflict", code: "nothing-to-explain", detail: `job ${id} ${why}` });
  if (kind !== "check" && kind !== "repair") {
    return refused(`is a ${kind}: only a scrub lists ranges; ask for it without explain`);
  }
  const geometry = geometryIn(result);
  const explained: { [fact: string]: JobResult[string] } = { ...result };
  for (const fact of ["mismatchRanges", "lostRanges"]) {
    const list = listIn(result[fact]);
    if (geometry === null || list?.ranges.every((range) => areRowsOf(geometry, range)) !== true) {
      return refused("has not kept what its ranges stand for: run the scrub again");
    }
    const ranges = list.ranges.map((range) => {
      return { ...range, exportRanges: exportRangesOf(geometry, range) };
    });
    explained[fact] = { ...list, ranges };
  }
  return ok({ ...job, result: explained });
}

/** Null: none is there that can be. */
function geometryIn({ geometry: fact }: JobResult): Geometry | null {
  if (typeof fact !== "object" || !("memberCount" in fact)) return null;
  const { memberCount, chunkBytes, layout, memberSizeBytes } = fact;
  const isMember = Number.isSafeInteger(memberSizeBytes) && memberSizeBytes >= chunkBytes;
  const isChunk = isPowerOfTwo(chunkBytes) && chunkBytes >= ROW_BYTES;
  const isCount = Number.isInteger(memberCount) && memberCount >= 2;
  const isSize = Number.isSafeInteger(memberCount * memberSizeBytes);
  if (!isCount || !isChunk || !isMember || !isSize || !isLayout(layout)) return null;
  return new Geometry({ memberCount, chunkBytes, layout, memberSizeBytes });
}
