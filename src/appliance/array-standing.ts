/**
 * Which arrays this host knows, and by which name: they are made, started again after a delete,
 * renamed and deleted here. A stored array is `creating`, `known` or `deleted`; the rest of what an
 * array is stands in its superblocks.
 *
 * Order: each of these records first what is to be, then asks the reactor, and takes back what it
 * has recorded where the reactor refuses. While one is at work on an array, a name or an export,
 * others that want it wait (state/call-order.ts).
 */
import type { ArrayStatus, CommandError, CommandMap, CommandOf } from "../array/protocol.ts";
import type { Log } from "../base/log.ts";
import { err, ok, type Result } from "../base/result.ts";
import type { DriveKeeper } from "./drive-keeper.ts";
import type { ReactorClient } from "./reactor-client.ts";
import type { ArrayBook } from "./state/array-book.ts";
import type { CallOrder } from "./state/call-order.ts";
import type { Effects } from "./state/effects.ts";
import type { ExportBook } from "./state/export-book.ts";
import { isLabel } from "./state/labels.ts";
import type { ArraySettings, StateChange, StoredArray } from "./state/state.ts";
import type { StateStore } from "./state/state-store.ts";

type Answer<T> = Promise<Result<T, CommandError>>;

export type CreateRequest = Omit<CommandMap["create-array"]["request"], "uuid">;

export interface ArrayStandingParts {
  readonly client: ReactorClient;
  readonly store: StateStore;
  readonly drives: DriveKeeper;
  readonly arrays: ArrayBook;
  readonly exports: ExportBook;
  readonly calls: CallOrder;
  readonly log: Log;
  readonly newUuid: () => string;
  /** Drives are still being opened: an array may be there although nothing of it is yet. */
  readonly isStarting: () => boolean;
}

export class ArrayStanding {
  private readonly client: ReactorClient;
  private readonly store: StateStore;
  private readonly drives: DriveKeeper;
  private readonly arrays: ArrayBook;
  private readonly exports: ExportBook;
  private readonly calls: CallOrder;
  private readonly log: Log;
  private readonly newUuid: () => string;
  private readonly isStarting: () => boolean;

  constructor(parts: ArrayStandingParts) {
    this.client = parts.client;
    this.store = parts.store;
    this.drives = parts.drives;
    this.arrays = parts.arrays;
    this.exports = parts.exports;
    this.calls = parts.calls;
    this.log = parts.log;
    this.newUuid = parts.newUuid;
    this.isStarting = parts.isStarting;
  }

  /** `allocate`: its files get all their space first. */
  async create(
    request: CreateRequest,
    { allocate }: { allocate: boolean },
    effects: Effects,
  ): Answer<ArrayStatus> {
    const { name } = request;
    if (!isLabel(name)) return err(badLabel(name));
    const uuid = this.newUuid();
    // Nothing refers to the array before it is there.
    return this.calls.holding([`label:${name}`, `array:${uuid}`], async () => {
      const holder = this.arrays.holderOf(name);
      const obstacle = await this.nameObstacle(holder, request.force);
      if (obstacle !== null) return err(obstacle);
      const all = [...request.drives, ...request.spares];
      const looked = await this.drives.readContents(all);
      if (!looked.ok) return looked;
      const command: CommandOf<"create-array"> = { kind: "create-array", ...request, uuid };
      const judged = await this.client.call({ ...command, dryRun: true });
      if (!judged.ok) return judged;
      const drives = allocate ? all : [];
      const given = await this.drives.giveSpace(drives, effects);
      if (!given.ok) return given;
      const array: StoredArray = {
        ...{ uuid, label: name, standing: "creating", settings: {}, seen: null },
      };
      const offered = holder === null ? [] : this.offeredOf(holder);
      const givenUp = holder === null ? [] : this.givingUp(holder);
      const recorded = await effects.commit({ kind: "put-array", array }, ...givenUp);
      if (!recorded.ok || effects.isDry) return recorded.ok ? judged : recorded;
      if (holder !== null) await this.arrays.introduceAnew(holder.uuid);
      const created = await this.client.call(command);
      if (!created.ok) {
        this.store.note({ kind: "forget-array", uuid });
        if (holder !== null) await this.takeBack(holder, offered);
        return created;
      }
      this.store.note({ kind: "put-array", array: { ...array, standing: "known" } });
      await this.arrays.introduceAnew(uuid);
      return created;
    });
  }

