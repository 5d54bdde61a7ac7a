/**
 * What main.ts, the only file that makes workers, hands to the verbs that serve arrays themselves.
 *
 * The reactor runs when `startReactor` answers. When it ends without having been told to, main ends
 * the process (exit 70): nobody here needs to watch it. A helper thread that ends costs its call.
 */
import type { Result } from "../base/result.ts";
import type { NbdDriver } from "./attach/nbd-driver.ts";
import type { DriveOpener } from "./helper/drive-opener.ts";
import type { ReactorChannel } from "./reactor-client.ts";

export interface ReactorOptions {
  readonly memoryMib: number;
  readonly firstJobId: number;
  readonly allowFaultInjection: boolean;
  /** False: arrays are assembled by `start-array` alone. */
  readonly autoAssemble: boolean;
  /**
   * Files of the daemon, and folders whose files are: none of them is ever opened as a drive, under
   * whatever name. The executable always is one. Absent: it alone.
   */
  readonly protectedPaths?: readonly string[];
}

export interface StartedReactor {
  readonly channel: ReactorChannel;
  readonly opener: DriveOpener;
  readonly nbdDriver: NbdDriver;
  /** From now on the workers may end: the `shutdown` command follows. */
  expectEnd(): void;
}

/** The error says in a sentence why this host cannot run a reactor (no AIO, no memory). */
export type StartReactor = (options: ReactorOptions) => Promise<Result<StartedReactor, string>>;
