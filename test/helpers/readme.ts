/**
 * The code blocks of the top README, by the heading that they stand below: tests run them as they
 * stand there, so that what the README says and what was tried cannot part.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { assert } from "../../src/base/assert.ts";

const README = join(import.meta.dir, "../../README.md");

/** The blocks of shell, in their order. */
export function readmeBlocks(heading: string): string[] {
  const sections = readFileSync(README, "utf8").split(/^## /m);
  const section = sections.find((text) => text.startsWith(`${heading}\n`));
  assert(section !== undefined, `README.md has the heading ${heading}`);
  return [...section.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block!);
}

/** The block that has `words`, which one block alone has. */
export function readmeBlock(heading: string, words: string): string {
  const found = readmeBlocks(heading).filter((block) => block.includes(words));
  assert(found.length === 1, `below ${heading}, one block has ${words}: ${found.length} do`);
  return found[0]!;
}
