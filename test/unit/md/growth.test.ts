/**
 * Goal: the decisions of a growth. How large an array can become; what its superblocks make of an
 * update that says a new size and is cut short; how its bitmap covers that.
 *
 * Method: enumerated. Each subset of 2 to 5 members has the new superblock, each one is lost; then
 * the others go on without it, and it comes back.
 */
import { describe, expect, test } from "bun:test";
import { KIB, MIB } from "../../../src/base/units.ts";
import type { Candidate } from "../../../src/md/assemble/assemble.ts";
import {
  type BitmapHeader,
  bitmapAreaBytes,
  bitmapBitCount,
  checkBitmapArea,
  newBitmapHeader,
} from "../../../src/md/bitmap.ts";
import { grownBitmap } from "../../../src/md/bitmap-grow.ts";
import { loadBitmap, newBitmap } from "../../../src/md/bitmap-load.ts";
import { type GrowthCandidate, judgeGrowth } from "../../../src/md/growth.ts";
import type { Superblock } from "../../../src/md/superblock.ts";
import { dataRoomSectors } from "../../../src/md/superblock-areas.ts";
import {
  changed,
  drawn,
  judged,
  refused,
  rolesWithout,
  TEST_DEVICE_BYTES,
  testCandidates,
  testSuperblock,
} from "../../helpers/md-members.ts";

const OLD = 1024;
const NEW = 4096;

/** All subsets of the roles, each as a list of who has it. */
function subsets(count: number): boolean[][] {
  return Array.from({ length: 2 ** count }, (_, bits) =>
    Array.from({ length: count }, (_unused, role) => ((bits >> role) & 1) === 1),
  );
}

describe.each([2, 3, 4, 5])("an update that says a new size, %i members", (memberCount) => {
  const all = testCandidates({ memberCount }).map((each) => changed(each, { sizeSectors: OLD }));
  const cut = (has: readonly boolean[]): Candidate[] =>
    all.map((each, role) =>
      has[role] === true ? changed(each, { events: 101, sizeSectors: NEW }) : each,
    );

  test(`growth, ${memberCount} members: cut short anywhere, each one lost: old or new, and whole`, () => {
    for (const has of subsets(memberCount)) {
      for (let lost = -1; lost < memberCount; lost += 1) {
        const there = cut(has).filter((_, role) => role !== lost);
        const plan = judged(there);
        const isNew = has.some((each, role) => each && role !== lost);
        expect([plan.freshest.sizeSectors, plan.degraded]).toEqual([
          isNew ? NEW : OLD,
          lost < 0 ? 0 : 1,
        ]);
        expect(plan.resyncFromSector).toBeNull();
        // The log, the bitmap and the data of each are looked for by the size that holds.
        for (const entry of plan.roles) {
          if (entry.state === "missing") continue;
          expect(entry.superblock.sizeSectors).toBe(isNew ? NEW : OLD);
        }
      }
    }
  });

  test(`growth, ${memberCount} members: the only one that has it is lost, and comes back: stale`, () => {
    if (memberCount === 2) return;
    for (let lost = 0; lost < memberCount; lost += 1) {
      const { superblock } = all[lost]!;
      // They start without it, and write.
      for (const events of [101, 102, 103]) {
        const fields = { events, devRoles: rolesWithout(superblock, lost) };
        const drives = all.map((each, role) =>
          role === lost ? changed(each, { events: 101, sizeSectors: NEW }) : changed(each, fields),
        );
        const plan = judged(drives);
        expect([plan.freshest.sizeSectors, plan.stale.map(({ drive }) => drive)]).toEqual([
          OLD,
          [`d${lost}`],
        ]);
        expect(drawn(plan)).toBe(`${"A".repeat(lost)}.${"A".repeat(memberCount - lost - 1)}`);
      }
    }
  });

  test(`growth, ${memberCount} members: one that missed it and was recorded as lost is stale`, () => {
    const { superblock } = all[0]!;
    for (const events of [101, 102]) {
      const fields = { events, sizeSectors: NEW, devRoles: rolesWithout(superblock, 0) };
      const drives = all.map((each, role) => (role === 0 ? each : changed(each, fields)));
      const plan = judged(drives);
      expect([plan.freshest.sizeSectors, plan.stale.length]).toEqual([NEW, 1]);
    }
  });
});

test("growth: sizes that no update leaves behind: refused as before", () => {
  const [first, ...rest] = testCandidates().map((each) => changed(each, { sizeSectors: OLD }));
  const smaller = changed(first!, { sizeSectors: OLD / 2 });
  expect(refused([smaller, ...rest]).kind).toBe("superblocks-differ");
  const larger = changed(first!, { events: 99, sizeSectors: NEW });
  expect(refused([larger, ...rest]).kind).toBe("superblocks-differ");
  // A member that has no room for it is none of this array.
  const grown = rest.map((each) => changed(each, { events: 101, sizeSectors: NEW }));
  const small = changed(first!, { dataSizeSectors: NEW - 1 });
  expect(refused([small, ...grown]).kind).toBe("member-too-small");
  // Nor is a stale one of the old size forced into an array of the new one.
  const stale = [changed(first!, { events: 90 }), changed(rest[0]!, { events: 90 }), grown[1]!];
  expect(refused(stale, true).kind).toBe("too-few-members");
});

// How large -------------------------------------------------------------------------------------

function candidate(role: number, deviceBytes: number, isSpare = false): GrowthCandidate {
  const superblock = testSuperblock(role, { deviceBytes: 16 * MIB });
  return { drive: isSpare ? "s" : `d${role}`, superblock, deviceBytes, isSpare };
}

