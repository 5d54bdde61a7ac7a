/** A crowd of API clients (crowd-main.ts) in a process of its own, and what it says of itself. */
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";
import type { CrowdCounts, CrowdOptions } from "./crowd-main.ts";
import { until } from "./until.ts";

const MAIN = join(import.meta.dir, "crowd-main.ts");

export class Crowd {
  /** The last that it said; null: nothing yet. */
  counts: CrowdCounts | null = null;
  /** Connections that it holds when all of it is there. */
  readonly size: number;
  /** Of them those with a stream of events. */
  readonly streams: number;
  private readonly child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  private readonly reading: Promise<void>;

  constructor(
    options: CrowdOptions,
    keep: <T extends Bun.Subprocess>(child: T) => T = (child) => child,
  ) {
    const { idle, busy, pages } = options;
    this.streams = pages + Math.ceil(busy / 5);
    this.size = idle + busy + pages + this.streams;
    const words = [process.execPath, MAIN, JSON.stringify(options)];
    const ways = { stdin: "pipe", stdout: "pipe", stderr: "inherit" } as const;
    this.child = keep(Bun.spawn(words, ways));
    this.reading = this.read();
  }

  get now(): CrowdCounts {
    assert(this.counts !== null, "it has said something");
    return this.counts;
  }

  /** Each of its clients is connected, in the same moment. */
  async isThere(): Promise<void> {
    await until("the whole crowd is connected", () => this.counts?.connected === this.size);
  }

  /** It does nothing for a while, and keeps its connections. */
  pause(): void {
    this.child.kill("SIGSTOP");
  }

  goOn(): void {
    this.child.kill("SIGCONT");
  }

  /** Resolves when it is gone with all of its connections. */
  async leave(): Promise<void> {
    this.goOn();
    await this.child.stdin.end();
    await this.child.exited;
    await this.reading;
  }

  private async read(): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const piece of this.child.stdout) {
      const lines = (rest + decoder.decode(piece)).split("\n");
      rest = lines.pop() ?? "";
      const last = lines.at(-1);
      if (last !== undefined) this.counts = JSON.parse(last) as CrowdCounts;
    }
  }
}
