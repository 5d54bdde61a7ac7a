/**
 * Goal: what is installed says what the program does: no command, flag, setting or metric is left
 * out of it, or only there.
 * Method: every text of the list is held against the tables that it is made of, and against the
 * metrics of a daemon.
 */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { NO_PERMISSION } from "../../../src/appliance/attach/nbd-driver.ts";
import { parseConfig, SETTINGS } from "../../../src/appliance/config.ts";
import { configText, defaultConfigText } from "../../../src/appliance/config-text.ts";
import { CONFIG_OPTIONS } from "../../../src/cli/config-options.ts";
import { RUN_DIR_VARIABLE } from "../../../src/cli/run-dir.ts";
import { FILES } from "../../../src/cli/verbs/complete.ts";
import { fileList } from "../../../src/install/file-list.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { startMeasuredAppliance } from "../../helpers/sim-appliance.ts";

const EXECUTABLE = "/tmp/parityd";

function listAt(prefix: string) {
  return fileList({ prefix, executable: EXECUTABLE, table: ALL_COMMANDS, version: "9.8.7" });
}

function textOf(end: string, prefix = "/usr"): string {
  const file = listAt(prefix).find(({ path }) => path.endsWith(end));
  if (typeof file?.content !== "string") throw new Error(`${end} is no text of the list`);
  return file.content;
}

/** A page as a reader sees it: no macros, no escapes. */
function plain(page: string): string {
  return page
    .replace(/\\f[BIR]/g, "")
    .replaceAll("\\-", "-")
    .replaceAll("\\(aq", "'")
    .replaceAll("\\(ga", "`")
    .replaceAll("\\&", "")
    .replaceAll("\\e", "\\");
}

test.each(["/usr", "/usr/local", "/opt/parityd"])(
  "list: %s: all below it, in one place",
  (prefix) => {
    const files = listAt(prefix);
    const config = files.filter(({ isConfiguration }) => isConfiguration).map(({ path }) => path);
    const own = prefix === "/opt/parityd" ? prefix : "";
    expect(config).toEqual([`${own}/etc/parityd/parityd.toml`]);
    for (const { path, mode, content } of files) {
      expect(path.startsWith(`${prefix}/`) || config.includes(path)).toBe(true);
      const isProgram = path === `${prefix}/bin/parityd`;
      expect([path, mode]).toEqual([path, isProgram ? 0o755 : 0o644]);
      if (typeof content !== "string") expect(content).toEqual({ copyOf: EXECUTABLE });
      else {
        expect(content).toEndWith("\n");
        expect(content).not.toMatch(/@\w+@/);
      }
    }
    expect(new Set(files.map(({ path }) => path)).size).toBe(files.length);
    const flags = own === "" ? "" : ` --config ${config[0]}`;
    const service = textOf("/system/parityd.service", prefix);
    expect(service).toContain(`\nExecStart=${prefix}/bin/parityd serve${flags}\n`);
    expect(textOf(".rules", prefix)).toContain(`"${prefix}/bin/parityd keeps $env{ID_FS_UUID}"`);
  },
);

test("service: what it must not lack, by the manners of the host", () => {
  const lines = textOf("/system/parityd.service").split("\n");
  for (const line of [
    "Type=notify",
    "WorkingDirectory=/",
    "LimitMEMLOCK=infinity",
    "DevicePolicy=closed",
    "DeviceAllow=block-* rw",
    // All that is needed by who does not attach exports; for those, the driver's netlink.
    "CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_RAWIO CAP_NET_BIND_SERVICE",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "MemoryDenyWriteExecute=no",
    "RuntimeDirectory=parityd",
    "StateDirectory=parityd",
    'ExecReload=/bin/sh -c "kill -HUP $MAINPID"',
  ]) {
    expect(lines).toContain(line);
  }
  const unset = lines.find((line) => line.startsWith("UnsetEnvironment="));
  for (const name of ["BUN_OPTIONS", "BUN_BE_BUN", "NODE_OPTIONS"]) expect(unset).toContain(name);
});