test("growth: how large: in whole chunks, up to the smallest member, never smaller", () => {
  const members = [64, 32, 48].map((mib, role) => candidate(role, mib * MIB));
  const array = members[0]!.superblock;
  const { sizeSectors, dataOffsetSectors, chunkSectors } = array;
  const room = (32 * MIB) / 512 - dataOffsetSectors;
  const most = room - (room % chunkSectors);
  const ask = (wanted: number | "max", drives = members) => {
    const answer = judgeGrowth(wanted, array, drives);
    return answer.ok ? answer.value : answer.error.kind;
  };
  expect(ask("max")).toBe(most);
  expect(ask(most)).toBe(most);
  expect(ask(most + chunkSectors - 1)).toBe(most);
  expect(ask(most + chunkSectors)).toBe("no-room");
  expect(ask(sizeSectors)).toBe(sizeSectors);
  expect(ask(sizeSectors + chunkSectors - 1)).toBe(sizeSectors);
  expect(ask(sizeSectors + chunkSectors)).toBe(sizeSectors + chunkSectors);
  expect(ask(sizeSectors - 1)).toBe("shrink");
  expect(ask(0)).toBe("shrink");
  const spare = candidate(3, 24 * MIB, true);
  expect(ask("max", [...members, spare])).toBe("small-spare");
  expect(ask(sizeSectors + chunkSectors, [...members, spare])).toBe(sizeSectors + chunkSectors);
  // Nothing to do for a spare that is too small for what nobody asks.
  expect(ask(sizeSectors, [...members, spare])).toBe(sizeSectors);
  const same = [16, 32, 48].map((mib, role) => candidate(role, mib * MIB));
  expect(ask("max", same)).toBe(sizeSectors);
});

test("growth: room: to the end of the device, or to what lies behind the data", () => {
  const superblock = testSuperblock(0);
  const { dataOffsetSectors, dataSizeSectors } = superblock;
  const device = dataOffsetSectors + dataSizeSectors;
  expect(dataRoomSectors(superblock, device + 777)).toBe(dataSizeSectors + 777);
  expect(dataRoomSectors(superblock, device - 1)).toBe(dataSizeSectors);
  const log = {
    kind: "ppl",
    offsetSectors: device + 8,
    sizeSectors: 2048,
    isMultiple: true,
  } as const;
  const behind: Superblock = { ...superblock, log };
  expect(dataRoomSectors(behind, device + 4096)).toBe(dataSizeSectors + 16);
});

// Its bitmap ------------------------------------------------------------------------------------

const withBitmap = { ...testSuperblock(0, { policy: "bitmap" }), sizeSectors: OLD };

function bitmapOf(chunkBytes: number, setBits: readonly number[]) {
  const state = newBitmap(newBitmapHeader({ superblock: withBitmap, chunkBytes }), false);
  for (const bit of setBits) state.markNeeded(bit * state.chunkSectors, 1);
  return state;
}

const fits = (header: BitmapHeader) =>
  checkBitmapArea(header, withBitmap, TEST_DEVICE_BYTES) === null;

test("growth: bitmap: bits keep their place while they fit; those of the new part are clear", () => {
  const before = bitmapOf(4096, [0, 5, 127]);
  const grown = grownBitmap(before, { sizeSectors: NEW, events: 101, fits });
  expect(grown.header).toMatchObject({
    chunkBytes: 4096,
    syncSizeSectors: NEW,
    eventsCleared: 100,
  });
  expect(grown.bitCount).toBe(512);
  const ranges = [0, 5, 127].map((bit) => ({ sector: bit * 8, lengthSectors: 8 }));
  expect(grown.dirtyRanges()).toEqual(ranges);
});

test("growth: bitmap: without room each bit stands for more, and who left before is rebuilt", () => {
  const before = bitmapOf(4096, [0, 5, 127]);
  const room = (header: BitmapHeader) => bitmapBitCount(header) <= 130;
  const grown = grownBitmap(before, { sizeSectors: NEW, events: 101, fits: room });
  expect(grown.header).toMatchObject({ chunkBytes: 16 * KIB, eventsCleared: 101, events: 101 });
  expect(grown.dirtyRanges()).toEqual([
    { sector: 0, lengthSectors: 64 },
    { sector: 31 * 32, lengthSectors: 32 },
  ]);
  expect(grown.allowsPartialRebuild(100)).toBe(false);
});

test("growth: bitmap: one that covers more than the array uses yet: its bits count, cut down", () => {
  const before = bitmapOf(4096, [3, 127]);
  for (const chunks of [1, 4]) {
    const room = (header: BitmapHeader) => bitmapBitCount(header) <= 512 / chunks;
    const grown = grownBitmap(before, { sizeSectors: NEW, events: 101, fits: room });
    grown.setEvents(101);
    const area = grown.image();
    const options = { superblock: withBitmap, deviceBytes: TEST_DEVICE_BYTES, events: 100 };
    const loaded = loadBitmap(area, { ...options, resyncFromSector: 0, isDegraded: false });
    if (!loaded.ok) throw new Error(loaded.error.detail);
    const { state, wasStale } = loaded.value;
    expect([wasStale, state.header.syncSizeSectors]).toEqual([false, OLD]);
    expect(state.image()).toHaveLength(bitmapAreaBytes(state.header));
    const [first, last] = state.dirtyRanges();
    expect([first!.sector, last!.sector + last!.lengthSectors]).toEqual([
      chunks === 1 ? 24 : 0,
      OLD,
    ]);
    // And the members get it so before anything is written.
    expect(state.nextBlock(0, true)).toBe(0);
  }
});
