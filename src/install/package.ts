/**
 * `npm run package`: a Debian package of the executable and of every file of the list.
 *
 *   bun src/install/package.ts [--target amd64|arm64] [--outdir DIR] [--executable FILE]
 *
 * Debian's own files come to the list: control, the scripts, what lintian is told, changelogs; manual
 * pages are compressed. The same sources make the same package (SOURCE_DATE_EPOCH, else the time of
 * the last commit).
 *
 * The executable is not stripped: its program lies in a section that `strip` displaces. It is packed by
 * gzip: xz takes ten times as long for a quarter less, and zstd is no part of Debian's format yet.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { DEFAULT_CONFIG_PATH } from "../appliance/config.ts";
import { fileList, type InstalledFile } from "./file-list.ts";
import { writeAll } from "./installation.ts";
import { ALL_COMMANDS } from "./table.ts";

const TOP = resolve(import.meta.dir, "../..");
const SCRIPTS = join(import.meta.dir, "files", "debian");

/** Debian's name of an architecture, and Bun's. */
const TARGETS = { amd64: "bun-linux-x64", arm64: "bun-linux-arm64" } as const;

export type Architecture = keyof typeof TARGETS;

export function isArchitecture(text: string): text is Architecture {
  return Object.hasOwn(TARGETS, text);
}

export interface PackageOptions {
  readonly executable: string;
  readonly architecture: Architecture;
  /** Of parityd, without Debian's revision. */
  readonly version: string;
  readonly folder: string;
}

/** Builds it; answers with its path. */
export function buildPackage({
  executable,
  architecture,
  version,
  folder,
}: PackageOptions): string {
  const staging = mkdtempSync(join(tmpdir(), "parityd-package-"));
  try {
    chmodSync(staging, 0o755);
    const list = fileList({ prefix: "/usr", executable, table: ALL_COMMANDS, version });
    const epoch = epochSeconds();
    const full = `${version}-1`;
    writeAll([...list.map(asDebianHasIt), ...debianFiles(full, epoch)], staging);
    writeControl(staging, { full, architecture, list });
    mkdirSync(folder, { recursive: true });
    const path = join(folder, `parityd_${full}_${architecture}.deb`);
    const words = [
      "--root-owner-group",
      "-Zgzip",
      "--uniform-compression",
      "--build",
      staging,
      path,
    ];
    run(["dpkg-deb", ...words], { SOURCE_DATE_EPOCH: String(epoch) });
    return path;
  } finally {
    rmSync(staging, { recursive: true, force: true });
  }
}

/** Manual pages are compressed there. */
function asDebianHasIt(file: InstalledFile): InstalledFile {
  if (!file.path.includes("/share/man/") || typeof file.content !== "string") return file;
  return { ...file, path: `${file.path}.gz`, content: compressed(file.content) };
}

function debianFiles(full: string, epoch: number): InstalledFile[] {
  const doc = "/usr/share/doc/parityd";
  const changelog = readFileSync(join(TOP, "CHANGELOG.md"), "utf8");
  const texts: readonly (readonly [path: string, content: InstalledFile["content"]])[] = [
    [`${doc}/changelog.gz`, compressed(changelog)],
    [`${doc}/changelog.Debian.gz`, compressed(debianChangelog(full, epoch))],
    ["/usr/share/lintian/overrides/parityd", script("lintian-overrides")],
  ];
  return texts.map(([path, content]) => ({ path, mode: 0o644, content, isConfiguration: false }));
}

function debianChangelog(full: string, epoch: number): string {
  // RFC 5322, as dpkg wants it: no comma's worth of freedom.
  const date = new Date(epoch * 1000).toUTCString().replace("GMT", "+0000");
  return [
    `parityd (${full}) unstable; urgency=medium`,
    "",
    "  * What has changed in parityd stands in changelog.gz beside this file.",
    "",
    ` -- ${maintainer()}  ${date}`,
    "",
  ].join("\n");
}

/** As Debian's own tools have it from whoever builds. */
function maintainer(): string {
  const name = process.env["DEBFULLNAME"] ?? "The parityd authors";
  return `${name} <${process.env["DEBEMAIL"] ?? "parityd@packages.invalid"}>`;
}

