/**
 * Goal: what a completion means for its member is what the table of member-io.ts says.
 * Method: every operation, outcome, content, and drive (the one that has the role, an earlier one)
 * against a table of its own, through the router that the drives answer by.
 */
import { expect, test } from "bun:test";
import { EIO, ETIMEDOUT } from "../../../src/base/errno.ts";
import { KIB, MIB } from "../../../src/base/units.ts";
import { OUTCOME_NAMES, Outcome, type OutcomeCode } from "../../../src/block/io-error.ts";
import { OutcomeRouter } from "../../../src/block/outcome-router.ts";
import { RetryFilter } from "../../../src/block/retry-filter.ts";
import type { MemberError } from "../../../src/raid5/environment.ts";
import { Geometry } from "../../../src/raid5/geometry.ts";
import { MemberCopy } from "../../../src/raid5/members/member-copy.ts";
import {
  Content,
  type ContentCode,
  type IoFailure,
  isForRows,
  MemberIo,
  Verdict,
  type VerdictCode,
} from "../../../src/raid5/members/member-io.ts";
import { MemberSet } from "../../../src/raid5/members/member-set.ts";
import { IoTable, OP_NAMES, Op, type OpCode } from "../../../src/reactor/io-table.ts";
import { Timers } from "../../../src/reactor/timers.ts";
import { ManualClock } from "../../helpers/manual-clock.ts";
import { ScriptedDevice } from "../../helpers/scripted-device.ts";

const CHUNK = 64 * KIB;
const ROLE = 1;
const DATA_OFFSET = 12 * KIB;
const PLACE = 3 * CHUNK;
const ADDRESS = 5 * CHUNK;
const CONTEXT = 77;

interface Answer {
  readonly context: number;
  readonly verdict: VerdictCode;
  readonly failure: IoFailure | null;
}

function setUp({
  capacity = 8,
  onTold = () => {},
}: {
  capacity?: number;
  onTold?: () => void;
} = {}) {
  const timers = new Timers(new ManualClock());
  const table = new IoTable(capacity);
  const router = new OutcomeRouter(table);
  const members = new MemberSet(
    new Geometry({ memberCount: 3, chunkBytes: CHUNK, layout: 2, memberSizeBytes: 8 * CHUNK }),
  );
  const device = new ScriptedDevice(table);
  members.set(ROLE, {
    device: new RetryFilter({ next: device, table, timers, router }),
    dataOffset: DATA_OFFSET,
  });
  const told: MemberError[] = [];
  const guard = { isBroken: false, caught: () => {} };
  const memberIo = new MemberIo({
    environment: { table, router, guard },
    members,
    memberFailed: (error) => {
      told.push(error);
      onTold();
    },
    targetFailed: (error) => told.push(error),
  });
  const answers: Answer[] = [];
  const user = (content: ContentCode) =>
    memberIo.register(content, (context, role, verdict, failure) => {
      expect(role).toBe(ROLE);
      answers.push({ context, verdict, failure });
    });
  const replaceDrive = (): void => {
    const before = members.devices[ROLE]!;
    members.remove(ROLE);
    members.set(ROLE, { device: before, dataOffset: DATA_OFFSET });
  };
  return { table, router, members, device, memberIo, told, answers, user, guard, replaceDrive };
}

/** What the table of member-io.ts says of the drive that has the role. `told`: as what outcome. */
function expected(
  op: OpCode,
  outcome: OutcomeCode,
  content: ContentCode,
): { verdict: VerdictCode; told: OutcomeCode | null } {
  const isRecord = content === Content.metadata || op === Op.flush;
  const { done, mediaError, timedOut, noSpace, unsupported, memberLost, fenced } = Outcome;
  switch (outcome) {
    case done:
      return { verdict: Verdict.done, told: null };
    case fenced:
      return { verdict: Verdict.gone, told: fenced };
    case noSpace:
      if (op === Op.flush) return { verdict: Verdict.gone, told: memberLost };
      return { verdict: Verdict.noSpace, told: isRecord ? null : noSpace };
    case unsupported:
      if (isRecord) return { verdict: Verdict.gone, told: memberLost };
      return { verdict: Verdict.badSector, told: null };
    case mediaError:
      if (isRecord) return { verdict: Verdict.gone, told: memberLost };
      if (content === Content.doubtful && op === Op.read) {
        return { verdict: Verdict.badSector, told: null };
      }
      return { verdict: Verdict.badSector, told: mediaError };
    case timedOut:
      if (isRecord) return { verdict: Verdict.gone, told: memberLost };
      return { verdict: op === Op.read ? Verdict.slow : Verdict.gone, told: timedOut };
    default:
      return { verdict: Verdict.gone, told: isRecord ? memberLost : outcome };
  }
}