  /** Why a new array may not take this label; with force it takes that of an absent one. */
  private async nameObstacle(
    holder: StoredArray | null,
    force: boolean,
  ): Promise<CommandError | null> {
    if (holder === null) return null;
    const here = await this.client.call({ kind: "get-array", array: holder.uuid });
    if (here.ok) return nameInUse(holder, "rename it, or delete it");
    if (here.error.kind !== "not-found") return here.error;
    if (this.isStarting()) return nameInUse(holder, "its drives are still being opened");
    return force ? null : nameInUse(holder, 'it is absent: "force": true gives it up');
  }

  /** What goes with an array: the changes that bring its exports and its schedule back. */
  private offeredOf({ uuid }: StoredArray): StateChange[] {
    const exports = this.exports.of(uuid);
    const schedule = this.store.state.schedules.get(uuid);
    return [
      ...exports.map((entry): StateChange => ({ kind: "put-export", entry })),
      ...(schedule === undefined ? [] : [{ kind: "put-schedule", schedule } as const]),
    ];
  }

  /** What was given up is as it was before. */
  private async takeBack(array: StoredArray, offered: readonly StateChange[]): Promise<void> {
    this.store.note({ kind: "put-array", array }, ...offered);
    await this.arrays.introduceAnew(array.uuid);
  }

  /** An array is remembered as deleted: nothing is offered of it, and nothing due, any more. */
  private givingUp(array: StoredArray): StateChange[] {
    const { uuid } = array;
    const exports = this.exports.of(uuid);
    const isScheduled = this.store.state.schedules.has(uuid);
    return [
      { kind: "put-array", array: { ...array, standing: "deleted" } },
      ...exports.map(({ name }): StateChange => ({ kind: "delete-export", name })),
      ...(isScheduled ? [{ kind: "delete-schedule", arrayUuid: uuid } as const] : []),
    ];
  }

  async start(
    request: CommandMap["start-array"]["request"],
    effects: Effects,
  ): Answer<ArrayStatus> {
    if (!effects.isDry) await this.drives.retryMissing();
    return this.calls.withArray(request.array, async (uuid) => {
      const before = this.arrays.get(uuid)!;
      const name = this.arrays.labelOf(uuid);
      if (this.drives.isFenced(uuid)) return err(isFenced(before));
      if (before.standing === "deleted") {
        const revived = await this.calls.holding([`label:${before.label ?? ""}`], () =>
          this.revive(before, effects),
        );
        if (!revived.ok) return revived;
      }
      const command: CommandOf<"start-array"> = { kind: "start-array", ...request, array: uuid };
      const started = await effects.command(command);
      if (effects.isDry) return started.ok ? ok(calledHere(started.value, name)) : started;
      if (!started.ok && before.standing === "deleted") await this.restand(before);
      return started;
    });
  }

  /** A deleted array is known again, under its old label where that is free. */
  private async revive(array: StoredArray, effects: Effects): Answer<null> {
    const holder = array.label === null ? null : this.arrays.holderOf(array.label);
    if (holder !== null) return err(nameInUse(holder, "rename that one first"));
    const recorded = await effects.commit({
      kind: "put-array",
      array: { ...array, standing: "known" },
    });
    if (recorded.ok && !effects.isDry) await this.arrays.introduceAnew(array.uuid);
    return recorded;
  }

  private async restand(array: StoredArray): Promise<void> {
    this.store.note({ kind: "put-array", array });
    await this.arrays.introduceAnew(array.uuid);
  }

