/**
 * What one superblock says, for programs (`examineReport`, exact and versioned) and for people
 * (`renderExamine`, with the labels of `mdadm --examine`; times in UTC).
 */
import { printable } from "../../base/printable.ts";
import { isoTime, TIME_MS_MAX } from "../../base/time.ts";
import { GIB, KIB, SECTOR_BYTES, TIB } from "../../base/units.ts";
import { arrayState } from "../assemble/history.ts";
import { arrayNameOf, type ConsistencyPolicy, setNameOf } from "../create.ts";
import { layoutName } from "../layout.ts";
import { reshapeFieldsOf } from "../reshape.ts";
import {
  encodeSuperblock,
  Feature,
  featureMapOf,
  type MdTime,
  Role,
  roleOf,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
  superblockChecksum,
} from "../superblock.ts";

/** Offsets and sizes in sectors, as on disk; `checksum` and `featureMap` as numbers. */
export interface ExamineReport {
  readonly schema: "parityd.examine/1";
  readonly path: string;
  readonly deviceBytes: number;
  readonly version: "1.2";
  readonly featureMap: number;
  readonly arrayUuid: string;
  /** "host:name" as stored. */
  readonly setName: string;
  readonly name: string;
  readonly createdAt: string;
  readonly level: number;
  readonly memberCount: number;
  readonly layout: string;
  readonly chunkBytes: number;
  readonly arrayBytes: number;
  readonly sizeSectors: number;
  readonly dataOffsetSectors: number;
  readonly dataSizeSectors: number;
  readonly superOffsetSectors: number;
  /** Sectors that nothing uses, before the data and behind it. */
  readonly unusedBeforeSectors: number;
  readonly unusedAfterSectors: number;
  readonly state: "clean" | "active";
  /** Null: clean. */
  readonly resyncOffsetSectors: number | null;
  /** Null: not rebuilding. */
  readonly recoveryOffsetSectors: number | null;
  readonly deviceUuid: string;
  readonly devNumber: number;
  readonly updatedAt: string;
  readonly consistencyPolicy: ConsistencyPolicy | "journal";
  /** From the superblock; null with policy `resync`. */
  readonly logOffsetSectors: number | null;
  /** Of the partial parity log; null with the other policies. */
  readonly logSizeSectors: number | null;
  /** Null: the member has none. */
  readonly badBlockLog: {
    readonly offsetSectors: number;
    readonly entryCountMax: number;
    readonly hasEntries: boolean;
  } | null;
  readonly flags: readonly ("write-mostly" | "failfast")[];
  /** Null: no reshape is under way. */
  readonly reshape: ReshapeReport | null;
  readonly correctedReadSectors: number;
  readonly logicalBlockBytes: number;
  readonly checksum: number;
  readonly events: number;
  readonly role: number | "spare" | "faulty" | "journal";
  /** "A.A": by role, whether a device holds it. */
  readonly arrayState: string;
}

/** What the array is being turned into. */
export interface ReshapeReport {
  /** Of the array. */
  readonly positionSectors: number;
  readonly deltaMembers: number;
  readonly newLevel: number;
  readonly newLayout: string;
  readonly newChunkBytes: number;
  /** Where the data of this member goes; null: it stays. */
  readonly newDataOffsetSectors: number | null;
}

/** mdadm counts 36 KiB behind the superblock as used, to match the kernel. */
const RESERVED_SECTORS = 72;

