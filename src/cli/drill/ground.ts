/**
 * The folders and the process of a drill, and how they go away again.
 *
 *   <--dir or the folder for temporary files>/parityd-drill-XXXXXX/drive0.img ...
 *   <folder for temporary files>/parityd-run-XXXXXX/state/ run/ daemon.log
 *
 * Sockets do not lie in --dir: their paths hold 107 bytes at most.
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { err, type Result } from "../../base/result.ts";
import { formatBytes } from "../../base/units.ts";
import { attempt } from "./attempt.ts";
import { type DrillPlan, DYING_DRIVE, LAST_DRIVE } from "./options.ts";

export class Ground {
  /** Ends the daemon, if one was started and still runs. */
  endDaemon: () => Promise<void> = () => Promise.resolve();
  isClearing = false;
  private readonly parent: string;
  private filesDirectory = "";
  private runDirectory = "";

  /** `parent` null: where temporary files go. */
  constructor(parent: string | null) {
    this.parent = resolve(parent ?? tmpdir());
  }

  /** Of the member files. */
  get directory(): string {
    return this.filesDirectory;
  }

  get stateDir(): string {
    return join(this.runDirectory, "state");
  }

  get runDir(): string {
    return join(this.runDirectory, "run");
  }

  get logPath(): string {
    return join(this.runDirectory, "daemon.log");
  }

  /** Makes the folders and the member files, sparse. */
  prepare(plan: DrillPlan): Result<undefined, string> {
    // A folder that is not there is a typing error, or a file system that is not mounted.
    if (!existsSync(this.parent))
      return err(`${this.parent} is not there: make it, or name another --dir`);
    const made = attempt(() => {
      this.filesDirectory = mkdtempSync(join(this.parent, "parityd-drill-"));
      this.runDirectory = mkdtempSync(join(tmpdir(), "parityd-run-"));
      return statfsSync(this.filesDirectory);
    });
    if (!made.ok) return made;
    const names = [...plan.driveNames, DYING_DRIVE, LAST_DRIVE];
    const freeBytes = made.value.bavail * made.value.bsize;
    const neededBytes = names.length * plan.fileBytes;
    if (freeBytes < neededBytes) {
      return err(
        `${this.parent} has ${formatBytes(freeBytes)} free and the drill may fill ` +
          `${formatBytes(neededBytes)}: name a smaller --size, or another --dir`,
      );
    }
    return attempt(() => {
      for (const name of names) {
        const fd = openSync(join(this.directory, `${name}.img`), "wx", 0o600);
        ftruncateSync(fd, plan.fileBytes);
        closeSync(fd);
      }
      return undefined;
    });
  }

  /** Ends what still runs and removes what was made; nothing else. */
  async clear(): Promise<void> {
    this.isClearing = true;
    await this.endDaemon();
    for (const path of [this.filesDirectory, this.runDirectory]) {
      if (path !== "") rmSync(path, { recursive: true, force: true });
    }
  }
}

/** Nothing of the old content is left, as on a new drive. */
export function wipeFile(path: string, bytes: number): Result<undefined, string> {
  return attempt(() => {
    const fd = openSync(path, "r+");
    ftruncateSync(fd, 0);
    ftruncateSync(fd, bytes);
    closeSync(fd);
    return undefined;
  });
}
