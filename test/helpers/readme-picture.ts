/**
 * The pictures that a README shows: src/page/NAME.png, taken by a test, never by hand.
 *
 * Renderings differ from one Chromium to the next, so that pictures are not compared. For each of
 * them src/page/pictures.json has what it is, and of what:
 *
 *   | key     | what                                        | held against it by                |
 *   |---------|---------------------------------------------|-----------------------------------|
 *   | sha256  | of the picture                              | test/unit/page/pictures.test.ts   |
 *   | width   | of the window, in pixels, as is `height`    | both                              |
 *   | outline | the words of the page's frame: its headings | the test that takes it, each time |
 *   |         | columns, labels and buttons, in their order |                                   |
 *
 * With PARITYD_UPDATE_PICTURES=1 they are taken anew.
 */
import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Page } from "playwright-core";
import { picture } from "./browser.ts";
import { sha256 } from "./daemon.ts";

export const PICTURE_FOLDER = resolve(import.meta.dir, "../../src/page");
const RECORD = join(PICTURE_FOLDER, "pictures.json");
const OUTLINED = "h1, h2, h3, th, dt, label, button, nav a, .badge";

export interface ReadmePicture {
  readonly sha256: string;
  readonly width: number;
  readonly height: number;
  readonly outline: readonly string[];
}

/** By name, without `.png`. */
export function recordedPictures(): Readonly<Record<string, ReadmePicture>> {
  return JSON.parse(readFileSync(RECORD, "utf8"));
}

/** Takes it, and holds it against the one that is checked in. */
export async function readmePicture(page: Page, name: string): Promise<void> {
  const path = await picture(page, name);
  const { width, height } = page.viewportSize()!;
  const texts = (await page.evaluate(
    `[...document.querySelectorAll("${OUTLINED}")].map((each) => each.textContent)`,
  )) as string[];
  const outline = texts.map((text) => text.trim().replace(/\d+(\.\d+)?/g, "#"));
  const recorded = recordedPictures();
  if (process.env["PARITYD_UPDATE_PICTURES"] === "1") {
    writeFileSync(join(PICTURE_FOLDER, `${name}.png`), readFileSync(path));
    const all = { ...recorded, [name]: { sha256: sha256(path), width, height, outline } };
    writeFileSync(RECORD, `${JSON.stringify(all, null, 2)}\n`);
    return;
  }
  const { sha256: _, ...shown } = recorded[name]!;
  // Another page than in the picture: PARITYD_UPDATE_PICTURES=1 takes it anew.
  expect({ name, width, height, outline }).toEqual({ name, ...shown, outline: [...shown.outline] });
}
