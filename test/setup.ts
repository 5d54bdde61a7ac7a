/**
 * Set-up of the host for the tests: installs the Debian packages that are missing, and lets the
 * kernel lab, where there is one, do the same for itself.
 *
 * It installs only as root and with apt-get, and never asks anything. Where it cannot install, it
 * says what is missing and why; the tests that need it are then skipped by name. A package whose
 * service would run on the host from then on is only unpacked.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import {
  hasLab,
  isLabReady,
  labPath,
  type MissingPackage,
  missingPackages,
  toolPath,
  UNPACKED_PATH,
} from "./helpers/needs.ts";

const COMMAND_LIMIT_MS = 5 * 60_000;

const APT_OPTIONS = [
  "-qq",
  "-y",
  "-o",
  "DPkg::Lock::Timeout=120", // Another apt may be at work: wait for it.
  "-o",
  "Acquire::http::Timeout=30",
  "-o",
  "Acquire::https::Timeout=30",
  "-o",
  "Acquire::Retries=2",
];

/** What the set-up does to the host, handed in so that it can be tested. */
export interface Host {
  readonly isRoot: boolean;
  readonly hasAptGet: boolean;
  /** Asked again after each step. */
  missing(): readonly MissingPackage[];
  /** Runs apt-get with `words`; whether it went well. */
  aptGet(words: readonly string[]): boolean;
  /** Takes the files of a package, and installs nothing; whether it went well. */
  unpack(name: string): boolean;
  say(line: string): void;
}

export function canInstall(host: Pick<Host, "isRoot" | "hasAptGet">): boolean {
  return host.isRoot && host.hasAptGet;
}

function packageNames(missing: readonly MissingPackage[]): string[] {
  return missing.map(({ debianPackage }) => debianPackage);
}

/** Those that are installed together, the others each by itself. */
function bringIn(host: Host, missing: readonly MissingPackage[]): boolean {
  const installed = packageNames(missing.filter(({ isUnpacked }) => !isUnpacked));
  const isInstalled = installed.length === 0 || install(host, installed);
  const unpacked = missing.filter(({ isUnpacked }) => isUnpacked);
  return (
    unpacked.map(({ debianPackage }) => host.unpack(debianPackage)).every(Boolean) && isInstalled
  );
}

function install(host: Host, names: readonly string[]): boolean {
  return host.aptGet(["install", "--no-install-recommends", ...names]);
}

/** Brings in what is missing, if the host allows; answers with what still is. */
export function installMissing(host: Host): readonly MissingPackage[] {
  const missing = host.missing();
  if (missing.length === 0) return missing;
  const names = packageNames(missing).join(" ");
  if (!canInstall(host)) {
    const reason = host.hasAptGet ? "not root" : "there is no apt-get";
    host.say(`set-up: not installed (${reason}): ${names}. Tests that need them are skipped.`);
    return missing;
  }
  host.say(`set-up: installing ${names}`);
  // The package lists of a fresh container are absent or old: fetch them once that shows.
  if (!bringIn(host, missing)) {
    host.aptGet(["update"]);
    if (!bringIn(host, host.missing())) {
      // One package that does not exist here must not keep the others away.
      for (const one of host.missing()) bringIn(host, [one]);
    }
  }
  const left = host.missing();
  if (left.length > 0) {
    host.say(`set-up: apt-get could not install: ${packageNames(left).join(" ")}`);
  }
  return left;
}

function runQuietly(words: string[], cwd?: string): boolean {
  const { success } = Bun.spawnSync(words, {
    stdin: "ignore",
    stdout: "ignore", // The progress of dpkg; errors come on stderr.
    stderr: "inherit",
    env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    timeout: COMMAND_LIMIT_MS,
    ...(cwd === undefined ? {} : { cwd }),
  });
  return success;
}

function unpack(name: string): boolean {
  mkdirSync(UNPACKED_PATH, { recursive: true, mode: 0o755 });
  const folder = mkdtempSync(join(UNPACKED_PATH, "download-"));
  try {
    if (
      !runQuietly(
        ["apt-get", ...APT_OPTIONS, "-o", "APT::Sandbox::User=root", "download", name],
        folder,
      )
    )
      return false;
    return readdirSync(folder).every((file) =>
      runQuietly(["dpkg-deb", "-x", join(folder, file), UNPACKED_PATH]),
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export function realHost(): Host {
  return {
    isRoot: process.getuid?.() === 0,
    hasAptGet: toolPath("apt-get") !== undefined,
    missing: missingPackages,
    aptGet: (words) => runQuietly(["apt-get", ...APT_OPTIONS, ...words]),
    unpack,
    say(line) {
      console.error(line);
    },
  };
}

/** What the set-up of the kernel lab does to the host, handed in so that it can be tested. */
export interface LabHost {
  readonly hasLab: boolean;
  readonly canInstall: boolean;
  /** Asked again after the set-up. */
  isReady(): boolean;
  /** Runs the lab's own set-up. */
  setUp(): void;
  say(line: string): void;
}

/** Makes the lab ready once, if there is one and the host allows; whether that failed. */
export function prepareLab(host: LabHost): { readonly isUnready: boolean } {
  if (!host.hasLab || host.isReady()) return { isUnready: false };
  if (!host.canInstall) {
    host.say("set-up: the kernel lab is not set up, and this is not root with apt-get.");
    return { isUnready: true };
  }
  host.say("set-up: preparing the kernel lab");
  host.setUp();
  const isUnready = !host.isReady();
  if (isUnready) host.say("set-up: the kernel lab could not be prepared. Its tests are skipped.");
  return { isUnready };
}

export function realLabHost(): LabHost {
  const host = realHost();
  return {
    hasLab: hasLab(),
    canInstall: canInstall(host),
    isReady: isLabReady,
    setUp() {
      Bun.spawnSync([join(labPath(), "setup")], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "inherit",
        env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
        timeout: COMMAND_LIMIT_MS,
      });
    },
    say: host.say,
  };
}

if (import.meta.main) {
  const left = installMissing(realHost());
  const { isUnready } = prepareLab(realLabHost());
  process.exit(left.length === 0 && !isUnready ? 0 : 1);
}
