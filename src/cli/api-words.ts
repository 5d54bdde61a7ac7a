/**
 * The sentences of the API name its calls and values. Whoever typed a line is told its flags and
 * verbs instead. Pure.
 */
const PHRASES: readonly (readonly [string | RegExp, string])[] = [
  ["say force=true", "say --force"],
  ['With "force": true its', "With --force its"],
  [/\bGET \/v1\/(array|drive|export|job|spare)s lists\b/g, "parityd $1 list lists"],
  [/\bPOST \/v1\/arrays\/(\S+)\/start\b/g, "parityd array start $1"],
  [/\bPOST \/v1\/drives\b/g, "parityd drive add"],
];

/** By the pointer to a value of a body, without the numbers in it. */
const FLAGS: Readonly<Record<string, string>> = {
  "allow/addresses": "--allow-address",
  "allow/certificates": "--allow-certificate",
  chunkKiB: "--chunk",
  consistencyPolicy: "--policy",
  cron: "--cron",
  limitBytesPerSecond: "--limit",
  maxAgeDays: "--max-age",
  name: "the name",
  drives: "the drives",
  readDeadlineMs: "--read-deadline",
  sizeKiB: "--size",
  suspectFixedSectors: "--suspect-fixed",
  suspectLateReads: "--suspect-late-reads",
  suspectLatencyFactor: "--suspect-latency",
  suspectWriteErrors: "--suspect-write-errors",
  syncSpeedMax: "--sync-max",
  syncSpeedMin: "--sync-min",
  timezone: "--timezone",
  windowMinutes: "--window",
  writeDeadlineMs: "--write-deadline",
};

/** "#/allow/addresses/0: it is no ..." as "--allow-address: it is no ...". */
export function inWordsOfFlags(detail: string): string {
  const named = detail.replace(/^#\/([^\s:]+): /, (all, pointer: string) => {
    const flag = FLAGS[pointer.replace(/\/\d+$/, "")];
    return flag === undefined ? all : `${flag}: `;
  });
  return PHRASES.reduce((text, [from, to]) => text.replaceAll(from, to), named);
}
