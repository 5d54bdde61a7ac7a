/**
 * Goal: an array whose disks another host has taken is fenced on this one, which says who has them;
 * and that host finds all members in sync (write-rules 21).
 *
 * Method: one boot of the kernel lab, in which the same disks are seen by two SCSI initiators;
 * guest/fence.ts runs a daemon on each.
 */
import { test } from "bun:test";
import { runGuest } from "../helpers/lab.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const NAME = "fence: another host takes the disks: fenced, by whom, and whole over there";

test.skipIf(!needs("lab", "sg3-utils"))(`${NAME} [needs lab, sg3-utils]`, async () => {
  const { passed, output } = await runGuest({
    file: "test/interop/guest/fence.ts",
    disks: [],
    folder: makeTempDir("fence"),
    through: "scsi-pair.sh",
  });
  if (!passed.includes(NAME)) throw new Error(output);
});
