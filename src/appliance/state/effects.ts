/**
 * What a call changes goes through here, and nowhere else: a dry run is the same call with effects
 * that are none. So it asks all that the call asks, in that order, and is refused where that is.
 *
 * | the call           | really                       | in a dry run                            |
 * |--------------------|------------------------------|-----------------------------------------|
 * | commits            | it is in state.db, or 507    | nothing; 507 where there is no room     |
 * | notes              | in memory, then in state.db  | nothing                                 |
 * | sends a command    | the reactor carries it out   | the reactor says what it would answer   |
 * | has something done | it is done                   | it is left                              |
 *
 * Behind its own commit a dry run reads what was there before: nothing has been made.
 */
import type { CommandError, CommandOf, CommandResult, ForetoldKind } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import type { ReactorClient } from "../reactor-client.ts";
import type { StateChange } from "./state.ts";
import type { StateStore } from "./state-store.ts";

export class Effects {
  readonly isDry: boolean;
  private readonly client: ReactorClient;
  private readonly store: StateStore;

  constructor(parts: { client: ReactorClient; store: StateStore; isDry: boolean }) {
    this.client = parts.client;
    this.store = parts.store;
    this.isDry = parts.isDry;
  }

  commit(...changes: readonly StateChange[]): Promise<Result<null, CommandError>> {
    if (this.isDry) return Promise.resolve(this.store.foretell(...changes));
    return this.store.commit(...changes);
  }

  note(...changes: readonly StateChange[]): void {
    if (!this.isDry) this.store.note(...changes);
  }

  command<K extends ForetoldKind>(command: CommandOf<K>): Promise<CommandResult<K>> {
    return this.client.call<K>(this.isDry ? { ...command, dryRun: true } : command);
  }

  /** What else follows from the call. */
  have(work: () => void): void {
    if (!this.isDry) work();
  }
}
