/**
 * Goal: a reshape on superblocks. Its fields come back as they were written, its gap destroys
 * nothing on any member, and only one that nobody has to guess about is gone on with.
 *
 * Method: enumerated over members, added drives, chunks and data offsets. The gap is judged against
 * a walk over the rows that knows nothing of how it was chosen; each field is damaged for itself.
 */
import { describe, expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import type { GrowthCandidate } from "../../../src/md/growth.ts";
import { placeLog, type WantedLog } from "../../../src/md/log-place.ts";
import { begunReshape, finishedReshape, reshapeOf, withReshape } from "../../../src/md/reshape.ts";
import { judgeReshape, judgeRunningReshape } from "../../../src/md/reshape-judge.ts";
import {
  decodeSuperblock,
  encodeSuperblock,
  Feature,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { TEST_DEVICE_BYTES, testSuperblock } from "../../helpers/md-members.ts";

const MEMBERS = Array.from({ length: 14 }, (_, index) => index + 2);
const CHUNKS = [4, 64, 512, 1024].map((kib) => kib * KIB);
const RESYNC: WantedLog = { policy: "resync" };
const PPL: WantedLog = { policy: "ppl" };
const BITMAP: WantedLog = { policy: "bitmap", areaBytes: 4096 };

/** Decoded from its own bytes, or the kind of fault. */
function throughBytes(superblock: Superblock): Superblock | string {
  const decoded = decodeSuperblock(encodeSuperblock(superblock), {
    deviceBytes: TEST_DEVICE_BYTES,
  });
  return decoded.ok ? decoded.value : decoded.error.kind;
}

function candidates(
  count: number,
  { chunkBytes = 64 * KIB, offsets = {} as Record<number, number>, spares = 0 } = {},
): GrowthCandidate[] {
  return Array.from({ length: count + spares }, (_, devNumber) => {
    const made = testSuperblock(devNumber, { memberCount: count, chunkBytes });
    const dataOffsetSectors = offsets[devNumber] ?? made.dataOffsetSectors;
    return {
      drive: `d${devNumber}`,
      superblock: { ...made, dataOffsetSectors },
      deviceBytes: 2 * TEST_DEVICE_BYTES,
      isSpare: devNumber >= count,
    };
  });
}

/** Of a member of a 3 to 4 reshape that Linux 6.1 was stopped in, at sector 54,912. */
function superblockOfLinux(): Uint8Array {
  const start = [
    "fc4e2ba901000000440000000000000076c9bbd23c4ad0cccdd9cbb4aa22dfeb",
    "286e6f6e65293a30000000000000000000000000000000000000000000000000",
    "fc940d6b00000000050000000200000000f80100000000008000000004000000",
    "000000000500000080d600000000000001000000020000008000000080feffff",
    "000800000000000000f801000000000008000000000000000000000000000000",
    "000000000000000084e4f8b0ae9c7863df42a82c7c5bf8ae0000080010000000",
    "11950d6b000000003000000000000000ffffffffffffffff770f494e80000000",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "00000100ffff02000300ffffffffffff",
  ].join("");
  const bytes = new Uint8Array(4096);
  bytes.set(Uint8Array.fromHex(start));
  bytes.fill(0xff, start.length / 2, 512);
  return bytes;
}

/** A 3 to 4 reshape, chunks of 128 sectors, as Linux was seen to leave one. */
function running(fields: Partial<Superblock> = {}, position = 384): Superblock {
  const begun = begunReshape(
    { ...testSuperblock(0, { memberCount: 3 }), ...fields },
    { deltaMembers: 1, newOffsetSectors: -384 },
  );
  return withReshape(begun, { ...reshapeOf(begun)!, positionSectors: position });
}

describe("the fields", () => {
  test("reshape: each count, delta and gap: read as written, and gone at the end", () => {
    for (const memberCount of MEMBERS) {
      for (let deltaMembers = 1; memberCount + deltaMembers <= 16; deltaMembers += 1) {
        for (const chunks of [1, 2, 13]) {
          const before = testSuperblock(1, { memberCount });
          const newOffsetSectors = -chunks * before.chunkSectors;
          const begun = begunReshape(before, { deltaMembers, newOffsetSectors });
          expect(begun.memberCount).toBe(memberCount + deltaMembers);
          const positionSectors = before.chunkSectors * (begun.memberCount - 1) * 3;
          const moved = withReshape(begun, { ...reshapeOf(begun)!, positionSectors });
          expect(reshapeOf(moved)).toEqual({ positionSectors, deltaMembers, newOffsetSectors });
          const read = throughBytes(moved);
          expect(read).toEqual(moved);
          expect(judgeRunningReshape(moved)).toBeNull();
          const after = finishedReshape(moved);
          expect(reshapeOf(after)).toBeNull();
          expect(after).toEqual({
            ...before,
            memberCount: begun.memberCount,
            dataOffsetSectors: before.dataOffsetSectors + newOffsetSectors,
            dataSizeSectors: before.dataSizeSectors - newOffsetSectors,
          });
        }
      }
    }
  });

  test("reshape: bytes: where the kernel has them", () => {
    const bytes = encodeSuperblock(running({}, 286_848));
    const view = new DataView(bytes.buffer);
    expect(view.getUint32(8, true)).toBe(0x44);
    expect(view.getUint32(92, true)).toBe(4);
    expect(view.getInt32(100, true)).toBe(5);
    expect(view.getBigUint64(104, true)).toBe(286_848n);
    expect(view.getInt32(112, true)).toBe(1);
    expect(view.getUint32(116, true)).toBe(2);
    expect(view.getUint32(120, true)).toBe(128);
    expect(view.getInt32(124, true)).toBe(-384);
  });

  test("reshape: what Linux left: read, gone on with, and written as Linux wrote it", () => {
    const bytes = superblockOfLinux();
    const decoded = decodeSuperblock(bytes, { deviceBytes: 64 * MIB });
    if (!decoded.ok) throw new Error(decoded.error.detail);
    const superblock = decoded.value;
    const found = { positionSectors: 54_912, deltaMembers: 1, newOffsetSectors: -384 };
    expect(reshapeOf(superblock)).toEqual(found);
    expect(judgeRunningReshape(superblock)).toBeNull();
    expect(encodeSuperblock(withReshape(superblock, found))).toEqual(bytes);
    expect(withReshape(finishedReshape(superblock), found).reshapeBytes).toEqual(
      bytes.slice(100, 128),
    );
    // What Linux had at the end of it.
    expect(finishedReshape(superblock)).toMatchObject({
      dataOffsetSectors: 1664,
      dataSizeSectors: 129_408,
      otherFeatures: 0,
    });
  });

  test("reshape: old fields without the bit: none is under way", () => {
    const { reshapeBytes } = running();
    expect(reshapeOf({ ...testSuperblock(0), reshapeBytes })).toBeNull();
    expect(judgeRunningReshape({ ...testSuperblock(0), reshapeBytes })).toBeNull();
  });

  test("reshape: data that moves into an area: refused by the decoder", () => {
    const before = testSuperblock(0);
    const first = 8 + before.badBlockLogOffsetSectors + before.badBlockLogSectors;
    const begun = (newOffsetSectors: number) =>
      throughBytes(begunReshape(before, { deltaMembers: 1, newOffsetSectors }));
    expect(begun(first - before.dataOffsetSectors)).toBeObject();
    expect(begun(first - before.dataOffsetSectors - 1)).toBe("areas-overlap");
    expect(begun(15 - before.dataOffsetSectors)).toBe("bad-data-area");
    expect(begun(-before.dataOffsetSectors - 1)).toBe("bad-data-area");
    const withLog = { ...before, log: placeLog(before, PPL)! };
    expect(throughBytes(begunReshape(withLog, { deltaMembers: 1, newOffsetSectors: -1920 }))).toBe(
      "areas-overlap",
    );
    // Without the bit of the reshape the field means nothing.
    const { reshapeBytes } = begunReshape(before, { deltaMembers: 1, newOffsetSectors: -2048 });
    expect(throughBytes({ ...before, reshapeBytes })).toBeObject();
  });
});

/** What a judgement must be, found by trying each gap: null: there is none. */
function expectedChunks(members: readonly GrowthCandidate[], after: WantedLog): number | null {
  const { chunkSectors, memberCount } = members[0]!.superblock;
  const fits = (chunks: number): boolean =>
    members.every(({ superblock }) => {
      const start = superblock.dataOffsetSectors - chunks * chunkSectors;
      // mdadm leaves 72 sectors behind the superblock; the log of bad blocks takes a row.
      const log =
        superblock.badBlockLogSectors === 0 ? 0 : superblock.badBlockLogOffsetSectors + 16;
      return start >= 80 && start >= log;
    });
  const logs = (chunks: number): string =>
    members
      .map(({ superblock }) => {
        const dataOffsetSectors = superblock.dataOffsetSectors - chunks * chunkSectors;
        const log = placeLog({ ...superblock, dataOffsetSectors }, after);
        return log === null ? "none" : log.kind === "ppl" ? `${log.sizeSectors}` : log.kind;
      })
      .join();
  const all = Array.from({ length: 2 * (memberCount - 1) }, (_, index) => index + 1).filter(fits);
  const wanted = logs(1);
  if (wanted.includes("none")) return all.at(-1) ?? null;
  return all.filter((chunks) => logs(chunks) === wanted).at(-1) ?? null;
}

describe("the begin", () => {
  test.each(["resync", "ppl", "bitmap"] as const)(
    "reshape: wanted afterwards %s: the gap is the largest that has room for it",
    (policy) => {
      const after = { resync: RESYNC, ppl: PPL, bitmap: BITMAP }[policy];
      for (const memberCount of MEMBERS) {
        for (const chunkBytes of CHUNKS) {
          const chunkSectors = chunkBytes / 512;
          for (const offset of [64, 80, 88, 208, 336, 2048, 2184, 4096, 8192, 65_536]) {
            const members = candidates(memberCount, { chunkBytes, offsets: { 1: offset } });
            const request = { array: members[0]!.superblock, candidates: members, addedCount: 1 };
            const judged = judgeReshape({ ...request, wantedAfter: after });
            const chunks = expectedChunks(members, after);
            if (memberCount === 16) continue;
            if (chunks === null) {
              expect(judged.ok ? "accepted" : judged.error.kind).toBe("no-room");
              continue;
            }
            if (!judged.ok) throw new Error(judged.error.detail);
            expect(judged.value.newOffsetSectors).toBe(-chunks * chunkSectors);
            expect(judged.value).toMatchObject({ deltaMembers: 1, memberCount: memberCount + 1 });
            const logs = members.map(({ superblock }) =>
              placeLog(finishedReshape(begunReshape(superblock, { ...judged.value })), after),
            );
            expect(judged.value.hasRoomForLog).toBe(!logs.includes(null));
          }
        }
      }
    },
  );

  test("reshape: each count, delta and gap: no row overwrites what has not moved", () => {
    for (const memberCount of MEMBERS) {
      for (let added = 1; memberCount + added <= 16; added += 1) {
        const members = candidates(memberCount);
        const request = { array: members[0]!.superblock, candidates: members };
        const judged = judgeReshape({ ...request, addedCount: added, wantedAfter: RESYNC });
        if (!judged.ok) throw new Error(judged.error.detail);
        const { newOffsetSectors, memberCount: after } = judged.value;
        const gap = -newOffsetSectors / members[0]!.superblock.chunkSectors;
        for (let row = 0; row < 400; row += 1) {
          // Chunks of the array in all rows up to the old one that is overwritten.
          const destroyed = Math.max(0, row - gap + 1) * (memberCount - 1);
          expect(destroyed).toBeLessThanOrEqual(row * (after - 1));
        }
      }
    }
  });

  test("reshape: a new drive that has less room decides, too", () => {
    const judge = (offset: number) => {
      const members = candidates(3, { spares: 1, offsets: { 3: offset } });
      const request = { array: members[0]!.superblock, candidates: members, addedCount: 1 };
      const judged = judgeReshape({ ...request, wantedAfter: RESYNC });
      return judged.ok ? judged.value.newOffsetSectors : judged.error;
    };
    expect(judge(2048)).toBe(-512);
    expect(judge(80 + 128)).toBe(-128);
    expect(judge(80 + 127)).toEqual({
      kind: "no-room",
      detail:
        "drive d3 has no room before its data to move it by a chunk (64 KiB): replace it by a " +
        "larger drive, whose data begins further behind, or copy the data to a new array",
    });
  });

  test("reshape: past what there can be: refused with the way out", () => {
    const judge = (count: number, addedCount: number, fields: Partial<Superblock> = {}) => {
      const members = candidates(count);
      const array = { ...members[0]!.superblock, ...fields };
      const judged = judgeReshape({ array, candidates: members, addedCount, wantedAfter: RESYNC });
      return judged.ok ? judged.value.memberCount : `${judged.error.kind}: ${judged.error.detail}`;
    };
    expect(judge(14, 2)).toBe(16);
    expect(judge(14, 3)).toBe(
      "too-many: an array has 16 members at most, and this one would have 17: add 2 at most",
    );
    expect(judge(16, 1)).toBe(
      "too-many: an array has 16 members at most, and this one would have 17: make a new array " +
        "for the drives",
    );
    expect(judge(20, 1)).toStartWith("too-many");
    const { devRoles } = testSuperblock(0);
    expect(judge(3, 2, { devRoles: devRoles.slice(0, 4) })).toBe(
      "too-many: an array has 4 members at most, and this one would have 5: add 1 at most",
    );
    const most = Math.floor(Number.MAX_SAFE_INTEGER / 512 / 3);
    expect(judge(3, 1, { sizeSectors: most })).toBe(4);
    expect(judge(3, 1, { sizeSectors: most + 1 })).toBe(
      "too-large: no array has so many bytes: add fewer drives",
    );
  });
});

/** Fields of the 28 bytes, changed. */
function damaged(at: number, write: (view: DataView) => void): Superblock {
  const superblock = running();
  const reshapeBytes = superblock.reshapeBytes.slice();
  write(new DataView(reshapeBytes.buffer, at - 100));
  return { ...superblock, reshapeBytes };
}
const s32 = (at: number, value: number) => damaged(at, (view) => view.setInt32(0, value, true));
const position = (value: number) =>
  damaged(104, (view) => view.setBigUint64(0, BigInt(value), true));

describe("one that stands on superblocks", () => {
  const { sizeSectors } = running();

  test.each([
    ["at the begin", position(0)],
    ["after a row", position(384)],
    ["behind the old size", position(384 * Math.ceil((sizeSectors * 2) / 384))],
    ["at the end", position(sizeSectors * 3)],
    ["degraded", { ...running(), devRoles: running().devRoles.with(1, 0xfffe) }],
    ["dirty", { ...running(), resyncOffsetSectors: 0 }],
    ["rebuilding", { ...running(), recoveryOffsetSectors: 128 }],
    ["a chunk of gap", s32(124, -128)],
    ["with a bitmap", running({ log: placeLog(testSuperblock(0), BITMAP)! })],
  ] satisfies [string, Superblock][])("reshape: %s: we go on with it", (_, superblock) => {
    expect(judgeRunningReshape(superblock)).toBeNull();
  });

  test.each([
    ["new_level", s32(100, 6), "unsupported", "changes the level"],
    ["level", { ...running(), level: 4 }, "unsupported", "changes the level"],
    ["new_layout", s32(116, 0), "unsupported", "changes the layout"],
    ["new_chunk", s32(120, 256), "unsupported", "changes the chunk"],
    ["chunk", { ...running(), chunkSectors: 0 }, "unsupported", "changes the chunk"],
    ["delta 0", s32(112, 0), "unsupported", "adds no member"],
    ["delta -1", s32(112, -1), "unsupported", "adds no member"],
    ["delta 3", s32(112, 3), "damaged", "comes from 1 members"],
    ["new_offset 0", s32(124, 0), "unsupported", "does not move the data to the front"],
    ["new_offset up", s32(124, 128), "unsupported", "does not move the data to the front"],
    ["new_offset odd", s32(124, -130), "unsupported", "by 130 sectors, which are no whole chunks"],
    ["position odd", position(383), "damaged", "stands at sector 383, which is no whole stripe"],
    ["old stripe", position(256), "damaged", "stands at sector 256, which is no whole stripe"],
    ["beyond", position(sizeSectors * 3 + 384), "damaged", "behind the end of the array"],
    ["ppl", running({ log: placeLog(testSuperblock(0), PPL)! }), "unsupported", "with a ppl"],
    ["backwards", bits(Feature.reshapeBackwards, 0), "unsupported", "goes backwards"],
    ["no new offset", bits(0, Feature.newOffset), "unsupported", "needs a backup file"],
    ["a replacement", bits(Feature.replacement, 0), "unsupported", "meets a replacement"],
    ["bits alone", bits(0, Feature.reshape), "unsupported", "is described in part only"],
  ] satisfies [string, Superblock, string, string][])(
    "reshape: %s: we do not go on with it",
    (_, superblock, kind, what) => {
      const refusal = judgeRunningReshape(superblock);
      expect(refusal?.kind).toBe(kind as "damaged");
      expect(refusal?.what).toInclude(what);
    },
  );
});

function bits(set: number, cleared: number): Superblock {
  const superblock = running();
  return { ...superblock, otherFeatures: (superblock.otherFeatures | set) & ~cleared };
}
