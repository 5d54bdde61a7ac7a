/**
 * Who may use what: layers, purity, workers, sets, the page.
 *
 *   src/<layer>/…   imports its own layer and lower ones (LAYERS, lowest first)
 *   src/*.ts        the composition roots: any layer, and ffi/
 *   ffi/…           only ffi/; imported by the roots and the adapters of FFI_USERS
 */
import { posix } from "node:path";
import { blank, importsOf, isSource, lineOf, type Violation } from "./source.ts";

/** Lowest first. */
export const LAYERS = [
  "base",
  "reactor",
  "block",
  "parity",
  "md",
  "raid5",
  "array",
  "nbd",
  "wiring",
  "appliance",
  "api",
  "cli",
  "page",
  "install",
] as const;

export const ROOTS = ["src/main.ts", "src/reactor-main.ts", "src/helper-main.ts"] as const;

/** The highest layer of those that take time, randomness and I/O as constructor arguments. */
const HIGHEST_PURE_LAYER = LAYERS.indexOf("wiring");

const FFI_USERS =
  /^src\/(?:(?:reactor|appliance(?:\/[^/]+)?)\/linux-[^/]*\.ts|block\/aio-device\.ts)$/;
const ADAPTERS = /^src\/(?:(?:[^/]+\/)+linux-[^/]*\.ts|block\/aio-device\.ts)$/;

/** The rank of a file in src/, a root above all; undefined outside of the layers. */
function rankOf(path: string): number | undefined {
  if ((ROOTS as readonly string[]).includes(path)) return LAYERS.length;
  const folder = /^src\/([^/]+)\//.exec(path)?.[1];
  const rank = (LAYERS as readonly string[]).indexOf(folder ?? "");
  return rank < 0 ? undefined : rank;
}

function layerName(rank: number): string {
  return LAYERS[rank] ?? "a composition root";
}

function importViolation(path: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  const target = posix.normalize(posix.join(posix.dirname(path), specifier));
  if (path.startsWith("ffi/")) {
    return target.startsWith("ffi/") ? undefined : `ffi/ imports only ffi/, not ${target}`;
  }
  if (target.startsWith("ffi/")) {
    const isAllowed = rankOf(path) === LAYERS.length || FFI_USERS.test(path);
    return isAllowed ? undefined : `ffi/ is not for this file: ${target}`;
  }
  if (!target.startsWith("src/")) return `imports from outside src/ and ffi/: ${target}`;
  const own = rankOf(path);
  const other = rankOf(target);
  if (own === undefined || other === undefined || other <= own) return undefined;
  return `${layerName(own)} may not import ${layerName(other)}: ${target}`;
}

