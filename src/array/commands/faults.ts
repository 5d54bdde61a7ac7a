/** Fault injection by command: rules with an id, in the filter of the drive that they name. */
import { assert } from "../../base/assert.ts";
import { err, ok, type Result } from "../../base/result.ts";
import { type CommandError, type FaultSpec, type FaultStatus, NOT_YET } from "../protocol.ts";
import { commandError } from "../record.ts";
import type { Registry } from "../registry.ts";

export class FaultBook {
  private readonly registry: Registry;
  private readonly specs = new Map<number, FaultSpec>();
  private nextId = 1;

  constructor(registry: Registry) {
    this.registry = registry;
  }

  add(spec: FaultSpec): Result<FaultStatus, CommandError> {
    const judged = this.foretellAdd(spec);
    if (!judged.ok) return judged;
    const drive = this.registry.drives.get(spec.drive);
    assert(drive !== undefined, "a fault is of a drive that is here");
    const id = this.nextId;
    this.nextId += 1;
    this.specs.set(id, spec);
    drive.faults.add(id, {
      op: spec.op,
      at: spec.at,
      errno: spec.errno ?? null,
      offset: spec.offset ?? 0,
      bytes: spec.bytes ?? Number.POSITIVE_INFINITY,
      count: spec.count ?? Number.POSITIVE_INFINITY,
      every: spec.every ?? 1,
      untilWritten: spec.untilWritten ?? false,
      delayMs: spec.delayMs ?? 0,
      resultBytes: spec.resultBytes ?? null,
    });
    return ok({ ...spec, id, injected: 0 });
  }

  /** What `add` would answer, without doing it. */
  foretellAdd(spec: FaultSpec): Result<FaultStatus, CommandError> {
    if (!this.registry.context.config.allowFaultInjection) {
      const detail = "start the daemon with --allow-fault-injection to inject faults";
      return err(commandError("conflict", "faults-not-allowed", detail));
    }
    if (!this.registry.drives.has(spec.drive)) {
      return err(commandError("not-found", "unknown-drive", `there is no drive ${spec.drive}`));
    }
    return ok({ ...spec, id: NOT_YET.id, injected: 0 });
  }

  list(): FaultStatus[] {
    return [...this.specs].map(([id, spec]) => ({
      ...spec,
      id,
      injected: this.injected(id, spec),
    }));
  }

  /** What `clear` would answer, without doing it. */
  foretellClear(id: number | undefined): Result<null, CommandError> {
    if (id === undefined || this.specs.has(id)) return ok(null);
    return err(commandError("not-found", "unknown-fault", `there is no fault ${id}`));
  }

  /** Ends one fault, or all. */
  clear(id: number | undefined): Result<null, CommandError> {
    const judged = this.foretellClear(id);
    if (!judged.ok) return judged;
    for (const [known, spec] of [...this.specs]) {
      if (id !== undefined && known !== id) continue;
      this.registry.drives.get(spec.drive)?.faults.remove(known);
      this.specs.delete(known);
    }
    return ok(null);
  }

  /** The faults of a drive go with it. */
  forget(drive: string): void {
    for (const [id, spec] of [...this.specs]) if (spec.drive === drive) this.specs.delete(id);
  }

  private injected(id: number, spec: FaultSpec): number {
    return this.registry.drives.get(spec.drive)?.faults.injectedBy(id) ?? 0;
  }
}
