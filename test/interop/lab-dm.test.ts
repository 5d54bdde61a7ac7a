/**
 * Goal: the compiled daemon keeps its promise on block devices of a real kernel that fail as real
 * ones do (faults.md R24): bad sectors, dead devices, writes that fail or vanish.
 *
 * Method: one boot of the kernel lab runs guest/dm.ts, where device-mapper targets (dust, error,
 * flakey) stand under the members and are exchanged under load; each test there is one here. A day
 * takes two of the eight; four days in a row take all. Power cuts: lab-power-cut.test.ts.
 */
import { expect, test } from "bun:test";
import { MIB } from "../../src/base/units.ts";
import { makeFiles } from "../helpers/daemon.ts";
import { type GuestResult, guestTestsOf, runGuest } from "../helpers/lab.ts";
import { needs } from "../helpers/needs.ts";
import { Share, withShare } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const FILE = "test/interop/guest/dm.ts";
/** 5 MiB of data behind the room for a log. */
const DISK_BYTES = 7 * MIB;
const CAN_RUN = needs("lab", "mdadm");

let guest: Promise<GuestResult> | undefined;

function dmGuest(): Promise<GuestResult> {
  guest ??= bootDmGuest();
  return guest;
}

async function bootDmGuest(): Promise<GuestResult> {
  const folder = makeTempDir("dm");
  const disks = makeFiles(folder, 4, DISK_BYTES);
  return runGuest({ file: FILE, disks, folder, tests: DUE });
}

/** What the guest printed for one test: from the end of the test before to its own line. */
function outputOf(name: string, output: string): string {
  const end = output.indexOf(`(fail) ${name}`);
  if (end < 0) return output; // It never came to that.
  const before = end - 2;
  const start = Math.max(
    ...["\n(pass)", "\n(fail)"].map((mark) => output.lastIndexOf(mark, before)),
  );
  return output.slice(start + 1, end + name.length + 7);
}

const DUE = new Share("device mapper", 4).of(guestTestsOf(FILE));

for (const name of DUE) {
  test.skipIf(!CAN_RUN)(`${name} [needs lab, mdadm]`, () =>
    withShare(async () => {
      const { passed, output } = await dmGuest();
      if (!passed.includes(name)) throw new Error(outputOf(name, output));
    }),
  );
}

test.skipIf(!CAN_RUN)(
  "lab: the tests of the guest: those that were asked for, and all went well [needs lab, mdadm]",
  async () => {
    const { exitCode, passed } = await dmGuest();
    expect(passed).toEqual(DUE);
    expect(exitCode).toBe(0);
  },
);
