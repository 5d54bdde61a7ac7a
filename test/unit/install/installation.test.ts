/**
 * Goal: an installation without a package manager writes what the list says and takes back no more
 * than that: what somebody has changed, or put there, is never lost.
 * Method: lists of a few files below a folder of their own, in every state that a file is met in.
 */
import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { InstalledFile } from "../../../src/install/file-list.ts";
import { packageInTheWay, serviceInTheWay } from "../../../src/install/install-files.ts";
import { type Done, install, remove } from "../../../src/install/installation.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const BIN = "/p/bin/x";
const CONFIG = "/etc/x.toml";
const PAGE = "/p/share/man/x.1";
const RECORD = "/p/share/parityd/installed.json";

function place(): { root: string; prefix: string } {
  return { root: makeTempDir("inst"), prefix: "/p" };
}

function listOf(version: string, folder: string): InstalledFile[] {
  const program = join(folder, `program-${version}`);
  writeFileSync(program, `program ${version}`);
  return [
    { path: BIN, mode: 0o755, content: { copyOf: program }, isConfiguration: false },
    { path: CONFIG, mode: 0o644, content: `config ${version}`, isConfiguration: true },
    { path: PAGE, mode: 0o644, content: `page ${version}`, isConfiguration: false },
  ];
}

function deeds(done: readonly Done[]): Record<string, string> {
  return Object.fromEntries(done.map(({ path, deed }) => [path, deed]));
}

function filesBelow(root: string): string[] {
  const names = readdirSync(root, { recursive: true, encoding: "utf8" });
  return names.filter((name) => !statSync(join(root, name)).isDirectory()).sort();
}

function must<T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T {
  if (!result.ok) throw new Error(String(result.error));
  return result.value;
}

const GENTLY = { isForced: false };

