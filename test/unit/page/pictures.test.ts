/**
 * Goal: what the READMEs show was taken by a test, of the page as it is.
 * Method: each picture that a README names is held against the record that was written when it was
 * taken; what it shows is held against it by the test that takes it (helpers/readme-picture.ts).
 */
import { expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { sha256 } from "../../helpers/daemon.ts";
import { PICTURE_FOLDER, recordedPictures } from "../../helpers/readme-picture.ts";

const TOP = resolve(import.meta.dir, "../../..");
const READMES = ["README.md", "src/page/README.md"];
/** Of the first chunk of a PNG, IHDR: width, height, big-endian. */
const PNG_WIDTH = 16;
const PNG_HEIGHT = 20;

function shown(): string[] {
  const paths = READMES.flatMap((readme) => {
    const text = readFileSync(join(TOP, readme), "utf8");
    const folder = dirname(join(TOP, readme));
    return [...text.matchAll(/!\[[^\]]*\]\(([^)]+)\)/g)].map(([, path]) => join(folder, path!));
  });
  return [...new Set(paths)].sort();
}

test("pictures: what READMEs show is what was recorded, all of it", () => {
  const recorded = Object.keys(recordedPictures()).map((name) =>
    join(PICTURE_FOLDER, `${name}.png`),
  );
  expect(shown()).toEqual(recorded.sort());
});

test("pictures: each is the one that the test took, in the size of its window", () => {
  for (const [name, record] of Object.entries(recordedPictures())) {
    const path = join(PICTURE_FOLDER, `${name}.png`);
    expect([name, existsSync(path)]).toEqual([name, true]);
    const bytes = readFileSync(path);
    const [width, height] = [bytes.readUInt32BE(PNG_WIDTH), bytes.readUInt32BE(PNG_HEIGHT)];
    expect({ name, sha256: sha256(path), width, height }).toEqual({
      ...{ name, sha256: record.sha256, width: record.width, height: record.height },
    });
    expect(record.outline.length).toBeGreaterThan(0);
  }
});
