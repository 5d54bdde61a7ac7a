/**
 * Goal: the requests of one piece are answered by one promise with the worst of their errors, and
 * only a drive that still has its role is blamed or has to be flushed.
 * Method: every order of answers over devices that answer by script.
 */
import { expect, test } from "bun:test";
import { EIO, ENXIO } from "../../../src/base/errno.ts";
import { KIB } from "../../../src/base/units.ts";
import { Outcome } from "../../../src/block/io-error.ts";
import { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { RetryFilter } from "../../../src/block/retry-filter.ts";
import type { MemberError } from "../../../src/raid5/environment.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { MemberIo } from "../../../src/raid5/members/member-io.ts";
import { MemberSet } from "../../../src/raid5/members/member-set.ts";
import { PieceIo } from "../../../src/raid5/sync/piece-io.ts";
import { IoTable, Op } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { ORDERS_OF_THREE } from "../../helpers/orders.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const CHUNK = 64 * KIB;
const PIECE = 16 * KIB;

function setUp({ capacity = 8 } = {}) {
  const clock = new ManualClock();
  const timers = new Timers(clock);
  const table = new IoTable(capacity);
  const router = new OutcomeRouter(table);
  const limits = { transientLimit: 0, mediaLimit: 0, backOffMsMax: 1 };
  const geometry = new Geometry({
    memberCount: 3,
    chunkBytes: CHUNK,
    layout: 2,
    memberSizeBytes: 8 * CHUNK,
  });
  const members = new MemberSet(geometry);
  const devices = [0, 1, 2].map((role) => {
    const device = new ScriptedDevice(table);
    const filter = new RetryFilter({ next: device, table, timers, router, limits });
    members.set(role, { device: filter, dataOffset: (role + 1) * 4 * KIB });
    return device;
  });
  const failed: MemberError[] = [];
  const guard = {
    isBroken: false,
    caught: (error: unknown) => {
      throw error;
    },
  };
  const environment = { table, router, guard };
  const memberFailed = (error: MemberError): void => {
    failed.push(error);
  };
  const memberIo = new MemberIo({ environment, members, memberFailed, targetFailed: memberFailed });
  const piece = new PieceIo({ environment, members, geometry, memberIo }, PIECE);
  piece.begin(5, PIECE);
  return { clock, timers, table, members, devices, failed, piece };
}

test("piece io: answers in every order: one promise, and only when all are there", async () => {
  for (const order of ORDERS_OF_THREE) {
    const { devices, piece, table, failed } = setUp();
    for (const role of [0, 1, 2]) piece.start(Op.read, role, (role + 1) * CHUNK);
    let isOver = false;
    const waiting = piece.wait().then((error) => {
      isOver = true;
      return error;
    });
    for (const role of order) {
      await Bun.sleep(0);
      expect(isOver).toBe(false);
      expect(devices[role]!.last).toMatchObject({
        op: Op.read,
        offset: (role + 1) * 4 * KIB + 5 * CHUNK + PIECE,
        bytes: PIECE,
        address: (role + 1) * CHUNK,
      });
      devices[role]!.answerLast();
    }
    expect(await waiting).toBeNull();
    expect(failed).toEqual([]);
    expect(table.available).toBe(8);
    expect(await piece.wait()).toBeNull();
  }
});

test("piece io: a bad sector and a lost member, in every order: the loss is the error", async () => {
  for (const order of ORDERS_OF_THREE) {
    const { devices, piece, failed } = setUp();
    for (const role of [0, 1, 2]) piece.start(Op.read, role, (role + 1) * CHUNK);
    const results = [-EIO, PIECE, -ENXIO];
    for (const role of order) devices[role]!.answerLast(results[role]!);
    expect(await piece.wait()).toMatchObject({
      role: 2,
      outcome: Outcome.memberLost,
      errno: ENXIO,
    });
    expect(failed.map(({ role }) => role).sort()).toEqual([0, 2]);
    // The next piece does not remember it.
    piece.begin(6, 0);
    piece.start(Op.read, 1, CHUNK);
    devices[1]!.answerLast();
    expect(await piece.wait()).toBeNull();
  }
});

test("piece io: a write: its member has to be flushed, unless another drive is there now", async () => {
  for (const isReplaced of [false, true]) {
    for (const isDone of [false, true]) {
      const { devices, piece, members, failed } = setUp();
      piece.start(Op.write, 1, CHUNK);
      if (isReplaced) {
        const device = members.devices[1]!;
        members.remove(1);
        members.set(1, { device, dataOffset: 0 });
      }
      members.needsFlush[1] = 0;
      devices[1]!.answerLast(isDone ? undefined : -ENXIO);
      const error = await piece.wait();
      expect(members.needsFlush[1]).toBe(isReplaced ? 0 : 1);
      // What an earlier drive has taken is not on the one that is there now.
      const isGood = isDone && !isReplaced;
      expect(error?.outcome).toBe(isGood ? undefined : Outcome.memberLost);
      // A drive that has left is not blamed for what it did as a member.
      expect(failed.length).toBe(isDone || isReplaced ? 0 : 1);
      expect(error?.errno ?? 0).toBe(isDone || isReplaced ? 0 : ENXIO);
    }
  }
});

test("piece io: a member is missing: nothing is sent to it, the others are waited for", async () => {
  const { devices, piece, members } = setUp();
  members.remove(0);
  piece.start(Op.read, 0, CHUNK);
  piece.start(Op.read, 1, 2 * CHUNK);
  const waiting = piece.wait();
  expect(devices[0]!.submissions).toEqual([]);
  devices[1]!.answerLast();
  expect(await waiting).toMatchObject({ role: 0, outcome: Outcome.memberLost, errno: 0 });
});

test("piece io: the table is full: waits until a request is free", async () => {
  const { devices, piece, clock, timers } = setUp({ capacity: 1 });
  piece.start(Op.read, 0, CHUNK);
  piece.start(Op.read, 1, 2 * CHUNK);
  const waiting = piece.wait();
  clock.runNextTimer(timers);
  await Bun.sleep(0);
  expect(devices[1]!.submissions).toEqual([]);
  devices[0]!.answerLast();
  clock.runNextTimer(timers);
  await Bun.sleep(0);
  devices[1]!.answerLast();
  expect(await waiting).toBeNull();
});
