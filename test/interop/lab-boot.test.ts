/**
 * Goal: on a Debian that boots for real, the README's file system is mounted at each boot and comes
 * back behind a restart of the service; a disk that is pulled loses nothing; and the service can do
 * to disks all that parityd does, fenced in exactly as its unit says.
 *
 * Method: a Debian root with the package, booted by the lab's kernel with systemd, udev and the
 * README's lines for nbd-client; its disks are SCSI disks of the kernel's own target over files. One
 * of them is taken out of the kernel under load (`device/delete`). After the second boot another
 * initiator takes their reservation, which only SG_IO tells of. What the unit lets through is asked
 * by a copy of it that runs other commands in its place.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { buildPackage } from "../../src/install/package.ts";
import { LAB_MACHINE_PACKAGES, LabMachine } from "../helpers/booted-lab.ts";
import { binaryPath } from "../helpers/daemon.ts";
import { inChroot, makeDebianRoot, ROOT_NEEDS } from "../helpers/debian-root.ts";
import { needs } from "../helpers/needs.ts";
import { readmeBlock } from "../helpers/readme.ts";
import { makeTempDir } from "../helpers/temp.ts";

const NEEDS = ["lab", ...ROOT_NEEDS] as const;
const PACKAGES = ["curl", "e2fsprogs", "apt", "nbd-client", "sg3-utils", "smartmontools"];
const SESSION = "A session with curl";
const KEY = "0xb2";
/** Four disks over files that outlive a boot, seen by an initiator ("host") named. */
const DISKS = `
target() {
  cd /sys/kernel/config/target; W=naa.600140500000000$1
  mkdir -p loopback/$W/tpgt_1; echo naa.600140511111111$1 >loopback/$W/tpgt_1/nexus
  for n in 0 1 2 3; do
    mkdir -p loopback/$W/tpgt_1/lun/lun_$n
    ln -s /sys/kernel/config/target/core/fileio_$n/d$n loopback/$W/tpgt_1/lun/lun_$n/x
  done
  udevadm settle
}
`;
const MAKE_DISKS = `#!/bin/bash -e
modprobe -a sd_mod sg target_core_mod target_core_file tcm_loop
mkdir -p /var/disks; cd /sys/kernel/config/target
for n in 0 1 2 3; do
  truncate -s 64M /var/disks/$n.img; mkdir -p core/fileio_$n/d$n
  echo "fd_dev_name=/var/disks/$n.img,fd_dev_size=67108864" >core/fileio_$n/d$n/control
  echo 1 >core/fileio_$n/d$n/enable
done
${DISKS}
target a
`;
const DISKS_UNIT = `[Unit]
Before=parityd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/make-disks
[Install]
WantedBy=multi-user.target
`;

/** The unit with other commands in its place: what it keeps out, and what it lets through. */
const IN_UNIT = `
sed -e 's/^Type=.*/Type=oneshot/' -e '/^\\(Restart\\|Watchdog\\|Runtime\\|State\\|Configuration\\)/d' \\
  -e 's,^ExecStart=.*,ExecStart=/bin/bash /opt/asked,' -e '/^\\[Install/,$d' \\
  /lib/systemd/system/parityd.service >/run/systemd/system/asked.service
truncate -s 64M /srv/loop.img; LOOP=$(losetup --find --show /srv/loop.img)
cat >/opt/asked <<END
try() { "\\$@" >/dev/null 2>&1 && echo "yes: \\$1 \\$2" || echo "no: \\$1 \\$2"; }
try blockdev --getsize64 $LOOP
try fallocate --punch-hole --length 1M $LOOP
try fallocate --zero-range --length 1M $LOOP
try blkdiscard --zeroout $LOOP
try sg_persist --in --read-full-status /dev/sda
try smartctl --health /dev/sda
try head -c1 /dev/sg0
try head -c1 /dev/mem
try touch /opt/file
try touch /srv/file
END
mkdir -p /run/parityd; systemctl daemon-reload; systemctl start asked
journalctl -u asked -o cat --no-pager | grep -E '^(yes|no): ' >/out/asked
losetup -d $LOOP
`;

const WAIT = `
api() { curl -sSf --unix-socket /run/parityd/api.sock -H 'Content-Type: application/json' "$@"; }
until_so() { for n in $(seq 300); do eval "$1" && return; sleep 0.2; done; echo "never: $1"; exit 1; }
mounted() { until_so 'mountpoint -q /mnt'; }
sums() { sha256sum /mnt/*.bin; }
`;

