/**
 * Ways to break the product, each of which a test must notice: the test of the tests.
 *
 * `find` occurs exactly once in `file`; `test` are the words for `bun test`. What is broken is a
 * write rule (src/raid5/README.md) or one of the faults that a storage engine is known for.
 */
export interface Mutation {
  readonly name: string;
  /** The number of the write rule that it breaks; null: none of them. */
  readonly rule: number | null;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  readonly test: readonly string[];
}

const RULES = "./test/sim/rules.test.ts";
const WRITES = "./test/crash/crash-writes.test.ts";
const LIFE = "./test/crash/crash-life.test.ts";
const UPDATES = "./test/crash/superblock-updates.test.ts";

function named(file: string, name: string): readonly string[] {
  return [file, "-t", name];
}

export const MUTATIONS: readonly Mutation[] = [
  // Each flush, one by one.
  {
    name: "no flush before the clean mark",
    rule: 7,
    file: "src/array/dirty-mark.ts",
    find: "const isDurable = (await this.host.flush()) && (await this.host.recordClean());",
    replace: "const isDurable = await this.host.recordClean();",
    test: named(WRITES, "nobody flushes"),
  },
  {
    name: "no flush before the clean mark of a stop",
    rule: 7,
    file: "src/array/dirty-mark.ts",
    find: "if (!(await this.host.flush())) return false;",
    replace: "",
    test: named(LIFE, "stop with writes"),
  },
  {
    name: "in sync before the flush of a rebuild",
    rule: 7,
    file: "src/array/synchronizer.ts",
    find: "if (!(await this.array.engine.flush())) return false;",
    replace: "",
    test: named(LIFE, "rebuild|spare"),
  },
  {
    name: "no flush at the end of a resync",
    rule: 7,
    file: "src/array/synchronizer.ts",
    find: "if (isComplete && this.abortReason === null && (await array.engine.flush())) {\n      const isDurable = await array.record",
    replace:
      "if (isComplete && this.abortReason === null) {\n      const isDurable = await array.record",
    test: named(LIFE, "resync after a crash"),
  },
  {
    name: "no flush before a checkpoint",
    rule: 7,
    file: "src/array/synchronizer.ts",
    find: "if (await array.engine.flush()) {\n      await array.record(() => {",
    replace: "{\n      await array.record(() => {",
    test: named(LIFE, "checkpoints"),
  },
  {
    name: "a client's flush reaches no member",
    rule: 7,
    file: "src/raid5/flusher.ts",
    find: "if (isFailed || !members.isPresent(role) || members.needsFlush[role] === 0) continue;",
    replace: "continue;",
    test: named(WRITES, "a flush beside writes|reconstruct-write"),
  },
  {
    name: "FUA does not reach the members",
    rule: 16,
    file: "src/raid5/stripe-runner.ts",
    find: "table.isFua[request] = ioOp === Op.write ? ops.isFua[op]! : 0;",
    replace: "table.isFua[request] = 0;",
    test: named(WRITES, "FUA"),
  },
  {
    name: "a write does not mark its member for the next flush",
    rule: 16,
    file: "src/raid5/stripe-runner.ts",
    find: "if (ioOp === Op.write && isCurrent) this.members.needsFlush[role] = 1;",
    replace: "",
    test: named(WRITES, "a flush beside writes"),
  },
  {
    name: "what rebuild and resync write does not mark its member",
    rule: 7,
    file: "src/raid5/stripe-sync.ts",
    find: "if (op === Op.write && isCurrent) members.needsFlush[role] = 1;",
    replace: "",
    test: named(LIFE, "checkpoints|a slow resync"),
  },
  {
    name: "superblocks are not durable",
    rule: 13,
    file: "src/array/superblock-writer.ts",
    find: "return this.asyncIo.write(drive.io, range, { isFua: true });",
    replace: "return this.asyncIo.write(drive.io, range, { isFua: false });",
    test: named(LIFE, "create"),
  },
  {
    name: "the bad-block log is not durable",
    rule: 9,
    file: "src/array/bad-blocks.ts",
    find: "const answer = await this.asyncIo.write(this.drive.io, range, { isFua: true });",
    replace: "const answer = await this.asyncIo.write(this.drive.io, range, { isFua: false });",
    test: named(RULES, "rule 9"),
  },
  {
    name: "a curing write is not durable",
    rule: 8,
    file: "src/raid5/row-path.ts",
    find: ": await this.asyncIo.write(device, range, { isFua: true });",
    replace: ": await this.asyncIo.write(device, range, { isFua: false });",
    test: named(RULES, "rule 8"),
  },

  // The order of things.
  {
    name: "data before the dirty mark",
    rule: 7,
    file: "src/array/dirty-mark.ts",
    find: 'this.current = "marking";\n',
    replace: 'this.current = "marking";\n    this.host.openGate();\n',
    test: named(WRITES, "full stripe"),
  },
  {
    name: "acknowledged before parity is written",
    rule: 4,
    file: "src/raid5/stripe-runner.ts",
    find: "this.issue(op, slot, parityRole, Op.write, this.parity.parityAddress(op, slot));",
    replace:
      "this.issue(op, slot, parityRole, Op.write, this.parity.parityAddress(op, slot));\n        ops.pending[op]! -= 1;",
    test: [RULES],
  },
  {
    name: "acknowledged before the lost member is on record",
    rule: 13,
    file: "src/raid5/stripe-runner.ts",
    find: "if (this.host.isRecordPending()) {\n      this.ops.phase[op]",
    replace: "if (Number.isNaN(op)) {\n      this.ops.phase[op]",
    test: named(RULES, "rule 13"),
  },
  {
    name: "buffers given back while their writes are in flight",
    rule: 4,
    file: "src/raid5/stripe-runner.ts",
    find: "ops.writingSinceMs[op] = this.environment.timers.clock.nowMs();",
    replace:
      "ops.writingSinceMs[op] = this.environment.timers.clock.nowMs();\n    const lent = ops.bufferBytes[op]!;\n    this.freeBuffers(op);\n    if (lent < 0) return;",
    test: named(RULES, "rule 4"),
  },
  {
    name: "a payload is given back before its last byte is sent",
    rule: 4,
    file: "src/nbd/outbox.ts",
    find: "if (left < messageBytes) break;",
    replace: "if (left < requests.headerBytes[slot]!) break;",
    test: ["./test/unit/nbd-server.test.ts", "./test/unit/nbd-pressure.test.ts"],
  },
  {
    name: "a client may take all payload memory that is free",
    rule: null,
    file: "src/nbd/transmission.ts",
    find: "return !isAlone && heldBytes * limits.freePayloadShare > freeBytes;",
    replace: "return !isAlone && heldBytes > freeBytes;",
    test: ["./test/unit/nbd-pressure.test.ts"],
  },
  {
    name: "of those in their handshake the last one is dropped",
    rule: null,
    file: "src/nbd/server.ts",
    find: "session.serial < oldest.serial",
    replace: "session.serial > oldest.serial",
    test: ["./test/unit/nbd-server.test.ts"],
  },
  {
    name: "a role is taken for another",
    rule: null,
    file: "src/raid5/geometry.ts",
    find: "const role = parity + 1 + dataIndex;",
    replace:
      "const role = parity + 1 + (dataIndex ^ (this.dataCount > 2 && dataIndex < 2 ? 1 : 0));",
    test: ["./test/unit/geometry.test.ts"],
  },
  {
    name: "the cursor of a rebuild is one stripe ahead",
    rule: null,
    file: "src/raid5/sync-progress.ts",
    find: "if (stripe < this.nextStripe) return true;",
    replace: "if (stripe <= this.nextStripe) return true;",
    test: ["./test/unit/segments.test.ts"],
  },
  {
    name: "the checkpoint of a rebuild is one stripe ahead",
    rule: 7,
    file: "src/array/synchronizer.ts",
    find: "rebuild.cursor * sectorsPerChunk;",
    replace: "(rebuild.cursor + 1) * sectorsPerChunk;",
    test: named(LIFE, "checkpoints"),
  },
  {
    name: "the checkpoint of a resync is one stripe ahead",
    rule: 7,
    file: "src/array/synchronizer.ts",
    find: "resync.cursor * sectorsPerChunk;",
    replace: "(resync.cursor + 1) * sectorsPerChunk;",
    test: named(LIFE, "a slow resync"),
  },
  {
    name: "a check repairs what it finds",
    rule: null,
    file: "src/raid5/stripe-sync.ts",
    find: 'if (found === 0 || mode === "check") return found;',
    replace: "if (found === 0) return found;",
    test: named(RULES, "a check"),
  },
  {
    name: "retries without end",
    rule: null,
    file: "src/block/retry-filter.ts",
    find: "if (tries >= this.limits.transientLimit) {",
    replace: "if (tries > 1000) {",
    test: named(RULES, "retries"),
  },

  // Rows, plans, parity.
  {
    name: "read-modify-write in a row that is not in sync",
    rule: 1,
    file: "src/raid5/plan.ts",
    find: "if (!shape.isInSync) return Strategy.reconstructWrite;",
    replace: "",
    test: named(RULES, "rule 1:"),
  },
  {
    name: "every row counts as in sync",
    rule: 1,
    file: "src/raid5/member-set.ts",
    find: "return this.resync === null || stripe >= this.resyncEnd || this.resync.isDone(stripe);",
    replace: "return true;",
    test: named(RULES, "rule 1:|rule 11"),
  },
  {
    name: "touched rows are widened to their hull",
    rule: 3,
    file: "src/raid5/segments.ts",
    find: "if (this.touched[slot] !== 0) count += 1;",
    replace:
      "if (this.touched[slot] === 0 && count > 0 && index + 2 < this.boundaryCount) {\n        this.toRow[base + count - 1] = toRow;\n      }\n      if (this.touched[slot] !== 0) count += 1;",
    test: named(RULES, "rule 3"),
  },
  {
    name: "the parity of a lost row is not entered as bad",
    rule: 8,
    file: "src/raid5/row-path.ts",
    find: "if (((absent | logged) & (1 << parityRole)) === 0) {",
    replace: "if (absent + logged < 0) {",
    test: named(RULES, "rule 8"),
  },
  {
    name: "an entry is cleared before its row is written",
    rule: 8,
    file: "src/raid5/row-path.ts",
    find: 'const data = await this.move(Op.write, place, role, address);\n    if (data !== "done") return',
    replace:
      'await this.clearBad(place, role);\n    const data = await this.move(Op.write, place, role, address);\n    if (data !== "done") return',
    test: named(RULES, "rule 8"),
  },
  {
    name: "a row that could not be written is not entered",
    rule: 9,
    file: "src/raid5/row-path.ts",
    find: "if (await this.enterBad(place, role)) return true;\n    const offset",
    replace: "if (role >= 0) return true;\n    const offset",
    test: named(RULES, "rule 9"),
  },
  {
    name: "a row without redundancy is answered as written",
    rule: 9,
    file: "src/raid5/row-path.ts",
    find: 'if (data !== "done" && parity !== "done") return EIO;',
    replace: 'if (data !== "done" && parity !== "done") return 0;',
    test: named(RULES, "rule 9"),
  },

  // Requests that are late, members that come and go.
  {
    name: "a drive with a request outstanding is added again",
    rule: 10,
    file: "src/array/member-commands.ts",
    find: "if (drive.outstanding > 0) {",
    replace: "if (drive.outstanding > 1000) {",
    test: named(RULES, "rule 10"),
  },
  {
    name: "a drive with a request outstanding is let go",
    rule: 10,
    file: "src/array/service.ts",
    find: "return drive.outstanding === 0;",
    replace: "return true;",
    test: named(RULES, "rule 10"),
  },
  {
    name: "the buffer of a hung request is used again",
    rule: 10,
    file: "src/block/retry-filter.ts",
    find: "this.pins?.pin(this.table.address[request]!, this.table.bytes[request]!);",
    replace: "",
    test: named(RULES, "rule 10"),
  },
  {
    name: "a read that is late is answered in the same rows",
    rule: 10,
    file: "src/raid5/engine.ts",
    find: "if (errno === ETIMEDOUT) this.late.add({ ...read, hungRole });",
    replace: "if (errno === 0) this.late.add({ ...read, hungRole });",
    test: named(RULES, "rule 10"),
  },
  {
    name: "reconstruction in rows that are not in sync",
    rule: 11,
    file: "src/raid5/row-path.ts",
    find: "if ((unknown & ~(1 << role)) !== 0 || !this.isProven(place)) return false;",
    replace: "if ((unknown & ~(1 << role)) !== 0) return false;",
    test: named(RULES, "rule 11"),
  },
  {
    name: "a resync gives up the parity of a row with a bad sector",
    rule: 8,
    file: "src/raid5/row-path.ts",
    find: "if ((unknown & (1 << bad)) === 0 || !this.members.isPresent(bad)) continue;",
    replace: "if (!this.members.isPresent(bad)) continue;",
    test: named(LIFE, "a bad sector at rest"),
  },
  {
    name: "the lock of a file is not taken",
    rule: 12,
    file: "src/appliance/linux-drive.ts",
    find: "libc.flock",
    replace: "((_fd: number, _how: number) => 0)",
    test: ["./test/unit/helper.test.ts"],
  },
  {
    name: "a superblock that cannot be written fails nobody",
    rule: 13,
    file: "src/array/superblock-writer.ts",
    find: "failedCount += 1;\n      this.host.superblockFailed(drive, answer.errno);",
    replace: "",
    test: named(RULES, "rule 13"),
  },
  {
    name: "a late write fails its member although all are late",
    rule: 14,
    file: "src/array/deadline-watch.ts",
    find: "return drive.stats.inFlight === 0 || drive.stats.lastCompletionMs > sinceMs;",
    replace: "return drive.stats.inFlight >= 0 || drive.stats.lastCompletionMs > sinceMs;",
    test: named(RULES, "rule 14"),
  },
  {
    name: "a late write never fails its member",
    rule: 14,
    file: "src/array/deadline-watch.ts",
    find: "if (writeAgeMs > writeDeadlineMs && this.othersAnswered(drive, writeAgeMs)) {",
    replace: "if (writeAgeMs > writeDeadlineMs * 1000) {",
    test: named(RULES, "rule 14"),
  },
  {
    name: "writes go out although two members are gone",
    rule: 15,
    file: "src/raid5/stripe-runner.ts",
    find: "if (isWrite && (members.isFailed || countBits(unavailable) > 1)) return false;",
    replace: "",
    test: named(RULES, "rule 15"),
  },
  {
    name: "superblocks are written although two members are gone",
    rule: 15,
    file: "src/array/raid-array.ts",
    find: "mayNotWrite: () => this.members.isFailed || this.isReadOnlyStart,",
    replace: "mayNotWrite: () => this.isReadOnlyStart,",
    test: named(RULES, "rule 15"),
  },
  {
    name: "a flush joins the one that is under way",
    rule: 16,
    file: "src/raid5/flusher.ts",
    find: "this.waiting.push(waiter);",
    replace: "(this.isRunning ? this.current : this.waiting).push(waiter);",
    test: named(RULES, "rule 16"),
  },
  {
    name: "parts of rows are sent to the drives",
    rule: 17,
    file: "src/raid5/engine.ts",
    find: "table.bytes[io] = roundUp(inChunk + partBytes, ROW_BYTES) - fromByte;",
    replace: "table.bytes[io] = inChunk + partBytes - fromByte;",
    test: named(RULES, "rule 17"),
  },
  {
    name: "an offset that a 4Kn drive cannot write is accepted",
    rule: 17,
    file: "src/md/assemble-match.ts",
    find: "if (odd === undefined) return null;",
    replace: "if (odd === undefined || blockSectors > 0) return null;",
    test: named("./test/unit/md-assemble.test.ts", "rule 17"),
  },
  {
    name: "io_destroy at the end",
    rule: 18,
    file: "src/reactor/reactor.ts",
    find: "stop(): void {\n    this.isStopped = true;",
    replace:
      "stop(): void {\n    (this.queue as unknown as { kernel: { destroy(): void } }).kernel.destroy();\n    this.isStopped = true;",
    test: named(RULES, "rule 18"),
  },
  {
    name: "a stale superblock is accepted",
    rule: 19,
    file: "src/md/assemble-plan.ts",
    find: "return superblock.events >= freshest.events - 1;",
    replace: "return superblock.events >= freshest.events - 100;",
    test: ["./test/unit/md-assemble.test.ts"],
  },
  {
    name: "a member that the freshest superblock calls faulty is accepted",
    rule: 19,
    file: "src/md/assemble.ts",
    find: "const role = roleOf(freshest.superblock, superblock.devNumber);\n    const claimed",
    replace: "const role = ownRole(candidate);\n    const claimed",
    test: ["./test/unit/md-assemble.test.ts"],
  },
  {
    name: "a member that an update did not reach stays behind",
    rule: 19,
    file: "src/array/start-array.ts",
    find: "if (!plan.isReadOnly && lagging.length > 0) await array.superblocks.catchUp(lagging);",
    replace: "",
    test: [UPDATES],
  },
  {
    name: "dirty and degraded is started",
    rule: null,
    file: "src/md/assemble.ts",
    find: "if (isDirtyAndDegraded && !canReplay && !force) return",
    replace: "if (isDirtyAndDegraded && freshest === null) return",
    test: named(WRITES, "reconstruct-write"),
  },
];
