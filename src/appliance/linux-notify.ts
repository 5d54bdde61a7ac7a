/**
 * Datagrams to the service manager (sd_notify(3)): NOTIFY_SOCKET names a Unix datagram socket; a
 * leading `@` stands for the abstract namespace, whose address begins with a zero byte.
 *
 * struct sockaddr_un: 0 u16 family, 2 path. The length counts the path without a terminator for
 * abstract names.
 */
import { libc } from "../../ffi/libc.ts";
import { Socket, UNIX_PATH_BYTES_MAX } from "../../ffi/structs.ts";
import type { NotifySend } from "./systemd.ts";

const SOCKET_DATAGRAM = 2;

/** A sender to `socketPath`; without one, or when it cannot be reached, messages go nowhere. */
export function createNotifySend(socketPath: string | undefined): NotifySend {
  const path = new TextEncoder().encode(socketPath ?? "");
  if (path.length === 0 || path.length > UNIX_PATH_BYTES_MAX) return () => {};
  const isAbstract = path[0] === 0x40;
  const addressBytes = 2 + path.length + (isAbstract ? 0 : 1);
  const address = new Uint8Array(new ArrayBuffer(addressBytes));
  new DataView(address.buffer).setUint16(0, Socket.unix, true);
  address.set(path, 2);
  if (isAbstract) address[2] = 0;
  const type = SOCKET_DATAGRAM | Socket.nonBlock | Socket.closeOnExec;
  const fd = libc.socket(Socket.unix, type, 0);
  if (fd < 0) return () => {};
  if (libc.connect(fd, address, addressBytes) < 0) {
    libc.close(fd);
    return () => {};
  }
  return (text) => {
    const bytes = new TextEncoder().encode(text);
    libc.write(fd, bytes, bytes.length);
  };
}
