/** `parityd schema [NAME]`: the shapes of what --json prints, as JSON Schema. */
import { ANSWERS, isAnswerWord, jsonSchemaOf } from "../answers.ts";
import { usageFailure } from "../client.ts";
import type { CommandSpec } from "../command.ts";
import { Exit } from "../exit.ts";
import { tell } from "../tell.ts";

const WORDS = Object.keys(ANSWERS).sort();

export const schemaCommand: CommandSpec = {
  path: ["schema"],
  summary: "Print the JSON Schema of an answer of --json, or the names of all",
  examples: ["parityd schema", "parityd schema parityd.status/1"],
  answers: ["parityd.schemas/1"],
  isVerbatim: true,
  operands: [{ name: "NAME", optional: true, choices: WORDS }],
  options: {},
  run: (invocation, host) => {
    const word = invocation.operands[0];
    if (word === undefined) {
      const value = { schemas: WORDS };
      tell(invocation, host, { schema: "parityd.schemas/1", value, lines: () => WORDS });
      return Exit.ok;
    }
    if (!isAnswerWord(word)) {
      return usageFailure(host, `there is no schema ${word}: parityd schema names them`);
    }
    host.print(JSON.stringify(jsonSchemaOf(word), null, 2));
    return Exit.ok;
  },
};