test("attach: a drop-in that is installed adds the capability, and the refusal names its place", () => {
  const lines = textOf("/parityd-attach.conf").split("\n");
  const said = lines.filter((line) => line !== "" && !line.startsWith("#"));
  expect(said).toEqual(["[Service]", "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_RESOURCE"]);
  const name = "share/parityd/parityd-attach.conf";
  expect(listAt("/usr").map(({ path }) => path)).toContain(`/usr/${name}`);
  const prefix = dirname(dirname(process.execPath));
  expect(NO_PERMISSION.detail).toContain(
    `install -D -m 644 ${prefix}/${name} /etc/systemd/system/parityd.service.d/attach.conf`,
  );
});

test("parityd.1: every command with its flags, and no hidden one", () => {
  const page = plain(textOf("parityd.1"));
  for (const { path, options, summary, isHidden } of ALL_COMMANDS) {
    const name = `parityd ${path.join(" ")}`;
    expect([name, page.includes(summary)]).toEqual([name, isHidden !== true]);
    if (isHidden === true) continue;
    for (const [option, { help }] of Object.entries(options)) {
      expect(page).toContain(`--${option}`);
      expect(page).toContain(help);
    }
  }
  expect(page).toContain(RUN_DIR_VARIABLE);
});

/** They are for the file: lists, and whom an event is told. */
const WITHOUT_FLAG: ReadonlySet<string> = new Set([
  ...["apiHosts", "onEvent", "onEventLeast", "onEventTimeoutSeconds", "webhook"],
]);

test("settings: each is in the schema, the manual, the file and, but for lists and alerts, a flag", () => {
  const page = plain(textOf("parityd.toml.5"));
  const file = defaultConfigText();
  const unknown = parseConfig(
    Object.keys(SETTINGS)
      .map((key) => `${key} = -1.5\n`)
      .join(""),
    {},
  );
  expect(unknown).toMatchObject({ ok: false });
  if (!unknown.ok) expect(unknown.error).not.toContain("unknown key");
  for (const [key, { help, more, flagValue }] of Object.entries(SETTINGS)) {
    for (const words of [key, help.slice(1), more]) expect(page).toContain(words);
    expect(file).toContain(`\n#${key} = `);
    expect([key, flagValue === null]).toEqual([key, WITHOUT_FLAG.has(key)]);
  }
  const flags = Object.values(SETTINGS).filter(({ flagValue }) => flagValue !== null);
  expect(Object.keys(CONFIG_OPTIONS)).toHaveLength(flags.length + 1);
});

