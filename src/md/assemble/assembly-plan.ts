/** What the judgement of an assembly takes and gives; see assemble.ts. */
import { assert } from "../../base/assert.ts";
import type { ConsistencyPolicy } from "../create.ts";
import type { Reshape } from "../reshape.ts";
import { roleOf, type Superblock } from "../superblock.ts";

export interface Candidate {
  /** Its name, for messages and to find it again. */
  readonly drive: string;
  readonly superblock: Superblock;
  readonly deviceBytes: number;
  /** 512 where it is absent. */
  readonly logicalBlockBytes?: number;
}

/** A drive that is to replace a member, which serves meanwhile. */
export interface ReplacementPlan {
  readonly drive: string;
  readonly superblock: Superblock;
  /** Valid below this sector of its data region. */
  readonly recoveryOffsetSectors: number;
}

export type RolePlan =
  | {
      readonly state: "in-sync";
      readonly drive: string;
      readonly superblock: Superblock;
      readonly replacement: ReplacementPlan | null;
    }
  | {
      readonly state: "rebuilding";
      readonly drive: string;
      readonly superblock: Superblock;
      /** Valid below this sector of its data region. */
      readonly recoveryOffsetSectors: number;
    }
  | { readonly state: "missing" };

export interface AssemblyPlan {
  readonly arrayUuid: string;
  /** What holds for the array; the roles' superblocks may be one event older. */
  readonly freshest: Superblock;
  readonly events: number;
  readonly policy: ConsistencyPolicy;
  /** The roles' superblocks say the same. Null: none is under way. */
  readonly reshape: Reshape | null;
  /** By role; at most one is not in sync. */
  readonly roles: readonly RolePlan[];
  readonly spares: readonly Candidate[];
  /** These two take no part. */
  readonly stale: readonly Candidate[];
  readonly faulty: readonly Candidate[];
  /** Roles that are not in sync: 0 or 1. */
  readonly degraded: number;
  /** In sync below this member sector; null: clean. */
  readonly resyncFromSector: number | null;
  /** Only `force` made this plan possible: some data cannot be proved right. */
  readonly isForced: boolean;
}

export type AssemblyRefusalKind =
  | "unsupported"
  | "bad-geometry"
  | "superblocks-differ"
  | "member-too-small"
  | "misaligned"
  | "unusable-log"
  | "duplicate-member"
  | "split-brain"
  | "too-few-members"
  | "dirty-and-degraded";

/** `detail` names the drive, says what was found and what to do. */
export interface AssemblyRefusal {
  readonly kind: AssemblyRefusalKind;
  /** The drives that it is about. */
  readonly drives: readonly string[];
  readonly detail: string;
}

export function refusal(
  kind: AssemblyRefusalKind,
  drives: readonly string[],
  detail: string,
): AssemblyRefusal {
  assert(detail.endsWith("."), "a refusal is told in sentences");
  return { kind, drives, detail };
}

/** What a drive's own superblock says that it is: a role, or one of `Role`. */
export function ownRole({ superblock }: Candidate): number {
  return roleOf(superblock, superblock.devNumber);
}

/** Whether the event count is close enough to the freshest for the content to be current. */
export function isCurrent(superblock: Superblock, freshest: Superblock): boolean {
  return superblock.events >= freshest.events - 1;
}
