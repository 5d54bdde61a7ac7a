/**
 * A FileLoad in a process of its own (file-load-process.ts), told by lines on its stdin.
 *
 *   bun test/helpers/file-load-main.ts FOLDER SEED
 *
 * | line  | what is done                        | printed then |
 * |-------|-------------------------------------|--------------|
 * | write | a round of files                    | done         |
 * | check | every file is as it was written     | done         |
 *
 * It ends with its stdin, or with what went wrong on its stderr.
 */
import { createInterface } from "node:readline";
import { assert, unreachable } from "../../src/base/assert.ts";
import { FileLoad } from "./file-load.ts";

const [, , folder, seed] = process.argv;
assert(folder !== undefined && seed !== undefined, "a folder and a seed are given");
const load = new FileLoad({ folder, seed: Number(seed) });

for await (const line of createInterface({ input: process.stdin })) {
  const order = line as "write" | "check";
  switch (order) {
    case "write":
      await load.writeRound();
      break;
    case "check":
      await load.expectFiles();
      break;
    default:
      unreachable(order);
  }
  process.stdout.write("done\n");
}
