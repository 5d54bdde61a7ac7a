/** Writes an array's name on its members. */
import { renamedSet } from "../../md/create.ts";
import type { RaidArray } from "../raid-array.ts";

/** The host in front of the old name stays where both fit. False: it is not durable. */
export function writeName(array: RaidArray, name: string): Promise<boolean> {
  return array.record(() => {
    for (const drive of array.drives()) {
      const { superblock } = drive;
      // One that is just being seated gets it with its seat.
      if (superblock === null) continue;
      const setNameBytes = renamedSet(superblock, name);
      drive.probe = { kind: "member", superblock: { ...superblock, setNameBytes } };
    }
  });
}
