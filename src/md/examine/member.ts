/**
 * All that one member says: its superblock, and what lies where the superblock puts its bitmap,
 * bad-block log and partial parity log. Reading is handed in, so that this stays pure; a log that
 * cannot be made sense of is a problem told beside the rest, never a reason to tell nothing.
 */
import { err, ok, type Result } from "../../base/result.ts";
import { roundUp, SECTOR_BYTES } from "../../base/units.ts";
import { findUnsupported } from "../assemble/match.ts";
import { BadBlockLog, decodeBadBlockLog } from "../bad-block-log.ts";
import {
  BITMAP_HEADER_BYTES,
  bitmapAreaBytes,
  bitmapErrorText,
  bitmapOffsetBytes,
  decodeBitmapHeader,
} from "../bitmap.ts";
import { type Crc32c, type PplGeometry, pplSignature, pplSpaceOf } from "../ppl.ts";
import { scanPplArea } from "../ppl-replay.ts";
import {
  decodeSuperblock,
  roleOf,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../superblock.ts";
import { type ExamineReport, examineReport, renderExamine } from "./examine.ts";
import {
  type BadBlocksReport,
  type BitmapReport,
  badBlocksReport,
  bitmapReport,
  type PplReport,
  pplReport,
  renderBadBlocks,
  renderBitmap,
  renderPpl,
} from "./logs.ts";

export interface MemberReport extends ExamineReport {
  /** Null: the member has none, or it is a problem. */
  readonly bitmap: BitmapReport | null;
  readonly badBlocks: BadBlocksReport | null;
  readonly ppl: PplReport | null;
  /** What could not be read or made sense of, in sentences. */
  readonly problems: readonly string[];
}

export interface MemberSource {
  readonly path: string;
  readonly deviceBytes: number;
  /** Fewer bytes where the device ends; an error in words. */
  read(offset: number, bytes: number): Result<Uint8Array, string>;
  readonly crc32c: Crc32c;
  /** Only for superblocks of arrays that can be run. */
  geometryOf(superblock: Superblock): PplGeometry;
}

/** An error in words where there is no superblock to report. */
export function examineMember(source: MemberSource): Result<MemberReport, string> {
  const { path, deviceBytes } = source;
  const block = source.read(SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
  if (!block.ok) return block;
  const decoded = decodeSuperblock(block.value, { deviceBytes });
  if (!decoded.ok) return err(decoded.error.detail);
  const superblock = decoded.value;
  const problems: string[] = [];
  const told = <T>(result: Result<T, string>): T | null => {
    if (result.ok) return result.value;
    problems.push(result.error);
    return null;
  };
  const { kind } = superblock.log;
  return ok({
    ...examineReport(superblock, { path, deviceBytes }),
    bitmap: kind === "bitmap" ? told(examineBitmap(source, superblock)) : null,
    badBlocks: told(examineBadBlocks(source, superblock)),
    ppl: kind === "ppl" ? told(examinePpl(source, superblock)) : null,
    problems,
  });
}

/** What `mdadm --examine`, `--examine-bitmap` and `--examine-badblocks` print, and the PPL. */
export function renderMember(report: MemberReport): string {
  const parts = [renderExamine(report)];
  if (report.bitmap !== null) parts.push(renderBitmap(report.bitmap));
  if (report.badBlocks !== null) parts.push(renderBadBlocks(report.badBlocks));
  if (report.ppl !== null) parts.push(renderPpl(report.ppl));
  return parts.join("\n\n");
}

function examineBitmap(
  { path, deviceBytes, read }: MemberSource,
  superblock: Superblock,
): Result<BitmapReport, string> {
  const offset = bitmapOffsetBytes(superblock);
  const head = read(offset, BITMAP_HEADER_BYTES);
  if (!head.ok) return head;
  const header = decodeBitmapHeader(head.value, { superblock, deviceBytes });
  if (!header.ok) return err(bitmapErrorText(header.error));
  const area = read(offset, bitmapAreaBytes(header.value));
  return area.ok ? ok(bitmapReport(path, header.value, area.value)) : area;
}

function examineBadBlocks(
  { path, read }: MemberSource,
  superblock: Superblock,
): Result<BadBlocksReport, string> {
  const { hasBadBlocks, badBlockLogOffsetSectors, badBlockLogSectors } = superblock;
  // Without its feature bit the log is empty, whatever lies there.
  if (!hasBadBlocks) return ok(badBlocksReport(path, superblock, new BadBlockLog()));
  const offset = (SUPERBLOCK_OFFSET_SECTORS + badBlockLogOffsetSectors) * SECTOR_BYTES;
  const area = read(offset, badBlockLogSectors * SECTOR_BYTES);
  if (!area.ok) return area;
  const log = decodeBadBlockLog(area.value);
  return log.ok ? ok(badBlocksReport(path, superblock, log.value)) : err(log.error.detail);
}

function examinePpl(source: MemberSource, superblock: Superblock): Result<PplReport, string> {
  const { path, deviceBytes, crc32c, read } = source;
  // An entry is judged by where it lies in the array.
  const refused = findUnsupported([{ drive: path, superblock, deviceBytes }]);
  if (refused !== null) return err(refused.detail);
  const space = pplSpaceOf(superblock);
  if (!space.ok) return err(space.error.detail);
  const area = read(space.value.offsetBytes, roundUp(space.value.areaBytes, SECTOR_BYTES));
  if (!area.ok) return area;
  const signature = pplSignature(superblock.arrayUuid, crc32c);
  const scan = scanPplArea(area.value, { signature, crc32c });
  if (!scan.ok) return err(scan.error.detail);
  const logRole = roleOf(superblock, superblock.devNumber);
  return ok(pplReport(path, scan.value, { geometry: source.geometryOf(superblock), logRole }));
}
