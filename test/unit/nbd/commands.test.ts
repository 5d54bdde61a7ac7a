/**
 * Goal: a request is refused with the right error, or may run; an array's errno becomes one of the
 * eight that NBD knows.
 * Method: commands, flags, ranges and errnos enumerated against a second statement of the rules.
 */
import { expect, test } from "bun:test";
import {
  EACCES,
  EDQUOT,
  EFBIG,
  EINVAL,
  EIO,
  ENODEV,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  EROFS,
  ESHUTDOWN,
  ETIMEDOUT,
} from "../../../src/base/errno.ts";
import { MIB } from "../../../src/base/units.ts";
import { judgeRequest, type Negotiated, wireError } from "../../../src/nbd/commands.ts";
import { Command, CommandFlag, type RequestHeader } from "../../../src/nbd/wire-format.ts";

const SIZE = 100 * MIB;
const NEGOTIATED: Negotiated = {
  sizeBytes: SIZE,
  isReadOnly: false,
  isStructured: true,
  hasAllocationContext: true,
  hasFastZero: true,
  maxRequestBytes: 32 * MIB,
};

function judge(header: Partial<RequestHeader>, negotiated: Partial<Negotiated> = {}): number {
  const full = { isMagicRight: true, flags: 0, command: 0, offset: 0, bytes: 4096, ...header };
  return judgeRequest(full, { ...NEGOTIATED, ...negotiated });
}

test("commands: every number and every flag: only what is offered may run", () => {
  const { fua, dontFragment, requestOne, noHole, fastZero } = CommandFlag;
  const allowed = new Map<number, number>([
    [Command.read, fua | dontFragment],
    [Command.write, fua],
    [Command.flush, fua],
    [Command.cache, fua],
    [Command.trim, fua],
    [Command.writeZeroes, fua | noHole | fastZero],
    [Command.blockStatus, fua | requestOne],
  ]);
  for (let command = 0; command < 16; command += 1) {
    if (command === Command.disconnect) continue;
    for (let bit = 0; bit < 16; bit += 1) {
      const flags = 1 << bit;
      const bytes = command === Command.flush ? 0 : 4096;
      const mask = allowed.get(command);
      const expected = mask !== undefined && (flags & mask) !== 0 ? 0 : EINVAL;
      expect([command, flags, judge({ command, flags, bytes })]).toEqual([
        command,
        flags,
        expected,
      ]);
    }
    const bytes = command === Command.flush ? 0 : 4096;
    expect(judge({ command, bytes })).toBe(allowed.has(command) ? 0 : EINVAL);
  }
  expect(judge({ command: 65_535 })).toBe(EINVAL);
});

test("commands: ranges around the end: ENOSPC for a write, EINVAL for the rest", () => {
  const ranges: [number, number, boolean][] = [
    [0, 0, true],
    [0, 1, true],
    [SIZE - 1, 1, true],
    [SIZE, 0, true],
    [SIZE, 1, false],
    [SIZE - 1, 2, false],
    [SIZE + 1, 0, false],
    [Number.MAX_SAFE_INTEGER, 32 * MIB, false],
    [Number.POSITIVE_INFINITY, 0, false],
    [Number.POSITIVE_INFINITY, 1, false],
  ];
  for (const [offset, bytes, isInside] of ranges) {
    expect(judge({ command: Command.read, offset, bytes })).toBe(isInside ? 0 : EINVAL);
    expect(judge({ command: Command.cache, offset, bytes })).toBe(isInside ? 0 : EINVAL);
    expect(judge({ command: Command.trim, offset, bytes })).toBe(isInside ? 0 : EINVAL);
    for (const command of [Command.write, Command.writeZeroes]) {
      expect(judge({ command, offset, bytes })).toBe(isInside ? 0 : ENOSPC);
    }
    const hasExtent = isInside && bytes > 0;
    expect(judge({ command: Command.blockStatus, offset, bytes })).toBe(hasExtent ? 0 : EINVAL);
  }
});

test("commands: too long: EINVAL with payload, fine without", () => {
  for (const command of [Command.read, Command.write]) {
    expect(judge({ command, bytes: 32 * MIB })).toBe(0);
    expect(judge({ command, bytes: 32 * MIB + 1 })).toBe(EINVAL);
  }
  const { cache, blockStatus, trim, writeZeroes } = Command;
  for (const command of [cache, blockStatus, trim, writeZeroes]) {
    expect(judge({ command, bytes: SIZE })).toBe(0);
  }
});

test("commands: what was not negotiated: EINVAL; read-only: writes EPERM", () => {
  const flags = CommandFlag.dontFragment;
  expect(judge({ command: Command.read, flags }, { isStructured: false })).toBe(EINVAL);
  const without = { hasAllocationContext: false };
  expect(judge({ command: Command.blockStatus }, without)).toBe(EINVAL);
  const fastZero = { command: Command.writeZeroes, flags: CommandFlag.fastZero };
  expect(judge(fastZero)).toBe(0);
  expect(judge(fastZero, { hasFastZero: false })).toBe(EINVAL);
  const readOnly = { isReadOnly: true };
  for (const command of [Command.trim, Command.writeZeroes]) {
    expect(judge({ command }, readOnly)).toBe(EPERM);
    expect(judge({ command, bytes: 0 }, readOnly)).toBe(EPERM);
  }
  expect(judge({ command: Command.write }, readOnly)).toBe(EPERM);
  expect(judge({ command: Command.write, bytes: 0 }, readOnly)).toBe(EPERM);
  expect(judge({ command: Command.read }, readOnly)).toBe(0);
  expect(judge({ command: Command.flush, bytes: 0 }, readOnly)).toBe(0);
});

test("commands: flush with a range: EINVAL, its fields are reserved", () => {
  expect(judge({ command: Command.flush, bytes: 0 })).toBe(0);
  expect(judge({ command: Command.flush, bytes: 1 })).toBe(EINVAL);
  expect(judge({ command: Command.flush, bytes: 0, offset: 512 })).toBe(EINVAL);
});

test("errors: every errno up to 200: one of the eight of the protocol", () => {
  const mapped = new Map<number, number>([
    [EPERM, EPERM],
    [EACCES, EPERM],
    [EROFS, EPERM],
    [ENOMEM, ENOMEM],
    [EINVAL, EINVAL],
    [ENOSPC, ENOSPC],
    [EDQUOT, ENOSPC],
    [EFBIG, ENOSPC],
    [EOVERFLOW, EOVERFLOW],
    [EOPNOTSUPP, EOPNOTSUPP],
    [ESHUTDOWN, ESHUTDOWN],
  ]);
  for (let errno = 1; errno < 200; errno += 1)
    expect(wireError(errno)).toBe(mapped.get(errno) ?? EIO);
  expect(wireError(0)).toBe(0);
  expect([EIO, ENODEV, ETIMEDOUT].map(wireError)).toEqual([EIO, EIO, EIO]);
});
