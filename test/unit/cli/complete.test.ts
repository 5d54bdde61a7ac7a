/**
 * Goal: a shell is told all that may come next, and nothing that may not.
 * Method: unfinished lines against the command table, and against a daemon that has names.
 */
import { expect, test } from "bun:test";
import { completionAt } from "../../../src/cli/complete.ts";
import { COMMANDS } from "../../../src/cli/table.ts";
import { runCli } from "../../helpers/fake-host.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

/** `line` split at blanks; what follows the last blank is being written. */
function at(line: string) {
  return completionAt(COMMANDS, line.split(" "));
}

test("complete: every command: found word by word, with its flags, each once", () => {
  for (const { path, options, isHidden } of COMMANDS) {
    if (isHidden === true) continue;
    for (const [index, word] of path.entries()) {
      expect(at([...path.slice(0, index), ""].join(" ")).words).toContain(word);
    }
    const flags = Object.keys(options).map((name) => `--${name}`);
    const offered = at(`${path.join(" ")} --`).words.filter((word) => word.startsWith("--"));
    expect(offered).toEqual([...flags, "--help"]);
    for (const [name, { type, multiple }] of Object.entries(options)) {
      const given = type === "string" ? `--${name} v` : `--${name}`;
      const { words } = at(`${path.join(" ")} ${given} --`);
      expect([name, words.includes(`--${name}`)]).toEqual([name, multiple === true]);
    }
  }
});

test("complete: hidden commands and what is no command: nothing", () => {
  expect(at("").words).not.toContain("complete");
  for (const line of ["complete ", "frobnicate ", "array frobnicate ", "keeps --"]) {
    expect(at(line)).toMatchObject({ words: [], names: null });
  }
});

test.each([
  ["array show ", "arrays"],
  ["array create t ", "drives"],
  ["array create t a b ", "drives"],
  ["array create t --spare ", "drives"],
  ["member replace t a ", "drives"],
  ["export remove ", "exports"],
  ["job wait --timeout 3 ", "jobs"],
  ["drive show ", "drives"],
  ["drive locate ", "drives"],
  ["drive scan --folder ", "files"],
  ["status --watch ", "arrays"],
  ["schedule remove ", "schedules"],
  ["spare remove ", "spares"],
  ["serve --config ", "files"],
  ["serve --config = ", "files"],
  ["attach -- ", "files"],
  ["array show t ", null],
  ["array create ", null],
  ["serve ", null],
])("complete: %s: names of %s", (line, names) => {
  expect(at(line).names).toBe(names as never);
});

test("complete: values of a flag, also behind an equals sign", () => {
  for (const line of [
    "scrub start t --mode ",
    "scrub start t --mode =",
    "scrub start --mode = re",
  ]) {
    expect(at(line)).toMatchObject({ words: ["check", "repair"], names: null });
  }
  expect(at("serve --log-level ").words).toEqual(["error", "warn", "info", "debug"]);
  expect(at("log --level ").words).toEqual(["error", "warn", "info", "debug"]);
  expect(at("schema ").words).toContain("parityd.status/1");
  expect(at("array set --run-dir=/a ").runDir).toBe("/a");
  expect(at("array set --run-dir /b --").runDir).toBe("/b");
});

test("complete: the verb prints what fits, and the daemon's names; without one none", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  await daemon.call("PUT", "/v1/exports/e1", { array: "raid_test" });
  await daemon.call("PUT", "/v1/schedules/raid_test", { cron: "0 1 * * *" });
  await daemon.call("POST", "/v1/arrays/raid_test/scrub");
  const told = async (...words: string[]): Promise<string> => {
    const outcome = await runCli(["complete", "--", ...words], { daemon });
    expect([outcome.exitCode, outcome.stderr]).toEqual([0, ""]);
    return outcome.stdout;
  };
  expect(await told("arr")).toBe("array");
  expect(await told("array", "st")).toBe("start\nstop");
  expect(await told("status", "--un")).toBe("--unhealthy");
  expect(await told("array", "list", "--help", "--js")).toBe("--json");
  expect(await told("array", "show", "")).toBe("raid_test");
  expect(await told("array", "show", "x")).toBe("");
  expect((await told("member", "fail", "raid_test", "")).split("\n")).toEqual(["a", "b", "c", "d"]);
  expect(await told("export", "remove", "")).toBe("e1");
  expect(await told("schedule", "remove", "")).toBe("raid_test");
  expect(await told("job", "show", "")).toBe("1");
  expect(await told("examine", "/dev/s")).toBe("<files>");
  const alone = await runCli(["complete", "--", "array", "show", ""]);
  expect(alone).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
});
