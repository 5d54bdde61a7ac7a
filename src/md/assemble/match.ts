/**
 * Whether superblocks describe an array that we can run, and all the same one (steps 2, 3 and 6
 * of assemble.ts).
 */
import { formatBytes, isPowerOfTwo, SECTOR_BYTES } from "../../base/units.ts";
import { isInRange, rangeText, SUPERBLOCK_RANGES } from "../field-ranges.ts";
import { layoutName } from "../layout.ts";
import { pplSpaceOf } from "../ppl.ts";
import { judgeRunningReshape } from "../reshape-judge.ts";
import {
  Feature,
  Role,
  roleOf,
  SUPERBLOCK_OFFSET_SECTORS,
  type Superblock,
} from "../superblock.ts";
import {
  type AssemblyRefusal,
  type Candidate,
  isCurrent,
  ownRole,
  refusal,
} from "./assembly-plan.ts";
import { isOneReshape, reshapeText } from "./reshape-stage.ts";

const {
  members: { runs: MEMBERS },
  chunk: { runs: CHUNK },
} = SUPERBLOCK_RANGES;

const UNSUPPORTED: readonly { readonly bits: number; readonly what: string }[] = [
  {
    bits: Feature.journal,
    what:
      "has a journal device. Assemble it with mdadm on Linux, remove the journal device " +
      "(mdadm --fail, then --remove), and write resync to its md/consistency_policy in /sys/block",
  },
  {
    bits: Feature.clustered,
    what: "belongs to a cluster, whose other machines may be writing to it. It cannot be used here",
  },
];

/** `candidates` are those whose superblocks count: current ones, and spares. */
export function findUnsupported(candidates: readonly Candidate[]): AssemblyRefusal | null {
  for (const candidate of candidates) {
    const { drive, superblock } = candidate;
    for (const { bits, what } of UNSUPPORTED) {
      if ((superblock.otherFeatures & bits) === 0) continue;
      return refusal("unsupported", [drive], `The array of drive ${drive} ${what}.`);
    }
    const reshape = judgeRunningReshape(superblock);
    if (reshape?.kind === "unsupported") {
      const detail =
        `The array of drive ${drive} is in the middle of a reshape that ${reshape.what}. Let Linux ` +
        "finish it (mdadm --assemble), then try again.";
      return refusal("unsupported", [drive], detail);
    }
    if (ownRole(candidate) === Role.journal) {
      const detail =
        `Drive ${drive} is the journal device of an array, and parityd runs none with a journal. ` +
        "Remove the journal with mdadm on Linux first.";
      return refusal("unsupported", [drive], detail);
    }
    if (superblock.level !== 5) {
      const detail =
        `Drive ${drive} belongs to an array of level ${superblock.level}; parityd runs ` +
        "RAID5 only. Run that array with Linux.";
      return refusal("unsupported", [drive], detail);
    }
    const bad = reshape === null ? badGeometry(superblock) : `a reshape that ${reshape.what}`;
    if (bad !== null) {
      const detail =
        `The superblock of drive ${drive} names ${bad}; no RAID5 array runs ` +
        "so. Leave the drive out; if all members say the same, look at them with mdadm --examine.";
      return refusal("bad-geometry", [drive], detail);
    }
    const beyond = beyondLimits(superblock);
    if (beyond === null) continue;
    const detail = `The array of drive ${drive} ${beyond}. Run it with Linux.`;
    return refusal("unsupported", [drive], detail);
  }
  return null;
}

/** What no RAID5 array has, whoever runs it. */
function badGeometry(superblock: Superblock): string | null {
  const { chunkSectors, layout, memberCount, sizeSectors, devRoles } = superblock;
  if (chunkSectors < CHUNK.min || !isPowerOfTwo(chunkSectors)) {
    return `a chunk of ${chunkSectors} sectors`;
  }
  if (!isInRange(layout, SUPERBLOCK_RANGES.layout.runs)) return `layout ${layout}`;
  if (memberCount < MEMBERS.min || memberCount > devRoles.length) return `${memberCount} members`;
  if (sizeSectors < chunkSectors) return `a member size of ${sizeSectors} sectors`;
  const arrayBytes = sizeSectors * SECTOR_BYTES * (memberCount - 1);
  if (!Number.isSafeInteger(arrayBytes)) return `a size of ${arrayBytes} bytes`;
  return null;
}

/** What Linux runs and parityd does not. */
function beyondLimits({ memberCount, chunkSectors, events }: Superblock): string | null {
  if (!isInRange(memberCount, MEMBERS)) {
    return `has ${memberCount} members, and parityd runs arrays of ${rangeText(MEMBERS)}`;
  }
  if (!isInRange(chunkSectors, CHUNK)) {
    const most = formatBytes(CHUNK.max * SECTOR_BYTES);
    return `has chunks of ${formatBytes(chunkSectors * SECTOR_BYTES)}, and parityd runs arrays with chunks of ${most} at most`;
  }
  if (isInRange(events, SUPERBLOCK_RANGES.events.runs)) return null;
  return `is at event ${events}, more than any array comes to, and parityd could not count on`;
}

/**
 * The first field in which a current member differs from the freshest; the creation time in any
 * drive. mdadm does not start such a set either ("doesn't match others").
 *
 * The size alone may be smaller in a member that is one event behind: an update that has grown the
 * array did not reach it, and the freshest superblock says what holds. Nor does the size say
 * anything of who is no member any more: it is left out for that.
 */
