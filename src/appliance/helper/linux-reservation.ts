/** Asks a disk who holds its reservation: a command that reservations let through. */
import { Arena, cString } from "../../../ffi/arena.ts";
import { libc } from "../../../ffi/libc.ts";
import { Ioctl, OpenFlag, SgIo } from "../../../ffi/structs.ts";
import type { CommandError } from "../../array/protocol.ts";
import { ok, type Result } from "../../base/result.ts";
import { reservationHolders } from "./scsi-reservation.ts";

/** PERSISTENT RESERVE IN, READ FULL STATUS. */
const COMMAND = [0x5e, 0x03] as const;
const COMMAND_BYTES = 10;
const LENGTH_OFFSET = 7;
const ANSWER_BYTES = 4096;
const SENSE_BYTES = 64;
const TIMEOUT_MS = 5_000;
/** The first command after another host's may be answered UNIT ATTENTION, once. */
const TRIES = 3;

const COMMAND_AT = SgIo.bytes;
const SENSE_AT = COMMAND_AT + COMMAND_BYTES;
const ANSWER_AT = 256;
const arena = new Arena(ANSWER_AT + ANSWER_BYTES);

/** Null: nobody holds it, or the device cannot tell. */
export function reservationOf(path: string): Result<string | null, CommandError> {
  const name = cString(path);
  const flags = OpenFlag.readOnly | OpenFlag.nonBlock | OpenFlag.closeOnExec;
  const fd = name === null ? -1 : libc.open(name, flags, 0);
  if (fd < 0) return ok(null);
  try {
    for (let turn = 0; turn < TRIES; turn += 1) {
      const answer = readFullStatus(fd);
      if (answer !== null) return ok(reservationHolders(answer));
    }
    return ok(null);
  } finally {
    libc.close(fd);
  }
}

function readFullStatus(fd: number): Uint8Array | null {
  const { bytes, view, baseAddress } = arena;
  bytes.fill(0);
  bytes.set(COMMAND, COMMAND_AT);
  view.setUint16(COMMAND_AT + LENGTH_OFFSET, ANSWER_BYTES);
  view.setInt32(SgIo.interfaceId, SgIo.interfaceS, true);
  view.setInt32(SgIo.direction, SgIo.fromDevice, true);
  view.setUint8(SgIo.commandBytes, COMMAND_BYTES);
  view.setUint8(SgIo.senseBytes, SENSE_BYTES);
  view.setUint32(SgIo.transferBytes, ANSWER_BYTES, true);
  view.setBigUint64(SgIo.transfer, BigInt(baseAddress + ANSWER_AT), true);
  view.setBigUint64(SgIo.command, BigInt(baseAddress + COMMAND_AT), true);
  view.setBigUint64(SgIo.sense, BigInt(baseAddress + SENSE_AT), true);
  view.setUint32(SgIo.timeoutMs, TIMEOUT_MS, true);
  if (libc.ioctl(fd, Ioctl.sgIo, baseAddress) !== 0) return null;
  const hasFailed =
    view.getUint8(SgIo.status) !== 0 ||
    view.getUint16(SgIo.hostStatus, true) !== 0 ||
    view.getUint16(SgIo.driverStatus, true) !== 0;
  return hasFailed ? null : bytes.slice(ANSWER_AT, ANSWER_AT + ANSWER_BYTES);
}
