/**
 * A refusal as JSON: the problem of the API as it came, and what a verb refuses itself in the same
 * shape. Only a problem of the API has a `status`.
 */
import { answerText } from "./answers.ts";
import { Exit } from "./exit.ts";

/** What the API says besides its sentence. */
export interface ApiProblem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly errors?: readonly object[];
}

/** By exit code: what no API has named. */
const OWN: Readonly<Record<number, readonly [code: string, title: string]>> = {
  [Exit.usage]: ["usage", "Not a command line"],
  [Exit.unavailable]: ["unavailable", "Not available now"],
  [Exit.configuration]: ["configuration", "Configuration that cannot be used"],
};

/** One line. `detail` is the sentence that is said without --json. */
export function refusalText(refusal: {
  readonly exitCode: number;
  readonly message: string;
  readonly problem?: ApiProblem;
}): string {
  const [code, title] = OWN[refusal.exitCode] ?? ["failed", "Failed"];
  const own: Omit<ApiProblem, "status"> = { type: `urn:parityd:problem:${code}`, title };
  const { errors, ...named } = refusal.problem ?? own;
  return answerText("parityd.problem/1", {
    ...named,
    detail: refusal.message,
    ...(errors === undefined ? {} : { errors }),
  });
}

/** What an answer of the API says, or undefined where it is no problem of it. */
export function problemOf(body: object): ApiProblem | undefined {
  const { type, title, status, errors } = body as Partial<Record<keyof ApiProblem, unknown>>;
  if (typeof type !== "string" || typeof title !== "string" || typeof status !== "number") {
    return undefined;
  }
  return { type, title, status, ...(Array.isArray(errors) ? { errors } : {}) };
}
