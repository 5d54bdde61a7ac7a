/**
 * Goal: what is installed works where it is installed: the package is one that Debian's tools
 * accept, an upgrade takes nothing from anybody, and a removal leaves what is not ours.
 *
 * Method: the package of the executable under test, before lintian, systemd, promtool, man, bash;
 * then in a Debian root of the test's own: first by chroot, so that no systemd runs in it, at last
 * booted. Later versions hold a small script in place of the executable.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { fileList } from "../../src/install/file-list.ts";
import { buildPackage } from "../../src/install/package.ts";
import { ALL_COMMANDS } from "../../src/install/table.ts";
import {
  binaryPath,
  Daemon,
  type Finished,
  makeFiles,
  mustRun,
  runProgram,
  runVerb,
  sha256,
} from "../helpers/daemon.ts";
import { boot, type Inside, inChroot, makeDebianRoot, ROOT_NEEDS } from "../helpers/debian-root.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

/** In tenths, as systemd-analyze counts: the README says what is open, and why. */
const EXPOSURE_MAX = 29;

const architecture = process.arch === "arm64" ? "arm64" : "amd64";

/** A package whose executable is a script that says its version. */
function standIn(version: string, folder = makeTempDir("pkg")): string {
  const executable = join(folder, `parityd-${version}`);
  writeFileSync(executable, `#!/bin/sh\necho "parityd ${version}"\n`);
  chmodSync(executable, 0o755);
  return buildPackage({ executable, architecture, version, folder });
}

/** The same package with another default configuration. */
async function withOtherDefaults(path: string): Promise<string> {
  const folder = join(makeTempDir("repack"), "root");
  await mustRun(["dpkg-deb", "-R", path, folder]);
  const config = join(folder, "etc/parityd/parityd.toml");
  writeFileSync(config, `${readFileSync(config, "utf8")}# A new default.\n`);
  await mustRun(["dpkg-deb", "-Zgzip", "--root-owner-group", "-b", folder, `${folder}.deb`]);
  return `${folder}.deb`;
}

/** Installed by the executable itself; answers with the prefix. */
async function installed(): Promise<string> {
  const prefix = join(makeTempDir("pre"), "p");
  await mustRun([binaryPath(), "install-files", "--prefix", prefix]);
  return prefix;
}

describe("install-files", () => {
  test("install-files: into a prefix: it runs there; removed: nothing is left", async () => {
    const prefix = await installed();
    const program = join(prefix, "bin", "parityd");
    expect(sha256(program)).toBe(sha256(binaryPath()));
    const config = join(prefix, "etc/parityd/parityd.toml");
    const service = readFileSync(join(prefix, "lib/systemd/system/parityd.service"), "utf8");
    expect(service).toContain(`\nExecStart=${program} serve --config ${config}\n`);
    await mustRun([program, "config", "check", config]);
    const listed = await mustRun([program, "install-files", "--print", "--prefix", prefix]);
    for (const line of listed.trim().split("\n")) {
      const [mode, path] = line.split(" ");
      const found = await mustRun(["stat", "-c", "%04a", path!]);
      expect([path, found.trim()]).toEqual([path, mode!]);
    }
    // It replaces itself while it runs, and takes away itself at the end.
    await mustRun([program, "install-files", "--prefix", prefix]);
    await mustRun([program, "install-files", "--prefix", prefix, "--remove"]);
    expect([existsSync(program), existsSync(config)]).toEqual([false, true]);
    await mustRun([binaryPath(), "install-files", "--prefix", prefix, "--remove", "--purge"]);
    expect(existsSync(prefix)).toBe(false);
  });

  test("install-files: what is not ours is refused, in one line", async () => {
    const prefix = await installed();
    writeFileSync(join(prefix, "share/man/man1/parityd.1"), "mine");
    const again = await runVerb(["install-files", "--prefix", prefix]);
    expect([again.exitCode, again.stdout]).toEqual([1, ""]);
    expect(again.stderr).toMatch(/^parityd: [^\n]*man1\/parityd\.1[^\n]*--force[^\n]*\n$/);
    expect((await runVerb(["install-files", "--purge"])).exitCode).toBe(64);
  });
});

