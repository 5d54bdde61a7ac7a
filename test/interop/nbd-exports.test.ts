/**
 * Goal: exports come, change and go while clients are on, and each client sees what it is due.
 * Method: one daemon with two arrays; clients are nbdinfo, libnbd in Python, and one without
 * manners; exports are changed over the API between their requests.
 */
import { afterEach, beforeAll, describe, expect, test } from "bun:test";
import { EINVAL, EIO, EPERM, ESHUTDOWN } from "../../src/base/errno.ts";
import { MIB } from "../../src/base/units.ts";
import { Command, OptionCode } from "../../src/nbd/wire-format.ts";
import { Daemon, makeFiles, mustRun, runProgram } from "../helpers/daemon.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { RawNbd, rawRequest } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { disconnect, expectInSync } from "./nbd-cases/lab.ts";

const CAN_RUN = needs("libaio", "direct-io");
const HAS_CLIENTS = CAN_RUN && needs("nbdinfo", "python3-libnbd");
const NEEDS = "[needs libaio, direct-io]";
const CLIENT_NEEDS = "[needs libaio, direct-io, nbdinfo, python3-libnbd]";

let daemon: Daemon;
/** By the test that runs. */
const opened: RawNbd[] = [];

beforeAll(async () => {
  if (!CAN_RUN) return;
  const folder = makeTempDir("exports");
  daemon = await Daemon.start(folder, { flags: ["--allow-fault-injection"] });
  const drives = await daemon.addDrives(makeFiles(folder, 9, 20 * MIB));
  await daemon.must("POST", "/v1/arrays", { name: "one", drives: drives.slice(0, 3) });
  await daemon.must("POST", "/v1/arrays", { name: "two", drives: drives.slice(3, 6) });
  await daemon.must("POST", "/v1/arrays", { name: "doomed", drives: drives.slice(6) });
});

/** What a test that failed has left open, or broken, is no concern of the next. */
afterEach(async () => {
  for (const raw of opened.splice(0)) raw.close();
  if (CAN_RUN) await daemon.must("DELETE", "/v1/faults");
});

async function greeted(): Promise<RawNbd> {
  const raw = await RawNbd.greeted({ path: daemon.nbdSocket });
  opened.push(raw);
  return raw;
}

async function connect(name: string): Promise<RawNbd> {
  const raw = await greeted();
  await raw.go(name);
  return raw;
}

async function listed(raw: RawNbd): Promise<string[]> {
  const answers = await raw.option(OptionCode.list);
  return answers.slice(0, -1).map(({ data }) => new TextDecoder().decode(data.subarray(4)));
}

async function connections(): Promise<Record<string, number>> {
  const views: { name: string; connections: number }[] = await daemon.must("GET", "/v1/exports");
  return Object.fromEntries(views.map((view) => [view.name, view.connections]));
}

async function put(name: string, array: string, readOnly = false): Promise<number> {
  return (await daemon.call("PUT", `/v1/exports/${name}`, { array, readOnly })).status;
}

async function remove(name: string, query = ""): Promise<number> {
  return (await daemon.call("DELETE", `/v1/exports/${name}${query}`)).status;
}

async function writeError(raw: RawNbd): Promise<number> {
  raw.request({ command: Command.write, bytes: 512 }, new Uint8Array(512));
  return (await raw.reply()).error;
}

