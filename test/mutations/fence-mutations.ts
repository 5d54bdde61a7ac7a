/**
 * Ways to break what happens when another host takes the drives of an array (write-rules 21), and
 * when an entry of a bad-block log is tried again (write-rules 22).
 */
import type { Mutation } from "./mutations.ts";

const LIFE = ["./test/sim/array/fence.test.ts"];
const RULE = 21;
const AGAIN = ["./test/sim/raid5/tried-again.test.ts"];
const LOG = ["./test/unit/md/bad-block-log.test.ts"];
const TRIED_AGAIN = 22;

export const FENCE_MUTATIONS: readonly Mutation[] = [
  {
    name: "a reservation of another host is a lost member",
    rule: RULE,
    file: "src/block/io-error.ts",
    find: "    case EBADE:\n      return Outcome.fenced;\n",
    replace: "",
    test: LIFE,
  },
  {
    name: "what is queued when an array is fenced goes out",
    rule: RULE,
    file: "src/array/drives/drive.ts",
    find: "    this.device.cancelQueuedWrites(EBADE);\n",
    replace: "",
    test: LIFE,
  },
  {
    name: "only the drive that tells of the other host is left alone",
    rule: RULE,
    file: "src/array/running/fence.ts",
    find: "for (const each of core.roster.fence()) {\n    each.shut();",
    replace: "for (const each of core.roster.fence()) {\n    if (each === drive) each.shut();",
    test: LIFE,
  },
  {
    name: "what was read when the array was fenced is served",
    rule: RULE,
    file: "src/raid5/engine.ts",
    find: "if (status === 0 && this.members.isFenced) status = EIO;",
    replace: "",
    test: LIFE,
  },
  {
    name: "each row that a fenced array does not read keeps a buffer",
    rule: RULE,
    file: "src/raid5/rows/row-io.ts",
    find: "return this.parts.members.isPresent(role) && !this.parts.members.isFenced;",
    replace: "return this.parts.members.isPresent(role);",
    test: LIFE,
  },
  {
    name: "members of a fenced array fail",
    rule: RULE,
    file: "src/array/running/roster.ts",
    find: 'if (seat.kind === "fenced" || seat.kind === "faulty") return { seat, effects: [] };',
    replace:
      'if (seat.kind === "fenced") return failed(seat.was, cause);\n  if (seat.kind === "faulty") return { seat, effects: [] };',
    test: LIFE,
  },
  {
    name: "a drive that cannot be seated in a fenced array is told on",
    rule: RULE,
    file: "src/array/running/roster.ts",
    find: "if (this.arriving !== null && !shut.includes(this.arriving)) shut.push(this.arriving);",
    replace: "",
    test: ["./test/sim/array/one-step-late.test.ts", "-t", "ppl: another host"],
  },
  {
    name: "a drive that another host has is missing at the start",
    rule: RULE,
    file: "src/array/start/start.ts",
    find: "const drive = registry.drivesOf(record.uuid).find((drive) => drive.hasToldFence);",
    replace:
      "const drive = registry.drivesOf(record.uuid).find((each) => each.hasToldFence && false);",
    test: LIFE,
  },
  {
    name: "the late answer of a request that was given up does not fence",
    rule: RULE,
    file: "src/block/retry-filter.ts",
    find: "      if (errnoOf(result) === EBADE) this.onFenced();\n",
    replace: "",
    test: ["./test/unit/block/retry-filter.test.ts"],
  },
  {
    name: "an owner gets its answer before the gates are shut",
    rule: RULE,
    file: "src/block/retry-filter.ts",
    find: "    if (outcome === Outcome.fenced) this.onFenced();\n",
    replace:
      "    if (outcome === Outcome.fenced) this.timers.scheduleAfter(0, () => this.onFenced());\n",
    test: ["./test/unit/block/retry-filter.test.ts"],
  },
  {
    name: "an entry of a read error is not tried again",
    rule: TRIED_AGAIN,
    file: "src/raid5/rows/row-cure.ts",
    find: "if (isUnread && (await this.io.loadDoubtful(place, role, rows))) read = withBit(read, role);",
    replace: "if (isUnread && role < 0) read = withBit(read, role);",
    test: AGAIN,
  },
  {
    name: "whatever reads again is believed",
    rule: TRIED_AGAIN,
    file: "src/raid5/rows/row-cure.ts",
    find: "if (isUnread && (await",
    replace: "if (role >= 0 && (await",
    test: AGAIN,
  },
  {
    name: "a rebuilt chunk that was never filled counts as unread",
    rule: TRIED_AGAIN,
    file: "src/raid5/rows/careful-rows.ts",
    find: 'const cause = role === target ? "unwritten" : "unread";',
    replace: 'const cause = role >= 0 ? "unread" : "unwritten";',
    test: AGAIN,
  },
  {
    name: "a row that is written stays on record as unread until it is",
    rule: 8,
    file: "src/raid5/rows/careful-rows.ts",
    find: "      } else if (hasOld) {\n        if (!(await this.record.doubt(place, ownAndParity))) return EIO;",
    replace: "      } else if (hasOld) {",
    test: AGAIN,
  },
  {
    name: "sectors that stay bad count as new errors of their member",
    rule: null,
    file: "src/raid5/members/member-io.ts",
    find: "if (content === Content.doubtful && op === Op.read && outcome === Outcome.mediaError) {",
    replace: "if (role < 0) {",
    test: AGAIN,
  },
  {
    name: "a scrub does not tell what is lost",
    rule: null,
    file: "src/raid5/sync/stripe-sync.ts",
    find: "    findings.lostBytes += bytes;\n",
    replace: "",
    test: AGAIN,
  },
  {
    name: "the list of unread sectors is not kept on disk",
    rule: TRIED_AGAIN,
    file: "src/md/bad-block-log.ts",
    find: "  writeUnreadList(bytes, words.length + 1, wordsOf(log.unreadRanges));\n",
    replace: "",
    test: AGAIN,
  },
  {
    name: "a half written list of unread sectors is believed",
    rule: TRIED_AGAIN,
    file: "src/md/unread-list.ts",
    find: "if (zero !== 0 || checksum !== checksumOf(area.subarray(0, (end - 1) * WORD_BYTES))) return [];",
    replace: "if (zero !== 0) return [];",
    test: LOG,
  },
  {
    name: "another try to read makes an unwritten sector unread",
    rule: TRIED_AGAIN,
    file: "src/md/bad-block-log.ts",
    find: "else if (isNew) this.believe(sector, lengthSectors);",
    replace: "else this.believe(sector, lengthSectors);",
    test: LOG,
  },
  {
    name: "what is not written yet is marked clean for a change",
    rule: null,
    file: "src/array/running/dirty-mark.ts",
    find: "if (this.host.isFailed() || this.host.activeWrites() > 0) return false;",
    replace: "if (this.host.isFailed()) return false;",
    test: ["./test/sim/raid5/no-space.test.ts", "-t", "no room while the policy changes"],
  },
  {
    name: "who lost its role in a swap that is taken back misses two updates",
    rule: 13,
    file: "src/array/running/superblock-writer.ts",
    find: "const writes = [...refused, ...leftOut];",
    replace: "const writes = [...refused];",
    test: ["./test/sim/array/replace.test.ts", "-t", "swap without room is cancelled"],
  },
];