describe("the files", () => {
  test.skipIf(!needs("systemd-analyze"))(
    "service: systemd finds no fault in it, and little that is open [needs systemd-analyze]",
    async () => {
      const prefix = await installed();
      const units = ["lib/systemd/system/parityd.service", "share/doc/parityd/examples"].flatMap(
        (name) => {
          const path = join(prefix, name);
          if (!name.endsWith("examples")) return [path];
          const names = readdirSync(path).filter((each) => /\.(service|timer)$/.test(each));
          return names.map((each) => join(path, each));
        },
      );
      expect(units).toHaveLength(3);
      const verified = await runProgram(["systemd-analyze", "verify", "--man=no", ...units]);
      expect(verified).toEqual({ exitCode: 0, stdout: "", stderr: "" });
      const words = ["security", "--offline=true", "--no-pager", `--threshold=${EXPOSURE_MAX}`];
      const judge = async (exposure: RegExp): Promise<string> => {
        const judged = await runProgram(["systemd-analyze", ...words, units[0]!]);
        expect([judged.exitCode, judged.stderr]).toEqual([0, ""]);
        expect(judged.stdout).toMatch(exposure);
        return judged.stdout;
      };
      const closed = /^✓ CapabilityBoundingSet=~CAP_SYS_ADMIN /m;
      expect(await judge(/Overall exposure level .*: 2\.6 OK/)).toMatch(closed);
      const dropIns = `${units[0]}.d`;
      mkdirSync(dropIns);
      const dropIn = join(prefix, "share/parityd/parityd-attach.conf");
      copyFileSync(dropIn, join(dropIns, "attach.conf"));
      expect(await judge(/Overall exposure level .*: 2\.9 OK/)).not.toMatch(closed);
    },
  );

  test.skipIf(!needs("prometheus"))(
    "alert rules: promtool takes them [needs prometheus]",
    async () => {
      const rules = join(await installed(), "share/parityd/prometheus-rules.yaml");
      expect(await mustRun([toolPath("promtool")!, "check", "rules", rules])).toContain("SUCCESS");
    },
  );

  test.skipIf(!needs("man"))("manual pages: man has no warning [needs man]", async () => {
    const folder = join(await installed(), "share/man");
    for (const page of ["man1/parityd.1", "man5/parityd.toml.5"]) {
      const words = ["man", "--warnings", "-l", join(folder, page)];
      const environment = { MANWIDTH: "80", LC_ALL: "C.UTF-8", PATH: process.env["PATH"] ?? "" };
      const shown = await runProgram(words, { environment });
      expect([page, shown.exitCode, shown.stderr]).toEqual([page, 0, ""]);
      expect(shown.stdout).toContain("SEE ALSO");
    }
  });

  test("completion: bash asks the executable that is on the line", async () => {
    const prefix = await installed();
    const script = join(prefix, "share/bash-completion/completions/parityd");
    const complete = async (...words: string[]): Promise<string> => {
      const line = words.map((word) => `'${word}'`).join(" ");
      const code =
        `source ${script}; compopt() { echo "compopt $*"; }; ` +
        `COMP_WORDS=(parityd ${line}); COMP_CWORD=${words.length}; ` +
        `_parityd ${prefix}/bin/parityd; echo "\${COMPREPLY[*]}"`;
      return (await mustRun(["bash", "-c", code])).trim();
    };
    expect(await complete("exa")).toBe("examine");
    expect(await complete("scrub", "start", "t", "--mode", "")).toBe("check repair");
    expect(await complete("serve", "--nbd-tls-")).toBe("--nbd-tls-cert --nbd-tls-key --nbd-tls-ca");
    expect(await complete("examine", "/de")).toBe("compopt -o default");
  });

  test.skipIf(!needs("libaio", "direct-io"))(
    "upgrade: the executable is replaced under a daemon: that works on, also new threads [needs libaio, direct-io]",
    async () => {
      const prefix = await installed();
      const program = join(prefix, "bin", "parityd");
      const folder = makeTempDir("live");
      const before = ["/bin/sh", "-c", `shift; exec ${program} "$@"`, "sh"];
      const daemon = await Daemon.start(folder, { before });
      writeFileSync(`${program}.new`, "#!/bin/sh\nexit 1\n");
      renameSync(`${program}.new`, program);
      const drives = await daemon.addDrives(makeFiles(folder, 5, 16 * MIB));
      await daemon.must("POST", "/v1/arrays", { name: "a", drives });
      await daemon.settle("a");
      expect(await daemon.stop()).toBe(0);
      expect(daemon.stderr).toContain("msg=stopped");
    },
  );
});

