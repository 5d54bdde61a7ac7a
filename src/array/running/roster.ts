/**
 * Who sits where in a running array: one state for each seat, changed by `next` alone. All else
 * that knows of members follows from it: the member set of the engine, the roles in the
 * superblocks, the gate of each drive, the answer to who asks.
 *
 *            named             seated             filled              committed
 *   missing ------> rebuilding ------> rebuilding ------> rebuilding -----------> in-sync
 *    ^  ^ (faulty,  naming       |     filling            committing |            |  ^  |
 *    |  |  too)         |        |         |                  |      |            |  |  | copy
 *    |  | left          | failed |         | failed           | failed            |  |  v
 *    |  +--- faulty <---+--------+---------+------------------+------ failed -----+  | replacing
 *    |         ^                                                                     | naming,
 *    | left    | failed           swapped, target-failed, target-left ---------------+ copying,
 *    +------ spare                                                                     swapping
 *                     rebuilding (the target, filling) <------- failed, taken over -------+
 *
 *   fenced: from any seat with a drive, when another host has taken the drives. It remembers what
 *   it was: no member is at fault, and nothing but "left" changes it (write-rules 21).
 *
 * A step that the next superblock update says is taken in that update ("named", "filled",
 * "copy-named", "copied") and counts when it is durable ("seated", "committed", "copy-seated",
 * "swapped"): the order of all of md's changes. What follows from a change is an effect, as data:
 * raid-array.ts carries them out, in their order.
 */
