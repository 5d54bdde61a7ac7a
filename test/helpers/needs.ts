/**
 * What a test may need of the host beyond Bun, and whether it is there.
 *
 *   test.skipIf(!needs("mdadm"))("examine: a clean array: mdadm agrees [needs mdadm]", …)
 *
 * The name of the test repeats the need in brackets, because that is how test/run.ts tells a skip
 * that a Debian package would have cured. test/setup.ts installs the packages.
 */
import { dlopen } from "bun:ffi";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { directIoTempExists } from "./temp.ts";

interface NeedFacts {
  /** The Debian package that brings it, if one does. */
  readonly debianPackage?: string;
  /** The package has a service, which would run from then on: its files alone are taken. */
  readonly isUnpacked?: true;
  /** Whether the host has it. */
  readonly isPresent: () => boolean;
}

/** Where packages are unpacked that are not to be installed. Root's: what is in it is run. */
export const UNPACKED_PATH = "/var/cache/parityd-tests";

/** The absolute path of a program, also of one in sbin, which PATH lacks for most users. */
export function toolPath(name: string): string | undefined {
  const folders = [
    process.env["PATH"] ?? "",
    "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin",
    join(UNPACKED_PATH, "usr/bin"),
  ];
  return Bun.which(name, { PATH: folders.join(":") }) ?? undefined;
}

function hasTools(...names: readonly string[]): () => boolean {
  return () => names.every((name) => toolPath(name) !== undefined);
}

/** Whether the dynamic linker finds libaio: Debian 13 and Ubuntu 24.04 have renamed it. */
function hasLibaio(): boolean {
  return ["libaio.so.1", "libaio.so.1t64"].some((name) => {
    try {
      dlopen(name, { io_setup: { args: ["i32", "ptr"], returns: "i32" } }).close();
      return true;
    } catch {
      return false;
    }
  });
}

/** python3-libnbd is built for the Python of the distribution, not for another one in PATH. */
export const SYSTEM_PYTHON = "/usr/bin/python3";

function hasPythonLibnbd(): boolean {
  if (!existsSync(SYSTEM_PYTHON)) return false;
  return Bun.spawnSync([SYSTEM_PYTHON, "-c", "import nbd"]).exitCode === 0;
}

export const DEBIAN_MIRROR = "http://deb.debian.org/debian";

/** Whether packages of Debian can be fetched, for a root of a test's own. */
function answersDebian(): boolean {
  const curl = toolPath("curl");
  if (curl === undefined) return false;
  const url = `${DEBIAN_MIRROR}/dists/bookworm/InRelease`;
  return Bun.spawnSync([curl, "-sfI", "-m", "10", "-o", "/dev/null", url]).exitCode === 0;
}

/** Whether a command may have mounts and processes of its own: not in every container. */
function canUnshare(): boolean {
  const unshare = toolPath("unshare");
  if (unshare === undefined) return false;
  return Bun.spawnSync([unshare, "--mount", "--pid", "--fork", "true"]).exitCode === 0;
}

/** The folder of the kernel lab (a virtual machine with md); see DESIGN.md. */
export function labPath(): string {
  const standard = join(import.meta.dir, "../../../shared/lab/linux-vm");
  return process.env["PARITYD_LAB"] ?? standard;
}

/** Whether the lab's ./setup has been run: its packages, and the shim that it compiles. */
export function isLabReady(): boolean {
  const state = process.env["LINUX_VM_STATE"] ?? "/var/tmp/linux-vm";
  return existsSync(join(state, "xsave-shim.so")) && hasTools("linux.uml", "dmsetup")();
}

/** Whether the folder of the lab is there at all. */
export function hasLab(): boolean {
  return existsSync(join(labPath(), "vm-run"));
}

const NEEDS = {
  libaio: { debianPackage: "libaio1", isPresent: hasLibaio },
  mdadm: { debianPackage: "mdadm", isPresent: hasTools("mdadm") },
  nbdinfo: { debianPackage: "libnbd-bin", isPresent: hasTools("nbdinfo", "nbdcopy") },
  nbdfuse: { debianPackage: "libnbd-bin", isPresent: hasTools("nbdfuse") },
  "python3-libnbd": { debianPackage: "python3-libnbd", isPresent: hasPythonLibnbd },
  "qemu-img": { debianPackage: "qemu-utils", isPresent: hasTools("qemu-img", "qemu-io") },
  fio: { debianPackage: "fio", isPresent: hasTools("fio") },
  nbdkit: { debianPackage: "nbdkit", isPresent: hasTools("nbdkit") },
  strace: { debianPackage: "strace", isPresent: hasTools("strace") },
  "sg3-utils": { debianPackage: "sg3-utils", isPresent: hasTools("sg_persist") },
  chromium: { debianPackage: "chromium", isPresent: hasTools("chromium") },
  curl: { debianPackage: "curl", isPresent: hasTools("curl") },
  setpriv: { debianPackage: "util-linux", isPresent: hasTools("setpriv") },
  lintian: { debianPackage: "lintian", isPresent: hasTools("lintian", "dpkg-deb") },
  man: { debianPackage: "man-db", isPresent: hasTools("man") },
  mmdebstrap: { debianPackage: "mmdebstrap", isPresent: hasTools("mmdebstrap", "unshare") },
  prometheus: {
    debianPackage: "prometheus",
    isUnpacked: true,
    isPresent: hasTools("prometheus", "promtool"),
  },
  "systemd-analyze": { debianPackage: "systemd", isPresent: hasTools("systemd-analyze") },
  nspawn: { debianPackage: "systemd-container", isPresent: hasTools("systemd-nspawn", "nsenter") },
  "debian-mirror": { isPresent: answersDebian },
  namespaces: { isPresent: canUnshare },
  root: { isPresent: () => process.getuid?.() === 0 },
  fuse: { isPresent: () => existsSync("/dev/fuse") },
  "direct-io": { isPresent: directIoTempExists },
  lab: { isPresent: () => hasLab() && isLabReady() },
} as const satisfies Readonly<Record<string, NeedFacts>>;

export type Need = keyof typeof NEEDS;

const FACTS: Readonly<Record<string, NeedFacts>> = NEEDS;

const answers = new Map<string, boolean>();

/** Whether the host has all of `names`. Asked once per test file and kept. */
export function needs(...names: readonly Need[]): boolean {
  return names.every((name) => {
    const known = answers.get(name);
    if (known !== undefined) return known;
    const isPresent = NEEDS[name].isPresent();
    answers.set(name, isPresent);
    return isPresent;
  });
}

export interface MissingPackage {
  readonly need: string;
  readonly debianPackage: string;
  readonly isUnpacked: boolean;
}

/** The needs that a Debian package would meet and that are not met now. */
export function missingPackages(): MissingPackage[] {
  const missing: MissingPackage[] = [];
  for (const [need, { debianPackage, isUnpacked, isPresent }] of Object.entries(FACTS)) {
    if (debianPackage === undefined || isPresent()) continue;
    missing.push({ need, debianPackage, isUnpacked: isUnpacked === true });
  }
  return missing;
}

/** The package that meets `need`; undefined for needs that no package meets, and unknown ones. */
export function packageOf(need: string): string | undefined {
  return FACTS[need]?.debianPackage;
}
