/**
 * Goal: every verb that says something says it as JSON too, in the shape that `parityd schema` has
 * of it, and no verb is without an example.
 * Method: the table is enumerated; each verb runs with --json over the real API and services, and
 * an independent validator (ajv) holds each answer to its printed schema.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { ANSWERS } from "../../../src/cli/answers.ts";
import { type CommandSpec, parseCommandLine } from "../../../src/cli/command.ts";
import { commandManual } from "../../../src/install/manual.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { type FakeHostOptions, runCli } from "../../helpers/fake-host.ts";
import { FakeNbdDriver } from "../../helpers/fake-nbd-driver.ts";
import {
  addTestArray,
  DRIVE_PATHS,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { hostWithDisks } from "../../helpers/sim-reactor.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { until } from "../../helpers/until.ts";

const SHOWN = ALL_COMMANDS.filter(({ isHidden }) => isHidden !== true);
const nameOf = ({ path }: CommandSpec): string => path.join(" ");

/** Programs that serve until they are stopped: `ready ...` is what they print (README). */
const SERVERS = ["serve", "attach"];
/** Verbs and answers that need more than a daemon in this process: tests of their own hold them. */
const BY_OTHERS = ["serve", "ui", "drive locate", "attach", "examine"];
const UNSEEN = ["drive-light", "examine", "drill", "page", "installed", "problem"].map(
  (word) => `parityd.${word}/1`,
);

