/** Two sockets that are connected with each other: one for control, one for the reactor. */
import { lastErrno, libc } from "../../../ffi/libc.ts";
import { Socket } from "../../../ffi/structs.ts";
import { errnoName } from "../../base/errno.ts";
import { err, ok, type Result } from "../../base/result.ts";

const STREAM_TYPE = Socket.stream + Socket.nonBlock + Socket.closeOnExec;

/** Each fd belongs to whoever takes it, and is closed there. */
export interface SocketPair {
  readonly ownFd: number;
  readonly reactorFd: number;
}

export function createSocketPair(): Result<SocketPair, string> {
  const fds = new Uint8Array(new ArrayBuffer(8));
  if (libc.socketpair(Socket.unix, STREAM_TYPE, 0, fds) !== 0) return err(errnoName(lastErrno()));
  const view = new DataView(fds.buffer);
  return ok({ ownFd: view.getInt32(0, true), reactorFd: view.getInt32(4, true) });
}
