/** A drive as it is shown, with what its disk says of its health. Pure. */
import type { DriveStatus } from "../../array/protocol.ts";
import type { DriveView } from "./drive-care.ts";

/** By a daemon that asks disks, or by one that does not. */
export type ShownDrive = DriveStatus & Partial<Pick<DriveView, "smart">>;

export function isFailing({ state, smart }: ShownDrive): boolean {
  return state !== "missing" && smart?.health === "failing";
}

export function whyOf({ smart }: ShownDrive): string {
  return smart?.failures.join("; ") || "it gives no reason";
}