const FIRST = `${WAIT}
${readmeBlock(SESSION, "api() {")}
${readmeBlock(SESSION, "for n in 0 1 2")
  .replace(/\$\(losetup .*\)/, "/dev/sd$(echo $n | tr 0123 abcd)")
  .replace(/^nbdinfo.*$/m, "")}
${readmeBlock("A file system on it", "/etc/nbdtab")}
for n in 1 2 3; do head -c 5M /dev/urandom >/mnt/$n.bin; done; sync -f /mnt; sums >/out/written
( while [ ! -e /root/stop ]; do head -c 1M /dev/urandom >/mnt/load; sync -f /mnt; done ) & LOAD=$!
echo 1 >/sys/block/sdc/device/delete
until_so 'api $U/v1/arrays/raid_test | grep -q "\\"degraded\\":1"'
sums >/out/degraded
api $U/v1/drives -d '{"name":"drive3","path":"/dev/sdd"}'; api -X PUT $U/v1/spares/drive3 -d '{}'
until_so 'api $U/v1/arrays/raid_test | grep -q "\\"degraded\\":0"'
touch /root/stop; wait $LOAD; sums >/out/rebuilt
systemctl restart parityd; until_so 'mountpoint -q /mnt && touch /mnt/again && sync -f /mnt'; sums >/out/restarted
api -H "Accept: application/json" $U/v1/events >/out/events
${IN_UNIT}
`;

const SECOND = `${WAIT}
U=http://parityd; mounted; sums >/out/booted; touch /mnt/written
api $U/v1/arrays/raid_test >/out/array
until_so 'api $U/v1/drives/drive0 | grep -q "\\"health\\":\\"passed\\""'
journalctl -b -u parityd -o cat --no-pager >/out/log
${DISKS} target b; cd /
for disk in /dev/sd[efgh]; do
  until_so "sg_persist -n -o -G -S ${KEY} $disk; sg_persist -n -i -k $disk | grep -q ${KEY}"
  until_so "sg_persist -n -o -R -K ${KEY} -T 5 $disk; sg_persist -n -i -r $disk | grep -q ${KEY}"
done >/dev/null 2>&1
( echo x >/mnt/y; sync -f /mnt ) || true
until_so 'api $U/v1/arrays/raid_test | grep -q "key ${KEY}"'
api $U/v1/arrays/raid_test >/out/fenced
`;

describe.skipIf(!needs(...NEEDS))("a Debian that boots", () => {
  const IN_LAB = `[needs ${NEEDS.join(", ")}]`;
  const folder = makeTempDir("lab-boot");
  const root = join(folder, "root");
  let machine: LabMachine;

  beforeAll(async () => {
    // The kernel of the lab is one of amd64.
    const made = { executable: binaryPath(), architecture: "amd64", version: "98.7" } as const;
    const path = buildPackage({ ...made, folder });
    await makeDebianRoot(root, [...LAB_MACHINE_PACKAGES, ...PACKAGES]);
    copyFileSync(path, join(root, "root/parityd.deb"));
    writeFileSync(join(root, "usr/local/sbin/make-disks"), MAKE_DISKS, { mode: 0o755 });
    writeFileSync(join(root, "etc/systemd/system/make-disks.service"), DISKS_UNIT);
    for (const words of [
      ["dpkg", "--install", "/root/parityd.deb"],
      ["systemctl", "enable", "make-disks"],
      ["systemctl", "disable", "smartmontools"],
    ]) {
      expect([words, (await inChroot(root, ...words)).exitCode]).toEqual([words, 0]);
    }
    machine = await LabMachine.of(root, folder);
  });

  afterAll(() => rmSync(root, { recursive: true, force: true }));

  test(`boot: the README's mount outlives a restart, and the loss of a disk that is pulled ${IN_LAB}`, async () => {
    await machine.boot(FIRST);
    const written = machine.read("written");
    expect(written.trim().split("\n")).toHaveLength(3);
    for (const name of ["degraded", "rebuilt", "restarted"]) {
      expect([name, machine.read(name)]).toEqual([name, written]);
    }
    const kinds = JSON.parse(machine.read("events")).map(({ kind }: { kind: string }) => kind);
    expect(kinds).toContain("array.degraded");
  });

  test(`unit: what it lets through, and what not ${IN_LAB}`, () => {
    expect(machine.read("asked").trim().split("\n")).toEqual([
      "yes: blockdev --getsize64",
      "yes: fallocate --punch-hole",
      "yes: fallocate --zero-range",
      "yes: blkdiscard --zeroout",
      "yes: sg_persist --in",
      "yes: smartctl --health",
      "no: head -c1",
      "no: head -c1",
      "no: touch /opt/file",
      "yes: touch /srv/file",
    ]);
  });

  test(`boot: mounted again at the next; health and reservations of disks are asked ${IN_LAB}`, async () => {
    await machine.boot(SECOND);
    expect(machine.read("booted")).toBe(machine.read("written"));
    expect(JSON.parse(machine.read("array"))).toMatchObject({ degraded: 0 });
    // The machine went down in order: nothing had to be made good.
    expect(machine.read("log")).not.toContain("resync.started");
    expect(JSON.parse(machine.read("fenced"))).toMatchObject({
      state: "fenced",
      reason: expect.stringContaining(`key ${KEY}`),
    });
  });
});
