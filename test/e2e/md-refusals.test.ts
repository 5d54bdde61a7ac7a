/**
 * Goal: an array or a member that cannot be used is refused with a message of its own, which names
 * the member, says what was found and what to do; and nothing is written to what was refused.
 *
 * Method: a table of damages, each to the superblocks of a clean array of three files. Each goes
 * through the compiled program: `attach` ends with the message, `serve` does not start the array
 * by itself and answers a start, and a create over it without force, with a problem; the sums of
 * the files are the same before and after.
 */
import { beforeAll, describe, expect, test } from "bun:test";
import { closeSync, openSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { newBitmapHeader } from "../../src/md/bitmap.ts";
import { newBitmap } from "../../src/md/bitmap-load.ts";
import {
  encodeSuperblock,
  Feature,
  Role,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
  superblockChecksum,
} from "../../src/md/superblock.ts";
import { Attached, Daemon, sums } from "../helpers/daemon.ts";
import { rolesWithout, testSuperblock, writeMember } from "../helpers/md-members.ts";
import { needs } from "../helpers/needs.ts";
import { Share } from "../helpers/share.ts";
import { makeTempDir } from "../helpers/temp.ts";

const CAN_RUN = needs("libaio", "direct-io");
const DAYS = 3;
const NEEDS = "[needs libaio, direct-io]";
const DEVICE_BYTES = 4 * MIB;
const OTHER_UUID = "01010101:02020202:03030303:04040404";
const FULL = testSuperblock(0, { deviceBytes: DEVICE_BYTES });

/** What lies on one file: its superblock, changed in fields, and then bytes of the whole file. */
interface Member {
  readonly devNumber?: number;
  readonly fields?: Partial<Superblock>;
  /** Sees the 4 KiB of the superblock; the checksum is made right afterwards. */
  readonly patch?: (view: DataView) => void;
  /** Writes at byte offsets of the file, after everything else. */
  readonly bytes?: readonly (readonly [offset: number, bytes: Uint8Array])[];
  readonly cutBytes?: number;
}

interface Case {
  readonly name: string;
  readonly members: readonly Member[];
  /** All of it stands in the message; "<n>" is the path or name of file n. */
  readonly says: readonly RegExp[];
  /** The file that the message names. */
  readonly names: number;
}

const u32 = (offset: number, value: number) => (view: DataView) =>
  view.setUint32(offset, value, true);
const u16 = (offset: number, value: number) => (view: DataView) =>
  view.setUint16(offset, value, true);

/** Member 1 alone is so, among two good ones. */
function second(member: Member): Member[] {
  return [{}, member, {}];
}

function all(fields: Partial<Superblock>, count = 3): Member[] {
  return Array.from({ length: count }, () => ({ fields }));
}

function mdAt(offset: number, major: number): readonly [number, Uint8Array] {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setUint32(0, 0xa92b4efc, true);
  new DataView(bytes.buffer).setUint32(4, major, true);
  return [offset, bytes];
}

/** No superblock of format 1.2, but another one. */
function elsewhere(offset: number, major: number): Member {
  return { bytes: [[SUPERBLOCK_OFFSET_BYTES, new Uint8Array(4096)], mdAt(offset, major)] };
}

/** Devices 3 and 4 are to replace device 1. */
const TWO_LISTED = FULL.devRoles.with(3, 1).with(4, 1);

function listed(devNumber: number, fields: Partial<Superblock> = {}): Member {
  return { devNumber, fields: { devRoles: TWO_LISTED, ...fields } };
}

function replacement(devNumber: number): Member {
  return listed(devNumber, { otherFeatures: Feature.replacement, recoveryOffsetSectors: 1024 });
}

function dirty(member: Member): Member {
  return { ...member, fields: { ...member.fields, resyncOffsetSectors: 0 } };
}

function withBitmap(version: number): Member {
  const superblock = testSuperblock(0, { deviceBytes: DEVICE_BYTES, policy: "bitmap" });
  const image = newBitmap(newBitmapHeader({ superblock, chunkBytes: 64 * 1024 }), false).image();
  new DataView(image.buffer, image.byteOffset).setUint32(4, version, true);
  return { fields: { log: superblock.log }, bytes: [[SUPERBLOCK_OFFSET_BYTES + 8 * 512, image]] };
}

const OTHER_VERSION = /version 1\.2 only: run that array with Linux, or copy its data/;
const LEAVE_OUT = /Leave the device out/;

/** One file is refused by itself: the others make an array without it, when they are told to. */
const MEMBER_CASES: readonly Case[] = [
  {
    name: "bad checksum",
    members: second({ bytes: [[SUPERBLOCK_OFFSET_BYTES + 32, new Uint8Array([1])]] }),
    names: 1,
    says: [/checksum [0-9a-f]+ where its content gives [0-9a-f]+/, LEAVE_OUT],
  },
  {
    name: "pad0 not zero",
    members: second({ patch: u32(12, 1) }),
    names: 1,
    says: [/data where md v1.2 has only zeros/, /leave it out/],
  },
  {
    name: "pad3 not zero",
    members: second({ patch: u32(228, 7) }),
    names: 1,
    says: [/data where md v1.2 has only zeros/, /leave it out/],
  },
  {
    name: "unknown feature bit",
    members: second({ patch: u32(8, 0x4000) }),
    names: 1,
    says: [/features.*0x4000/, /Run the array with the Linux that made it/],
  },
  {
    name: "two policies at once",
    members: second({ patch: u32(8, Feature.ppl | Feature.bitmap) }),
    names: 1,
    says: [/policies that exclude each other/, LEAVE_OUT],
  },
  {
    name: "max_dev beyond the superblock",
    members: second({ bytes: [[SUPERBLOCK_OFFSET_BYTES + 220, new Uint8Array([0xff, 0xff])]] }),
    names: 1,
    says: [/room for 65535 devices/, LEAVE_OUT],
  },
  {
    name: "a superblock that lies elsewhere",
    members: second({ patch: u32(144, 16) }),
    names: 1,
    says: [/lies at sector 16, but it was found at sector 8/, /Find the whole device/],
  },
  {
    name: "a file that was cut",
    members: second({ cutBytes: 3 * MIB }),
    names: 1,
    says: [/device has only 6144 sectors/, /full size/],
  },
  {
    name: "bad-block log too large",
    members: second({ patch: u16(186, 9) }),
    names: 1,
    says: [/bad-block log with bblog_size 9, where md has 0 to 8/, LEAVE_OUT],
  },
  {
    name: "bitmap in the data",
    members: second({ fields: { log: { kind: "bitmap", offsetSectors: 4096 } } }),
    names: 1,
    says: [/data and the bitmap overlap/, LEAVE_OUT],
  },
  {
    name: "metadata 1.1",
    members: second(elsewhere(0, 1)),
    names: 1,
    says: [/version 1\.1 at its start/, OTHER_VERSION],
  },
  {
    name: "metadata 1.0",
    members: second(elsewhere(DEVICE_BYTES - 8192, 1)),
    names: 1,
    says: [/version 1\.0 at its end/, OTHER_VERSION],
  },
  {
    name: "metadata 0.90",
    members: second(elsewhere(DEVICE_BYTES - 65_536, 0)),
    names: 1,
    says: [/version 0\.90 at its end/, OTHER_VERSION],
  },
];

const ARRAY_CASES: readonly Case[] = [
  {
    name: "reshape under way",
    members: all({ otherFeatures: Feature.reshape | Feature.newOffset }),
    names: 0,
    says: [/middle of a reshape/, /Let Linux finish it/],
  },
  {
    name: "journal bit",
    members: all({ otherFeatures: Feature.journal }),
    names: 0,
    says: [/journal device/, /write resync to its md\/consistency_policy/],
  },
  {
    name: "a journal device alone",
    members: [{ fields: { devRoles: FULL.devRoles.with(0, Role.journal) } }],
    names: 0,
    says: [/is the journal device/, /Remove the journal with mdadm/],
  },
  {
    name: "clustered",
    members: all({ otherFeatures: Feature.clustered }),
    names: 0,
    says: [/belongs to a cluster/, /cannot be used here/],
  },
  {
    name: "level 4",
    members: all({ level: 4 }),
    names: 0,
    says: [/level 4/, /Run that array with Linux/],
  },
  {
    name: "level 6",
    members: all({ level: 6, layout: 8 }),
    names: 0,
    says: [/level 6/, /Run that array with Linux/],
  },
  {
    name: "chunk no power of two",
    members: all({ chunkSectors: 192 }),
    names: 0,
    says: [/chunk of 192 sectors/, /Leave the drive out/],
  },
  {
    name: "layout of RAID6",
    members: all({ layout: 16 }),
    names: 0,
    says: [/layout 16/, /Leave the drive out/],
  },
  {
    name: "two members with one role",
    // The copy comes before the array is complete: it would start without asking for it.
    members: [{}, {}, { devNumber: 1, fields: { deviceUuid: OTHER_UUID } }, { devNumber: 2 }],
    names: 2,
    says: [/both claim to be device 1/, /Disconnect the one/],
  },
  {
    name: "two replacements of one member",
    members: [listed(0), replacement(3), listed(1), replacement(4), listed(2)],
    names: 3,
    says: [/both claim to be device 4/, /Disconnect the one/],
  },
  {
    name: "a replacement alone, dirty",
    members: [listed(0), replacement(3), listed(2)].map((member) => dirty(member)),
    names: 0,
    says: [/not stopped cleanly/, /role 1/, /start with force/],
  },
  {
    name: "another creation time",
    members: second({ fields: { createdAt: { seconds: 1, microseconds: 0 } } }),
    names: 1,
    says: [/differ in the creation time/, /leave out the one/],
  },
  {
    name: "another chunk size",
    members: second({ fields: { chunkSectors: 64 } }),
    names: 1,
    says: [/differ in the chunk size/, /leave out the one/],
  },
  {
    name: "too small for the array",
    members: second({ fields: { dataSizeSectors: FULL.sizeSectors - 128 } }),
    names: 1,
    says: [/sectors for data where the array uses/, /Replace it/],
  },
  {
    name: "split brain",
    members: [
      { fields: { events: 120, devRoles: rolesWithout(FULL, 1) } },
      { fields: { events: 110, devRoles: rolesWithout(FULL, 0) } },
      { fields: { events: 120, devRoles: rolesWithout(FULL, 1) } },
    ],
    names: 1,
    says: [/written to in two parts/, /A\.A/, /\.AA/, /Decide which part to keep/],
  },
  {
    name: "dirty and degraded",
    members: all({ resyncOffsetSectors: 0 }, 2),
    names: 0,
    says: [/not stopped cleanly/, /role 2/, /start with force/],
  },
  {
    name: "two members stale",
    members: [{ fields: { events: 150 } }, {}, {}],
    names: 1,
    says: [/at event 100/, /Connect the missing drives, or start with force/],
  },
  // One advice each, and the message ends with it.
  ...(
    [
      [2, /only version 4 is known\. Remove it on Linux with mdadm [^.]*\.$/],
      [3, /had them\. Replace it on Linux: [^.]*\.$/],
      [5, /by a cluster\. Other hosts may be writing to this array: run it with Linux\.$/],
      [6, /another format\. Replace it on Linux: [^.]*\.$/],
    ] as const
  ).map(([version, advice]) => ({
    name: `bitmap of version ${version}`,
    members: Array.from({ length: 3 }, () => withBitmap(version)),
    names: 2,
    says: [new RegExp(`cannot be used\\. Drive .*version ${version}`), advice],
  })),
];

const MEMBERS_TODAY = new Share("refused members", DAYS).of(MEMBER_CASES);
const ARRAYS_TODAY = new Share("refused arrays", DAYS).of(ARRAY_CASES);

function makeMembers({ members }: Case): string[] {
  const folder = makeTempDir("refused");
  return members.map((member, index) => {
    const path = join(folder, `m${index}.img`);
    const devNumber = member.devNumber ?? index;
    const superblock = testSuperblock(devNumber, { deviceBytes: DEVICE_BYTES });
    const block = encodeSuperblock({ ...superblock, ...member.fields });
    const view = new DataView(block.buffer);
    member.patch?.(view);
    const roleCount = view.getUint32(220, true);
    view.setUint32(216, superblockChecksum(block, roleCount), true);
    writeMember(path, block, DEVICE_BYTES);
    const file = openSync(path, "r+");
    for (const [offset, bytes] of member.bytes ?? []) {
      writeSync(file, bytes, 0, bytes.length, offset);
    }
    closeSync(file);
    if (member.cutBytes !== undefined) truncateSync(path, member.cutBytes);
    return path;
  });
}

function expectSaid(text: string, { says }: Case, name: string): void {
  expect(text).toContain(name);
  for (const pattern of says) expect(text).toMatch(pattern);
}

let daemon: Daemon;

beforeAll(async () => {
  if (CAN_RUN) daemon = await Daemon.start(makeTempDir("serve"));
});

/** Adds the files as drives, and takes them away again when `use` has ended. */
async function withDrives(
  files: readonly string[],
  use: (drives: readonly string[]) => Promise<void>,
): Promise<void> {
  const drives = await daemon.addDrives(files);
  try {
    await use(drives);
  } finally {
    for (const drive of drives) await daemon.call("DELETE", `/v1/drives/${drive}?force=true`);
  }
}

async function expectNoCreate(drives: readonly string[]): Promise<void> {
  // A create takes three: the same refused drive once more would be another mistake.
  const body = { name: "over", drives: drives.slice(0, 3), chunkKiB: 64 };
  const { status, body: problem, headers } = await daemon.call("POST", "/v1/arrays", body);
  expect(headers.get("content-type")).toBe("application/problem+json");
  expect([status, problem.type]).toEqual([409, "urn:parityd:problem:drive-has-data"]);
}

async function expectAttachRefused(refused: Case, files: readonly string[]): Promise<void> {
  const before = sums(files);
  for (const flags of [[], ["--read-only"]]) {
    const { attached, uri } = await Attached.start(files, flags);
    expect([uri, attached.child.exitCode, attached.stdout]).toEqual([null, 1, ""]);
    const line = attached.stderr.trimEnd().split("\n").at(-1)!;
    expect(line).toStartWith("parityd: ");
    expectSaid(line, refused, files[refused.names]!);
  }
  expect(sums(files)).toEqual(before);
}

describe.skipIf(!CAN_RUN)("refuse", () => {
  test.each(MEMBERS_TODAY.concat(ARRAYS_TODAY))(
    `refuse: $name: attach ends with the reason, nothing is written ${NEEDS}`,
    async (refused) => expectAttachRefused(refused, makeMembers(refused)),
  );

  test.each(MEMBERS_TODAY)(
    `refuse: $name: serve says why and starts the array without it ${NEEDS}`,
    async (refused) => {
      const files = makeMembers(refused);
      const before = sums(files);
      await withDrives(files, async (drives) => {
        const drive = drives[refused.names]!;
        const { state, detail } = await daemon.must("GET", `/v1/drives/${drive}`);
        expect(state).toBe("foreign");
        expectSaid(detail, refused, "");
        await expectNoCreate(drives);
        expect(sums(files)).toEqual(before);
        const array = (await daemon.must("GET", "/v1/arrays"))[0];
        expect([array.state, array.degraded]).toEqual(["inactive", 1]);
        // What waits names the drive, where its bytes still tell whose it was.
        const isClaimed = !refused.says.includes(OTHER_VERSION);
        const known = isClaimed
          ? `drive ${drive} claims it and cannot be used. ${detail}`
          : "connect";
        expect(array.reason).toStartWith(`waiting for role 1: ${known}`);
        await daemon.must("POST", `/v1/arrays/${array.name}/start`, {});
        expect((await daemon.must("GET", `/v1/arrays/${array.name}`)).state).toBe("degraded");
        await daemon.must("POST", `/v1/arrays/${array.name}/stop`, {});
      });
      const after = sums(files);
      expect(after[refused.names]).toBe(before[refused.names]!);
      expect(after.filter((sum, index) => sum !== before[index]).length).toBe(2);
    },
  );

  test.each(ARRAYS_TODAY)(
    `refuse: $name: serve answers with a problem, nothing is written ${NEEDS}`,
    async (refused) => {
      const files = makeMembers(refused);
      const before = sums(files);
      await withDrives(files, async (drives) => {
        const [array] = await daemon.must("GET", "/v1/arrays");
        expect(array.state).toBe("inactive");
        const path = `/v1/arrays/${array.name}/start`;
        const { status, headers, body } = await daemon.call("POST", path, {});
        expect(headers.get("content-type")).toBe("application/problem+json");
        expect(status).toBe(409);
        expectSaid(body.detail, refused, drives[refused.names]!);
        if (drives.length >= 3) await expectNoCreate(drives);
      });
      expect(sums(files)).toEqual(before);
    },
  );
});
