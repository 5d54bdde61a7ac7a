/**
 * Makes any function of an array throw, at any call: loaded with `--preload` before everything
 * else, it puts a call at the beginning of each function of the sources that run for one array.
 * The sources themselves stay as they are, and know nothing of it.
 *
 * - A site is a function, "src/raid5/engine.ts:210 submit". Constructors have none.
 * - `planted.arm(site, nth)`: of the calls between `begin` and `pause` the nth throws, once.
 */
import { join, relative } from "node:path";
import { blank } from "../../helpers/tidy/source.ts";

const TOP = join(import.meta.dir, "../../..");
const FOLDERS = /\/src\/(?:array|raid5|md|parity)\/.+\.ts$/;
/**
 * Not of one array: the guard itself and what it calls, commands on their way to an array (and what
 * they hold), drives, whose superblocks are read before anybody knows whose they are, and compiled
 * kernels.
 */
const LEFT_OUT = new Set(
  [
    "array: array-guard broken-arrays jobs leases reactor-context registry",
    "array/commands: command-door command-leases drive-deadlines drive-silences drives faults service status",
    "array/drives: drive",
    "array/start: needs",
    "parity: kernel-code kernels self-test wasm-assembler",
  ].flatMap((line) => {
    const [folder, names] = line.split(": ");
    return names!.split(" ").map((name) => `src/${folder}/${name}.ts`);
  }),
);

const CONTROL = new Set(["if", "for", "while", "switch", "catch", "with", "constructor"]);

export class Planted {
  readonly sites: string[] = [];
  counts: number[] = [];
  hasThrown = false;
  private armed = -1;
  private left = 0;
  private isPaused = false;

  /** A site that no function is at yet: its number. */
  add(site: string): number {
    return this.sites.push(site) - 1;
  }

  arm(site: number, nth: number): void {
    this.armed = site;
    this.left = nth;
    this.hasThrown = false;
    this.isPaused = true;
    this.counts = new Array<number>(this.sites.length).fill(0);
  }

  /** From now on calls count, and may throw. */
  begin(): void {
    this.isPaused = false;
  }

  pause(): void {
    this.isPaused = true;
  }

  called(site: number): void {
    if (this.isPaused) return;
    this.counts[site]! += 1;
    if (site !== this.armed) return;
    this.left -= 1;
    if (this.left !== 0) return;
    this.hasThrown = true;
    throw new Error(`planted in ${this.sites[site]}`);
  }
}

declare global {
  var plantedThrows: Planted | undefined;
}

/** The source with a call in each function body; lines stay where they are. */
export function plant(
  source: string,
  name: (line: number, functionName: string) => number,
): string {
  const { code } = blank(source);
  let result = "";
  let from = 0;
  for (let at = code.indexOf("{"); at >= 0; at = code.indexOf("{", at + 1)) {
    const functionName = functionBefore(code, at);
    if (functionName === null) continue;
    const line = code.slice(0, at).split("\n").length;
    result += `${source.slice(from, at + 1)} plantedThrows.called(${name(line, functionName)});`;
    from = at + 1;
  }
  return result + source.slice(from);
}

/** The name of the function whose body begins at the brace, or null where it is no function's. */
function functionBefore(code: string, brace: number): string | null {
  const before = code.slice(Math.max(0, brace - 2000), brace).trimEnd();
  if (before.endsWith("=>")) return "=>";
  // A type of the result may stand between the parameters and the body.
  const typed = /\)\s*(?::\s*[\w\s.<>[\]|,]+)?$/.exec(before);
  // A brace behind one of these begins a type.
  if (typed === null || /(?:readonly|[<|,[])$/.test(before)) return null;
  let depth = 0;
  let open = typed.index;
  for (; open >= 0; open -= 1) {
    if (before[open] === ")") depth += 1;
    if (before[open] === "(") depth -= 1;
    if (depth === 0) break;
  }
  const word = /([\w$]+)\s*(?:<[^()]*>)?\s*$/.exec(before.slice(0, Math.max(0, open)))?.[1];
  return word === undefined || CONTROL.has(word) ? null : word;
}

const planted = new Planted();
globalThis.plantedThrows = planted;

Bun.plugin({
  name: "planted throws",
  setup(build) {
    build.onLoad({ filter: FOLDERS }, async ({ path }) => {
      const source = await Bun.file(path).text();
      if (LEFT_OUT.has(relative(TOP, path))) return { contents: source, loader: "ts" };
      const file = relative(TOP, path);
      const contents = plant(source, (line, name) => planted.add(`${file}:${line} ${name}`));
      return { contents, loader: "ts" };
    });
  },
});
