/**
 * The machine around the daemon: disks, file systems, and the paths that lead to them today.
 *
 * | a disk has          | and it                                                             |
 * |---------------------|--------------------------------------------------------------------|
 * | an id               | never changes: it is what a test calls it by                       |
 * | content             | is as its media has it, whatever its path                          |
 * | `/dev/sdX`          | is given in the order of plugging in: another one at each boot     |
 * | `/dev/disk/by-id/…` | stays, where the disk tells what it is (some do not)               |
 * | or a file           | in a folder of a file system that may be full, or not mounted      |
 *
 * A disk that is pulled is gone for who has it open, also when it is plugged in again: the kernel
 * makes a new device then. The content outlives processes and power cuts (`DeviceImage`, `Media`).
 *
 * `threads` starts helper threads for the real Helper: they answer what a kernel would, late where
 * a disk is slow, and not at all where it hangs, until it is let go.
 */

import { NO_DRIVER } from "../../src/appliance/attach/nbd-driver.ts";
import { type FoundMember, foundMember } from "../../src/appliance/helper/drive-opener.ts";
import type {
  HelperCall,
  HelperEnvelope,
  HelperReply,
  HelperResult,
} from "../../src/appliance/helper/helper-protocol.ts";
import type { HelperThread } from "../../src/appliance/helper/helper-threads.ts";
import type { CommandError, DriveIdentity, OpenDrive } from "../../src/array/protocol.ts";
import { assert } from "../../src/base/assert.ts";
import { ENOSPC } from "../../src/base/errno.ts";
import { nextBelow, nextFraction, type SeededRandom } from "../../src/base/random.ts";
import { err, ok, type Result } from "../../src/base/result.ts";
import {
  decodeSuperblock,
  SUPERBLOCK_BYTES,
  SUPERBLOCK_OFFSET_BYTES,
} from "../../src/md/superblock.ts";
import { Op } from "../../src/reactor/io-table.ts";
import { blankImage, type DeviceImage, Media, readImage } from "../sim/world/media.ts";
import type { SimDevice } from "../sim/world/sim-device.ts";
import type { SimWorld } from "../sim/world/sim-world.ts";

export const DRIVE_BYTES = 3 * 1024 * 1024;
const CALL_MS = 0.05;
const SLOW_OPEN_MS = 4_000;
const FIRST_FD = 100;
const EBADE = 52;
const NO_IDENTITY: DriveIdentity = { byId: null, wwn: null, serial: null, model: null };

/** What a call about a disk meets. */
export type Manner = "prompt" | "slow" | "hangs" | "EIO" | "in-use";

export interface FileSystem {
  readonly folder: string;
  isMounted: boolean;
  /** No write that allocates has room. */
  isFull: boolean;
}

export interface Disk {
  readonly id: string;
  readonly fileSystem: FileSystem | null;
  /** Its lasting name, or null where it does not tell. */
  readonly byId: string | null;
  readonly number: number;
  /** The physical disk that it lies on: partitions of one disk share it. */
  readonly spindle: string;
  /** Of its device node or inode: another one each time it is plugged in. */
  node: number;
  /** `/dev/sdX` of today, or the file. */
  path: string;
  isPlugged: boolean;
  /** Another host holds the reservation: nothing is carried out (EBADE). */
  isFenced: boolean;
  /** Of a file: it has all its space. */
  isAllocated: boolean;
  manner: Manner;
  /** Of the world that runs; null: none has asked for it since it was plugged in. */
  device: SimDevice | null;
  /** What a look at its content finds, beside what arrays have written: somebody's, as a noun. */
  holds: string | null;
  /** While there is no device. */
  content: DeviceImage | Media;
}

/** Where a process has got to: it answers calls until the process ends. */
interface Machine {
  readonly world: SimWorld;
  readonly fds: Map<number, { readonly disk: Disk; readonly device: SimDevice }>;
  /** By the name that it was opened for last. */
  readonly byDrive: Map<string, Disk>;
}

