/**
 * state.db: the SQLite file in which the state is kept (state.ts says what). Nothing here ends the
 * daemon: what cannot be read is left out and said, what cannot be written is an error value.
 *
 * WAL with synchronous=FULL: what was answered "done" is there after a power cut. There is no
 * waiting for locks here, since it would stop the control thread: the store tries again.
 *
 * | the file is                  | then                                                          |
 * |------------------------------|---------------------------------------------------------------|
 * | absent, or has been deleted  | a new one is made, with what is in memory                     |
 * | on a full or read-only disk, | a copy of it is read; writing is tried again with each change |
 * | or locked                    |                                                               |
 * | damaged, or no database      | set aside as state.db.damaged-N; what could be read is kept   |
 * | of an earlier version        | brought up to date (migrations.ts)                            |
 * | of a newer version           | a copy of it is read as far as it is known; never written     |
 */
import { Database } from "bun:sqlite";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { err, ok, type Result } from "../../base/result.ts";
import { migrate, SCHEMA_VERSION, versionOf } from "./migrations.ts";
import type { State, StateChange, StoredEvent } from "./state.ts";
import { attempt, Reading, readEvents, type StateFileError, writeAll } from "./state-rows.ts";

/** The file as the store sees it. */
export interface StateFile {
  /** Whether new obligations may be taken: the last room is kept for what must be written. */
  hasRoom(): Result<null, StateFileError>;
  /** All of it durably, or nothing. */
  write(changes: readonly StateChange[]): Result<null, StateFileError>;
  /** Sets what is there aside and begins a new file. */
  remake(changes: Iterable<StateChange>): Result<null, StateFileError>;
  /** Events between two ids (both exclusive), oldest first; none where they cannot be read. */
  eventsBetween(range: { sinceId: number; beforeId: number; limit: number }): StoredEvent[];
  close(): void;
}

export interface LoadedState {
  readonly state: State;
  /** What was wrong with the file, a sentence each. */
  readonly problems: readonly string[];
  /** Sentence why nothing may be written to it, or null. */
  readonly readOnlyReason: string | null;
}

/** For events and the ends of jobs, when the file system is all but full. */
const RESERVED_BYTES = 128 * 1024;

export class SqliteStateFile implements StateFile {
  private readonly path: string;
  /** A folder on another file system, for a copy of a file that cannot be opened where it is. */
  private readonly scratch: string;
  private database: Database | null = null;
  /** Device and inode of what is open: the path may come to lead elsewhere. */
  private identity = "";
  private readOnlyReason: string | null = null;

  constructor({ path, scratch }: { path: string; scratch: string }) {
    this.path = path;
    this.scratch = scratch;
  }

  /** Opens or makes the file. Always answers, at the worst with nothing. */
  load(): LoadedState {
    const reading = new Reading();
    const found = statSync(this.path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isFile()) {
      // To open a pipe waits for whoever writes to it.
      this.readOnlyReason = `${this.path} is no regular file: move it away`;
      const { state, problems } = reading;
      return { state, problems, readOnlyReason: this.readOnlyReason };
    }
    if (found?.size === 0) reading.problems.push(`${this.path} was empty: what it held is lost`);
    const version = attempt(() => versionInHeader(this.path));
    if (version.ok && !this.isOurs(version.value)) {
      this.readCopy(reading);
      const { state, problems } = reading;
      return { state, problems, readOnlyReason: this.readOnlyReason };
    }
    const opened = attempt(() => this.open());
    if (opened.ok) reading.readAll(this.database!);
    else {
      reading.note(`${this.path} cannot be opened`, opened.error);
      // What is no database at all has nothing to copy.
      if (opened.error.kind !== "damaged") this.readCopy(reading);
    }
    const { state, problems } = reading;
    if (reading.isDamaged) {
      // Ids of rows that are lost must not be given again: count on from the time of day.
      const nowSeconds = Math.floor(Date.now() / 1000);
      state.lastEventId = Math.max(state.lastEventId, nowSeconds);
      state.lastJobId = Math.max(state.lastJobId, nowSeconds);
      const remade = this.remake(state.asChanges());
      if (!remade.ok) reading.note("a new state.db cannot be made", remade.error);
    }
    for (const name of this.keptAside()) {
      problems.push(`what could not be read is kept in ${name}: remove it when nothing is missing`);
    }
    return { state, problems, readOnlyReason: this.readOnlyReason };
  }

  hasRoom(): Result<null, StateFileError> {
    const room = attempt(() => {
      const { bfree, bsize } = statfsSync(dirname(this.path));
      return bfree * bsize;
    });
    // Where nobody can tell, writing will.
    if (!room.ok || room.value >= RESERVED_BYTES) return ok(null);
    const detail = `${dirname(this.path)} has ${room.value} bytes left, ${RESERVED_BYTES} are kept`;
    return err({ kind: "refused", detail });
  }

