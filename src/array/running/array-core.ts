/**
 * What the parts of one running array share, and who writes what of it. The parts take this, and
 * `MemberVerdicts` where they have something to tell of a member; none takes the array itself.
 *
 * | field                     | written by                                                        |
 * |---------------------------|-------------------------------------------------------------------|
 * | `roster`                  | raid-array.ts and sync/seating.ts; `arriving` by the latter       |
 * | `members`: who is there   | the same two, as the roster says                                  |
 * | `members`: how far        | sync/: rebuild, resync, what is proven                            |
 * | `members`: who is avoided | running/reads-around.ts                                           |
 * | `state`                   | inside updates of `superblocks`; the dirty mark by dirty-mark.ts  |
 * | `policyKind`              | policy/array-policy.ts                                            |
 * | `readOnlyReason`, `hasStarted`, `isStopped` | raid-array.ts                                   |
 * | `fencedBy`                | running/fence.ts                                                  |
 * | `name`                    | registry.ts                                                       |
 * | `dismissed`               | commands/                                                         |
 */
import { assert } from "../../base/assert.ts";
import { Signal } from "../../base/signal.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { AsyncIo } from "../../block/async-io.ts";
import { reshapeOf } from "../../md/reshape.ts";
import type { Superblock } from "../../md/superblock.ts";
import { StripeEngine } from "../../raid5/engine.ts";
import type { EngineEnvironment, EngineHooks } from "../../raid5/environment.ts";
import { Geometry } from "../../raid5/geometry.ts";
import { MemberSet } from "../../raid5/members/member-set.ts";
import type { ArrayContext, ArrayGuard } from "../array-guard.ts";
import type { Drive } from "../drives/drive.ts";
import { FRONT_REQUESTS_MAX } from "../front.ts";
import type {
  ArrayEvent,
  ArrayTuning,
  ConsistencyPolicy,
  EventKind,
  Severity,
} from "../protocol.ts";
import { Roster } from "./roster.ts";
import type { StartPlan } from "./start-plan.ts";
import { SuperblockState, type SyncFacts } from "./superblock-state.ts";
import { SuperblockWriter } from "./superblock-writer.ts";

/** What parts of an array tell of its members. What follows is decided in one place. */
export interface MemberVerdicts {
  /** A write of the array's own failed: superblock, bitmap, log (write-rules 13). */
  writeFailed(role: number, cause: string): void;
  /** The member cannot be one any more. */
  failMember(role: number, cause: string): void;
  /** The drive that is to replace a member cannot. */
  failTarget(cause: string): void;
  /** The same, where somebody wants it out. */
  releaseTarget(): void;
}

/** What the superblock updates of an array ask of its other parts. */
export interface UpdateHooks {
  /** What must be durable before the next update is. False: there is no room for it. */
  beforeUpdate(): Promise<boolean>;
  /** The superblock of this drive cannot be written. */
  superblockFailed(drive: Drive, errno: number): void;
}

export class ArrayCore {
  /** Its label: for messages. */
  name: string;
  readonly geometry: Geometry;
  readonly roster: Roster;
  readonly members: MemberSet;
  readonly engine: StripeEngine;
  /** What the superblocks say. */
  readonly state: SuperblockState;
  readonly superblocks: SuperblockWriter;
  /** Whatever is thrown in here stops this array alone: the doors are listed there. */
  readonly guard: ArrayGuard;
  readonly context: ArrayContext;
  readonly asyncIo: AsyncIo;
  readonly environment: EngineEnvironment;
  readonly tuning: ArrayTuning;
  /** Started read-only: not one byte is written to any member. */
  readonly isReadOnlyStart: boolean;
  /** Members failed or removed by request, by device UUID: they do not come back by themselves. */
  readonly dismissed = new Set<string>();
  /** Raised at the end of each turn, and when a job, a seat or a superblock update has ended. */
  readonly changed = new Signal();
  policyKind: ConsistencyPolicy;
  /** Why writes are refused although enough members are there; null: they are not. */
  readOnlyReason: string | null = null;
  /** Another host has its drives, and which of them told; null: it is ours. */
  fencedBy: string | null = null;
  /** Its logs are seated and its members at one event count: requests may come. */
  hasStarted = false;
  isStopped = false;
  private readonly emitEvent: (event: ArrayEvent) => void;

  constructor(options: {
    guard: ArrayGuard;
    plan: StartPlan;
    tuning: ArrayTuning;
    emit: (event: ArrayEvent) => void;
    engineHooks: EngineHooks;
    updateHooks: UpdateHooks;
  }) {
    const { guard, plan } = options;
    const { context, router, asyncIo } = guard;
    const { superblock } = plan;
    this.guard = guard;
    this.context = context;
    this.asyncIo = asyncIo;
    this.environment = { ...context, guard, router };
    this.name = plan.name;
    this.tuning = options.tuning;
    this.isReadOnlyStart = plan.isReadOnly;
    this.policyKind = policyOf(superblock);
    this.emitEvent = options.emit;
    // A dirty array stays marked until its resync is through, whether or not anybody writes.
    const isMarkedDirty = plan.resyncFromSector === 0;
    this.state = new SuperblockState(superblock, { isMarkedDirty });
    const { memberCount } = superblock;
    assert(plan.roles.length === memberCount, "a plan has an entry for each role");
    this.geometry = geometryOf(superblock);
    this.roster = new Roster({ superblock, spares: plan.spares });
    this.members = new MemberSet(this.geometry);
    this.engine = new StripeEngine({
      environment: this.environment,
      geometry: this.geometry,
      members: this.members,
      requestCapacity: FRONT_REQUESTS_MAX,
      hooks: options.engineHooks,
    });
    this.superblocks = this.writerWith(options.updateHooks);
  }

