/** Situations for the calls that change an array, by the call as /openapi.json has it. */
import { expect } from "bun:test";
import {
  ARRAY,
  absent,
  at,
  CREATE,
  client,
  degraded,
  deleted,
  does,
  exported,
  full,
  killed,
  lacking,
  other,
  readOnly,
  refused,
  type Situation,
  scheduled,
  scrubbed,
  shared,
  slow,
  smallDrive,
  spare,
  stopped,
  taken,
  twoGone,
  unknown,
  withArray,
  withDrives,
  withFence,
  withFiles,
} from "./dry-run-steps.ts";
import { TEST_ARRAY } from "./sim-reactor.ts";

const SPARE_ADD = { drive: "d", force: true };
/** What follows, in the place of the array: with how it would stand. */
const forecast: Situation["same"] = (dry, real) => {
  if ("type" in real) expect(dry).toEqual(real);
  else expect([dry.state, dry.degraded]).toEqual([real.state, real.degraded]);
};

export const ARRAY_SITUATIONS: Readonly<Record<string, readonly Situation[]>> = {
  "POST /v1/arrays": at("/v1/arrays", [
    taken("new", withDrives(), { body: CREATE }),
    taken("clean", withDrives(), {
      body: { ...CREATE, assumeClean: true, spares: ["d"], consistencyPolicy: "bitmap" },
    }),
    taken("of files", withFiles(), { body: CREATE }),
    refused("its name is taken", "name-in-use", withArray(), {
      body: { ...CREATE, name: TEST_ARRAY },
    }),
    refused("the name of an absent one", "name-in-use", absent, {
      body: { ...CREATE, name: TEST_ARRAY, force: false },
    }),
    refused("a drive is in use", "drive-in-use", withArray(), { body: CREATE }),
    refused("a drive has data", "drive-has-data", withArray(deleted), {
      body: { ...CREATE, force: false },
    }),
    refused("unknown drive", "unknown-drive", withDrives(), {
      body: { ...CREATE, drives: ["a", "b", "z"] },
    }),
    refused("too small", "drive-too-small", withDrives(smallDrive), {
      body: { ...CREATE, drives: ["a", "b", "small"], chunkKiB: 1024 },
    }),
    refused("bad size", "bad-size", withDrives(), { body: { ...CREATE, sizeKiB: 1_000_000 } }),
    refused("bad values", "bad-values", withDrives(), { body: { ...CREATE, drives: ["a"] } }),
    refused("state.db is full", "not-recorded", full(withDrives()), { body: CREATE }),
  ]),
  "POST /v1/arrays/{name}/start": at(`${ARRAY}/start`, [
    taken("stopped", withArray(stopped())),
    taken("read-only", withArray(stopped()), { body: { readOnly: true } }),
    taken("it runs", withArray()),
    refused("it runs, read-only", "already-running", withArray(), { body: { readOnly: true } }),
    taken("without a drive", withArray(lacking)),
    taken("killed, with a log", killed("ppl")),
    refused("killed, with a bitmap", "dirty-and-degraded", killed("bitmap")),
    refused("killed, without", "dirty-and-degraded", killed("resync")),
    taken("killed, without, forced", killed("resync"), { body: { force: true } }),
    taken("killed, with a log, read-only", killed("ppl"), { body: { readOnly: true } }),
    refused("another host has a drive", "fenced", withFence(withArray(stopped()), "/dev/b")),
    refused("too few", "too-few-members", withArray(twoGone)),
    taken("deleted", withArray(deleted)),
    refused("absent", "unknown-array", absent),
    unknown("/v1/arrays/none/start"),
  ]),
  "POST /v1/arrays/{name}/stop": at(`${ARRAY}/stop`, [
    taken("it runs", withArray()),
    taken("degraded", withArray(degraded)),
    refused("stopped", "not-running", withArray(stopped())),
    refused("clients", "clients-connected", withArray(exported, client)),
    taken("clients, forced", withArray(exported, client), { query: "force=true" }),
    unknown("/v1/arrays/none/stop"),
  ]),
  "PATCH /v1/arrays/{name}": at(ARRAY, [
    taken("settings", withArray(), { body: { syncSpeedMax: 123_456, replaceSuspects: true } }),
    taken("a name", withArray(), { body: { name: "tank" } }),
    taken("a name, stopped", withArray(stopped()), { body: { name: "tank" } }),
    taken("a policy", withArray(), { body: { consistencyPolicy: "bitmap" } }),
    taken("the policy that it has", withArray(), { body: { consistencyPolicy: "ppl" } }),
    taken("the size that it has", withArray(), { body: { sizeKiB: "max" } }),
    refused("another's name", "name-in-use", withArray(other), { body: { name: "other" } }),
    refused("a policy, degraded", "policy-not-now", withArray(degraded), {
      body: { consistencyPolicy: "bitmap" },
    }),
    refused("a policy, stopped", "not-running", withArray(stopped()), {
      body: { consistencyPolicy: "bitmap" },
    }),
    refused("too large", "bad-size", withArray(), { body: { sizeKiB: 1_000_000 } }),
    refused("a size, degraded", "growth-not-now", withArray(degraded), {
      body: { sizeKiB: "max" },
    }),
    refused("state.db is full", "not-recorded", full(withArray()), { body: { syncSpeedMax: 5 } }),
    unknown("/v1/arrays/none", { name: "x" }),
  ]),
  "DELETE /v1/arrays/{name}": at(ARRAY, [
    taken("it runs", withArray()),
    taken("erased", withArray(exported, scheduled), { path: `${ARRAY}?zeroSuperblocks=true` }),
    taken("absent", absent),
    refused("clients", "clients-connected", withArray(exported, client)),
    taken("clients, forced", withArray(exported, client), { path: `${ARRAY}?force=true` }),
    unknown("/v1/arrays/none"),
  ]),
  "POST /v1/arrays/{name}/members": at(`${ARRAY}/members`, [
    taken("a spare", withArray(), { body: SPARE_ADD }),
    taken("rebuilt", withArray(degraded), { body: SPARE_ADD }),
    taken("waited for", withArray(degraded), { query: "wait=0", body: SPARE_ADD }),
    refused("in use", "drive-in-use", withArray(), { body: { drive: "a" } }),
    refused("it has data", "drive-has-data", withArray(other, does("DELETE", "/v1/arrays/other")), {
      body: { drive: "e" },
    }),
    refused("too small", "drive-too-small", withArray(smallDrive), { body: { drive: "small" } }),
    refused("unknown drive", "unknown-drive", withArray(), { body: { drive: "z" } }),
    refused("stopped", "not-running", withArray(stopped()), { body: SPARE_ADD }),
    refused("read-only", "not-writable", withArray(readOnly), { body: SPARE_ADD }),
    unknown("/v1/arrays/none/members", SPARE_ADD),
  ]),
  "POST /v1/arrays/{name}/members/{drive}/replace": at(`${ARRAY}/members/b/replace`, [
    taken("by a free drive", withArray(), { body: { with: "d", force: true } }),
    taken("by its spare", withArray(spare), { body: { with: "d" } }),
    refused("by itself", "drive-in-use", withArray(), { body: { with: "b" } }),
    refused("by another member", "drive-in-use", withArray(), { body: { with: "c" } }),
    refused("faulty", "member-faulty", withArray(degraded), { body: { with: "d", force: true } }),
    refused("degraded", "degraded", withArray(degraded), {
      path: `${ARRAY}/members/a/replace`,
      body: { with: "d", force: true },
    }),
    refused("too small", "drive-too-small", withArray(smallDrive), { body: { with: "small" } }),
    refused("no member", "not-a-member", withArray(), {
      path: `${ARRAY}/members/d/replace`,
      body: { with: "a" },
    }),
    refused("unknown drive", "unknown-drive", withArray(), { body: { with: "z" } }),
    unknown("/v1/arrays/none/members/a/replace", { with: "d" }),
  ]),
  "POST /v1/arrays/{name}/members/{drive}/fail": at(`${ARRAY}/members/b/fail`, [
    taken("whole", withArray(), { same: forecast }),
    refused("needed", "would-lose-data", withArray(degraded), {
      path: `${ARRAY}/members/a/fail`,
      same: forecast,
    }),
    refused("no member", "not-a-member", withArray(), {
      path: `${ARRAY}/members/d/fail`,
      same: forecast,
    }),
    refused("stopped", "not-running", withArray(stopped()), { same: forecast }),
    unknown("/v1/arrays/none/members/a/fail"),
  ]),
  "DELETE /v1/arrays/{name}/members/{drive}": at(`${ARRAY}/members/b`, [
    taken("faulty", withArray(degraded)),
    taken("a spare", withArray(spare), { path: `${ARRAY}/members/d` }),
    taken("a member", withArray()),
    refused("needed", "would-lose-data", withArray(degraded), { path: `${ARRAY}/members/a` }),
    refused("no member", "not-a-member", withArray(), { path: `${ARRAY}/members/d` }),
    refused("stopped", "not-running", withArray(stopped())),
    unknown("/v1/arrays/none/members/a"),
  ]),
  "POST /v1/arrays/{name}/grow": at(`${ARRAY}/grow`, [
    taken("with a log", withArray(), { body: { drives: ["d"], force: true } }),
    taken("without", withArray(does("PATCH", ARRAY, { consistencyPolicy: "resync" })), {
      body: { drives: ["d"], force: true },
    }),
    refused("degraded", "growth-not-now", withArray(degraded), {
      body: { drives: ["d"], force: true },
    }),
    refused("in use", "drive-in-use", withArray(), { body: { drives: ["a"] } }),
    refused("too small", "drive-too-small", withArray(smallDrive), { body: { drives: ["small"] } }),
    refused("unknown drive", "unknown-drive", withArray(), { body: { drives: ["z"] } }),
    refused("stopped", "not-running", withArray(stopped()), { body: { drives: ["d"] } }),
    refused("state.db is full", "not-recorded", full(withArray()), {
      body: { drives: ["d"], force: true },
    }),
    unknown("/v1/arrays/none/grow", { drives: ["d"] }),
  ]),
  "POST /v1/arrays/{name}/scrub": at(`${ARRAY}/scrub`, [
    taken("new", withArray(), { body: { mode: "repair", ...slow } }),
    taken("waited for, strict", withArray(), { query: "strict=true", body: slow }),
    taken("gone on with", withArray(scrubbed, does("POST", `${ARRAY}/scrub/pause`))),
    refused("one runs", "scrub-not-possible", withArray(scrubbed)),
    refused("degraded", "scrub-not-possible", withArray(degraded)),
    refused("read-only", "scrub-not-possible", withArray(readOnly)),
    refused("stopped", "not-running", withArray(stopped())),
    unknown("/v1/arrays/none/scrub"),
  ]),
  "POST /v1/arrays/{name}/scrub/pause": at(`${ARRAY}/scrub/pause`, [
    taken("it runs", withArray(scrubbed)),
    refused("none", "no-scrub", withArray()),
    unknown("/v1/arrays/none/scrub/pause"),
  ]),
  "DELETE /v1/arrays/{name}/scrub": at(`${ARRAY}/scrub`, [
    taken("it runs", withArray(scrubbed)),
    refused("none", "no-scrub", withArray()),
    unknown("/v1/arrays/none/scrub"),
  ]),
  "POST /v1/arrays/{name}/rehearsal": at(`${ARRAY}/rehearsal`, [
    taken("onto nothing", withArray(), { body: { drive: "b" } }),
    taken("onto its spare", withArray(spare)),
    taken("onto a shared one", withArray(shared)),
    refused("no member", "not-a-member", withArray(), { body: { drive: "d" } }),
    refused("degraded", "rehearsal-not-possible", withArray(degraded)),
    unknown("/v1/arrays/none/rehearsal"),
  ]),
  "POST /v1/arrays/{name}/rehearsal/pause": at(`${ARRAY}/rehearsal/pause`, [
    taken("it runs", withArray(does("POST", `${ARRAY}/rehearsal`))),
    refused("none", "no-rehearsal", withArray()),
    unknown("/v1/arrays/none/rehearsal/pause"),
  ]),
};
