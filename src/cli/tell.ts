/** Says what came of a verb: as JSON where that is asked for, else in words. */
import { type AnswerWord, answerText } from "./answers.ts";
import type { Invocation } from "./command.ts";
import type { CliHost } from "./host.ts";

export function tell(
  invocation: Invocation,
  host: CliHost,
  answer: {
    readonly schema: AnswerWord;
    readonly value: object;
    /** `columns`: how wide a line may be. */
    readonly lines: (columns: number) => readonly string[];
  },
): void {
  if (invocation.isSet("json")) host.print(answerText(answer.schema, answer.value));
  else for (const line of answer.lines(columnsOf(host))) host.print(line);
}

/** Elsewhere than on a terminal a line is as long as it is. */
export function columnsOf({ terminal }: CliHost): number {
  return terminal?.columns ?? Number.POSITIVE_INFINITY;
}

/** Of what has no more to say: without --json nothing. */
export function tellDone(
  invocation: Invocation,
  host: CliHost,
  value: { readonly did: string; readonly of: string },
): void {
  tell(invocation, host, { schema: "parityd.done/1", value, lines: () => [] });
}
