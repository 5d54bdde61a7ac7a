/**
 * Bundles src/page: its TypeScript and CSS become one file each, named by what they hold, and
 * index.html gets those names. Called by build.ts, and at the start of a parityd that runs from its
 * sources; nothing of this is in the executable.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { PageFile } from "./page-file.ts";

const SOURCE = join(import.meta.dir, "../../page");
const GZIP_LEVEL = 9;
const HASH_CHARACTERS = 16;

/** Rejects where the sources cannot be bundled. */
export async function bundlePage(): Promise<PageFile[]> {
  const { outputs } = await Bun.build({
    entrypoints: ["main.tsx", "style.css"].map((name) => join(SOURCE, name)),
    target: "browser",
    format: "esm",
    minify: true,
    define: { "process.env.NODE_ENV": '"production"' },
  });
  const script = outputs.find(({ path }) => path.endsWith(".js"));
  const style = outputs.find(({ path }) => path.endsWith(".css"));
  if (script === undefined || style === undefined) throw new Error("the page has no output");
  const assets = [
    asset("page.js", "text/javascript; charset=utf-8", await script.text()),
    asset("page.css", "text/css; charset=utf-8", await style.text()),
    asset("icon.svg", "image/svg+xml", readFileSync(join(SOURCE, "icon.svg"), "utf8")),
  ];
  let html = readFileSync(join(SOURCE, "index.html"), "utf8");
  for (const { name, file } of assets) html = html.replaceAll(`/assets/${name}`, file.path);
  return [toFile("/", "text/html; charset=utf-8", html), ...assets.map(({ file }) => file)];
}

function asset(name: string, contentType: string, text: string): { name: string; file: PageFile } {
  const [stem, ending] = name.split(".");
  const path = `/assets/${stem}-${hashOf(text)}.${ending}`;
  return { name, file: toFile(path, contentType, text) };
}

function toFile(path: string, contentType: string, text: string): PageFile {
  const gzip = Bun.gzipSync(new TextEncoder().encode(text), { level: GZIP_LEVEL });
  return { path, contentType, hash: hashOf(text), gzip };
}

function hashOf(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, HASH_CHARACTERS);
}
