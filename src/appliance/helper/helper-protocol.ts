/** What the control thread and the helper threads say to each other: a closed union. */
import type { CommandError, OpenDrive } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import type { NbdConnection, NbdDisconnection } from "../attach/nbd-driver.ts";
import type { FileRoom, FoundDevice, OpenRequest } from "./drive-opener.ts";

/** What a helper opened. */
export interface OpenedDevice {
  readonly drive: OpenDrive;
  /** Fds that only hold a lock (on a loop device's backing file); closed with the drive. */
  readonly lockFds: readonly number[];
}

/** A block device, as /sys knows it. */
export interface ListedDevice {
  readonly path: string;
  /** "block:8:16". */
  readonly identity: string;
  readonly sizeBytes: number;
  /** What it is in use for ("mounted at /srv"); null: nobody has it. */
  readonly claim: string | null;
}

export interface HelperCallMap {
  /**
   * Tells what a path leads to, by names that are the same for all paths to one thing:
   * "file:8:1:77" by inode, "block:8:16" by device number; for a loop device its own, then its
   * backing file's.
   */
  identify: {
    request: { path: string; protectedPaths: readonly string[] };
    value: { readonly identities: readonly string[] };
  };
  /** Opens what was identified, and nothing else that has come to the path since. */
  open: {
    request: { open: OpenRequest; identities: readonly string[] };
    value: OpenedDevice;
  };
  close: { request: { fds: readonly number[] }; value: null };
  /** Makes [offset, offset + bytes) read as zeros, durably, without storing them. */
  "punch-hole": { request: { fd: number; offset: number; bytes: number }; value: null };
  /** Gives [offset, offset + bytes) its space, durably; `endBytes` is where the whole work ends. */
  allocate: {
    request: { fd: number; offset: number; bytes: number; endBytes: number };
    value: null;
  };
  /** The paths of the files directly in a folder, `limit` at most. */
  "list-folder": { request: { folder: string; limit: number }; value: readonly string[] };
  /** Whole block devices and partitions, `limit` at most, with who has them; none is opened. */
  "list-block-devices": {
    request: { inUse: readonly string[]; limit: number };
    value: readonly ListedDevice[];
  };
  /** What is on an open drive now: a noun for people, or null for nothing. */
  content: { request: { fd: number; blockBytes: number }; value: string | null };
  /** What there is of the file system under an open file; null: it is no file. */
  room: { request: { fd: number }; value: FileRoom | null };
  /** Which host holds the reservation of the disk at a path; null: none, or it cannot tell. */
  reservation: { request: { path: string }; value: string | null };
  /** Why the kernel is not at ease with a disk ("sda") now; null: nothing is known against it. */
  "disk-trouble": { request: { disk: string }; value: string | null };
  "connect-nbd": { request: NbdConnection; value: null };
  "disconnect-nbd": { request: NbdDisconnection; value: null };
  /** What is at a path; null: nothing that could be a drive, or somebody has it. */
  look: {
    request: { path: string; inUse: readonly string[] };
    value: { readonly identity: string; readonly device: FoundDevice } | null;
  };
}

export type HelperCallKind = keyof HelperCallMap;

export type HelperCall = {
  [K in HelperCallKind]: { readonly kind: K } & Readonly<HelperCallMap[K]["request"]>;
}[HelperCallKind];

export type HelperCallOf<K extends HelperCallKind> = Extract<HelperCall, { kind: K }>;

export type HelperResult<K extends HelperCallKind = HelperCallKind> = Result<
  HelperCallMap[K]["value"],
  CommandError
>;

export interface HelperEnvelope {
  readonly id: number;
  readonly call: HelperCall;
}

export interface HelperReply {
  readonly id: number;
  readonly result: HelperResult;
}
