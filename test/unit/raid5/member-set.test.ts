/**
 * Goal: an answer of a drive is told from one of its predecessor in the same role, and of what was
 * asked of a role while nobody had it.
 * Method: a role through all its changes; the epoch that a request would be stamped with.
 */
import { expect, test } from "bun:test";
import type { RetryFilter } from "../../../src/block/retry-filter.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { MemberSet } from "../../../src/raid5/members/member-set.ts";

const DEVICE = {} as RetryFilter;
const SEAT = { device: DEVICE, dataOffset: 0 };

test("member set: a drive takes a role, leaves it, another takes it: an epoch each, none by a commit", () => {
  const members = new MemberSet(
    new Geometry({ memberCount: 3, chunkBytes: 4096, layout: 2, memberSizeBytes: 4096 }),
  );
  const epochs = [members.epoch[0]];
  members.set(0, SEAT);
  epochs.push(members.epoch[0]);
  members.remove(0);
  epochs.push(members.epoch[0]);
  members.setRebuilding(0, { ...SEAT, fromStripe: 0 });
  epochs.push(members.epoch[0]);
  expect(new Set(epochs).size).toBe(4);
  members.finishRebuild(0);
  expect(members.epoch[0]).toBe(epochs[3]);
  expect([members.epoch[1], members.epoch[2]]).toEqual([epochs[0], epochs[0]]);
});