/** The words of a line as a shell reads it. */
function shellWords(line: string): string[] {
  const [command = ""] = line.split(/ [|>] /);
  const words = command.match(/"[^"]*"|'[^']*'|\S+/g) ?? [];
  return words.map((word) => word.replace(/^["'](.*)["']$/, "$1"));
}

test("examples: each verb has one, and each is a line that it takes", () => {
  for (const command of SHOWN) {
    const { examples = [] } = command;
    expect([nameOf(command), examples.length > 0]).toEqual([nameOf(command), true]);
    for (const example of examples) {
      const [program, ...words] = shellWords(example);
      expect([example, program]).toEqual([example, "parityd"]);
      const parsed = parseCommandLine(ALL_COMMANDS, words);
      expect([example, parsed]).toMatchObject([
        example,
        { ok: true, value: { kind: "run", command: { path: command.path } } },
      ]);
    }
  }
});

test("examples: in the help, and in the manual", async () => {
  const manual = commandManual(ALL_COMMANDS, "1").replaceAll("\\-", "-");
  for (const command of SHOWN) {
    const { stdout } = await runCli(`${nameOf(command)} --help`);
    for (const example of command.examples ?? []) {
      expect(stdout).toContain(`  ${example}`);
      expect(manual).toContain(example);
    }
  }
});

test("schema: all names, each a JSON Schema that a validator takes; an unknown one: refused", async () => {
  const names = (await runCli("schema")).stdout.split("\n");
  expect(names).toEqual(Object.keys(ANSWERS).sort());
  const validator = new Ajv2020({ strict: false, logger: false });
  for (const name of names) {
    const schema = JSON.parse((await runCli(`schema ${name}`)).stdout);
    expect([name, validator.validateSchema(schema)]).toEqual([name, true]);
    expect(schema.$schema).toBe("https://json-schema.org/draft/2020-12/schema");
    expect([schema.title, schema.properties.schema.const]).toEqual([name, name]);
    expect(schema.required).toContain("schema");
    // A key that it does not name is no answer of it.
    expect([name, schema.additionalProperties]).toEqual([name, false]);
  }
  expect(await runCli("schema parityd.bogus/1")).toMatchObject({ exitCode: 64, stdout: "" });
});

test("json: each verb that says something has the flag; servers have none", () => {
  for (const command of SHOWN) {
    const name = nameOf(command);
    const isServer = SERVERS.includes(name);
    expect([name, command.answers !== undefined]).toEqual([name, !isServer]);
    expect([name, "json" in command.options]).toEqual([name, !isServer]);
    for (const word of command.answers ?? []) expect(Object.keys(ANSWERS)).toContain(word);
  }
});

const DRY = "parityd.dry-run/1";

/** A daemon with an array, and what it answers to each line, held to the schema of its word. */
class Held {
  readonly daemon: SimAppliance;
  readonly verbs = new Set<string>();
  readonly words = new Set<string>();
  private readonly validator = new Ajv2020({ strict: false, logger: false, allErrors: true });

  constructor(daemon: SimAppliance) {
    this.daemon = daemon;
  }

  /** Runs it with --json; each line of its answer is of this schema. */
  async run(
    word: string,
    line: string | readonly string[],
    options: FakeHostOptions = {},
  ): Promise<Record<string, unknown>> {
    const words = typeof line === "string" ? line.split(" ") : line;
    const parsed = parseCommandLine(ALL_COMMANDS, words);
    if (!parsed.ok || parsed.value.kind !== "run") throw new Error(`${words.join(" ")}: no line`);
    const { command } = parsed.value;
    this.verbs.add(nameOf(command));
    this.words.add(word);
    const dry = "dry-run" in command.options ? [DRY] : [];
    const answerable: readonly string[] = [...(command.answers ?? []), ...dry];
    expect([words, answerable]).toEqual([words, expect.arrayContaining([word])]);
    const { daemon } = this;
    const ran = await runCli([...words, "--json"], { daemon, ...options });
    if (ran.stdout === "") throw new Error(`${words.join(" ")}: ${ran.exitCode} ${ran.stderr}`);
    const schema = JSON.parse((await runCli(`schema ${word}`)).stdout);
    const answers = ran.stdout.split("\n").map((text) => JSON.parse(text));
    for (const answer of answers) {
      expect([words, answer.schema]).toEqual([words, word]);
      const isValid = this.validator.validate(schema, answer);
      expect([words, isValid, this.validator.errors]).toEqual([words, true, null]);
    }
    return answers[0];
  }
}

/** A line that is refused, its type, and the status where the API has refused. */
const REFUSALS = [
  ["array stop none", "unknown-array", 404],
  ["export remove none --dry-run", "export-not-found", 404],
  ["drive add x /dev/a", "path-in-use", 409],
  ["schedule set raid_test --cron never", "bad-values", 422],
  ["array stop", "usage", undefined],
  ["array halt x", "usage", undefined],
  ["array stop raid_test --bogus", "usage", undefined],
  ["job show one", "usage", undefined],
  ["array delete raid_test --yes other", "usage", undefined],
  ["config check --config /none.toml", "configuration", undefined],
  ["examine /none", "failed", undefined],
] as const;

test.each(REFUSALS)("json: refused: %s: one object on stderr, %s", async (line, type, status) => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const plain = await runCli(line, { daemon });
  const [said] = plain.stderr.split("\n").slice(-1);
  const refused = await runCli(`${line} --json`, { daemon });
  expect([refused.exitCode, refused.stdout]).toEqual([plain.exitCode, ""]);
  const problem = JSON.parse(refused.stderr);
  expect(`parityd: ${problem.detail}`).toBe(said!);
  expect(problem).toMatchObject({
    schema: "parityd.problem/1",
    type: `urn:parityd:problem:${type}`,
  });
  expect(problem.status).toBe(status);
  const schema = JSON.parse((await runCli("schema parityd.problem/1")).stdout);
  const validator = new Ajv2020({ strict: false, logger: false });
  expect([validator.validate(schema, problem), validator.errors]).toEqual([true, null]);
});

test("json: refused: the values that are wrong are named as the API names them", async () => {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const refused = await runCli("schedule set raid_test --cron never --json", { daemon });
  expect(JSON.parse(refused.stderr).errors).toEqual([
    { pointer: "#/cron", detail: expect.any(String) },
  ]);
});

test("json: refused: no daemon answers, or one that is none: said in the same shape", async () => {
  const alone = await runCli("array list --json");
  expect(alone).toMatchObject({ exitCode: 69, stdout: "" });
  expect(JSON.parse(alone.stderr)).toMatchObject({ type: "urn:parityd:problem:unavailable" });
  const send = async () => new Response("<html>", { status: 502 });
  const strange = await runCli("array list --json", { overrides: { send } });
  expect(strange.exitCode).toBe(1);
  expect(JSON.parse(strange.stderr)).toMatchObject({ type: "urn:parityd:problem:failed" });
});

test("refused: the socket is another user's: said with its owner, not that no daemon runs", async () => {
  const folder = makeTempDir("json");
  writeFileSync(join(folder, "api.sock"), "");
  for (const code of ["EACCES", "EPERM"]) {
    const send = () => Promise.reject(Object.assign(new Error("no"), { code }));
    const there = await runCli(`status --run-dir ${folder}`, { overrides: { send } });
    expect(there.exitCode).toBe(69);
    expect(there.stderr).toMatch(/is not this user's \(owner [^,]+, group [^)]+\).*run it as root/);
    const hidden = await runCli("status --run-dir /none", { overrides: { send } });
    expect(hidden.stderr).toContain(`is another user's: ${code}: run it as root`);
    expect(there.stderr + hidden.stderr).not.toContain("start parityd serve");
  }
});

test("json: every verb, run: its answer is as its schema says", async () => {
  const daemon = await startSimAppliance({
    nbdDriver: new FakeNbdDriver(1),
    host: hostWithDisks([...DRIVE_PATHS, "/dev/e", "/dev/f"]),
    alertWays: [
      {
        ...{ via: "webhook1", target: "https://x", key: "webhook1", least: "critical" },
        deliver: async () => ({ kind: "arrived", detail: "status 204" }),
        abort: () => {},
      },
    ],
  });
  await addTestArray(daemon);
  const { world } = daemon.reactor;
  const held = new Held(daemon);
  const folder = makeTempDir("json");

  await held.run("parityd.version/1", "version");
  await held.run("parityd.schemas/1", "schema");
  await held.run("parityd.log/1", "log --level debug");
  await held.run("parityd.files/1", "install-files --print");

  await held.run("parityd.drive/1", "drive add e /dev/e");
  await held.run("parityd.drive/1", "drive add f /dev/f");
  await held.run("parityd.drive/1", "drive show e");
  await held.run("parityd.drives/1", "drive list");
  await held.run("parityd.drive-scan/1", "drive scan --folder /nope");
  await held.run("parityd.done/1", "drive appeared /dev/x");

  await held.run("parityd.spare/1", "spare add e");
  await held.run("parityd.spares/1", "spare list");
  await held.run("parityd.done/1", "spare remove e");

  await held.run("parityd.export/1", "export add raid_test");
  await held.run("parityd.export/1", "export add raid_test far --allow-address 10.0.0.0/8");
  await held.run(DRY, "export attach far --dry-run");
  await held.run("parityd.export/1", "export attach far");
  await held.run("parityd.exports/1", "export list");
  await held.run("parityd.done/1", "export detach far");
  await held.run("parityd.done/1", "export remove far");

  const cron = "0 10 * * *";
  await held.run("parityd.schedule/1", ["schedule", "set", "raid_test", "--cron", cron]);
  await held.run("parityd.schedule/1", "schedule show raid_test");
  await held.run("parityd.schedules/1", "schedule show");

  await held.run("parityd.done/1", "schedule remove raid_test");

  await held.run("parityd.job/1", "scrub start raid_test");
  await held.run("parityd.status/1", "status");
  await held.run("parityd.job/1", "scrub pause raid_test");
  await held.run("parityd.array/1", "array show raid_test");
  await held.run("parityd.job/1", "scrub resume raid_test");
  await held.run("parityd.done/1", "scrub stop raid_test");
  await held.run("parityd.job/1", "scrub start raid_test");
  const { id } = await held.run("parityd.job/1", "job show 2");
  world.waitJob(Number(id));
  await held.run("parityd.job/1", `job wait ${id}`);
  await held.run("parityd.job/1", `job show ${id} --explain`);
  await held.run("parityd.jobs/1", "job list");

  await held.run(DRY, "drive scan --dry-run --folder /nope");
  await held.run(DRY, "member fail raid_test b --dry-run");
  const rehearsed = held.run("parityd.rehearsal/1", "drill --on raid_test --fail b");
  await until("it is rehearsed", () => daemon.reactor.jobs().length === 3);
  world.waitJob(3);
  await rehearsed;
  await held.run("parityd.array/1", "member fail raid_test b");
  await held.run("parityd.job/1", "member add raid_test d");
  await held.run("parityd.job/1", "job cancel 4");
  await held.run("parityd.job/1", "member add raid_test d");
  world.settle({ array: "raid_test" });
  await held.run("parityd.done/1", "member remove raid_test b");
  await held.run("parityd.array/1", "member add raid_test e");
  await held.run("parityd.job/1", "member replace raid_test a e");
  await held.run("parityd.status/1", "status -x");
  world.settle({ array: "raid_test" });
  await held.run("parityd.array/1", "array set raid_test --sync-min 0");
  await held.run("parityd.arrays/1", "array list");
  await held.run("parityd.job/1", "array grow raid_test f --force");
  world.settle({ array: "raid_test" });

  await held.run("parityd.event/1", "events");
  await held.run("parityd.alerts-test/1", "events test");

  const document = await held.run("parityd.configuration/1", "config export");
  const file = join(folder, "host.json");
  writeFileSync(file, JSON.stringify(document));
  await held.run(DRY, `config import ${file} --dry-run`);
  await held.run("parityd.configuration-changes/1", `config import ${file}`);
  await held.run("parityd.config/1", "config --nbd-tcp [::1]:1");
  await held.run("parityd.config/1", "config show --defaults");
  await held.run("parityd.config-check/1", "config check");

  await held.run("parityd.array/1", "array stop raid_test");
  await held.run("parityd.array/1", "array start raid_test");
  await held.run(DRY, "array delete raid_test --dry-run");
  await held.run("parityd.done/1", "array delete raid_test --yes raid_test --force");
  const again = "array create again a c d --force";
  await held.run(DRY, `${again} --dry-run`);
  await held.run("parityd.array/1", again);
  await held.run("parityd.done/1", "drive remove b");

  const without = SHOWN.map(nameOf).filter((name) => !held.verbs.has(name));
  expect(without).toEqual([...BY_OTHERS]);
  const unseen = Object.keys(ANSWERS).filter((word) => !held.words.has(word));
  expect(unseen).toEqual([...UNSEEN]);
});
