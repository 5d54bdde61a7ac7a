/** Who is at the other end of a Unix socket, as the kernel knew it when that connected. */
import { libc } from "../../ffi/libc.ts";
import { Credentials, Socket } from "../../ffi/structs.ts";

/** "process PID of user UID"; "" where `fd` is no such socket. The process may have ended since. */
export function unixPeerOf(fd: number): string {
  const peer = new Uint8Array(Credentials.bytes);
  const length = new Uint8Array([peer.length, 0, 0, 0]);
  const option = Socket.peerCredentials;
  if (libc.getsockopt(fd, Socket.levelSocket, option, peer, length) !== 0) return "";
  const view = new DataView(peer.buffer);
  const pid = view.getInt32(Credentials.pid, true);
  return `process ${pid} of user ${view.getUint32(Credentials.uid, true)}`;
}
