/**
 * Replays the partial parity logs of a dirty array before it starts (write-rules 5 and 6): what to
 * do is md/ppl-replay.ts, here it is done.
 *
 * Order: parity is written and flushed here; the areas are emptied after that, by whoever starts
 * the array. Until then a crash finds the same log, and the same replay gives the same parity.
 * A start that is read-only writes nothing: the rows of parity go into an overlay over the drive.
 */
import { assert } from "../../base/assert.ts";
import { ROW_BYTES, SECTOR_BYTES } from "../../base/units.ts";
import { type AsyncIo, isDone } from "../../block/async-io.ts";
import { SLAB_BYTES } from "../../block/pool.ts";
import { ReadOverlay } from "../../block/read-overlay.ts";
import type { AssemblyPlan } from "../../md/assemble/assemble.ts";
import { pplSignature } from "../../md/ppl.ts";
import {
  judgeReplay,
  type PplLogOutcome,
  planReplay,
  type ReplayMember,
  type ReplayStep,
  scanPplArea,
} from "../../md/ppl-replay.ts";
import type { Superblock } from "../../md/superblock.ts";
import { PARITY_SOURCES_MAX } from "../../parity/kernels.ts";
import { Geometry } from "../../raid5/geometry.ts";
import { isInData } from "../drives/areas.ts";
import type { Drive } from "../drives/drive.ts";
import type { PplAreas } from "../policy/ppl-areas.ts";
import type { ReactorContext } from "../reactor-context.ts";

export interface PplRecovery {
  /** See `judgeReplay`. */
  readonly outcome: "clean" | "resync" | "degraded" | "refuse";
  /** Why it is refused, naming the drive. */
  readonly detail: string;
}

/** Rows that are worked on at a time. */
const PIECE_ROWS = SLAB_BYTES / ROW_BYTES;

interface Member {
  readonly drive: Drive;
  readonly superblock: Superblock;
  readonly replay: ReplayMember;
}

export class PplReplayer {
  private readonly context: ReactorContext;
  private readonly asyncIo: AsyncIo;
  private readonly areas: PplAreas;
  private readonly geometry: Geometry;
  private readonly members: (Member | null)[];
  private readonly plan: AssemblyPlan;
  private readonly isReadOnly: boolean;
  private readonly sources = new Uint32Array(PARITY_SOURCES_MAX);
  private buffer = 0;
  private detail = "";

  constructor(options: {
    context: ReactorContext;
    asyncIo: AsyncIo;
    areas: PplAreas;
    plan: AssemblyPlan;
    driveNamed: (name: string) => Drive;
    isReadOnly: boolean;
  }) {
    const { plan, driveNamed } = options;
    const { freshest } = plan;
    assert(plan.policy === "ppl", "only an array with the policy ppl is replayed");
    this.context = options.context;
    this.asyncIo = options.asyncIo;
    this.areas = options.areas;
    this.plan = plan;
    this.isReadOnly = options.isReadOnly;
    this.geometry = new Geometry({
      memberCount: freshest.memberCount,
      chunkBytes: freshest.chunkSectors * SECTOR_BYTES,
      layout: freshest.layout,
      memberSizeBytes: freshest.sizeSectors * SECTOR_BYTES,
    });
    this.members = plan.roles.map((entry) => {
      if (entry.state === "missing") return null;
      const drive = driveNamed(entry.drive);
      const recoveryOffsetSectors =
        entry.state === "rebuilding" ? entry.recoveryOffsetSectors : null;
      const dataOffsetSectors = entry.superblock.dataOffsetSectors;
      const { badBlocks } = drive;
      const replay = { dataOffsetSectors, recoveryOffsetSectors, badBlocks };
      return { drive, superblock: entry.superblock, replay };
    });
  }

  async run(): Promise<PplRecovery> {
    const bytes = (this.geometry.memberCount + 1) * SLAB_BYTES;
    assert(this.buffer === 0, "a replay runs once");
    assert(this.members.length === this.geometry.memberCount, "each role has its member, or none");
    this.buffer = await this.context.enginePool.take(bytes);
    const logs: PplLogOutcome[] = [];
    for (let role = 0; role < this.members.length; role += 1) {
      if (this.members[role] !== null) logs.push(await this.replayLog(role));
    }
    if (!this.isReadOnly) await this.flushAll(logs);
    this.context.enginePool.free(this.buffer, bytes);
    const outcome = judgeReplay({
      logs,
      resyncFromSector: this.plan.resyncFromSector ?? 0,
      isDegraded: this.plan.degraded > 0,
    });
    return { outcome, detail: this.detail };
  }

  private async replayLog(role: number): Promise<PplLogOutcome> {
    const member = this.members[role];
    assert(member !== null && member !== undefined, "a log that is replayed is a member's");
    const { drive, superblock } = member;
    const { crc32c } = this.areas;
    if (superblock.log.kind !== "ppl") return this.unusable(drive, "There is none.");
    const area = await this.areas.read(drive, superblock);
    if (area === null) return this.unusable(drive, "It cannot be read.");
    const signature = pplSignature(superblock.arrayUuid, crc32c);
    const scan = scanPplArea(area, { signature, crc32c });
    if (!scan.ok) return this.unusable(drive, scan.error.detail);
    if (scan.value.kind === "none") {
      if (scan.value.reason !== "foreign-signature") return { kind: "none" };
      return this.unusable(drive, "It belongs to another array.");
    }
    const replay = planReplay({
      entries: scan.value.entries,
      geometry: this.geometry,
      logRole: role,
      members: this.members.map((member) => member?.replay ?? null),
    });
    if (!replay.ok) return this.unusable(drive, replay.error.detail);
    for (const step of replay.value.steps) {
      assert(this.isWithinChunk(step), "a step of a replay is rows of one chunk");
      if (step.action === "keep") continue;
      if (await this.replayStep(role, step, area)) continue;
      return this.unusable(drive, "Its parity cannot be written.");
    }
    const entryCount = scan.value.entries.length;
    return { kind: "replayed", entryCount, tornCount: replay.value.tornCount };
  }

