/**
 * All that this host remembers and no superblock says, as one document: to keep, and to have again
 * on a host whose state.db is lost, or on another one that the drives were moved to.
 *
 * | part      | known again by | says                                                    |
 * |-----------|----------------|---------------------------------------------------------|
 * | drives    | name           | where it is found: by-id where there is one, else path  |
 * | arrays    | UUID           | its label here, and settings                            |
 * | exports   | name           | which array, whether written, by whom opened, attached  |
 * | spares    | drive          | for which arrays; null: all                             |
 * | schedules | array          | the windows                                             |
 *
 * To apply it adds what is missing and changes what differs, in this order, each by the call that a
 * person would make, and takes nothing away: to apply it again changes nothing. What is refused is
 * told, and the rest is done. What an array is stands on its drives: one of which nothing is here
 * is refused until they are.
 */
import { isDeepStrictEqual } from "node:util";
import type { CommandError, ExportAllow } from "../array/protocol.ts";
import { assert } from "../base/assert.ts";
import { ok, type Result } from "../base/result.ts";
import type { Appliance } from "./appliance.ts";
import type { Schedule } from "./schedules/schedule.ts";
import type { Effects } from "./state/effects.ts";
import type { ArraySettings } from "./state/state.ts";

export interface ConfigurationDrive {
  readonly name: string;
  readonly path: string;
  readonly direct: boolean;
}

export interface ConfigurationArray {
  readonly uuid: string;
  readonly name: string;
  readonly settings: ArraySettings;
}

export interface ConfigurationExport {
  readonly name: string;
  /** UUID. */
  readonly array: string;
  readonly readOnly: boolean;
  readonly allow: ExportAllow | null;
  readonly attachAtStart: string | null;
}

export interface ConfigurationSpare {
  readonly drive: string;
  /** UUIDs. */
  readonly arrays: readonly string[] | null;
}

export interface ConfigurationSchedule extends Schedule {
  /** UUID. */
  readonly array: string;
}

export interface Configuration {
  readonly drives: readonly ConfigurationDrive[];
  readonly arrays: readonly ConfigurationArray[];
  readonly exports: readonly ConfigurationExport[];
  readonly spares: readonly ConfigurationSpare[];
  readonly schedules: readonly ConfigurationSchedule[];
}

/** What is to be done about one entry of a document; entries that are as here have none. */
export interface ConfigurationChange {
  readonly kind: "drive" | "array" | "export" | "spare" | "schedule";
  /** Of a drive or an export its name, of the others what they are known again by. */
  readonly name: string;
  readonly action: "add" | "change";
  readonly outcome: "done" | "planned" | "refused";
  /** Why it was refused. */
  readonly reason?: string;
}

/** What is to be changed, and what a dry run has seen that would be here by then. */
interface Ground {
  readonly appliance: Appliance;
  readonly effects: Effects;
  /** Arrays that drives would bring: by UUID, their names. */
  readonly brought: Map<string, string>;
  /** Drives that would be added. */
  readonly added: Set<string>;
}

interface Step {
  readonly change: Pick<ConfigurationChange, "kind" | "name" | "action">;
  readonly run: () => Promise<Result<unknown, CommandError | { readonly kind: "bad-values" }>>;
}

export function currentConfiguration({ store, arrays }: Appliance): Configuration {
  const { state } = store;
  const known = arrays.all().filter(({ uuid }) => arrays.isKnown(uuid));
  const isKnown = (uuid: string | null): uuid is string => uuid !== null && arrays.isKnown(uuid);
  return {
    drives: byName(
      [...state.drives.values()].map(({ name, path, byId, direct }) => {
        return { name, path: byId ?? path, direct };
      }),
    ),
    arrays: byName(
      known.map(({ uuid, settings }) => ({ uuid, name: arrays.labelOf(uuid), settings })),
    ),
    exports: byName(
      [...state.exports.values()].flatMap(({ name, arrayUuid, readOnly, allow, attachAtStart }) =>
        isKnown(arrayUuid) ? [{ name, array: arrayUuid, readOnly, allow, attachAtStart }] : [],
      ),
    ),
    spares: [...state.spares.values()].map((spare) => ({
      drive: spare.drive,
      arrays: spare.arrays?.filter(isKnown) ?? null,
    })),
    schedules: [...state.schedules.values()].flatMap((schedule) => {
      const { arrayUuid, memory: _memory, ...windows } = schedule;
      return isKnown(arrayUuid) ? [{ array: arrayUuid, ...windows }] : [];
    }),
  };
}

/** Does what the document wants; in a dry run it only says what would come of that. */
export async function applyConfiguration(
  appliance: Appliance,
  wanted: Configuration,
  effects: Effects,
): Promise<ConfigurationChange[]> {
  const changes: ConfigurationChange[] = [];
  const outcome = effects.isDry ? "planned" : "done";
  const ground: Ground = { appliance, effects, brought: new Map(), added: new Set() };
  // Order: a drive brings its array, which the others refer to.
  for (const stepsOf of [driveSteps, arraySteps, exportSteps, spareSteps, scheduleSteps]) {
    for (const { change, run } of stepsOf(ground, wanted)) {
      const result = await run();
      if (result.ok) changes.push({ ...change, outcome });
      else changes.push({ ...change, outcome: "refused", reason: reasonOf(result.error) });
    }
  }
  return changes;
}

