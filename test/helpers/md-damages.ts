/**
 * Damages to the superblocks of a clean array of three members, and what becomes of the array:
 * at the kernel's md with `mdadm --assemble --run`, and here.
 *
 *   whole      it starts with all three members
 *   without    it starts degraded, without the member that was changed
 *   refused    it does not start
 *
 * Pure: superblocks as bytes. The checksum is made right after each change, but for the change
 * that is about it. Where we are stricter than the kernel, `why` says so.
 */
import {
  encodeSuperblock,
  Feature,
  Role,
  type Superblock,
  superblockChecksum,
} from "../../src/md/superblock.ts";
import { testSuperblock } from "./md-members.ts";

export const DAMAGE_DEVICE_BYTES = 4 * 1024 * 1024;
const DEVICE_SECTORS = DAMAGE_DEVICE_BYTES / 512;
const COUNT = 3;

export type Fate = "whole" | "without" | "refused";

type Mutate = (view: DataView, index: number) => void;

export interface Damage {
  readonly name: string;
  readonly kernel: Fate;
  readonly ours: Fate;
  /** Where it differs. */
  readonly why?: string;
  readonly memberCount?: number;
  /** Fields of the drives behind the members. */
  readonly others?: readonly Partial<Superblock>[];
  /** Of members that are there at all; all where absent. */
  readonly present?: readonly number[];
  readonly fields?: Partial<Superblock>;
  /** Changes member 1. */
  readonly one?: Mutate;
  /** Changes each member. */
  readonly each?: Mutate;
  /** Leaves the checksum of member 1 wrong. */
  readonly breaksChecksum?: boolean;
}

const u8 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setUint8(offset, value);
const u16 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setUint16(offset, value, true);
const u32 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setUint32(offset, value, true);
const u64 =
  (offset: number, value: number): Mutate =>
  (view) =>
    view.setBigUint64(offset, BigInt(value), true);
const both =
  (...steps: readonly Mutate[]): Mutate =>
  (view, index) => {
    for (const step of steps) step(view, index);
  };

const PLAIN = testSuperblock(0, { deviceBytes: DAMAGE_DEVICE_BYTES });
const { sizeSectors, events } = PLAIN;

function dropped(name: string, one: Mutate): Damage {
  return { name, kernel: "without", ours: "without", one };
}

function aborts(name: string, one: Mutate): Damage {
  return { name, kernel: "refused", ours: "refused", one };
}

function notStarted(name: string, each: Mutate): Damage {
  return { name, kernel: "refused", ours: "refused", each };
}

const NO_SUPERBLOCK = "mdadm is given it by name and gives up; so does parityd attach";

const DROPPED: readonly Damage[] = [
  { ...dropped("bad checksum", u8(40, 1)), breaksChecksum: true },
  dropped("pad0", u32(12, 1)),
  dropped("pad3, first byte", u8(228, 1)),
  dropped("pad3, last byte", u8(255, 0x80)),
  dropped("unknown feature bit 13", u32(8, 0x2000)),
  dropped("unknown feature bit 31", u32(8, 0x8000_0000)),
  dropped("RAID0 layout at level 5", u32(8, Feature.raid0Layout)),
  dropped("max_dev 1921", u32(220, 1921)),
  dropped("data_size beyond the device", u64(136, DEVICE_SECTORS - 2047)),
  dropped("data_offset in the superblock", u64(128, 8)),
  dropped("bblog_size 9", both(u32(8, Feature.badBlocks), u16(186, 9))),
  dropped("bblog_offset 0 with bad blocks", both(u32(8, Feature.badBlocks), u32(188, 0))),
  { ...dropped("no magic", u32(0, 0)), kernel: "refused", why: NO_SUPERBLOCK },
  { ...dropped("major version 2", u32(4, 2)), kernel: "refused", why: NO_SUPERBLOCK },
];

