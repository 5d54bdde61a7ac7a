/**
 * Files written and removed without a package manager.
 *
 * A record beside them (PREFIX/share/parityd/installed.json) says what was written, by its SHA-256,
 * and which folders were made for it. What differs from the record is somebody's: it is never
 * overwritten (configuration is kept, anything else ends the installation before it begins), and
 * never removed.
 *
 *   | there already             | configuration | anything else              |
 *   |---------------------------|---------------|----------------------------|
 *   | nothing, or as we left it | written       | written                    |
 *   | what would be written     | kept          | kept                       |
 *   | anything else             | kept          | refused (--force: written) |
 *
 * Each file appears whole, by a rename. The record is written first, with the old and the new sums,
 * so that an installation that was cut short can be repeated or removed.
 */
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmdirSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { err, ok, type Result } from "../base/result.ts";
import type { InstalledFile } from "./file-list.ts";

export type Deed = "written" | "as it is" | "kept: changed here" | "removed" | "left: changed here";

export interface Done {
  readonly path: string;
  readonly deed: Deed;
}

export interface Place {
  /** All paths are below it; "": the host's own root. */
  readonly root: string;
  readonly prefix: string;
}

interface InstallationRecord {
  /** By path, without the root: the sums of what may lie there from us. */
  readonly files: Readonly<Record<string, readonly string[]>>;
  /** Folders that were made, without the root. */
  readonly folders: readonly string[];
  /** Of those files, the ones that people change. */
  readonly configuration: readonly string[];
}

const EMPTY: InstallationRecord = { files: {}, folders: [], configuration: [] };

/** For package managers of other kinds: every file below `root`, and no record. */
export function writeAll(files: readonly InstalledFile[], root: string): void {
  for (const file of files) {
    mkdirSync(dirname(root + file.path), { recursive: true });
    writeWhole(file, root + file.path);
  }
}

export function install(
  files: readonly InstalledFile[],
  place: Place,
  { isForced }: { isForced: boolean },
): Result<Done[], string> {
  const record = readRecord(place);
  if (!record.ok) return record;
  const judged = attempt(() => files.map((file) => judge(file, place, record.value)));
  if (!judged.ok) return judged;
  const plan = judged.value;
  const strange = plan.filter(({ state }) => state === "strange");
  if (strange.length > 0 && !isForced) {
    const paths = strange.map(({ file }) => file.path).join(", ");
    return err(`not from here, or changed: ${paths}: nothing was written (--force overwrites)`);
  }
  const folders = [...new Set([...record.value.folders, ...missingFolders(files, place)])];
  const configuration = files.filter((file) => file.isConfiguration).map(({ path }) => path);
  const old = record.value.files;
  const both = plan.map(({ file, sum }) => [file.path, [...(old[file.path] ?? []), sum]] as const);
  return attempt(() => {
    writeRecord(place, { files: { ...old, ...Object.fromEntries(both) }, folders, configuration });
    const done = plan.map(({ file, state }): Done => {
      const { path } = file;
      if (state === "same") return { path, deed: "as it is" };
      if (state === "changed") return { path, deed: "kept: changed here" };
      mkdirSync(dirname(place.root + path), { recursive: true });
      writeWhole(file, place.root + path);
      return { path, deed: "written" };
    });
    const now = Object.fromEntries(plan.map(({ file, sum }) => [file.path, [sum]]));
    const gone = Object.entries(old).filter(([path]) => now[path] === undefined);
    for (const [path, sums] of gone) done.push(removeOne(place, path, sums, false));
    writeRecord(place, { files: now, folders, configuration });
    return done;
  });
}

/** Removes what the record names; configuration too with `isPurge`, changed or not. */
export function remove(place: Place, { isPurge }: { isPurge: boolean }): Result<Done[], string> {
  const record = readRecord(place);
  if (!record.ok) return record;
  const { files, folders, configuration } = record.value;
  if (Object.keys(files).length === 0) {
    return err(`${recordPath(place)} is not there: nothing was installed by install-files`);
  }
  return attempt(() => {
    const done: Done[] = [];
    const kept: Record<string, readonly string[]> = {};
    for (const [path, sums] of Object.entries(files)) {
      const isConfiguration = configuration.includes(path);
      if (isConfiguration && !isPurge) kept[path] = sums;
      else done.push(removeOne(place, path, sums, isConfiguration));
    }
    const isAll = Object.keys(kept).length === 0;
    if (isAll) rmSync(place.root + recordPath(place));
    // A folder that goes here is not ours any more: whoever makes it again keeps it.
    const left = [...folders].sort().reverse();
    const stays = left.filter((folder) => !removeEmpty(place.root + folder)).reverse();
    if (!isAll) writeRecord(place, { files: kept, folders: stays, configuration });
    return done;
  });
}

