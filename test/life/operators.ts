/**
 * Operators: commands at any time, of any kind, half of them mistaken (a name that nobody has, a
 * drive in use, twice the same, without the force that it takes). Each is a call of the API as
 * `curl` makes it; what its answer promises goes to the ledger.
 *
 * A command names what it is about (`subjects`), so that the ledger can tell which commands were
 * alone with it.
 */
import type { JobStatus } from "../../src/array/protocol.ts";
import { inBackground } from "../../src/base/background.ts";
import { nextBelow, type SeededRandom } from "../../src/base/random.ts";
import {
  arraySubject,
  driveSubject,
  exportSubject,
  type Ledger,
  labelSubject,
  scheduleSubject,
  spareSubject,
} from "./ledger.ts";
import type { ApiAnswer, LifeProcess } from "./life-process.ts";
import type { SimHost } from "./sim-host.ts";

export const LABELS = ["tank", "pool", "vault"] as const;
const EXPORTS = ["x", "y", "tank"] as const;
/** Nobody waits for a night here: some are open at once, one never is. */
const CRONS = ["* * * * *", "*/5 * * * *", "@hourly", "0 1 30 2 *"] as const;
const SLOW = { syncSpeedMin: 1_024, syncSpeedMax: 16_384 } as const;
const POLICIES = ["ppl", "bitmap", "resync"] as const;
const CHUNK_KIB = 8;
/** A growth in members takes one step, or some. */
const SIZES_KIB = [32, 32, 128] as const;

export interface OperatorGround {
  readonly process: LifeProcess;
  readonly ledger: Ledger;
  readonly host: SimHost;
  readonly random: SeededRandom;
  bump(what: string): void;
  violate(message: string): void;
  note(text: string): void;
  /** An array was made of these drives. */
  onCreated(answer: ApiAnswer, drives: readonly string[]): void;
  /** Somebody has asked for more members of some array. */
  onGrowthAsked(): void;
  /** It was promised that an array gets more members. */
  /** A growth by so many members has begun. */
  onGrowing(job: JobStatus, addedMembers: number): void;
  /** It was started by force: what it holds is what the operator wanted to have. */
  onForced(uuid: string): void;
  /** Drives that somebody wanted to fail. */
  readonly failedByHand: Set<string>;
}

interface Command {
  readonly kind: string;
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly subjects: readonly string[];
  /** What follows from an answer of 2xx; `violate` says nothing where another command was near. */
  readonly onDone?: (answer: ApiAnswer, violate: (message: string) => void) => void;
}

type Draw = (ground: OperatorGround) => Command;

/** By weight: a kind that is there twice comes twice as often. */
const DRAWS: readonly Draw[] = [
  createArray,
  createArray,
  deleteArray,
  rename,
  patchSettings,
  patchPolicy,
  putExport,
  putExport,
  deleteExport,
  putSchedule,
  removeSchedule,
  stopArray,
  startArray,
  startArray,
  failMember,
  addMember,
  addMember,
  replaceMember,
  replaceMember,
  removeMember,
  growInMembers,
  growInMembers,
  putSpare,
  putSpare,
  deleteSpare,
  addDrive,
  addDrive,
  addDrive,
  removeDrive,
  scrub,
  pauseScrub,
  cancelScrub,
  look,
];

/** One command, or the same one twice at a time. Runs inside the simulation. */
export function operate(ground: OperatorGround): void {
  const command = DRAWS[nextBelow(ground.random, DRAWS.length)]!(ground);
  const times = nextBelow(ground.random, 8) === 0 ? 2 : 1;
  for (let turn = 0; turn < times; turn += 1) inBackground(issue(ground, command), null);
}

export async function issue(ground: OperatorGround, command: Command): Promise<ApiAnswer> {
  const { kind, method, path, body, subjects, onDone } = command;
  const text = `${method} ${path} ${JSON.stringify(body ?? {})}`;
  const { ledger, process } = ground;
  const entry = ledger.begin(text, subjects);
  ground.note(text);
  const answer = await process.call(method, path, body);
  ground.note(`${answer.status} ${text} ${answer.body?.detail ?? ""}`);
  const isDone = answer.status < 300;
  ground.bump(`${kind} ${isDone ? "done" : `refused ${answer.status}`}`);
  // Of a call that failed half-way nobody can say how far it came.
  if (answer.status >= 500 && answer.status !== 507) entry.isBlurred = true;
  if (answer.status === 500 && answer.body.type === "urn:parityd:problem:internal") {
    ground.violate(`${text}: a defect`);
  }
  ledger.end(entry, () => {
    if (isDone) onDone?.(answer, entry.isBlurred ? () => {} : (message) => ground.violate(message));
  });
  return answer;
}