  private isWithinChunk({ stripe, firstRow, rowCount }: ReplayStep): boolean {
    const { stripeCount, chunkBytes } = this.geometry;
    return stripe < stripeCount && rowCount > 0 && (firstRow + rowCount) * ROW_BYTES <= chunkBytes;
  }

  private unusable(drive: Drive, what: string): PplLogOutcome {
    this.detail = `The partial parity log of drive ${drive.name} is not usable: ${what}`;
    return { kind: "unusable" };
  }

  private async replayStep(role: number, step: ReplayStep, area: Uint8Array): Promise<boolean> {
    for (let row = 0; row < step.rowCount; row += PIECE_ROWS) {
      const count = Math.min(PIECE_ROWS, step.rowCount - row);
      const done = await this.replayRows(role, step, area, { row, count });
      if (done === "failed") return false;
      if (done === "done") continue;
      // A sector of the data cannot be read: its row counts as missing, and parity stays.
      for (let one = row; one < row + count; one += 1) {
        const again = await this.replayRows(role, step, area, { row: one, count: 1 });
        if (again === "failed") return false;
      }
    }
    return true;
  }

  /** Parity := XOR of the modified data, now on disk, XOR partial parity. */
  private async replayRows(
    role: number,
    step: ReplayStep,
    area: Uint8Array,
    { row, count }: { row: number; count: number },
  ): Promise<"done" | "unreadable" | "failed"> {
    const { geometry, context } = this;
    assert(count > 0 && count <= PIECE_ROWS, "the rows of a piece fit in a slab");
    assert(step.dataCount <= geometry.dataCount, "no more chunks are replayed than a stripe has");
    const bytes = count * ROW_BYTES;
    const inMember = step.stripe * geometry.chunkBytes + (step.firstRow + row) * ROW_BYTES;
    const reads: Promise<boolean>[] = [];
    for (let index = 0; index < step.dataCount; index += 1) {
      const dataRole = geometry.dataRole(step.stripe, step.firstDataIndex + index);
      this.sources[index] = this.buffer + index * SLAB_BYTES;
      reads.push(this.read(dataRole, inMember, bytes, this.sources[index]!));
    }
    if (!(await Promise.all(reads)).every((isRead) => isRead)) return "unreadable";
    let sourceCount = step.dataCount;
    if (step.partialParityOffset !== null) {
      const from = step.partialParityOffset + row * ROW_BYTES;
      assert(from + bytes <= area.length, "partial parity lies in the log that was read");
      const address = this.buffer + sourceCount * SLAB_BYTES;
      context.memory.bytes.set(area.subarray(from, from + bytes), address);
      this.sources[sourceCount] = address;
      sourceCount += 1;
    }
    assert(sourceCount <= geometry.memberCount, "each source has a slab before the result's");
    const result = this.buffer + geometry.memberCount * SLAB_BYTES;
    context.kernels.xor(result, this.sources, sourceCount, bytes);
    return (await this.write(role, inMember, bytes, result)) ? "done" : "failed";
  }

  /** The drive of a role, and the byte of it at which `inMember` of the data area lies. */
  private placeOf(role: number, inMember: number): { drive: Drive; offset: number } {
    const member = this.members[role];
    assert(member !== null && member !== undefined, "a row is read from and written to a member");
    const { drive, superblock } = member;
    return { drive, offset: superblock.dataOffsetSectors * SECTOR_BYTES + inMember };
  }

  private async read(
    role: number,
    inMember: number,
    bytes: number,
    address: number,
  ): Promise<boolean> {
    const { drive, offset } = this.placeOf(role, inMember);
    return isDone(await this.asyncIo.read(drive.io, { offset, bytes, address }));
  }

  private async write(
    role: number,
    inMember: number,
    bytes: number,
    address: number,
  ): Promise<boolean> {
    const { drive, offset } = this.placeOf(role, inMember);
    const superblock = this.members[role]?.superblock;
    assert(superblock !== undefined && isInData(superblock, { offset, bytes }), "parity is data");
    if (this.isReadOnly) {
      drive.io.overlay ??= new ReadOverlay(this.context.memory);
      for (let done = 0; done < bytes; done += ROW_BYTES) {
        drive.io.overlay.put(offset + done, address + done);
      }
      return true;
    }
    const range = { offset, bytes, address };
    return isDone(await this.asyncIo.write(drive.io, range, { isFua: false }));
  }

  /** Order: the parity is durable before the log that it was made from is emptied. */
  private async flushAll(logs: PplLogOutcome[]): Promise<void> {
    assert(!this.isReadOnly, "a read-only start flushes nothing");
    if (!logs.some(({ kind }) => kind === "replayed")) return;
    for (const member of this.members) {
      if (member === null || isDone(await this.asyncIo.flush(member.drive.io))) continue;
      logs.push(this.unusable(member.drive, "Its parity cannot be made durable."));
    }
  }
}
