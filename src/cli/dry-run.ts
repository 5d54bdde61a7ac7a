/**
 * `--dry-run`: a verb runs as it is, and what it asks the daemon to change is only asked for
 * (`?dryRun=true`). So it says what it would say, and ends as it would end; that nothing is changed
 * stands before it, on stderr (with --json it is what the answer is).
 */
import { answerText } from "./answers.ts";
import { Exit } from "./exit.ts";
import type { CliHost } from "./host.ts";

/** Before anything else, so that nobody takes what follows for done. */
const NOTE = "dry run: nothing is changed; this is what it would say";

export class DryHost {
  readonly host: CliHost;
  private readonly real: CliHost;
  private readonly isJson: boolean;
  private hasPrinted = false;
  /** To the last call that would change something, as it came. */
  private answer: string | null = null;

  constructor(host: CliHost, { isJson }: { isJson: boolean }) {
    this.real = host;
    this.isJson = isJson;
    // The answer says so itself (parityd.dry-run), and a refusal has nothing beside it.
    if (!isJson) host.warn(NOTE);
    this.host = {
      ...host,
      print: (...words) => this.print(...words),
      warn: (line) => host.warn(line),
      redraw: (text) => host.redraw(text),
      send: (socketPath, request) => this.send(socketPath, request),
    };
  }

  private print(...words: Parameters<CliHost["print"]>): void {
    this.hasPrinted = true;
    if (!this.isJson) this.real.print(...words);
  }

  private async send(...[socketPath, request]: Parameters<CliHost["send"]>): Promise<Response> {
    if (request.method === "GET") return this.real.send(socketPath, request);
    const mark = request.path.includes("?") ? "&" : "?";
    const path = `${request.path}${mark}dryRun=true`;
    const response = await this.real.send(socketPath, { ...request, path });
    if (response.ok) this.answer = (await response.clone().text()).trimEnd() || "null";
    return response;
  }

  /** After the verb, with its exit code. */
  end(exitCode: number): number {
    if (this.isJson && (exitCode === Exit.ok || this.answer !== null)) {
      const answer: unknown = JSON.parse(this.answer ?? "null");
      this.real.print(answerText("parityd.dry-run/1", { answer }));
    }
    if (!this.isJson && !this.hasPrinted && exitCode === Exit.ok)
      this.real.print("it would be done");
    return exitCode;
  }
}