/** The layer rule: imports point down, ffi/ only from its users, every file in a layer. */
export function checkLayers(path: string, source: string): Violation[] {
  if (!isSource(path)) return [];
  if (!path.startsWith("src/") && !path.startsWith("ffi/")) return [];
  const violations: Violation[] = [];
  if (path.startsWith("src/") && rankOf(path) === undefined) {
    violations.push({ path, line: 0, message: "in no layer, and no composition root" });
  }
  const blanked = blank(source);
  for (const { specifier, line } of importsOf(blanked)) {
    const message = importViolation(path, specifier);
    if (message !== undefined) violations.push({ path, line, message });
  }
  for (const match of blanked.code.matchAll(/(?<![\w$.])(?:import|require)\s*\(\s*(?!["'\s])/g)) {
    const message = "a computed import cannot be checked";
    violations.push({ path, line: lineOf(blanked.code, match.index), message });
  }
  return violations;
}

/** A global by its name: not a property of some object, unless that is the global object. */
function globalName(names: string): RegExp {
  const alone = "(?<![\\w$.])";
  const spread = "(?<=\\.\\.\\.)";
  const ofGlobalObject = "(?<=\\b(?:globalThis|self|window)\\s*\\??\\.\\s*)";
  return new RegExp(`(?:${alone}|${spread}|${ofGlobalObject})(?:${names})(?![\\w$])`, "g");
}

const BANNED: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: "Date", pattern: globalName("Date") },
  { what: "performance", pattern: globalName("performance") },
  { what: "Math.random", pattern: /\bMath\s*\??\.\s*random\b/g },
  { what: "random numbers of crypto", pattern: /\b(?:getRandomValues|randomUUID|randomBytes)\b/g },
  { what: "a timer", pattern: globalName("setTimeout|setInterval|setImmediate") },
  { what: "queueMicrotask", pattern: globalName("queueMicrotask") },
  { what: "Bun", pattern: globalName("Bun") },
  // process.hrtime and process.nextTick are a clock and a queue just as well.
  { what: "process", pattern: globalName("process(?=\\s*\\??[.[])") },
];

/** The purity rule: base/ to nbd/ get time, randomness and I/O handed in. */
export function checkPurity(path: string, source: string): Violation[] {
  const rank = rankOf(path);
  if (!path.endsWith(".ts") || rank === undefined || rank > HIGHEST_PURE_LAYER) return [];
  if (ADAPTERS.test(path)) return [];
  const blanked = blank(source);
  const violations: Violation[] = [];
  for (const { specifier, line } of importsOf(blanked)) {
    if (!/^(?:node:|bun:|bun$)/.test(specifier)) continue;
    violations.push({ path, line, message: `${layerName(rank)} may not import ${specifier}` });
  }
  for (const { what, pattern } of BANNED) {
    for (const match of blanked.code.matchAll(pattern)) {
      const line = lineOf(blanked.code, match.index);
      violations.push({ path, line, message: `${layerName(rank)} may not use ${what}` });
    }
  }
  return violations;
}

/** Compiled code finds a Worker only from the entry file. */
export function checkWorkers(path: string, source: string): Violation[] {
  if (!isSource(path) || path === "src/main.ts") return [];
  if (!path.startsWith("src/") && !path.startsWith("ffi/")) return [];
  const { code } = blank(source);
  const message = "a Worker is made in src/main.ts only";
  const uses = code.matchAll(/\bnew\s+(?:globalThis\s*\.\s*)?Worker\b/g);
  return [...uses].map((match) => ({ path, line: lineOf(code, match.index), message }));
}

/**
 * Roles and data chunks are sets of up to 53 (base/bit-set.ts), of which the operators see 32. A
 * shift by `& 31` is a place in a word of a map, which is none.
 */
export function checkSets(path: string, source: string): Violation[] {
  if (!/^src\/(?:raid5|array)\/.*\.ts$/.test(path)) return [];
  const { code } = blank(source);
  const message = "a set is made and asked by base/bit-set.ts";
  const uses = code.matchAll(/\b1\s*<<(?!\s*\([^()]*& 31\))|\bMath\s*\.\s*clz32\b/g);
  return [...uses].map((match) => ({ path, line: lineOf(code, match.index), message }));
}

/**
 * The page runs in a browser: of the daemon it has types, and values of base/ alone; the libraries
 * of the page are nobody else's.
 */
export function checkPage(path: string, source: string): Violation[] {
  if (!isSource(path) || !path.startsWith("src/")) return [];
  const isPage = path.startsWith("src/page/");
  const blanked = blank(source);
  const violations: Violation[] = [];
  for (const { specifier, line, isType } of importsOf(blanked)) {
    const target = posix.normalize(posix.join(posix.dirname(path), specifier));
    const isOwn = specifier.startsWith(".") && /^src\/(?:page|base)\//.test(target);
    const isLibrary = /^(?:preact|uplot)(?:\/|$)/.test(specifier);
    if (isPage && !isOwn && !isLibrary && !isType) {
      violations.push({ path, line, message: `the page takes only types of ${specifier}` });
    }
    if (!isPage && isLibrary) {
      violations.push({ path, line, message: `${specifier} is for the page alone` });
    }
  }
  if (!isPage) return violations;
  for (const match of blanked.code.matchAll(globalName("Bun|process(?=\\s*\\??[.[])"))) {
    const message = `a browser has no ${match[0]}`;
    violations.push({ path, line: lineOf(blanked.code, match.index), message });
  }
  return violations;
}