  write(changes: readonly StateChange[]): Result<null, StateFileError> {
    if (this.readOnlyReason !== null) {
      return err({ kind: "refused", detail: this.readOnlyReason });
    }
    if (!existsSync(this.path) || (this.database !== null && this.isElsewhere())) {
      return err({ kind: "gone", detail: `${this.path} is gone` });
    }
    return attempt(() => {
      if (this.database === null) this.open();
      writeAll(this.database!, changes);
      return null;
    });
  }

  remake(changes: Iterable<StateChange>): Result<null, StateFileError> {
    if (this.readOnlyReason !== null) {
      return err({ kind: "refused", detail: this.readOnlyReason });
    }
    return attempt(() => {
      this.close();
      mkdirSync(dirname(this.path), { recursive: true, mode: 0o750 });
      if (existsSync(this.path)) setAside(this.path);
      this.open();
      writeAll(this.database!, changes);
      return null;
    });
  }

  eventsBetween(range: { sinceId: number; beforeId: number; limit: number }): StoredEvent[] {
    const read = attempt(() =>
      this.database === null ? [] : readEvents(this.database, range, "ASC"),
    );
    return read.ok ? read.value : [];
  }

  close(): void {
    const { database } = this;
    this.database = null;
    if (database !== null) attempt(() => database.close());
  }

  /** Files that were set aside, in this start or an earlier one. */
  private keptAside(): string[] {
    const prefix = `${basename(this.path)}.damaged-`;
    const listed = attempt(() => readdirSync(dirname(this.path)));
    if (!listed.ok) return [];
    return listed.value.filter((name) => name.startsWith(prefix) && !/-(wal|shm)$/.test(name));
  }

  private open(): void {
    const umask = process.umask(0o077);
    try {
      const database = new Database(this.path, { create: true, strict: true });
      try {
        database.run("PRAGMA busy_timeout = 0");
        database.run("PRAGMA journal_mode = WAL");
        database.run("PRAGMA synchronous = FULL");
        // The log stays small: the state directory may be.
        database.run("PRAGMA wal_autocheckpoint = 16");
        database.run("PRAGMA journal_size_limit = 65536");
        if (this.isOurs(versionOf(database))) migrate(database);
      } catch (error) {
        database.close();
        throw error;
      }
      this.database = database;
      this.identity = identityOf(this.path);
    } finally {
      process.umask(umask);
    }
  }

  /** Whether the file is one to be written; if not, why is kept. */
  private isOurs(version: number): boolean {
    if (version <= SCHEMA_VERSION) return true;
    this.readOnlyReason =
      `${this.path} was written by a newer parityd (schema ${version}, this one knows ` +
      `${SCHEMA_VERSION}): start that version, or move the file away`;
    return false;
  }

  private isElsewhere(): boolean {
    return identityOf(this.path) !== this.identity;
  }

  /** Reads the file where it can be opened, with its log; else its pages alone. */
  private readCopy(reading: Reading): void {
    if (!existsSync(this.path)) return;
    const copied = attempt(() => {
      const folder = mkdtempSync(join(this.scratch, "state-"));
      try {
        const copy = join(folder, basename(this.path));
        copyFileSync(this.path, copy);
        if (existsSync(`${this.path}-wal`)) copyFileSync(`${this.path}-wal`, `${copy}-wal`);
        const database = new Database(copy, { readwrite: true, strict: true });
        if (this.isOurs(versionOf(database))) migrate(database);
        reading.readAll(database);
        database.close();
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
    if (copied.ok) return;
    const read = attempt(() => {
      const pages = readFileSync(this.path);
      // Bytes 18 and 19 say that there is a log, which a database in memory cannot have.
      pages.fill(1, 18, 20);
      reading.readAll(Database.deserialize(pages));
    });
    if (!read.ok) reading.note(`${this.path} cannot be read`, read.error);
  }
}

/**
 * The version as it stands in the file, so that a newer one is not even opened: SQLite would make
 * its log, and take over what is in one. 0: there is no such file, or no database in it.
 */
function versionInHeader(path: string): number {
  if (!existsSync(path)) return 0;
  const header = Buffer.alloc(64);
  const file = openSync(path, "r");
  const bytes = readSync(file, header);
  closeSync(file);
  return bytes < 64 || header.toString("latin1", 0, 15) !== "SQLite format 3"
    ? 0
    : header.readInt32BE(60);
}

function identityOf(path: string): string {
  const status = statSync(path, { throwIfNoEntry: false });
  return status === undefined ? "none" : `${status.dev}:${status.ino}`;
}

/** Moves the file and what belongs to it to a name that is free. */
function setAside(path: string): void {
  let number = 1;
  while (existsSync(`${path}.damaged-${number}`)) number += 1;
  renameSync(path, `${path}.damaged-${number}`);
  for (const tail of ["-wal", "-shm"]) {
    if (existsSync(path + tail)) renameSync(path + tail, `${path}.damaged-${number}${tail}`);
  }
}