describe.skipIf(!CAN_RUN)("exports", () => {
  test(`exports: the empty name: the only export there is, and none of two ${NEEDS}`, async () => {
    const haggling = await greeted();
    expect(await listed(haggling)).toEqual([]);
    expect(await put("a", "one")).toBe(201);
    const only = await connect("");
    await expectInSync(only);
    expect(await put("b", "two")).toBe(201);
    expect(await listed(haggling)).toEqual(["a", "b"]);
    await expect(connect("")).rejects.toThrow("export  opens");
    await expectInSync(only);
    expect(await connections()).toEqual({ a: 1, b: 0 });
    await disconnect(only);
    expect(await remove("b")).toBe(204);
    expect(await listed(haggling)).toEqual(["a"]);
    await haggling.go("");
    await disconnect(haggling);
    expect(await connections()).toEqual({ a: 0 });
    expect(await remove("a")).toBe(204);
  });

  test(`exports: removed while connected: 409; forced: hung up, the others go on ${NEEDS}`, async () => {
    expect([await put("a", "one"), await put("b", "two")]).toEqual([201, 201]);
    const [first, second, other] = [await connect("a"), await connect("a"), await connect("b")];
    expect(await connections()).toEqual({ a: 2, b: 1 });
    const refused = await daemon.call("DELETE", "/v1/exports/a");
    expect([refused.status, refused.body.type]).toEqual([409, "urn:parityd:problem:export-in-use"]);
    await expectInSync(first);
    // With requests under way, whose buffers the drives may still use.
    first.send(...new Array(100).fill(rawRequest({ command: Command.read, bytes: 100_000 })));
    second.request({ command: Command.write, bytes: 4096 }, new Uint8Array(4000));
    expect(await remove("a", "?force=true")).toBe(204);
    await first.readToEnd();
    await second.readToEnd();
    await expectInSync(other);
    expect(await connections()).toEqual({ b: 1 });
    await expect(connect("a")).rejects.toThrow("export a opens");
    expect(await put("a", "one")).toBe(201);
    const again = await connect("a");
    await expectInSync(again);
    await disconnect(again);
    await disconnect(other);
    expect([await remove("a"), await remove("b"), await remove("b")]).toEqual([204, 204, 404]);
  });

  test(`exports: another array under a client: 409; after it has gone: 200 ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await connect("a");
    expect(await put("a", "two")).toBe(409);
    expect(await put("a", "one")).toBe(200);
    await expectInSync(raw);
    await disconnect(raw);
    expect([await put("a", "two"), await put("a", "three")]).toEqual([200, 404]);
    await remove("a");
  });

  test(`exports: read-only and back under a client: EPERM, then written ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await connect("a");
    expect(await writeError(raw)).toBe(0);
    // Not behind their backs.
    expect(await put("a", "one", true)).toBe(409);
    expect(await writeError(raw)).toBe(0);
    expect(await put("a?force=true", "one", true)).toBe(200);
    expect(await writeError(raw)).toBe(EPERM);
    await expectInSync(raw);
    expect(await put("a", "one", false)).toBe(200);
    expect(await writeError(raw)).toBe(0);
    await disconnect(raw);
    await remove("a");
  });

  test(`exports: the array stops under a client, and starts: ESHUTDOWN, then served ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await connect("a");
    expect(await writeError(raw)).toBe(0);
    const refused = await daemon.call("POST", "/v1/arrays/one/stop", {});
    expect([refused.status, refused.body.type, refused.body.detail]).toEqual([
      409,
      "urn:parityd:problem:clients-connected",
      "1 client is connected to export a of array one: disconnect it, or say force=true",
    ]);
    expect((await daemon.call("DELETE", "/v1/arrays/one?zeroSuperblocks=true")).status).toBe(409);
    expect(await writeError(raw)).toBe(0);
    await daemon.must("POST", "/v1/arrays/one/stop?force=true", {});
    expect(await writeError(raw)).toBe(ESHUTDOWN);
    await expect(connect("a")).rejects.toThrow("export a opens");
    await daemon.must("POST", "/v1/arrays/one/start", {});
    expect(await writeError(raw)).toBe(0);
    await expectInSync(raw);
    await disconnect(raw);
    await remove("a");
  });

  test(`exports: a pool of 32 MiB: the largest request is told, served, and not a byte more ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await greeted();
    const { maxRequestBytes } = await raw.go("a");
    expect(maxRequestBytes).toBe(16 * MIB);
    for (const [bytes, error] of [
      [maxRequestBytes, 0],
      [maxRequestBytes + 1, EINVAL],
    ] as const) {
      // The offset takes another row at both ends.
      raw.request({ command: Command.write, offset: 4095, bytes }, new Uint8Array(bytes));
      expect((await raw.reply()).error).toBe(error);
      raw.request({ command: Command.read, offset: 4095, bytes });
      expect((await raw.reply(bytes)).error).toBe(error);
    }
    await expectInSync(raw);
    await disconnect(raw);
    await remove("a");
  });

  test(`exports: two members are lost under a client: EIO for each request, it stays ${NEEDS}`, async () => {
    await put("c", "doomed");
    const raw = await connect("c");
    expect(await writeError(raw)).toBe(0);
    for (const drive of ["drive7", "drive8"]) {
      await daemon.must("POST", "/v1/faults", { drive, op: "any", errno: "ENXIO" });
    }
    expect(await writeError(raw)).toBe(EIO);
    expect((await daemon.must("GET", "/v1/arrays/doomed")).state).toBe("failed");
    const commands = [Command.read, Command.write, Command.writeZeroes, Command.flush];
    const errors: number[] = [];
    for (const command of commands) {
      const range = command === Command.flush ? {} : { bytes: 2 * MIB };
      const payload = new Uint8Array(command === Command.write ? 2 * MIB : 0);
      raw.request({ command, ...range }, payload);
      errors.push((await raw.reply(2 * MIB)).error);
    }
    expect(errors).toEqual(commands.map(() => EIO));
    const late = await greeted();
    await late.go("c");
    await disconnect(late);
    await disconnect(raw);
    await remove("c");
  });

  test(`exports: 100 made and removed while one is under load: it is served on ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await connect("a");
    for (let round = 0; round < 100; round += 1) {
      raw.request({ command: Command.read, offset: round, bytes: 4096, cookie: BigInt(round) });
      expect(await put(`extra-${round}`, round % 2 === 0 ? "one" : "two")).toBe(201);
      if (round % 10 === 0) await disconnect(await connect(`extra-${round}`));
      expect(await remove(`extra-${round}`)).toBe(204);
      expect(await raw.reply(4096)).toMatchObject({ error: 0, cookie: BigInt(round) });
    }
    await disconnect(raw);
    await remove("a");
    expect(await connections()).toEqual({});
  });

  test(`exports: the metrics: connections and answers of each ${NEEDS}`, async () => {
    await put("a", "one");
    const raw = await connect("a");
    expect(await writeError(raw)).toBe(0);
    raw.request({ command: Command.read, offset: 1n << 63n, bytes: 1 });
    await raw.reply();
    raw.request({ command: 99 });
    await raw.reply();
    const text: string = await daemon.must("GET", "/metrics");
    const all = text.split("\n");
    const lines = all.filter((line) => /^parityd_nbd_(connections|requests)/.test(line));
    expect(lines.toSorted()).toEqual([
      'parityd_nbd_connections{export="a"} 1',
      'parityd_nbd_requests_total{export="a",op="read",error="EINVAL"} 1',
      'parityd_nbd_requests_total{export="a",op="unknown",error="EINVAL"} 1',
      'parityd_nbd_requests_total{export="a",op="write",error="none"} 1',
    ]);
    const times = all.filter((line) => line.startsWith("parityd_nbd_request_seconds_count"));
    expect(times).toEqual(
      ["read", "write", "unknown"].map(
        (op) => `parityd_nbd_request_seconds_count{export="a",op="${op}"} 1`,
      ),
    );
    const turns = all.find((line) => line.startsWith("parityd_reactor_loop_seconds_count"));
    expect(Number(turns?.split(" ")[1])).toBeGreaterThan(0);
    expect(all).toContain("parityd_aio_inflight 0");
    await disconnect(raw);
    await remove("a");
  });
});

describe.skipIf(!HAS_CLIENTS)("clients", () => {
  test(`exports: nbdinfo lists what is there; libnbd is dropped by force ${CLIENT_NEEDS}`, async () => {
    await put("a", "one");
    await put("b", "two", true);
    const list = [toolPath("nbdinfo")!, "--list", "--json", daemon.uri("")];
    const names = async (): Promise<string[]> =>
      JSON.parse(await mustRun(list)).exports.map(
        (entry: Record<string, string>) => entry["export-name"],
      );
    expect((await names()).toSorted()).toEqual(["a", "b"]);
    const python = runProgram([SYSTEM_PYTHON, "-c", PYTHON_CLIENT, daemon.uri("a")]);
    while ((await connections())["a"] === 0) await Bun.sleep(5);
    expect(await remove("a")).toBe(409);
    expect(await remove("b")).toBe(204);
    expect(await names()).toEqual(["a"]);
    expect(await remove("a", "?force=true")).toBe(204);
    const ended = await python;
    expect([ended.stdout, ended.exitCode]).toEqual(["dropped\n", 0]);
    expect(await put("a", "one")).toBe(201);
    expect(await mustRun([toolPath("nbdinfo")!, "--size", daemon.uri("a")])).toMatch(/^\d+\n$/);
  });
});

const PYTHON_CLIENT = `
import sys
import nbd
h = nbd.NBD()
h.connect_uri(sys.argv[1])
try:
    while True: h.pread(100000, 0)
except nbd.Error:
    assert h.aio_is_dead() or h.aio_is_closed()
    print("dropped")
`;