export function findDifference(
  candidates: readonly Candidate[],
  freshest: Candidate,
  { includeStale = false }: { includeStale?: boolean } = {},
): AssemblyRefusal | null {
  for (const candidate of candidates) {
    if (creationOf(candidate.superblock) !== creationOf(freshest.superblock)) {
      return differs(candidate, freshest, "creation time", creationOf);
    }
    if (ownRole(candidate) >= Role.limit) continue;
    if (!includeStale && !isCurrent(candidate.superblock, freshest.superblock)) continue;
    const isAsFresh = candidate.superblock.events === freshest.superblock.events;
    for (const [field, read] of isAsFresh ? [...COMPARED, ...COMPARED_AT_ONE_EVENT] : COMPARED) {
      if (read(candidate.superblock) === read(freshest.superblock)) continue;
      return differs(candidate, freshest, field, read);
    }
    const other = findOtherStage(candidate.superblock, freshest.superblock, includeStale);
    if (other !== null) return differs(candidate, freshest, ...other);
    if (hasOtherSize(candidate, freshest, includeStale)) {
      return differs(candidate, freshest, "size in sectors", sizeOf);
    }
    const unfit = findUnfit(candidate, freshest.superblock);
    if (unfit !== null) return unfit;
  }
  return null;
}

function hasOtherSize(candidate: Candidate, freshest: Candidate, isForced: boolean): boolean {
  const { sizeSectors, events, devNumber } = candidate.superblock;
  const { superblock } = freshest;
  if (sizeSectors === superblock.sizeSectors) return false;
  if (isForced) return true;
  const isMember = roleOf(superblock, devNumber) < superblock.memberCount;
  const isBehind = events < superblock.events && sizeSectors < superblock.sizeSectors;
  return isMember && !isBehind;
}

type Reader = (superblock: Superblock) => string;

/** In which the two say different things of a reshape that no update cut short explains. */
function findOtherStage(
  superblock: Superblock,
  freshest: Superblock,
  isForced: boolean,
): readonly [string, Reader] | null {
  if (isOneReshape(superblock, freshest, isForced)) return null;
  return superblock.memberCount === freshest.memberCount
    ? ["reshape", reshapeText]
    : ["number of members", ({ memberCount }) => String(memberCount)];
}

const sizeOf: Reader = ({ sizeSectors }) => String(sizeSectors);

function creationOf({ createdAt }: Superblock): string {
  return `${createdAt.seconds}.${String(createdAt.microseconds).padStart(6, "0")}`;
}

const COMPARED: readonly (readonly [string, Reader])[] = [
  ["level", ({ level }) => String(level)],
  ["layout", ({ layout }) => layoutName(layout) ?? String(layout)],
  ["chunk size in sectors", ({ chunkSectors }) => String(chunkSectors)],
];

/** An update that changes it may have been cut short: the freshest superblock says what it is. */
const COMPARED_AT_ONE_EVENT: typeof COMPARED = [
  ["consistency policy", ({ log }) => (log.kind === "none" ? "resync" : log.kind)],
];

function differs(
  candidate: Candidate,
  freshest: Candidate,
  field: string,
  read: Reader,
): AssemblyRefusal {
  return refusal(
    "superblocks-differ",
    [candidate.drive, freshest.drive],
    `Drives ${candidate.drive} and ${freshest.drive} carry the same array uuid but differ in the ` +
      `${field}: ${read(candidate.superblock)} and ${read(freshest.superblock)}. They are ` +
      `not members of one array; leave out the one that does not belong.`,
  );
}

/** What makes one drive unfit for an array that uses so much of each member. */
export function findUnfit(
  candidate: Candidate,
  { sizeSectors }: Pick<Superblock, "sizeSectors">,
): AssemblyRefusal | null {
  const { drive, superblock, logicalBlockBytes = SECTOR_BYTES } = candidate;
  const { dataSizeSectors } = superblock;
  if (dataSizeSectors < sizeSectors) {
    return refusal(
      "member-too-small",
      [drive],
      `Drive ${drive} has ${dataSizeSectors} sectors for data where the array uses ` +
        `${sizeSectors} of each member. Replace it by a drive that is large enough.`,
    );
  }
  if (!isInRange(superblock.devNumber, SUPERBLOCK_RANGES.devNumber.runs)) {
    return refusal(
      "bad-geometry",
      [drive],
      `Drive ${drive} has device number ${superblock.devNumber}, for which the superblock has no ` +
        "place. Add it again to have it used under another one.",
    );
  }
  const space = superblock.log.kind === "ppl" ? pplSpaceOf(superblock) : null;
  if (space?.ok === false) {
    return refusal(
      "unusable-log",
      [drive],
      `Drive ${drive}: ${space.error.detail} Make it anew on Linux: mdadm --assemble ` +
        "--update=no-ppl, then --update=ppl.",
    );
  }
  if (logicalBlockBytes <= SECTOR_BYTES) return null;
  const blockSectors = logicalBlockBytes / SECTOR_BYTES;
  const odd = alignedOffsets(superblock).find(([, offset]) => offset % blockSectors !== 0);
  if (odd === undefined) return null;
  return refusal(
    "misaligned",
    [drive],
    `Drive ${drive} takes whole blocks of ${logicalBlockBytes} bytes only, but the ${odd[0]} of ` +
      `its superblock begins at sector ${odd[1]}. Move the array to drives with 512-byte blocks.`,
  );
}

function alignedOffsets(superblock: Superblock): [string, number][] {
  const { log, badBlockLogSectors, badBlockLogOffsetSectors } = superblock;
  const offsets: [string, number][] = [["data", superblock.dataOffsetSectors]];
  if (badBlockLogSectors > 0) {
    offsets.push(["bad-block log", SUPERBLOCK_OFFSET_SECTORS + badBlockLogOffsetSectors]);
  }
  if (log.kind !== "none") {
    const name = log.kind === "ppl" ? "partial parity log" : "bitmap";
    offsets.push([name, SUPERBLOCK_OFFSET_SECTORS + log.offsetSectors]);
  }
  return offsets;
}