export class SimHost {
  readonly disks = new Map<string, Disk>();
  readonly fileSystems: FileSystem[] = [];
  /** Copies, with what they were made of. */
  readonly twins = new Map<Disk, Disk>();
  private readonly random: SeededRandom;
  private machine: Machine | null = null;
  /** Calls that a disk which hangs has not answered. */
  private held: { disk: Disk; run: () => void }[] = [];
  private nextFd = FIRST_FD;
  private nextNumber = 1;
  private nextNode = 1;

  constructor({ random }: { random: SeededRandom }) {
    this.random = random;
    for (const folder of ["/srv/one", "/srv/two"]) {
      this.fileSystems.push({ folder, isMounted: true, isFull: false });
    }
  }

  // Disks ------------------------------------------------------------------------------------

  /** A new disk of zeros, plugged in. */
  addDisk(
    options: {
      fileSystem?: FileSystem | undefined;
      tellsId?: boolean;
      sizeBytes?: number;
      spindle?: string;
    } = {},
  ): Disk {
    const { sizeBytes = DRIVE_BYTES } = options;
    return this.add({ ...options, content: (id) => blankImage({ name: id, sizeBytes }) });
  }

  /** Another disk with the same bytes on it, as `dd` makes one. */
  clone(disk: Disk): Disk {
    const image = this.imageOf(disk);
    const twin = this.add({ content: (id) => ({ ...image, name: id }) });
    this.twins.set(twin, disk);
    return twin;
  }

  /** Whether a copy of it is plugged in, or what it is a copy of. */
  isTwinPlugged(disk: Disk): boolean {
    for (const [twin, original] of this.twins) {
      if (twin === disk && original.isPlugged) return true;
      if (original === disk && twin.isPlugged) return true;
    }
    return false;
  }

  private add(options: {
    fileSystem?: FileSystem | undefined;
    tellsId?: boolean;
    spindle?: string;
    content: (id: string) => DeviceImage;
  }): Disk {
    const { fileSystem = null, tellsId = true } = options;
    const number = this.nextNumber;
    this.nextNumber += 1;
    const id = `disk${number}`;
    const disk: Disk = {
      ...{
        id,
        fileSystem,
        number,
        node: 0,
        manner: "prompt",
        isPlugged: false,
        device: null,
        path: "",
      },
      ...{ isFenced: false, isAllocated: false, holds: null },
      spindle: options.spindle ?? fileSystem?.folder ?? id,
      byId: fileSystem === null && tellsId ? `/dev/disk/by-id/wwn-0x${number}` : null,
      content: options.content(id),
    };
    this.disks.set(id, disk);
    if (fileSystem !== null) disk.path = `${fileSystem.folder}/${id}.img`;
    this.plug(disk);
    return disk;
  }

  disk(id: string): Disk {
    const disk = this.disks.get(id);
    assert(disk !== undefined, `there is a disk ${id}`);
    return disk;
  }

  /** It appears, at the first letter that is free. */
  plug(disk: Disk): void {
    assert(!disk.isPlugged, `${disk.id} was not there`);
    disk.isPlugged = true;
    disk.node = this.nextNode;
    this.nextNode += 1;
    if (disk.fileSystem === null) disk.path = this.freeLetter();
  }

  /** It is pulled out under whoever has it open. What its cache held may be lost. */
  pull(disk: Disk): void {
    assert(disk.isPlugged, `${disk.id} was there`);
    disk.isPlugged = false;
    const { device } = disk;
    this.letGo(disk);
    if (device === null) return;
    device.vanish("random");
    disk.content = device.image();
    disk.device = null;
  }

  /** After another boot: letters go by the order in which the disks are found. */
  shuffleLetters(): void {
    const blocks = [...this.disks.values()].filter(
      ({ fileSystem, isPlugged }) => fileSystem === null && isPlugged,
    );
    for (const disk of blocks) disk.path = "";
    while (blocks.length > 0) {
      const [disk] = blocks.splice(nextBelow(this.random, blocks.length), 1);
      disk!.path = this.freeLetter();
    }
  }

