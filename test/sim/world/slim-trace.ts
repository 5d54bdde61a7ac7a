/**
 * The trace of a long run: where writes went, not what they held, and that there were flushes. Of
 * superblocks it keeps where they put data and logs: these move with the policy, and when a drive
 * joins anew.
 */
import { SECTOR_BYTES } from "../../../src/base/units.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  type Superblock,
} from "../../../src/md/superblock.ts";
import { DeviceTrace } from "./device-trace.ts";
import { type DeviceImage, type MediaEvent, PAGE_BYTES, readImage } from "./media.ts";
import type { Area } from "./member-oracle.ts";

export class SlimTrace extends DeviceTrace {
  private readonly areas: Area[][] = [];

  override join(base: DeviceImage): number {
    this.areas.push([]);
    const device = super.join({ ...base, pages: new Map() });
    this.noteAreas(device, readImage(base, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES));
    return device;
  }

  override record(device: number, event: MediaEvent): void {
    if (event.kind === "flush-submit") super.record(device, event);
    if (event.kind !== "submit") return;
    super.record(device, { ...event, bytes: null });
    if (event.offset === SUPERBLOCK_OFFSET_BYTES && event.bytes !== null) {
      this.noteAreas(device, event.bytes);
    }
  }

  /** Every area that a superblock of this drive has named. */
  areasOf(device: number): readonly Area[] {
    return this.areas[device]!;
  }

  private noteAreas(device: number, bytes: Uint8Array): void {
    const decoded = decodeSuperblock(bytes, { deviceBytes: Number.MAX_SAFE_INTEGER });
    if (!decoded.ok) return;
    const known = this.areas[device]!;
    for (const area of areasIn(decoded.value)) {
      const isKnown = known.some(
        ({ name, offset }) => name === area.name && offset === area.offset,
      );
      if (!isKnown) known.push(area);
    }
  }
}

function areasIn(superblock: Superblock): Area[] {
  const { log, dataOffsetSectors, sizeSectors, badBlockLogOffsetSectors } = superblock;
  const behind = (sectors: number): number => SUPERBLOCK_OFFSET_BYTES + sectors * SECTOR_BYTES;
  const data = dataOffsetSectors * SECTOR_BYTES;
  const badBlocks = superblock.badBlockLogSectors * SECTOR_BYTES;
  const areas: Area[] = [
    { name: "data", offset: data, bytes: sizeSectors * SECTOR_BYTES },
    { name: "bad-block log", offset: behind(badBlockLogOffsetSectors), bytes: badBlocks },
  ];
  if (log.kind === "none") return areas;
  // The bitmap of an array as small as these has one block.
  const bytes = log.kind === "ppl" ? log.sizeSectors * SECTOR_BYTES : PAGE_BYTES;
  return [...areas, { name: log.kind, offset: behind(log.offsetSectors), bytes }];
}
