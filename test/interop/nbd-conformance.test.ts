/**
 * Goal: the NBD server of the executable answers what the protocol says, whatever a client sends,
 * in whatever pieces, and however it goes away; and gives back all that clients took.
 *
 * Method: a client without manners (helpers/raw-nbd.ts) works through the tables in nbd-cases/
 * against one daemon with one array, each case on connections of its own. Behind every group the
 * daemon's own count of connections, its payload memory and its file descriptors are back where
 * they were. What needs time (the limit of the handshake) runs beside the other tests; those that
 * take all places come behind it, as they drop whoever is still in its handshake.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { ESHUTDOWN } from "../../src/base/errno.ts";
import { KIB, MIB } from "../../src/base/units.ts";
import { Command, encodeOption, OptionCode, OptionReply } from "../../src/nbd/wire-format.ts";
import { Daemon, makeFiles, mustRun } from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { RawNbd, rawRequest } from "../helpers/raw-nbd.ts";
import { expectProbes } from "../helpers/tcp-timers.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { DETAIL_CASES } from "./nbd-cases/details.ts";
import { END_CASES } from "./nbd-cases/ends.ts";
import { HANDSHAKE_CASES } from "./nbd-cases/handshake.ts";
import {
  disconnect,
  EXPORT,
  expectHungUp,
  expectInSync,
  type NbdLab,
  negotiating,
  opened,
  READ_ONLY_EXPORT,
} from "./nbd-cases/lab.ts";
import { REQUEST_CASES } from "./nbd-cases/requests.ts";

const CAN_RUN = needs("libaio", "direct-io");
const NEEDS = "[needs libaio, direct-io]";
const MEMBER_BYTES = 64 * MIB;
const HANDSHAKE_LIMIT_MS = 10_000;
/** Reads of a client that takes no replies: three times the memory that it may cost. */
const UNREAD_READS = 36;
/** Of 1 MiB, of each of twelve such clients: together nearly three times the payload memory. */
const UNREAD_READS_EACH = 20;
const CONNECTIONS_MAX = 256;
const OPTIONS_MAX = 64;

let lab: NbdLab;
let daemon: Daemon;
/** Clients that say nothing, or too little, and when they came. */
const silent: { readonly what: string; readonly raw: RawNbd }[] = [];
let silentSinceMs = 0;
let fdsAtRest = 0;

/** Of sockets and files: a helper thread's own (anon_inode) come and go with the thread. */
function openFds(): number {
  const folder = `/proc/${daemon.child.pid}/fd`;
  const targets = readdirSync(folder).map((fd) => readLink(join(folder, fd)));
  return targets.filter((target) => target !== "" && !target.startsWith("anon_inode:")).length;
}

/** Empty when it was closed meanwhile. */
function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}

