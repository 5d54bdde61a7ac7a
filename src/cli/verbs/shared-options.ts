/** Options that several commands share. */
import type { OptionSpec } from "../command.ts";

type Options = Readonly<Record<string, OptionSpec>>;

export const RUN_DIR: Options = {
  "run-dir": {
    type: "string",
    value: "DIR",
    help: "where the daemon's sockets are (/run/parityd)",
  },
};
export const JSON_OUTPUT: Options = {
  json: { type: "boolean", help: "print JSON, exact and with every field" },
};
export const WAIT: Options = {
  wait: { type: "boolean", help: "wait for the end and show the progress" },
};
