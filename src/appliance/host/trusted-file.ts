/**
 * Files whose content is a secret or a command of root's: nobody else may have written them. Others
 * who may only read one are told of by whoever reads it.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from "node:fs";
import { err, ok, type Result } from "../../base/result.ts";

const WRITABLE_BY_OTHERS = 0o022;
const READABLE_BY_OTHERS = 0o044;

/** Why somebody else may have written a file, or null. */
export function trustProblem(stats: Stats): string | null {
  if (!stats.isFile()) return "it is no regular file";
  if ((stats.mode & WRITABLE_BY_OTHERS) !== 0) {
    const mode = (stats.mode & 0o7777).toString(8).padStart(4, "0");
    return `other users may write it (mode ${mode}): look at what it holds, then chmod go-w`;
  }
  const own = process.geteuid?.() ?? 0;
  if (stats.uid === 0 || stats.uid === own) return null;
  return `it belongs to user ${stats.uid}, not to root or user ${own}: chown it`;
}

export function isReadableByOthers({ mode }: Stats): boolean {
  return (mode & READABLE_BY_OTHERS) !== 0;
}

export interface TrustedText {
  readonly text: string;
  readonly isReadableByOthers: boolean;
}

/** What a file holds that nobody else may write; the error names neither path nor content. */
export function readTrusted(path: string, bytesMax: number): Result<TrustedText, string> {
  let fd: number | null = null;
  try {
    // Not to wait for the other end of a pipe that lies there.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = fstatSync(fd);
    const untrusted = trustProblem(stats);
    if (untrusted !== null) return err(untrusted);
    if (stats.size > bytesMax) return err(`it has more than ${bytesMax} bytes`);
    const text = readFileSync(fd, "utf8");
    return ok({ text, isReadableByOthers: isReadableByOthers(stats) });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return err(`it cannot be read (${code ?? "unknown error"})`);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}
