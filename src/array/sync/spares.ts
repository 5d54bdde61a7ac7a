/** Which spare is next, and how it gets the free role. */
import { assert } from "../../base/assert.ts";
import type { ArrayCore } from "../running/array-core.ts";
import type { Seating } from "./seating.ts";

/** Gives the first spare the free role. False: there is none, or it could not be recorded. */
export async function promoteSpare({ roster }: ArrayCore, seating: Seating): Promise<boolean> {
  const role = roster.freeRole;
  const spare = role < 0 ? null : roster.takeSpare();
  if (spare === null) return false;
  assert(spare.superblock !== null, "a spare carries a superblock");
  return seating.seat(spare, role, spare.superblock);
}