// What they know ------------------------------------------------------------------------------

function pick<T>(random: SeededRandom, from: readonly T[]): T | undefined {
  return from[nextBelow(random, Math.max(1, from.length))];
}

function chance(random: SeededRandom, oneIn: number): boolean {
  return nextBelow(random, oneIn) === 0;
}

/** An array by its label or UUID; now and then one that is not there. */
function anArray({ random, ledger }: OperatorGround): string {
  if (chance(random, 10)) return pick(random, ["nobody", ...LABELS])!;
  const entry = pick(random, [...ledger.arrays]);
  if (entry === undefined) return LABELS[0];
  return chance(random, 3) ? entry[0] : entry[1].label;
}

/** One that may have been given to an array is shared no more, whatever the answer. */
function placeOf(drive: string): string[] {
  return [driveSubject(drive), spareSubject(drive)];
}

function aDrive({ random, ledger }: OperatorGround): string {
  if (chance(random, 12)) return "d99";
  return pick(random, [...ledger.drives]) ?? "d1";
}

function subjectsOf({ ledger }: OperatorGround, reference: string): string[] {
  const uuid = ledger.resolve(reference);
  const subjects = [labelSubject(reference)];
  if (uuid !== null)
    subjects.push(arraySubject(uuid), labelSubject(ledger.arrays.get(uuid)!.label));
  return subjects;
}

// The commands --------------------------------------------------------------------------------

function createArray(ground: OperatorGround): Command {
  const { random, ledger } = ground;
  const count = chance(random, 3) ? 4 : 3;
  const known = [...ledger.drives];
  const drives: string[] = [];
  while (drives.length < count && known.length > 0) {
    drives.push(known.splice(nextBelow(random, known.length), 1)[0]!);
  }
  const spares = chance(random, 6) && known.length > 0 ? [known[0]!] : [];
  return creation(ground, {
    name: pick(random, LABELS)!,
    drives,
    spares,
    consistencyPolicy: pick(random, POLICIES)!,
    force: chance(random, 3),
  });
}

export function creation(
  ground: OperatorGround,
  wanted: {
    name: string;
    drives: readonly string[];
    spares?: readonly string[];
    consistencyPolicy?: string;
    force?: boolean;
  },
): Command {
  const { ledger } = ground;
  const { name, drives } = wanted;
  const allocate = !chance(ground.random, 3);
  const body = {
    ...wanted,
    chunkKiB: CHUNK_KIB,
    sizeKiB: pick(ground.random, SIZES_KIB)!,
    allocate,
  };
  // Its drives may be those of others, whose standing it may change by force.
  const holder = ledger.resolve(name);
  return {
    kind: "create",
    method: "POST",
    path: "/v1/arrays",
    body,
    subjects: [
      labelSubject(name),
      ...(holder === null ? [] : [arraySubject(holder)]),
      ...drives.flatMap(placeOf),
    ],
    onDone: (answer) => {
      const before = ledger.resolve(name);
      // By force it takes the label of an array that is absent, which is given up.
      if (before !== null) ledger.give(before);
      ledger.arrays.set(answer.body.uuid, { label: name, standing: "known" });
      ground.onCreated(answer, drives);
    },
  };
}

