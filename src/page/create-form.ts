/** The form for a new array: what is sent, and what is said of it beforehand. Pure. */
import { formatBytes } from "../base/units.ts";

export interface CreateForm {
  readonly name: string;
  /** In the order of their roles. */
  readonly drives: readonly string[];
  readonly spares: readonly string[];
  readonly policy: string;
  readonly chunkKiB: number;
  readonly force: boolean;
}

export const EMPTY_FORM: CreateForm = {
  ...{ name: "", drives: [], spares: [], policy: "ppl", chunkKiB: 64, force: false },
};

export const POLICIES = [
  { value: "ppl", label: "ppl: a log of parity; no write hole" },
  { value: "bitmap", label: "bitmap: short resync and re-add" },
  { value: "resync", label: "resync: nothing beside the dirty mark" },
] as const;

export function bodyOf({ name, drives, spares, policy, chunkKiB, force }: CreateForm) {
  return { name, drives, spares, consistencyPolicy: policy, chunkKiB, force };
}

/** What a create writes, a sentence each. */
export function writesOf({ drives, spares, policy }: CreateForm, sizeBytes: number): string[] {
  const memberBytes = sizeBytes / (drives.length - 1);
  const lines = [
    `Superblocks on ${listed([...drives, ...spares])}: what these drives hold is lost.`,
    `Of each member ${formatBytes(memberBytes)} are used; one of ${drives.length} may fail.`,
  ];
  if (policy !== "resync") lines.push(`The ${policy} beside the data of each member.`);
  return [
    ...lines,
    "Parity over all of it, in a resync in the background: the array can be used at once.",
    "Members that are files get all of their space now.",
  ];
}

/** "a, b and c". */
function listed(names: readonly string[]): string {
  const last = names.at(-1) ?? "";
  return names.length < 2 ? last : `${names.slice(0, -1).join(", ")} and ${last}`;
}