/** `superblock` as decoded from the device: what cannot be decoded has no report. */
export function examineReport(
  superblock: Superblock,
  { path, deviceBytes }: { path: string; deviceBytes: number },
): ExamineReport {
  const { log, chunkSectors, memberCount, sizeSectors } = superblock;
  const stripes = chunkSectors === 0 ? 0 : Math.floor(sizeSectors / chunkSectors);
  const setName = setNameOf(superblock);
  const hasJournal = (superblock.otherFeatures & Feature.journal) !== 0;
  const reshape = reshapeReport(superblock);
  const usedEndSectors = superblock.dataOffsetSectors + sizeSectors;
  return {
    schema: "parityd.examine/1",
    path,
    deviceBytes,
    version: "1.2",
    featureMap: featureMapOf(superblock),
    arrayUuid: superblock.arrayUuid,
    setName,
    name: arrayNameOf(setName),
    createdAt: timeText(superblock.createdAt),
    level: superblock.level,
    memberCount,
    layout: layoutName(superblock.layout) ?? String(superblock.layout),
    chunkBytes: chunkSectors * SECTOR_BYTES,
    arrayBytes: stripes * chunkSectors * SECTOR_BYTES * Math.max(memberCount - 1, 0),
    sizeSectors,
    dataOffsetSectors: superblock.dataOffsetSectors,
    dataSizeSectors: superblock.dataSizeSectors,
    superOffsetSectors: SUPERBLOCK_OFFSET_SECTORS,
    unusedBeforeSectors: superblock.dataOffsetSectors - usedBefore(superblock),
    unusedAfterSectors: Math.floor(deviceBytes / SECTOR_BYTES) - usedEndSectors,
    state: superblock.resyncOffsetSectors === null ? "clean" : "active",
    resyncOffsetSectors: superblock.resyncOffsetSectors,
    recoveryOffsetSectors: superblock.recoveryOffsetSectors,
    deviceUuid: superblock.deviceUuid,
    devNumber: superblock.devNumber,
    updatedAt: timeText(superblock.updatedAt),
    consistencyPolicy: hasJournal ? "journal" : log.kind === "none" ? "resync" : log.kind,
    logOffsetSectors: log.kind === "none" ? null : log.offsetSectors,
    logSizeSectors: log.kind === "ppl" ? log.sizeSectors : null,
    badBlockLog: badBlockLogReport(superblock),
    flags: flagsReport(superblock),
    reshape,
    correctedReadSectors: superblock.correctedReadSectors,
    logicalBlockBytes: superblock.logicalBlockBytes,
    checksum: superblockChecksum(encodeSuperblock(superblock), superblock.devRoles.length),
    events: superblock.events,
    role: roleReport(roleOf(superblock, superblock.devNumber)),
    arrayState: arrayState(superblock, {
      leavingCount: Math.max(0, -(reshape?.deltaMembers ?? 0)),
    }),
  };
}

/** Close to what `mdadm --examine` prints, without the line break at the end. */
export function renderExamine(report: ExamineReport): string {
  const lines: (readonly [string, string] | null)[] = [
    ["Magic", "a92b4efc"],
    ["Version", report.version],
    ["Feature Map", `0x${report.featureMap.toString(16)}`],
    ["Array UUID", report.arrayUuid],
    ["Name", printable(report.setName)],
    ["Creation Time", report.createdAt],
    ["Raid Level", `raid${report.level}`],
    ["Raid Devices", String(report.memberCount)],
    null,
    ["Avail Dev Size", sectorsText(report.dataSizeSectors)],
    ["Array Size", `${report.arrayBytes / 1024} KiB${bothSizes(report.arrayBytes)}`],
  ];
  if (report.sizeSectors !== report.dataSizeSectors) {
    lines.push(["Used Dev Size", sectorsText(report.sizeSectors)]);
  }
  lines.push(
    ["Data Offset", `${report.dataOffsetSectors} sectors`],
    ["Super Offset", `${report.superOffsetSectors} sectors`],
  );
  if (report.recoveryOffsetSectors !== null) {
    lines.push(["Recovery Offset", `${report.recoveryOffsetSectors} sectors`]);
  }
  const newOffset = report.reshape?.newDataOffsetSectors ?? null;
  // What is free depends on where the data goes.
  if (newOffset === null) lines.push(["Unused Space", unusedText(report)]);
  else lines.push(["New Offset", `${newOffset} sectors`]);
  lines.push(
    ["State", report.state],
    ["Device UUID", report.deviceUuid],
    null,
    ...logLines(report),
    ...(report.reshape === null ? [] : [...reshapeLines(report, report.reshape), null]),
  );
  if (report.flags.length > 0) lines.push(["Flags", report.flags.join(" ")]);
  lines.push(["Update Time", report.updatedAt]);
  if (report.badBlockLog !== null) lines.push(["Bad Block Log", badBlockText(report.badBlockLog)]);
  lines.push(
    // A superblock with another checksum is refused before it comes to a report.
    ["Checksum", `${report.checksum.toString(16)} - correct`],
    ["Events", String(report.events)],
    null,
    ["Layout", report.layout],
    ["Chunk Size", `${report.chunkBytes / 1024}K`],
    null,
    ["Device Role", roleText(report)],
    ["Array State", `${report.arrayState} ('A' == active, '.' == missing, 'R' == replacing)`],
  );
  const text = lines.map((line) => {
    return line === null ? "" : `${line[0].padStart(15)} : ${line[1]}`;
  });
  return [`${printable(report.path)}:`, ...text].join("\n");
}

function unusedText({ unusedBeforeSectors, unusedAfterSectors }: ExamineReport): string {
  return `before=${unusedBeforeSectors} sectors, after=${unusedAfterSectors} sectors`;
}

function roleText({ role, featureMap }: ExamineReport): string {
  if (typeof role !== "number") return role;
  return `${(featureMap & Feature.replacement) === 0 ? "Active" : "Replacement"} device ${role}`;
}

