/**
 * Goal: an array is started from exactly the members that hold its data, or refused with its own
 * reason, in a sentence that says what to do.
 *
 * Method: each refusal once, by a table of changes to a clean array, and each change that md takes;
 * events, spares, rebuilding members and force by hand-made sets. (Crashes and partial starts are
 * enumerated in unit/md/assemble-history.test.ts.)
 */
import { describe, expect, test } from "bun:test";
import { AssertionError } from "../../../src/base/assert.ts";
import {
  type AssemblyRefusalKind,
  type Candidate,
  judgeAssembly,
} from "../../../src/md/assemble/assemble.ts";
import { Feature, Role, type Superblock } from "../../../src/md/superblock.ts";
import {
  changed,
  drawn,
  judged,
  refused,
  rolesWithout,
  type TestMemberOptions,
  testCandidate,
  testCandidates,
  testSuperblock,
} from "../../helpers/md-members.ts";

/** A clean array in which device `index` has other fields. */
function withChange(index: number, fields: Partial<Superblock>): Candidate[] {
  return testCandidates().with(index, changed(testCandidates()[index]!, fields));
}

function onAll(fields: Partial<Superblock>, options = {}): Candidate[] {
  return testCandidates(options).map((candidate) => changed(candidate, fields));
}

const FULL = testSuperblock(0);

/** Devices 0 to 2, and d3, which is to replace d1: `all` changes every one, `target` d3 alone. */
function replacing(
  all: Partial<Superblock>,
  target: Partial<Superblock>,
  options: TestMemberOptions = {},
): Candidate[] {
  const devRoles = FULL.devRoles.with(3, 1);
  const drives = [...testCandidates(options), testCandidate(testSuperblock(3, options))];
  const listed = drives.map((candidate) => changed(candidate, { devRoles, ...all }));
  return listed.with(3, changed(listed[3]!, { otherFeatures: Feature.replacement, ...target }));
}

function twoReplacements(): Candidate[] {
  const devRoles = FULL.devRoles.with(3, 1).with(4, 1);
  const fields = { devRoles, otherFeatures: Feature.replacement, recoveryOffsetSectors: 0 };
  const drives = replacing({ devRoles }, fields);
  return [...drives, changed(testCandidate(testSuperblock(4)), fields)];
}

test("assemble: a complete clean array, in any order: all in sync", () => {
  const [a, b, c] = testCandidates() as [Candidate, Candidate, Candidate];
  for (const order of [
    [a, b, c],
    [c, a, b],
    [b, c, a],
    [c, b, a],
  ]) {
    const plan = judged(order);
    expect(plan.roles.map((role) => (role.state === "missing" ? null : role.drive))).toEqual([
      "d0",
      "d1",
      "d2",
    ]);
    expect(plan).toMatchObject({
      degraded: 0,
      resyncFromSector: null,
      events: 100,
    });
    expect(plan).toMatchObject({ policy: "resync", isForced: false, stale: [], faulty: [] });
  }
});

test("assemble: each member missing: degraded, clean", () => {
  for (const [index, expected] of [".AA", "A.A", "AA."].entries()) {
    const plan = judged(testCandidates().toSpliced(index, 1));
    expect([drawn(plan), plan.degraded]).toEqual([expected, 1]);
  }
});

