/**
 * Goal: whatever ends the daemon while it scrubs, the scrub goes on by itself at the next start,
 * under its own id, from a place that is no further back than a sixteenth of the array, and has
 * counted each thing once in the end; a deleted array leaves none.
 * Method: the real daemon on the simulated machine, a slow scrub over rotten rows, ended at twenty
 * moments in each of the three ways.
 */
import { expect, test } from "bun:test";
import type { ArrayStatus, JobStatus, MismatchList } from "../../src/array/protocol.ts";
import { KIB, ROW_BYTES } from "../../src/base/units.ts";

import { patchImage } from "../sim/world/media.ts";
import { areasOf } from "../sim/world/member-oracle.ts";
import { Story } from "./story.ts";

const CHUNK_BYTES = 8 * KIB;
const STRIPES = 64;
const PASS_SECONDS = 64;
const MOMENTS = 20;
const CHECKPOINTS = 16;
const ROTTEN = [0, 3, 17, 31, 32, 63];

function rottenStory(): Story {
  const story = new Story(3);
  const sizeKiB = (STRIPES * CHUNK_BYTES) / KIB;
  story.create("tank", "d1 d2 d3", { sizeKiB, consistencyPolicy: "resync" });
  story.run(5_000);
  const [disk] = story.disks;
  story.restart("SIGTERM", () => {
    const data = areasOf(story.host.imageOf(disk!)).find(({ name }) => name === "data")!;
    for (const stripe of ROTTEN) {
      const bytes = new Uint8Array(512).fill(0x5a);
      const at = data.offset + stripe * CHUNK_BYTES;
      disk!.content = patchImage(story.host.imageOf(disk!), at, bytes);
    }
  });
  return story;
}

function jobs(story: Story): JobStatus[] {
  const all = story.must("GET", "/v1/jobs") as JobStatus[];
  return all.filter(({ kind }) => kind === "check" || kind === "repair");
}

function firstSectors({ result }: JobStatus): number[] {
  const { ranges } = result["mismatchRanges"] as MismatchList;
  return ranges.map(({ firstSector }) => firstSector);
}

for (const how of ["SIGTERM", "SIGKILL", "power cut"] as const) {
  for (const mode of ["check", "repair"] as const) {
    test(`${mode}: ${how} in it: goes on from its place, all that it found is counted once`, () => {
      const story = rottenStory();
      const limitBytesPerSecond = (STRIPES * CHUNK_BYTES) / PASS_SECONDS;
      const { id } = story.must("POST", "/v1/arrays/tank/scrub", { mode, limitBytesPerSecond });
      let resumptions = 0;
      for (let moment = 0; moment < MOMENTS; moment += 1) {
        story.run(1_700 + moment * 37);
        const [before] = jobs(story);
        if (before!.state === "done") break;
        expect(before).toMatchObject({ id, state: "running" });
        story.restart(how);
        const [after] = jobs(story);
        expect(after!.id).toBe(id);
        const from = Number(after!.result["resumedFrom"]);
        expect(from).toBeGreaterThan(before!.done - before!.total / CHECKPOINTS - CHUNK_BYTES);
        expect(from).toBeLessThanOrEqual(before!.done + CHUNK_BYTES);
        resumptions += 1;
      }
      expect(resumptions).toBeGreaterThan(10);
      const done = story.must("GET", `/v1/jobs/${id}?wait=100`) as JobStatus;
      expect(done).toMatchObject({ state: "done", error: null, result: { lostBytes: 0 } });
      expect(firstSectors(done)).toEqual(ROTTEN.map((stripe) => (stripe * CHUNK_BYTES) / 512));
      const countedRows = Number(done.result["mismatchBytes"]) / ROW_BYTES;
      // What a repair has written and no drive has kept is found, and counted, once more.
      const isKept = mode === "check" || how !== "power cut";
      if (isKept) expect(countedRows).toBe(ROTTEN.length);
      else expect(countedRows).toBeGreaterThanOrEqual(ROTTEN.length);
      expect(jobs(story)).toHaveLength(1);
      const status = story.must("GET", "/v1/arrays/tank") as ArrayStatus;
      expect(status).toMatchObject({ pausedScrub: null, lastScrub: { mode } });
    });
  }
}

test("a set-aside scrub: shown by status, and gone with its array", () => {
  const story = rottenStory();
  const limitBytesPerSecond = CHUNK_BYTES;
  const { id } = story.must("POST", "/v1/arrays/tank/scrub", { limitBytesPerSecond });
  story.run(3_000);
  story.must("POST", "/v1/arrays/tank/stop");
  expect(jobs(story)).toMatchObject([{ id, state: "paused", error: "the array was stopped" }]);
  const { stdout } = story.process.cli("status");
  expect(stdout).toMatch(/check: set aside at \d+\.\d % \(job \d+\), goes on by itself: the array/);
  story.must("DELETE", "/v1/arrays/tank");
  expect(jobs(story)).toMatchObject([{ id, state: "cancelled", error: "the array was deleted" }]);
  story.restart("SIGKILL");
  expect(jobs(story)).toMatchObject([{ id, state: "cancelled" }]);
});
