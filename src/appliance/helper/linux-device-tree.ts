/**
 * The block devices of a host, and what each is whatever its name is today, from /sys and /dev.
 *
 * | attribute            | of                    | example                                 |
 * |----------------------|-----------------------|-----------------------------------------|
 * | wwid                 | NVMe namespace        | "eui.0025385b71b0a4c2"                  |
 * | device/wwid          | SCSI and SATA disk    | "naa.5000c500a1b2c3d4", "t10.ATA   ..." |
 * | device/vpd_pg80      | SCSI and SATA disk    | 4 bytes of header, then the serial      |
 * | device/serial, model | NVMe, MMC, SCSI model | padded with spaces                      |
 * | serial               | virtio disk           | as the host chose it                    |
 * | dm/uuid              | mapped device         | "LVM-...", "mpath-36001405..."          |
 *
 * Links of /dev/disk/by-id are read, not followed: udev made them and may be gone. A link counts
 * where its "-part1" fits the device, and where the number in it does not contradict the kernel's.
 * Of a partition, wwn and serial carry "-part1" too: a disk's own would stand for each of them.
 */
import { basename, dirname, join } from "node:path";
import type { DriveIdentity } from "../../array/protocol.ts";
import { SECTOR_BYTES } from "../../base/units.ts";
import { linkTarget, listFolder, readBytes, readText, realPath } from "../host/linux-text.ts";
import { readMounts } from "./linux-mounts.ts";

export interface HostRoots {
  readonly sys: string;
  readonly dev: string;
  readonly proc: string;
}

export const HOST_ROOTS: HostRoots = { sys: "/sys", dev: "/dev", proc: "/proc" };

export const NO_IDENTITY: DriveIdentity = { byId: null, wwn: null, serial: null, model: null };

/** Kinds of links, the most lasting first: what the drive says, then what its maker calls it. */
const LINK_KINDS = [
  /^nvme-(?:eui|nguid|uuid)\./,
  /^wwn-/,
  /^dm-uuid-/,
  /^md-uuid-/,
  /^nvme-/,
  /^(?:ata|scsi|virtio|mmc|usb|ieee1394|memstick)-/,
  /^lvm-pv-uuid-/,
  /./,
];

/** Devices that hold nothing for long, or no one's disks. */
const PASSING = /^(?:ram|zram|sr|fd|mtdblock)\d/;

/** Devices made of devices: more layers than any host has. */
const LAYERS_MAX = 8;

export interface BlockDevice {
  readonly deviceNumber: string;
  readonly path: string;
  readonly sizeBytes: number;
  /** What it is in use for ("mounted at /srv"); null: nobody has it. */
  readonly claim: string | null;
}

const OPEN_HERE = "open in parityd";

export class DeviceTree {
  private readonly roots: HostRoots;

  constructor(roots: HostRoots = HOST_ROOTS) {
    this.roots = roots;
  }

  identityOf(deviceNumber: string): DriveIdentity {
    const folder = this.folderOf(deviceNumber);
    if (folder === null) return NO_IDENTITY;
    const part = readText(join(folder, "partition"));
    const disk = part === null ? folder : dirname(folder);
    const suffix = part === null ? "" : `-part${part}`;
    const read = (attribute: string) => readText(join(disk, attribute)) || null;
    const wwn = read("wwid") ?? read("device/wwid");
    const serial =
      serialOfPage(readBytes(join(disk, "device/vpd_pg80"))) ??
      read("device/serial") ??
      read("serial") ??
      read("dm/uuid");
    return {
      byId: this.linkTo({ kernelName: basename(folder), suffix, wwn }),
      wwn: wwn === null ? null : `${wwn}${suffix}`,
      serial: serial === null ? null : `${serial}${suffix}`,
      model: read("device/model") ?? read("device/name"),
    };
  }

  /**
   * The disks under a device, by their names in the kernel: of a partition its disk, of a mapped or
   * md device those that it is made of. A loop device stands for itself: its file is asked about
   * by who knows it. What is no block device of its own (tmpfs, btrfs, NFS) is on the disks of its
   * mount's source where that is a device, else stands for itself by its number.
   */
  disksUnder(deviceNumber: string): string[] {
    const folder = this.folderOf(deviceNumber);
    if (folder !== null) return this.disksOfFolder(folder, 0);
    const mount = readMounts(this.roots.proc).find((one) => one.deviceNumber === deviceNumber);
    const source = mount?.source.startsWith("/dev/") === true ? mount.source.slice(5) : null;
    const device = source === null ? null : realPath(join(this.roots.dev, source));
    const of = device === null ? null : this.classFolderOf(basename(device));
    return of === null ? [deviceNumber] : this.disksOfFolder(of, 0);
  }

  private disksOfFolder(folder: string, depth: number): string[] {
    const isPart = readText(join(folder, "partition")) !== null;
    const disk = isPart ? dirname(folder) : folder;
    const slaves = depth < LAYERS_MAX ? listFolder(join(disk, "slaves")) : [];
    if (slaves.length === 0) return [basename(disk)];
    const below = slaves.flatMap((slave) => {
      const of = this.classFolderOf(slave);
      return of === null ? [slave] : this.disksOfFolder(of, depth + 1);
    });
    return [...new Set(below)];
  }

  private classFolderOf(name: string): string | null {
    return realPath(join(this.roots.sys, "class/block", name));
  }