import { assert } from "../../base/assert.ts";
import { Role, type Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";
import type { MemberState } from "../protocol.ts";
import { DeviceRoles } from "./device-roles.ts";

/** D is a drive; a name in the test of `next`. */
export type Seat<D> =
  | { readonly kind: "missing" }
  | { readonly kind: "spare"; readonly drive: D }
  | {
      readonly kind: "rebuilding";
      readonly drive: D;
      /** Named in the superblocks soon; there, and filled; full, and in sync in them soon. */
      readonly step: "naming" | "filling" | "committing";
    }
  | { readonly kind: "in-sync"; readonly drive: D }
  | {
      readonly kind: "replacing";
      readonly drive: D;
      /** Gets a copy of `drive`, which serves meanwhile. */
      readonly target: D;
      /** Named in the superblocks soon; there, and filled; full, and in its place in them soon. */
      readonly step: "naming" | "copying" | "swapping";
    }
  | { readonly kind: "faulty"; readonly drive: D; readonly cause: string }
  | { readonly kind: "fenced"; readonly was: UnfencedSeat<D> };

export type UnfencedSeat<D> = Exclude<Seat<D>, { kind: "fenced" }>;

export type SeatEvent<D> =
  | { readonly kind: "named"; readonly drive: D }
  | { readonly kind: "seated" }
  | { readonly kind: "filled" }
  | { readonly kind: "committed" }
  /** `isTakenOver`: all others are there, so that who was copied goes on as a rebuild. */
  | { readonly kind: "failed"; readonly cause: string; readonly isTakenOver: boolean }
  | { readonly kind: "left" }
  | { readonly kind: "copy-named"; readonly target: D }
  | { readonly kind: "copy-seated" }
  | { readonly kind: "copied" }
  | { readonly kind: "swapped" }
  | { readonly kind: "target-failed"; readonly cause: string }
  /** Somebody wants it out. */
  | { readonly kind: "target-left" }
  | { readonly kind: "fenced" };

export type SeatEffect<D> =
  /** The engine asks nothing of the member any more. */
  | { readonly kind: "leave-set" }
  /** The same, and the target of its copy has the role from now on, to be rebuilt. */
  | { readonly kind: "take-over" }
  /** The member counts as whole. */
  | { readonly kind: "count-in-sync" }
  /** The engine copies nothing to the target any more. */
  | { readonly kind: "end-copy" }
  /** The target has the role of `drive`, whole. */
  | { readonly kind: "swap"; readonly drive: D }
  /** The drive takes nothing more, and what it owes is given up. */
  | { readonly kind: "close"; readonly drive: D; readonly cause: string }
  /** Another host has it: nothing reaches it. */
  | { readonly kind: "shut"; readonly drive: D }
  /** What the next superblocks say that the drive is: dev_roles of its number. */
  | { readonly kind: "device-role"; readonly drive: D; readonly as: "role" | "spare" | "faulty" }
  | { readonly kind: "tell-failed"; readonly drive: D; readonly cause: string }
  /** What the array does about the loss, and its record before the next acknowledgement. */
  | { readonly kind: "lost-member"; readonly drive: D; readonly wasInSync: boolean }
  /** Its loss is on record before the next acknowledgement. */
  | { readonly kind: "lost-target"; readonly drive: D };

export interface NextSeat<D> {
  readonly seat: Seat<D>;
  readonly effects: readonly SeatEffect<D>[];
}

/** What becomes of a seat, and what follows; null: that cannot happen to it. */
export function next<D>(seat: Seat<D>, event: SeatEvent<D>): NextSeat<D> | null {
  if (event.kind === "failed") return failed(seat, event);
  if (event.kind === "fenced") return fenced(seat);
  if (event.kind === "left") return left(seat);
  switch (seat.kind) {
    case "missing":
    case "faulty":
      if (event.kind !== "named") return null;
      return {
        seat: { kind: "rebuilding", drive: event.drive, step: "naming" },
        effects: [{ kind: "device-role", drive: event.drive, as: "role" }],
      };
    case "rebuilding":
      return nextOfRebuilding(seat, event);
    case "in-sync":
      if (event.kind !== "copy-named") return null;
      return {
        seat: { kind: "replacing", drive: seat.drive, target: event.target, step: "naming" },
        effects: [{ kind: "device-role", drive: event.target, as: "role" }],
      };
    case "replacing":
      return nextOfReplacing(seat, event);
    case "spare":
      return null;
    case "fenced":
      // What was on its way when the fence came may still be told: it changes nothing.
      return { seat, effects: [] };
  }
}

function nextOfRebuilding<D>(
  seat: Extract<Seat<D>, { kind: "rebuilding" }>,
  event: SeatEvent<D>,
): NextSeat<D> | null {
  const { drive, step } = seat;
  if (step === "naming" && event.kind === "seated") {
    return { seat: { kind: "rebuilding", drive, step: "filling" }, effects: [] };
  }
  if (step === "filling" && event.kind === "filled") {
    return { seat: { kind: "rebuilding", drive, step: "committing" }, effects: [] };
  }
  if (step === "committing" && event.kind === "committed") {
    return { seat: { kind: "in-sync", drive }, effects: [{ kind: "count-in-sync" }] };
  }
  return null;
}

function nextOfReplacing<D>(
  seat: Extract<Seat<D>, { kind: "replacing" }>,
  event: SeatEvent<D>,
): NextSeat<D> | null {
  const { drive, target, step } = seat;
  if (event.kind === "target-failed" || event.kind === "target-left") {
    const effects: SeatEffect<D>[] = step === "naming" ? [] : [{ kind: "end-copy" }];
    // The update that swaps the two may have been on its way.
    if (step === "swapping") effects.push({ kind: "device-role", drive, as: "role" });
    if (event.kind === "target-left") {
      effects.push({ kind: "device-role", drive: target, as: "spare" });
    } else {
      effects.push(
        { kind: "close", drive: target, cause: event.cause },
        { kind: "device-role", drive: target, as: "faulty" },
        { kind: "tell-failed", drive: target, cause: event.cause },
      );
    }
    effects.push({ kind: "lost-target", drive: target });
    return { seat: { kind: "in-sync", drive }, effects };
  }
  if (step === "naming" && event.kind === "copy-seated") {
    return { seat: { kind: "replacing", drive, target, step: "copying" }, effects: [] };
  }
  if (step === "copying" && event.kind === "copied") {
    return {
      seat: { kind: "replacing", drive, target, step: "swapping" },
      effects: [
        { kind: "device-role", drive: target, as: "role" },
        { kind: "device-role", drive, as: "faulty" },
      ],
    };
  }
  if (step === "swapping" && event.kind === "swapped") {
    return { seat: { kind: "in-sync", drive: target }, effects: [{ kind: "swap", drive }] };
  }
  return null;
}

/** The one way in which a drive fails its array. */
function failed<D>(
  seat: Seat<D>,
  { cause, isTakenOver }: Extract<SeatEvent<D>, { kind: "failed" }>,
): NextSeat<D> | null {
  // Of a seat that is fenced nobody knows what it is; one that failed has been told of.
  if (seat.kind === "fenced" || seat.kind === "faulty") return { seat, effects: [] };
  if (seat.kind === "missing") return null;
  const { drive } = seat;
  const isReplacing = seat.kind === "replacing";
  const goesOn = isReplacing && isTakenOver && seat.step !== "naming";
  const wasMember =
    seat.kind !== "spare" && !(seat.kind === "rebuilding" && seat.step === "naming");
  const wasInSync = seat.kind === "in-sync" || isReplacing;
  const effects: SeatEffect<D>[] = [];
  if (isReplacing && !goesOn && seat.step !== "naming") effects.push({ kind: "end-copy" });
  if (wasMember) effects.push({ kind: goesOn ? "take-over" : "leave-set" });
  effects.push(
    { kind: "close", drive, cause },
    { kind: "device-role", drive, as: "faulty" },
    { kind: "tell-failed", drive, cause },
  );
  if (isReplacing) {
    const as = goesOn ? "role" : "spare";
    effects.push({ kind: "device-role", drive: seat.target, as });
  }
  if (wasMember) effects.push({ kind: "lost-member", drive, wasInSync });
  if (goesOn) {
    return { seat: { kind: "rebuilding", drive: seat.target, step: "filling" }, effects };
  }
  return { seat: { kind: "faulty", drive, cause }, effects };
}

function fenced<D>(seat: Seat<D>): NextSeat<D> {
  if (seat.kind === "missing" || seat.kind === "fenced") return { seat, effects: [] };
  const effects: SeatEffect<D>[] = [{ kind: "shut", drive: seat.drive }];
  if (seat.kind === "replacing") effects.push({ kind: "shut", drive: seat.target });
  return { seat: { kind: "fenced", was: seat }, effects };
}

/** The drive is taken away. One that works has failed before (raid-array.ts). */
function left<D>(seat: Seat<D>): NextSeat<D> | null {
  switch (seat.kind) {
    case "missing":
    case "fenced":
      return { seat: { kind: "missing" }, effects: [] };
    case "spare":
    case "faulty":
      break;
    case "rebuilding":
      if (seat.step === "naming") break;
      return null;
    case "in-sync":
    case "replacing":
      return null;
  }
  return {
    seat: { kind: "missing" },
    effects: [{ kind: "device-role", drive: seat.drive, as: "spare" }],
  };
}

/** The drive of a seat, also a faulty one, or null. */
export function driveOf<D>(seat: Seat<D>): D | null {
  if (seat.kind === "fenced") return driveOf(seat.was);
  return seat.kind === "missing" ? null : seat.drive;
}

/** What the outside sees. */
export function memberStateOf<D>(seat: Seat<D>): MemberState {
  if (seat.kind === "fenced") return memberStateOf(seat.was);
  // The one that is replaced serves as before.
  return seat.kind === "replacing" ? "in-sync" : seat.kind;
}

/** The drive that is to replace that of a seat, or null. */
export function targetOf<D>(seat: Seat<D>): D | null {
  if (seat.kind === "fenced") return targetOf(seat.was);
  return seat.kind === "replacing" ? seat.target : null;
}

/** What a superblock update says of the target of a seat that is replaced. */
export function targetClaimIn<D>(seat: Seat<D>): "in-sync" | "replacement" | null {
  if (seat.kind !== "replacing") return null;
  return seat.step === "swapping" ? "in-sync" : "replacement";
}

/** What a superblock update says of the seat's drive; null: it gets none. */
export function claimIn<D>(seat: Seat<D>): "in-sync" | "rebuilding" | null {
  switch (seat.kind) {
    case "in-sync":
      return "in-sync";
    case "replacing":
      return seat.step === "swapping" ? null : "in-sync";
    case "rebuilding":
      return seat.step === "committing" ? "in-sync" : "rebuilding";
    case "spare":
      return "in-sync";
    case "missing":
    case "faulty":
    case "fenced":
      return null;
  }
}

/** The seats of one array: its roles, then its spares; and who is on the way to one. */
export class Roster {
  readonly memberCount: number;
  readonly arrayUuid: string;
  /** The drive that is on its way to a role, and may have none yet. */
  arriving: Drive | null = null;
  private readonly roles: Seat<Drive>[];
  private spareSeats: Seat<Drive>[];
  private readonly deviceRoles: DeviceRoles;

  constructor(options: { superblock: Superblock; spares: readonly Drive[] }) {
    const { memberCount, devRoles, arrayUuid } = options.superblock;
    this.memberCount = memberCount;
    this.arrayUuid = arrayUuid;
    this.roles = new Array<Seat<Drive>>(memberCount).fill({ kind: "missing" });
    this.spareSeats = options.spares.map((drive) => ({ kind: "spare", drive }));
    this.deviceRoles = new DeviceRoles(devRoles);
  }

  /** Whom the start of the array has found in a role. */
  sitAtStart(role: number, seat: Seat<Drive>): void {
    assert(this.seatOf(role).kind === "missing", "a seat is taken once");
    const isMember = seat.kind === "rebuilding" || seat.kind === "replacing";
    assert(isMember || seat.kind === "in-sync", "who has a role is a member");
    assert(this.roleOf(seat.drive) < 0, "a drive has one role");
    this.roles[role] = seat;
  }

  /** By role. */
  get seats(): readonly Seat<Drive>[] {
    return this.roles;
  }

  seatOf(role: number): Seat<Drive> {
    const seat = this.roles[role];
    assert(seat !== undefined, "a role has a seat");
    return seat;
  }

  /** The drive in this role, also a faulty one until it is removed; null: none is known. */
  driveAt(role: number): Drive | null {
    return driveOf(this.seatOf(role));
  }

  /** The role of a drive, or -1. */
  roleOf(drive: Drive): number {
    return this.roles.findIndex((seat) => driveOf(seat) === drive);
  }

  get spares(): readonly Drive[] {
    return this.spareSeats.flatMap((seat) => driveOf(seat) ?? []);
  }

  isSpare(drive: Drive): boolean {
    return this.spareSeats.some((seat) => driveOf(seat) === drive);
  }

  /** Every drive that the array has: members, faulty ones, spares, and who is on the way. */
  *drives(): Generator<Drive> {
    for (const seat of this.roles) {
      const drive = driveOf(seat);
      if (drive !== null) yield drive;
    }
    const { arriving, target } = this;
    if (target !== null) yield target;
    yield* this.spares;
    const isSeated = arriving === null || arriving === target || this.isSpare(arriving);
    if (!isSeated && this.roleOf(arriving) < 0) yield arriving;
  }

  /** The role of the member that is being replaced; -1: none. */
  get replacingRole(): number {
    return this.roles.findIndex((seat) => targetOf(seat) !== null);
  }

  /** Who is to replace a member, or null. */
  get target(): Drive | null {
    const role = this.replacingRole;
    return role < 0 ? null : targetOf(this.seatOf(role));
  }

  /** The role that is being rebuilt, or about to be; -1: none. */
  get rebuildingRole(): number {
    return this.roles.findIndex(({ kind }) => kind === "rebuilding");
  }

  /** Nobody who works sits there. */
  isFree(role: number): boolean {
    const { kind } = this.seatOf(role);
    return kind === "missing" || kind === "faulty";
  }

  /** A role for another drive, or -1; also where one is being rebuilt. */
  get freeRole(): number {
    if (this.rebuildingRole >= 0) return -1;
    return this.roles.findIndex((_, role) => this.isFree(role));
  }

  /** Changes the seat of a role, and answers what follows. */
  apply(role: number, event: SeatEvent<Drive>): readonly SeatEffect<Drive>[] {
    const seat = this.seatOf(role);
    const changed = next(seat, event);
    assert(changed !== null, `a seat that is ${seat.kind} meets no "${event.kind}"`);
    if (event.kind === "named") {
      assert(this.freeRole >= 0, "one member is rebuilt at a time");
      const current = this.roleOf(event.drive);
      assert(current < 0 || current === role, "who is named has no other role");
      assert(!this.isSpare(event.drive), "a spare gives up its seat for a role");
    }
    if (event.kind === "copy-named") {
      assert(this.target === null, "one member is replaced at a time");
      const { target } = event;
      assert(this.roleOf(target) < 0 && !this.isSpare(target), "a target has no other seat");
    }
    this.roles[role] = changed.seat;
    return changed.effects;
  }

  /** As `apply`, for the seat of a spare: one that is none any more has no seat. */
  applyToSpare(drive: Drive, event: SeatEvent<Drive>): readonly SeatEffect<Drive>[] {
    const index = this.spareSeats.findIndex((seat) => driveOf(seat) === drive);
    const seat = this.spareSeats[index];
    assert(seat !== undefined, "a spare has a seat");
    const changed = next(seat, event);
    assert(changed !== null, `a spare meets no "${event.kind}"`);
    if (changed.seat.kind === "faulty" || changed.seat.kind === "missing") {
      this.spareSeats.splice(index, 1);
    } else this.spareSeats[index] = changed.seat;
    return changed.effects;
  }

  addSpare(drive: Drive): void {
    assert(this.roleOf(drive) < 0 && !this.isSpare(drive), "a drive has one seat");
    this.spareSeats.push({ kind: "spare", drive });
    this.setDeviceRole(drive, Role.spare);
  }

  /** Another host has taken the drives: those to shut, whoever is on the way among them. */
  fence(): Drive[] {
    const shut: Drive[] = [];
    const change = (seat: Seat<Drive>): Seat<Drive> => {
      const changed = fenced(seat);
      for (const effect of changed.effects) if (effect.kind === "shut") shut.push(effect.drive);
      return changed.seat;
    };
    for (const [role, seat] of this.roles.entries()) this.roles[role] = change(seat);
    this.spareSeats = this.spareSeats.map(change);
    if (this.arriving !== null && !shut.includes(this.arriving)) shut.push(this.arriving);
    return shut;
  }

  /** The first spare gives up its seat: it is to have a role. */
  takeSpare(): Drive | null {
    const seat = this.spareSeats.shift();
    return seat === undefined ? null : driveOf(seat);
  }

  /** As `takeSpare`, this one. */
  takeThisSpare(drive: Drive): void {
    assert(this.isSpare(drive), "a spare that gives up its seat has one");
    this.spareSeats = this.spareSeats.filter((seat) => driveOf(seat) !== drive);
  }

  // dev_roles --------------------------------------------------------------------------------

  /** For the superblocks of an update. */
  tellDeviceRoles(): number[] {
    return this.deviceRoles.tell();
  }

  /** `memberCount`: of the array that comes next, where that gets more. */
  setDeviceRole(drive: Drive, role: number, memberCount = this.memberCount): void {
    const isRole = role >= 0 && role < memberCount;
    assert(isRole || role >= Role.limit, "a device has a role of the array, or none");
    assert(drive.superblock !== null, "a device has its number from its superblock");
    this.deviceRoles.set(drive.superblock.devNumber, role);
  }

  /** A number that none of the array's drives uses, or -1. */
  get freeDeviceNumber(): number {
    const inUse = new Set<number>();
    for (const { superblock } of this.drives())
      if (superblock !== null) inUse.add(superblock.devNumber);
    return this.deviceRoles.firstFree(inUse);
  }

  /** Takes roles that no drive fills out of dev_roles, and gives each seated drive its role. */
  dropMissingRoles(): void {
    this.deviceRoles.clear();
    for (const [role, seat] of this.roles.entries()) {
      const drive = driveOf(seat);
      if (drive !== null && seat.kind !== "faulty") this.setDeviceRole(drive, role);
      const target = targetOf(seat);
      if (target !== null) this.setDeviceRole(target, role);
    }
  }
}
