/**
 * Goal: a seat of an array changes only as the diagram of running/roster.ts says, and each change
 * has the effects that keep the engine, the superblocks and the drives in step with it.
 *
 * Method: every pair of state and event, from a table of what becomes of it; then what must hold of
 * all of them, whatever the table says: a drive that fails is closed, told of and recorded, no
 * drive is lost, nothing moves a fenced seat but the leaving of its drive.
 */
import { expect, test } from "bun:test";
import {
  claimIn,
  driveOf,
  memberStateOf,
  next,
  type Seat,
  type SeatEvent,
} from "../../../src/array/running/roster.ts";

const MISSING: Seat<string> = { kind: "missing" };
const SPARE: Seat<string> = { kind: "spare", drive: "old" };
const rebuilding = (step: "naming" | "filling" | "committing", drive = "old"): Seat<string> => ({
  kind: "rebuilding",
  drive,
  step,
});
const IN_SYNC: Seat<string> = { kind: "in-sync", drive: "old" };
const replacing = (step: "naming" | "copying" | "swapping"): Seat<string> => ({
  kind: "replacing",
  drive: "old",
  target: "new",
  step,
});
const FAULTY: Seat<string> = { kind: "faulty", drive: "old", cause: "before" };
const FENCED: Seat<string> = { kind: "fenced", was: { kind: "in-sync", drive: "old" } };

const SEATS: Record<string, Seat<string>> = {
  missing: MISSING,
  spare: SPARE,
  naming: rebuilding("naming"),
  filling: rebuilding("filling"),
  committing: rebuilding("committing"),
  "in-sync": IN_SYNC,
  "copy-naming": replacing("naming"),
  copying: replacing("copying"),
  swapping: replacing("swapping"),
  faulty: FAULTY,
  fenced: FENCED,
};

const EVENTS: Record<SeatEvent<string>["kind"] | "taken-over", SeatEvent<string>> = {
  named: { kind: "named", drive: "new" },
  seated: { kind: "seated" },
  filled: { kind: "filled" },
  committed: { kind: "committed" },
  failed: { kind: "failed", cause: "EIO", isTakenOver: false },
  "taken-over": { kind: "failed", cause: "EIO", isTakenOver: true },
  left: { kind: "left" },
  "copy-named": { kind: "copy-named", target: "new" },
  "copy-seated": { kind: "copy-seated" },
  copied: { kind: "copied" },
  swapped: { kind: "swapped" },
  "target-failed": { kind: "target-failed", cause: "EIO" },
  "target-left": { kind: "target-left" },
  fenced: { kind: "fenced" },
};

/** By seat and event: the seat that follows, and its effects. All other pairs are refused. */
const TABLE: Record<string, string> = {
  "missing named": "rebuilding/naming new | new is role",
  "missing left": "missing",
  "missing fenced": "missing",
  "spare failed": "faulty old | close old, old is faulty, tell old",
  "spare left": "missing | old is spare",
  "spare fenced": "fenced old | shut old",
  "naming seated": "rebuilding/filling old",
  "naming failed": "faulty old | close old, old is faulty, tell old",
  "naming left": "missing | old is spare",
  "naming fenced": "fenced old | shut old",
  "filling filled": "rebuilding/committing old",
  "filling failed": "faulty old | leave, close old, old is faulty, tell old, lost old rebuilding",
  "filling fenced": "fenced old | shut old",
  "committing committed": "in-sync old | count",
  "committing failed":
    "faulty old | leave, close old, old is faulty, tell old, lost old rebuilding",
  "committing fenced": "fenced old | shut old",
  "in-sync copy-named": "replacing/naming old>new | new is role",
  "in-sync failed": "faulty old | leave, close old, old is faulty, tell old, lost old in-sync",
  "in-sync fenced": "fenced old | shut old",
  "copy-naming copy-seated": "replacing/copying old>new",
  "copy-naming failed":
    "faulty old | leave, close old, old is faulty, tell old, new is spare, lost old in-sync",
  "copy-naming target-failed": "in-sync old | close new, new is faulty, tell new, lost target new",
  "copy-naming target-left": "in-sync old | new is spare, lost target new",
  "copy-naming fenced": "fenced old | shut old, shut new",
  "copying copied": "replacing/swapping old>new | new is role, old is faulty",
  "copying failed":
    "faulty old | end copy, leave, close old, old is faulty, tell old, new is spare, lost old in-sync",
  "copying taken-over":
    "rebuilding/filling new | take over, close old, old is faulty, tell old, new is role, lost old in-sync",
  "copying target-failed":
    "in-sync old | end copy, close new, new is faulty, tell new, lost target new",
  "copying target-left": "in-sync old | end copy, new is spare, lost target new",
  "copying fenced": "fenced old | shut old, shut new",
  "swapping swapped": "in-sync new | swap old",
  "swapping failed":
    "faulty old | end copy, leave, close old, old is faulty, tell old, new is spare, lost old in-sync",
  "swapping taken-over":
    "rebuilding/filling new | take over, close old, old is faulty, tell old, new is role, lost old in-sync",
  "swapping target-failed":
    "in-sync old | end copy, old is role, close new, new is faulty, tell new, lost target new",
  "swapping target-left": "in-sync old | end copy, old is role, new is spare, lost target new",
  "swapping fenced": "fenced old | shut old, shut new",
  "faulty named": "rebuilding/naming new | new is role",
  "faulty failed": "faulty old",
  "faulty left": "missing | old is spare",
  "faulty fenced": "fenced old | shut old",
  "fenced left": "missing",
};
// All others are there: that matters to who is copied alone.
for (const seat of Object.keys(SEATS)) {
  const failed = TABLE[`${seat} failed`];
  if (failed !== undefined) TABLE[`${seat} taken-over`] ??= failed;
}
// What was on its way when the fence came may still be told.
for (const event of Object.keys(EVENTS)) TABLE[`fenced ${event}`] ??= "fenced old";

