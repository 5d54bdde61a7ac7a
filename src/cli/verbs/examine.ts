/** `parityd examine FILE...`: what a member says of itself. Plain reads, no daemon, no writes. */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";
import { examineReport, renderExamine } from "../../md/examine.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../md/superblock.ts";
import { fail } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { Exit } from "../exit.ts";
import { JSON_OUTPUT } from "./shared-options.ts";

export const examineCommand: CommandSpec = {
  path: ["examine"],
  summary: "Print the superblock of members, like mdadm --examine",
  operands: [{ name: "FILE", many: true }],
  options: JSON_OUTPUT,
  run: (invocation, host) => {
    let exitCode: number = Exit.ok;
    for (const path of invocation.operands) {
      const read = readMember(path);
      if (!read.ok) {
        exitCode = fail(host, { exitCode: Exit.failed, message: `${path}: ${read.error}` });
        continue;
      }
      const { bytes, deviceBytes } = read.value;
      const superblock = decodeSuperblock(bytes, { deviceBytes });
      if (!superblock.ok) {
        const message = `${path}: ${superblock.error.detail}`;
        exitCode = fail(host, { exitCode: Exit.failed, message });
        continue;
      }
      const report = examineReport(superblock.value, { path, deviceBytes });
      host.print(invocation.isSet("json") ? JSON.stringify(report) : renderExamine(report));
    }
    return exitCode;
  },
};

function readMember(path: string): Result<{ bytes: Uint8Array; deviceBytes: number }, string> {
  let fd: number | null = null;
  try {
    fd = openSync(path, "r");
    const bytes = new Uint8Array(SUPERBLOCK_BYTES);
    const count = readSync(fd, bytes, 0, bytes.length, SUPERBLOCK_OFFSET_BYTES);
    return ok({ bytes: bytes.subarray(0, count), deviceBytes: sizeOf(path, fd) });
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

/** stat says 0 for a block device: its end is found by bisection with one-byte reads. */
function sizeOf(path: string, fd: number): number {
  const { size } = statSync(path);
  if (size > 0) return size;
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
