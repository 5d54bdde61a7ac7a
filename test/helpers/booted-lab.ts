/**
 * A Debian root booted for real: by the kernel of the lab, with systemd as its init and udev, on a
 * disk of its own that outlives the boot. (`helpers/lab.ts` runs a test in the lab without all that.)
 *
 *   const machine = LabMachine.of(root, folder);
 *   await machine.boot("systemctl is-active parityd >/out/state");
 *
 * A boot runs lines of bash once the system is up, as root and with `set -e`, and powers off, in
 * order. /out is `folder` on the host.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import { GIB } from "../../src/base/units.ts";
import { makeFile, mustRun, runProgram } from "./daemon.ts";
import { toolPath } from "./needs.ts";

const STATE = process.env["LINUX_VM_STATE"] ?? "/var/tmp/linux-vm";
const MODULES = "/usr/lib/uml/modules";
const LIMIT_SECONDS = 400;
const MEMORY = "768M";

/** What Debian has to have for it. */
export const LAB_MACHINE_PACKAGES = ["systemd-sysv", "udev", "kmod", "mount"] as const;

const UNIT = `[Unit]
After=multi-user.target
SuccessAction=poweroff
FailureAction=poweroff
[Service]
Type=oneshot
ExecStart=/bin/bash -c "mkdir -p /out && mount -t hostfs -o %FOLDER% none /out && exec bash -e /out/lines >/out/said 2>&1"
ExecStartPost=/bin/sh -c "echo done >>/out/said"
[Install]
WantedBy=graphical.target
`;

export class LabMachine {
  readonly folder: string;
  private readonly disk: string;

  private constructor(disk: string, folder: string) {
    this.disk = disk;
    this.folder = folder;
  }

  /** Makes a disk of `root`, with the lab's modules and what runs the lines. */
  static async of(root: string, folder: string): Promise<LabMachine> {
    const versions = readdirSync(MODULES);
    for (const version of versions) {
      cpSync(join(MODULES, version), join(root, "usr/lib/modules", version), { recursive: true });
    }
    const wants = join(root, "etc/systemd/system/graphical.target.wants");
    mkdirSync(wants, { recursive: true });
    const unit = join(root, "etc/systemd/system/lines.service");
    writeFileSync(unit, UNIT.replace("%FOLDER%", folder));
    symlinkSync("../lines.service", join(wants, "lines.service"));
    const disk = join(folder, "root.img");
    makeFile(disk, 2 * GIB);
    await mustRun([toolPath("mkfs.ext4")!, "-q", "-F", "-d", root, disk]);
    return new LabMachine(disk, folder);
  }

  /** Boots, runs the lines, powers off; answers with what they have said. */
  async boot(lines: string): Promise<string> {
    writeFileSync(join(this.folder, "lines"), lines);
    writeFileSync(join(this.folder, "said"), "");
    const { stdout, stderr } = await runProgram(
      [
        ...[toolPath("timeout")!, "-k", "5", String(LIMIT_SECONDS), toolPath("linux.uml")!],
        ...[`mem=${MEMORY}`, `ubda=${this.disk}`, "root=/dev/ubda", "rw"],
        ...["con=null", "con0=null,fd:1", "con1=null", "ssl=null", "quiet", "loglevel=3"],
        ...["systemd.show_status=0", `umid=parityd${process.pid}`, `uml_dir=${this.folder}/`],
      ],
      { environment: { TMPDIR: "/dev/shm", LD_PRELOAD: join(STATE, "xsave-shim.so") } },
    );
    const said = readFileSync(join(this.folder, "said"), "utf8");
    assert(said.endsWith("done\n"), `the lines come to their end: ${said}${stdout}${stderr}`);
    return said;
  }

  /** A file that the lines left below /out. */
  read(name: string): string {
    const path = join(this.folder, name);
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }
}