const REFUSED: readonly (readonly [string, AssemblyRefusalKind, string, Candidate[]])[] = [
  ["reshape", "unsupported", "reshape", onAll({ otherFeatures: Feature.reshape })],
  [
    "reshape backwards",
    "unsupported",
    "reshape",
    onAll({ otherFeatures: Feature.reshapeBackwards }),
  ],
  [
    "new data offset",
    "unsupported",
    "reshape",
    withChange(1, { otherFeatures: Feature.newOffset }),
  ],
  ["journal bit", "unsupported", "journal", onAll({ otherFeatures: Feature.journal })],
  [
    "a journal device alone",
    "unsupported",
    "journal",
    [changed(testCandidates()[0]!, { devRoles: FULL.devRoles.with(0, Role.journal) })],
  ],
  ["two replacements of one role", "duplicate-member", "d3 and d4", twoReplacements()],
  [
    "dirty with a replacement alone",
    "dirty-and-degraded",
    "role 1",
    replacing({ resyncOffsetSectors: 0 }, { recoveryOffsetSectors: 4096 }).toSpliced(1, 1),
  ],
  ["cluster", "unsupported", "cluster", onAll({ otherFeatures: Feature.clustered })],
  ["level 4", "unsupported", "level 4", onAll({ level: 4 })],
  ["level 6", "unsupported", "level 6", onAll({ level: 6 })],
  ["chunk of 2 KiB", "bad-geometry", "chunk of 4 sectors", onAll({ chunkSectors: 4 })],
  ["chunk of 96 KiB", "bad-geometry", "chunk of 192", onAll({ chunkSectors: 192 })],
  ["chunk of 0", "bad-geometry", "chunk of 0", onAll({ chunkSectors: 0 })],
  ["layout 6", "bad-geometry", "layout 6", onAll({ layout: 6 })],
  ["layout 16", "bad-geometry", "layout 16", onAll({ layout: 16 })],
  ["1 member", "bad-geometry", "1 members", onAll({ memberCount: 1 })],
  ["more members than roles", "bad-geometry", "2000 members", onAll({ memberCount: 2000 })],
  ["no whole chunk", "bad-geometry", "size of 127", onAll({ sizeSectors: 127 })],
  ["a size beyond 2^53", "bad-geometry", "bytes", onAll({ sizeSectors: 2 ** 44 - 128 })],
  [
    "another creation time",
    "superblocks-differ",
    "creation time",
    withChange(1, { createdAt: { seconds: 1, microseconds: 0 } }),
  ],
  [
    "another creation time, stale",
    "superblocks-differ",
    "creation time",
    withChange(1, { createdAt: { seconds: 1, microseconds: 0 }, events: 7 }),
  ],
  [
    "creation times a microsecond apart",
    "superblocks-differ",
    "creation time",
    withChange(2, { createdAt: { seconds: 1_800_000_000, microseconds: 125_001 } }),
  ],
  ["another level", "unsupported", "level 1", withChange(1, { level: 1 })],
  ["another layout", "superblocks-differ", "left-asymmetric", withChange(1, { layout: 0 })],
  ["another chunk", "superblocks-differ", "chunk", withChange(2, { chunkSectors: 64 })],
  [
    "another member count",
    "superblocks-differ",
    "number of members",
    withChange(1, { memberCount: 4 }),
  ],
  ["another size", "superblocks-differ", "size", withChange(1, { sizeSectors: 1280 })],
  [
    "another policy",
    "superblocks-differ",
    "policy",
    withChange(1, { log: { kind: "bitmap", offsetSectors: 8 } }),
  ],
  ["too small", "member-too-small", "Drive d1", withChange(1, { dataSizeSectors: 1280 })],
  [
    "one role twice",
    "duplicate-member",
    "d1 and copy",
    [...testCandidates(), testCandidate(testSuperblock(1), "copy")],
  ],
  [
    "two devices of one role",
    "duplicate-member",
    "d1 and d2",
    onAll({ devRoles: FULL.devRoles.with(2, 1) }),
  ],
  [
    "a role that the others give otherwise",
    "superblocks-differ",
    "role is 0",
    withChange(2, { events: 99, devRoles: FULL.devRoles.with(2, 0).with(0, 2) }),
  ],
  ["one of three", "too-few-members", "roles 0 (missing), 2 (missing)", [testCandidates()[1]!]],
  ["spares alone", "too-few-members", "spares", [testCandidate(testSuperblock(3), "s")]],
  [
    "two rebuilding",
    "too-few-members",
    "rebuilding",
    onAll({ recoveryOffsetSectors: 128 }).with(0, testCandidates()[0]!),
  ],
  [
    "dirty with a member missing",
    "dirty-and-degraded",
    "role 2",
    onAll({ resyncOffsetSectors: 0 }).slice(0, 2),
  ],
  [
    "dirty with a member rebuilding",
    "dirty-and-degraded",
    "role 1",
    onAll({ resyncOffsetSectors: 0 }).with(
      1,
      changed(testCandidates()[1]!, { resyncOffsetSectors: 0, recoveryOffsetSectors: 128 }),
    ),
  ],
  [
    "half resynced with a member missing",
    "dirty-and-degraded",
    "sector 4096",
    onAll({ resyncOffsetSectors: 4096 }).slice(1),
  ],
  [
    "ppl, first resync unfinished, a member missing (rule 6)",
    "dirty-and-degraded",
    "sector 4096",
    onAll({ resyncOffsetSectors: 4096 }, { policy: "ppl" }).slice(1),
  ],
];

