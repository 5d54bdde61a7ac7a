/** Who calls over the Unix socket: the process and the user that connected. */
import type { Socket } from "node:net";
import { unixPeerOf } from "../reactor/linux-peer.ts";

/** "process PID of user UID"; "unix" where the runtime does not show the socket's descriptor. */
export function unixCallerOf(socket: Socket): string {
  // Node's own name for it, which the runtime keeps; its types know no descriptor of a socket.
  const { _handle } = socket as { _handle?: { readonly fd?: unknown } | null };
  const fd = _handle?.fd;
  return (typeof fd === "number" && fd >= 0 && unixPeerOf(fd)) || "unix";
}
