/** The load generators as child processes, one command at a time. */
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import type {
  Commands,
  GeneratorAnswer,
  GeneratorCommands,
  NbdCommands,
} from "./generator-protocol.ts";
import { keep } from "./processes.ts";

const KEEPS_HOUSE = { collects: true };

class GeneratorProcess<C extends Commands<C>> {
  private readonly child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  private readonly output: AsyncIterator<Uint8Array>;
  private readonly decoder = new TextDecoder();
  private received = "";

  /**
   * `profileFolder`: where a CPU profile of the generator goes when it quits. `collects`: false
   * switches its garbage collection off.
   */
  constructor(script: string, profileFolder: string | null, { collects }: { collects: boolean }) {
    const profile = profileFolder === null ? [] : ["--cpu-prof", "--cpu-prof-dir", profileFolder];
    this.child = keep(
      Bun.spawn([process.execPath, ...profile, join(import.meta.dir, script)], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "inherit",
        ...(collects ? {} : { env: { ...process.env, BUN_JSC_useGC: "0" } }),
      }),
    );
    this.output = this.child.stdout[Symbol.asyncIterator]();
  }

  async call<K extends keyof C & string>(
    kind: K,
    request: C[K]["request"],
  ): Promise<C[K]["value"]> {
    this.child.stdin.write(`${JSON.stringify({ kind, request })}\n`);
    await this.child.stdin.flush();
    const line = await this.readLine();
    assert(line !== null, `the load generator answers ${kind}`);
    const answer = JSON.parse(line) as GeneratorAnswer;
    assert(answer.ok, answer.ok ? "" : `${kind}: ${answer.error}`);
    return answer.value as C[K]["value"];
  }

  async quit(): Promise<void> {
    await this.call("quit" as keyof C & string, {});
    await this.child.exited;
  }

  /** Ends it, in whatever state it is. */
  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.exited;
  }

  private async readLine(): Promise<string | null> {
    for (;;) {
      const end = this.received.indexOf("\n");
      if (end >= 0) {
        const line = this.received.slice(0, end);
        this.received = this.received.slice(end + 1);
        return line;
      }
      const { done, value } = await this.output.next();
      if (done === true) return null;
      this.received += this.decoder.decode(value, { stream: true });
    }
  }
}

/** The reactor with an array, and the load in its own thread. */
export class Generator extends GeneratorProcess<GeneratorCommands> {
  constructor(profileFolder: string | null, options = KEEPS_HOUSE) {
    super("reactor-main.ts", profileFolder, options);
  }
}

/** A client of an NBD server. */
export class NbdGenerator extends GeneratorProcess<NbdCommands> {
  constructor(profileFolder: string | null) {
    super("nbd-load-main.ts", profileFolder, KEEPS_HOUSE);
  }
}
