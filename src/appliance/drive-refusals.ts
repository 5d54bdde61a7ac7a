/** Why a drive is not added, not taken or not let go of, in words. */
import type { CommandError, OpenDrive } from "../array/protocol.ts";

/** "another host holds the reservation of drive d1 (key 0xb2, initiator iqn.…)" */
export function withHolder(text: string, holder: string | null): string {
  return holder === null ? text : `${text} (${holder})`;
}

export function noRoom({ path }: OpenDrive, why: string): CommandError {
  const detail =
    `the file system of ${path} has no room for all of the files: ${why}. Make room, or leave ` +
    'them sparse ("allocate": false): a full file system refuses their writes then';
  return { kind: "conflict", code: "no-space", detail };
}

export function notThisDrive(detail: string): CommandError {
  return { kind: "conflict", code: "another-drive", detail };
}

export function driveNotFound(name: string): CommandError {
  const detail = `there is no drive named ${name}; GET /v1/drives lists those that are known`;
  return { kind: "not-found", code: "drive-not-found", detail };
}

export function driveBusy(name: string): CommandError {
  const detail = `drive ${name} is being opened or closed at this moment; try again`;
  return { kind: "busy", code: "drive-busy", detail };
}

export function driveExists({ name, path }: { name: string; path: string }): CommandError {
  const detail =
    `a drive named ${name} is there already (${path}): ` +
    "choose another name, or remove that one first";
  return { kind: "conflict", code: "drive-exists", detail };
}

export function pathInUse({ name, path }: { name: string; path: string }): CommandError {
  const detail = `${path} is there already, as drive ${name}`;
  return { kind: "conflict", code: "path-in-use", detail };
}
