/** What the control thread and the helper thread say to each other: a closed union. */
import type { CommandError, OpenDrive } from "../array/protocol.ts";
import type { Result } from "../base/result.ts";
import type { OpenRequest } from "./drive-opener.ts";

/** A device that is open already, under whatever path. */
export interface DeviceInUse {
  /** Tells devices apart: "file:8:1:1234" by inode, "block:8:16" by device number. */
  readonly identity: string;
  readonly drive: string;
}

/** What the helper opened. */
export interface OpenedDevice {
  readonly drive: OpenDrive;
  /** Of the device itself and, for a loop device, of its backing file. */
  readonly identities: readonly string[];
  /** Fds that only hold a lock (on a loop device's backing file); closed with the drive. */
  readonly lockFds: readonly number[];
}

export interface HelperCallMap {
  open: { request: { open: OpenRequest; inUse: readonly DeviceInUse[] }; value: OpenedDevice };
  close: { request: { fds: readonly number[] }; value: null };
  /** Makes [offset, offset + bytes) read as zeros, durably, without storing them. */
  "punch-hole": { request: { fd: number; offset: number; bytes: number }; value: null };
}

export type HelperCallKind = keyof HelperCallMap;

export type HelperCall = {
  [K in HelperCallKind]: { readonly kind: K } & Readonly<HelperCallMap[K]["request"]>;
}[HelperCallKind];

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
