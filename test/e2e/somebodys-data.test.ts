/**
 * Goal: create takes nobody's file without force, whatever is in it, and takes again without force
 * what its own arrays left on a drive that has been there all the time. Method: the executable, on
 * files as people have them; each is compared byte by byte with what it was.
 */
import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles } from "../helpers/daemon.ts";
import { needs } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";

const MEMBER_BYTES = 16 * MIB;

function makeDatabase(path: string): void {
  const database = new Database(path);
  database.run("create table t (x)");
  database.run("insert into t values (zeroblob(17000000))");
  database.close();
}

function makeNotes(path: string): void {
  writeFileSync(path, "bread\nmilk\n");
  truncateSync(path, MEMBER_BYTES);
}

test.skipIf(!needs("libaio", "direct-io"))(
  "array create: a database, a text: refused without force, not a byte changed [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("data");
    const daemon = await Daemon.start(folder);
    await daemon.addDrives(makeFiles(folder, 2, MEMBER_BYTES));
    const cases = [
      ["base", makeDatabase, "it holds an SQLite database"],
      ["notes", makeNotes, "it holds data that is not zero"],
    ] as const;
    for (const [name, make, found] of cases) {
      const path = join(folder, name);
      make(path);
      const before = readFileSync(path);
      const drive = await daemon.must("POST", "/v1/drives", { name, path });
      expect(drive).toMatchObject({ state: "foreign", detail: found });
      const body = { name: "a", drives: [name, "drive0", "drive1"] };
      const refused = await daemon.call("POST", "/v1/arrays", body);
      expect(refused).toMatchObject({ status: 409 });
      expect(refused.body.detail).toContain(`${found}. With "force": true its content is given up`);
      expect(readFileSync(path).equals(before)).toBe(true);
      const forced = await daemon.call("POST", "/v1/arrays", { ...body, force: true });
      expect(forced.status).toBe(201);
      await daemon.must("DELETE", "/v1/arrays/a?zeroSuperblocks=true");
    }
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!needs("libaio", "direct-io"))(
  "array create and member add: data that came after drive add: refused, not a byte changed [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("after");
    const daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(makeFiles(folder, 5, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "a", drives: drives.slice(0, 3) });
    const { path: known } = await daemon.must("GET", "/v1/drives/drive3");
    expect(known.startsWith(folder)).toBe(true);
    makeNotes(known);
    const before = readFileSync(known);
    const refusals = [
      await daemon.call("POST", "/v1/arrays/a/members", { drive: "drive3" }),
      await daemon.call("POST", "/v1/arrays", { name: "b", drives: drives.slice(2) }),
    ];
    for (const { status } of refusals) expect(status).toBe(409);
    expect(refusals[0]!.body.detail).toContain("it holds data that is not zero");
    expect(readFileSync(known).equals(before)).toBe(true);
    expect(await daemon.must("GET", "/v1/drives/drive3")).toMatchObject({ state: "foreign" });
    expect(await daemon.stop()).toBe(0);
  },
);

test.skipIf(!needs("libaio", "direct-io"))(
  "array create: what a deleted array left: ours while the daemon runs, data after it [needs libaio, direct-io]",
  async () => {
    const folder = makeTempDir("left");
    let daemon = await Daemon.start(folder);
    const drives = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
    for (const name of ["first", "second"]) {
      await daemon.must("POST", "/v1/arrays", { name, drives });
      await daemon.must("PUT", `/v1/exports/${name}`, { array: name });
      const client = await daemon.connect(name);
      const data = new Uint8Array(2 * MIB).fill(7);
      expect((await client.write(0, data, { fua: true })).ok).toBe(true);
      await client.disconnect();
      await daemon.must("DELETE", `/v1/exports/${name}`);
      await daemon.must("DELETE", `/v1/arrays/${name}?zeroSuperblocks=true`);
    }
    expect(await daemon.stop()).toBe(0);
    daemon = await Daemon.start(folder);
    const body = { name: "third", drives };
    const refused = await daemon.call("POST", "/v1/arrays", body);
    expect(refused).toMatchObject({ status: 409 });
    expect(refused.body.detail).toContain("it holds data that is not zero");
    await daemon.must("POST", "/v1/arrays", { ...body, force: true });
    expect(await daemon.stop()).toBe(0);
  },
);
