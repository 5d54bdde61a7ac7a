/** Writes an array's name on its members. */
import { assert } from "../../base/assert.ts";
import { renamedSet } from "../../md/create.ts";
import type { RaidArray } from "../raid-array.ts";

/** The host in front of the old name stays where both fit. False: it is not durable. */
export function writeName(array: RaidArray, name: string): Promise<boolean> {
  const { core } = array;
  return core.record(() => {
    for (const drive of core.roster.drives()) {
      const { superblock } = drive;
      // One that is just being seated gets it with its seat.
      if (superblock === null) continue;
      const setNameBytes = renamedSet(superblock, name);
      const isWhole = setNameBytes.length === superblock.setNameBytes.length;
      assert(isWhole, "a name fills the superblock's field");
      drive.carry({ ...superblock, setNameBytes });
    }
  });
}
