/**
 * The sentences of the API name its calls and values. Whoever typed a line is told its flags and
 * verbs instead. Pure.
 *
 * A test goes over the sentences in the sources (test/unit/cli/api-words.test.ts): one that names a
 * call or value which is not here fails it.
 */
const NAME = String.raw`([^\s/?,;:()]+)`;

function call(words: string): RegExp {
  // Not the beginning of the path of another call.
  return new RegExp(String.raw`\b${words.replaceAll("NAME", NAME)}(?![\w/?])`, "g");
}

const PHRASES: readonly (readonly [string | RegExp, string])[] = [
  // A call that this daemon has not: only another version of these commands makes one.
  [
    /^there is nothing at \S+; GET \/openapi\.json .*$|^\w+ is not offered here; allowed: .*$/g,
    "the daemon does not know this call: it is of another version than this command",
  ],
  [call("DELETE /v1/arrays/NAME/members/NAME"), "parityd member remove $1 $2"],
  [call("DELETE /v1/jobs/NAME"), "parityd job cancel $1"],
  [call("DELETE /v1/spares/NAME"), "parityd spare remove $1"],
  [/\bGET \/v1\/jobs\/(\d+)\?explain=true/g, "parityd job show $1 --explain"],
  [call("GET /v1/(array|drive|export|job|spare)s"), "parityd $1 list"],
  [call("POST /v1/arrays/NAME/start"), "parityd array start $1"],
  [call("POST /v1/drives"), "parityd drive add"],
  [
    new RegExp(`^there is no export named ${NAME}: put it first$`, "g"),
    "there is no export named $1: parityd export list has those that there are",
  ],
  [" arrays have its name: put it again", " arrays have its name: add it again"],
  ["refused: put it by its own call", "refused: set it by its verb"],
  [/\b(say|With) ("force": true|force=true)/g, "$1 --force"],
  ['"force": true', "--force"],
  [/\b(say|with) force\b(?!=)/g, "$1 --force"],
  ['"allocate": false', "--sparse"],
  ['"direct": false', "--no-direct"],
];

/** By the pointer to a value of a body, without its numbers, or by the name of a parameter. */
const FLAGS: Readonly<Record<string, string>> = {
  allocate: "--sparse",
  allow: "the clients",
  "allow/addresses": "--allow-address",
  "allow/certificates": "--allow-certificate",
  array: "the array",
  arrays: "the arrays",
  assumeClean: "--assume-clean",
  atStart: "--at-start",
  chunkKiB: "--chunk",
  consistencyPolicy: "--policy",
  cron: "--cron",
  device: "the device",
  direct: "--no-direct",
  drive: "the drive",
  drives: "the drives",
  dryRun: "--dry-run",
  explain: "--explain",
  folders: "--folder",
  force: "--force",
  id: "the job",
  level: "--level",
  limitBytesPerSecond: "--limit",
  maxAgeDays: "--max-age",
  mode: "--mode",
  name: "the name",
  on: "--off",
  path: "the path",
  readDeadlineMs: "--read-deadline",
  readOnly: "--read-only",
  replaceSuspects: "--replace-suspects",
  restart: "--restart",
  since: "--since",
  sizeKiB: "--size",
  spares: "--spare",
  suspectFixedSectors: "--suspect-fixed",
  suspectLateReads: "--suspect-late-reads",
  suspectLatencyFactor: "--suspect-latency",
  suspectWriteErrors: "--suspect-write-errors",
  syncSpeedMax: "--sync-max",
  syncSpeedMin: "--sync-min",
  timezone: "--timezone",
  wait: "--wait",
  webhook: "--webhook",
  windowMinutes: "--window",
  with: "the new drive",
  writeDeadlineMs: "--write-deadline",
  zeroSuperblocks: "--zero-superblocks",
};

/** A value by its name alone, inside a sentence: only a name that no sentence has for a word. */
const VALUE = new RegExp(
  `(?<![\\w/."-])(${Object.keys(FLAGS)
    .filter((key) => /^[a-z]+[A-Z]\w*$/.test(key))
    .join("|")})(?![\\w/."=-])`,
  "g",
);

/**
 * "#/allow/addresses/0: it is no ..." as "--allow-address: it is no ...". A pointer into a document
 * ("#/exports/0/allow", of `config import`) stays: it is a place in a file of the caller's.
 */
export function inWordsOfFlags(detail: string): string {
  const [, mark, pointer = ""] = /^(#\/?|(?=\w+: ))([^\s:]*): /.exec(detail) ?? [];
  if (mark === undefined) return inPhrases(detail);
  const said = detail.slice(mark.length + pointer.length + 2);
  if (pointer === "") return inPhrases(said);
  const flag = FLAGS[pointer.replace(/\/\d+$/, "")];
  if (flag !== undefined) return `${flag}: ${inPhrases(said)}`;
  return mark === "" ? inPhrases(detail) : detail;
}

function inPhrases(text: string): string {
  const phrased = PHRASES.reduce((said, [from, to]) => said.replaceAll(from, to), text);
  return phrased.replace(VALUE, (key) => FLAGS[key] ?? key);
}