const ABORTED: readonly Damage[] = [
  {
    ...aborts("super_offset 16", u64(144, 16)),
    ours: "without",
    why: "the member is refused, the others are whole",
  },
  aborts("another chunk size", u32(88, 64)),
  aborts("another level", u32(72, 6)),
  aborts("another layout", u32(76, 0)),
  aborts("another ctime", u64(64, 5)),
  aborts("another size", u64(80, sizeSectors - 128)),
  aborts("another member count", u32(92, 4)),
];

/** A growth from 2 members to these 3 that stands there, with the data a chunk to the front. */
function reshaping(position: number, newOffset = -128): Mutate {
  return both(
    u32(8, Feature.reshape | Feature.newOffset),
    ...[u32(100, 5), u64(104, position), u32(112, 1), u32(116, 2), u32(120, 128)],
    u32(124, newOffset),
  );
}

/** Member 1 is changed so, the others reshape. */
function besides(others: Mutate, one: Mutate): Mutate {
  return (view, index) => (index === 1 ? one : others)(view, index);
}

const RESHAPES: readonly Damage[] = [
  { name: "in a reshape", kernel: "whole", ours: "whole", each: reshaping(1024) },
  notStarted("a reshape within a stripe", reshaping(1000)),
  {
    name: "a reshape that moves data into the superblock",
    kernel: "without",
    ours: "without",
    each: besides(reshaping(1024), reshaping(1024, -2040)),
  },
  {
    name: "the begin of a reshape without a member",
    kernel: "refused",
    ours: "whole",
    why: "mdadm compares the number of members; of a reshape at 0 nothing has moved",
    each: besides(reshaping(0), both(u32(92, 2), u64(200, events - 1))),
  },
];

const NOT_STARTED: readonly Damage[] = [
  notStarted("chunk of 2 KiB", u32(88, 4)),
  notStarted("chunk of 96 KiB", u32(88, 192)),
  notStarted("layout 6", u32(76, 6)),
  notStarted("layout 16", u32(76, 16)),
  notStarted("bitmap bit without a bitmap", both(u32(8, Feature.bitmap), u32(96, 8))),
  notStarted(
    "PPL and bitmap",
    both(u32(8, Feature.multiplePpls | Feature.bitmap), u16(96, 8), u16(98, 8)),
  ),
  notStarted("journal bit without a journal", u32(8, Feature.journal)),
  notStarted(
    "reshape from nowhere",
    both(u32(8, Feature.reshape), u32(100, 5), u64(104, 777), u32(112, 0), u32(120, 256)),
  ),
  {
    name: "dirty and degraded",
    kernel: "refused",
    ours: "refused",
    present: [0, 2],
    each: u64(208, 0),
  },
  { name: "two members missing", kernel: "refused", ours: "refused", present: [1] },
];

const ACCEPTED: readonly Damage[] = [
  { name: "untouched", kernel: "whole", ours: "whole" },
  {
    name: "device number 100",
    kernel: "whole",
    ours: "whole",
    fields: { devRoles: PLAIN.devRoles.with(1, Role.spare).with(100, 1) },
    one: u32(160, 100),
  },
  { name: "max_dev 3", kernel: "whole", ours: "whole", each: u32(220, 3) },
  {
    name: "no bad-block log",
    kernel: "whole",
    ours: "whole",
    each: both(u16(186, 0), u32(188, 0)),
  },
  {
    name: "another data_offset",
    kernel: "whole",
    ours: "whole",
    one: both(u64(128, 2304), u64(136, DEVICE_SECTORS - 2304)),
    fields: { sizeSectors: 5888 },
  },
  {
    name: "unaligned data_offset",
    kernel: "whole",
    ours: "whole",
    one: both(u64(128, 2049), u64(136, DEVICE_SECTORS - 2049)),
    fields: { sizeSectors: 5888 },
  },
  {
    name: "one device uuid for all",
    kernel: "whole",
    ours: "whole",
    fields: { deviceUuid: "01010101:02020202:03030303:04040404" },
  },
  { name: "another name", kernel: "whole", ours: "whole", one: u8(40, 0x41) },
  { name: "two members", kernel: "whole", ours: "whole", memberCount: 2 },
  {
    name: "level 4",
    kernel: "whole",
    ours: "refused",
    why: "level 5 alone is run",
    each: both(u32(72, 4), u32(76, 0)),
  },
  {
    name: "size not in whole chunks",
    kernel: "whole",
    ours: "whole",
    fields: { sizeSectors: sizeSectors - 8 },
  },
  {
    name: "PPL over a blank area",
    kernel: "whole",
    ours: "whole",
    fields: { badBlockLogSectors: 0, badBlockLogOffsetSectors: 0 },
    each: both(u32(8, Feature.multiplePpls), u16(96, 8), u16(98, 1024)),
  },
  { name: "one event ahead", kernel: "whole", ours: "whole", one: u64(200, events + 1) },
  { name: "two events behind", kernel: "without", ours: "without", one: u64(200, events - 2) },
  {
    name: "faulty in the freshest",
    kernel: "without",
    ours: "without",
    each: (view, index) => {
      if (index !== 1) view.setUint16(256 + 2, Role.faulty, true);
      view.setBigUint64(200, BigInt(index === 1 ? events - 1 : events), true);
    },
  },
  {
    name: "dirty",
    kernel: "whole",
    ours: "whole",
    each: u64(208, 0),
  },
];