/** "short" and "transient" do not leave the retry filter. */
const OUTCOMES: readonly OutcomeCode[] = [
  Outcome.done,
  Outcome.mediaError,
  Outcome.timedOut,
  Outcome.noSpace,
  Outcome.unsupported,
  Outcome.memberLost,
  Outcome.fenced,
];
const OPS: readonly OpCode[] = [Op.read, Op.write, Op.flush, Op.writeZeroes];

/** What goes to members; `Content.copy` goes to targets alone. */
const OF_MEMBERS = Object.entries(Content).filter(([, content]) => content !== Content.copy);

for (const [contentName, content] of OF_MEMBERS) {
  for (const isCurrent of [true, false]) {
    const drive = isCurrent ? "the drive that has the role" : "an earlier drive";
    test(`member io: ${contentName}, ${drive}: each outcome has its verdict`, () => {
      for (const op of OPS) {
        for (const outcome of OUTCOMES) {
          const { table, router, members, memberIo, device, told, answers, user, replaceDrive } =
            setUp();
          const bytes = op === Op.flush ? 0 : 16 * KIB;
          if (op === Op.flush) memberIo.flush(user(content), ROLE);
          else memberIo.start(user(content), op, ROLE, PLACE, bytes, ADDRESS, CONTEXT, 0);
          if (!isCurrent) replaceDrive();
          members.needsFlush[ROLE] = 0;
          const errno = outcome === Outcome.done ? 0 : EIO;
          router.dispatch(device.last.request, outcome, errno);

          const what = `${OP_NAMES[op]} ${OUTCOME_NAMES[outcome]}`;
          // What a drive has given is right, also where it has left since.
          const isGiven = op === Op.read && outcome === Outcome.done;
          const is =
            isCurrent || isGiven
              ? expected(op, outcome, content)
              : { verdict: Verdict.gone, told: null };
          expect([what, answers.length, answers[0]!.verdict]).toEqual([what, 1, is.verdict]);
          const toldAs = told.map((error) => error.outcome);
          expect([what, ...toldAs]).toEqual(is.told === null ? [what] : [what, is.told]);
          const isWrite = op === Op.write || op === Op.writeZeroes;
          // A single row is durable when it is done, and may lie in the cache in part when not.
          const isPart = content === Content.rows && outcome !== Outcome.done;
          const isToFlush = isWrite && isCurrent && (content === Content.data || isPart);
          expect([what, members.needsFlush[ROLE]]).toEqual([what, isToFlush ? 1 : 0]);
          const { failure } = answers[0]!;
          expect([what, failure === null]).toEqual([what, is.verdict === Verdict.done]);
          expect(table.available).toBe(table.capacity);
          expect(memberIo.isIdle).toBe(true);
        }
      }
    });
  }
}

