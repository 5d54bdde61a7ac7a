/**
 * What one reactor knows: its drives by name and its arrays by uuid, running or not.
 *
 * An array is what the superblocks of its drives say. A record exists as soon as one drive of it
 * is known, and goes with its last drive unless it runs.
 */

import { assert, SharedAssertionError } from "../base/assert.ts";
import { err } from "../base/result.ts";
import { MIB, ROW_BYTES } from "../base/units.ts";
import { AsyncIo } from "../block/async-io.ts";
import { OutcomeRouter } from "../block/outcome-router.ts";
import { SLAB_BYTES } from "../block/pool.ts";
import { arrayNameOf, setNameOf } from "../md/create.ts";
import { crc32cThrough } from "../md/ppl-builder.ts";
import type { Superblock } from "../md/superblock.ts";
import { ArrayGuard } from "./array-guard.ts";
import { BrokenArrays, stackOf } from "./broken-arrays.ts";
import type { Drive } from "./drives/drive.ts";
import { MemberPuncher, PunchCalls } from "./drives/hole-puncher.ts";
import { JobTable } from "./jobs.ts";
import { LeaseTable } from "./leases.ts";
import { PplAreas } from "./policy/ppl-areas.ts";
import type { ArrayEvent, ArrayIntroduction, ArrayTuning, ScrubMemory } from "./protocol.ts";
import { RaidArray } from "./raid-array.ts";
import type { ReactorContext } from "./reactor-context.ts";
import type { ArrayRecord } from "./record.ts";
import type { StartPlan } from "./running/start-plan.ts";
import { SyncRates } from "./sync/sync-rates.ts";

export const DEFAULT_SYNC_SPEED_MIN = 64 * MIB;
const DEFAULT_READ_DEADLINE_MS = 5_000;
const DEFAULT_WRITE_DEADLINE_MS = 180_000;

export const DEFAULT_TUNING: ArrayTuning = {
  syncSpeedMin: DEFAULT_SYNC_SPEED_MIN,
  syncSpeedMax: Number.MAX_SAFE_INTEGER,
  readDeadlineMs: DEFAULT_READ_DEADLINE_MS,
  writeDeadlineMs: DEFAULT_WRITE_DEADLINE_MS,
  // A sector that takes no write, not at the third try either: the drive has none to spare.
  suspectWriteErrors: 3,
  suspectFixedSectors: 256,
  suspectLateReads: 50,
  suspectLatencyFactor: 8,
  replaceSuspects: false,
};
const NO_SCRUB: ScrubMemory = { mismatchBytes: 0, last: null, paused: null };

export class Registry {
  readonly context: ReactorContext;
  readonly router: OutcomeRouter;
  readonly asyncIo: AsyncIo;
  readonly jobs: JobTable;
  readonly punchCalls: PunchCalls;
  readonly areas: PplAreas;
  readonly brokenArrays: BrokenArrays;
  readonly drives = new Map<string, Drive>();
  /** Drives that are being attached, and those that were let go of and owe an answer. */
  readonly passing = new Set<Drive>();
  private readonly probes = new Set<ReturnType<Drive["readProbe"]>>();
  /** By uuid. */
  readonly arrays = new Map<string, ArrayRecord>();
  /** By uuid: what control said of an array, also before its first drive is here. */
  private readonly introductions = new Map<string, ArrayIntroduction>();
  /** Commands hold `drive:NAME` and `array:UUID` while they run. */
  readonly leases = new LeaseTable();
  isStopping = false;
  /** Told when an array starts or stops. */
  onRunningChanged: (record: ArrayRecord) => void = () => {};
  /** Arrays that nobody has introduced start by themselves. */
  private readonly startsByThemselves: boolean;

  constructor(context: ReactorContext, options: { startsByThemselves: boolean }) {
    this.context = context;
    this.startsByThemselves = options.startsByThemselves;
    this.router = new OutcomeRouter(context.table);
    this.asyncIo = new AsyncIo({ table: context.table, router: this.router });
    this.jobs = new JobTable({
      clock: context.clock,
      firstId: context.config.firstJobId,
      post: (message) => context.post(message),
    });
    this.brokenArrays = new BrokenArrays({
      context,
      jobs: this.jobs,
      drivesOf: (uuid) => this.drivesOf(uuid),
      leave: (array) => this.areas.policies.delete(array.policy),
      emit: (event) => this.emit(event),
    });
    this.punchCalls = new PunchCalls((message) => context.post(message));
    const { memory, kernels, carver } = context;
    this.areas = new PplAreas({
      context,
      asyncIo: this.asyncIo,
      crc32c: crc32cThrough({
        memory,
        crc32c: (seed, address, bytes) => kernels.crc32c(seed, address, bytes),
        scratchAddress: carver.carve({ bytes: ROW_BYTES, alignment: ROW_BYTES }),
        scratchBytes: ROW_BYTES,
      }),
    });
    context.loop.onTurn(
      () => {
        for (const { running } of this.arrays.values()) running?.core.guard.turn(running);
        this.brokenArrays.turn();
      },
      () => {
        for (const { running } of this.arrays.values()) {
          if (running?.core.guard.isDue(running) === true) return true;
        }
        return this.brokenArrays.isDue;
      },
    );
  }

