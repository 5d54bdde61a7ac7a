/** What the appliance needs of the helper threads: the calls that may block. */
import type { CommandError, DriveIdentity, OpenDrive } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import { setNameOf } from "../../md/create.ts";
import { roleOf, type Superblock } from "../../md/superblock.ts";

export interface OpenRequest {
  readonly name: string;
  readonly path: string;
  /** O_DIRECT. */
  readonly direct: boolean;
  readonly readOnly: boolean;
}

export interface LookRequest {
  readonly paths: readonly string[];
  /** The files directly in each are looked at. */
  readonly folders: readonly string[];
  /** All whole block devices and partitions that nobody has claimed. */
  readonly blockDevices: boolean;
}

/** What a superblock says of the device that carries it. */
export interface FoundMember {
  readonly arrayUuid: string;
  readonly deviceUuid: string;
  /** RAID level, as md numbers it. */
  readonly level: number;
  /** 65535 a spare, 65534 faulty, as md has it. */
  readonly role: number;
  readonly events: number;
  /** As on disk, with the home host before a colon, if any. */
  readonly setName: string;
}

export function foundMember(superblock: Superblock): FoundMember {
  return {
    arrayUuid: superblock.arrayUuid,
    deviceUuid: superblock.deviceUuid,
    level: superblock.level,
    role: roleOf(superblock, superblock.devNumber),
    events: superblock.events,
    setName: setNameOf(superblock),
  };
}

/** A regular file or block device; `byId`, `wwn`, `serial` and `model` are null where unknown. */
export interface FoundDevice extends DriveIdentity {
  readonly path: string;
  readonly sizeBytes: number;
  /** Null: no superblock, or none that can be used. */
  readonly member: FoundMember | null;
  /** Why the superblock that it carries cannot be used; null: it can, or there is none. */
  readonly unusable: string | null;
}

/** A block device that somebody has: nobody has looked at it. */
export interface TakenDevice {
  readonly path: string;
  readonly sizeBytes: number;
  /** "mounted at /srv". */
  readonly claim: string;
  /** The drive that it is open as here, or about to be; null: others have it. */
  readonly drive: string | null;
}

export interface LookResult {
  /** Each device and inode once, under the first of its paths; not what is open here already. */
  readonly found: readonly FoundDevice[];
  /** Where block devices were asked for: those that were left alone because somebody has them. */
  readonly taken: readonly TakenDevice[];
  /** Paths that did not answer in time, and those that were left out because too many did not. */
  readonly unanswered: readonly string[];
  /** Folders that could not be listed. */
  readonly unreadable: readonly UnreadableFolder[];
  /** There was more than a look goes through. */
  readonly isCut: boolean;
}

export interface UnreadableFolder {
  readonly path: string;
  readonly reason: string;
}

export interface FileRoom {
  /** Files with the same one share what is available. */
  readonly fileSystem: string;
  readonly availableBytes: number;
  readonly allocatedBytes: number;
}

export interface DriveOpener {
  open(request: OpenRequest): Promise<Result<OpenDrive, CommandError>>;
  close(fd: number): Promise<void>;
  /** Makes a range read as zeros without storing them; durable when it answers. */
  punchHole(
    fd: number,
    range: { offset: number; bytes: number },
  ): Promise<Result<null, CommandError>>;
  /**
   * Gives the first `bytes` of a file their space, so that no later write can be refused for want
   * of it: `io/no-space` where there is not enough, with how much is missing; `unsupported` where
   * the file system cannot. Content is kept. It promises nothing on a file system that copies on
   * write (`OpenDrive.isCopyOnWrite`).
   */
  allocate(fd: number, bytes: number): Promise<Result<null, CommandError>>;
  /** What an open drive holds now: a noun for people, or null for nothing. */
  content(fd: number): Promise<Result<string | null, CommandError>>;
  /** What there is of the file system under an open file; null: it is no file. */
  room(fd: number): Promise<FileRoom | null>;
  /** Which host holds the reservation of what is at the path; null where it cannot be told. */
  reservation(path: string): Promise<string | null>;
  /**
   * Why a physical disk ("sda") is not to be asked anything now: gone, blocked, its controller in
   * error handling; null: nothing is known against it. It is not touched for that.
   */
  diskTrouble(disk: string): Promise<string | null>;
  /** What is where, found without opening anything for writing or for oneself alone. */
  look(request: LookRequest): Promise<LookResult>;
}