test.each(REFUSED)("assemble: %s: refused as %s, says %s", (_, kind, words, candidates) => {
  const error = refused(candidates);
  expect(error.kind).toBe(kind);
  expect(error.detail).toContain(words);
});

const NOT_FORCED: readonly AssemblyRefusalKind[] = [
  "unsupported",
  "bad-geometry",
  "superblocks-differ",
  "member-too-small",
  "duplicate-member",
];

test.each(REFUSED.filter(([, kind]) => NOT_FORCED.includes(kind)))(
  "assemble: %s, forced: still refused as %s",
  (_, kind, _words, candidates) => {
    expect(refused(candidates, true).kind).toBe(kind);
  },
);

test("assemble: rule 17: an offset that a 4Kn drive cannot write: refused there only", () => {
  const odd = withChange(1, { dataOffsetSectors: 2052 });
  expect(judged(odd).degraded).toBe(0);
  const on4Kn = odd.map((candidate) => ({ ...candidate, logicalBlockBytes: 4096 }));
  expect(refused(on4Kn)).toMatchObject({ kind: "misaligned", drives: ["d1"] });
  const ppl = onAll({ log: { kind: "ppl", offsetSectors: 9, sizeSectors: 8, isMultiple: false } });
  const error = refused(ppl.map((candidate) => ({ ...candidate, logicalBlockBytes: 4096 })));
  expect(error.detail).toContain("partial parity log");
});

test("assemble: what md accepts: another name, data offset or device uuid on a member", () => {
  const uuid = testCandidates()[0]!.superblock.deviceUuid;
  expect(judged(withChange(1, { setNameBytes: new Uint8Array(32) })).degraded).toBe(0);
  expect(judged(withChange(1, { dataOffsetSectors: 4095 })).degraded).toBe(0);
  expect(judged(withChange(1, { deviceUuid: uuid })).degraded).toBe(0);
});

test("assemble: a role at device number 100: found there", () => {
  const devRoles = FULL.devRoles.with(1, Role.spare).with(100, 1);
  const candidates = onAll({ devRoles });
  expect(drawn(judged(candidates.with(1, changed(candidates[1]!, { devNumber: 100 }))))).toBe(
    "AAA",
  );
});

test("assemble: two members: one alone is degraded", () => {
  expect(drawn(judged(testCandidates({ memberCount: 2 }).slice(1)))).toBe(".A");
});

describe("events", () => {
  test("assemble: a member one event behind: current; two behind: stale and named", () => {
    expect(drawn(judged(withChange(1, { events: 99 })))).toBe("AAA");
    const plan = judged(withChange(1, { events: 98 }));
    expect(drawn(plan)).toBe("A.A");
    expect(plan.stale.map(({ drive }) => drive)).toEqual(["d1"]);
  });

  test("assemble: one event behind but marked in the freshest: not used", () => {
    for (const mark of [Role.faulty, Role.spare]) {
      const fresh = onAll({ devRoles: FULL.devRoles.with(1, mark) });
      const plan = judged(fresh.with(1, changed(testCandidates()[1]!, { events: 99 })));
      expect(drawn(plan)).toBe("A.A");
      const list = mark === Role.faulty ? plan.faulty : plan.stale;
      expect(list.map(({ drive }) => drive)).toEqual(["d1"]);
    }
  });

  test("assemble: a clone that went stale: the current one is used, the clone named", () => {
    const clone = changed(testCandidate(testSuperblock(1), "clone"), { events: 90 });
    const plan = judged([...testCandidates(), clone]);
    expect([drawn(plan), plan.stale.map(({ drive }) => drive)]).toEqual(["AAA", ["clone"]]);
  });

  test("assemble: superblocks at one event, clean and dirty: dirty", () => {
    expect(judged(withChange(2, { resyncOffsetSectors: 640 })).resyncFromSector).toBe(640);
  });
});