function writeControl(
  staging: string,
  {
    full,
    architecture,
    list,
  }: { full: string; architecture: Architecture; list: readonly InstalledFile[] },
): void {
  const paths = readdirSync(staging, { recursive: true, encoding: "utf8" });
  const files = paths.filter((path) => statSync(join(staging, path)).isFile()).sort();
  const bytes = files.reduce((sum, path) => sum + statSync(join(staging, path)).size, 0);
  const folder = join(staging, "DEBIAN");
  mkdirSync(folder, { mode: 0o755 });
  const put = (name: string, content: string, mode = 0o644): void => {
    writeFileSync(join(folder, name), content);
    chmodSync(join(folder, name), mode);
  };
  put("control", controlText({ full, architecture, kib: Math.ceil(bytes / 1024) }));
  const configuration = list.filter(({ isConfiguration }) => isConfiguration);
  put("conffiles", configuration.map(({ path }) => `${path}\n`).join(""));
  const summed = files.filter((path) => `/${path}` !== DEFAULT_CONFIG_PATH);
  put("md5sums", summed.map((path) => `${md5(join(staging, path))}  ${path}\n`).join(""));
  for (const name of ["postinst", "prerm", "postrm"]) put(name, script(name), 0o755);
}

function controlText({
  full,
  architecture,
  kib,
}: {
  full: string;
  architecture: Architecture;
  kib: number;
}): string {
  return [
    "Package: parityd",
    `Version: ${full}`,
    `Architecture: ${architecture}`,
    `Maintainer: ${maintainer()}`,
    `Installed-Size: ${kib}`,
    "Depends: libc6 (>= 2.17), init-system-helpers (>= 1.54)",
    "Recommends: systemd, udev",
    "Suggests: nbd-client, mdadm, prometheus, bash-completion",
    "Section: admin",
    "Priority: optional",
    "Description: RAID5 arrays in the format of Linux md, served over NBD",
    " parityd keeps RAID5 arrays on drives or files, in the on-disk format of Linux",
    " md (metadata 1.2), and exports them as network block devices. It is driven",
    " over an HTTP API, with curl or with its own commands.",
    " .",
    " Arrays are scrubbed by schedule, rebuilt onto spares, and grown while they",
    " serve. Members can be taken over from mdadm, and given back to it.",
    "",
  ].join("\n");
}

function script(name: string): string {
  return readFileSync(join(SCRIPTS, name), "utf8");
}

function compressed(text: string): Uint8Array {
  return gzipSync(text, { level: 9 });
}

function md5(path: string): string {
  return new Bun.CryptoHasher("md5").update(readFileSync(path)).digest("hex");
}

function epochSeconds(): number {
  const given = process.env["SOURCE_DATE_EPOCH"];
  if (given !== undefined) return Number(given);
  const asked = Bun.spawnSync(["git", "log", "-1", "--format=%ct"], { cwd: TOP, stderr: "ignore" });
  const told = Number(asked.stdout.toString().trim());
  return asked.success && told > 0 ? told : Math.floor(Date.now() / 1000);
}

function run(words: readonly string[], environment: Readonly<Record<string, string>> = {}): void {
  const { success, exitCode } = Bun.spawnSync([...words], {
    cwd: TOP,
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
    env: { ...process.env, ...environment },
  });
  if (!success) throw new Error(`${words[0]} failed (exit ${exitCode})`);
}

/** The executable of that architecture, built. */
function built(architecture: Architecture, folder: string): string {
  const isOwn = TARGETS[architecture] === `bun-linux-${process.arch}`;
  const outfile = join(folder, isOwn ? "parityd" : `parityd-${architecture}`);
  const target = isOwn ? [] : ["--target", TARGETS[architecture]];
  run([process.execPath, "build.ts", "--outfile", outfile, ...target]);
  return outfile;
}

function main(): void {
  const { values } = parseArgs({
    options: {
      target: { type: "string" },
      outdir: { type: "string" },
      executable: { type: "string" },
    },
  });
  const architecture = (values.target ?? (process.arch === "arm64" ? "arm64" : "amd64"))
    .replace(/^bun-linux-/, "")
    .replace(/^x64$/, "amd64");
  if (!isArchitecture(architecture)) {
    throw new Error(`--target is ${Object.keys(TARGETS).join(" or ")}, not ${architecture}`);
  }
  if (Bun.which("dpkg-deb") === null) throw new Error("dpkg-deb is missing: install dpkg");
  const folder = resolve(values.outdir ?? join(TOP, "dist"));
  const executable = values.executable ?? built(architecture, folder);
  if (!existsSync(executable)) throw new Error(`${executable} is not there`);
  const { version } = JSON.parse(readFileSync(join(TOP, "package.json"), "utf8"));
  console.log(`built ${buildPackage({ executable, architecture, version, folder })}`);
}

if (import.meta.main) {
  try {
    main();
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
}
