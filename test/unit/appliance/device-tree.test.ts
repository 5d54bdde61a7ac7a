/**
 * Goal: a drive is known again whatever its name is today, and what somebody has is left alone.
 * Method: trees of /sys, /dev and /proc as real hosts have them, made of files in a folder; then
 * this host's own, where it has any.
 */
import { expect, test } from "bun:test";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import {
  DeviceTree,
  type HostRoots,
  NO_IDENTITY,
} from "../../../src/appliance/helper/linux-device-tree.ts";
import { isRemote, mountOf, readMounts } from "../../../src/appliance/helper/linux-mounts.ts";
import { makeTempDir } from "../../helpers/temp.ts";

interface FakeDevice {
  /** Below /sys/devices: "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda". */
  readonly place: string;
  readonly dev: string;
  /** Bytes where the attribute is none of text. */
  readonly attributes?: Readonly<Record<string, string | Uint8Array>>;
  readonly sectors?: number;
  readonly holders?: readonly string[];
  /** Kernel names of the devices that it is made of. */
  readonly slaves?: readonly string[];
}

const nameOf = ({ place }: FakeDevice) => place.split("/").at(-1)!;

function write(path: string, content: string | Uint8Array): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
}

function link(path: string, target: string): void {
  mkdirSync(dirname(path), { recursive: true });
  symlinkSync(relative(dirname(path), target), path);
}

function makeHost(options: {
  devices: readonly FakeDevice[];
  /** Link names of /dev/disk/by-id, and the kernel names that they lead to. */
  links?: readonly (readonly [string, string])[];
  mounts?: string;
  swaps?: string;
}): { tree: DeviceTree; roots: HostRoots } {
  const top = makeTempDir("host");
  const roots = { sys: join(top, "sys"), dev: join(top, "dev"), proc: join(top, "proc") };
  for (const device of options.devices) {
    const folder = join(roots.sys, "devices", device.place);
    const name = nameOf(device);
    write(join(folder, "dev"), `${device.dev}\n`);
    write(join(folder, "size"), `${device.sectors ?? 7_814_037_168}\n`);
    mkdirSync(join(folder, "holders"), { recursive: true });
    for (const holder of device.holders ?? []) write(join(folder, "holders", holder), "");
    for (const slave of device.slaves ?? []) write(join(folder, "slaves", slave), "");
    for (const [attribute, value] of Object.entries(device.attributes ?? {})) {
      write(join(folder, attribute), value);
    }
    link(join(roots.sys, "class/block", name), folder);
    link(join(roots.sys, "dev/block", device.dev), folder);
    write(join(roots.dev, name.replaceAll("!", "/")), "");
  }
  for (const [name, target] of options.links ?? []) {
    link(join(roots.dev, "disk/by-id", name), join(roots.dev, target));
  }
  write(join(roots.proc, "self/mountinfo"), options.mounts ?? "");
  write(join(roots.proc, "swaps"), options.swaps ?? "Filename\tType\tSize\tUsed\tPriority\n");
  return { tree: new DeviceTree(roots), roots };
}

/** The unit serial number page as a disk gives it. */
const serialPage = (serial: string) =>
  new Uint8Array([0, 0x80, 0, serial.length, ...new TextEncoder().encode(serial)]);

const SATA: FakeDevice = {
  place: "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0/block/sda",
  dev: "8:0",
  attributes: {
    "device/wwid": "naa.50014ee2b5d6f7a8\n",
    "device/vpd_pg80": serialPage("     WD-WX12D80ABCDE"),
    "device/model": "WDC WD40EFZX-68A\n",
    "device/vendor": "ATA     \n",
  },
};
const SATA_PART: FakeDevice = {
  place: `${SATA.place}/sda1`,
  dev: "8:1",
  attributes: { partition: "1\n" },
};
const SATA_LINKS = [
  ["ata-WDC_WD40EFZX-68AWUN0_WD-WX12D80ABCDE", "sda"],
  ["ata-WDC_WD40EFZX-68AWUN0_WD-WX12D80ABCDE-part1", "sda1"],
  ["wwn-0x50014ee2b5d6f7a8", "sda"],
  ["wwn-0x50014ee2b5d6f7a8-part1", "sda1"],
] as const;
const NVME: FakeDevice = {
  place: "virtual/nvme-subsystem/nvme-subsys0/nvme0n1",
  dev: "259:0",
  attributes: {
    wwid: "eui.0025385b71b0a4c2\n",
    "device/serial": "S4EWNX0R123456      \n",
    "device/model": "Samsung SSD 970 EVO Plus 1TB            \n",
  },
};
const NVME_LINKS = [
  ["nvme-Samsung_SSD_970_EVO_Plus_1TB_S4EWNX0R123456", "nvme0n1"],
  ["nvme-eui.0025385b71b0a4c2", "nvme0n1"],
] as const;
const VIRTIO: FakeDevice = {
  place: "pci0000:00/0000:00:05.0/virtio2/block/vda",
  dev: "254:0",
  attributes: { serial: "disk-7f3a\n" },
};
const MAPPED: FakeDevice = {
  place: "virtual/block/dm-3",
  dev: "253:3",
  attributes: { "dm/uuid": "LVM-8cHqVd1xY2\n", "dm/name": "vg-data\n" },
};
const LOOP: FakeDevice = {
  place: "virtual/block/loop0",
  dev: "7:0",
  attributes: { "loop/backing_file": "/srv/disk.img\n" },
};

