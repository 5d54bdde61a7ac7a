/**
 * Goal: on a terminal every line fits and states have colours, and a pipe gets neither; a page that
 * is watched is drawn over itself, ends at a signal and gives the terminal back.
 * Method: the texts as functions; every verb's help at 80 columns; watched pages over a host that
 * keeps what is drawn.
 */
import { expect, test } from "bun:test";
import type { JobStatus } from "../../../src/array/protocol.ts";
import type { CliHost, Terminal } from "../../../src/cli/host.ts";
import { progressLine } from "../../../src/cli/progress.ts";
import { renderTable } from "../../../src/cli/table-text.ts";
import { dress, pageLines, wrapLine } from "../../../src/cli/terminal-text.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { type FakeHostOptions, runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { until } from "../../helpers/until.ts";

const PLAIN: Terminal = { columns: 80, rows: 24, hasColours: false };
const COLOURED: Terminal = { ...PLAIN, hasColours: true };

/** A host whose stdout is this terminal: what it is given is kept as it would stand there. */
function on(terminal: Terminal): { options: FakeHostOptions; printed: string[] } {
  const printed: string[] = [];
  const print: CliHost["print"] = (line, dressed = (clean) => clean) => printed.push(dressed(line));
  return { printed, options: { overrides: { terminal, print } } };
}

test("wrap: at blanks, below where the text began; commands stay whole where they fit", () => {
  const action = " action: replace it: parityd member add raid_test NEW_DRIVE; or do nothing";
  expect(wrapLine(action, 80)).toBe(action);
  expect(wrapLine(action, 59).split("\n")).toEqual([
    " action: replace it:",
    "         parityd member add raid_test NEW_DRIVE; or do",
    "         nothing",
  ]);
  const facts = "  array: tank   state: clean   size: 8.0 TiB";
  expect(wrapLine(facts, 40).split("\n")).toEqual([
    "  array: tank   state: clean   size: 8.0",
    "         TiB",
  ]);
  // One that does not fit is broken like all else.
  expect(wrapLine(action, 30).split("\n")).toEqual([
    " action: replace it: parityd",
    "         member add raid_test",
    "         NEW_DRIVE; or do",
    "         nothing",
  ]);
  expect(wrapLine("  --flag WORD  some help of it", 24).split("\n")).toEqual([
    "  --flag WORD  some help",
    "      of it",
  ]);
  expect(wrapLine("  --flag  some help of it", 24).split("\n")).toEqual([
    "  --flag  some help of",
    "          it",
  ]);
  const uri = `nbd+unix:///tank?socket=/${"x".repeat(90)}`;
  expect(wrapLine(uri, 80)).toBe(uri);
});

test("wrap: any text at any width: no word is lost, no line is longer than its longest word", () => {
  const words = "the array cannot do without: parityd array show x; a (b) cc ddd eeeeeeeeee".split(
    " ",
  );
  for (let count = 1; count <= words.length; count += 1) {
    for (const lead of ["", "  ", " action: ", "   one  two  "]) {
      const line = lead + words.slice(0, count).join(" ");
      for (let columns = 20; columns < 90; columns += 1) {
        const lines = wrapLine(line, columns).split("\n");
        expect(lines.join(" ").replace(/ +/g, " ").trim()).toBe(line.replace(/ +/g, " ").trim());
        for (const one of lines) expect(one.length).toBeLessThanOrEqual(columns);
      }
    }
  }
});