  /** Everything that the disk owes is answered now. */
  letGo(disk: Disk): void {
    disk.manner = "prompt";
    disk.device?.release();
    const due = this.held.filter((call) => call.disk === disk);
    this.held = this.held.filter((call) => call.disk !== disk);
    for (const { run } of due) run();
  }

  imageOf(disk: Disk): DeviceImage {
    // Not under the name of the device, which is another one when the disk comes back.
    return { ...this.contentOf(disk), name: disk.id };
  }

  private contentOf({ device, content }: Disk): DeviceImage {
    if (device !== null) return device.image();
    return content instanceof Media ? content.cleanImage() : content;
  }

  memberOn(disk: Disk): FoundMember | null {
    const image = this.imageOf(disk);
    const bytes = readImage(image, SUPERBLOCK_OFFSET_BYTES, SUPERBLOCK_BYTES);
    const decoded = decodeSuperblock(bytes, { deviceBytes: image.sizeBytes });
    if (!decoded.ok) return null;
    return foundMember(decoded.value);
  }

  /** The disk to which a path leads now. */
  at(path: string): Disk | null {
    for (const disk of this.disks.values()) {
      const { isPlugged, fileSystem } = disk;
      if (!isPlugged || fileSystem?.isMounted === false) continue;
      if (disk.path === path || disk.byId === path) return disk;
    }
    return null;
  }

  private freeLetter(): string {
    const taken = new Set([...this.disks.values()].map(({ path }) => path));
    for (let index = 0; ; index += 1) {
      const path = `/dev/sd${String.fromCharCode(97 + index)}`;
      if (!taken.has(path) || !this.isThere(path)) return path;
    }
  }

  private isThere(path: string): boolean {
    return [...this.disks.values()].some((disk) => disk.isPlugged && disk.path === path);
  }

  // Processes --------------------------------------------------------------------------------

  /** A process has started, in this world. */
  begin(world: SimWorld): void {
    this.machine = { world, fds: new Map(), byDrive: new Map() };
  }

  /** It has ended; the machine goes on. */
  end(): void {
    for (const disk of this.disks.values()) {
      if (disk.device !== null) disk.content = disk.device.handOver();
      disk.device = null;
    }
    this.machine = null;
    this.held = [];
  }

  /** The power was cut: of what the caches held anything may be lost. */
  cutPower(policy: "keep" | "drop" | "random"): void {
    for (const disk of this.disks.values()) {
      if (disk.device !== null) disk.content = disk.device.crash(policy);
      // What a process before this one had left in the cache goes too.
      else if (disk.content instanceof Media) disk.content = this.cutAtRest(disk.content, policy);
      disk.device = null;
    }
    this.machine = null;
    this.held = [];
  }

  private cutAtRest(media: Media, policy: "keep" | "drop" | "random"): DeviceImage {
    const pending = media.pendingSectors();
    const fateOf = (index: number): number => {
      const { candidates } = pending[index]!;
      if (policy === "keep") return candidates.length - 1;
      return policy === "drop" ? -1 : nextBelow(this.random, candidates.length + 1) - 1;
    };
    return media.crashImage(pending, fateOf, this.random);
  }

  /** For the world: what an fd of the helper is. */
  deviceOf({ fd }: OpenDrive): SimDevice {
    const opened = this.machine?.fds.get(fd);
    assert(opened !== undefined, `fd ${fd} is open`);
    return opened.device;
  }

  isOpen({ device }: Disk): boolean {
    if (device === null) return false;
    return [...(this.machine?.fds.values() ?? [])].some((opened) => opened.device === device);
  }

  /** The disk that the daemon has, or had, as this drive. */
  diskOfDrive(name: string): Disk | null {
    return this.machine?.byDrive.get(name) ?? null;
  }

  // The helper's calls -----------------------------------------------------------------------