describe("spares", () => {
  test("assemble: a spare at any event: a spare, and its events do not decide", () => {
    for (const events of [3, 100, 101, 5000]) {
      const spare = changed(testCandidate(testSuperblock(3), "s"), { events });
      const plan = judged([spare, ...testCandidates()]);
      expect([drawn(plan), plan.events, plan.spares.map(({ drive }) => drive)]).toEqual([
        "AAA",
        100,
        ["s"],
      ]);
    }
  });

  test("assemble: a spare that was away, its number given to another: that one, in any order", () => {
    const current = testCandidate(testSuperblock(3), "new");
    const away = changed(testCandidate(testSuperblock(3), "old"), { events: 90 });
    for (const spares of [
      [current, away],
      [away, current],
    ]) {
      const plan = judged([...spares, ...testCandidates()]);
      expect(plan.spares.map(({ drive }) => drive)).toEqual(["new"]);
      expect(plan.stale.map(({ drive }) => drive)).toEqual(["old"]);
    }
  });

  test("assemble: a spare that the others list with a role: rebuilds from the start", () => {
    const devRoles = FULL.devRoles.with(1, Role.faulty).with(3, 1);
    const spare = changed(testCandidate(testSuperblock(3), "s"), { events: 99 });
    const plan = judged([...onAll({ devRoles }).toSpliced(1, 1), spare]);
    expect(drawn(plan)).toBe("ARA");
    expect(plan.roles[1]).toMatchObject({ drive: "s", recoveryOffsetSectors: 0 });
  });

  test("assemble: a member in rebuild: from its own checkpoint, never beyond the member", () => {
    const plan = judged(withChange(2, { recoveryOffsetSectors: 20_480 }));
    expect([drawn(plan), plan.degraded]).toEqual(["AAR", 1]);
    expect(plan.roles[2]).toMatchObject({ recoveryOffsetSectors: 20_480 });
    const beyond = judged(withChange(2, { recoveryOffsetSectors: 2 ** 40 }));
    expect(beyond.roles[2]).toMatchObject({ recoveryOffsetSectors: FULL.sizeSectors });
  });

  test("assemble: a rebuild by bitmap: starts over, without its bit", () => {
    const fields = { recoveryOffsetSectors: 20_480, otherFeatures: Feature.recoveryBitmap };
    expect(judged(withChange(2, fields)).roles[2]).toMatchObject({
      recoveryOffsetSectors: 0,
      superblock: { otherFeatures: 0 },
    });
  });
});

