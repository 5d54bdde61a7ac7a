/** `parityd install-files`: what the package holds, without a package manager. */
import { existsSync, realpathSync } from "node:fs";
import { resolve } from "node:path";
import { VERSION } from "../appliance/version.ts";
import { fail, usageFailure } from "../cli/client.ts";
import type { CommandSpec, Invocation } from "../cli/command.ts";
import { ownCommand } from "../cli/drill/daemon.ts";
import { Exit } from "../cli/exit.ts";
import type { CliHost } from "../cli/host.ts";
import { tell } from "../cli/tell.ts";
import { DEFAULT_PREFIX, fileList, type InstalledFile, isHostPrefix } from "./file-list.ts";
import { type Done, install, type Place, remove } from "./installation.ts";

export const installFilesCommand: CommandSpec = {
  path: ["install-files"],
  summary: "Write what the package holds without a package manager, or remove it",
  examples: ["parityd install-files --print", "parityd install-files --prefix /usr/local"],
  answers: ["parityd.files/1", "parityd.installed/1"],
  operands: [],
  options: {
    print: { type: "boolean", help: "print what would be written, change nothing" },
    prefix: { type: "string", value: "DIR", names: "files", help: `below it (${DEFAULT_PREFIX})` },
    root: { type: "string", value: "DIR", names: "files", help: "as if DIR were /: for packagers" },
    force: {
      type: "boolean",
      help: "overwrite files that are not from here, or were changed; install beside the package; remove while it runs",
    },
    remove: { type: "boolean", help: "remove what was written and nobody has changed" },
    purge: { type: "boolean", help: "with --remove: the configuration too" },
  },
  run: (invocation, host, table) => {
    const place = placeOf(invocation);
    if (invocation.isSet("remove") && invocation.isSet("print")) {
      return usageFailure(host, "--print says what would be written: it does not go with --remove");
    }
    if (invocation.isSet("remove")) return removeFiles(place, invocation, host);
    if (invocation.isSet("purge")) return usageFailure(host, "--purge goes with --remove");
    const [executable = "", script] = ownCommand();
    const files = fileList({ prefix: place.prefix, executable, table, version: VERSION });
    if (invocation.isSet("print")) return print(files, invocation, host);
    if (script !== undefined) {
      const message =
        "this is no compiled executable: npm run build makes one that installs itself";
      return fail(host, { exitCode: Exit.failed, message });
    }
    const isForced = invocation.isSet("force");
    const refusal = packageInTheWay(place, { isForced, isPackageInstalled });
    if (refusal !== null) return fail(host, { exitCode: Exit.failed, message: refusal });
    const done = install(files, place, { isForced });
    if (!done.ok) return fail(host, { exitCode: Exit.failed, message: done.error });
    const next = `next: systemctl daemon-reload && systemctl enable --now ${unitOf(place)}`;
    tellDeeds(done.value, invocation, { host, more: place.root === "" ? [next] : [] });
    return Exit.ok;
  },
};

/**
 * The files of a package belong to its manager. A second parityd in /usr/local comes before it, in
 * PATH and for systemd, with the same configuration and state: an upgrade of the package would then
 * change nothing. Any other prefix has a configuration of its own. Null: nothing is in the way.
 */
export function packageInTheWay(
  place: Place,
  { isForced, isPackageInstalled }: { isForced: boolean; isPackageInstalled: () => boolean },
): string | null {
  if (place.root !== "" || !isHostPrefix(place.prefix)) return null;
  if (place.prefix !== "/usr" && isForced) return null;
  if (!isPackageInstalled()) return null;
  const message = "the package parityd is installed: apt and dpkg upgrade and remove it";
  if (place.prefix === "/usr") return message;
  return `${message}, and what lies in ${place.prefix} would run in its place (--force: so be it)`;
}

/** What runs would go on without its files, and could never be restarted. Null: nothing runs. */
export function serviceInTheWay(
  place: Place,
  { isForced, isServiceActive }: { isForced: boolean; isServiceActive: (place: Place) => boolean },
): string | null {
  if (place.root !== "" || isForced || !isServiceActive(place)) return null;
  return "the service parityd runs: systemctl disable --now parityd first (--force: remove all the same)";
}

/** Whether systemd runs the unit of this place: another prefix or the package may have one, too. */
function isServiceActive({ prefix }: Place): boolean {
  if (!existsSync("/run/systemd/system") || Bun.which("systemctl") === null) return false;
  if (Bun.spawnSync(["systemctl", "is-active", "--quiet", "parityd"]).exitCode !== 0) return false;
  const asked = ["systemctl", "show", "--property=FragmentPath", "--value", "parityd"];
  const unit = Bun.spawnSync(asked).stdout.toString().trim();
  const own = `${prefix}/lib/systemd/system/parityd.service`;
  return existsSync(unit) && existsSync(own) && realpathSync(unit) === realpathSync(own);
}

function isPackageInstalled(): boolean {
  if (Bun.which("dpkg-query") === null) return false;
  const asked = Bun.spawnSync(["dpkg-query", "--status", "parityd"], { stderr: "ignore" });
  return asked.stdout.toString().includes("\nStatus: install ok installed\n");
}

function placeOf(invocation: Invocation): Place {
  const root = resolve(invocation.text("root") ?? "/");
  const prefix = resolve(invocation.text("prefix") ?? DEFAULT_PREFIX);
  return { root: root === "/" ? "" : root, prefix: prefix === "/" ? "" : prefix };
}

/** Its name where systemd finds it by itself; else its path, of which `enable` makes a link. */
function unitOf({ prefix }: Place): string {
  return isHostPrefix(prefix) ? "parityd" : `${prefix}/lib/systemd/system/parityd.service`;
}

function removeFiles(place: Place, invocation: Invocation, host: CliHost): number {
  const isForced = invocation.isSet("force");
  const refusal = serviceInTheWay(place, { isForced, isServiceActive });
  if (refusal !== null) return fail(host, { exitCode: Exit.failed, message: refusal });
  const done = remove(place, { isPurge: invocation.isSet("purge") });
  if (!done.ok) return fail(host, { exitCode: Exit.failed, message: done.error });
  tellDeeds(done.value, invocation, {
    host,
    more: place.root === "" ? ["next: systemctl daemon-reload"] : [],
  });
  return Exit.ok;
}

function print(files: readonly InstalledFile[], invocation: Invocation, host: CliHost): number {
  const listed = files.map(({ path, mode, isConfiguration }) => ({ path, mode, isConfiguration }));
  const lines = listed.map(({ path, mode, isConfiguration }) => {
    const remark = isConfiguration ? "  (configuration)" : "";
    return `${mode.toString(8).padStart(4, "0")} ${path}${remark}`;
  });
  const value = { files: listed };
  tell(invocation, host, { schema: "parityd.files/1", value, lines: () => lines });
  return Exit.ok;
}

function tellDeeds(
  done: readonly Done[],
  invocation: Invocation,
  { host, more }: { host: CliHost; more: readonly string[] },
): void {
  const lines = [...done.map(({ path, deed }) => `${deed}: ${path}`), ...more];
  tell(invocation, host, { schema: "parityd.installed/1", value: { done }, lines: () => lines });
}
