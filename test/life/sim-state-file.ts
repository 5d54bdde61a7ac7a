/**
 * state.db without SQLite: what was written is there after any crash, and nothing else; and
 * everything may be wrong with it that state-file.ts has a way out for.
 *
 * | `trouble` | a write is answered | at the start of a process                                   |
 * |-----------|---------------------|-------------------------------------------------------------|
 * | none      | ok                  | all is read                                                 |
 * | full      | refused             | all is read                                                 |
 * | read-only | refused             | all is read                                                 |
 * | locked    | busy                | all is read                                                 |
 * | damaged   | damaged, then remade| some rows are lost, which `load` says; a new file is made   |
 * | gone      | gone, then remade   | nothing is there                                            |
 */
import { State, type StateChange, type StoredEvent } from "../../src/appliance/state/state.ts";
import type { LoadedState, StateFile } from "../../src/appliance/state/state-file.ts";
import type { StateFileError } from "../../src/appliance/state/state-rows.ts";
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import { err, ok, type Result } from "../../src/base/result.ts";

export const STATE_TROUBLES = ["full", "read-only", "locked", "damaged", "gone"] as const;
export type StateTrouble = (typeof STATE_TROUBLES)[number] | "none";

const REFUSALS: Readonly<Record<Exclude<StateTrouble, "none">, StateFileError["kind"]>> = {
  full: "refused",
  "read-only": "refused",
  locked: "busy",
  damaged: "damaged",
  gone: "gone",
};
/** One row in so many of a damaged file cannot be read. */
const LOST_ONE_IN = 4;

export class SimStateFile implements StateFile {
  trouble: StateTrouble = "none";
  /** Writes that were not taken. */
  refusedCount = 0;
  private content = new State();
  private readonly random: SeededRandom;

  constructor({ random }: { random: SeededRandom }) {
    this.random = random;
  }

  load(): LoadedState {
    const { trouble } = this;
    const state = new State();
    const problems: string[] = [];
    for (const change of this.content.asChanges()) {
      const isLost = trouble === "damaged" && nextBelow(this.random, LOST_ONE_IN) === 0;
      if (isLost) problems.push(`a row (${change.kind}) cannot be read`);
      else if (trouble !== "gone") state.apply(structuredClone(change));
    }
    if (trouble === "damaged" || trouble === "gone") {
      // As by the time of day, which is ahead of every id.
      const { lastEventId, lastJobId } = this.content;
      state.lastEventId = Math.max(state.lastEventId, lastEventId);
      state.lastJobId = Math.max(state.lastJobId, lastJobId);
      this.remake(state.asChanges());
    }
    return { state, problems, readOnlyReason: null };
  }

  hasRoom(): Result<null, StateFileError> {
    return this.trouble === "full" ? this.refusal("full") : ok(null);
  }

  write(changes: readonly StateChange[]): Result<null, StateFileError> {
    const { trouble } = this;
    if (trouble !== "none") return this.refusal(trouble);
    for (const change of changes) this.content.apply(structuredClone(change));
    return ok(null);
  }

  remake(changes: Iterable<StateChange>): Result<null, StateFileError> {
    const { trouble } = this;
    if (trouble !== "none" && trouble !== "damaged" && trouble !== "gone") {
      return this.refusal(trouble);
    }
    this.trouble = "none";
    this.content = new State();
    return this.write([...changes]);
  }

  eventsBetween(): StoredEvent[] {
    return [];
  }

  close(): void {}

  private refusal(trouble: Exclude<StateTrouble, "none">): Result<never, StateFileError> {
    this.refusedCount += 1;
    return err({ kind: REFUSALS[trouble], detail: `the state directory is ${trouble}` });
  }
}
