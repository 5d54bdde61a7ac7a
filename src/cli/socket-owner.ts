/** Whose a socket is, for who may not open it. */
import { lstatSync, readFileSync } from "node:fs";

/** "owner root, group disk"; null where that cannot be seen either. */
export function ownerText(path: string): string | null {
  try {
    const { uid, gid } = lstatSync(path);
    return `owner ${nameOf("/etc/passwd", uid)}, group ${nameOf("/etc/group", gid)}`;
  } catch {
    return null;
  }
}

/** The number where the file has no name for it. */
function nameOf(file: string, id: number): string {
  const lines = readFileSync(file, "utf8").split("\n");
  const found = lines.map((line) => line.split(":")).find((words) => words[2] === String(id));
  return found?.[0] ?? String(id);
}