function driveSteps(ground: Ground, { drives }: Configuration): Step[] {
  const { appliance } = ground;
  return drives.flatMap((drive): Step[] => {
    const here = appliance.store.state.drives.get(drive.name);
    if (here === undefined) {
      const change = { kind: "drive", name: drive.name, action: "add" } as const;
      return [{ change, run: () => addDrive(ground, drive) }];
    }
    if ([here.path, here.byId].includes(drive.path)) return [];
    const change = { kind: "drive", name: drive.name, action: "change" } as const;
    const at = here.byId ?? here.path;
    const detail = `drive ${drive.name} is at ${at} here: remove it, or give one another name`;
    return [{ change, run: () => refused(detail) }];
  });
}

async function addDrive(
  { appliance, effects, brought, added }: Ground,
  drive: ConfigurationDrive,
): Promise<Result<unknown, CommandError>> {
  const result = await appliance.addDrive(drive, effects);
  if (!effects.isDry || !result.ok) return result;
  added.add(drive.name);
  const { superblock } = result.value;
  if (superblock !== undefined) brought.set(superblock.arrayUuid, superblock.arrayName);
  return result;
}

function arraySteps({ appliance, effects, brought }: Ground, { arrays }: Configuration): Step[] {
  return arrays.flatMap(({ uuid, name, settings }): Step[] => {
    const here = appliance.arrays.get(uuid);
    const nameBrought = here === undefined ? brought.get(uuid) : undefined;
    if (nameBrought !== undefined) {
      const change = { kind: "array", name: uuid, action: "change" } as const;
      const isSame = nameBrought === name && Object.keys(settings).length === 0;
      return isSame ? [] : [{ change, run: TAKEN }];
    }
    if (here === undefined || here.standing !== "known") {
      const detail = `nothing of array ${name} (${uuid}) is here: connect its drives, then again`;
      const change = { kind: "array", name: uuid, action: "add" } as const;
      return [{ change, run: () => refused(detail) }];
    }
    const isSame = here.label === name && isIn(settings, here.settings);
    const change = { kind: "array", name: uuid, action: "change" } as const;
    const patch = { ...settings, ...(here.label === name ? {} : { name }) };
    return isSame ? [] : [{ change, run: () => appliance.patchArray(uuid, patch, effects) }];
  });
}

function exportSteps({ appliance, effects, brought }: Ground, { exports }: Configuration): Step[] {
  return exports.flatMap((entry): Step[] => {
    const { name, array, readOnly, allow, attachAtStart: device } = entry;
    const here = appliance.store.state.exports.get(name);
    const isOffered =
      here?.arrayUuid === array &&
      here.readOnly === readOnly &&
      isDeepStrictEqual(here.allow, allow);
    const isSameDevice = (here?.attachAtStart ?? null) === device;
    if (isOffered && isSameDevice) return [];
    const action = here === undefined ? "add" : "change";
    const change = { kind: "export", name, action } as const;
    // Clients that it would harm are a reason to refuse it.
    const wanted = { name, array, readOnly, allow, force: false };
    const run = async () => {
      const put = await appliance.exports.put(wanted, effects);
      if (!put.ok || isSameDevice) return put;
      return appliance.attachments.remember(name, device, effects);
    };
    return [{ change, run: brought.has(array) ? TAKEN : run }];
  });
}

function spareSteps(
  { appliance, effects, brought, added }: Ground,
  { spares }: Configuration,
): Step[] {
  return spares.flatMap(({ drive, arrays }): Step[] => {
    const here = appliance.store.state.spares.get(drive);
    if (here !== undefined && isSameSet(here.arrays, arrays)) return [];
    const action = here === undefined ? "add" : "change";
    const change = { kind: "spare", name: drive, action } as const;
    const request = { drive, allocate: true, ...(arrays === null ? {} : { arrays }) };
    const isToCome = added.has(drive) || arrays?.some((uuid) => brought.has(uuid)) === true;
    return [{ change, run: isToCome ? TAKEN : () => appliance.spares.put(request, effects) }];
  });
}

function scheduleSteps(
  { appliance, effects, brought }: Ground,
  { schedules }: Configuration,
): Step[] {
  return schedules.flatMap(({ array, ...windows }): Step[] => {
    const here = appliance.store.state.schedules.get(array);
    if (here !== undefined && isIn(windows, here)) return [];
    const action = here === undefined ? "add" : "change";
    const change = { kind: "schedule", name: array, action } as const;
    // What overlaps was forced once.
    const put = () => appliance.schedules.put(array, windows, { force: true }, effects);
    return [{ change, run: brought.has(array) ? TAKEN : put }];
  });
}

/** Whether all that `part` says is so in `whole`. */
function isIn(part: object, whole: object): boolean {
  const values = new Map(Object.entries(whole));
  return Object.entries(part).every(([key, value]) => values.get(key) === value);
}

function isSameSet(one: readonly string[] | null, other: readonly string[] | null): boolean {
  if (one === null || other === null) return one === other;
  const all = new Set([...one, ...other]);
  return all.size === one.length && all.size === other.length;
}

function byName<T extends { readonly name: string }>(list: T[]): T[] {
  return list.sort((left, right) => (left.name < right.name ? -1 : 1));
}

/** In a dry run, of what is about a drive or an array that is not here yet: nobody can be asked. */
const TAKEN = () => Promise.resolve(ok(null));

function refused(detail: string): Promise<Result<never, CommandError>> {
  assert(detail !== "", "what is refused has a reason");
  return Promise.resolve({ ok: false, error: { kind: "conflict", code: "refused", detail } });
}

function reasonOf(error: CommandError | { readonly kind: "bad-values" }): string {
  return "detail" in error ? error.detail : "its values are refused: put it by its own call";
}
