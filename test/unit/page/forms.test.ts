/** Goal: forms send what was typed, say beforehand what follows, and views are found by name. */
import { expect, test } from "bun:test";
import type { FailForecast } from "../../../src/appliance/fail-forecast.ts";
import type { DriveStatus } from "../../../src/array/statuses.ts";
import { firstValues, isChecked, numberOf, textOf } from "../../../src/page/action-spec.ts";
import { failLines, freeDrives } from "../../../src/page/actions/array-words.ts";
import { bodyOf, EMPTY_FORM, writesOf } from "../../../src/page/create-form.ts";
import { arrayHref, routeOf } from "../../../src/page/route.ts";

test("route: each view by its name, an array by its own, all else the arrays", () => {
  for (const view of ["arrays", "drives", "clients", "jobs", "events", "schedules", "create"]) {
    expect(routeOf(`#/${view}`)).toEqual({ view: view as "arrays" });
  }
  for (const hash of ["", "#", "#/", "#/none", "#ticket=x", "#/arrays/"]) {
    expect(routeOf(hash)).toEqual({ view: "arrays" });
  }
  for (const name of ["tank", "a.b-c_d", "a:b%"]) {
    expect(routeOf(arrayHref(name))).toEqual({ view: "array", name });
  }
  expect(routeOf("#/arrays/%zz")).toEqual({ view: "array", name: "%zz" });
});

test("forms: values: as a form begins, and as they are read", () => {
  const choices = [{ value: "x", label: "X" }];
  const values = firstValues([
    { name: "a", label: "", kind: "text", first: " tank " },
    { name: "b", label: "", kind: "check" },
    { name: "c", label: "", kind: "choice", options: choices },
    { name: "d", label: "", kind: "choice", options: [] },
    { name: "e", label: "", kind: "number", first: "2.5" },
  ]);
  expect(values).toEqual({ a: " tank ", b: false, c: "x", d: "", e: "2.5" });
  expect([textOf(values, "a"), textOf(values, "none")]).toEqual(["tank", ""]);
  expect([numberOf(values, "e"), numberOf(values, "d")]).toEqual([2.5, null]);
  expect([isChecked(values, "b"), isChecked({ b: true }, "b")]).toEqual([false, true]);
});

test("create: the body and what it writes: of the drives in the order of their roles", () => {
  const form = { ...EMPTY_FORM, name: "tank", drives: ["b", "a", "c"], spares: ["d"] };
  expect(bodyOf(form)).toEqual({
    ...{ name: "tank", drives: ["b", "a", "c"], spares: ["d"] },
    ...{ consistencyPolicy: "ppl", chunkKiB: 64, force: false },
  });
  const lines = writesOf(form, 2 * 1024 ** 3);
  expect(lines.slice(0, 3)).toEqual([
    "Superblocks on b, a, c and d: what these drives hold is lost.",
    "Of each member 1.0 GiB are used; one of 3 may fail.",
    "The ppl beside the data of each member.",
  ]);
  expect(writesOf({ ...form, policy: "resync" }, 1)).toHaveLength(lines.length - 1);
});

test("fail: what would follow: all that the API foretells, in sentences", () => {
  const plan = {
    ...{ array: "tank", state: "degraded", degraded: 1 },
    unreadable: { bytes: 4096, ranges: [], truncated: false },
    meets: [{ kind: "bad-blocks", role: 2, drive: "c", count: 3, bytes: 1536 }],
    spare: { drive: "d", from: "own" },
    degradedSeconds: 90,
  } as unknown as FailForecast;
  expect(failLines(plan)).toEqual([
    "tank would be degraded, 1 missing.",
    "4.0 KiB of it could not be read then.",
    "A rebuild would meet 3 bad places (1.5 KiB) on c.",
    "Drive d (own) would take the role.",
    "It would be degraded for about 1 min.",
  ]);
  const bare = { ...plan, unreadable: { ...plan.unreadable, bytes: 0 }, meets: [], spare: null };
  expect(failLines({ ...bare, degradedSeconds: null })).toEqual([
    "tank would be degraded, 1 missing.",
    "All of it could be read still.",
    "No spare stands ready: it would be degraded until there is one.",
  ]);
});

test("drives: those that may be taken: free ones, with what they are", () => {
  const drive = (name: string, state: string) =>
    ({ name, state, path: `/dev/${name}`, sizeBytes: 1024 }) as DriveStatus;
  const all = ["available", "member", "spare", "stale", "foreign", "missing", "faulty"];
  expect(freeDrives(all.map((state, index) => drive(`d${index}`, state)))).toEqual([
    { value: "d0", label: "d0 (1.0 KiB, /dev/d0, available)" },
    { value: "d3", label: "d3 (1.0 KiB, /dev/d3, stale)" },
    { value: "d4", label: "d4 (1.0 KiB, /dev/d4, foreign)" },
  ]);
});