describe("a replacement", () => {
  const HALF = { recoveryOffsetSectors: 4096 };
  const ALL = { recoveryOffsetSectors: FULL.sizeSectors };
  const dirty = { resyncOffsetSectors: 0 };

  test("assemble: a member and its replacement: whole, and it goes on from its checkpoint", () => {
    const drives = replacing({}, HALF);
    for (const order of [drives, drives.toReversed()]) {
      const plan = judged(order);
      expect([drawn(plan), plan.degraded, plan.spares]).toEqual(["AAA", 0, []]);
      const replacement = { drive: "d3", recoveryOffsetSectors: 4096 };
      expect(plan.roles[1]).toMatchObject({ state: "in-sync", drive: "d1", replacement });
      expect(plan.roles[0]).toMatchObject({ replacement: null });
    }
    const beyond = judged(replacing({}, { recoveryOffsetSectors: 2 ** 40 }));
    const replacement = { recoveryOffsetSectors: FULL.sizeSectors };
    expect(beyond.roles[1]).toMatchObject({ replacement });
  });

  test("assemble: both are called in sync: the member serves, the copy begins anew", () => {
    const replacement = { drive: "d3", recoveryOffsetSectors: 0 };
    const both = replacing({}, { recoveryOffsetSectors: null });
    expect(judged(both).roles[1]).toMatchObject({ drive: "d1", replacement });
  });

  test.each(["resync", "bitmap", "ppl"] as const)(
    "assemble: a member and its replacement, dirty, %s: whole, the copy begins anew",
    (policy) => {
      const plan = judged(replacing(dirty, HALF, { policy }));
      expect([drawn(plan), plan.resyncFromSector, plan.isForced]).toEqual(["AAA", 0, false]);
      const replacement = { drive: "d3", recoveryOffsetSectors: 0 };
      expect(plan.roles[1]).toMatchObject({ drive: "d1", replacement });
    },
  );

  test("assemble: a replacement one event behind is current, two behind it is left out", () => {
    const behind = judged(replacing({}, { ...HALF, events: 99 }));
    expect(behind.roles[1]).toMatchObject({ replacement: { drive: "d3" } });
    const plan = judged(replacing({}, { ...HALF, events: 98 }));
    expect([drawn(plan), plan.stale.map(({ drive }) => drive)]).toEqual(["AAA", ["d3"]]);
    expect(plan.roles[1]).toMatchObject({ drive: "d1", replacement: null });
  });

  test("assemble: a replacement that is faulty or no longer listed: left out", () => {
    for (const mark of [Role.faulty, Role.spare]) {
      const drives = replacing({ devRoles: FULL.devRoles.with(3, mark) }, {});
      const own = { devRoles: FULL.devRoles.with(3, 1), events: 99, ...HALF };
      const plan = judged(drives.with(3, changed(drives[3]!, own)));
      expect(plan.roles[1]).toMatchObject({ drive: "d1", replacement: null });
      const list = mark === Role.faulty ? plan.faulty : plan.stale;
      expect([drawn(plan), list.map(({ drive }) => drive)]).toEqual(["AAA", ["d3"]]);
    }
  });

  test("assemble: a replacement alone, its member listed: rebuilds from its checkpoint", () => {
    for (const [target, from] of [
      [HALF, 4096],
      [ALL, FULL.sizeSectors],
      [{ recoveryOffsetSectors: null }, 0],
    ] as const) {
      const plan = judged(replacing({}, target).toSpliced(1, 1));
      expect([drawn(plan), plan.degraded]).toEqual(["ARA", 1]);
      const rebuilding = { recoveryOffsetSectors: from };
      expect(plan.roles[1]).toMatchObject({ drive: "d3", ...rebuilding });
    }
  });

  test("assemble: a replacement alone, its member stale: the same, and the member is named", () => {
    const drives = replacing({}, HALF);
    const plan = judged(drives.with(1, changed(drives[1]!, { events: 90 })));
    expect([drawn(plan), plan.stale.map(({ drive }) => drive)]).toEqual(["ARA", ["d1"]]);
    expect(plan.roles[1]).toMatchObject({ drive: "d3", recoveryOffsetSectors: 4096 });
  });

  test("assemble: a replacement alone, its member failed: rebuilds, and nobody is waited for", () => {
    const devRoles = FULL.devRoles.with(1, Role.faulty).with(3, 1);
    const plan = judged(replacing({ devRoles }, HALF));
    expect([drawn(plan), plan.faulty.map(({ drive }) => drive)]).toEqual(["ARA", ["d1"]]);
    expect(plan.roles[1]).toMatchObject({ drive: "d3" });
  });

  test("assemble: a full replacement whose swap was cut short: in sync, the member is left out", () => {
    const devRoles = FULL.devRoles.with(1, Role.faulty).with(3, 1);
    const before = { devRoles: FULL.devRoles.with(3, 1), events: 99 };
    for (const last of [ALL, { ...ALL, ...before }]) {
      const drives = replacing({ devRoles }, last);
      // The update that swaps the two has reached all but the member, and maybe the target.
      const plan = judged(drives.with(1, changed(drives[1]!, before)));
      expect([drawn(plan), plan.degraded]).toEqual(["AAA", 0]);
      expect(plan.roles[1]).toMatchObject({ drive: "d3", replacement: null });
      expect(plan.faulty.map(({ drive }) => drive)).toEqual(["d1"]);
    }
  });

  test("assemble: Linux's swap between its two updates, clean and dirty: in sync", () => {
    const devRoles = FULL.devRoles.with(1, Role.faulty).with(3, 1);
    const swapped = { recoveryOffsetSectors: null };
    for (const fields of [{ devRoles }, { devRoles, ...dirty }]) {
      const drives = replacing(fields, swapped);
      for (const present of [drives, drives.toSpliced(1, 1)]) {
        const plan = judged(present);
        expect([drawn(plan), plan.isForced]).toEqual(["AAA", false]);
        expect(plan.roles[1]).toMatchObject({ drive: "d3", replacement: null });
      }
    }
  });

  test("assemble: a dirty replacement alone: with ppl from the start, else only by force", () => {
    const log = judged(replacing(dirty, HALF, { policy: "ppl" }).toSpliced(1, 1));
    expect([drawn(log), log.isForced]).toEqual(["ARA", false]);
    expect(log.roles[1]).toMatchObject({ drive: "d3", recoveryOffsetSectors: 0 });
    const forced = judged(replacing(dirty, HALF).toSpliced(1, 1), true);
    expect([drawn(forced), forced.isForced]).toEqual(["ARA", true]);
    expect(forced.roles[1]).toMatchObject({ drive: "d3", recoveryOffsetSectors: 4096 });
  });

  test("assemble: a replacement is not forced into a role, nor helps a second lost member", () => {
    const drives = replacing({}, HALF);
    expect(refused([drives[0]!, drives[3]!], true).kind).toBe("too-few-members");
    const stale = changed(drives[3]!, { events: 90 });
    expect(refused([drives[0]!, stale], true).kind).toBe("too-few-members");
  });
});

