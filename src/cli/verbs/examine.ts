/** `parityd examine FILE...`: what a member says of itself. Plain reads, no daemon, no writes. */
import { closeSync, constants, openSync, readSync, type Stats, statSync } from "node:fs";
import { findSignature, PROBE_BYTES } from "../../appliance/helper/signatures.ts";
import { createMemory } from "../../base/memory.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { examineMember, type MemberReport, renderMember } from "../../md/examine/member.ts";
import type { Crc32c } from "../../md/ppl.ts";
import type { Superblock } from "../../md/superblock.ts";
import { createParityKernels } from "../../parity/kernels.ts";
import { Geometry } from "../../raid5/geometry.ts";
import { fail } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { Exit } from "../exit.ts";
import { tell } from "../tell.ts";

export const examineCommand: CommandSpec = {
  path: ["examine"],
  isVerbatim: true,
  summary: "Print superblock, bitmap, bad blocks and partial parity log of members",
  examples: ["parityd examine /dev/sdb /dev/sdc"],
  answers: ["parityd.examine/1"],
  operands: [{ name: "FILE", many: true, names: "files" }],
  options: {},
  run: (invocation, host) => {
    let exitCode: number = Exit.ok;
    const crc32c = lazyCrc32c();
    const say = (message: string): void => {
      exitCode = fail(host, { exitCode: Exit.failed, message });
    };
    for (const path of invocation.operands) {
      const report = readMember(path, crc32c);
      if (!report.ok) {
        say(`${path}: ${report.error}`);
        continue;
      }
      const { value } = report;
      const lines = (): readonly string[] => [renderMember(value)];
      tell(invocation, host, { schema: "parityd.examine/1", value, lines });
      for (const problem of value.problems) say(`${path}: ${problem}`);
    }
    return exitCode;
  },
};

function readMember(path: string, crc32c: Crc32c): Result<MemberReport, string> {
  let fd: number | null = null;
  try {
    const status = statSync(path);
    const stranger = strangerName(status);
    if (stranger !== null) return err(`it is ${stranger}: name a drive, or a file that is one.`);
    // Should a pipe have taken its place since: nobody may ever write to that.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const device = fd;
    const deviceBytes = status.isFile() ? status.size : deviceSize(device);
    const read = (offset: number, bytes: number): Result<Uint8Array, string> => {
      return ok(readAt(device, offset, bytes));
    };
    const report = examineMember({ path, deviceBytes, read, crc32c, geometryOf });
    if (report.ok) return report;
    const signature = signatureOf(device, deviceBytes);
    return signature === null ? report : err(`${report.error} It holds ${signature}.`);
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** Fewer bytes where the device ends. */
function readAt(fd: number, offset: number, bytes: number): Uint8Array {
  const buffer = new Uint8Array(bytes);
  let count = 0;
  while (count < bytes) {
    const step = readSync(fd, buffer, count, bytes - count, offset + count);
    if (step === 0) break;
    count += step;
  }
  return buffer.subarray(0, count);
}

function signatureOf(fd: number, sizeBytes: number): string | null {
  const tailOffset = Math.max(0, sizeBytes - PROBE_BYTES);
  const head = readAt(fd, 0, PROBE_BYTES);
  const tail = readAt(fd, tailOffset, PROBE_BYTES);
  return findSignature({ sizeBytes, head, tail, tailOffset });
}

function geometryOf({ memberCount, chunkSectors, layout, sizeSectors }: Superblock): Geometry {
  return new Geometry({
    memberCount,
    chunkBytes: chunkSectors * SECTOR_BYTES,
    layout,
    memberSizeBytes: sizeSectors * SECTOR_BYTES,
  });
}

const CRC_STEP_BYTES = 64 * 1024;
/** Address 0 means "none" everywhere else. */
const CRC_ADDRESS = CRC_STEP_BYTES;

/** The memory of the kernels is made with the first checksum that is asked for. */
function lazyCrc32c(): Crc32c {
  let crc: Crc32c | null = null;
  return (seed, bytes) => {
    crc ??= kernelCrc32c();
    return crc(seed, bytes);
  };
}

function kernelCrc32c(): Crc32c {
  const memory = createMemory(0);
  const kernels = createParityKernels(memory);
  const scratch = new Uint8Array(memory.buffer, CRC_ADDRESS, CRC_STEP_BYTES);
  return (seed, bytes) => {
    let crc = seed;
    for (let offset = 0; offset < bytes.length; offset += CRC_STEP_BYTES) {
      const step = bytes.subarray(offset, offset + CRC_STEP_BYTES);
      scratch.set(step);
      crc = kernels.crc32c(crc, CRC_ADDRESS, step.length);
    }
    return crc;
  };
}

/** What is no drive, in words: some of these never answer a read, or never end. */
function strangerName(status: Stats): string | null {
  if (status.isFile() || status.isBlockDevice()) return null;
  if (status.isDirectory()) return "a directory";
  if (status.isFIFO()) return "a pipe";
  return status.isSocket() ? "a socket" : "a character device";
}

/** stat says 0 for a block device: its end is found by bisection with one-byte reads. */
function deviceSize(fd: number): number {
  const probe = new Uint8Array(1);
  const isReadable = (offset: number): boolean => readSync(fd, probe, 0, 1, offset) === 1;
  let low = 0;
  let high = 512;
  while (high < Number.MAX_SAFE_INTEGER / 2 && isReadable(high)) high *= 2;
  while (low + 512 < high) {
    const middle = low + Math.floor((high - low) / 1024) * 512;
    if (isReadable(middle)) low = middle;
    else high = middle;
  }
  return high;
}
