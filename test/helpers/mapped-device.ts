/**
 * Device-mapper devices of the kernel lab's guest: members whose table a test changes under them.
 *
 * A table is a list of lines without their first sector: `{ sectors, target }`. There is no udev
 * in the guest, so nodes are made by hand.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { SECTOR_BYTES } from "../../src/base/units.ts";
import { mustRun } from "./daemon.ts";
import { toolPath } from "./needs.ts";

/** A part of a device: so many sectors, and what stands for them ("error", "linear /dev/x 0"). */
export interface TablePart {
  readonly sectors: number;
  readonly target: string;
}

export class MappedDevice {
  readonly name: string;
  readonly path: string;
  /** The device under it. */
  readonly under: string;
  readonly sectors: number;

  private constructor(name: string, under: string, sectors: number) {
    this.name = name;
    this.path = `/dev/mapper/${name}`;
    this.under = under;
    this.sectors = sectors;
  }

  /** Over the whole of `under`, passing everything through unless `target` says more. */
  static async create(name: string, under: string, target?: string): Promise<MappedDevice> {
    const sectors = Number((await mustRun([toolPath("blockdev")!, "--getsz", under])).trim());
    const device = new MappedDevice(name, under, sectors);
    const table = device.table(target ?? device.linear());
    await dmsetup("create", name, "--table", table);
    await dmsetup("mknodes");
    return device;
  }

  linear(startSector = 0): string {
    return `linear ${this.under} ${startSector}`;
  }

  /** Exchanges the table under the feet of whoever has the device open, in mid-flight. */
  async swap(target: string | readonly TablePart[]): Promise<void> {
    await this.load(target);
    await dmsetup("suspend", "--noflush", "--nolockfs", this.name);
    await dmsetup("resume", this.name);
  }

  /** Makes the next table ready; `resume` puts it in place. */
  async load(target: string | readonly TablePart[]): Promise<void> {
    await dmsetup("load", this.name, "--table", this.table(target));
  }

  /** From now on nothing completes any more. */
  async suspend(): Promise<void> {
    await dmsetup("suspend", "--noflush", "--nolockfs", this.name);
  }

  async message(...words: readonly string[]): Promise<string> {
    return (await dmsetup("message", this.name, "0", ...words)).trim();
  }

  /** The first byte of the array's data on this member, as its superblock says. */
  dataOffsetBytes(): number {
    const bytes = new Uint8Array(4096);
    const file = openSync(this.path, "r");
    readSync(file, bytes, 0, bytes.length, 4096);
    closeSync(file);
    return Number(new DataView(bytes.buffer).getBigUint64(128, true)) * SECTOR_BYTES;
  }

  private table(target: string | readonly TablePart[]): string {
    if (typeof target === "string") return `0 ${this.sectors} ${target}`;
    let start = 0;
    const lines = target.map((part) => {
      const line = `${start} ${part.sectors} ${part.target}`;
      start += part.sectors;
      return line;
    });
    return lines.join("\n");
  }
}

/** Runs dmsetup, which must succeed; answers with what it says. */
export async function dmsetup(...words: readonly string[]): Promise<string> {
  return mustRun([toolPath("dmsetup")!, ...words]);
}