describe("installation", () => {
  test("install: a fresh place: modes, contents, no drafts; again: as it is", () => {
    const at = place();
    const files = listOf("1", makeTempDir("src"));
    expect(Object.values(deeds(must(install(files, at, GENTLY))))).toEqual(
      Array(3).fill("written"),
    );
    expect(readFileSync(at.root + BIN, "utf8")).toBe("program 1");
    expect(statSync(at.root + BIN).mode & 0o777).toBe(0o755);
    expect(statSync(at.root + PAGE).mode & 0o777).toBe(0o644);
    const all = ["etc/x.toml", "p/bin/x", "p/share/man/x.1", RECORD.slice(1)];
    expect(filesBelow(at.root)).toEqual(all);
    expect(new Set(Object.values(deeds(must(install(files, at, GENTLY)))))).toEqual(
      new Set(["as it is"]),
    );
  });

  test("install: a newer version: what nobody changed is new, changed configuration stays", () => {
    const at = place();
    const folder = makeTempDir("src");
    must(install(listOf("1", folder), at, GENTLY));
    expect(deeds(must(install(listOf("2", folder), at, GENTLY)))[CONFIG]).toBe("written");
    writeFileSync(at.root + CONFIG, "mine");
    const done = deeds(must(install(listOf("3", folder), at, GENTLY)));
    expect(done).toEqual({ [BIN]: "written", [PAGE]: "written", [CONFIG]: "kept: changed here" });
    expect(readFileSync(at.root + CONFIG, "utf8")).toBe("mine");
    expect(readFileSync(at.root + BIN, "utf8")).toBe("program 3");
  });

  test("install: a file that is not of the list any more: removed, unless it was changed", () => {
    const at = place();
    const folder = makeTempDir("src");
    const [bin, config, page] = listOf("1", folder) as [
      InstalledFile,
      InstalledFile,
      InstalledFile,
    ];
    const other: InstalledFile = { ...page, path: "/p/share/other" };
    must(install([bin, config, page, other], at, GENTLY));
    writeFileSync(at.root + other.path, "mine");
    const done = deeds(must(install([bin, config], at, GENTLY)));
    expect([done[PAGE], done[other.path]]).toEqual(["removed", "left: changed here"]);
    expect(existsSync(at.root + PAGE)).toBe(false);
    expect(readFileSync(at.root + other.path, "utf8")).toBe("mine");
  });

  test.each(["changed", "somebody's", "a symbolic link"])(
    "install: a file that is %s: refused before anything is written; forced",
    (what) => {
      const at = place();
      const folder = makeTempDir("src");
      if (what === "changed") must(install(listOf("1", folder), at, GENTLY));
      mkdirSync(join(at.root, "p/share/man"), { recursive: true });
      if (what === "a symbolic link") symlinkSync("/dev/null", at.root + PAGE);
      else writeFileSync(at.root + PAGE, "theirs");
      const before = filesBelow(at.root);
      const refused = install(listOf("2", folder), at, GENTLY);
      expect(refused).toMatchObject({ ok: false, error: expect.stringContaining(PAGE) });
      expect(filesBelow(at.root)).toEqual(before);
      if (what === "changed") expect(readFileSync(at.root + BIN, "utf8")).toBe("program 1");
      must(install(listOf("2", folder), at, { isForced: true }));
      expect(readFileSync(at.root + PAGE, "utf8")).toBe("page 2");
    },
  );

  test("install: cut short in the middle: repeated, and removed, without force", () => {
    for (const next of ["repeat", "remove"]) {
      const at = place();
      const folder = makeTempDir("src");
      must(install(listOf("1", folder), at, GENTLY));
      // The third of its files cannot be written: a folder is in the way of its draft.
      const draft = join(at.root, "p/share/man", `.parityd-${process.pid}.new`);
      mkdirSync(draft);
      expect(install(listOf("2", folder), at, GENTLY).ok).toBe(false);
      expect(readFileSync(at.root + BIN, "utf8")).toBe("program 2");
      expect(readFileSync(at.root + PAGE, "utf8")).toBe("page 1");
      Bun.spawnSync(["rmdir", draft]);
      if (next === "repeat") {
        must(install(listOf("3", folder), at, GENTLY));
        expect(readFileSync(at.root + PAGE, "utf8")).toBe("page 3");
      } else {
        must(remove(at, { isPurge: true }));
        expect(filesBelow(at.root)).toEqual([]);
      }
    }
  });

  test("remove: what was written and nobody changed; the configuration only with purge", () => {
    const at = place();
    const folder = makeTempDir("src");
    mkdirSync(join(at.root, "p/share"), { recursive: true });
    must(install(listOf("1", folder), at, GENTLY));
    writeFileSync(at.root + PAGE, "mine");
    writeFileSync(at.root + CONFIG, "mine too");
    const done = deeds(must(remove(at, { isPurge: false })));
    expect(done).toEqual({ [BIN]: "removed", [PAGE]: "left: changed here" });
    expect(filesBelow(at.root)).toEqual(["etc/x.toml", "p/share/man/x.1", RECORD.slice(1)]);
    expect(deeds(must(remove(at, { isPurge: true })))).toEqual({ [CONFIG]: "removed" });
    expect(filesBelow(at.root)).toEqual(["p/share/man/x.1"]);
    // Folders that it made and that are empty are gone, the others are not.
    expect(existsSync(join(at.root, "etc"))).toBe(false);
    expect(existsSync(join(at.root, "p/bin"))).toBe(false);
    expect(existsSync(join(at.root, "p/share"))).toBe(true);
    expect(remove(at, { isPurge: true }).ok).toBe(false);
  });

  test("remove: folders that were there stay, also empty", () => {
    const at = place();
    mkdirSync(join(at.root, "p/bin"), { recursive: true });
    must(install(listOf("1", makeTempDir("src")), at, GENTLY));
    must(remove(at, { isPurge: true }));
    expect(readdirSync(at.root)).toEqual(["p"]);
    expect(readdirSync(join(at.root, "p"))).toEqual(["bin"]);
  });

  test("remove: where the configuration stays: empty folders go; one that came again is not ours", () => {
    const at = place();
    must(install(listOf("1", makeTempDir("src")), at, GENTLY));
    must(remove(at, { isPurge: false }));
    const folders = readdirSync(at.root, { recursive: true, encoding: "utf8" }).sort();
    expect(folders).toEqual([
      ...["etc", CONFIG.slice(1), "p", "p/share", "p/share/parityd", RECORD.slice(1)],
    ]);
    mkdirSync(join(at.root, "p/bin"));
    must(remove(at, { isPurge: true }));
    expect(readdirSync(at.root, { recursive: true, encoding: "utf8" }).sort()).toEqual([
      ...["p", "p/bin"],
    ]);
  });

  test("install, remove: what cannot be read or written is said, in a sentence", () => {
    const at = place();
    const files = listOf("1", makeTempDir("src"));
    const [bin] = files as [InstalledFile];
    const gone = { ...bin, content: { copyOf: "/none/such" } };
    expect(install([gone], at, GENTLY)).toMatchObject({ ok: false });
    must(install(files, at, GENTLY));
    writeFileSync(at.root + RECORD, "{");
    chmodSync(at.root + RECORD, 0o644);
    for (const outcome of [install(files, at, GENTLY), remove(at, { isPurge: true })]) {
      expect(outcome).toMatchObject({
        ok: false,
        error: expect.stringContaining("installed.json"),
      });
    }
    expect(readFileSync(at.root + BIN, "utf8")).toBe("program 1");
  });
});

describe("beside the package", () => {
  test.each([
    ["/usr/local", "", "refused"],
    ["/usr/local", "forced", "done"],
    ["/usr/local", "no package", "done"],
    ["/usr/local", "below a root", "done"],
    ["/usr", "", "refused"],
    ["/usr", "forced", "refused"],
    ["/usr", "no package", "done"],
    ["/opt/p", "", "done"],
  ])("install-files: %s, %s: %s", (prefix, how, what) => {
    const refusal = packageInTheWay(
      { prefix, root: how === "below a root" ? "/r" : "" },
      { isForced: how === "forced", isPackageInstalled: () => how !== "no package" },
    );
    expect(refusal === null ? "done" : "refused").toBe(what);
    if (refusal !== null) expect(refusal.includes("--force")).toBe(prefix === "/usr/local");
  });
});

test.each([
  ["it runs", "refused"],
  ["forced", "done"],
  ["below a root", "done"],
  ["it does not run", "done"],
])("install-files --remove, the service: %s: %s", (how, what) => {
  const refusal = serviceInTheWay(
    { prefix: "/usr/local", root: how === "below a root" ? "/r" : "" },
    { isForced: how === "forced", isServiceActive: () => how !== "it does not run" },
  );
  expect(refusal === null ? "done" : "refused").toBe(what);
  if (refusal !== null) expect(refusal).toContain("systemctl disable --now parityd");
});
