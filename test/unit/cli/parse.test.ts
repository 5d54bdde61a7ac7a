/**
 * Goal: a command line is either exactly what the table says or a usage error; nothing is guessed.
 * Method: every command of the table is tried with each of its flags, with an unknown one, with an
 * operand too few and too many, and with --help.
 */
import { expect, test } from "bun:test";
import { type CommandSpec, parseCommandLine } from "../../../src/cli/command.ts";
import { parseBytes } from "../../../src/cli/quantity.ts";
import { COMMANDS } from "../../../src/cli/table.ts";
import { helpText } from "../../../src/cli/usage.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { runCli } from "../../helpers/fake-host.ts";

/** The shortest right command line. */
function minimal(command: CommandSpec): string[] {
  const operands = command.operands.filter((operand) => operand.optional !== true);
  return [...command.path, ...operands.map((operand) => operand.name.toLowerCase())];
}

for (const command of COMMANDS) {
  const name = command.path.join(" ");
  const words = minimal(command);

  test(`parse: ${name}: the shortest line, and each flag`, () => {
    const plain = parseCommandLine(COMMANDS, words);
    expect(plain).toMatchObject({
      ok: true,
      value: { kind: "run", command: { path: command.path } },
    });
    for (const [option, spec] of Object.entries(command.options)) {
      const value = spec.fallback === undefined ? "v" : "7";
      const flag = spec.type === "string" ? [`--${option}`, value] : [`--${option}`];
      const parsed = parseCommandLine(COMMANDS, [...words, ...flag]);
      if (!parsed.ok || parsed.value.kind !== "run") throw new Error(`${name} ${flag.join(" ")}`);
      const { invocation } = parsed.value;
      if (spec.type === "boolean") expect(invocation.isSet(option)).toBe(true);
      else if (spec.multiple === true) expect(invocation.texts(option)).toEqual([value]);
      else expect(invocation.text(option)).toBe(value);
      expect(invocation.operands).toEqual(words.slice(command.path.length));
    }
  });

  test(`parse: ${name}: an unknown flag, a word too many, one too few: refused`, () => {
    const unknown = parseCommandLine(COMMANDS, [...words, "--frobnicate"]);
    expect(unknown).toMatchObject({ ok: false, error: { topic: command.path } });
    if (!unknown.ok) expect(unknown.error.message).toContain("--frobnicate");
    if (!command.operands.some((operand) => operand.many === true)) {
      const extra = command.operands.map((operand) => operand.name);
      expect(parseCommandLine(COMMANDS, [...command.path, ...extra, "extra"]).ok).toBe(false);
    }
    if (words.length > command.path.length) {
      expect(parseCommandLine(COMMANDS, words.slice(0, -1)).ok).toBe(false);
    }
  });

  test(`help: ${name}: names each operand and flag`, async () => {
    const { exitCode, stdout, stderr } = await runCli(`${name} --help`);
    expect([exitCode, stderr]).toEqual([0, ""]);
    for (const operand of command.operands) expect(stdout).toContain(operand.name);
    for (const option of Object.keys(command.options)) expect(stdout).toContain(`--${option}`);
  });
}

test("usage errors: one line on stderr, nothing on stdout, exit 64", async () => {
  for (const line of [
    "",
    "--bogus",
    "bogus",
    "array",
    "array bogus",
    "array create",
    "scrub start",
    "status --chek",
    "attach file",
    "attach file --socket /tmp/s --name a/b",
    "array create x a b c --chunk 64kB",
    "array create x a b c --chunk 1000",
    "scrub start x --mode fix",
    "scrub start x --limit fast",
    "job show x",
    "events --since yesterday",
  ]) {
    const { exitCode, stdout, stderr } = await runCli(line);
    expect({ line, exitCode, stdout }).toEqual({ line, exitCode: 64, stdout: "" });
    expect(stderr.split("\n")).toHaveLength(1);
    expect(stderr).toStartWith("parityd: ");
  }
});

test("help: without a verb, of a group, of all: exit 0", async () => {
  for (const line of ["--help", "-h", "help", "array --help", "help array", "help array create"]) {
    const { exitCode, stdout } = await runCli(line);
    expect([line, exitCode]).toEqual([line, 0]);
    expect(stdout).toContain("parityd array create NAME DRIVE...");
  }
});

test("version: as a verb and as a flag", async () => {
  expect((await runCli("version")).stdout).toMatch(/^parityd \S+$/);
  expect((await runCli("--version")).stdout).toBe((await runCli("version")).stdout);
});

test("sizes: binary units only", () => {
  for (const [text, bytes] of [
    ["4096B", 4_096],
    ["64KiB", 65_536],
    ["200MiB/s", 209_715_200],
    ["1.5GiB", 1_610_612_736],
    ["2 TiB", 2_199_023_255_552],
    ["7B", 7],
  ] as const) {
    expect(parseBytes(text)).toEqual({ ok: true, value: bytes });
  }
  for (const text of [
    "",
    "0",
    "64",
    "200/s",
    "-1",
    "64kB",
    "64K",
    "1MB",
    "MiB",
    "1e6",
    "9007199254740993TiB",
  ]) {
    expect(parseBytes(text)).toMatchObject({ ok: false });
  }
  expect(parseBytes("64")).toMatchObject({
    error: '"64" has no unit: write 64KiB or 64MiB, or 64B for bytes',
  });
});

test("help: of all, of each command and each topic: no line wider than 80 columns", () => {
  const topics = ALL_COMMANDS.flatMap(({ path }) => path.map((_word, at) => path.slice(0, at + 1)));
  for (const topic of [[], ...topics]) {
    const wide = helpText(ALL_COMMANDS, topic)
      .split("\n")
      .filter((line) => line.length > 80);
    expect([topic, wide]).toEqual([topic, []]);
  }
});

test("help: a term and its text are beside each other, or one below the other", () => {
  const lines = helpText(ALL_COMMANDS, []).split("\n");
  const at = lines.indexOf("  parityd array create NAME DRIVE...");
  expect(lines[at + 1]).toBe(`${" ".repeat(34)}Create a RAID5 array of 3 to 16 drives`);
  expect(lines).toContain("  parityd drive list              List the drives");
});
