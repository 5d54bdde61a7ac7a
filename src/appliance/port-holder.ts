/**
 * Which process listens on a TCP port of this host, for the message that says that it is taken.
 *
 *   /proc/net/tcp, tcp6   a line per socket: "sl local_address rem_address st ... inode"
 *   /proc/PID/fd/N        a link to "socket:[INODE]"
 *
 * What may not be read (processes of others) is passed over: then nobody is named.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

const LISTENING = "0A";
const Column = { local: 1, state: 3, inode: 9 } as const;

/** "process 12 (nbd-server)", or null where it cannot be told. */
export function portHolder(port: number, proc = "/proc"): string | null {
  const sockets = new Set([
    ...inodesOf(`${proc}/net/tcp`, port),
    ...inodesOf(`${proc}/net/tcp6`, port),
  ]);
  if (sockets.size === 0) return null;
  for (const pid of names(proc)) {
    if (!/^\d+$/.test(pid)) continue;
    for (const fd of names(`${proc}/${pid}/fd`)) {
      const target = attempt(() => readlinkSync(`${proc}/${pid}/fd/${fd}`)) ?? "";
      if (!sockets.has(target)) continue;
      const command = attempt(() => readFileSync(`${proc}/${pid}/comm`, "utf8")) ?? "";
      return `process ${pid} (${command.replaceAll(/[^\x20-\x7e]/g, "")})`;
    }
  }
  return null;
}

/** The listening sockets on the port, as links name them. */
function inodesOf(table: string, port: number): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const lines = (attempt(() => readFileSync(table, "utf8")) ?? "").split("\n").slice(1);
  return lines
    .map((line) => line.trim().split(/\s+/))
    .filter((row) => row[Column.state] === LISTENING && row[Column.local]?.endsWith(suffix))
    .map((row) => `socket:[${row[Column.inode]}]`);
}

function names(folder: string): string[] {
  return attempt(() => readdirSync(folder)) ?? [];
}

function attempt<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null; // It has ended meanwhile, or is none of ours.
  }
}