const byId = (roots: HostRoots, name: string) => join(roots.dev, "disk/by-id", name);

test("identity: a SATA disk: its WWN link first, the serial from its own page", () => {
  const { tree, roots } = makeHost({ devices: [SATA, SATA_PART], links: SATA_LINKS });
  expect(tree.identityOf("8:0")).toEqual({
    byId: byId(roots, "wwn-0x50014ee2b5d6f7a8"),
    wwn: "naa.50014ee2b5d6f7a8",
    serial: "WD-WX12D80ABCDE",
    model: "WDC WD40EFZX-68A",
  });
});

test("identity: a partition: the disk's, each with the number of the partition", () => {
  const { tree, roots } = makeHost({ devices: [SATA, SATA_PART], links: SATA_LINKS });
  expect(tree.identityOf("8:1")).toEqual({
    byId: byId(roots, "wwn-0x50014ee2b5d6f7a8-part1"),
    wwn: "naa.50014ee2b5d6f7a8-part1",
    serial: "WD-WX12D80ABCDE-part1",
    model: "WDC WD40EFZX-68A",
  });
});

test("identity: NVMe, and a partition of it", () => {
  const part = { place: `${NVME.place}/nvme0n1p2`, dev: "259:2", attributes: { partition: "2" } };
  const links = [...NVME_LINKS, ["nvme-eui.0025385b71b0a4c2-part2", "nvme0n1p2"]] as const;
  const { tree, roots } = makeHost({ devices: [NVME, part], links });
  expect(tree.identityOf("259:0")).toEqual({
    byId: byId(roots, "nvme-eui.0025385b71b0a4c2"),
    wwn: "eui.0025385b71b0a4c2",
    serial: "S4EWNX0R123456",
    model: "Samsung SSD 970 EVO Plus 1TB",
  });
  expect(tree.identityOf("259:2")).toMatchObject({
    byId: byId(roots, "nvme-eui.0025385b71b0a4c2-part2"),
    wwn: "eui.0025385b71b0a4c2-part2",
  });
});

test("disks: of a partition, of devices made of devices, of file systems", () => {
  const slaves = ["sda1", "nvme0n1"];
  const md = { place: "virtual/block/md0", dev: "9:0", slaves };
  const onMd = { place: "virtual/block/dm-0", dev: "253:0", slaves: ["md0", "gone"] };
  const round = { place: "virtual/block/dm-9", dev: "253:9", slaves: ["dm-9"] };
  const { tree, roots } = makeHost({
    devices: [SATA, SATA_PART, NVME, VIRTIO, LOOP, md, onMd, round],
    mounts: [
      "23 22 0:42 / /srv rw - btrfs /dev/sda1 rw",
      "24 22 0:43 / /tmp rw - tmpfs tmpfs rw",
      "25 22 0:44 / /mnt rw - nfs4 server:/export rw",
      "26 22 0:45 / /vol rw - btrfs /dev/mapper/vol rw",
      "27 22 0:46 / /old rw - btrfs /dev/unplugged rw",
    ].join("\n"),
  });
  link(join(roots.dev, "mapper/vol"), join(roots.dev, "dm-0"));
  for (const [deviceNumber, disks] of [
    ["8:0", ["sda"]],
    ["8:1", ["sda"]],
    ["259:0", ["nvme0n1"]],
    ["254:0", ["vda"]],
    ["7:0", ["loop0"]],
    ["9:0", ["nvme0n1", "sda"]],
    ["253:0", ["gone", "nvme0n1", "sda"]],
    ["253:9", ["dm-9"]],
    ["0:42", ["sda"]],
    ["0:45", ["gone", "nvme0n1", "sda"]],
    ["0:43", ["0:43"]],
    ["0:44", ["0:44"]],
    ["0:46", ["0:46"]],
    ["0:99", ["0:99"]],
  ] as const) {
    expect([deviceNumber, tree.disksUnder(deviceNumber).sort()]).toEqual([
      deviceNumber,
      [...disks],
    ]);
  }
});