function deleteArray(ground: OperatorGround): Command {
  const reference = anArray(ground);
  const { random, ledger } = ground;
  const isZeroed = chance(random, 3);
  const query = `?zeroSuperblocks=${isZeroed}&force=${chance(random, 2)}`;
  const uuid = ledger.resolve(reference);
  const exports = [...ledger.exports].filter(([, entry]) => entry.uuid === uuid);
  // A shared spare that it has taken since the last audit may be nobody's then.
  const spares = isZeroed ? [...ledger.spares].map(spareSubject) : [];
  return {
    kind: "delete array",
    method: "DELETE",
    path: `/v1/arrays/${reference}${query}`,
    subjects: [
      ...subjectsOf(ground, reference),
      ...exports.map(([name]) => exportSubject(name)),
      ...spares,
    ],
    onDone: () => {
      ledger.blur(spares);
      if (uuid !== null) ledger.give(uuid);
      // It was learned since the last audit: whose exports went with it, nobody has seen.
      else {
        ledger.blur([...ledger.exports.keys()].map(exportSubject));
        ledger.blur([...ledger.schedules.keys()].map(scheduleSubject));
      }
    },
  };
}

function rename(ground: OperatorGround): Command {
  const reference = anArray(ground);
  const name = pick(ground.random, [...LABELS, "other"])!;
  return {
    kind: "rename",
    method: "PATCH",
    path: `/v1/arrays/${reference}`,
    body: { name },
    subjects: [...subjectsOf(ground, reference), labelSubject(name)],
    onDone: ({ body }, violate) => {
      const array = ground.ledger.arrays.get(body.uuid);
      if (array !== undefined) array.label = name;
      if (body.name !== name && array?.standing === "known") {
        violate(`renamed to ${name}, and called ${body.name}`);
      }
    },
  };
}

function patchSettings(ground: OperatorGround): Command {
  const { random } = ground;
  const reference = anArray(ground);
  const body = pick(random, [
    { readDeadlineMs: 2_000 + nextBelow(random, 4_000) },
    { syncSpeedMin: 9, syncSpeedMax: 3 },
    SLOW,
  ]);
  return setting(ground, reference, body!);
}

/** What works on it in the background takes seconds. */
export function slowing(ground: OperatorGround, reference: string): Command {
  return setting(ground, reference, SLOW);
}

function setting(ground: OperatorGround, reference: string, body: object): Command {
  return {
    kind: "settings",
    method: "PATCH",
    path: `/v1/arrays/${reference}`,
    body,
    subjects: subjectsOf(ground, reference),
  };
}

function patchPolicy(ground: OperatorGround): Command {
  const reference = anArray(ground);
  return {
    kind: "policy",
    method: "PATCH",
    path: `/v1/arrays/${reference}`,
    body: { consistencyPolicy: pick(ground.random, POLICIES) },
    subjects: subjectsOf(ground, reference),
  };
}

function putExport(ground: OperatorGround): Command {
  return exporting(ground, pick(ground.random, EXPORTS)!, anArray(ground));
}

export function exporting(ground: OperatorGround, name: string, array: string): Command {
  const readOnly = chance(ground.random, 10);
  const { ledger } = ground;
  return {
    kind: "put export",
    method: "PUT",
    path: `/v1/exports/${name}`,
    body: { array, readOnly },
    subjects: [exportSubject(name), ...subjectsOf(ground, array)],
    onDone: ({ body }, violate) => {
      const uuid = ledger.resolve(array);
      if (uuid !== null && body.arrayUuid !== uuid) {
        violate(`export ${name} of ${array} (${uuid}) offers ${body.arrayUuid}`);
      }
      ledger.exports.set(name, { uuid: body.arrayUuid, readOnly });
    },
  };
}

function deleteExport(ground: OperatorGround): Command {
  const name = pick(ground.random, EXPORTS)!;
  return {
    kind: "delete export",
    method: "DELETE",
    path: `/v1/exports/${name}?force=${chance(ground.random, 2)}`,
    subjects: [exportSubject(name)],
    onDone: () => {
      ground.ledger.exports.delete(name);
    },
  };
}

function putSchedule(ground: OperatorGround): Command {
  const { random, ledger } = ground;
  const reference = anArray(ground);
  const cron = pick(random, CRONS)!;
  const limitBytesPerSecond = chance(random, 2) ? 32_768 : null;
  return {
    kind: "put schedule",
    method: "PUT",
    path: `/v1/schedules/${reference}?force=${chance(random, 2)}`,
    body: { cron, windowMinutes: 1 + nextBelow(random, 6), maxAgeDays: 1, limitBytesPerSecond },
    subjects: subjectsOf(ground, reference),
    onDone: ({ body }, violate) => {
      const uuid = ledger.resolve(reference);
      if (uuid !== null && body.arrayUuid !== uuid) {
        violate(`the schedule of ${reference} (${uuid}) is of ${body.arrayUuid}`);
      }
      ledger.schedules.set(body.arrayUuid, cron);
    },
  };
}

