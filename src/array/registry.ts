/**
 * What one reactor knows: its drives by name and its arrays by uuid, running or not.
 *
 * An array is what the superblocks of its drives say. A record exists as soon as one drive of it
 * is known, and goes with its last drive unless it runs.
 */

import { assert } from "../base/assert.ts";
import { MIB, ROW_BYTES } from "../base/units.ts";
import { AsyncIo } from "../block/async-io.ts";
import { OutcomeRouter } from "../block/outcome-router.ts";
import { SLAB_BYTES } from "../block/pool.ts";
import { arrayNameOf, setNameOf } from "../md/create.ts";
import { crc32cThrough } from "../md/ppl-builder.ts";
import type { ReactorContext } from "./context.ts";
import type { Drive } from "./drive.ts";
import { MemberPuncher, PunchCalls } from "./hole-puncher.ts";
import { JobTable } from "./jobs.ts";
import { PplAreas } from "./ppl-areas.ts";
import type { ArrayEvent, CommandError } from "./protocol.ts";
import { RaidArray } from "./raid-array.ts";
import type { ArrayTuning, StartPlan } from "./start-plan.ts";

export const DEFAULT_SYNC_SPEED_MIN = 64 * MIB;
export const DEFAULT_READ_DEADLINE_MS = 5_000;
export const DEFAULT_WRITE_DEADLINE_MS = 180_000;

export interface ArrayRecord {
  readonly uuid: string;
  readonly name: string;
  running: RaidArray | null;
  /** Why it does not run. */
  reason: string;
  /** Stopped by the user: it is not started again by itself. */
  isHeld: boolean;
  /** A start or stop is under way. */
  isChanging: boolean;
  /** A drive is just about to join it. */
  isJoining: boolean;
  readonly tuning: ArrayTuning;
}

export class Registry {
  readonly context: ReactorContext;
  readonly router: OutcomeRouter;
  readonly asyncIo: AsyncIo;
  readonly jobs: JobTable;
  readonly punchCalls: PunchCalls;
  readonly areas: PplAreas;
  readonly drives = new Map<string, Drive>();
  /** By uuid. */
  readonly arrays = new Map<string, ArrayRecord>();
  isStopping = false;
  /** Told when an array starts or stops. */
  onRunningChanged: (record: ArrayRecord) => void = () => {};
  /** A row for probes. */
  private readonly probeAddress: number;
  private probing: Promise<unknown> = Promise.resolve();

  constructor(context: ReactorContext) {
    this.context = context;
    this.router = new OutcomeRouter(context.table);
    this.asyncIo = new AsyncIo({
      table: context.table,
      timers: context.timers,
      router: this.router,
    });
    this.jobs = new JobTable({
      clock: context.clock,
      firstId: context.config.firstJobId,
      post: (message) => context.post(message),
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
    this.probeAddress = context.enginePool.allocate(SLAB_BYTES);
    assert(this.probeAddress !== 0, "the pool is free at the start");
    context.loop.onTurn(
      () => {
        for (const { running } of this.arrays.values()) running?.turn();
      },
      () => {
        for (const { running } of this.arrays.values()) if (running?.isDue === true) return true;
        return false;
      },
    );
  }

  emit(event: ArrayEvent): void {
    this.context.post({ kind: "event", event });
  }

  /** Probes one drive after the other: they share a buffer. */
  probe(drive: Drive): ReturnType<Drive["readProbe"]> {
    const result = this.probing.then(() =>
      drive.readProbe(this.context, this.asyncIo, this.probeAddress),
    );
    this.probing = result;
    return result;
  }

  /** The running array that has this drive as a member or spare, faulty ones included. */
  holderOf(drive: Drive): ArrayRecord | null {
    for (const record of this.arrays.values()) {
      if (record.running === null) continue;
      for (const held of record.running.drives()) if (held === drive) return record;
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

  /** The record of the array that this drive's superblock names; made when it is new. */
  ensureRecord(drive: Drive): ArrayRecord {
    const superblock = drive.superblock!;
    const known = this.arrays.get(superblock.arrayUuid);
    if (known !== undefined) return known;
    const name = this.freeName(arrayNameOf(setNameOf(superblock)), superblock.arrayUuid);
    return this.addRecord(superblock.arrayUuid, name);
  }

  addRecord(uuid: string, name: string): ArrayRecord {
    const record: ArrayRecord = {
      uuid,
      name,
      running: null,
      reason: "",
      isHeld: false,
      isChanging: false,
      isJoining: false,
      tuning: {
        syncSpeedMin: DEFAULT_SYNC_SPEED_MIN,
        syncSpeedMax: Number.MAX_SAFE_INTEGER,
        readDeadlineMs: DEFAULT_READ_DEADLINE_MS,
        writeDeadlineMs: DEFAULT_WRITE_DEADLINE_MS,
      },
    };
    this.arrays.set(uuid, record);
    return record;
  }

  /** Forgets a record that nothing stands for any more. */
  dropIfEmpty(record: ArrayRecord): void {
    if (record.running === null && !record.isChanging && this.drivesOf(record.uuid).length === 0) {
      this.arrays.delete(record.uuid);
    }
  }

  createRunning(record: ArrayRecord, plan: StartPlan): RaidArray {
    const array = new RaidArray({
      context: this.context,
      router: this.router,
      asyncIo: this.asyncIo,
      jobs: this.jobs,
      hooks: { emit: (event) => this.emit(event) },
      areas: this.areas,
      tuning: record.tuning,
      plan,
    });
    const { zeroes } = array.engine;
    zeroes.stripes.puncher = new MemberPuncher({ roles: array.roles, calls: this.punchCalls });
    if (plan.isFirstResync && readsZeros(plan)) zeroes.allocation.noteEmpty();
    return array;
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

export function commandError(
  kind: CommandError["kind"],
  code: string,
  detail: string,
): CommandError {
  return { kind, code, detail };
}
