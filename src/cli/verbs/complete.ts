/**
 * `parityd complete -- WORD...`: what a shell asks at a tab. A line each; `<files>` stands for the
 * names of the file system, which the shell knows itself. Where no daemon answers there are none.
 */
import { DaemonClient } from "../client.ts";
import { type CommandSpec, Invocation, type Nameable } from "../command.ts";
import { completionAt } from "../complete.ts";
import { Exit } from "../exit.ts";

export const FILES = "<files>";

/** Somebody waits at a prompt. */
const PATIENCE_SECONDS = "2";

/** Where the daemon lists them, and what they are called there. */
const SOURCES: Readonly<Record<Exclude<Nameable, "files">, readonly [path: string, key: string]>> =
  {
    arrays: ["/v1/arrays", "name"],
    drives: ["/v1/drives", "name"],
    exports: ["/v1/exports", "name"],
    jobs: ["/v1/jobs", "id"],
    schedules: ["/v1/schedules", "array"],
    spares: ["/v1/spares", "drive"],
  };

export const completeCommand: CommandSpec = {
  path: ["complete"],
  summary: "Say what the last word of a line may become",
  operands: [{ name: "WORD", many: true, optional: true }],
  options: {},
  isHidden: true,
  run: async ({ operands }, host, table) => {
    const { words, names, begun, runDir } = completionAt(table, operands);
    const found = [...words];
    if (names === "files") found.push(FILES);
    else if (names !== null) {
      const [path, key] = SOURCES[names];
      const of = {
        timeout: PATIENCE_SECONDS,
        ...(runDir === undefined ? {} : { "run-dir": runDir }),
      };
      const client = new DaemonClient(host, new Invocation(of, []));
      const listed = await client.get<readonly Record<string, unknown>[]>(path);
      if (listed.ok) found.push(...listed.value.value.map((entry) => String(entry[key])));
    }
    for (const word of found) if (word.startsWith(begun) || word === FILES) host.print(word);
    return Exit.ok;
  },
};