describe("dirty and degraded", () => {
  const dirty = { resyncOffsetSectors: 0 };

  test("assemble: dirty and complete: resync from where it was", () => {
    expect(judged(onAll(dirty))).toMatchObject({ resyncFromSector: 0, degraded: 0 });
  });

  test("assemble: dirty and degraded with ppl: taken, to be replayed", () => {
    const plan = judged(onAll(dirty, { policy: "ppl" }).slice(1));
    expect(plan).toMatchObject({
      policy: "ppl",
      resyncFromSector: 0,
      degraded: 1,
      isForced: false,
    });
  });

  test.each(["resync", "bitmap"] as const)(
    "assemble: dirty and degraded with %s: only by force",
    (policy) => {
      const rest = onAll(dirty, { policy }).slice(1);
      expect(refused(rest)).toMatchObject({ kind: "dirty-and-degraded" });
      expect(judged(rest, true)).toMatchObject({ policy, isForced: true, stale: [], faulty: [] });
    },
  );

  test("assemble: a clean or complete array with force: not marked as forced", () => {
    expect(judged(testCandidates().slice(1), true).isForced).toBe(false);
    expect(judged(onAll(dirty), true).isForced).toBe(false);
  });
});

describe("force with stale members", () => {
  test("assemble: two members lost one after the other: the one that left last is taken", () => {
    const devRoles = rolesWithout(FULL, 1, 2);
    const [a, b, c] = testCandidates() as [Candidate, Candidate, Candidate];
    const set = [
      changed(a, { events: 140, devRoles }),
      changed(b, { events: 90 }),
      changed(c, { events: 120, devRoles: rolesWithout(FULL, 1) }),
    ];
    const error = refused(set);
    expect(error).toMatchObject({ kind: "too-few-members", drives: ["d1", "d2"] });
    expect(error.detail).toContain("d2 at event 120");
    const plan = judged(set, true);
    expect([drawn(plan), plan.isForced]).toEqual(["A.A", true]);
    expect(plan.roles[2]).toMatchObject({ drive: "d2" });
    expect(plan.stale.map(({ drive }) => drive)).toEqual(["d1"]);
  });

  test("assemble: the stale member was rebuilding, or has another geometry: not taken", () => {
    const [a, , c] = testCandidates() as [Candidate, Candidate, Candidate];
    const fresh = changed(a, { events: 140, devRoles: rolesWithout(FULL, 1, 2) });
    const rebuilding = changed(c, { recoveryOffsetSectors: 0 });
    expect(refused([fresh, rebuilding], true).kind).toBe("too-few-members");
    expect(refused([fresh, changed(c, { chunkSectors: 64 })], true).kind).toBe("too-few-members");
  });
});

test("assemble: no drive, or drives of two arrays: asserted", () => {
  expect(() => judgeAssembly([], { force: false })).toThrow(AssertionError);
  const other = withChange(1, { arrayUuid: "ffffffff:ffffffff:ffffffff:ffffffff" });
  expect(() => judgeAssembly(other, { force: false })).toThrow(AssertionError);
});