test("parityd.toml: as it is, uncommented, and with its examples: what serve takes", () => {
  const file = textOf("parityd.toml");
  const defaults = parseConfig(null, {});
  expect(file).toBe(defaultConfigText());
  expect(parseConfig(file, {})).toEqual(defaults);
  const lines = file.split("\n");
  const set = lines.filter((line, index) => {
    return /^#\w+ = /.test(line) && !lines[index - 1]?.includes("an example");
  });
  const uncommented = set.map((line) => line.slice(1)).join("\n");
  expect(parseConfig(uncommented, {})).toEqual(defaults);
  const all = lines.filter((line) => /^#\w+ = /.test(line)).map((line) => line.slice(1));
  const full = parseConfig(all.join("\n"), {});
  expect(full).toMatchObject({ ok: true, value: { nbdTls: "required", apiTcp: { port: 8080 } } });
  if (!full.ok || !defaults.ok) throw new Error("the file can be read");
  expect(Object.keys(full.value).sort()).toEqual(Object.keys(SETTINGS).sort());
  // What `config show` prints is a file that says the same.
  for (const config of [full.value, defaults.value]) {
    expect(parseConfig(configText(config), {})).toEqual({ ok: true, value: config });
  }
});

test("copyright: every package in the executable, and what Bun links, with a text for each", () => {
  const text = textOf("/copyright");
  const lock = JSON.parse(
    readFileSync(join(import.meta.dir, "../../../package-lock.json"), "utf8"),
  );
  const packages: Record<string, { dev?: boolean; peer?: boolean }> = lock.packages;
  for (const [path, { dev, peer }] of Object.entries(packages)) {
    const name = path.replace(/^.*node_modules\//, "");
    // yaml: openapi3-ts names it for functions that are not called, and the bundler leaves it out.
    if (path === "" || dev === true || peer === true || name === "yaml") continue;
    expect(text).toContain(name);
  }
  const licences = new Set([...text.matchAll(/^License: (.+)\n(?= )/gm)].map((match) => match[1]!));
  for (const [, named] of text.matchAll(/^License: (.+)\n(?! )/gm)) {
    for (const name of named!.split(" and "))
      expect([name, licences.has(name)]).toEqual([name, true]);
  }
  for (const name of ["apache-2.0.txt", "lgpl-2.0.txt", "lgpl-2.1.txt"]) {
    expect(text).toContain(name);
    expect(textOf(name).length).toBeGreaterThan(10_000);
  }
});

test("completion: bash asks the command that there is, and knows its word for files", () => {
  const script = textOf("/completions/parityd");
  expect(ALL_COMMANDS.some(({ path }) => path.join(" ") === "complete")).toBe(true);
  expect(script).toContain(`== "${FILES}"`);
});

/** `parityd_x{a="b"} 1` as the name and its labels. */
async function metricsOfADaemon(): Promise<Map<string, Set<string>>> {
  const daemon = await startMeasuredAppliance();
  const text = await (await daemon.call("GET", "/metrics")).text();
  const metrics = new Map<string, Set<string>>();
  for (const [, name, type] of text.matchAll(/^# TYPE (\w+) (\w+)/gm)) {
    metrics.set(type === "histogram" ? `${name}_bucket` : name!, new Set());
  }
  for (const [, name, labels] of text.matchAll(/^(\w+)\{(.*)\} /gm)) {
    // The sum and the count of a histogram have the labels of its buckets.
    const known = metrics.get(name!);
    for (const [, label] of labels!.matchAll(/(\w+)="/g)) known?.add(label!);
  }
  return metrics;
}

test("alert rules and dashboard: only metrics and labels that there are", async () => {
  const metrics = await metricsOfADaemon();
  const { groups } = Bun.YAML.parse(textOf("prometheus-rules.yaml")) as {
    groups: { rules: { expr: string }[] }[];
  };
  const asked = groups.flatMap(({ rules }) => rules.map(({ expr }) => expr));
  expect(asked.length).toBeGreaterThan(10);
  const { panels } = JSON.parse(textOf("grafana-dashboard.json"));
  for (const { targets } of panels) for (const { expr } of targets) asked.push(expr);
  const names = new Set<string>();
  for (const expression of asked) {
    for (const [, name, selector] of expression.matchAll(/(parityd_\w+)(?:\{([^}]*)\})?/g)) {
      names.add(name!);
      const labels = metrics.get(name!);
      expect([name, labels !== undefined]).toEqual([name, true]);
      for (const [, label] of (selector ?? "").matchAll(/(\w+)(?:=|!)/g)) {
        // A metric without a sample tells no labels: those of an array are known.
        const isKnown =
          labels!.size === 0 ? ["array", "error"].includes(label!) : labels!.has(label!);
        expect([name, label, isKnown]).toEqual([name, label, true]);
      }
    }
  }
  // What there is, is shown or watched; what is neither, a reader of the API is told of.
  const readme = readFileSync(join(import.meta.dir, "../../../src/api/README.md"), "utf8");
  const section = readme.slice(readme.indexOf("\n## Metrics\n"));
  const listed = [...section.matchAll(/^\| `(parityd_\w+)/gm)].map(([, name]) => name!);
  const unused = [...metrics.keys()].filter((name) => !names.has(name));
  expect(unused.sort()).toEqual(listed.sort());
});