test("identity: virtio, mapped, loop: what each has", () => {
  const links = [
    ["virtio-disk-7f3a", "vda"],
    ["dm-name-vg-data", "dm-3"],
    ["dm-uuid-LVM-8cHqVd1xY2", "dm-3"],
  ] as const;
  const { tree, roots } = makeHost({ devices: [VIRTIO, MAPPED, LOOP], links });
  const virtio = { byId: byId(roots, "virtio-disk-7f3a"), serial: "disk-7f3a" };
  expect(tree.identityOf("254:0")).toEqual({ ...NO_IDENTITY, ...virtio });
  const mapped = { byId: byId(roots, "dm-uuid-LVM-8cHqVd1xY2"), serial: "LVM-8cHqVd1xY2" };
  expect(tree.identityOf("253:3")).toEqual({ ...NO_IDENTITY, ...mapped });
  expect(tree.identityOf("7:0")).toEqual(NO_IDENTITY);
});

test("identity: links that do not fit: left, whatever they promise", () => {
  const wrong = [
    // Left by a disk that had the name before; no udev has been here since.
    ["wwn-0x5000c500deadbeef", "sda"],
    // Of a partition, and of the disk of one.
    ["wwn-0x50014ee2b5d6f7a8-part3", "sda"],
    ["wwn-0x50014ee2b5d6f7a8", "sda1"],
    ["wwn-0x50014ee2b5d6f7a8-part2", "sda1"],
    ["ata-WDC", "sda11"],
  ] as const;
  const { tree } = makeHost({ devices: [SATA, SATA_PART], links: wrong });
  expect(tree.identityOf("8:0").byId).toBe(null);
  expect(tree.identityOf("8:1").byId).toBe(null);
  const usable = makeHost({ devices: [SATA], links: [...wrong, ["ata-WDC_X", "sda"]] });
  expect(usable.tree.identityOf("8:0").byId).toBe(byId(usable.roots, "ata-WDC_X"));
});

test("identity: pages that are none, no /sys, no /dev/disk: nothing is known, and no error", () => {
  for (const page of [
    [],
    [0, 0x80],
    [0, 0x83, 0, 1, 65],
    [0, 0x80, 0, 0],
    [0, 0x80, 0, 3, 32, 0, 32],
  ]) {
    const attributes = { "device/vpd_pg80": new Uint8Array(page) };
    const { tree } = makeHost({ devices: [{ ...SATA, attributes }] });
    expect(tree.identityOf("8:0")).toEqual(NO_IDENTITY);
  }
  const cut = { "device/vpd_pg80": new Uint8Array([0, 0x80, 0xff, 0xff, 65, 66]) };
  const { tree } = makeHost({ devices: [{ ...SATA, attributes: cut }] });
  expect(tree.identityOf("8:0").serial).toBe("AB");
  expect(tree.identityOf("8:77")).toEqual(NO_IDENTITY);
  const nowhere = new DeviceTree({ sys: "/nowhere", dev: "/nowhere", proc: "/nowhere" });
  expect(nowhere.identityOf("8:0")).toEqual(NO_IDENTITY);
  expect(nowhere.devices(new Set())).toEqual([]);
});

const disk = (name: string, dev: string, more: Partial<FakeDevice> = {}): FakeDevice => ({
  place: `virtual/block/${name}`,
  dev,
  ...more,
});
const part = (of: string, number: number, dev: string, more: Partial<FakeDevice> = {}) =>
  disk(`${of}/${of}${number}`, dev, { attributes: { partition: `${number}` }, ...more });

function unclaimedNames(host: Parameters<typeof makeHost>[0], inUse: readonly string[] = []) {
  const { tree, roots } = makeHost(host);
  const free = tree.devices(new Set(inUse)).filter(({ claim }) => claim === null);
  return free.map(({ path }) => relative(roots.dev, path));
}

test("unclaimed: disks and partitions, without what is empty, passing or hidden", () => {
  const devices = [
    disk("sda", "8:0"),
    part("sda", 1, "8:1"),
    disk("sdb", "8:16", { sectors: 0 }),
    disk("zram0", "253:0"),
    disk("ram0", "1:0"),
    disk("sr0", "11:0"),
    disk("cciss!c0d0", "104:0"),
  ];
  expect(unclaimedNames({ devices })).toEqual(["cciss/c0d0", "sda", "sda1"]);
});

