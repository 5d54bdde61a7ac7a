/**
 * The door for commands (array-guard.ts): each gets one answer, also where what carries it out
 * throws, or never comes back because its array broke meanwhile.
 *
 * A command is about the arrays that it names, and those of the drives that it names. One that
 * throws breaks the array that it is about; where that is none, or more than one, nobody can be
 * stopped alone, and the throw ends the process.
 */
import { assert, SharedAssertionError } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { err, type Result } from "../../base/result.ts";
import { type BreakListener, brokenError } from "../broken-arrays.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { ArrayRecord } from "../record.ts";
import type { Registry } from "../registry.ts";
import type { ArrayCommand } from "./command.ts";

type AnyResult = Result<unknown, CommandError>;

interface OpenCommand {
  readonly command: ArrayCommand;
  /** Of a create: the array that had its name before. It is not about that one. */
  readonly namesake: ArrayRecord | null;
  readonly answer: (result: AnyResult) => void;
}

/** Commands that only look. */
const READERS: ReadonlySet<ArrayCommand["kind"]> = new Set([
  "list-drives",
  "list-arrays",
  "get-array",
  "list-jobs",
  "get-job",
  "list-faults",
  "list-unstopped",
  "fit-drive",
] as const);

export class CommandDoor implements BreakListener {
  private readonly registry: Registry;
  private readonly open = new Set<OpenCommand>();

  constructor(registry: Registry) {
    this.registry = registry;
    assert(registry.brokenArrays.listener === null, "all commands come through one door");
    registry.brokenArrays.listener = this;
  }

  pass<R extends AnyResult>(command: ArrayCommand, work: () => Promise<R>): Promise<R> {
    const records = this.recordsOf(command);
    const broken = records.find((record) => record.broken !== null);
    if (broken !== undefined && !READERS.has(command.kind)) {
      return Promise.resolve(err(brokenError(broken)) as R);
    }
    return new Promise((resolve) => {
      const entry: OpenCommand = {
        command,
        namesake: command.kind === "create-array" ? this.registry.byName(command.name) : null,
        answer: resolve as OpenCommand["answer"],
      };
      this.open.add(entry);
      const settled = this.carryOut(entry, work);
      inBackground(settled, null);
    });
  }

  /** Runs what concerns one array of several, as the shutdown of all does. */
  within(record: ArrayRecord, work: () => Promise<void>): Promise<void> {
    const command = { kind: "stop-array", array: record.uuid } as const;
    return this.pass(command, async () => {
      await work();
      return { ok: true, value: null } as const;
    }).then(() => {});
  }

  *drivesFor(record: ArrayRecord): Iterable<Drive> {
    for (const entry of this.open) {
      if (!this.isAbout(entry, record)) continue;
      for (const name of driveNamesOf(entry.command)) {
        const drive = this.registry.drives.get(name);
        if (drive !== undefined && this.isFreeFor(record, drive)) yield drive;
      }
    }
  }

  broken(record: ArrayRecord): void {
    assert(record.broken !== null, "the commands of an array end when it broke");
    for (const entry of [...this.open]) {
      if (entry.command.kind === "shutdown") continue;
      if (!this.isAbout(entry, record)) continue;
      this.open.delete(entry);
      entry.answer(err(brokenError(record)));
    }
  }

  private async carryOut(entry: OpenCommand, work: () => Promise<AnyResult>): Promise<void> {
    try {
      const result = await work();
      if (this.open.delete(entry)) entry.answer(result);
    } catch (error) {
      if (error instanceof SharedAssertionError) throw error;
      this.failed(entry, error);
    }
  }

  private failed(entry: OpenCommand, error: unknown): void {
    // Already answered: its array broke, and what it was in the middle of falls over.
    if (!this.open.has(entry)) return;
    const { brokenArrays } = this.registry;
    const records = this.recordsOf(entry.command).filter((record) => record !== entry.namesake);
    const [record] = records;
    // One that has no superblock yet is none: only what it was to be made of is not used any more.
    if (record !== undefined && records.length === 1 && record.lastSeen !== null) {
      // The command is answered with the rest of what is under way there.
      brokenArrays.break(record, error);
      return;
    }
    const drives = driveNamesOf(entry.command).flatMap((name) => {
      const drive = this.registry.drives.get(name);
      return drive === undefined || this.registry.holderOf(drive) !== null ? [] : [drive];
    });
    if (records.length > 1 || drives.length === 0) throw error;
    if (record !== undefined) this.registry.arrays.delete(record.uuid);
    this.open.delete(entry);
    entry.answer(err(brokenArrays.setAside(drives, error)));
  }

  private isAbout(entry: OpenCommand, record: ArrayRecord): boolean {
    return record !== entry.namesake && this.recordsOf(entry.command).includes(record);
  }

  /** A drive that another array has is none that this one was to get. */
  private isFreeFor(record: ArrayRecord, drive: Drive): boolean {
    const holder = this.registry.holderOf(drive);
    return holder === null || holder === record;
  }

  private recordsOf(command: ArrayCommand): ArrayRecord[] {
    const { registry } = this;
    const records = new Set<ArrayRecord>();
    const add = (record: ArrayRecord | null | undefined): void => {
      if (record !== null && record !== undefined) records.add(record);
    };
    const array = arrayNameOf(command, registry);
    if (array !== null) {
      add(registry.byName(array) ?? registry.arrays.get(array));
      return [...records];
    }
    for (const name of driveNamesOf(command)) {
      const drive = registry.drives.get(name);
      if (drive === undefined) continue;
      const holder = registry.holderOf(drive);
      add(holder ?? registry.recordOf(drive));
    }
    return [...records];
  }
}

function arrayNameOf(command: ArrayCommand, registry: Registry): string | null {
  if (command.kind === "create-array") return command.name;
  if (command.kind === "cancel-job") return registry.jobs.get(command.id)?.array ?? null;
  return "array" in command ? command.array : null;
}

function driveNamesOf(command: ArrayCommand): readonly string[] {
  switch (command.kind) {
    case "attach-drive":
      return [command.drive.name];
    case "detach-drive":
      return [command.name];
    case "create-array":
      return [...command.drives, ...command.spares];
    case "add-members":
      return command.drives;
    case "add-member":
    case "fail-member":
    case "remove-member":
    case "fit-drive":
    case "read-drive":
      return [command.drive];
    case "replace-member":
      return [command.drive, command.with];
    default:
      return [];
  }
}
