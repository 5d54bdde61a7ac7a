/**
 * A Debian of a test's own: a folder made by mmdebstrap, which can be entered by chroot, and booted
 * with systemd as a container (systemd-nspawn) with a network of its own.
 */
import { existsSync, readFileSync } from "node:fs";
import { type Finished, keepTrack, mustRun, runProgram } from "./daemon.ts";
import { DEBIAN_MIRROR, type Need, toolPath } from "./needs.ts";

/** Of `makeDebianRoot`, with a package of parityd to be installed in it. */
export const ROOT_NEEDS = [
  "lintian",
  "mmdebstrap",
  "debian-mirror",
  "root",
  "namespaces",
] as const satisfies readonly Need[];

/** Not there: the environment of who runs the tests. */
export const ROOT_ENVIRONMENT = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  DEBIAN_FRONTEND: "noninteractive",
} as const;

/** A mirror that stalls is asked once more, from the begin. */
const TRIES = 2;
const TRY_SECONDS = 150;

/** Makes `root`: what is essential, systemd, and the packages named. */
export async function makeDebianRoot(root: string, packages: readonly string[] = []) {
  const excluded = ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*"];
  const include = ["systemd", ...packages].join(",");
  const words = [
    ...["timeout", "--kill-after=10", `${TRY_SECONDS}`],
    ...["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", `--include=${include}`],
    ...["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::http::Timeout "20"'],
    ...excluded.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
    ...["bookworm", root, `deb ${DEBIAN_MIRROR} bookworm main`],
  ];
  for (let left = TRIES; left > 1; left -= 1) {
    if ((await runProgram(words)).exitCode === 0) return;
    await mustRun(["rm", "-rf", "--one-file-system", root]);
  }
  await mustRun(words);
}

/** Runs a command in `root` with /proc, in namespaces that end with it. */
export function inChroot(root: string, ...words: string[]): Promise<Finished> {
  const own = ["--mount", "--pid", "--fork", `--mount-proc=${root}/proc`];
  const all = [toolPath("unshare")!, ...own, "chroot", root, ...words];
  return runProgram(all, { environment: ROOT_ENVIRONMENT });
}

export type Inside = (...words: string[]) => Promise<Finished>;

export interface Booted {
  readonly inside: Inside;
  /** Before a command of the host: it then runs in these namespaces of the container's. */
  within(...namespaces: ("all" | "mount" | "net" | "pid" | "uts")[]): string[];
  /** Powers it off; resolves when it is gone. */
  end(): Promise<void>;
}

export interface BootOptions {
  /** Device nodes of the host that it shall have. */
  readonly devices?: readonly string[];
  /** What a host whose systemd runs the container lets it open ("block-loop rwm"). */
  readonly allowed?: readonly string[];
}

/** Boots a root with a network of its own; answers when systemd has started all that it starts. */
export async function boot(
  root: string,
  { devices = [], allowed = [] }: BootOptions = {},
): Promise<Booted> {
  // Where systemd runs the host it is asked for a scope; elsewhere there is nobody to ask.
  const isAlone = !existsSync("/run/systemd/system");
  const scope = isAlone
    ? ["--register=no", "--keep-unit"]
    : allowed.map((rule) => `--property=DeviceAllow=${rule}`);
  const child = keepTrack(
    Bun.spawn(
      [
        ...[toolPath("systemd-nspawn")!, "--quiet", ...scope, "--private-network", "--boot"],
        ...devices.map((path) => `--bind=${path}`),
        ...[`--machine=parityd-${process.pid}`, "-D", root, "systemd.unit=multi-user.target"],
      ],
      { stdin: "ignore", stdout: "ignore", stderr: "ignore" },
    ),
  );
  const leaderOf = async (): Promise<string> => {
    for (;;) {
      const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8");
      const leader = children.trim().split(" ").find(isInit);
      if (leader !== undefined) return leader;
      if (child.exitCode !== null) throw new Error(`systemd-nspawn ended (${child.exitCode})`);
      await Bun.sleep(50);
    }
  };
  const leader = await leaderOf();
  const within: Booted["within"] = (...namespaces) => [
    ...[toolPath("nsenter")!, "-t", leader],
    ...namespaces.map((name) => `--${name}`),
  ];
  const inside: Inside = (...words) =>
    runProgram([...within("all"), ...words], { environment: ROOT_ENVIRONMENT });
  for (;;) {
    const { stdout } = await inside("systemctl", "is-system-running", "--wait");
    if (/^(running|degraded)\n$/.test(stdout)) break;
    if (child.exitCode !== null) throw new Error(`systemd-nspawn ended (${child.exitCode})`);
    await Bun.sleep(100);
  }
  const end = async (): Promise<void> => {
    await inside("systemctl", "poweroff");
    await child.exited;
  };
  return { inside, within, end };
}

/** Its first process. systemd-nspawn has another child for a moment, which makes this one. */
function isInit(pid: string): boolean {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    return /^Name:\tsystemd$/m.test(status) && /^NSpid:.*\t1$/m.test(status);
  } catch {
    return false; // It has ended.
  }
}
