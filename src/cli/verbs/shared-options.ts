/** Options that several commands share. */
import type { OptionSpec } from "../command.ts";

type Options = Readonly<Record<string, OptionSpec>>;

/** What every verb takes that asks the daemon. */
export const RUN_DIR: Options = {
  "run-dir": {
    type: "string",
    value: "DIR",
    names: "files",
    help: "where the daemon's sockets are (/run/parityd)",
  },
  timeout: {
    type: "string",
    value: "SECONDS",
    help: "give up after so long (10 for what only reads)",
  },
};
/** What every verb takes that changes something (dry-run.ts). */
export const DRY_RUN: Options = {
  "dry-run": { type: "boolean", help: "only say what would come of it; nothing is changed" },
};
export const EXPLAIN: Options = {
  explain: { type: "boolean", help: "of a scrub: which bytes of the export its ranges concern" },
};
export const WAIT: Options = {
  wait: { type: "boolean", help: "wait for the end and show the progress" },
};