function residentBytes(): number {
  const status = readFileSync(`/proc/${daemon.child.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * KIB;
}

async function metric(pattern: RegExp): Promise<number> {
  return Number(pattern.exec(await daemon.must("GET", "/metrics"))?.[1] ?? Number.NaN);
}

/** The numbers that are to be back where they were: connections, and payload memory in use. */
async function atWork(): Promise<readonly number[]> {
  const connections = await daemon.must("GET", "/v1/exports");
  const counted = connections.map((entry: { connections: number }) => entry.connections);
  return [...counted, await metric(/^parityd_pool_free_bytes\{pool="payload"\} (\d+)$/m)];
}

let restingState: readonly number[] = [];

async function expectAtRest(): Promise<void> {
  const endMs = Date.now() + 60_000;
  for (;;) {
    const now = { state: await atWork(), fds: openFds() - silent.length };
    const isBack = JSON.stringify(now.state) === JSON.stringify(restingState);
    // The API's own connections come and go: fewer is as good as equal.
    if (isBack && now.fds <= fdsAtRest) return;
    if (Date.now() > endMs) expect(now).toEqual({ state: [...restingState], fds: fdsAtRest });
    await Bun.sleep(10);
  }
}

beforeAll(async () => {
  if (!CAN_RUN) return;
  const folder = makeTempDir("conform");
  const flags = ["--memory-mib", "192", "--nbd-tcp", "127.0.0.1:0"];
  daemon = await Daemon.start(folder, { flags });
  const drives = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
  const array = await daemon.must("POST", "/v1/arrays", { name: EXPORT, drives });
  const { uris } = await daemon.must("PUT", `/v1/exports/${EXPORT}`, { array: EXPORT });
  const readOnly = { array: EXPORT, readOnly: true };
  await daemon.must("PUT", `/v1/exports/${READ_ONLY_EXPORT}`, readOnly);
  await daemon.settle(EXPORT);
  const port = Number(/:(\d+)\//.exec(uris[1])![1]);
  const tcp = { host: "127.0.0.1", port };
  lab = { daemon, unix: { path: daemon.nbdSocket }, tcp, sizeBytes: array.sizeBytes };
  await expectServingOnce();
  restingState = await atWork();
  expect(restingState.every(Number.isFinite)).toBe(true);
  fdsAtRest = openFds();
  await startSilentClients();
});

/** A test that failed leaves clients behind, who would be in the way of those behind it. */
afterEach(() => RawNbd.closeAllBut(silent.map(({ raw }) => raw)));

afterAll(() => RawNbd.closeAllBut([]));

async function expectServingOnce(): Promise<void> {
  const raw = await opened(lab);
  await expectInSync(raw);
  await disconnect(raw);
}

async function connectionCount(): Promise<number> {
  const [connections] = await atWork();
  return connections!;
}

/**
 * A new client that reads and writes so many bytes at a time waits for none that stalls: it is
 * served before the server has given up on any of those, which would make room for it otherwise.
 */
async function expectPrompt(sizes: readonly number[]): Promise<void> {
  const before = await connectionCount();
  const raw = await opened(lab);
  for (const bytes of sizes) {
    raw.request({ command: Command.read, offset: 3, bytes });
    expect((await raw.reply(bytes)).error).toBe(0);
    raw.request({ command: Command.write, offset: 3, bytes }, new Uint8Array(bytes));
    expect((await raw.reply()).error).toBe(0);
  }
  expect(await connectionCount()).toBe(before + 1);
  await disconnect(raw);
}

async function startSilentClients(): Promise<void> {
  const flagged = await negotiating(lab);
  const halfAnOption = await negotiating(lab);
  halfAnOption.send(encodeOption(OptionCode.list, new Uint8Array(0)).subarray(0, 10));
  const dripping = await negotiating(lab);
  silent.push({ what: "no flags", raw: RawNbd.open(lab.unix) });
  silent.push({ what: "on TCP", raw: RawNbd.open(lab.tcp) });
  silent.push({ what: "no option", raw: flagged });
  silent.push({ what: "half an option", raw: halfAnOption });
  silent.push({ what: "a byte now and then", raw: dripping });
  silentSinceMs = Date.now();
  const drip = setInterval(() => {
    if (dripping.hasEnded) clearInterval(drip);
    else dripping.send(new Uint8Array([0x49]));
  }, 1_000);
  drip.unref();
}

describe.skipIf(!CAN_RUN)("table", () => {
  const tables = {
    handshake: HANDSHAKE_CASES,
    requests: REQUEST_CASES,
    details: DETAIL_CASES,
    ends: END_CASES,
  };
  for (const [table, cases] of Object.entries(tables)) {
    describe(table, () => {
      for (const { name, run } of cases) {
        test(`nbd: ${name} ${NEEDS}`, () => run(lab));
      }

      test(`nbd: after ${table}: connections, memory and descriptors are back ${NEEDS}`, () =>
        expectAtRest());
    });
  }

  test(`nbd: the tables: at least 116 cases, no name twice ${NEEDS}`, () => {
    const names = Object.values(tables).flatMap((cases) => cases.map(({ name }) => name));
    expect(names.length).toBeGreaterThanOrEqual(116);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe.skipIf(!CAN_RUN)("limits", () => {
  test(`nbd: a client on TCP that falls silent: probed after a minute ${NEEDS}`, async () => {
    const raw = await opened(lab, EXPORT, lab.tcp);
    await expectInSync(raw);
    await expectProbes("port" in lab.tcp ? lab.tcp.port : 0);
    await disconnect(raw);
  });

  test(`nbd: 65 options: the last one is hung up on ${NEEDS}`, async () => {
    const raw = await negotiating(lab);
    for (let count = 1; count <= OPTIONS_MAX; count += 1) {
      expect(await raw.optionTypes(77)).toEqual([OptionReply.errorUnsupported]);
    }
    raw.send(encodeOption(77, new Uint8Array(0)));
    await expectHungUp(raw);
  });

  test(`nbd: 64 KiB of option data and a byte: hung up ${NEEDS}`, async () => {
    const raw = await negotiating(lab);
    for (let count = 1; count <= 8; count += 1) {
      await raw.optionTypes(77, new Uint8Array(8 * KIB));
    }
    raw.send(encodeOption(77, new Uint8Array(1)));
    await expectHungUp(raw);
  });

  test(`nbd: a client that reads no replies: bounded memory, others are served ${NEEDS}`, async () => {
    const before = residentBytes();
    const slow = await opened(lab);
    slow.pause();
    const header = rawRequest({ command: Command.read, bytes: 8 * MIB });
    slow.send(...new Array(UNREAD_READS).fill(header));
    for (let count = 0; count < 20; count += 1) await expectServingOnce();
    // At most the payload memory of one connection, which the pool had all along.
    expect(residentBytes() - before).toBeLessThan(96 * MIB);
    slow.resume();
    for (let count = 0; count < UNREAD_READS; count += 1) {
      expect((await slow.reply(8 * MIB)).data.length).toBe(8 * MIB);
    }
    await disconnect(slow);
    await expectAtRest();
  });

  test(`nbd: 12 clients that read no replies: the next one is served at once ${NEEDS}`, async () => {
    const slow: RawNbd[] = [];
    const request = rawRequest({ command: Command.read, bytes: MIB });
    for (let count = 0; count < 12; count += 1) {
      const raw = await opened(lab);
      raw.pause();
      raw.send(...new Array(UNREAD_READS_EACH).fill(request));
      slow.push(raw);
    }
    await Bun.sleep(100);
    await expectPrompt([1, 4096, 70_000, MIB]);
    // None of the slow ones was dropped for that: they get all their replies.
    await Promise.all(
      slow.map(async (each) => {
        each.resume();
        for (let count = 0; count < UNREAD_READS_EACH; count += 1) await each.reply(MIB);
        await disconnect(each);
      }),
    );
    await expectAtRest();
  });

  test(`nbd: 8 writes of 32 MiB without the end of it: small requests do not wait ${NEEDS}`, async () => {
    const stuck: RawNbd[] = [];
    for (let count = 0; count < 8; count += 1) {
      const raw = await opened(lab);
      raw.request({ command: Command.write, bytes: 32 * MIB }, new Uint8Array(MIB));
      stuck.push(raw);
    }
    await Bun.sleep(100);
    await expectPrompt([1, 4096, 70_000, 250_000]);
    for (const raw of stuck) raw.close();
    await expectAtRest();
  });

  test(`nbd: writes without their payload: others are served ${NEEDS}`, async () => {
    const stuck: RawNbd[] = [];
    for (let count = 0; count < 3; count += 1) {
      const raw = await opened(lab);
      const request = { command: Command.write, offset: 0, bytes: 16 * MIB };
      raw.request(request, new Uint8Array(MIB));
      stuck.push(raw);
    }
    await expectServingOnce();
    for (const raw of stuck) raw.close();
    await expectAtRest();
  });

  test(`nbd: 300 connections one after another: no descriptor is left open ${NEEDS}`, async () => {
    for (let count = 0; count < 300; count += 1) {
      const raw = await opened(lab, EXPORT, count % 2 === 0 ? lab.unix : lab.tcp);
      raw.request({ command: Command.read, bytes: 4096 });
      raw.close();
    }
    await expectAtRest();
  });
});

const HAS_TOOLS = CAN_RUN && needs("nbdinfo", "qemu-img", "fio");

describe.skipIf(!HAS_TOOLS)("tools", () => {
  test(
    "nbd: nbdinfo, nbdcopy, qemu-img and fio beside a slow and a stuck client: all succeed " +
      "[needs libaio, direct-io, nbdinfo, qemu-img, fio]",
    async () => {
      const folder = makeTempDir("tools");
      const slow = await opened(lab);
      slow.pause();
      slow.send(...new Array(20).fill(rawRequest({ command: Command.read, bytes: MIB })));
      const stuck = await opened(lab);
      stuck.request({ command: Command.write, bytes: MIB }, new Uint8Array(100));
      const uri = daemon.uri(EXPORT);
      const tcpUri = `nbd://127.0.0.1:${"port" in lab.tcp ? lab.tcp.port : 0}/${EXPORT}`;
      const size = await mustRun([toolPath("nbdinfo")!, "--size", tcpUri]);
      expect(size).toBe(`${lab.sizeBytes}\n`);
      const out = `${folder}/out`;
      await mustRun([toolPath("nbdcopy")!, "--connections=4", uri, out]);
      const compare = ["compare", "-f", "raw", "-F", "raw", out, tcpUri];
      expect(await mustRun([toolPath("qemu-img")!, ...compare])).toContain("identical");
      const job = ["--name=j", "--ioengine=nbd", `--uri=${uri}`, "--thread", "--rw=randwrite"];
      const verify = [
        "--bs=4k",
        "--size=4M",
        "--iodepth=16",
        "--verify=crc32c",
        "--verify_state_save=0",
      ];
      await mustRun([toolPath("fio")!, ...job, ...verify], { cwd: folder });
      slow.close();
      stuck.close();
      await expectAtRest();
    },
  );
});