  private writerWith(hooks: UpdateHooks): SuperblockWriter {
    const { context, roster, members, state } = this;
    return new SuperblockWriter({
      host: {
        ...hooks,
        nextSuperblocks: () => {
          assert(!this.isReadOnlyStart, "a read-only start writes no superblock");
          assert(!this.isFailed, "nothing is recorded once two members are gone");
          return state.next({ roster, sync: this.syncFacts, wallMs: context.clock.wallMs() });
        },
        leftOut: () => state.leftOut(roster),
        isMember: (drive) => {
          const role = roster.roleOf(drive);
          if (role >= 0) return members.isPresent(role);
          return roster.isSpare(drive) || roster.target === drive;
        },
        mayNotWrite: () => this.isFailed || this.isReadOnlyStart,
        hasEnded: () => this.changed.raise(),
      },
      asyncIo: this.asyncIo,
      memory: context.memory,
      pool: context.enginePool,
      guard: this.guard,
      timers: context.timers,
    });
  }

  /** The superblock that it was started from, with the size that it has now. */
  get identity(): Superblock {
    return this.state.identity;
  }

  get uuid(): string {
    return this.identity.arrayUuid;
  }

  /** It was made by this start: nobody relies on what it holds. */
  get isNew(): boolean {
    return this.identity.events === 0;
  }

  /** Nothing is written or acknowledged any more (write-rules 15, 21). */
  get isFailed(): boolean {
    return this.members.isFailed;
  }

  /** What the superblocks have to say of rebuild and resync now (write-rules 23). */
  get syncFacts(): SyncFacts {
    const chunkSectors = this.geometry.chunkBytes / SECTOR_BYTES;
    const { inSyncBelowStripe, rebuiltBelowStripe } = this.members;
    const { stripeCount } = this.geometry;
    assert((inSyncBelowStripe ?? 0) <= stripeCount, "a resync comes no further than the array");
    assert(rebuiltBelowStripe <= stripeCount, "a rebuild comes no further than the array");
    return {
      inSyncBelowSector: inSyncBelowStripe === null ? null : inSyncBelowStripe * chunkSectors,
      rebuiltBelowSector: rebuiltBelowStripe * chunkSectors,
      copiedBelowSector: (this.members.copy?.durableStripe ?? 0) * chunkSectors,
      keepsCheckpoint: this.policyKind === "ppl",
    };
  }

  /** The name that the members carry now. */
  get setNameBytes(): Uint8Array {
    for (const seat of this.roster.seats) {
      const superblock = seat.kind === "in-sync" ? seat.drive.superblock : null;
      if (superblock !== null) return superblock.setNameBytes;
    }
    return this.identity.setNameBytes;
  }

  /** Members that are there, by role; who leaves meanwhile is left out. */
  *presentMembers(): Generator<{ readonly role: number; readonly drive: Drive }> {
    for (let role = 0; role < this.roster.memberCount; role += 1) {
      const drive = this.roster.driveAt(role);
      if (drive !== null && this.members.isPresent(role)) yield { role, drive };
    }
  }

  /** Writes the superblocks with the checkpoints as they are now; true: that is durable. */
  record(change: () => void = () => {}): Promise<boolean> {
    return this.superblocks.update(change);
  }

  emit(
    kind: EventKind,
    severity: Severity,
    message: string,
    more: { drive?: Drive; job?: number } = {},
  ): void {
    // What a broken array was about to say is not known to be true.
    if (this.guard.isBroken) return;
    this.emitEvent({
      kind,
      severity,
      array: this.name,
      arrayUuid: this.uuid,
      drive: more.drive?.name ?? null,
      job: more.job ?? null,
      atMs: this.context.clock.wallMs(),
      message,
    });
  }
}

/** Where the bytes of an array lie, which may be in the middle of a reshape. */
function geometryOf(superblock: Superblock): Geometry {
  const { memberCount, chunkSectors, layout, sizeSectors } = superblock;
  const reshape = reshapeOf(superblock);
  return new Geometry({
    memberCount,
    layout,
    chunkBytes: chunkSectors * SECTOR_BYTES,
    memberSizeBytes: sizeSectors * SECTOR_BYTES,
    reshape: reshape && {
      memberCount: memberCount - reshape.deltaMembers,
      shiftStripes: -reshape.newOffsetSectors / chunkSectors,
      positionBytes: reshape.positionSectors * SECTOR_BYTES,
    },
  });
}

/** The policy that a superblock says. */
export function policyOf({ log }: Pick<Superblock, "log">): ConsistencyPolicy {
  return log.kind === "none" ? "resync" : log.kind;
}
