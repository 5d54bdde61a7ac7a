/**
 * Every file of an installation: the one list that the package and `parityd install-files` write.
 *
 *   PREFIX/bin/parityd                           the executable
 *   /etc/parityd/parityd.toml                    the configuration, all of it comments
 *   PREFIX/lib/systemd/system/parityd.service
 *   PREFIX/lib/udev/rules.d/62-parityd.rules     behind ID_FS_* (60), before mdadm's (64)
 *   PREFIX/share/man/man1, man5                  parityd(1), parityd.toml(5)
 *   PREFIX/share/bash-completion/completions/parityd
 *   PREFIX/share/parityd/                        rules for Prometheus, a dashboard for Grafana,
 *                                                a drop-in for `export attach`
 *   PREFIX/share/doc/parityd/                    licences; examples/ for cron and a timer
 *
 * PREFIX/lib/ocf/resource.d/parityd/ is kept for a resource agent of Pacemaker.
 */
import { DEFAULT_CONFIG_PATH } from "../appliance/config.ts";
import { defaultConfigText } from "../appliance/config-text.ts";
import type { CommandSpec } from "../cli/command.ts";
import { dashboard } from "./dashboard.ts";
import alertRules from "./files/alert-rules.yaml" with { type: "text" };
import completion from "./files/completion.bash" with { type: "text" };
import copyright from "./files/copyright.txt" with { type: "text" };
import apache from "./files/licences/apache-2.0.txt" with { type: "text" };
import lesser from "./files/licences/lgpl-2.0.txt" with { type: "text" };
import lesser21 from "./files/licences/lgpl-2.1.txt" with { type: "text" };
import cron from "./files/parityd.cron" with { type: "text" };
import udevRules from "./files/parityd.rules" with { type: "text" };
import service from "./files/parityd.service" with { type: "text" };
import attachDropIn from "./files/parityd-attach.conf" with { type: "text" };
import checkService from "./files/parityd-check.service" with { type: "text" };
import checkTimer from "./files/parityd-check.timer" with { type: "text" };
import { commandManual, configManual } from "./manual.ts";

export const DEFAULT_PREFIX = "/usr/local";

/** Where systemd, udev and man look by themselves: the configuration is then that of the host. */
export function isHostPrefix(prefix: string): boolean {
  return prefix === "/usr" || prefix === DEFAULT_PREFIX;
}

export interface InstalledFile {
  /** Absolute. */
  readonly path: string;
  readonly mode: number;
  /** What it holds, or the file that it is a copy of. */
  readonly content: string | Uint8Array | { readonly copyOf: string };
  /** People change it: an upgrade leaves it alone then, and so does a removal. */
  readonly isConfiguration: boolean;
}

export interface ListOptions {
  /** Absolute, without a slash at its end. */
  readonly prefix: string;
  /** The compiled program. */
  readonly executable: string;
  readonly table: readonly CommandSpec[];
  readonly version: string;
}

/** A prefix of its own has a configuration of its own, and the service names it. */
export function configPathOf(prefix: string): string {
  return isHostPrefix(prefix) ? DEFAULT_CONFIG_PATH : `${prefix}${DEFAULT_CONFIG_PATH}`;
}

export function fileList({ prefix, executable, table, version }: ListOptions): InstalledFile[] {
  const configPath = configPathOf(prefix);
  const config = configPath === DEFAULT_CONFIG_PATH ? "" : ` --config ${configPath}`;
  const here = (text: string): string =>
    text.replaceAll("@bin@", `${prefix}/bin`).replaceAll("@config@", config);
  const texts: Readonly<Record<string, string>> = {
    "lib/systemd/system/parityd.service": here(service),
    "lib/udev/rules.d/62-parityd.rules": here(udevRules),
    "share/bash-completion/completions/parityd": completion,
    "share/doc/parityd/apache-2.0.txt": apache,
    "share/doc/parityd/copyright": copyright,
    "share/doc/parityd/examples/parityd-check.service": here(checkService),
    "share/doc/parityd/examples/parityd-check.timer": checkTimer,
    "share/doc/parityd/examples/parityd.cron": here(cron),
    "share/doc/parityd/lgpl-2.0.txt": lesser,
    "share/doc/parityd/lgpl-2.1.txt": lesser21,
    "share/man/man1/parityd.1": commandManual(table, version),
    "share/man/man5/parityd.toml.5": configManual(version),
    "share/parityd/grafana-dashboard.json": dashboard(),
    "share/parityd/parityd-attach.conf": attachDropIn,
    "share/parityd/prometheus-rules.yaml": alertRules,
  };
  return [
    {
      ...{ path: `${prefix}/bin/parityd`, mode: 0o755 },
      ...{ content: { copyOf: executable }, isConfiguration: false },
    },
    {
      ...{ path: configPath, mode: 0o644 },
      ...{ content: defaultConfigText(), isConfiguration: true },
    },
    ...Object.entries(texts).map(([name, content]) => ({
      ...{ path: `${prefix}/${name}`, mode: 0o644, content },
      isConfiguration: false,
    })),
  ];
}
