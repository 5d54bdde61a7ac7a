/**
 * Builds dist/parityd: one executable with the runtime, the program and its workers inside.
 *
 *   bun build.ts [--outfile PATH] [--target bun-linux-arm64]
 *
 * Every Worker script is an entry point of its own, and all of them lie in src/, because compiled
 * code finds a Worker only relative to the common root. The executable loads no file of the folder
 * that it is started in (no .env, bunfig.toml, tsconfig.json, package.json). Stack traces keep
 * their source positions: the map is embedded, and the copy that the bundler leaves beside the
 * executable is removed.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import type { BunPlugin } from "bun";
import manifest from "./package.json" with { type: "json" };
import { bundlePage } from "./src/api/page/page-bundle.ts";
import { type PageFile, packPage } from "./src/api/page/page-file.ts";

const { values } = parseArgs({
  options: { outfile: { type: "string" }, target: { type: "string" } },
});
const outfile = values.outfile ?? join(import.meta.dir, "dist", "parityd");
const target = values.target as Bun.Build.CompileTarget | undefined;

function entryPoint(name: string): string {
  return join(import.meta.dir, "src", name);
}

/** The page in place of the file that builds it at the start (its header says so). */
function pageInside(page: readonly PageFile[]): BunPlugin {
  return {
    name: "page",
    setup: (build) => {
      build.onLoad({ filter: /\/src\/api\/page\/page-source\.ts$/ }, () => {
        const packed = JSON.stringify(packPage(page));
        const contents =
          `import { unpackPage } from "./page-file.ts";\n` +
          `const packed = ${packed};\n` +
          "export async function loadPage() { return unpackPage(packed); }\n";
        return { contents, loader: "js" };
      });
    },
  };
}

function removeMaps(): void {
  const folder = dirname(outfile);
  const ours = new Set(["main", "reactor-main", "helper-main", basename(outfile)]);
  for (const name of readdirSync(folder)) {
    const stem = name.replace(/(\.js)?\.map$/, "");
    if (stem !== name && ours.has(stem)) rmSync(join(folder, name));
  }
}

try {
  mkdirSync(dirname(outfile), { recursive: true });
  // Before the other: a build within a build waits for itself, for ever.
  const page = await bundlePage();
  const result = await Bun.build({
    entrypoints: ["main.ts", "reactor-main.ts", "helper-main.ts"].map(entryPoint),
    target: "bun",
    format: "esm", // The default of bytecode builds, cjs, has no top-level await.
    bytecode: true,
    minify: true,
    sourcemap: "linked",
    plugins: [pageInside(page)],
    define: { "process.env.APP_VERSION": JSON.stringify(manifest.version) },
    compile: {
      outfile,
      autoloadDotenv: false,
      autoloadBunfig: false,
      autoloadTsconfig: false,
      autoloadPackageJson: false,
      ...(target === undefined ? {} : { target }),
    },
  });
  for (const log of result.logs) console.error(String(log));
  removeMaps();
  console.log(`built ${outfile} (version ${manifest.version})`);
} catch (error) {
  const causes = error instanceof AggregateError ? error.errors : [error];
  for (const cause of causes) console.error(String(cause));
  process.exit(1);
}
