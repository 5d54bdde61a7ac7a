/**
 * A headless Chromium on the page at `/`: opened in a theme and a size, watched for what must not
 * happen (an error, a violation of its policy), judged by axe-core, photographed.
 *
 * Pictures go to dist/page/, which git ignores.
 */
import { afterAll } from "bun:test";
import { mkdirSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import axe from "axe-core";
import { type Browser, chromium, type Page } from "playwright-core";
import { assert } from "../../src/base/assert.ts";
import { toolPath } from "./needs.ts";
import { TEST_LIMIT_MS } from "./test-limit.ts";

const PICTURES = resolve(import.meta.dir, "../../dist/page");

export const THEMES = ["light", "dark"] as const;
export const SIZES = {
  desktop: { width: 1200, height: 800 },
  phone: { width: 390, height: 844 },
} as const;

export type Theme = (typeof THEMES)[number];
export type Size = keyof typeof SIZES;

let browser: Browser | undefined;
afterAll(async () => {
  await browser?.close();
  browser = undefined;
});

/** What a page has done that it must not. */
export interface Watched {
  readonly page: Page;
  readonly faults: string[];
}

export async function openPage(theme: Theme, size: Size): Promise<Watched> {
  browser ??= await launch();
  const context = await browser.newContext({ colorScheme: theme, viewport: SIZES[size] });
  const page = await context.newPage();
  page.setDefaultTimeout(TEST_LIMIT_MS / 4);
  const faults: string[] = [];
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("console", (message) => {
    const text = message.text();
    // Refusals that a test brings about are written down by the browser too.
    if (message.type() === "error" && !/status of 4\d\d/.test(text)) faults.push(text);
  });
  await page.addInitScript(
    `addEventListener("securitypolicyviolation", (event) =>
       console.error("policy: " + event.violatedDirective + " " + event.blockedURI));`,
  );
  return { page, faults };
}

function launch(): Promise<Browser> {
  const executablePath = toolPath("chromium");
  assert(executablePath !== undefined, "chromium is installed");
  // Its sandbox refuses to run as root.
  const args = process.getuid?.() === 0 ? ["--no-sandbox"] : [];
  return chromium.launch({ executablePath, args });
}

/** What axe-core finds wrong with what is shown now, a line each. */
export async function violationsOf(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const found = (await page.evaluate(
    `axe.run(document).then(({ violations }) => violations.flatMap(({ id, nodes }) =>
       nodes.map(({ html, failureSummary }) => id + ": " + html + " " + failureSummary)))`,
  )) as string[];
  return found;
}

/** Of what is seen; answers with its path. */
export async function picture(page: Page, name: string): Promise<string> {
  mkdirSync(PICTURES, { recursive: true });
  const path = join(PICTURES, `${name}.png`);
  await page.screenshot({ path, animations: "disabled" });
  return path;
}

/** A port of 127.0.0.1 that nobody listens on. */
export function freePort(): Promise<number> {
  return new Promise((resolvePort) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      assert(typeof address === "object" && address !== null, "it listens on a port");
      server.close(() => resolvePort(address.port));
    });
  });
}
