/**
 * The file of a Unix socket: whose it is, and how it is made and removed without harm to another.
 *
 * The runtime removes the path of a listener by its name when it closes it, whatever lies there by
 * then. So a listener is bound under a name of its own and then linked to the public one, which
 * nobody else can have at that moment (link(2) replaces nothing); the public name is removed only
 * while it is still the same inode.
 */

import { linkSync, lstatSync, renameSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { err, ok, type Result } from "../base/result.ts";

/** A listener whose queue is full keeps a client waiting: somebody is there. */
const CONNECT_LIMIT_MS = 2_000;

export type Occupant = "nobody" | "stale" | "listening" | "no-socket";

/** Who is at `path`. Stale: a socket where nobody listens any more, as a crash leaves it. */
export async function occupantOf(path: string): Promise<Occupant> {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return "nobody";
  // A regular file refuses a connection just as a dead socket does.
  if (!stats.isSocket()) return "no-socket";
  return new Promise((resolve) => {
    const socket = connect(path);
    const end = (occupant: Occupant): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(occupant);
    };
    const timer = setTimeout(() => end("listening"), CONNECT_LIMIT_MS);
    socket.once("connect", () => end("listening"));
    socket.once("error", ({ code }: NodeJS.ErrnoException) => {
      if (code === "ENOENT") end("nobody");
      // Anything else, such as EACCES or EAGAIN, proves nothing about who listens.
      else end(code === "ECONNREFUSED" ? "stale" : "listening");
    });
  });
}

export interface SocketFile {
  /** Whether the path still leads to this very socket; null: nothing lies there. */
  isThere(): boolean | null;
  /** Removes it, unless another lies there by now. */
  remove(): void;
}

/** Gives what was bound at `bound` its public name. */
export function publish(bound: string, path: string): Result<SocketFile, string> {
  try {
    linkOrRename(bound, path);
    const { dev, ino } = lstatSync(path);
    const isThere = (): boolean | null => {
      const stats = lstatSync(path, { throwIfNoEntry: false });
      return stats === undefined ? null : stats.dev === dev && stats.ino === ino;
    };
    const remove = (): void => {
      if (isThere() === true) unlinkSync(path);
    };
    return ok({ isThere, remove });
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  }
}

function linkOrRename(bound: string, path: string): void {
  try {
    linkSync(bound, path);
  } catch (error) {
    // Some file systems know no hard links.
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "EPERM" && code !== "EOPNOTSUPP" && code !== "EMLINK") throw error;
    renameSync(bound, path);
    return;
  }
  unlinkSync(bound);
}