type State = "absent" | "ours" | "same" | "changed" | "strange";

interface Step {
  readonly file: InstalledFile;
  readonly state: State;
  /** Of what would be written. */
  readonly sum: string;
}

function judge(file: InstalledFile, { root }: Place, record: InstallationRecord): Step {
  const sum = sumOfContent(file.content);
  const found = sumOfPath(root + file.path);
  const stateOf = (): State => {
    if (found === null) return "absent";
    if (found === sum) return "same";
    if (record.files[file.path]?.includes(found) === true) return "ours";
    return file.isConfiguration ? "changed" : "strange";
  };
  return { file, sum, state: stateOf() };
}

function removeOne(
  { root }: Place,
  path: string,
  sums: readonly string[],
  isWhateverItIs: boolean,
): Done {
  const found = sumOfPath(root + path);
  if (found === null) return { path, deed: "removed" };
  if (!isWhateverItIs && !sums.includes(found)) return { path, deed: "left: changed here" };
  unlinkSync(root + path);
  return { path, deed: "removed" };
}

/** Its own folder goes with the last thing in it. Whether it is gone. */
function removeEmpty(folder: string): boolean {
  try {
    rmdirSync(folder);
  } catch {
    // Somebody else's things are in it, or it is gone.
  }
  return !existsSync(folder);
}

function missingFolders(files: readonly InstalledFile[], place: Place): string[] {
  const missing = new Set<string>();
  for (const path of [...files.map((file) => file.path), recordPath(place)]) {
    for (let folder = dirname(path); folder !== "/"; folder = dirname(folder)) {
      if (!existsSync(place.root + folder)) missing.add(folder);
    }
  }
  return [...missing];
}

function recordPath({ prefix }: Place): string {
  return `${prefix}/share/parityd/installed.json`;
}

function readRecord(place: Place): Result<InstallationRecord, string> {
  const path = place.root + recordPath(place);
  if (!existsSync(path)) return ok(EMPTY);
  try {
    return ok({ ...EMPTY, ...(JSON.parse(readFileSync(path, "utf8")) as InstallationRecord) });
  } catch (error) {
    return err(`${path} cannot be read: ${error instanceof Error ? error.message : error}`);
  }
}

function writeRecord(place: Place, record: InstallationRecord): void {
  const path = place.root + recordPath(place);
  mkdirSync(dirname(path), { recursive: true });
  const content = `${JSON.stringify(record, null, 1)}\n`;
  writeWhole({ path, mode: 0o644, content, isConfiguration: false }, path);
}

/** The executable may be running: its name gets another file, and what runs keeps the old one. */
function writeWhole({ content, mode }: InstalledFile, path: string): void {
  const draft = join(dirname(path), `.parityd-${process.pid}.new`);
  try {
    if (isCopy(content)) copyFileSync(content.copyOf, draft);
    else writeFileSync(draft, content);
    chmodSync(draft, mode);
    renameSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
}

function isCopy(content: InstalledFile["content"]): content is { readonly copyOf: string } {
  return typeof content === "object" && "copyOf" in content;
}

const PIECE_BYTES = 1024 * 1024;

function sumOfContent(content: InstalledFile["content"]): string {
  if (isCopy(content)) return sumOfFile(content.copyOf);
  return new Bun.CryptoHasher("sha256").update(content).digest("hex");
}

/** Null: nothing is there. What is no regular file has a sum that nothing else has. */
function sumOfPath(path: string): string | null {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return null;
  return stats.isFile() ? sumOfFile(path) : "no file";
}

function sumOfFile(path: string): string {
  const hasher = new Bun.CryptoHasher("sha256");
  const piece = new Uint8Array(PIECE_BYTES);
  const file = openSync(path, "r");
  try {
    for (;;) {
      const count = readSync(file, piece);
      if (count === 0) return hasher.digest("hex");
      hasher.update(piece.subarray(0, count));
    }
  } finally {
    closeSync(file);
  }
}

function attempt<T>(work: () => T): Result<T, string> {
  try {
    return ok(work());
  } catch (error) {
    return err(error instanceof Error ? error.message : String(error));
  }
}