function removeSchedule(ground: OperatorGround): Command {
  const { ledger } = ground;
  const reference = anArray(ground);
  const uuid = ledger.resolve(reference);
  return {
    kind: "remove schedule",
    method: "DELETE",
    path: `/v1/schedules/${reference}`,
    subjects: subjectsOf(ground, reference),
    onDone: () => {
      if (uuid !== null) ledger.schedules.delete(uuid);
      else ledger.blur([...ledger.schedules.keys()].map(scheduleSubject));
    },
  };
}

function stopArray(ground: OperatorGround): Command {
  const reference = anArray(ground);
  return {
    kind: "stop",
    method: "POST",
    path: `/v1/arrays/${reference}/stop`,
    body: { force: chance(ground.random, 2) },
    subjects: subjectsOf(ground, reference),
    onDone: ({ body }, violate) => {
      if (body.state !== "inactive") violate(`${reference} is stopped, and ${body.state}`);
    },
  };
}

function startArray(ground: OperatorGround): Command {
  const { ledger } = ground;
  const reference = anArray(ground);
  const force = chance(ground.random, 12);
  const uuid = ledger.resolve(reference);
  const isDeleted = uuid !== null && ledger.arrays.get(uuid)?.standing === "deleted";
  return {
    kind: isDeleted ? "start deleted" : "start",
    method: "POST",
    path: `/v1/arrays/${reference}/start`,
    body: { force },
    subjects: subjectsOf(ground, reference),
    onDone: ({ body }, violate) => {
      const array = ledger.arrays.get(body.uuid);
      if (array !== undefined) array.standing = "known";
      if (body.state === "inactive") violate(`${reference} is started, and inactive`);
      if (force) ground.onForced(body.uuid);
    },
  };
}

function failMember(ground: OperatorGround): Command {
  const reference = anArray(ground);
  const drive = aDrive(ground);
  ground.failedByHand.add(drive);
  return {
    kind: "fail member",
    method: "POST",
    path: `/v1/arrays/${reference}/members/${drive}/fail`,
    body: {},
    subjects: subjectsOf(ground, reference),
  };
}

function addMember(ground: OperatorGround): Command {
  const reference = anArray(ground);
  const drive = aDrive(ground);
  return {
    kind: "add member",
    method: "POST",
    path: `/v1/arrays/${reference}/members`,
    body: { drive, force: chance(ground.random, 4) },
    subjects: [...subjectsOf(ground, reference), ...placeOf(drive)],
  };
}

function replaceMember(ground: OperatorGround): Command {
  const reference = anArray(ground);
  const [member, target] = [aDrive(ground), aDrive(ground)];
  return {
    kind: "replace member",
    method: "POST",
    path: `/v1/arrays/${reference}/members/${member}/replace`,
    body: { with: target, force: chance(ground.random, 4) },
    subjects: [...subjectsOf(ground, reference), driveSubject(member), ...placeOf(target)],
  };
}

function removeMember(ground: OperatorGround): Command {
  const reference = anArray(ground);
  return {
    kind: "remove member",
    method: "DELETE",
    path: `/v1/arrays/${reference}/members/${aDrive(ground)}`,
    subjects: subjectsOf(ground, reference),
  };
}

/** Mostly by drives that nobody has. */
function growInMembers(ground: OperatorGround): Command {
  const { random, ledger, host } = ground;
  const reference = anArray(ground);
  const free = [...ledger.drives].filter((name) => {
    const disk = host.diskOfDrive(name);
    return disk?.isPlugged === true && host.memberOn(disk) === null;
  });
  const first = pick(random, chance(random, 4) ? [...ledger.drives] : free) ?? aDrive(ground);
  const second = chance(random, 4) ? pick(random, free) : undefined;
  const drives = second === undefined || second === first ? [first] : [first, second];
  ground.onGrowthAsked();
  return {
    kind: "grow in members",
    method: "POST",
    path: `/v1/arrays/${reference}/grow`,
    body: { drives, force: chance(random, 3), allocate: chance(random, 2) },
    subjects: [...subjectsOf(ground, reference), ...drives.flatMap(placeOf)],
    onDone: ({ body }) => ground.onGrowing(body, drives.length),
  };
}