test("unclaimed: mounted, swapped to, held, open here: left, with the disk and its partitions", () => {
  const devices = [
    disk("sda", "8:0"),
    part("sda", 1, "8:1"),
    part("sda", 2, "8:2"),
    disk("sdb", "8:16"),
    part("sdb", 1, "8:17"),
    disk("sdc", "8:32", { holders: ["md0"] }),
    part("sdc", 1, "8:33"),
    disk("sdd", "8:48"),
    disk("sde", "8:64"),
    part("sde", 1, "8:65"),
    disk("sdf", "8:80"),
  ];
  const mounts = [
    "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw",
    "23 22 0:42 / /srv rw - btrfs /dev/sdd rw",
  ].join("\n");
  const swaps = "Filename Type Size Used Priority\n/dev/sdb1 partition 1 0 -2\n";
  expect(unclaimedNames({ devices, mounts, swaps }, ["8:64"])).toEqual(["sda2", "sdf"]);
  const { tree } = makeHost({ devices, mounts, swaps });
  const claims = tree.devices(new Set(["8:64"])).map(({ claim }) => claim);
  expect(claims).toEqual([
    "its partition sda1 is in use: mounted at /",
    "mounted at /",
    null,
    "its partition sdb1 is in use: swapped to",
    "swapped to",
    "part of md0",
    "its disk sdc is in use: part of md0",
    "mounted at /srv",
    "open in parityd",
    "its disk sde is in use: open in parityd",
    null,
  ]);
});

test("mounts: the deepest one counts, the last of those at one place; names are read", () => {
  const { roots } = makeHost({
    devices: [],
    mounts: [
      "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
      "2 1 0:50 / /net rw - nfs4 server:/a rw",
      "3 1 0:51 / /net\\040two rw master:1 propagate_from:2 - cifs //server/b rw",
      "4 1 8:2 / /net/local rw - xfs /dev/sda2 rw",
      "5 1 0:52 / /net rw - fuse.sshfs host: rw",
      "broken",
    ].join("\n"),
  });
  const mounts = readMounts(roots.proc);
  const of = (path: string) => mountOf(mounts, path)!;
  expect(of("/net/x")).toMatchObject({ type: "fuse.sshfs", deviceNumber: "0:52" });
  expect(of("/net/local/x").type).toBe("xfs");
  expect(of("/network").type).toBe("ext4");
  expect(of("/net two/x")).toMatchObject({ place: "/net two", source: "//server/b" });
  expect(mounts.map(isRemote)).toEqual([false, true, true, false, true]);
  expect(readMounts("/nowhere")).toEqual([]);
});

test("identity, unclaimed: this host's own tree: nothing throws, paths are whole", () => {
  const tree = new DeviceTree();
  for (const { deviceNumber, path, sizeBytes } of tree.devices(new Set())) {
    expect(path).toStartWith("/dev/");
    expect(sizeBytes).toBeGreaterThan(0);
    const { byId: link } = tree.identityOf(deviceNumber);
    if (link !== null) expect(link).toStartWith("/dev/disk/by-id/");
  }
});

test("trouble: gone, blocked, its controller in recovery, resetting: said; else nothing", () => {
  const states = (state: string) => ({ ...SATA.attributes, "device/state": `${state}\n` });
  const made = (disk: FakeDevice, hostState: string | null) => {
    const { tree, roots } = makeHost({ devices: [disk] });
    if (hostState !== null) write(join(roots.sys, "class/scsi_host/host0/state"), hostState);
    return tree.troubleOf(nameOf(disk));
  };
  const running = { ...SATA, attributes: states("running") };
  expect(made(running, "running\n")).toBeNull();
  expect(made(running, null)).toBeNull();
  expect(made(SATA, "running\n")).toBeNull();
  expect(made(running, "recovery\n")).toBe("its controller host0 is in recovery");
  const blocked = { ...SATA, attributes: states("blocked") };
  expect(made(blocked, "running\n")).toBe("the kernel says that it is blocked");
  const nvme = (state: string) => ({
    ...{ ...NVME, attributes: { ...NVME.attributes, "device/state": state } },
  });
  expect(made(nvme("live\n"), null)).toBeNull();
  expect(made(nvme("resetting\n"), null)).toContain("resetting");
  expect(made(VIRTIO, null)).toBeNull();
  expect(makeHost({ devices: [] }).tree.troubleOf("sda")).toBe("it is gone");
});