test("colours: states as cells and facts, action lines bold; nothing else, and none where they are off", () => {
  const of = (text: string) => dress(text, COLOURED).replaceAll("\u001b", "^");
  expect(of("  array: a   state: degraded (2 of 3 members)")).toBe(
    "  array: a   state: ^[33mdegraded^[0m (2 of 3 members)",
  );
  expect(of("     0  d0  in-sync     0")).toBe("     0  d0  ^[32min-sync^[0m     0");
  expect(of("     2  d2  faulty  3")).toBe("     2  d2  ^[31mfaulty^[0m  3");
  expect(of("tank is clean")).toBe("tank is ^[32mclean^[0m");
  expect(of(" action: start it")).toBe("^[1m action: start it^[0m");
  expect(of("the last scrub failed at once, cleanly done")).not.toContain("^");
  expect(dress("tank is clean\n action: x", PLAIN)).toBe("tank is clean\n action: x");
  // Each line of a command that is broken has its own.
  const long = of(` action: ${"word ".repeat(30)}`).split("\n");
  expect(long.length).toBeGreaterThan(1);
  for (const line of long) expect(line).toMatch(/^\^\[1m.{1,80}\^\[0m$/);
});

test("table: a sentence in the last column goes on below itself; a word that is too long is cut", () => {
  const why = "left alone: a former member, in which another drive has its role: not taken";
  expect(renderTable(["path", "size", "what"], [["/dev/sdb", 7, why]], 50)).toEqual([
    "path      size  what",
    "/dev/sdb     7  left alone: a former member, in",
    "                which another drive has its role:",
    "                not taken",
  ]);
  expect(renderTable(["path", "what"], [["/dev/sdb", why]])[1]).toBe(`/dev/sdb  ${why}`);
  expect(renderTable(["path", "uuid"], [["/dev/sdb", "0123456789abcdef"]], 20)[1]).toBe(
    "/dev/sdb  012345678…",
  );
});

const LISTS = [
  ...["array list", "drive list", "export list", "job list", "spare list", "schedule show"],
  ...["drive scan --dry-run", "events", "log", "schema"],
];

test("lists: on a terminal of 80 columns every line fits; in a pipe nothing is cut or coloured", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const name = "customers-and-invoices-of-2026";
  for (const line of [
    `array set raid_test --name ${name}`,
    `export add ${name} ${name} --allow-address 10.0.0.0/8 --allow-certificate backup-host`,
    `spare add d --array ${name}`,
    `scrub start ${name}`,
  ]) {
    expect((await runCli(line, { daemon })).exitCode).toBe(0);
  }
  const zone = ["--cron", "0 1 * * *", "--timezone", "America/Argentina/Buenos_Aires"];
  expect((await runCli(["schedule", "set", name, ...zone], { daemon })).exitCode).toBe(0);
  for (const line of LISTS) {
    const { options, printed } = on(COLOURED);
    expect([line, (await runCli(line, { daemon, ...options })).exitCode]).toEqual([line, 0]);
    for (const shown of printed.flatMap((text) => Bun.stripANSI(text).split("\n"))) {
      expect([line, shown, shown.length <= 80]).toEqual([line, shown, true]);
    }
    const { stdout } = await runCli(line, { daemon });
    for (const strange of ["\u001b", "…"]) expect([line, stdout]).not.toContain(strange);
    expect([line, /[ \t]$/m.test(stdout)]).toEqual([line, false]);
  }
  // Times and addresses are whole, or they say nothing.
  const { options, printed } = on(PLAIN);
  await runCli("schedule show", { daemon, ...options });
  await runCli("export list", { daemon, ...options });
  expect(printed.join("\n")).toContain("next window 2023-11-15T04:00:00.000Z");
  expect(printed).toContain(`  nbd+unix:///${name}?socket=/run/parityd/nbd.sock`);
});

test("table: cells of words give way, the widest first; numbers never", () => {
  const rows = [
    ["raid_test", "ata-WDC_WD40EFZX_1A_and_a_long_serial", 12_345],
    ["b", "short", 7],
  ];
  const header = ["array", "device", "count"];
  const whole = renderTable(header, rows);
  expect(renderTable(header, rows, whole[1]!.length)).toEqual(whole);
  expect(renderTable(header, rows, 40)).toEqual([
    "array      device                  count",
    "raid_test  ata-WDC_WD40EFZX_1A_a…  12345",
    "b          short                       7",
  ]);
  expect(renderTable(header, rows, 1)).toEqual([
    "array   device  count",
    "raid_…  ata-W…  12345",
    "b       short       7",
  ]);
});

test("page: as many lines as there is room for, and how many more there are", () => {
  const page = Array.from({ length: 30 }, (_, index) => `line ${index}`);
  const shown = pageLines(page, PLAIN);
  expect(shown).toHaveLength(24);
  expect(shown.at(-1)).toBe("and 7 more lines");
  expect(pageLines(page.slice(0, 24), PLAIN)).toEqual(page.slice(0, 24));
});

test("progress: the bar gives way, and no line reaches the last column", () => {
  const job = {
    ...{ kind: "rebuild", done: 412_000_000_000, total: 1_000_000_000_000 },
    ...{ rateBytesPerSecond: 212_000_000, etaSeconds: 8_460 },
  } as unknown as JobStatus;
  expect(progressLine(job, 120)).toMatch(/^rebuild \[#{9}-{15}\] {2}41\.2 % {2}/);
  for (let columns = 20; columns < 130; columns += 1) {
    expect(progressLine(job, columns).length).toBeLessThan(columns);
  }
  expect(progressLine(job, 80)).toMatch(/^rebuild \[#+-+\] {2}41\.2 %.* left$/);
});

test("help: of every verb, at 80 columns: no line is longer", async () => {
  for (const topic of [[], ...ALL_COMMANDS.map(({ path }) => path)]) {
    const { printed, options } = on(PLAIN);
    await runCli(["help", ...topic], options);
    for (const line of printed.join("\n").split("\n")) {
      expect([topic, line, line.length <= 80]).toEqual([topic, line, true]);
    }
  }
});

test("status: on a terminal: fits and has colours; with --json, and elsewhere: neither", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await runCli("member fail raid_test b", { daemon });
  await runCli("schedule set raid_test --cron @daily --window 1h", { daemon });
  const coloured = on(COLOURED);
  await runCli("status", { daemon, ...coloured.options });
  const text = coloured.printed.join("\n");
  expect(text).toContain("state: \u001b[33mdegraded\u001b[0m (2 of 3 members)");
  expect(text).toContain("\u001b[1m action: ");
  for (const line of Bun.stripANSI(text).split("\n")) expect(line.length).toBeLessThanOrEqual(80);
  const json = on(COLOURED);
  await runCli("status --json", { daemon, ...json.options });
  expect(JSON.parse(json.printed.join("\n")).schema).toBe("parityd.status/1");
  const piped = await runCli("status", { daemon });
  expect(piped.stdout).not.toContain("\u001b");
  expect(piped.stdout.split("\n").some((line) => line.length > 80)).toBe(true);
});

test("status --watch: drawn on a terminal until a signal; then the terminal is given back", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const drawn: (readonly string[] | null)[] = [];
  let signal: (name: string) => void = () => {};
  const { options, printed } = on(PLAIN);
  const watching = runCli("status --watch 0.1", {
    daemon,
    overrides: {
      ...options.overrides,
      draw: (page) => drawn.push(page),
      onSignal: (listener) => {
        signal = listener;
      },
    },
  });
  await until("two pages", () => drawn.length >= 2);
  await runCli("member fail raid_test b", { daemon });
  await until("what changed is seen", () => drawn.at(-1)!.join().includes("state: degraded"));
  signal("SIGINT");
  expect(await watching).toMatchObject({ exitCode: 0, stderr: "" });
  expect(drawn[0]!.join()).toContain("state: clean");
  expect(drawn.at(-1)).toBe(null);
  expect(printed).toEqual([]);
});

test("status --watch: in a pipe: a page each time with a line between; ends by --timeout", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const watched = await runCli("status --watch=0.1 --timeout 0.35", { daemon });
  expect([watched.exitCode, watched.stderr]).toEqual([0, ""]);
  const pages = watched.stdout.split(`\n${"-".repeat(72)}\n`);
  expect(pages.length).toBeGreaterThan(1);
  for (const page of pages) expect(page).toStartWith("  array: raid_test   state: clean");
  const documents = await runCli("status --watch 0.1 --json --timeout 0.35", { daemon });
  for (const line of documents.stdout.split("\n")) {
    expect(JSON.parse(line).schema).toBe("parityd.status/1");
  }
  for (const line of ["status --watch 0", "status --watch 5 --check"]) {
    expect(await runCli(line, { daemon })).toMatchObject({ exitCode: 64, stdout: "" });
  }
  expect((await runCli("status --watch raid", { daemon })).stderr).toBe(
    "parityd: there is no array raid",
  );
  expect(await runCli("status --watch", {})).toMatchObject({ exitCode: 69 });
});