describe.skipIf(!needs("lintian"))("package", () => {
  test("package: the same sources make the same bytes [needs lintian]", async () => {
    expect(sha256(standIn("1.2.3"))).toBe(sha256(standIn("1.2.3")));
  });

  test("package: holds the list, and marks the configuration [needs lintian]", async () => {
    const path = standIn("1.2.3");
    const listing = (await mustRun(["dpkg-deb", "-c", path])).trim().split("\n");
    const packed = listing.filter((line) => !line.endsWith("/")).map((line) => line.split(/\s+/));
    const list = fileList({
      ...{ prefix: "/usr", executable: "/x", version: "1.2.3" },
      table: ALL_COMMANDS,
    });
    const wanted = list.map(({ path }) => (path.includes("/man/") ? `${path}.gz` : path));
    const ofDebian = [
      "/usr/share/doc/parityd/changelog.Debian.gz",
      "/usr/share/doc/parityd/changelog.gz",
      "/usr/share/lintian/overrides/parityd",
    ];
    const found = packed.map((fields) => fields[5]!.slice(1));
    expect(found.sort()).toEqual([...wanted, ...ofDebian].sort());
    expect(new Set(packed.map((fields) => fields[1]))).toEqual(new Set(["root/root"]));
    const conffiles = await mustRun(["dpkg-deb", "-I", path, "conffiles"]);
    expect(conffiles).toBe("/etc/parityd/parityd.toml\n");
  });

  test("package: its configuration is install-files' to the byte: dpkg asks nobody which to keep", async () => {
    const path = standIn("1.2.3");
    const folder = makeTempDir("conf");
    await mustRun(["dpkg-deb", "-x", path, folder]);
    const [config] = fileList({
      ...{ prefix: "/usr/local", executable: "/x", version: "1.2.3" },
      table: ALL_COMMANDS,
    }).filter(({ isConfiguration }) => isConfiguration);
    expect(config).toMatchObject({ path: "/etc/parityd/parityd.toml", mode: 0o644 });
    const packed = join(folder, config!.path);
    expect(readFileSync(packed, "utf8")).toBe(config!.content as string);
    expect(statSync(packed).mode & 0o777).toBe(config!.mode);
  });
});

const IN_ROOT = `[needs ${ROOT_NEEDS.join(", ")}]`;

