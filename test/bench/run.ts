/**
 * `npm run bench`: measures parityd against fio, nbdkit and limits, side by side.
 *
 *   npm run bench -- [--full | --smoke] [--peers] [--json FILE] [--only WORD] [--profile FOLDER]
 *                    [--cpu N]
 *
 * The table goes to stdout as Markdown, each row to stderr as soon as it is known. --only runs the
 * sections whose name contains the word; --profile writes CPU profiles of the load generators;
 * --cpu keeps the clients of the NBD rows on that CPU. The exit code is 1 when something did not
 * run or data was wrong; a target that is missed shows in the table alone.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { assert } from "../../src/base/assert.ts";
import { makeOwnedDir, tempBase } from "../helpers/temp.ts";
import { installMissing, realHost } from "../setup.ts";
import { Bench, SETTINGS } from "./bench.ts";
import { removeFolder } from "./ground.ts";
import { runToEnd } from "./processes.ts";
import { cells, currentLoad, describeMachine, latencyCells, toJson, toMarkdown } from "./report.ts";
import { allSections } from "./rows.ts";

const TOP = resolve(import.meta.dir, "../..");

const { values: options } = parseArgs({
  options: {
    full: { type: "boolean", default: false },
    smoke: { type: "boolean", default: false },
    json: { type: "string" },
    only: { type: "string", default: "" },
    profile: { type: "string" },
    cpu: { type: "string" },
    peers: { type: "boolean", default: false },
    help: { type: "boolean", short: "h", default: false },
  },
});

if (options.help) {
  console.log(`usage: npm run bench -- [--full | --smoke] [--peers] [--json FILE] [--only WORD]
                        [--profile FOLDER] [--cpu N]

  --full, --smoke   40 minutes and all rows; the shortest run
  --peers           the NBD rows against every server that is here, as in --full
  --only WORD       the sections whose name has WORD
  --json FILE       the table as JSON, too
  --profile FOLDER  CPU profiles of the load generator
  --cpu N           the client of the NBD rows stays on this CPU`);
  process.exit(0);
}

/** The executable as the sources are now, unless PARITYD_BINARY names another. */
async function binaryIn(folder: string): Promise<string> {
  const given = process.env["PARITYD_BINARY"];
  if (given !== undefined) return resolve(given);
  const path = join(folder, "parityd");
  await runToEnd([process.execPath, join(TOP, "build.ts"), "--outfile", path]);
  return path;
}

async function main(): Promise<number> {
  installMissing(realHost());
  const mode = options.full ? "full" : options.smoke ? "smoke" : "quick";
  const folder = makeOwnedDir(tempBase());
  process.on("exit", () => removeFolder(folder));
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(1));
  const before = currentLoad();
  const bench = new Bench({
    settings: SETTINGS[mode],
    binary: await binaryIn(folder),
    hasAllPeers: options.peers || options.full,
    profileFolder: options.profile === undefined ? null : resolve(options.profile),
    clientCpu: options.cpu === undefined ? null : Number(options.cpu),
    onRow: (row) => console.error([...cells(row), ...latencyCells(row).slice(1)].join("  ")),
  });
  const sections = allSections(mode).filter(({ name }) => name.includes(options.only));
  assert(sections.length > 0, `a section has "${options.only}" in its name`);
  await bench.run(sections);
  const { rows, leftOut, failures } = bench;
  const load = { before, after: currentLoad() };
  const report = { mode, machine: describeMachine(), load, rows, leftOut, failures };
  process.stdout.write(toMarkdown(report));
  if (options.json !== undefined) writeFileSync(options.json, toJson(report));
  return failures.length === 0 ? 0 : 1;
}

process.exit(await main());
