/**
 * The trace of a long run: where writes went, not what they held, and that there were flushes. Of
 * superblocks it keeps where they put the member's log: it moves with the policy, and when a drive
 * joins anew.
 */
import { SECTOR_BYTES } from "../../src/base/units.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../src/md/superblock.ts";
import { DeviceTrace } from "./device-trace.ts";
import { type DeviceImage, type MediaEvent, PAGE_BYTES, readImage } from "./media.ts";
import type { Area } from "./member-oracle.ts";

export class SlimTrace extends DeviceTrace {
  private readonly logs: Area[][] = [];

  override join(base: DeviceImage): number {
    this.logs.push([]);
    const device = super.join({ ...base, pages: new Map() });
    this.noteLog(device, readImage(base, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES));
    return device;
  }

  override record(device: number, event: MediaEvent): void {
    if (event.kind === "flush-submit") super.record(device, event);
    if (event.kind !== "submit") return;
    super.record(device, { ...event, bytes: null });
    if (event.offset === SUPERBLOCK_OFFSET_BYTES && event.bytes !== null) {
      this.noteLog(device, event.bytes);
    }
  }

  /** Every place at which a superblock of this drive has put its log. */
  logsOf(device: number): readonly Area[] {
    return this.logs[device]!;
  }

  private noteLog(device: number, bytes: Uint8Array): void {
    const decoded = decodeSuperblock(bytes, { deviceBytes: Number.MAX_SAFE_INTEGER });
    if (!decoded.ok || decoded.value.log.kind === "none") return;
    const { log } = decoded.value;
    const offset = SUPERBLOCK_OFFSET_BYTES + log.offsetSectors * SECTOR_BYTES;
    const known = this.logs[device]!;
    if (known.some((area) => area.offset === offset && area.name === log.kind)) return;
    // The bitmap of an array as small as these has one block.
    const length = log.kind === "ppl" ? log.sizeSectors * SECTOR_BYTES : PAGE_BYTES;
    known.push({ name: log.kind, offset, bytes: length });
  }
}