  emit(event: ArrayEvent): void {
    this.context.post({ kind: "event", event });
  }

  *allDrives(): Generator<Drive> {
    yield* this.drives.values();
    yield* this.passing;
  }

  probe(drive: Drive): ReturnType<Drive["readProbe"]> {
    const probed = this.readProbe(drive);
    this.probes.add(probed);
    const end = () => this.probes.delete(probed);
    probed.then(end, end);
    return probed;
  }

  /** A drive that is read at this moment may be a member of the array that is about to start. */
  async waitForProbes(): Promise<void> {
    await Promise.allSettled(this.probes);
  }

  private async readProbe(drive: Drive): ReturnType<Drive["readProbe"]> {
    const address = await this.context.enginePool.take(SLAB_BYTES);
    try {
      return await drive.readProbe(this.context, this.asyncIo, address);
    } catch (error) {
      // What this drive holds met a defect: the others are read all the same.
      if (error instanceof SharedAssertionError) throw error;
      this.context.log.write("error", `drive ${drive.name} was not understood by a defect`, {
        error: stackOf(error),
      });
      const detail = `What drive ${drive.name} holds met a defect of parityd: report the log.`;
      return err({ kind: "unreadable", detail } as const);
    } finally {
      this.context.enginePool.free(address, SLAB_BYTES);
    }
  }

  /**
   * Another host has the drive. Its array is fenced; one that is only just starting has nothing
   * more written to any of its drives, and whoever starts it says so.
   */
  fenced(drive: Drive): void {
    drive.tellFence();
    const holder = this.holderOf(drive);
    if (holder !== null) {
      // One that broke is frozen: what its drives still answer changes nothing any more.
      holder.running?.fenced(drive);
      return;
    }
    const record = this.recordOf(drive);
    // A drive that left the running array speaks for itself alone.
    if (record === null || record.running !== null) return;
    for (const each of this.drivesOf(record.uuid)) each.shut();
  }

  /** The running array that has this drive as a member or spare, faulty ones included. */
  holderOf(drive: Drive): ArrayRecord | null {
    for (const record of this.arrays.values()) {
      if (record.broken?.drives.has(drive) === true) return record;
      if (record.running === null) continue;
      for (const held of record.running.core.roster.drives()) if (held === drive) return record;
    }
    return null;
  }

  /** The array that the drive's superblock names, running or not. */
  recordOf(drive: Drive): ArrayRecord | null {
    const { superblock } = drive;
    return superblock === null ? null : (this.arrays.get(superblock.arrayUuid) ?? null);
  }

  drivesOf(uuid: string): Drive[] {
    return [...this.drives.values()].filter((drive) => drive.superblock?.arrayUuid === uuid);
  }

  byName(name: string): ArrayRecord | null {
    for (const record of this.arrays.values()) if (record.name === name) return record;
    return null;
  }

  /** By its UUID, which is what control sends, or by its label. */
  find(reference: string): ArrayRecord | null {
    return this.arrays.get(reference) ?? this.byName(reference);
  }

  /** A command is at work on the array: it may just be starting or stopping. */
  isBusy({ uuid }: ArrayRecord): boolean {
    return this.leases.holderOf([arrayKey(uuid)]) !== null;
  }

  introduce(uuid: string, introduction: ArrayIntroduction): ArrayRecord | null {
    this.introductions.set(uuid, introduction);
    const record = this.arrays.get(uuid) ?? this.recordOfDrives(uuid);
    if (record === null) return null;
    const { name, mayStart, tuning, scrub, rates } = introduction;
    record.name = name;
    record.mayStart = mayStart;
    Object.assign(record.tuning, tuning);
    record.rates.remember(rates);
    if (record.running === null) record.scrub = scrub;
    else record.running.core.name = name;
    return record;
  }

  /** What an array is called that was introduced, whether or not a drive of it is here. */
  introducedName(uuid: string): string | null {
    return this.introductions.get(uuid)?.name ?? null;
  }

  /** The record of the array that this drive's superblock names; made when it is new. */
  ensureRecord(drive: Drive): ArrayRecord {
    const { superblock } = drive;
    assert(superblock !== null, "the array of a drive is what its superblock names");
    const known = this.arrays.get(superblock.arrayUuid);
    if (known !== undefined) return known;
    const record = this.addRecord(
      superblock.arrayUuid,
      this.introductions.get(superblock.arrayUuid) ?? this.introductionOf(superblock),
    );
    record.lastSeen = superblock;
    assert(this.recordOf(drive) === record, "a drive belongs to the record of its array");
    return record;
  }

