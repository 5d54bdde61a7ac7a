/**
 * What a rehearsal plays on: a stripe engine of its own, in which one member is being rebuilt, as
 * if it had been lost. The code of the rebuild is the real one; the drives are overlays.
 *
 *   survivors    retry -> overlay without room -> member reader -> the array's member I/O
 *   who is lost  retry -> overlay, an extent for each stripe under work -> nothing
 *
 * So reads go to the members, writes to memory. What the rebuild would enter in a bad-block log is
 * kept here too, in logs that begin as those of the members.
 */
import { assert } from "../../base/assert.ts";
import { inBackground } from "../../base/background.ts";
import { hasBit } from "../../base/bit-set.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import type { BlockDevice } from "../../block/device.ts";
import { NoDevice, OverlayFilter, type Soon } from "../../block/overlay-filter.ts";
import { RetryFilter } from "../../block/retry-filter.ts";
import { type BadBlockCause, BadBlockLog, emptyBadBlockLog } from "../../md/bad-block-log.ts";
import type { Superblock } from "../../md/superblock.ts";
import { StripeEngine } from "../../raid5/engine.ts";
import type { BadRows } from "../../raid5/environment.ts";
import { MemberSet } from "../../raid5/members/member-set.ts";
import type { SyncProgress } from "../../raid5/members/sync-progress.ts";
import { StripeSync } from "../../raid5/sync/stripe-sync.ts";
import type { Drive } from "../drives/drive.ts";
import { logArea } from "../drives/drive.ts";
import type { ArrayCore } from "../running/array-core.ts";
import { MemberReaders } from "./member-reader.ts";
import type { RehearsalReport } from "./rehearsal-report.ts";

/** What is judged below is not tried again above. */
const NO_RETRIES = { transientLimit: 0, mediaLimit: 0, backOffMsMax: 1 };

export class RehearsalStage {
  readonly stripes: StripeSync;
  readonly progress: SyncProgress;
  readonly failedRole: number;
  /** The member that is lost, as it is, and what it is rebuilt to. */
  readonly lost: RetryFilter;
  readonly rebuilt: RetryFilter;
  /** Rows of stripes under work that nobody could give: by stripe. */
  readonly lostRows = new Map<number, Set<number>>();
  private readonly core: ArrayCore;
  private readonly report: RehearsalReport;
  private readonly engine: StripeEngine;
  private readonly readers: MemberReaders;
  private readonly target: OverlayFilter;
  private readonly targetOffset: number;

  /** `layout`: how the drive that takes the role is laid out. */
  constructor(options: {
    core: ArrayCore;
    report: RehearsalReport;
    failedRole: number;
    layout: Superblock;
    spareName: string;
    fromStripe: number;
  }) {
    const { core, failedRole, layout, spareName } = options;
    const { geometry, context } = core;
    const { table, memory } = context;
    const { soon } = this;
    assert(core.members.degradedCount === 0, "a rehearsal loses the first member");
    this.core = core;
    this.report = options.report;
    this.failedRole = failedRole;
    this.readers = new MemberReaders(core);
    this.targetOffset = layout.dataOffsetSectors * SECTOR_BYTES;
    const sizeBytes = this.targetOffset + geometry.memberSizeBytes;
    const next = new NoDevice({ name: spareName, sizeBytes, soon });
    this.target = new OverlayFilter({ next, table, memory, soon });
    this.rebuilt = this.judged(this.target);
    this.lost = this.judged(this.readers.devices[failedRole]!);
    const members = this.membersWith(layout, options.fromStripe);
    assert(members.rebuild !== null, "the member that is lost is being rebuilt");
    this.progress = members.rebuild;
    this.engine = new StripeEngine({
      environment: core.environment,
      geometry,
      members,
      requestCapacity: 1,
      hooks: {
        // The array was told already, by its own member I/O.
        onMemberError: () => {},
        onLost: (stripe, row, roles) => this.noteLost(stripe, row, roles),
        onWriteWaiting: neverIn("a rehearsal"),
        onTargetError: neverIn("a rehearsal"),
        onFinished: neverIn("a rehearsal"),
        onRepaired: neverIn("a rehearsal"),
      },
    });
    this.stripes = new StripeSync(this.engine);
  }

  private membersWith(layout: Superblock, fromStripe: number): MemberSet {
    const { core, failedRole } = this;
    const { geometry, context, roster } = core;
    const { table, memory } = context;
    const { soon } = this;
    const { memberCount } = geometry;
    const members = new MemberSet(geometry);
    for (let role = 0; role < memberCount; role += 1) {
      if (role === failedRole) continue;
      const next = this.readers.devices[role]!;
      const device = this.judged(new OverlayFilter({ next, table, memory, soon }));
      members.set(role, { device, dataOffset: core.members.dataOffset[role]! });
      const drive = roster.driveAt(role);
      assert(drive !== null, "who survives is a member");
      const onFull = () => this.report.noteObstacle(fullLogText(drive));
      const rows = core.members.badRows[role] ?? null;
      members.badRows[role] = new RehearsedBadRows({ rows, log: copyOfLog(drive), onFull });
    }
    members.setRebuilding(failedRole, {
      device: this.rebuilt,
      dataOffset: this.targetOffset,
      fromStripe,
    });
    const log = logArea(layout).bytes === 0 ? null : emptyBadBlockLog(layout);
    const onFull = () => this.report.noteObstacle(TARGET_LOG_FULL);
    members.badRows[failedRole] = new RehearsedBadRows({ rows: null, log, onFull });
    return members;
  }