describe.skipIf(!CAN_RUN)("time and places", () => {
  test(`nbd: no handshake for 10 s: hung up, but not before ${NEEDS}`, async () => {
    const leftMs = HANDSHAKE_LIMIT_MS - (Date.now() - silentSinceMs);
    if (leftMs > 1_000) {
      await Bun.sleep(leftMs - 1_000);
      expect(silent.filter(({ raw }) => raw.hasEnded).map(({ what }) => what)).toEqual([]);
    }
    for (const { raw } of silent) await raw.readToEnd();
    expect(Date.now() - silentSinceMs).toBeGreaterThan(HANDSHAKE_LIMIT_MS - 1_000);
    silent.length = 0;
    await expectAtRest();
  });

  test(`nbd: 257 connections: the last is closed, and one that ends makes room ${NEEDS}`, async () => {
    const all: RawNbd[] = [];
    for (let index = 0; index < CONNECTIONS_MAX; index += 1) {
      all.push(await opened(lab, EXPORT, index % 2 === 0 ? lab.tcp : lab.unix));
    }
    await expectHungUp(RawNbd.open(lab.unix));
    await expectHungUp(RawNbd.open(lab.tcp));
    all.pop()!.close();
    await Bun.sleep(20);
    await expectServingOnce();
    for (const raw of all) raw.close();
    await expectAtRest();
  });

  test(`nbd: 600 clients that say nothing: who is through stays, others come through ${NEEDS}`, async () => {
    const through = await opened(lab);
    const flood: RawNbd[] = [];
    for (let index = 0; index < 600; index += 1) {
      flood.push(RawNbd.open(index % 4 === 0 ? lab.tcp : lab.unix));
      if (index % 50 === 0) await expectServingOnce();
    }
    await expectServingOnce();
    await flood[0]!.readToEnd();
    await expectInSync(through);
    for (const raw of flood) raw.close();
    await disconnect(through);
    await expectAtRest();
  });

  test(`nbd: SIGTERM under load: what is under way is answered, the rest ESHUTDOWN ${NEEDS}`, async () => {
    const raw = await opened(lab);
    const haggling = await negotiating(lab);
    // More than the socket takes: some of it is still to be sent when the signal comes.
    raw.send(...new Array(30).fill(rawRequest({ command: Command.read, bytes: MIB })));
    await raw.pauseAtOnce();
    const stopped = daemon.stop();
    // The server hears of it when the rest of the daemon has been told.
    let types: number[];
    do types = await haggling.optionTypes(OptionCode.list);
    while (types.at(-1) === OptionReply.ack);
    expect(types).toEqual([OptionReply.errorShutdown]);
    raw.request({ command: Command.read, bytes: 512, cookie: 2n });
    raw.request({ command: Command.write, bytes: 512, cookie: 3n }, new Uint8Array(512));
    raw.resume();
    const replies: { error: number; cookie: bigint }[] = [];
    for (let count = 0; count < 32; count += 1) replies.push(await raw.reply(MIB));
    // Some reads may have come behind the signal; replies come in any order.
    const late = new Set([2n, 3n]);
    const errors = replies.filter(({ cookie }) => !late.has(cookie)).map(({ error }) => error);
    expect([...new Set(errors)].filter((error) => error !== ESHUTDOWN)).toEqual([0]);
    expect(replies.filter(({ cookie }) => late.has(cookie)).map(({ error }) => error)).toEqual([
      ...[ESHUTDOWN, ESHUTDOWN],
    ]);
    await expectHungUp(raw);
    await expectHungUp(haggling);
    expect(await stopped).toBe(0);
    expect(daemon.stderr).not.toContain("level=error");
  });
});
