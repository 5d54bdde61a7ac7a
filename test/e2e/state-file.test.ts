/**
 * Goal: an upgrade finds all that the version before it knew, and a downgrade serves, says what is
 * the matter, and spoils nothing.
 * Method: the executable on state.db as an earlier landing wrote it, and on one of a later version.
 */
import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, makeFile, runVerb, sha256 } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const FIXTURES = join(import.meta.dir, "../fixtures/state");
const NEEDS = "[needs libaio, direct-io]";

/** A folder of a daemon with the state.db of a fixture. */
function folderWith(name: string, statement = ""): string {
  const folder = makeTempDir("upgrade");
  mkdirSync(join(folder, "state"));
  const database = new Database(join(folder, "state", "state.db"), { create: true });
  database.run(readFileSync(join(FIXTURES, `${name}.sql`), "utf8").replaceAll("/srv", folder));
  if (statement !== "") database.run(statement);
  database.close();
  return folder;
}

describe.skipIf(!needs("libaio", "direct-io"))("state.db", () => {
  test(`of version 1: the daemon knows its drives, array, export, events, jobs ${NEEDS}`, async () => {
    const folder = folderWith("v1");
    let daemon = await Daemon.start(folder);
    for (const _time of ["the first", "again"]) {
      const drives = await daemon.must("GET", "/v1/drives");
      expect(drives.map(({ name }: { name: string }) => name)).toEqual([
        ...["drive0", "drive1", "drive2", "drive3"],
      ]);
      expect(await daemon.must("GET", "/v1/exports")).toMatchObject([
        { name: "tank", array: "tank", readOnly: true },
      ]);
      expect(await daemon.must("GET", "/v1/jobs/2")).toMatchObject({
        kind: "check",
        state: "done",
      });
      const kinds = (await daemon.must("GET", "/v1/events?since=0")).map(
        ({ kind }: { kind: string }) => kind,
      );
      expect(kinds).toContain("scrub.finished");
      expect(await daemon.stop()).toBe(0);
      daemon = await Daemon.start(folder);
    }
    expect(await daemon.stop()).toBe(0);
  });

  test(`of a newer version: served, said with exit 1, refused with 507, left to the byte ${NEEDS}`, async () => {
    const folder = folderWith("v2-smart", "PRAGMA user_version = 3");
    const path = join(folder, "state", "state.db");
    const before = sha256(path);
    const daemon = await Daemon.start(folder);
    expect(await daemon.must("GET", "/v1/drives")).toHaveLength(4);
    const says = `${path} was written by a newer parityd (schema 3, this one knows 2)`;
    expect(daemon.stderr).toContain(says);
    const file = join(folder, "other.img");
    makeFile(file, 2 ** 25);
    const refused = await daemon.call("POST", "/v1/drives", { name: "other", path: file });
    expect([refused.status, refused.body.detail]).toEqual([507, expect.stringContaining(says)]);
    const words = ["status", "--check", "--run-dir", join(folder, "run")];
    const status = await runVerb(words);
    expect([status.exitCode === 0, status.stdout]).toEqual([false, expect.stringContaining(says)]);
    await daemon.kill();
    expect(sha256(path)).toBe(before);
  });
});
