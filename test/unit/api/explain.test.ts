/**
 * Goal: what a scrub has found is told by stripe, role and place in the array, and when asked by
 * the bytes of the exported device; over HTTP and on the command line.
 * Method: the real services on simulated drives with rotten rows; jobs made by hand for what no
 * drive of these can bring about, and for what a file may hold.
 */
import { expect, test } from "bun:test";
import type { JobStatus } from "../../../src/array/protocol.ts";
import { explainJob } from "../../../src/array/sync/scrub-explain.ts";
import { rangeLines } from "../../../src/cli/range-text.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { rotRanges } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

/** The second row of the second stripe, of chunks of 64 KiB. */
const ROTTEN = { firstSector: 136, sectorCount: 8 };
const FOUND = { ...ROTTEN, stripe: 1, stripeCount: 1, arrayOffset: 131_072 + 4_096, roles: null };
const EXPLAINED = {
  ...FOUND,
  exportRanges: {
    ranges: [
      { offset: 131_072 + 4_096, bytes: 4_096 },
      { offset: 131_072 + 65_536 + 4_096, bytes: 4_096 },
    ],
    truncated: false,
  },
};
const LINE =
  "mismatch: sectors 136 to 143 of each member's data " +
  "(stripe 1, byte 135168 of the array, role unknown)";
const EXPLAINED_LINES = [
  LINE,
  "          bytes 135168 to 139263 of the exported device",
  "          bytes 200704 to 204799 of the exported device",
];

async function withRot(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  rotRanges(daemon.reactor, [ROTTEN]);
  return daemon;
}

// biome-ignore lint/suspicious/noExplicitAny: answers are checked field by field.
async function ask(answer: Promise<Response>): Promise<{ status: number; body: any }> {
  const response = await answer;
  return { status: response.status, body: JSON.parse(await response.text()) };
}

async function scrubbed(daemon: SimAppliance): Promise<JobStatus> {
  const { body } = await ask(daemon.call("POST", "/v1/arrays/raid_test/scrub", {}));
  return daemon.reactor.world.waitJob(body.id);
}

test("api: a scrub's ranges: stripe, place and role; with ?explain=true bytes of the export", async () => {
  const daemon = await withRot();
  const { id } = await scrubbed(daemon);
  const plain = await ask(daemon.call("GET", `/v1/jobs/${id}`));
  expect(plain.body.result.mismatchRanges).toEqual({ ranges: [FOUND], truncated: false });
  for (const query of ["explain=true", "wait=1&explain=true"]) {
    const asked = await ask(daemon.call("GET", `/v1/jobs/${id}?${query}`));
    expect(asked.status).toBe(200);
    expect(asked.body.result.mismatchRanges).toEqual({ ranges: [EXPLAINED], truncated: false });
    expect(asked.body.result.lostRanges).toEqual({ ranges: [], truncated: false });
  }
  expect((await daemon.call("GET", `/v1/jobs/${id}?explain=yes`)).status).toBe(422);
});

test("api: POST scrub?wait=N&explain=true: the answer is explained", async () => {
  const daemon = await withRot();
  const waiting = ask(daemon.call("POST", "/v1/arrays/raid_test/scrub?wait=60&explain=true", {}));
  await until("the job is there", () => daemon.reactor.jobs().length === 1);
  daemon.reactor.world.waitJob(1);
  const { status, body } = await waiting;
  expect(status).toBe(200);
  expect(body.result.mismatchRanges.ranges).toEqual([EXPLAINED]);
});

test("api: a job that is no scrub, or does not know its array: 409 with the way out", async () => {
  const daemon = await withRot();
  await daemon.call("POST", "/v1/arrays/raid_test/members/b/fail");
  const rebuild = await ask(daemon.call("POST", "/v1/arrays/raid_test/members", { drive: "d" }));
  const refused = await ask(daemon.call("GET", `/v1/jobs/${rebuild.body.id}?explain=true`));
  expect(refused).toMatchObject({
    status: 409,
    body: { type: "urn:parityd:problem:nothing-to-explain" },
  });
  expect(refused.body.detail).toContain("only a scrub lists ranges");
  const known = rebuild.body as JobStatus;
  const geometry = { memberCount: 3, chunkBytes: 65_536, layout: 2, memberSizeBytes: 1_048_576 };
  const lists = { mismatchRanges: { ranges: [FOUND], truncated: false } };
  const lost = { lostRanges: { ranges: [], truncated: false } };
  const scrub = (result: object) =>
    explainJob({ ...known, kind: "check", result: result as JobStatus["result"] });
  expect(scrub({ ...lists, ...lost, geometry }).ok).toBe(true);
  for (const result of [
    {},
    { ...lists, ...lost },
    { ...lists, geometry },
    { ...lists, ...lost, geometry: 3 },
    { ...lists, ...lost, geometry: { ...geometry, layout: 6 } },
    { ...lists, ...lost, geometry: { ...geometry, chunkBytes: 3 } },
    { ...lists, ...lost, geometry: { ...geometry, memberCount: "3" } },
    { ...lists, ...lost, geometry: { ...geometry, memberSizeBytes: 65_536 } },
    { ...lists, ...lost, geometry: { ...geometry, memberSizeBytes: 2 ** 53 } },
    { mismatchRanges: { ranges: 3 }, ...lost, geometry },
  ]) {
    const answer = scrub(result);
    expect([result, answer.ok]).toEqual([result, false]);
    if (!answer.ok) expect(answer.error.detail).toContain("run the scrub again");
  }
});

test("scrub start --wait --explain, job show --explain: each range, and what it concerns", async () => {
  const daemon = await withRot();
  const waiting = runCli("scrub start raid_test --wait --explain", { daemon });
  await until("the job is there", () => daemon.reactor.jobs().length === 1);
  daemon.reactor.world.waitJob(1);
  const { stdout, exitCode } = await waiting;
  expect(exitCode).toBe(1);
  expect(stdout.split("\n").slice(1)).toEqual(EXPLAINED_LINES);
  const shown = await runCli("job show 1", { daemon });
  expect(shown.stdout.split("\n").slice(1)).toEqual([LINE]);
  const explained = await runCli("job show 1 --explain", { daemon });
  expect(explained.stdout.split("\n").slice(1)).toEqual(EXPLAINED_LINES);
  const json = JSON.parse((await runCli("job show 1 --explain --json", { daemon })).stdout);
  expect(json.result.mismatchRanges.ranges).toEqual([EXPLAINED]);
  const refused = await runCli("scrub start raid_test --explain", { daemon });
  expect([refused.exitCode, refused.stderr]).toEqual([64, expect.stringContaining("--wait")]);
  expect(daemon.reactor.jobs()).toHaveLength(1);
});

test("ranges: the text of lost rows over several stripes, and of more than are told", () => {
  const range = { ...FOUND, sectorCount: 1_000, stripeCount: 9, roles: [0, 2] };
  const ranges = [{ ...range, exportRanges: { ranges: [], truncated: true } }];
  expect(rangeLines({ result: { lostRanges: { ranges, truncated: true } } })).toEqual([
    "lost: sectors 136 to 1135 of each member's data " +
      "(stripes 1 to 9, byte 135168 of the array, roles 0 and 2)",
    "          more behind these",
    "lost: more behind these",
  ]);
});
