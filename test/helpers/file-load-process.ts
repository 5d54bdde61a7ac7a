/**
 * Files on a file system whose device waits for the daemon, written by a process of its own
 * (file-load-main.ts). Whoever starts the daemon must have none of them open: the new process
 * closes what it inherits, and to close a file of ext4 can wait for its device, so for that daemon.
 */
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import type { ReadableStream } from "node:stream/web";
import { assert } from "../../src/base/assert.ts";

const MAIN = join(import.meta.dir, "file-load-main.ts");

export class FileLoadProcess {
  private readonly child;
  private readonly lines: AsyncIterator<string>;
  /** Orders are carried out one after the other. */
  private last: Promise<void> = Promise.resolve();

  constructor({ folder, seed }: { folder: string; seed: number }) {
    this.child = Bun.spawn([process.execPath, MAIN, folder, String(seed)], {
      // Below Bun's test runner, but not a test.
      env: { ...process.env, NODE_ENV: "" },
      ...{ stdin: "pipe", stdout: "pipe", stderr: "pipe" },
    });
    const input = Readable.fromWeb(this.child.stdout as ReadableStream);
    this.lines = createInterface({ input })[Symbol.asyncIterator]();
  }

  writeRound(): Promise<void> {
    return this.order("write");
  }

  /** Every file is as it was written. Of use after a mount: before, the page cache answers. */
  expectFiles(): Promise<void> {
    return this.order("check");
  }

  async end(): Promise<void> {
    await this.last;
    await this.child.stdin.end();
    assert((await this.child.exited) === 0, "the load ended well");
  }

  private order(line: "write" | "check"): Promise<void> {
    const before = this.last;
    this.last = this.carryOut(before, line);
    return this.last;
  }

  private async carryOut(before: Promise<void>, line: string): Promise<void> {
    await before;
    this.child.stdin.write(`${line}\n`);
    await this.child.stdin.flush();
    const answer = await this.lines.next();
    if (answer.value === "done") return;
    throw new Error(`${line}: ${await new Response(this.child.stderr).text()}`);
  }
}