function told(seat: Seat<string>): string {
  const step = "step" in seat ? `/${seat.step}` : "";
  const target = "target" in seat ? `>${seat.target}` : "";
  return [`${seat.kind}${step}`, `${driveOf(seat) ?? ""}${target}`].join(" ").trim();
}

function effectText(
  effect: NonNullable<ReturnType<typeof next<string>>>["effects"][number],
): string {
  switch (effect.kind) {
    case "leave-set":
      return "leave";
    case "take-over":
      return "take over";
    case "end-copy":
      return "end copy";
    case "swap":
      return `swap ${effect.drive}`;
    case "lost-target":
      return `lost target ${effect.drive}`;
    case "count-in-sync":
      return "count";
    case "close":
    case "shut":
      return `${effect.kind} ${effect.drive}`;
    case "device-role":
      return `${effect.drive} is ${effect.as}`;
    case "tell-failed":
      return `tell ${effect.drive}`;
    case "lost-member":
      return `lost ${effect.drive} ${effect.wasInSync ? "in-sync" : "rebuilding"}`;
  }
}

for (const [name, seat] of Object.entries(SEATS)) {
  for (const [kind, event] of Object.entries(EVENTS)) {
    const expected = TABLE[`${name} ${kind}`] ?? "refused";
    test(`roster: a seat that is ${name}: ${kind}: ${expected}`, () => {
      const changed = next(seat, event);
      if (changed === null) {
        expect("refused").toBe(expected);
        return;
      }
      const effects = changed.effects.map(effectText).join(", ");
      expect(told(changed.seat) + (effects === "" ? "" : ` | ${effects}`)).toBe(expected);
      for (const effect of changed.effects) {
        if ("cause" in effect) expect(effect.cause).toBe("EIO");
      }
    });
  }
}

test("roster: every change: who works is never dropped without being closed, shut or let go", () => {
  for (const seat of Object.values(SEATS)) {
    for (const event of Object.values(EVENTS)) {
      const changed = next(seat, event);
      if (changed === null) continue;
      const before = [driveOf(seat), "target" in seat ? seat.target : null];
      const after = [driveOf(changed.seat), "target" in changed.seat ? changed.seat.target : null];
      const isClaimed = claimIn(seat) !== null;
      for (const drive of before) {
        if (drive === null || after.includes(drive) || !isClaimed) continue;
        const endings = changed.effects.filter(
          (effect) => "drive" in effect && effect.drive === drive,
        );
        expect([told(seat), event.kind, endings.length > 0 || event.kind === "swapped"]).toEqual([
          told(seat),
          event.kind,
          true,
        ]);
      }
      if (driveOf(changed.seat) === null) continue;
      if (seat.kind === "fenced") expect(changed).toEqual({ seat, effects: [] });
    }
  }
});

test("roster: projections: what the superblocks and the outside are told of each seat", () => {
  const rows = Object.entries(SEATS).map(([name, seat]) => [
    name,
    memberStateOf(seat),
    claimIn(seat),
    driveOf(seat),
  ]);
  expect(rows).toEqual([
    ["missing", "missing", null, null],
    ["spare", "spare", "in-sync", "old"],
    ["naming", "rebuilding", "rebuilding", "old"],
    ["filling", "rebuilding", "rebuilding", "old"],
    ["committing", "rebuilding", "in-sync", "old"],
    ["in-sync", "in-sync", "in-sync", "old"],
    ["copy-naming", "in-sync", "in-sync", "old"],
    ["copying", "in-sync", "in-sync", "old"],
    ["swapping", "in-sync", null, "old"],
    ["faulty", "faulty", null, "old"],
    ["fenced", "in-sync", null, "old"],
  ]);
});
