/** Ways to break forecasts, and what a scrub says of what it found. */
import type { Mutation } from "./mutations.ts";

const STORIES = "./test/sim/array/forecast.test.ts";
const RATES = ["./test/unit/array/sync-rates.test.ts"];
const API = "./test/unit/api/forecast.test.ts";
const EXPORT_RANGES = ["./test/unit/raid5/export-ranges.test.ts"];

function story(name: string): readonly string[] {
  return [STORIES, "-t", name];
}

export const FORECAST_MUTATIONS: readonly Mutation[] = [
  {
    name: "forecast: work beside clients counts as idle",
    rule: null,
    file: "src/array/sync/sync-run.ts",
    find: 'load: isBusy ? "busy" : "idle",',
    replace: 'load: "idle",',
    test: story("beside clients"),
  },
  {
    name: "forecast: a scrub that was asked to be slow is measured",
    rule: null,
    file: "src/array/sync/sync-run.ts",
    find: "if (Number.isFinite(this.ownSpeedMax) || members.avoidedRole >= 0) {",
    replace: "if (members.avoidedRole >= 0) {",
    test: story("asked to be slow"),
  },
  {
    name: "forecast: what was held back tells of a higher limit",
    rule: null,
    file: "src/array/sync/sync-rates.ts",
    find: "if (wasHeldBack && (limit === null || limit > before)) return null;",
    replace: "",
    test: RATES,
  },
  {
    name: "forecast: a wait for space counts as work",
    rule: null,
    file: "src/array/sync/sync-rates.ts",
    find: "  skip(nowMs: number): void {\n    this.lastMs = nowMs;",
    replace: "  skip(_nowMs: number): void {",
    test: RATES,
  },
  {
    name: "forecast: rates are forgotten with the daemon",
    rule: null,
    file: "src/appliance/state/array-book.ts",
    find: "      rates: array.seen?.syncRates ?? [],\n",
    replace: "      rates: [],\n",
    test: [API, "-t", "next start"],
  },
  {
    name: "dry run: the member that goes is taken for known",
    rule: null,
    file: "src/array/running/lost-bytes.ts",
    find: "isPartOfIt ? withBit(unknownRoles, role) : unknownRoles;",
    replace: "isPartOfIt ? unknownRoles : 0;",
    test: story("exactly what cannot be read"),
  },
  {
    name: "forecast: a member that is needed costs no more than its bad rows",
    rule: null,
    file: "src/array/commands/forecast.ts",
    find: "unreadableBytes: isNeeded ? null : unreadable[role]!,",
    replace: "unreadableBytes: unreadable[role]!,",
    test: story("refused where the failure is"),
  },
  {
    name: "forecast: what is lost without a member is what is lost now",
    rule: null,
    file: "src/array/running/lost-bytes.ts",
    find: "bytes[role]! += lostDataBytes(withBit(unknownRoles, role), parityRole);",
    replace: "bytes[role]! += lostDataBytes(unknownRoles, parityRole);",
    test: story("exactly what cannot be read"),
  },
  {
    name: "dry run: it fails the member",
    rule: null,
    file: "src/array/commands/service.ts",
    find: "async (record, drive) => planFail(record, drive)),",
    replace:
      "async (record, drive) => {\n          const planned = planFail(record, drive);\n" +
      "          await failMember(registry, record, drive);\n          return planned;\n        }),",
    test: story("nothing was measured"),
  },
  {
    name: "dry run: a degraded array gives its members",
    rule: null,
    file: "src/array/commands/members.ts",
    find: "const obstacle = fenceObstacle(core) ?? removalObstacle(array, drive, { canForce: false });",
    replace: "const obstacle = fenceObstacle(core);",
    test: [API, "-t", "refused as fail is"],
  },
  {
    name: "dry run: a shared spare is not seen",
    rule: null,
    file: "src/appliance/array-work.ts",
    find: "const isAsked = needsShared(plan.value);",
    replace: "const isAsked = false;",
    test: [API, "-t", "shared spare"],
  },
  {
    name: "explain: lost rows name the chunks by their number in the stripe",
    rule: null,
    file: "src/raid5/sync/export-ranges.ts",
    find: "if (rows.roles?.includes(geometry.dataRole(stripe, index)) === false) continue;",
    replace: "if (rows.roles?.includes(index) === false) continue;",
    test: EXPORT_RANGES,
  },
  {
    name: "explain: a stripe that is cut is taken for whole",
    rule: null,
    file: "src/raid5/sync/export-ranges.ts",
    find: "const wholeCount = Math.floor((to - stripe * chunkBytes) / chunkBytes);",
    replace: "const wholeCount = Math.ceil((to - stripe * chunkBytes) / chunkBytes);",
    test: EXPORT_RANGES,
  },
  {
    name: "scrub: lost rows of other roles are one range",
    rule: null,
    file: "src/raid5/sync/mismatch-ranges.ts",
    find: "if (last?.end === piece.first && last.roles === piece.roles) last.end = piece.end;",
    replace: "if (last?.end === piece.first) last.end = piece.end;",
    test: ["./test/unit/raid5/mismatch-ranges.test.ts"],
  },
  {
    name: "scrub: nobody knows who lost a row",
    rule: null,
    file: "src/raid5/sync/stripe-sync.ts",
    find: "findings.losses.note(stripe * geometry.chunkBytes + column + byte, ROW_BYTES, roles);",
    replace: "findings.losses.note(stripe * geometry.chunkBytes + column + byte, ROW_BYTES);",
    test: ["./test/sim/raid5/tried-again.test.ts", "-t", "a log without a list"],
  },
];
