/**
 * Goal: every answer that libaio can give is judged as the table in io-error.ts says.
 * Method: all errnos from 1 to 133, at completion and from io_submit, for every operation, and
 * every count of bytes in 512-byte steps, against a table written out here by hand.
 */
import { expect, test } from "bun:test";
import { AssertionError } from "../../../src/base/assert.ts";
import {
  classifyCompletion,
  errnoOf,
  OUTCOME_NAMES,
  Outcome,
  submitFailure,
} from "../../../src/block/io-error.ts";
import { OP_NAMES, Op, type OpCode } from "../../../src/reactor/io-table.ts";

type Name = (typeof OUTCOME_NAMES)[number] | "assert";

const OPS = [Op.read, Op.write, Op.flush, Op.discard, Op.writeZeroes];
const REQUEST_BYTES = 16_384;
const ERRNO_MAX = 133;

/** asm-generic numbers; columns: read, write, discard and writeZeroes. Others: member-lost. */
const LISTED: Readonly<Record<number, readonly [Name, Name, Name]>> = {
  4: ["transient", "transient", "transient"], // EINTR
  5: ["media-error", "media-error", "media-error"], // EIO
  9: ["assert", "assert", "assert"], // EBADF
  11: ["transient", "transient", "transient"], // EAGAIN
  12: ["transient", "transient", "transient"], // ENOMEM
  14: ["assert", "assert", "assert"], // EFAULT
  16: ["transient", "transient", "transient"], // EBUSY
  28: ["member-lost", "no-space", "no-space"], // ENOSPC
  52: ["fenced", "fenced", "fenced"], // EBADE
  61: ["media-error", "media-error", "media-error"], // ENODATA
  84: ["media-error", "media-error", "media-error"], // EILSEQ
  95: ["member-lost", "member-lost", "unsupported"], // EOPNOTSUPP
  110: ["timed-out", "timed-out", "timed-out"], // ETIMEDOUT
  121: ["media-error", "media-error", "media-error"], // EREMOTEIO
  122: ["member-lost", "no-space", "no-space"], // EDQUOT
};

function expectedFor(op: OpCode, errno: number, { isRefused }: { isRefused: boolean }): Name {
  const row = LISTED[errno] ?? ["member-lost", "member-lost", "member-lost"];
  if (op === Op.read) return row[0];
  if (op === Op.write) return row[1];
  if (op !== Op.flush) return row[2];
  if (row[1] === "fenced") return "fenced";
  if (!isRefused) return "member-lost";
  return row[1] === "transient" || row[1] === "assert" ? row[1] : "member-lost";
}

function judge(op: OpCode, result: number): Name {
  try {
    return OUTCOME_NAMES[classifyCompletion(op, result, op === Op.flush ? 0 : REQUEST_BYTES)];
  } catch (error) {
    if (error instanceof AssertionError) return "assert";
    throw error;
  }
}

for (const op of OPS) {
  test(`io-error: ${OP_NAMES[op]} completes with each errno: as the table says`, () => {
    for (let errno = 1; errno <= ERRNO_MAX; errno += 1) {
      const expected = expectedFor(op, errno, { isRefused: false });
      expect({ errno, outcome: judge(op, -errno) }).toEqual({ errno, outcome: expected });
    }
  });

  test(`io-error: io_submit refuses a ${OP_NAMES[op]} with each errno: as the table says`, () => {
    for (let errno = 1; errno <= ERRNO_MAX; errno += 1) {
      const expected = expectedFor(op, errno, { isRefused: true });
      const outcome = judge(op, submitFailure(errno));
      expect({ errno, outcome }).toEqual({ errno, outcome: expected });
    }
  });
}

for (const op of OPS.filter((each) => each !== Op.flush)) {
  test(`io-error: ${OP_NAMES[op]} moves each number of bytes: lost, short or done`, () => {
    expect(judge(op, 0)).toBe("member-lost");
    for (let moved = 512; moved < REQUEST_BYTES; moved += 512) {
      expect(judge(op, moved)).toBe("short");
    }
    for (const moved of [1, REQUEST_BYTES - 1]) expect(judge(op, moved)).toBe("short");
    expect(judge(op, REQUEST_BYTES)).toBe("done");
  });

  test(`io-error: ${OP_NAMES[op]} moves more than was asked for: our bug`, () => {
    for (const moved of [REQUEST_BYTES + 1, REQUEST_BYTES + 512, 2 * REQUEST_BYTES]) {
      expect(judge(op, moved)).toBe("assert");
    }
  });
}

test("io-error: 1 MiB asked for and 1048576 answered: done, whatever the number", () => {
  for (let bytes = 4096; bytes <= 64 * 1024 * 1024; bytes *= 2) {
    expect(classifyCompletion(Op.write, bytes, bytes)).toBe(Outcome.done);
    expect(classifyCompletion(Op.read, bytes, bytes)).toBe(Outcome.done);
  }
});

test("io-error: a flush answers 0 or bytes: done, and our bug", () => {
  expect(judge(Op.flush, 0)).toBe("done");
  expect(judge(Op.flush, 1)).toBe("assert");
});

test("io-error: an errno goes through a result and back: the same, and 0 for bytes", () => {
  for (let errno = 1; errno <= 4095; errno += 1) {
    expect(errnoOf(-errno)).toBe(errno);
    expect(errnoOf(submitFailure(errno))).toBe(errno);
  }
  for (const moved of [0, 1, 4096, 1_048_576]) expect(errnoOf(moved)).toBe(0);
});

test("io-error: the names: one per outcome, in the order of the codes", () => {
  expect(Object.values(Outcome)).toEqual(OUTCOME_NAMES.map((_, index) => index as never));
});