  /** The name, which goes to the disks too where it can, and settings that are only remembered. */
  async change(
    uuid: string,
    wanted: ArraySettings & { readonly name?: string },
    effects: Effects,
  ): Answer<null> {
    const { name, ...settings } = wanted;
    const known = this.arrays.get(uuid)!;
    if (name !== undefined && name !== known.label) {
      const renamed = await this.calls.holding([`label:${name}`], () =>
        this.rename(known, name, effects),
      );
      if (!renamed.ok) return renamed;
    }
    if (Object.keys(settings).length === 0) return ok(null);
    const now = this.arrays.get(uuid)!;
    const array = { ...now, settings: { ...now.settings, ...settings } };
    const recorded = await effects.commit({ kind: "put-array", array });
    if (recorded.ok && !effects.isDry) await this.arrays.introduceAnew(uuid);
    return recorded;
  }

  private async rename(known: StoredArray, name: string, effects: Effects): Answer<null> {
    const { uuid } = known;
    if (!isLabel(name)) return err(badLabel(name));
    const holder = this.arrays.holderOf(name);
    if (holder !== null && holder.uuid !== uuid) return err(nameInUse(holder, "take another"));
    const array: StoredArray = { ...known, label: name };
    const recorded = await effects.commit({ kind: "put-array", array });
    if (!recorded.ok || effects.isDry) return recorded;
    await this.arrays.introduceAnew(uuid);
    const written = await this.client.call({ kind: "write-name", array: uuid, name });
    // An array that does not run, or takes no writes, has its new name here alone.
    if (!written.ok && written.error.kind === "io") {
      this.log.write("warn", "the name is not on the members", { array: name, ...written.error });
    }
    return ok(null);
  }

  /** Of an array of which nothing is here: it is forgotten. */
  async delete(request: CommandMap["delete-array"]["request"], effects: Effects): Answer<null> {
    return this.calls.withArray(request.array, (uuid) => {
      // Its label and exports are nobody else's before it is certain that it goes.
      const { label } = this.arrays.get(uuid)!;
      const exports = this.exports.of(uuid).map(({ name }) => `export:${name}`);
      return this.calls.holding([`label:${label ?? ""}`, ...exports], () =>
        this.deleteHeld(request, uuid, effects),
      );
    });
  }

  private async deleteHeld(
    request: CommandMap["delete-array"]["request"],
    uuid: string,
    effects: Effects,
  ): Answer<null> {
    const known = this.arrays.get(uuid)!;
    const exports = this.exports.of(uuid);
    const offered = this.offeredOf(known);
    const recorded = await effects.commit(...this.givingUp(known));
    if (!recorded.ok) return recorded;
    const command: CommandOf<"delete-array"> = { kind: "delete-array", ...request, array: uuid };
    const deleted = await effects.command(command);
    const isGone = deleted.ok || deleted.error.kind === "not-found";
    if (effects.isDry) return isGone ? ok(null) : deleted;
    if (!isGone) {
      await this.takeBack(known, offered);
      return deleted;
    }
    for (const { name } of exports) {
      await this.client.call({ kind: "delete-export", name, force: true });
    }
    await this.arrays.introduceAnew(uuid);
    return ok(null);
  }
}

/** As an array would be shown that has this label, whatever its members say. */
export function calledHere(status: ArrayStatus, name: string): ArrayStatus {
  const onDisk = status.nameOnDisk ?? status.name;
  return { ...status, name, nameOnDisk: onDisk === name ? null : onDisk };
}

function nameInUse({ label, uuid }: StoredArray, wayOut: string): CommandError {
  const detail = `there is an array ${label} already (${uuid}): ${wayOut}`;
  return { kind: "conflict", code: "name-in-use", detail };
}

function badLabel(name: string): CommandError {
  const detail =
    `${JSON.stringify(name)} is no name for an array: 1 to 32 of the characters a-z A-Z 0-9 . _ -, ` +
    "not a UUID";
  return { kind: "invalid", code: "bad-name", detail };
}

function isFenced({ label, uuid }: StoredArray): CommandError {
  const detail =
    `another host holds the reservation of a drive of array ${label ?? uuid}: start it there, or ` +
    "here when that host has let go of it";
  return { kind: "conflict", code: "fenced", detail };
}
