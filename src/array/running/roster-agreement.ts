/**
 * Roster and member set say the same of each role. The first is changed by events, the second by
 * the effects that follow from them (roster.ts), so that they part company for as long as the
 * effects of one event are carried out, and never longer.
 *
 * | the seat is                                     | the member set says            |
 * |-------------------------------------------------|--------------------------------|
 * | missing, faulty, rebuilding: naming             | missing                        |
 * | rebuilding: filling, committing                 | rebuilding, and this drive     |
 * | in sync, replacing                              | in sync, and this drive        |
 * | replacing: copying, swapping                    | besides, it copies to the      |
 * |                                                 | target                         |
 * | fenced, and any that changes after the fence    | what it said before: nobody is |
 * |                                                 | told of a member that left     |
 */
import { assert } from "../../base/assert.ts";
import { MemberMode } from "../../raid5/members/member-set.ts";
import type { Drive } from "../drives/drive.ts";
import type { ArrayCore } from "./array-core.ts";
import { driveOf, type Seat, targetOf } from "./roster.ts";

/** After each change of seats, when what follows from it has been carried out. */
export function assertAgreement({ roster, members }: ArrayCore): void {
  const seated = new Set<Drive>(roster.spares);
  assert(seated.size === roster.spares.length, "a spare has one seat");
  let rebuildingRole = -1;
  for (const [role, seat] of roster.seats.entries()) {
    const drive = driveOf(seat);
    if (drive !== null) {
      assert(!seated.has(drive), "a drive has one seat");
      seated.add(drive);
    }
    const target = targetOf(seat);
    if (target !== null) {
      assert(!seated.has(target), "a target has one seat");
      seated.add(target);
    }
    if (members.isFenced) continue;
    const isCopied = seat.kind === "replacing" && seat.step !== "naming";
    assert((members.copyRole === role) === isCopied, "who is copied has the seat");
    if (isCopied) {
      assert(members.copy?.target.device === target?.io, "the engine copies to the target");
    }
    assert(seat.kind !== "fenced", "no seat is fenced where no other host has the drives");
    const mode = modeOf(seat);
    assert(members.mode[role] === mode, `the member set agrees with a seat that is ${seat.kind}`);
    if (mode === MemberMode.missing) continue;
    assert(members.devices[role] === drive?.io, "the engine asks the drive that has the seat");
    if (mode === MemberMode.rebuilding) rebuildingRole = role;
  }
  if (members.isFenced) return;
  assert(members.rebuildingRole === rebuildingRole, "the member that is rebuilt has the seat");
  assert((members.rebuild !== null) === rebuildingRole >= 0, "a rebuild has a member, and one");
}

function modeOf(seat: Seat<Drive>): number {
  if (seat.kind === "in-sync" || seat.kind === "replacing") return MemberMode.inSync;
  if (seat.kind === "rebuilding" && seat.step !== "naming") return MemberMode.rebuilding;
  return MemberMode.missing;
}