  /** Within the turn: an overlay is no slower than memory. */
  private readonly soon: Soon = (run) => inBackground(Promise.resolve().then(run), this.core.guard);

  private judged(next: BlockDevice): RetryFilter {
    const { context, guard } = this.core;
    const { table, timers } = context;
    return new RetryFilter({ next, table, timers, router: guard.outcomes, limits: NO_RETRIES });
  }

  private noteLost(stripe: number, row: number, roles: number): void {
    const { failedRole, report } = this;
    const survivors: number[] = [];
    for (let role = 0; role < this.core.geometry.memberCount; role += 1) {
      if (role !== failedRole && hasBit(roles, role)) survivors.push(role);
    }
    const rows = this.lostRows.get(stripe);
    assert(rows !== undefined, "what is lost lies in a stripe under work");
    rows.add(row);
    report.noteLost(stripe, row, survivors);
  }

  /**
   * Bytes of buffer of a stripe under work:
   *
   *   | what the rebuild reads and computes | what the member holds, a part of it | the overlay |
   */
  get bufferBytes(): number {
    return this.stripes.bufferBytes + this.verifyBytes + this.extentBytes;
  }

  /** So much of a chunk is verified at a time: there is room for it where the rebuild has read. */
  get verifyBytes(): number {
    return Math.min(this.extentBytes, this.stripes.bufferBytes);
  }

  get extentBytes(): number {
    return this.core.geometry.chunkBytes;
  }

  /** Takes the stripe, which the array holds: what its rebuild writes is kept in its buffer. */
  async takeStripe(stripe: number, buffer: number): Promise<number> {
    const { core, target } = this;
    assert(core.engine.parts.ops.ownerOf(stripe) >= 0, "no client writes to a stripe under work");
    const held = await this.engine.holdStripe(stripe);
    this.lostRows.set(stripe, new Set());
    const overlay = buffer + this.stripes.bufferBytes + this.verifyBytes;
    target.open(this.targetByteOf(stripe), this.extentBytes, overlay);
    return held;
  }

  giveStripe(stripe: number, held: number): void {
    this.target.close(this.targetByteOf(stripe));
    this.lostRows.delete(stripe);
    this.engine.releaseStripe(held);
  }

  /** Byte of the device that takes the role. */
  targetByteOf(stripe: number): number {
    return this.targetOffset + stripe * this.core.geometry.chunkBytes;
  }

  /** Byte of the device of who is lost. */
  lostByteOf(stripe: number): number {
    return this.core.members.dataOffset[this.failedRole]! + stripe * this.core.geometry.chunkBytes;
  }

  /** Nothing is under way any more. */
  close(): void {
    this.engine.close();
    this.readers.close();
  }
}

/** A bad-block log that is entered in memory alone. What the real one would not take is told. */
class RehearsedBadRows implements BadRows {
  private readonly rows: BadRows | null;
  private readonly log: BadBlockLog | null;
  private readonly onFull: () => void;

  /** `rows`: what is on record as bad now; `log` null: the member has none. */
  constructor(options: { rows: BadRows | null; log: BadBlockLog | null; onFull: () => void }) {
    this.rows = options.rows;
    this.log = options.log;
    this.onFull = options.onFull;
  }

  get isEmpty(): boolean {
    return this.rows?.isEmpty ?? true;
  }

  has(offset: number, bytes: number): boolean {
    return this.rows?.has(offset, bytes) === true;
  }

  isUnread(offset: number, bytes: number): boolean {
    return this.rows?.isUnread(offset, bytes) === true;
  }

  enter(offset: number, bytes: number, cause: BadBlockCause): Promise<boolean> {
    const isTaken = this.log?.add(offset / SECTOR_BYTES, bytes / SECTOR_BYTES, cause) === true;
    if (!isTaken) this.onFull();
    // The rebuild would end here; the rehearsal goes on, to tell of all that is bad.
    return Promise.resolve(true);
  }

  clear(): Promise<boolean> {
    return Promise.resolve(true);
  }
}

/** Null: the drive has none. */
function copyOfLog({ superblock, badBlocks }: Drive): BadBlockLog | null {
  assert(superblock !== null, "a member carries a superblock");
  if (logArea(superblock).bytes === 0) return null;
  const copy = new BadBlockLog(badBlocks.entryCountMax);
  for (const { sector, lengthSectors } of badBlocks.ranges) copy.add(sector, lengthSectors);
  return copy;
}

function fullLogText({ name, superblock }: Drive): string {
  const hasLog = superblock !== null && logArea(superblock).bytes > 0;
  const why = hasLog ? "has no room for its unreadable sectors" : "is not there";
  return `the bad-block log of drive ${name} ${why}: the first sector too many ends a rebuild`;
}

const TARGET_LOG_FULL =
  "the bad-block log of the drive that takes the role has no room for what is lost";

function neverIn(what: string): () => void {
  return () => assert(false, `${what} takes no requests, repairs nothing and copies nothing`);
}
