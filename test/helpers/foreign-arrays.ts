/**
 * Arrays that mdadm and a real kernel make for a test, in many more shapes than the fixtures have:
 * every layout, chunks of 4 KiB to 1 MiB, data offsets that differ or are not in whole rows,
 * spares, stale members, each policy, and what parityd must refuse.
 */
import type { ConsistencyPolicy } from "../../src/md/create.ts";
import type { CreateTask } from "./md-lab.ts";

export interface ForeignArray {
  readonly name: string;
  readonly layout: string;
  readonly chunkKib: number;
  readonly memberCount: number;
  readonly policy: ConsistencyPolicy;
  readonly spareCount: number;
  /** Index of the member that left before the last writes; null: none. */
  readonly loses: number | null;
  /** By member, where its data begins, in mdadm's words. */
  readonly dataOffsets: readonly string[];
  /** It is also kept as it was while dirty. */
  readonly keepsDirty: boolean;
}

const PLAIN = {
  layout: "left-symmetric",
  chunkKib: 64,
  memberCount: 3,
  policy: "resync",
  spareCount: 0,
  loses: null,
  dataOffsets: [],
  keepsDirty: false,
} as const;

export const FOREIGN: readonly ForeignArray[] = [
  { ...PLAIN, name: "la", layout: "left-asymmetric" },
  { ...PLAIN, name: "ra", layout: "right-asymmetric", chunkKib: 4, memberCount: 4 },
  { ...PLAIN, name: "ls", chunkKib: 512, memberCount: 5 },
  { ...PLAIN, name: "rs", layout: "right-symmetric", memberCount: 4 },
  { ...PLAIN, name: "pf", layout: "parity-first", chunkKib: 16 },
  { ...PLAIN, name: "pl", layout: "parity-last", chunkKib: 128, memberCount: 4 },
  { ...PLAIN, name: "mib", chunkKib: 1024 },
  { ...PLAIN, name: "offsets", dataOffsets: ["1M", "3M", "2M"] },
  { ...PLAIN, name: "odd", chunkKib: 8, dataOffsets: ["1025K", "1025K", "1026K"] },
  { ...PLAIN, name: "spare", chunkKib: 32, spareCount: 1 },
  { ...PLAIN, name: "stale", memberCount: 4, loses: 2 },
  { ...PLAIN, name: "dirty", chunkKib: 16, memberCount: 4, keepsDirty: true },
  { ...PLAIN, name: "bits", policy: "bitmap", keepsDirty: true },
  { ...PLAIN, name: "bits-la", policy: "bitmap", layout: "left-asymmetric", chunkKib: 4 },
  { ...PLAIN, name: "bits-stale", policy: "bitmap", memberCount: 4, loses: 1 },
  { ...PLAIN, name: "log", policy: "ppl", keepsDirty: true },
  { ...PLAIN, name: "log-pf", policy: "ppl", layout: "parity-first", chunkKib: 16, memberCount: 4 },
  { ...PLAIN, name: "log-stale", policy: "ppl", memberCount: 4, loses: 3 },
];

/** For mdadm --create. */
export const POLICY_WORDS: Readonly<Record<ConsistencyPolicy, readonly string[]>> = {
  resync: ["--bitmap=none"],
  bitmap: ["--bitmap=internal", "--bitmap-chunk=64K"],
  ppl: ["--consistency-policy=ppl"],
};

/** Images that the array takes. */
export function fileCountOf({ memberCount, spareCount }: ForeignArray): number {
  return memberCount + spareCount;
}

export function createTaskOf(
  array: ForeignArray,
  { files, dirtyFiles }: { files: readonly string[]; dirtyFiles: readonly string[] },
): CreateTask {
  const { name, layout, chunkKib, policy, dataOffsets, spareCount, loses } = array;
  const shape = ["--level=5", `--layout=${layout}`, `--chunk=${chunkKib}`];
  const offset = dataOffsets.length > 0 ? ["--data-offset=variable"] : [];
  const words = [...shape, ...POLICY_WORDS[policy], ...offset];
  const suffixes = dataOffsets.map((place) => `:${place}`);
  return { name, files, spareCount, words, suffixes, loses, dirtyFiles };
}

export interface RefusedArray {
  readonly name: string;
  readonly words: readonly string[];
  readonly memberCount: number;
  /** What the message says of it. */
  readonly says: RegExp;
}

export const REFUSED: readonly RefusedArray[] = [
  {
    name: "v090",
    words: ["--metadata=0.90", "--level=5", "--bitmap=none"],
    memberCount: 3,
    says: /version 0\.90 at its end; parityd runs version 1\.2 only/,
  },
  {
    name: "v10",
    words: ["--metadata=1.0", "--level=5", "--bitmap=none"],
    memberCount: 3,
    says: /version 1\.0 at its end; parityd runs version 1\.2 only/,
  },
  {
    name: "v11",
    words: ["--metadata=1.1", "--level=5", "--bitmap=none"],
    memberCount: 3,
    says: /version 1\.1 at its start; parityd runs version 1\.2 only/,
  },
  { name: "raid4", words: ["--level=4"], memberCount: 3, says: /array of level 4/ },
  {
    name: "raid6",
    words: ["--level=6", "--bitmap=none"],
    memberCount: 4,
    says: /array of level 6/,
  },
  {
    name: "raid1",
    words: ["--level=1", "--bitmap=none"],
    memberCount: 2,
    says: /array of level 1/,
  },
];
