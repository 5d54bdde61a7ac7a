/**
 * Goal: what a command prints of a refusal has no word of the API in it, but flags and verbs that
 * there are.
 * Method: every sentence in the sources of the daemon that names a call or a value of one, taken
 * from them as text; every value that a body or a query may have, from /openapi.json.
 */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { inWordsOfFlags } from "../../../src/cli/api-words.ts";
import type { CommandSpec } from "../../../src/cli/command.ts";
import { ALL_COMMANDS } from "../../../src/install/table.ts";
import { startSimAppliance } from "../../helpers/sim-appliance.ts";

const SRC = join(import.meta.dir, "../../../src");

/** Folders of the daemon that put refusals into words. */
const FOLDERS = ["api", "appliance", "array", "block", "md", "nbd", "raid5"];

/** Files whose sentences are settings, SQL or descriptions of calls: nothing that refuses. */
const NO_REFUSALS = new RegExp(
  [
    "^api/(page|foretold-schemas|[a-z-]+-schemas|metrics|route\\.ts)",
    "^appliance/(config\\.ts|config-text|state/(migrations|state-rows|state-file))",
  ].join("|"),
);

const LITERAL = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`/g;
const SENTENCE = new RegExp(`(?:${LITERAL.source})(?:\\s*\\+\\s*(?:${LITERAL.source}))*`, "g");

/** What no command line may show. TOML's keys (apiHosts, onEvent, ...) are the user's own words. */
const API_WORD =
  /\b(GET|POST|PUT|PATCH|DELETE)\b|\/v1\/|#\/|If-Match|ETag|\bput it\b|"\w+": |\bforce=true|\b(say|with|With) force\b|\b(?!apiHosts|onEvent|caFile|exFAT)[a-z]+[A-Z]\w*\b/;

/** Sentences that no verb can be answered with, by how they begin. */
const OF_OTHER_CALLERS = [
  "HTTP/1.1 ",
  // Answers of a call that does not send a token, a body or a key as it should.
  "this Idempotency-Key was used",
  "the request with this Idempotency-Key",
  "say that the body is JSON",
  // Asserted, never answered.
  "the set name was formed by formSetName",
  // No verb injects faults.
  "say what happens: errno, delayMs",
];

/** Every sentence of a source, with a name in place of each value. */
function sentencesOf(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, "");
  return [...code.matchAll(SENTENCE)].map(([all]) =>
    [...all.matchAll(LITERAL)]
      .map(([literal]) => literal.slice(1, -1).replaceAll('\\"', '"'))
      .join("")
      .replace(/\$\{[^{}]*(\{[^{}]*\}[^{}]*)*\}|\$\{.*/g, "7"),
  );
}

function isProse(text: string): boolean {
  // Descriptions of the document name calls and begin with a capital; SQL does, too.
  return text.includes(" ") && !/[\n;{}]\s*(export|const|return)\b|^[A-Z?]|\?\w+=true: /.test(text);
}

const SENTENCES = FOLDERS.flatMap((folder) =>
  readdirSync(join(SRC, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts") && !NO_REFUSALS.test(`${folder}/${name}`))
    .flatMap((name) => sentencesOf(readFileSync(join(SRC, folder, name), "utf8"))),
).filter(isProse);

test("refusals: what a command prints of each sentence of the daemon has no word of the API", () => {
  const named = SENTENCES.filter((text) => API_WORD.test(text));
  // The reader of the sources finds them: those that are known by heart.
  for (const part of ["POST /v1/drives first", "DELETE /v1/arrays/7/members/7", "put it first"]) {
    expect(named.some((text) => text.includes(part))).toBe(true);
  }
  const left = named
    .filter((text) => !OF_OTHER_CALLERS.some((begin) => text.startsWith(begin)))
    .map(inWordsOfFlags)
    .filter((text) => API_WORD.test(text));
  expect(left).toEqual([]);
});

test("refusals: each command that is named is one, with flags that it has", () => {
  const flags = new Set(ALL_COMMANDS.flatMap(({ options }) => Object.keys(options)));
  let count = 0;
  for (const text of SENTENCES.map(inWordsOfFlags)) {
    for (const [, flag = ""] of text.matchAll(/(?<![\w-])--([a-z][a-z-]*)/g)) {
      if (!/\b(wipefs|mdadm) --/.test(text)) expect([text, flags.has(flag)]).toEqual([text, true]);
    }
    for (const words of commandsIn(text)) {
      count++;
      const command = commandOf(words);
      expect([text, command?.path]).toEqual([text, expect.any(Array)]);
      const rest = words.slice(command!.path.length);
      const operands = command!.operands.filter(({ optional }) => optional !== true);
      // At its end a sentence may go on with what is no literal.
      const isCut = text.endsWith(words.join(" "));
      expect([text, isCut || rest.length >= operands.length]).toEqual([text, true]);
      for (const word of rest.filter((each) => each.startsWith("--"))) {
        expect([text, Object.keys(command!.options)]).toEqual([
          ...[text, expect.arrayContaining([word.slice(2)])],
        ]);
      }
    }
  }
  expect(count).toBeGreaterThan(15);
});

/** The words behind each "parityd" that a verb follows, up to the end of its clause. */
function commandsIn(text: string): string[][] {
  const verbs = new Set(ALL_COMMANDS.map(({ path }) => path[0]));
  return [...text.matchAll(/\bparityd ([^;:,()&]+)/g)]
    .map(([, words = ""]) => words.trim().split(/\s+/))
    .filter(([first = ""]) => verbs.has(first));
}

function commandOf(words: readonly string[]): CommandSpec | undefined {
  return ALL_COMMANDS.filter(({ path }) => path.every((word, at) => words[at] === word)).sort(
    (a, b) => b.path.length - a.path.length,
  )[0];
}

/** Calls that no verb makes, or whose values stand in a file of the caller's. */
const NO_VERB = /^(postFaults|getFaults|deleteFaults|putConfiguration)/;

test("refusals: a value that is refused has the name of its flag or operand", async () => {
  const { call } = await startSimAppliance();
  const document = (await (await call("GET", "/openapi.json")).json()) as Document;
  const seen = new Set<string>();
  for (const methods of Object.values(document.paths)) {
    for (const operation of Object.values(methods)) {
      if (NO_VERB.test(operation.operationId)) continue;
      const body = operation.requestBody?.content["application/json"].schema;
      for (const pointer of pointersOf(document, body)) seen.add(`#${pointer}`);
      for (const { name } of operation.parameters ?? []) seen.add(name);
    }
  }
  expect(seen.size).toBeGreaterThan(40);
  // Of a verb's own making: `events` asks for a page, the others are of calls that take them alone.
  for (const own of ["limit", "strict"]) seen.delete(own);
  for (const named of seen) {
    const said = inWordsOfFlags(`${named}: it is too large`);
    expect([named, said]).toEqual([
      ...[named, expect.stringMatching(/^(--[a-z-]+|the [a-z ]+): it is too large$/)],
    ]);
    const flag = /^--([a-z-]+)/.exec(said)?.[1];
    const hasFlag = ALL_COMMANDS.some(({ options }) => flag !== undefined && flag in options);
    expect([named, flag === undefined || hasFlag]).toEqual([named, true]);
  }
});

interface Schema {
  readonly $ref?: string;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}

interface Document {
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
  readonly paths: Record<
    string,
    Record<
      string,
      {
        readonly operationId: string;
        readonly parameters?: readonly { readonly name: string }[];
        readonly requestBody?: { content: { "application/json": { schema: Schema } } };
      }
    >
  >;
}

function pointersOf(document: Document, schema: Schema | undefined, at = ""): string[] {
  if (schema === undefined) return [];
  const { $ref, anyOf = [], properties = {}, items } = schema;
  const named =
    $ref === undefined ? undefined : document.components.schemas[$ref.split("/").at(-1)!];
  return [
    ...(at === "" ? [] : [at]),
    ...pointersOf(document, named, at),
    ...anyOf.flatMap((each) => pointersOf(document, each, at)),
    ...Object.entries(properties).flatMap(([key, value]) =>
      pointersOf(document, value, `${at}/${key}`),
    ),
    ...pointersOf(document, items, `${at}/0`),
  ];
}
