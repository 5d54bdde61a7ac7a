/** Programs of a host for tests: as functions, and as scripts in a folder of their own. */
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ToolAnswer, ToolRequest, ToolRunner } from "../../src/appliance/host/linux-tool.ts";

/** Answers by a function, and keeps what was asked. */
export class FakeTools implements ToolRunner {
  readonly asked: ToolRequest[] = [];
  overdueCount = 0;
  answer: (request: ToolRequest) => ToolAnswer | Promise<ToolAnswer>;

  constructor(answer: (request: ToolRequest) => ToolAnswer | Promise<ToolAnswer>) {
    this.answer = answer;
  }

  run(request: ToolRequest): Promise<ToolAnswer> {
    this.asked.push(request);
    return Promise.resolve(this.answer(request));
  }

  stop(): void {}
}

export function exited(stdout: string, exitCode = 0, complaint = ""): ToolAnswer {
  return { kind: "exited", exitCode, stdout, complaint };
}

/** A shell script; the answer is its path. */
export function writeTool(folder: string, name: string, script: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${script}\n`);
  chmodSync(path, 0o755);
  return path;
}