  /**
   * All devices that could hold a member, each with what it is claimed for: mounted, swapped to,
   * part of another, or in `inUse` (device numbers). A disk cannot be had while one of its
   * partitions is, nor a partition of a disk that is. Nothing is opened.
   */
  devices(inUse: ReadonlySet<string>): BlockDevice[] {
    const uses = this.usesByNumber(inUse);
    const names = listFolder(join(this.roots.sys, "class/block"));
    const claims = new Map<string, string>();
    const partsInUse = new Map<string, string>();
    for (const name of names) {
      const claim = this.claimOf(name, uses);
      if (claim === null) continue;
      claims.set(name, claim);
      const disk = this.diskOf(name);
      if (disk !== name) partsInUse.set(disk, name);
    }
    return names.flatMap((name) => {
      if (PASSING.test(name)) return [];
      const deviceNumber = this.attribute(name, "dev");
      const sizeBytes = Number(this.attribute(name, "size") ?? 0) * SECTOR_BYTES;
      if (deviceNumber === null || !(sizeBytes > 0)) return [];
      const path = join(this.roots.dev, name.replaceAll("!", "/"));
      const part = partsInUse.get(name);
      const disk = this.diskOf(name);
      const ofOthers =
        part !== undefined
          ? `its partition ${part} is in use: ${claims.get(part)}`
          : disk !== name && claims.has(disk)
            ? `its disk ${disk} is in use: ${claims.get(disk)}`
            : null;
      return [{ deviceNumber, path, sizeBytes, claim: claims.get(name) ?? ofOthers }];
    });
  }

  /** Why nobody may open it, or null. */
  private claimOf(name: string, uses: ReadonlyMap<string, string>): string | null {
    const holders = listFolder(join(this.roots.sys, "class/block", name, "holders"));
    if (holders.length > 0) return `part of ${holders.join(", ")}`;
    return uses.get(this.attribute(name, "dev") ?? "") ?? null;
  }

  /**
   * What the kernel says of a disk ("sda") where it is not at ease with it: it is gone, its device is
   * blocked or offline, its controller is in error handling or resets. Null: nothing of that.
   */
  troubleOf(disk: string): string | null {
    const folder = this.classFolderOf(disk);
    if (folder === null) return "it is gone";
    const state = readText(join(folder, "device/state")) ?? "running";
    if (state !== "running" && state !== "live") return `the kernel says that it is ${state}`;
    const host = /\/(host\d+)\//.exec(folder)?.[1];
    if (host === undefined) return null;
    const hostState = readText(join(this.roots.sys, "class/scsi_host", host, "state"));
    return hostState === null || hostState === "running"
      ? null
      : `its controller ${host} is in ${hostState}`;
  }

  /** The disk that a partition is part of; a disk itself. */
  private diskOf(name: string): string {
    if (this.attribute(name, "partition") === null) return name;
    const folder = realPath(join(this.roots.sys, "class/block", name));
    return folder === null ? name : basename(dirname(folder));
  }

  /** By device number: what is open here, mounted or swapped to; all devices of a btrfs. */
  private usesByNumber(inUse: ReadonlySet<string>): Map<string, string> {
    const { sys, dev, proc } = this.roots;
    const uses = new Map<string, string>();
    const numberAt = (path: string): string => {
      const isDevice = path.startsWith("/dev/");
      const name = isDevice ? basename(realPath(join(dev, path.slice(5))) ?? path) : "";
      return (isDevice && this.attribute(name, "dev")) || "";
    };
    const btrfs = join(sys, "fs/btrfs");
    for (const id of listFolder(btrfs)) {
      for (const name of listFolder(join(btrfs, id, "devices"))) {
        uses.set(this.attribute(name, "dev") ?? "", "of a btrfs file system that is mounted");
      }
    }
    for (const line of (readText(join(proc, "swaps")) ?? "").split("\n")) {
      uses.set(numberAt(line.split(" ")[0]!), "swapped to");
    }
    for (const { deviceNumber, source, place } of readMounts(proc)) {
      for (const number of [deviceNumber, numberAt(source)])
        uses.set(number, `mounted at ${place}`);
    }
    for (const number of inUse) uses.set(number, OPEN_HERE);
    uses.delete("");
    return uses;
  }

  private attribute(name: string, attribute: string): string | null {
    return readText(join(this.roots.sys, "class/block", name, attribute));
  }

  private folderOf(deviceNumber: string): string | null {
    return realPath(join(this.roots.sys, "dev/block", deviceNumber));
  }

  private linkTo(options: {
    kernelName: string;
    suffix: string;
    wwn: string | null;
  }): string | null {
    const { kernelName, suffix, wwn } = options;
    const folder = join(this.roots.dev, "disk/by-id");
    const links = listFolder(folder).filter((link) => {
      if (basename(linkTarget(join(folder, link)) ?? "") !== kernelName) return false;
      return (/-part\d+$/.exec(link)?.[0] ?? "") === suffix && agrees(link, wwn);
    });
    for (const kind of LINK_KINDS) {
      const link = links.find((candidate) => kind.test(candidate));
      if (link !== undefined) return join(folder, link);
    }
    return null;
  }
}

/** Whether a link that carries a number carries this device's: another may have had its name. */
function agrees(link: string, wwn: string | null): boolean {
  const [kind, number] = wwn?.split(".") ?? [];
  if (kind === "naa" && link.startsWith("wwn-0x")) return link.slice(6).startsWith(number!);
  if (kind === "eui" && link.startsWith("nvme-eui.")) return link.slice(9).startsWith(number!);
  return true;
}

/** The unit serial number page: byte 1 is 0x80, bytes 2 and 3 the length, big endian. */
function serialOfPage(page: Uint8Array | null): string | null {
  if (page === null || page.length < 4 || page[1] !== 0x80) return null;
  const bytes = page.subarray(4, 4 + page[2]! * 256 + page[3]!);
  return new TextDecoder("latin1").decode(bytes).replaceAll("\0", "").trim() || null;
}
