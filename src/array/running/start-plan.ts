/** The plan that an array is started with: the result of an assembly or of a create. */
import type { BitmapState } from "../../md/bitmap-state.ts";
import type { Superblock } from "../../md/superblock.ts";
import type { Drive } from "../drives/drive.ts";

export interface PlannedMember {
  readonly drive: Drive;
  /** Null: in sync. */
  readonly recoveryOffsetSectors: number | null;
  /** The drive that is to replace it, and how far that is valid; null: none is. */
  readonly replacement: { readonly drive: Drive; readonly recoveryOffsetSectors: number } | null;
}

export interface StartPlan {
  readonly name: string;
  /** Geometry, identity and dev_roles are taken from it. */
  readonly superblock: Superblock;
  /** By role. */
  readonly roles: readonly (PlannedMember | null)[];
  readonly spares: readonly Drive[];
  readonly resyncFromSector: number | null;
  /** The first resync of a new array: nobody has written anything yet. */
  readonly isFirstResync: boolean;
  readonly isReadOnly: boolean;
  /** With the policy `bitmap`, unless it is read-only. */
  readonly bitmap: BitmapState | null;
}
