/**
 * Faults that somebody has injected below the real error handling, for trials of it. The reactor
 * keeps them (array/commands/faults.ts); they end with it, so nothing of them is remembered here.
 */
import type { CommandError, FaultSpec, FaultStatus } from "../array/protocol.ts";
import type { Result } from "../base/result.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { Effects } from "./state/effects.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export class FaultInjection {
  /** Only where the daemon was started for it. */
  readonly isAllowed: boolean;
  private readonly client: ReactorClient;

  constructor({ client, isAllowed }: { client: ReactorClient; isAllowed: boolean }) {
    this.client = client;
    this.isAllowed = isAllowed;
  }

  add(fault: FaultSpec, effects: Effects): Answer<FaultStatus> {
    return effects.command({ kind: "add-fault", fault });
  }

  /** With how often each has hit. */
  list(): Answer<readonly FaultStatus[]> {
    return this.client.call({ kind: "list-faults" });
  }

  clear(id: number, effects: Effects): Answer<null> {
    return effects.command({ kind: "clear-faults", id });
  }

  clearAll(effects: Effects): Answer<null> {
    return effects.command({ kind: "clear-faults" });
  }
}
