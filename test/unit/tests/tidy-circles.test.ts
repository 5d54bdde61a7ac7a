/**
 * Goal: the rule against circles of imports (helpers/tidy/circles.ts) finds each kind of circle and
 * nothing else.
 *
 * Method: small trees, drawn as one line for each file: "src/a/x.ts > src/a/y.ts src/b/z.ts".
 */
import { describe, expect, test } from "bun:test";
import { posix } from "node:path";
import { checkCircles } from "../../helpers/tidy/circles.ts";

function treeOf(...lines: string[]): Map<string, string> {
  return new Map(
    lines.map((line) => {
      const [path, targets = ""] = line.split(" > ");
      const imports = targets.split(" ").filter((target) => target !== "");
      const folder = posix.dirname(path!);
      const source = imports.map((target) => {
        const specifier = posix.relative(folder, target);
        return `import { x } from "${specifier.startsWith(".") ? specifier : `./${specifier}`}";`;
      });
      return [path!, source.join("\n")];
    }),
  );
}

function circlesOf(tree: Map<string, string>, known: readonly string[] = []): string[] {
  return checkCircles(tree, known).map(({ path, message }) => `${path}: ${message}`);
}

describe("circles: of files", () => {
  test("circles: two files that import each other: one circle, both named", () => {
    expect(circlesOf(treeOf("src/a/r/x.ts > src/a/r/y.ts", "src/a/r/y.ts > src/a/r/x.ts"))).toEqual(
      ["src/a/r/x.ts: a circle of files: src/a/r/x.ts -> src/a/r/y.ts -> src/a/r/x.ts"],
    );
  });

  test("circles: three in a ring and a fourth beside it: the three in their order", () => {
    const tree = treeOf(
      "src/a/r/x.ts > src/a/r/z.ts",
      "src/a/r/y.ts > src/a/r/x.ts",
      "src/a/r/z.ts > src/a/r/y.ts src/a/r/w.ts",
      "src/a/r/w.ts",
    );
    expect(circlesOf(tree)).toEqual([
      "src/a/r/x.ts: a circle of files: src/a/r/x.ts -> src/a/r/z.ts -> src/a/r/y.ts -> src/a/r/x.ts",
    ]);
  });

  test("circles: a file that imports itself: a circle", () => {
    expect(circlesOf(treeOf("src/a/x.ts > src/a/x.ts"))).toEqual([
      "src/a/x.ts: a circle of files: src/a/x.ts -> src/a/x.ts",
    ]);
  });

  test("circles: a type, a re-export, a dynamic import: each closes a circle", () => {
    for (const back of [
      'import type { X } from "./x.ts";',
      'export * from "./x.ts";',
      'await import("./x.ts");',
      'let x: import("./x.ts").X;',
    ]) {
      const tree = treeOf("src/a/r/x.ts > src/a/r/y.ts");
      tree.set("src/a/r/y.ts", back);
      expect(circlesOf(tree)).toHaveLength(1);
    }
  });

  test("circles: an import in a comment, a diamond, another way twice: none", () => {
    const tree = treeOf(
      "src/a/r/x.ts > src/a/r/y.ts src/a/r/z.ts src/a/r/w.ts",
      "src/a/r/y.ts > src/a/r/w.ts",
      "src/a/r/z.ts > src/a/r/w.ts",
    );
    tree.set("src/a/r/w.ts", '// import "./x.ts";');
    expect(circlesOf(tree)).toEqual([]);
  });

  test("circles: two that have nothing to do with each other: both are told", () => {
    const tree = treeOf(
      "src/a/r/x.ts > src/a/r/y.ts",
      "src/a/r/y.ts > src/a/r/x.ts",
      "src/b/r/x.ts > src/b/r/y.ts",
      "src/b/r/y.ts > src/b/r/x.ts",
    );
    expect(circlesOf(tree)).toHaveLength(2);
  });

  test("circles: of tests: not the rule's business", () => {
    expect(circlesOf(treeOf("test/x.ts > test/y.ts", "test/y.ts > test/x.ts"))).toEqual([]);
  });
});

describe("circles: of rooms", () => {
  const rooms = treeOf(
    "src/a/one/x.ts > src/a/two/x.ts",
    "src/a/two/x.ts",
    "src/a/two/y.ts > src/a/one/y.ts",
    "src/a/one/y.ts",
  );

  test("circles: two rooms by different files: a circle of rooms alone", () => {
    expect(circlesOf(rooms)).toEqual([
      "src/a/one: a circle of rooms: src/a/one -> src/a/two -> src/a/one",
    ]);
  });

  test("circles: a room and a file that lies in the layer: a circle of rooms", () => {
    const tree = treeOf(
      "src/a/one/x.ts > src/a/x.ts",
      "src/a/x.ts > src/a/one/deep/y.ts",
      "src/a/one/deep/y.ts",
    );
    expect(circlesOf(tree)).toEqual([
      "src/a/one: a circle of rooms: src/a/one -> src/a/x.ts -> src/a/one",
    ]);
  });

  test("circles: within one room, or down through three: none", () => {
    const tree = treeOf(
      "src/a/one/x.ts > src/a/one/y.ts src/a/two/x.ts",
      "src/a/one/y.ts > src/a/two/y.ts",
      "src/a/two/x.ts > src/a/three.ts",
      "src/a/two/y.ts",
      "src/a/three.ts",
    );
    expect(circlesOf(tree)).toEqual([]);
  });

  test("circles: in a layer that is known for them: allowed, and in no other", () => {
    expect(circlesOf(rooms, ["a"])).toEqual([]);
    expect(circlesOf(rooms, ["b", "a"])).toEqual([
      "src/b: has no circle any more: take it off KNOWN_CIRCLES",
    ]);
  });

  test("circles: through a layer that is known and one that is not: refused", () => {
    const tree = treeOf("src/a/r/x.ts > src/b/r/x.ts", "src/b/r/x.ts > src/a/r/x.ts");
    expect(circlesOf(tree, ["a"])).toHaveLength(2);
    expect(circlesOf(tree, ["a", "b"])).toEqual([]);
  });
});