test("member io: a start: the row of the table is whole, and so is what a failure says", () => {
  for (const [, content] of OF_MEMBERS) {
    const { table, router, members, memberIo, device, answers, user } = setUp();
    members.epoch[ROLE] = 9;
    expect(
      memberIo.start(user(content), Op.write, ROLE, PLACE, 16 * KIB, ADDRESS, CONTEXT, 1),
    ).toBe(true);
    const offset = content === Content.metadata ? PLACE : DATA_OFFSET + PLACE;
    const { request } = device.last;
    expect(device.last).toEqual({
      request,
      op: Op.write,
      offset,
      bytes: 16 * KIB,
      address: ADDRESS,
      isFua: true,
    });
    expect([table.role[request], table.epoch[request], table.place[request]]).toEqual([
      ROLE,
      9,
      PLACE,
    ]);
    expect(memberIo.isIdle).toBe(false);
    router.dispatch(request, Outcome.memberLost, EIO);
    expect(answers[0]).toMatchObject({
      context: CONTEXT,
      failure: { role: ROLE, op: Op.write, errno: EIO, offset, bytes: 16 * KIB, place: PLACE },
    });
    expect(answers[0]!.failure).toMatchObject({ address: ADDRESS, isGivenUp: false });
  }
});

test("rule 10: a request that was given up: its user knows, whatever drive has the role", () => {
  for (const outcome of [Outcome.timedOut, Outcome.memberLost]) {
    for (const isCurrent of [true, false]) {
      const { router, memberIo, device, answers, user, replaceDrive } = setUp();
      memberIo.start(user(Content.data), Op.read, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
      if (!isCurrent) replaceDrive();
      router.dispatch(device.last.request, outcome, ETIMEDOUT);
      const isSlow = isCurrent && outcome === Outcome.timedOut;
      expect(answers[0]).toMatchObject({
        verdict: isSlow ? Verdict.slow : Verdict.gone,
        failure: { isGivenUp: true },
      });
    }
  }
});

test("rule 16: a write that completes while a flush is under way: it needs the next one", () => {
  const { router, members, memberIo, device, user } = setUp();
  const writer = user(Content.data);
  memberIo.start(writer, Op.write, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
  const write = device.last.request;
  memberIo.flush(user(Content.data), ROLE);
  expect(members.needsFlush[ROLE]).toBe(0);
  router.dispatch(write, Outcome.done, 0);
  router.dispatch(device.last.request, Outcome.done, 0);
  expect(members.needsFlush[ROLE]).toBe(1);
});

test("member io: who is told takes the member out, or it is fenced: the verdict is gone", () => {
  for (const outcome of [Outcome.mediaError, Outcome.noSpace, Outcome.timedOut]) {
    for (const isFenced of [false, true]) {
      const taken: { members?: MemberSet } = {};
      const onTold = (): void => {
        if (isFenced) taken.members!.isFenced = true;
        else taken.members!.remove(ROLE);
      };
      const { router, members, memberIo, device, told, answers, user } = setUp({ onTold });
      taken.members = members;
      const op = outcome === Outcome.noSpace ? Op.write : Op.read;
      memberIo.start(user(Content.data), op, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
      router.dispatch(device.last.request, outcome, EIO);
      expect(told.length).toBe(1);
      expect(answers[0]!.verdict).toBe(Verdict.gone);
    }
  }
});

test("member io: a doubtful row is bad still: that is no new error of its member", () => {
  for (const content of [Content.doubtful, Content.rows]) {
    const { router, members, memberIo, device, told, user } = setUp();
    const { counters } = members.devices[ROLE]!;
    counters.readErrorsInARow = 7;
    memberIo.start(user(content), Op.read, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
    // As the retry filter counts it before it hands it up.
    counters.readErrorsInARow += 1;
    router.dispatch(device.last.request, Outcome.mediaError, EIO);
    const isDoubtful = content === Content.doubtful;
    expect([counters.readErrorsInARow, told.length]).toEqual(isDoubtful ? [7, 0] : [8, 1]);
  }
});

test("member io: what is for the careful path: a bad sector and a want of space", () => {
  const { done, badSector, noSpace, slow, gone } = Verdict;
  const verdicts = [done, badSector, noSpace, slow, gone];
  expect(verdicts.map(isForRows)).toEqual([false, true, true, false, false]);
});

const AWAITED = { content: Content.rows, place: PLACE, bytes: 4 * KIB, address: ADDRESS };

test("member io: a promise has the same verdict; a missing member is gone at once", async () => {
  const { router, members, memberIo, device, told } = setUp();
  const io = { ...AWAITED, op: Op.write, role: ROLE, isFua: true };
  const moving = memberIo.move(io);
  expect(device.last).toMatchObject({ offset: DATA_OFFSET + PLACE, isFua: true });
  router.dispatch(device.last.request, Outcome.noSpace, EIO);
  expect(await moving).toBe(Verdict.noSpace);
  expect(told.length).toBe(1);
  members.remove(ROLE);
  expect(await memberIo.move(io)).toBe(Verdict.gone);
  expect(device.submissions.length).toBe(1);
  expect(told.length).toBe(1);
});

test("member io: the table is full: a promise waits for room, `start` says so", async () => {
  const { memberIo, device, user } = setUp({ capacity: 1 });
  const reader = user(Content.data);
  memberIo.start(reader, Op.read, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
  expect(memberIo.start(reader, Op.read, ROLE, 0, 4 * KIB, ADDRESS, CONTEXT, 0)).toBe(false);
  const moving = memberIo.move({ ...AWAITED, op: Op.read, role: ROLE, isFua: false });
  await Bun.sleep(0);
  expect(device.submissions.length).toBe(1);
  device.answerLast();
  await Bun.sleep(0);
  expect(device.submissions.length).toBe(2);
  device.answerLast();
  expect(await moving).toBe(Verdict.done);
});

test("member io: a frozen array starts nothing, and nobody is answered", async () => {
  const { memberIo, device, guard, user, answers } = setUp();
  guard.isBroken = true;
  memberIo.start(user(Content.data), Op.read, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
  let isAnswered = false;
  void memberIo.move({ ...AWAITED, op: Op.read, role: ROLE, isFua: false }).then(() => {
    isAnswered = true;
  });
  await Bun.sleep(0);
  expect([device.submissions.length, answers.length, isAnswered]).toEqual([0, 0, false]);
});

test("member io: closed: with nothing under way, and what is started then is gone", async () => {
  const { router, memberIo, device, user } = setUp();
  memberIo.start(user(Content.data), Op.read, ROLE, PLACE, 4 * KIB, ADDRESS, CONTEXT, 0);
  expect(() => memberIo.close()).toThrow("nothing under way");
  router.dispatch(device.last.request, Outcome.done, 0);
  memberIo.close();
  const io = { ...AWAITED, op: Op.read, role: ROLE, isFua: false };
  expect(await memberIo.move(io)).toBe(Verdict.gone);
});

// A member that is copied ------------------------------------------------------------------------

const TARGET_OFFSET = 2 * MIB;

function setUpCopy() {
  const all = setUp();
  const { table, router, members } = all;
  const target = new ScriptedDevice(table);
  const timers = new Timers(new ManualClock());
  const noRows = { isEmpty: true, has: () => false, isUnread: () => false };
  const badRows = { ...noRows, enter: async () => true, clear: async () => true };
  const device = new RetryFilter({ next: target, table, timers, router });
  const copy = new MemberCopy({
    role: ROLE,
    target: { device, dataOffset: TARGET_OFFSET, isVolatile: true, badRows },
    fromStripe: 0,
  });
  members.beginCopy(copy);
  // The first stripe has been copied.
  copy.progress.markDone(0);
  return { ...all, target, copy };
}

test("member io: a member that is copied: data goes to both, reads and metadata to it alone", () => {
  for (const [, content] of OF_MEMBERS) {
    for (const op of OPS) {
      const { memberIo, device, target, user } = setUpCopy();
      const bytes = op === Op.flush ? 0 : 4 * KIB;
      if (op === Op.flush) memberIo.flush(user(content), ROLE);
      else memberIo.start(user(content), op, ROLE, 0, bytes, ADDRESS, CONTEXT, 1);
      const isOfBoth = op !== Op.read && content !== Content.metadata;
      expect([content, op, target.submissions.length]).toEqual([content, op, isOfBoth ? 1 : 0]);
      expect(device.submissions.length).toBe(1);
      if (!isOfBoth) continue;
      const { request: _, offset, ...rest } = target.last;
      const { request: __, offset: own, ...same } = device.last;
      expect(rest).toEqual(same);
      if (op !== Op.flush) expect([own, offset]).toEqual([DATA_OFFSET, TARGET_OFFSET]);
    }
  }
});

/** By the answers of the two: what the user is told, whether the stripe is copied again. */
for (const isTargetFirst of [false, true]) {
  const order = isTargetFirst ? "the target first" : "the member first";
  test(`member io: a write of a copied member, ${order}: one answer, when both are there`, () => {
    for (const own of OUTCOMES) {
      for (const other of OUTCOMES) {
        const { table, router, memberIo, device, target, copy, told, answers, user, members } =
          setUpCopy();
        memberIo.start(user(Content.data), Op.write, ROLE, 0, 4 * KIB, ADDRESS, CONTEXT, 0);
        const errnoOf = (outcome: OutcomeCode) => (outcome === Outcome.done ? 0 : EIO);
        const both = [
          () => router.dispatch(device.last.request, own, errnoOf(own)),
          () => router.dispatch(target.last.request, other, errnoOf(other)),
        ];
        if (isTargetFirst) both.reverse();
        const what = `${OUTCOME_NAMES[own]}, target ${OUTCOME_NAMES[other]}`;
        both[0]!();
        expect([what, answers.length]).toEqual([what, 0]);
        // Rule 15: what the member said is judged at once.
        const isJudged = expected(Op.write, own, Content.data).told;
        if (!isTargetFirst) expect([what, told.length]).toEqual([what, isJudged === null ? 0 : 1]);
        both[1]!();
        expect([what, answers.length]).toEqual([what, 1]);
        const { verdict, told: toldAs } = expected(Op.write, own, Content.data);
        expect([what, answers[0]!.verdict]).toEqual([what, verdict]);
        const isSpared =
          other === Outcome.done || other === Outcome.noSpace || other === Outcome.unsupported;
        const tells = [toldAs === null ? [] : [toldAs], isSpared ? [] : [other]].flat();
        expect([what, told.map(({ outcome }) => outcome).sort()]).toEqual([what, tells.sort()]);
        const isDoubtful = own !== Outcome.done || other !== Outcome.done;
        expect([what, copy.firstDoubtful]).toEqual([what, isDoubtful ? 0 : -1]);
        expect(members.needsFlush[ROLE]).toBe(1);
        expect([table.available, memberIo.isIdle]).toEqual([table.capacity, true]);
      }
    }
  });
}

test("member io: a copied member is lost with a write under way: its stripe is rebuilt", () => {
  for (const answered of ["none", "member", "target"] as const) {
    const { router, members, memberIo, device, target, user } = setUpCopy();
    memberIo.start(user(Content.data), Op.write, ROLE, 0, 4 * KIB, ADDRESS, CONTEXT, 0);
    if (answered === "member") router.dispatch(device.last.request, Outcome.done, 0);
    if (answered === "target") router.dispatch(target.last.request, Outcome.done, 0);
    memberIo.doubtAllUnderWay();
    members.remove(ROLE);
    members.takeOverCopy(8);
    expect([answered, members.rebuild!.isDone(0), members.rebuiltBelowStripe]).toEqual([
      answered,
      false,
      0,
    ]);
  }
});

test("member io: a copied member is lost at rest: its target has it, and nothing of it is durable", () => {
  const { members } = setUpCopy();
  members.remove(ROLE);
  members.takeOverCopy(8);
  const { rebuild, rebuiltBelowStripe, recordedRebuildStripe } = members;
  expect([rebuild!.isDone(0), rebuild!.isDone(1)]).toEqual([true, false]);
  expect([rebuiltBelowStripe, recordedRebuildStripe]).toEqual([0, 0]);
});

test("member io: a copied member needs room for two: without it nothing is started", () => {
  const { table, memberIo, device, target, user } = setUpCopy();
  const writer = user(Content.data);
  while (table.available > 1) table.allocate();
  expect(memberIo.start(writer, Op.write, ROLE, 0, 4 * KIB, ADDRESS, CONTEXT, 0)).toBe(false);
  expect([device.submissions.length, target.submissions.length, table.available]).toEqual([
    0, 0, 1,
  ]);
});
