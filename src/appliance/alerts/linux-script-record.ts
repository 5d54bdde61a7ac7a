/**
 * The program of `onEvent` that runs now, written down: a daemon that is killed leaves it to itself,
 * without its deadline, and the next one finds it by this and ends it before it runs another.
 *
 *   RUN-DIR/on-event.pid    PID START BOOT-ID
 *
 * START is the time of its start in clock ticks since the boot (proc(5), field 22 of stat): with
 * the boot it tells the process from a later one of that number. The signal of the kernel at a
 * parent's death (PR_SET_PDEATHSIG) would reach the program and not what it has started, and is
 * lost where it is setuid. A kill between the start and the writing leaves one that is not found.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";

export class ScriptRecord {
  private readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Where it cannot be written down, it runs all the same. */
  keep(pid: number): void {
    const identity = identityOf(pid);
    if (identity === null) return;
    try {
      writeFileSync(this.path, identity, { mode: 0o600 });
    } catch {
      // No room: alerts matter more.
    }
  }

  forget(): void {
    try {
      rmSync(this.path, { force: true });
    } catch {
      // What it names has ended: nobody is found by it.
    }
  }

  /** Kills the process group of one that a former daemon left. Its id, or null: there is none. */
  endLeft(): number | null {
    const pid = this.leftPid();
    this.forget();
    if (pid === null) return null;
    try {
      process.kill(-pid, "SIGKILL");
      return pid;
    } catch {
      return null; // It has ended in this moment.
    }
  }

  private leftPid(): number | null {
    try {
      const written = readFileSync(this.path, "utf8");
      const pid = Number(/^(\d+) /.exec(written)?.[1]);
      return pid > 1 && identityOf(pid) === written ? pid : null;
    } catch {
      return null;
    }
  }
}

function identityOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The name, in parentheses, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${pid} ${fields[19]} ${boot}\n`;
  } catch {
    return null; // It has ended.
  }
}
