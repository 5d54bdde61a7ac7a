/**
 * Goal: an export that is attached to the host's own kernel is a disk like any other: its file system
 * loses nothing and sees no error when the daemon is killed or stopped under it and started again,
 * and it is there again after a boot, grown with its array.
 *
 * Method: one boot of the kernel lab runs guest/attach.ts, with the daemon inside the guest.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../src/base/units.ts";
import { makeFiles } from "../helpers/daemon.ts";
import { guestTestsOf, runGuest } from "../helpers/lab.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const FILE = "test/interop/guest/attach.ts";
const MEMBER_BYTES = 48 * MIB;

test.skipIf(!CAN_RUN)(
  "attach: a file system outlives kill -9, a stop, a boot [needs lab]",
  async () => {
    const disks = makeFiles(makeTempDir("lab-attach"), 3, MEMBER_BYTES);
    const guest = await runGuest({ file: FILE, disks, folder: makeTempDir("lab-attach-out") });
    if (guest.exitCode !== 0) throw new Error(guest.output);
    expect(guest.passed).toEqual(guestTestsOf(FILE));
  },
);