function reshapeLines(report: ExamineReport, reshape: ReshapeReport): [string, string][] {
  const { deltaMembers, newLevel, newLayout, newChunkBytes } = reshape;
  const { memberCount } = report;
  const bytes = reshape.positionSectors * SECTOR_BYTES;
  const lines: [string, string][] = [["Reshape pos'n", `${bytes / 1024}${bothSizes(bytes)}`]];
  if (deltaMembers !== 0) {
    const change = `(${memberCount - deltaMembers}->${memberCount})`;
    lines.push(["Delta Devices", `${deltaMembers} ${change}`]);
  }
  if (newLevel !== report.level) lines.push(["New Level", `raid${newLevel}`]);
  if (newLayout !== report.layout) lines.push(["New Layout", newLayout]);
  if (newChunkBytes !== report.chunkBytes) {
    lines.push(["New Chunksize", `${newChunkBytes / 1024}K`]);
  }
  return lines;
}

function reshapeReport(superblock: Superblock): ReshapeReport | null {
  const { otherFeatures, dataOffsetSectors } = superblock;
  const isMoving = (otherFeatures & Feature.newOffset) !== 0;
  if ((otherFeatures & Feature.reshape) === 0 && !isMoving) return null;
  const fields = reshapeFieldsOf(superblock);
  const { positionSectors, deltaMembers, newLevel, newLayout, newChunkSectors } = fields;
  return {
    positionSectors,
    deltaMembers,
    newLevel,
    newLayout: layoutName(newLayout) ?? String(newLayout),
    newChunkBytes: newChunkSectors * SECTOR_BYTES,
    newDataOffsetSectors: isMoving ? dataOffsetSectors + fields.newOffsetSectors : null,
  };
}

function flagsReport({ deviceFlags }: Superblock): ExamineReport["flags"] {
  const flags: ("write-mostly" | "failfast")[] = [];
  if ((deviceFlags & 1) !== 0) flags.push("write-mostly");
  if ((deviceFlags & 2) !== 0) flags.push("failfast");
  return flags;
}

function logLines(report: ExamineReport): [string, string][] {
  const offset = report.logOffsetSectors;
  if (offset === null) return [];
  if (report.logSizeSectors === null) {
    return [["Internal Bitmap", `${offset} sectors from superblock`]];
  }
  return [["PPL", `${report.logSizeSectors} sectors at offset ${offset} sectors from superblock`]];
}

function badBlockText(log: NonNullable<ExamineReport["badBlockLog"]>): string {
  const text = `${log.entryCountMax} entries available at offset ${log.offsetSectors} sectors`;
  return log.hasEntries ? `${text} - bad blocks present.` : text;
}

function badBlockLogReport(superblock: Superblock): ExamineReport["badBlockLog"] {
  const { badBlockLogSectors, badBlockLogOffsetSectors, hasBadBlocks } = superblock;
  if (badBlockLogSectors === 0 || badBlockLogOffsetSectors === 0) return null;
  return {
    offsetSectors: badBlockLogOffsetSectors,
    entryCountMax: (badBlockLogSectors * SECTOR_BYTES) / 8,
    hasEntries: hasBadBlocks,
  };
}

/** The first sector before the data that is free, as mdadm counts. */
function usedBefore(superblock: Superblock): number {
  const { log, badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  const ends = [RESERVED_SECTORS];
  if (log.kind === "ppl") ends.push(log.offsetSectors + log.sizeSectors);
  if (badBlockLogSectors > 0) ends.push(badBlockLogOffsetSectors + badBlockLogSectors);
  return SUPERBLOCK_OFFSET_SECTORS + Math.max(...ends);
}

function roleReport(role: number): ExamineReport["role"] {
  if (role < Role.limit) return role;
  if (role === Role.journal) return "journal";
  return role === Role.faulty ? "faulty" : "spare";
}

/** A superblock may hold any number: one beyond the year 9999 is shown as seconds. */
function timeText({ seconds, microseconds }: MdTime): string {
  const unixMs = seconds * 1000 + Math.floor(microseconds / 1000);
  return unixMs > TIME_MS_MAX ? `${seconds} seconds since 1970` : isoTime(unixMs);
}

function sectorsText(sectors: number): string {
  return `${sectors} sectors${bothSizes(sectors * SECTOR_BYTES)}`;
}

/** " (31.00 MiB 32.51 MB)", with mdadm's steps; nothing for what is small. */
export function bothSizes(bytes: number): string {
  if (bytes < 5000 * KIB) return "";
  const step = bytes < 2 * GIB ? 2 : bytes < 2 * TIB ? 3 : 4;
  const letter = " KMGT"[step];
  const binary = (bytes / 1024 ** step).toFixed(2);
  const decimal = (bytes / 1000 ** step).toFixed(2);
  return ` (${binary} ${letter}iB ${decimal} ${letter}B)`;
}