  startThread(): HelperThread {
    const { machine } = this;
    assert(machine !== null, "a process runs");
    let listener: (reply: HelperReply) => void = () => {};
    return {
      post: ({ id, call }: HelperEnvelope) => {
        this.carryOut(machine, call, (result) => listener({ id, result }));
      },
      onReply: (to) => {
        listener = to;
      },
      onEnd: () => {},
      terminate: () => {},
    };
  }

  private carryOut(machine: Machine, call: HelperCall, answer: (result: HelperResult) => void) {
    const { simulation } = machine.world;
    const disk = this.diskOf(machine, call);
    const run = (): void => {
      if (this.machine !== machine) return;
      if (call.kind === "punch-hole") this.punch(machine, call, answer);
      else answer(this.result(machine, call));
    };
    const manner = disk?.manner ?? "prompt";
    const isTouched = call.kind !== "close" && call.kind !== "list-folder";
    if (manner === "hangs" && isTouched) {
      this.held.push({ disk: disk!, run: () => simulation.scheduleAfter(0, run) });
      return;
    }
    const slowMs = manner === "slow" && call.kind === "open" ? SLOW_OPEN_MS : 0;
    simulation.scheduleAfter(CALL_MS * (1 + nextFraction(this.random)) + slowMs, run);
  }

  private diskOf({ fds }: Machine, call: HelperCall): Disk | null {
    switch (call.kind) {
      case "identify":
      case "look":
      case "reservation":
        return this.at(call.path);
      case "open":
        return this.at(call.open.path);
      case "punch-hole":
      case "content":
      case "room":
      case "allocate":
        return fds.get(call.fd)?.disk ?? null;
      default:
        return null;
    }
  }

  private result(machine: Machine, call: HelperCall): HelperResult {
    switch (call.kind) {
      case "connect-nbd":
      case "disconnect-nbd":
        return err(NO_DRIVER);
      case "identify": {
        const disk = this.at(call.path);
        if (disk === null) return err(noSuchDrive(call.path));
        return ok({ identities: [identityOf(disk)] });
      }
      case "open":
        return this.open(machine, call);
      case "close":
        for (const fd of call.fds) machine.fds.delete(fd);
        return ok(null);
      case "allocate": {
        const disk = machine.fds.get(call.fd)?.disk;
        if (disk === undefined || disk.fileSystem === null) {
          return err({ kind: "unsupported", code: "allocate-failed", detail: "it is no file" });
        }
        disk.isAllocated ||= !disk.fileSystem.isFull;
        if (disk.isAllocated) return ok(null);
        return err({ kind: "io", code: "no-space", detail: `${disk.path}: it is full` });
      }
      case "list-folder":
        if (!this.fileSystems.some(({ folder }) => folder === call.folder)) {
          const detail = "the folder cannot be read: ENOENT";
          return err({ kind: "not-found", code: "no-such-folder", detail });
        }
        return ok(
          [...this.disks.values()]
            .filter(
              (disk) => disk.fileSystem?.folder === call.folder && this.at(disk.path) === disk,
            )
            .map(({ path }) => path),
        );
      case "list-block-devices":
        return ok(
          [...this.disks.values()]
            .filter((disk) => disk.isPlugged && disk.fileSystem === null)
            .map((disk) => {
              const { sizeBytes } = disk.device ?? disk.content;
              const identity = identityOf(disk);
              const claim = call.inUse.includes(identity) ? "open in parityd" : null;
              return { path: disk.path, identity, sizeBytes, claim };
            }),
        );
      case "look": {
        const disk = this.at(call.path);
        if (disk === null || call.inUse.includes(identityOf(disk))) return ok(null);
        const member = this.memberOn(disk);
        const { sizeBytes } = disk.device ?? disk.content;
        const device = { ...identity(disk), path: call.path, sizeBytes, member, unusable: null };
        return ok({ identity: identityOf(disk), device });
      }
      case "content":
        return ok(machine.fds.get(call.fd)?.disk.holds ?? null);
      case "room":
        return ok(null);
      case "disk-trouble":
        return ok(null);
      case "reservation":
        return ok(this.at(call.path)?.isFenced === true ? "key 0xb2" : null);
      case "punch-hole":
        throw new Error("answered by the disk");
    }
  }

