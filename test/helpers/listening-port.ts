/** The one TCP port (of IPv4) that a process listens on. */
import { readFileSync } from "node:fs";

export function listeningPortOf(pid: number): number {
  const ports = readFileSync(`/proc/${pid}/net/tcp`, "utf8")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((fields) => fields[3] === "0A");
  const listed = Bun.spawnSync(["ls", "-l", `/proc/${pid}/fd`]).stdout.toString();
  const own = ports.find((fields) => listed.includes(`socket:[${fields[9]}]`));
  return Number.parseInt(own?.[1]?.split(":")[1] ?? "0", 16);
}
