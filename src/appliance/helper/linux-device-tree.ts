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
}

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

  /** All devices that nobody has claimed: mounted, swapped to, part of another, or in `inUse`. */
  unclaimed(inUse: ReadonlySet<string>): BlockDevice[] {
    const taken = new Set([...inUse, ...this.mountedNumbers()]);
    const names = listFolder(join(this.roots.sys, "class/block"));
    const claimed = new Set(names.filter((name) => this.isClaimed(name, taken)));
    // A disk cannot be had while one of its partitions is, nor a partition of a disk that is.
    const disksInUse = new Set([...claimed].map((name) => this.diskOf(name)));
    return names.flatMap((name) => {
      const disk = this.diskOf(name);
      const isFree = disk === name ? !disksInUse.has(name) : !claimed.has(disk);
      if (!isFree || claimed.has(name) || PASSING.test(name)) return [];
      const deviceNumber = this.attribute(name, "dev");
      const sizeBytes = Number(this.attribute(name, "size") ?? 0) * SECTOR_BYTES;
      if (deviceNumber === null || !(sizeBytes > 0)) return [];
      return [{ deviceNumber, path: join(this.roots.dev, name.replaceAll("!", "/")), sizeBytes }];
    });
  }

  private isClaimed(name: string, taken: ReadonlySet<string>): boolean {
    const folder = join(this.roots.sys, "class/block", name);
    if (listFolder(join(folder, "holders")).length > 0) return true;
    return taken.has(this.attribute(name, "dev") ?? "");
  }

  /** The disk that a partition is part of; a disk itself. */
  private diskOf(name: string): string {
    if (this.attribute(name, "partition") === null) return name;
    const folder = realPath(join(this.roots.sys, "class/block", name));
    return folder === null ? name : basename(dirname(folder));
  }

  /** Numbers of what is mounted or swapped to, and of all devices of a btrfs file system. */
  private mountedNumbers(): string[] {
    const { sys, dev, proc } = this.roots;
    const mounts = readMounts(proc);
    const swaps = (readText(join(proc, "swaps")) ?? "")
      .split("\n")
      .map((line) => line.split(" ")[0]!);
    const paths = [...mounts.map(({ source }) => source), ...swaps];
    const sources = paths.filter((path) => path.startsWith("/dev/"));
    const names = sources.map((path) => basename(realPath(join(dev, path.slice(5))) ?? path));
    const btrfs = join(sys, "fs/btrfs");
    for (const id of listFolder(btrfs)) names.push(...listFolder(join(btrfs, id, "devices")));
    const numbers = names.map((name) => this.attribute(name, "dev") ?? "");
    return [...mounts.map(({ deviceNumber }) => deviceNumber), ...numbers];
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