  private open(machine: Machine, call: HelperCall & { kind: "open" }): HelperResult<"open"> {
    const { path, name, direct, readOnly } = call.open;
    const disk = this.at(path);
    if (disk === null) return err(noSuchDrive(path));
    if (!call.identities.includes(identityOf(disk))) {
      const detail = `${path} leads elsewhere since a moment ago: try again`;
      return err({ kind: "busy", code: "path-changed", detail });
    }
    if (disk.manner === "EIO") {
      return err({ kind: "invalid", code: "cannot-open", detail: `${path}: EIO` });
    }
    if (disk.manner === "in-use") {
      return err({
        kind: "busy",
        code: "drive-in-use",
        detail: `${path} is in use: it is mounted`,
      });
    }
    const device = this.deviceFor(machine, disk);
    const isOpen = [...machine.fds.values()].some((opened) => opened.device === device);
    assert(!isOpen, `${disk.id} is opened once`);
    const fd = this.nextFd;
    this.nextFd += 1;
    machine.fds.set(fd, { disk, device });
    machine.byDrive.set(name, disk);
    const isFile = disk.fileSystem !== null;
    const drive: OpenDrive = {
      ...{ name, path, fd, sizeBytes: device.sizeBytes, isReadOnly: readOnly, isDirect: direct },
      logicalBlockBytes: device.logicalBlockBytes,
      isRotational: false,
      hasVolatileCache: device.hasCache,
      readsZeros: false,
      canPunchHoles: isFile,
      ...(isFile ? { allocatedBytes: disk.isAllocated ? device.sizeBytes : 0 } : {}),
      signature: disk.holds,
      deviceUuid: this.memberOn(disk)?.deviceUuid ?? null,
      identity: identity(disk),
      disks: [disk.spindle],
    };
    return ok({ drive, lockFds: [] });
  }

  private deviceFor({ world }: Machine, disk: Disk): SimDevice {
    if (disk.device !== null) return disk.device;
    // A world knows devices by name, and one that was pulled is another one when it comes back.
    let name = disk.id;
    while (world.devices.has(name)) name += "'";
    const content = disk.content instanceof Media ? disk.content : { ...disk.content, name };
    const device = world.plug(content, { name });
    device.refusalOf = (op, offset, bytes) => {
      if (disk.isFenced) return EBADE;
      const isWrite = op === Op.write || op === Op.writeZeroes;
      const lacksRoom = isWrite && disk.fileSystem?.isFull === true && !disk.isAllocated;
      return lacksRoom && !device.isStored(offset, bytes) ? ENOSPC : 0;
    };
    disk.device = device;
    return device;
  }

  private punch(
    { fds }: Machine,
    call: HelperCall & { kind: "punch-hole" },
    answer: (result: Result<null, CommandError>) => void,
  ): void {
    const device = fds.get(call.fd)?.device;
    if (device === undefined) {
      answer(err({ kind: "io", code: "punch-hole-failed", detail: "the drive is gone" }));
      return;
    }
    device.punch(call.offset, call.bytes, (result) => {
      if (result === call.bytes) answer(ok(null));
      else answer(err({ kind: "io", code: "punch-hole-failed", detail: `errno ${-result}` }));
    });
  }
}

/** What statx would say: the device number stays as long as the disk is plugged in. */
function identityOf({ node, fileSystem }: Disk): string {
  return fileSystem === null ? `block:8:${node}` : `file:1:0:${node}`;
}

function identity({ byId, number, fileSystem }: Disk): DriveIdentity {
  if (fileSystem !== null || byId === null) return NO_IDENTITY;
  return { byId, wwn: `naa.${number}`, serial: `S${number}`, model: "SIM" };
}

function noSuchDrive(path: string): CommandError {
  return { kind: "invalid", code: "no-such-drive", detail: `${path}: ENOENT` };
}