/** Device 3 is to replace device 1. */
const BOTH = PLAIN.devRoles.with(3, 1);
const SWAPPED = BOTH.with(1, Role.faulty);

function replacing(
  name: string,
  kernel: Fate,
  target: Partial<Superblock>,
  devRoles = BOTH,
): Damage {
  const others = [{ otherFeatures: Feature.replacement, ...target }];
  return { name: `a replacement, ${name}`, kernel, ours: kernel, fields: { devRoles }, others };
}

const HALF = { recoveryOffsetSectors: 1024 };
const FILLED = { recoveryOffsetSectors: sizeSectors };
const ALONE = { present: [0, 2, 3] };

const REPLACING: readonly Damage[] = [
  replacing("half copied", "whole", HALF),
  { ...replacing("half copied, dirty", "whole", HALF), each: u64(208, 0) },
  replacing("two events behind", "whole", { ...HALF, events: events - 2 }),
  { ...replacing("alone", "without", HALF), ...ALONE },
  { ...replacing("alone, dirty", "refused", HALF), ...ALONE, each: u64(208, 0) },
  replacing("both in sync", "whole", {}),
  { ...replacing("swapped by Linux", "whole", {}, SWAPPED), ...ALONE },
  { ...replacing("swapped by Linux, dirty", "whole", {}, SWAPPED), ...ALONE, each: u64(208, 0) },
  {
    ...replacing("swapped but for its own superblock", "without", FILLED, SWAPPED),
    ...ALONE,
    ours: "whole",
    why: "the kernel calls it a rebuild that has nothing left to do",
  },
];

export const DAMAGES: readonly Damage[] = [
  ...DROPPED,
  ...ABORTED,
  ...NOT_STARTED,
  ...RESHAPES,
  ...ACCEPTED,
  ...REPLACING,
];

/** The superblocks of the members that are there, in their order. */
export function damagedBlocks(damage: Damage): Uint8Array[] {
  const { memberCount = COUNT, fields = {}, others = [] } = damage;
  const { one, each, present, breaksChecksum } = damage;
  const blocks = Array.from({ length: memberCount + others.length }, (_, index) => {
    const plain = testSuperblock(index, { deviceBytes: DAMAGE_DEVICE_BYTES, memberCount });
    const own = others[index - memberCount] ?? {};
    const block = encodeSuperblock({ ...plain, ...fields, ...own });
    const view = new DataView(block.buffer);
    each?.(view, index);
    if (index === 1) one?.(view, index);
    const roleCount = view.getUint32(220, true);
    const isLeft = breaksChecksum === true && index === 1;
    if (!isLeft && roleCount <= 1920) {
      view.setUint32(216, superblockChecksum(block, roleCount), true);
    }
    return block;
  });
  return blocks.filter((_, index) => present?.includes(index) ?? true);
}