  /** What an array that nobody has introduced is called, and whether it may start. */
  private introductionOf(superblock: Superblock): Pick<ArrayIntroduction, "name" | "mayStart"> {
    const name = this.freeName(arrayNameOf(setNameOf(superblock)), superblock.arrayUuid);
    return { name, mayStart: this.startsByThemselves };
  }

  addRecord(
    uuid: string,
    introduction: Partial<ArrayIntroduction> & Pick<ArrayIntroduction, "name" | "mayStart">,
  ): ArrayRecord {
    const { name, mayStart, tuning, scrub, rates } = introduction;
    const record: ArrayRecord = {
      uuid,
      name,
      mayStart,
      running: null,
      front: null,
      reason: "",
      isHeld: false,
      lastSeen: null,
      broken: null,
      tuning: { ...DEFAULT_TUNING, ...tuning },
      rates: new SyncRates(),
      scrub: scrub ?? NO_SCRUB,
    };
    record.rates.remember(rates ?? []);
    this.arrays.set(uuid, record);
    return record;
  }

  /** Of an array that was forgotten while its drives stayed. */
  private recordOfDrives(uuid: string): ArrayRecord | null {
    const [drive] = this.drivesOf(uuid);
    return drive === undefined ? null : this.ensureRecord(drive);
  }

  /** What a command holds that changes the arrays to which this drive belongs. */
  arrayKeysOf(drive: Drive): string[] {
    const uuids = new Set<string>();
    const holder = this.holderOf(drive);
    if (holder !== null) uuids.add(holder.uuid);
    if (drive.claim !== null) uuids.add(drive.claim.arrayUuid);
    return [...uuids].map(arrayKey);
  }

  /** Its drives stay, with whatever superblocks they carry. */
  forget(record: ArrayRecord): void {
    assert(record.running === null, "an array that is forgotten does not run");
    this.arrays.delete(record.uuid);
    this.introductions.delete(record.uuid);
    this.onRunningChanged(record);
  }

  /** Forgets a record that nothing stands for any more. */
  dropIfEmpty(record: ArrayRecord): void {
    if (record.running !== null || record.broken !== null) return;
    if (this.drivesOf(record.uuid).length === 0) this.arrays.delete(record.uuid);
  }

  createRunning(record: ArrayRecord, plan: StartPlan): RaidArray {
    const { context, router } = this;
    assert(record.running === null, "an array runs once");
    assert(plan.superblock.arrayUuid === record.uuid, "a record starts its own array");
    assert(this.areFree(plan), "a drive is of one running array");
    record.lastSeen = plan.superblock;
    const onBroken = (error: unknown): void => {
      if (record.running?.core.guard === guard) this.brokenArrays.break(record, error);
      else this.tellLate(record, error);
    };
    const guard = new ArrayGuard({ context, router, onBroken });
    const array = new RaidArray({
      guard,
      jobs: this.jobs,
      emit: (event) => this.emit(event),
      areas: this.areas,
      tuning: record.tuning,
      rates: record.rates,
      scrub: record.scrub,
      plan,
      front: record.front,
    });
    const { engine, roster } = array.core;
    engine.zeroes.stripes.puncher = new MemberPuncher({
      seats: roster,
      calls: this.punchCalls,
      guard,
    });
    if (plan.isFirstResync && readsZeros(plan)) engine.zeroes.allocation.noteEmpty();
    return array;
  }

  /** No array that runs has a drive of this plan. */
  private areFree({ roles, spares }: StartPlan): boolean {
    const wanted = new Set([...spares, ...roles.flatMap((entry) => entry?.drive ?? [])]);
    for (const { running } of this.arrays.values()) {
      for (const drive of running?.core.roster.drives() ?? []) if (wanted.has(drive)) return false;
    }
    return true;
  }

  /** Of an array that has been stopped, or has not begun: there is nothing left to stop. */
  private tellLate({ name }: ArrayRecord, error: unknown): void {
    this.context.log.write("error", `a defect in array ${name}, which does not run`, {
      error: stackOf(error),
    });
  }

  private freeName(wanted: string, uuid: string): string {
    if (this.byName(wanted) === null) return wanted;
    return `${wanted}-${uuid.slice(0, 8)}`;
  }
}

/** Whether every byte of a new array is known to be zero. */
function readsZeros({ roles }: StartPlan): boolean {
  return roles.every((entry) => entry?.drive.info.readsZeros === true && !entry.drive.isOurs);
}

export function driveKey(name: string): string {
  return `drive:${name}`;
}

export function isDriveKey(key: string): boolean {
  return key.startsWith("drive:");
}

export function arrayKey(uuid: string): string {
  return `array:${uuid}`;
}