describe.skipIf(!needs(...ROOT_NEEDS))("in a Debian root", () => {
  const folder = makeTempDir("deb");
  const root = join(folder, "root");
  let real = "";
  let lintian: Finished;

  const inRoot = (...words: string[]): Promise<Finished> => inChroot(root, ...words);

  async function dpkg(...words: string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await inRoot("dpkg", ...words);
    expect([words, exitCode, stderr]).toEqual([words, 0, expect.any(String)]);
    return stdout + stderr;
  }

  /** Copies a package into the root and installs it. */
  async function install(path: string, ...words: string[]): Promise<string> {
    copyFileSync(path, join(root, "tmp/parityd.deb"));
    return dpkg(...words, "--install", "/tmp/parityd.deb");
  }

  const at = (path: string): string => join(root, path);
  const CONFIG = "etc/parityd/parityd.toml";
  const WANTED = "etc/systemd/system/multi-user.target.wants/parityd.service";

  beforeAll(async () => {
    const { version } = JSON.parse(
      readFileSync(join(import.meta.dir, "../../package.json"), "utf8"),
    );
    const executable = binaryPath();
    const made = makeDebianRoot(root);
    // Beside it, since most of that is waiting.
    real = buildPackage({ executable, architecture, version, folder });
    const words = ["--allow-root", "--fail-on", "error,warning", "--tag-display-limit", "0", real];
    lintian = await runProgram([toolPath("lintian")!, ...words]);
    await made;
  });

  afterAll(() => rmSync(root, { recursive: true, force: true }));

  test(`lintian: no error, no warning, no override too many ${IN_ROOT}`, () => {
    expect(lintian).toMatchObject({ exitCode: 0, stdout: "" });
  });

  test(`install: without systemd: it runs, is enabled, and its file is read ${IN_ROOT}`, async () => {
    await install(real);
    expect((await inRoot("parityd", "version")).stdout).toMatch(/^parityd \d/);
    expect(readlinkSync(at(WANTED))).toEndWith("/systemd/system/parityd.service");
    expect((await inRoot("parityd", "config", "check")).exitCode).toBe(0);
    writeFileSync(at(CONFIG), 'memoryMib = 99\nrunDir = "/run/mine"\n');
    expect((await inRoot("parityd", "config", "show")).stdout).toContain("\nmemoryMib = 99\n");
    const status = await inRoot("parityd", "status");
    expect(status).toMatchObject({ exitCode: 69, stderr: expect.stringContaining("/run/mine/") });
    writeFileSync(at(CONFIG), "colour = 1\n");
    const serve = await inRoot("parityd", "serve");
    expect(serve).toMatchObject({ exitCode: 78, stderr: expect.stringContaining(CONFIG) });
    const refused = await inRoot("parityd", "install-files", "--prefix", "/usr");
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("dpkg") });
  });

  test(`second copy: in /usr/local, beside the package: refused, or told of ${IN_ROOT}`, async () => {
    const refused = await inRoot("parityd", "install-files");
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toMatch(
      /^parityd: the package .* would run in its place .*--force[^\n]*\n$/,
    );
    expect(existsSync(at("usr/local/bin/parityd"))).toBe(false);
    expect((await inRoot("parityd", "install-files", "--prefix", "/opt/p")).exitCode).toBe(0);
    expect((await inRoot("parityd", "install-files", "--force")).exitCode).toBe(0);
    const remove = "/usr/local/bin/parityd install-files --remove";
    expect(await install(standIn("97.1"))).toContain(`  ${remove} && `);
    expect((await inRoot(...remove.split(" "))).exitCode).toBe(0);
    // The record of the configuration, which stays.
    for (const name of ["parityd", "doc/parityd"]) {
      rmSync(at(`usr/local/share/${name}`), { recursive: true, force: true });
    }
    expect(await install(real)).not.toContain("/usr/local");
    await inRoot(
      "/opt/p/bin/parityd",
      "install-files",
      "--prefix",
      "/opt/p",
      "--remove",
      "--purge",
    );
    expect(existsSync(at("opt/p"))).toBe(false);
  });

  test(`upgrade: a changed configuration stays, and what was disabled ${IN_ROOT}`, async () => {
    const mine = "memoryMib = 99\n";
    writeFileSync(at(CONFIG), mine);
    rmSync(at(WANTED)); // As `systemctl disable` does.
    await install(standIn("98.1"));
    expect((await inRoot("parityd")).stdout).toBe("parityd 98.1\n");
    expect(readFileSync(at(CONFIG), "utf8")).toBe(mine);
    expect(existsSync(at(WANTED))).toBe(false);
    const told = await install(
      await withOtherDefaults(standIn("98.2")),
      "--force-confdef",
      "--force-confold",
    );
    expect(told).toContain(CONFIG);
    expect(readFileSync(at(CONFIG), "utf8")).toBe(mine);
    expect(readFileSync(at(`${CONFIG}.dpkg-dist`), "utf8")).toContain("# A new default.");
  });

  test(`remove: configuration and state stay; again installed: as it was ${IN_ROOT}`, async () => {
    mkdirSync(at("var/lib/parityd"), { recursive: true });
    for (const name of [
      "state.db",
      "state.db-wal",
      "api-token",
      "state.db.damaged-1",
      "disk.img",
    ]) {
      writeFileSync(at(`var/lib/parityd/${name}`), "x");
    }
    await dpkg("--remove", "parityd");
    expect(existsSync(at("usr/bin/parityd"))).toBe(false);
    expect(readFileSync(at(CONFIG), "utf8")).toBe("memoryMib = 99\n");
    expect(readdirSync(at("var/lib/parityd"))).toHaveLength(5);
    await install(standIn("98.3"), "--force-confold");
    expect(readFileSync(at(CONFIG), "utf8")).toBe("memoryMib = 99\n");
  });

  test(`purge: nothing of it is left, and what is not its own is ${IN_ROOT}`, async () => {
    await dpkg("--purge", "parityd");
    expect(readdirSync(at("var/lib/parityd"))).toEqual(["disk.img"]);
    const left = (await mustRun(["find", root, "-xdev", "-name", "*parityd*"])).trim().split("\n");
    expect(left.map((path) => path.slice(root.length)).sort()).toEqual([
      "/tmp/parityd.deb",
      "/var/lib/parityd",
    ]);
    // A fresh one, and purged at once: no folder either.
    rmSync(at("var/lib/parityd"), { recursive: true });
    await install(standIn("98.4"));
    await dpkg("--purge", "parityd");
    expect([existsSync(at("etc/parityd")), existsSync(at("var/lib/parityd"))]).toEqual([
      false,
      false,
    ]);
  });

  test.skipIf(!needs("nspawn"))(
    `service: under systemd: started, fenced in, reloaded, watched, stopped [needs ${[...ROOT_NEEDS, "nspawn"].join(", ")}]`,
    async () => {
      const { inside, end } = await boot(root);
      const must = async (...words: string[]): Promise<string> => {
        const { exitCode, stdout, stderr } = await inside(...words);
        expect([words, exitCode, stderr]).toEqual([words, 0, expect.any(String)]);
        return stdout.trim();
      };
      const show = (key: string): Promise<string> =>
        must("systemctl", "show", "--value", "-P", key, "parityd");
      const mainPid = (): Promise<string> => show("MainPID");
      try {
        copyFileSync(real, at("root/real.deb"));
        const newer = { executable: binaryPath(), architecture, version: "98.5", folder } as const;
        copyFileSync(buildPackage(newer), at("root/newer.deb"));
        await must("dpkg", "--install", "/root/real.deb");
        expect(await show("ActiveState")).toBe("active");
        expect(await show("StatusText")).toStartWith("serving on /run/parityd/api.sock");
        for (const name of ["d0", "d1", "d2"]) {
          await must("truncate", "-s", "32M", `/srv/${name}.img`, `/opt/${name}.img`);
          await must("parityd", "drive", "add", name, `/srv/${name}.img`);
        }
        await must("parityd", "array", "create", "tank", "d0", "d1", "d2");
        // Rules of udev run fenced in as systemd-udevd.service is: without executable memory, too.
        const { arrays } = JSON.parse(await must("parityd", "array", "list", "--json"));
        const [{ uuid }] = arrays;
        const fence = "MemoryDenyWriteExecute=yes\nSystemCallFilter=@system-service\n";
        const service = `[Service]\nType=oneshot\n${fence}ExecStart=/usr/bin/parityd keeps ${uuid}\n`;
        writeFileSync(at("run-of-udev.service"), service);
        await must("systemctl", "link", "/run-of-udev.service");
        await must("systemctl", "start", "run-of-udev");
        await untilLogged(inside, "PARITYD_ARRAY=tank", "run-of-udev");
        const outside = await inside("parityd", "drive", "add", "x", "/opt/d0.img");
        expect(outside).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("EROFS") });
        await must("systemctl", "reload", "parityd");
        await untilLogged(inside, "SIGHUP: read again");
        // An upgrade leaves it running, from the executable that was there.
        const first = await mainPid();
        await must("dpkg", "--install", "/root/newer.deb");
        expect(await mainPid()).toBe(first);
        await must("parityd", "status", "--check");
        // One that hangs is killed and started again, and has its array. Sooner than by the unit.
        mkdirSync(at("etc/systemd/system/parityd.service.d"));
        const sooner = "[Service]\nWatchdogSec=5s\nRestartSec=1s\n";
        writeFileSync(at("etc/systemd/system/parityd.service.d/test.conf"), sooner);
        await must("systemctl", "daemon-reload");
        await must("systemctl", "restart", "parityd");
        const restarts = await show("NRestarts");
        await must("systemctl", "kill", "--signal=STOP", "parityd");
        while ((await show("NRestarts")) === restarts) await Bun.sleep(500);
        while ((await show("ActiveState")) !== "active") await Bun.sleep(100);
        await must("parityd", "array", "show", "tank");
        await must("dpkg", "--remove", "parityd");
        const log = await must("journalctl", "--no-pager", "-u", "parityd", "-o", "cat");
        expect(log).toContain("Watchdog timeout");
        expect(log.slice(log.lastIndexOf("Stopping "))).toContain("\nmsg=stopped\n");
        await must("dpkg", "--purge", "parityd");
        expect(readdirSync(at("srv")).sort()).toEqual(["d0.img", "d1.img", "d2.img"]);
        expect(await must("systemctl", "--failed", "--quiet", "--no-legend")).toBe("");
      } finally {
        await end();
      }
    },
  );
});

async function untilLogged(inside: Inside, words: string, unit = "parityd"): Promise<void> {
  for (;;) {
    const { stdout } = await inside("journalctl", "--no-pager", "-u", unit, "-o", "cat");
    if (stdout.includes(words)) return;
    await Bun.sleep(100);
  }
}
