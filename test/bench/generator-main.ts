/** The side of a load generator that answers: commands on stdin, until one fails or quits. */
import type { Commands, GeneratorAnswer } from "./generator-protocol.ts";

export type Handlers<C extends Commands<C>> = {
  readonly [K in keyof C]: (request: C[K]["request"]) => C[K]["value"] | Promise<C[K]["value"]>;
};

export async function answerCommands<C extends Commands<C>>(handlers: Handlers<C>): Promise<void> {
  for await (const line of console) {
    const { kind, request } = JSON.parse(line) as { kind: keyof C; request: never };
    const result = await answer(() => handlers[kind](request));
    process.stdout.write(`${JSON.stringify(result)}\n`);
    // Where it quits the process ends by itself, so that a profile of it is written.
    if (!result.ok || kind === "quit") break;
  }
  process.exit(0);
}

async function answer(handle: () => unknown): Promise<GeneratorAnswer> {
  try {
    return { ok: true, value: await handle() };
  } catch (error) {
    return { ok: false, error: error instanceof Error ? (error.stack ?? "") : String(error) };
  }
}
