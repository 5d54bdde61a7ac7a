/**
 * Goal: an export that is attached to the host's own kernel is a disk like any other: its file system
 * loses nothing and sees no error when the daemon is killed or stopped under it and started again,
 * and it is there again after a boot, grown with its array. A stop detaches it where nobody has it,
 * so that a power-off does not wait for it.
 *
 * Method: one boot of the kernel lab runs guest/attach.ts, with the daemon inside the guest.
 */
import { expect, test } from "bun:test";
import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { makeFiles } from "../helpers/daemon.ts";
import { guestTestsOf, runGuest } from "../helpers/lab.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("lab", "libaio", "direct-io");
const FILE = "test/interop/guest/attach.ts";
const MEMBER_BYTES = 48 * MIB;
const POWER_OFF_MS_MAX = 30_000;

test.skipIf(!CAN_RUN)(
  "attach: a file system outlives kill -9, a stop, a boot [needs lab]",
  async () => {
    const disks = makeFiles(makeTempDir("lab-attach"), 3, MEMBER_BYTES);
    const folder = makeTempDir("lab-attach-out");
    const guest = await runGuest({ file: FILE, disks, folder });
    const endedMs = Date.now();
    if (guest.exitCode !== 0) throw new Error(guest.output);
    expect(guest.passed).toEqual(guestTestsOf(FILE));
    // Of the host's clock: the guest writes to a folder of the host. No device holds up its power-off.
    const powerOffMs = endedMs - statSync(join(folder, "ended")).mtimeMs;
    expect(powerOffMs).toBeLessThan(POWER_OFF_MS_MAX);
    console.log(readFileSync(join(folder, "waits"), "utf8"), "power-off ms", powerOffMs);
  },
);