function putSpare(ground: OperatorGround): Command {
  return sharing(ground, aDrive(ground));
}

export function sharing(ground: OperatorGround, drive: string): Command {
  const { random, ledger } = ground;
  const arrays = chance(random, 3) ? [anArray(ground), anArray(ground)] : undefined;
  const uuids = arrays?.map((reference) => ledger.resolve(reference) ?? reference);
  return {
    kind: "put spare",
    method: "PUT",
    path: `/v1/spares/${drive}`,
    body: { ...(arrays === undefined ? {} : { arrays }), allocate: chance(random, 2) },
    subjects: placeOf(drive),
    onDone: ({ body }, violate) => {
      if (body.drive !== drive) violate(`${drive} is shared, and called ${body.drive}`);
      if ((body.arrays === null) !== (uuids === undefined)) {
        violate(`${drive} is shared for ${arrays}, and listed for ${body.arrays}`);
      }
      ledger.spares.add(drive);
    },
  };
}

function deleteSpare(ground: OperatorGround): Command {
  const { random, ledger } = ground;
  const drive = pick(random, [...ledger.spares]) ?? aDrive(ground);
  return {
    kind: "delete spare",
    method: "DELETE",
    path: `/v1/spares/${drive}`,
    subjects: [spareSubject(drive)],
    onDone: () => {
      ledger.spares.delete(drive);
    },
  };
}

function addDrive(ground: OperatorGround): Command {
  const { random, host } = ground;
  const disk = pick(
    random,
    [...host.disks.values()].filter(({ isPlugged }) => isPlugged),
  );
  const isWrong = chance(random, 8) || disk === undefined;
  const name = chance(random, 6) || disk === undefined ? aDrive(ground) : `d${disk.number}`;
  const path = isWrong ? "/dev/nowhere" : (chance(random, 3) && disk.byId) || disk.path;
  return adding(ground, name, path);
}

export function adding(ground: OperatorGround, name: string, path: string): Command {
  return {
    kind: "add drive",
    method: "POST",
    path: "/v1/drives",
    body: { name, path },
    subjects: [driveSubject(name)],
    onDone: () => {
      ground.ledger.drives.add(name);
    },
  };
}

function removeDrive(ground: OperatorGround): Command {
  const name = aDrive(ground);
  return {
    kind: "remove drive",
    method: "DELETE",
    path: `/v1/drives/${name}?force=${chance(ground.random, 12)}`,
    subjects: placeOf(name),
    onDone: () => {
      ground.ledger.drives.delete(name);
      ground.ledger.spares.delete(name);
    },
  };
}

function scrub(ground: OperatorGround): Command {
  const { random } = ground;
  const reference = anArray(ground);
  const query = chance(random, 3) ? `?wait=5&strict=${chance(random, 2)}` : "";
  const limitBytesPerSecond = chance(random, 2) ? 32_768 : null;
  return {
    kind: query === "" ? "scrub" : "scrub and wait",
    method: "POST",
    path: `/v1/arrays/${reference}/scrub${query}`,
    body: { mode: chance(random, 3) ? "repair" : "check", limitBytesPerSecond },
    subjects: [],
  };
}

function pauseScrub(ground: OperatorGround): Command {
  const path = `/v1/arrays/${anArray(ground)}/scrub/pause`;
  return { kind: "pause scrub", method: "POST", path, body: {}, subjects: [] };
}

function cancelScrub(ground: OperatorGround): Command {
  const path = `/v1/arrays/${anArray(ground)}/scrub`;
  return { kind: "cancel scrub", method: "DELETE", path, subjects: [] };
}

const LOOKS = [
  ...["/v1/arrays", "/v1/drives", "/v1/exports", "/v1/jobs", "/v1/spares", "/v1/schedules"],
  ...["/metrics", "/-/healthy"],
];

function look({ random }: OperatorGround): Command {
  const path = LOOKS[nextBelow(random, LOOKS.length)]!;
  return { kind: "look", method: "GET", path, subjects: [] };
}
