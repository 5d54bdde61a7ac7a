/**
 * How a command gets hold of what it is about: its drives and its arrays, kept by leases
 * (leases.ts) while it runs, and looked up once they are. Drives are taken before arrays.
 */
import { assert } from "../../base/assert.ts";
import { err, type Result } from "../../base/result.ts";
import type { Drive } from "../drives/drive.ts";
import type { CommandError } from "../protocol.ts";
import type { RaidArray } from "../raid-array.ts";
import { type ArrayRecord, commandError } from "../record.ts";
import { arrayKey, driveKey, isDriveKey, type Registry } from "../registry.ts";
import { notRunning, unknownArray, unknownDrive } from "./refusals.ts";

/** A command waits so long for those before it. */
const LEASE_WAIT_MS = 60_000;

export class CommandLeases {
  private readonly registry: Registry;

  constructor(registry: Registry) {
    this.registry = registry;
  }

  /** Runs `work` while nothing else is done with these drives or arrays. */
  async holding<T>(
    holder: string,
    keys: readonly string[],
    work: () => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const { leases, context } = this.registry;
    const driveCount = keys.filter(isDriveKey).length;
    const isOneKind = driveCount === 0 || driveCount === keys.length;
    assert(isOneKind, "drives and arrays are held one after the other");
    let timer = 0;
    let isLate = false;
    const lease = await leases.take(keys, holder, (giveUp) => {
      timer = context.timers.scheduleAfter(LEASE_WAIT_MS, () => {
        isLate = true;
        giveUp();
      });
    });
    if (timer !== 0) context.timers.cancel(timer);
    if (lease === null) return err(isLate ? busyWith(leases.holderOf(keys)) : STOPPING);
    const isHeld = keys.length === 0 || leases.holderOf(keys) === holder;
    assert(isHeld, "a command that works holds what it works on");
    try {
      return await work();
    } finally {
      lease.release();
    }
  }

  withRecord<T>(
    command: { readonly kind: string; readonly array: string },
    work: (record: ArrayRecord) => Promise<Result<T, CommandError>>,
    drives: readonly string[] = [],
  ): Promise<Result<T, CommandError>> {
    const { registry } = this;
    const holder = `${command.kind} of ${command.array}`;
    return this.holding(holder, drives.map(driveKey), async () => {
      const { uuid } = registry.find(command.array) ?? { uuid: command.array };
      const held = drives.flatMap((name) => registry.drives.get(name) ?? []);
      const keys = [arrayKey(uuid), ...held.flatMap((drive) => registry.arrayKeysOf(drive))];
      return this.holding(holder, keys, async () => {
        // It may have gone while the command waited.
        const record = registry.arrays.get(uuid);
        if (record === undefined) return err(unknownArray(registry, command.array));
        assert(registry.isBusy(record), "the array of a command is held");
        return work(record);
      });
    });
  }

  withRunning<T>(
    command: { readonly kind: string; readonly array: string },
    work: (record: ArrayRecord, running: RaidArray) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    return this.withRecord(command, async (record) =>
      record.running === null ? err(notRunning(record)) : work(record, record.running),
    );
  }

  withDrive<T>(
    command: { readonly kind: string; readonly array: string; readonly drive: string },
    work: (record: ArrayRecord, drive: Drive) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const { drive: name } = command;
    return this.withDrives(command, [name], (record, [drive]) => work(record, drive!));
  }

  /** The drives come in the order of their names. */
  withDrives<T>(
    command: { readonly kind: string; readonly array: string },
    names: readonly string[],
    work: (record: ArrayRecord, drives: readonly Drive[]) => Promise<Result<T, CommandError>>,
  ): Promise<Result<T, CommandError>> {
    const withDrives = async (record: ArrayRecord): Promise<Result<T, CommandError>> => {
      const drives: Drive[] = [];
      for (const name of names) {
        const drive = this.registry.drives.get(name);
        if (drive === undefined) return err(unknownDrive(name));
        assert(drive.name === name, "a drive goes by its name");
        drives.push(drive);
      }
      return work(record, drives);
    };
    return this.withRecord(command, withDrives, names);
  }
}

export const STOPPING: CommandError = commandError(
  "stopping",
  "stopping",
  "the daemon is stopping",
);

function busyWith(holder: string | null): CommandError {
  const detail = `waited ${LEASE_WAIT_MS / 1000} s for another command (${holder ?? "?"}): try again`;
  return commandError("busy", "command-under-way", detail);
}
