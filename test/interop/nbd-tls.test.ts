/**
 * Goal: NBD over TLS as clients use it: nobody gets through without what was asked for, nothing
 * that was said in the clear counts, and what goes through is the same as without.
 *
 * Method: one daemon that requires TLS and certificates of its CA, one where TLS is optional. Both
 * are asked by libnbd, nbdinfo and qemu-img, and by a client without manners. Certificates are made
 * with openssl in a temporary folder.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import {
  Command,
  encodeInfoRequest,
  encodeOption,
  OptionCode,
  OptionReply,
  TransmissionFlag,
} from "../../src/nbd/wire-format.ts";
import { Daemon, makeFiles, mustRun, runProgram, runVerb } from "../helpers/daemon.ts";
import { randomBytes } from "../helpers/nbd-data.ts";
import { needs, SYSTEM_PYTHON, toolPath } from "../helpers/needs.ts";
import { RawNbd, rawRequest, type Where } from "../helpers/raw-nbd.ts";
import { expectProbes } from "../helpers/tcp-timers.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";
import { expectHungUp, expectInSync } from "./nbd-cases/lab.ts";

// A test that times out takes the daemons along, and with them all later tests.

const CAN_RUN = needs("libaio", "direct-io") && toolPath("openssl") !== undefined;
const NEEDS = "[needs libaio, direct-io, openssl]";
const HANDSHAKE_LIMIT_MS = 10_000;
const CONNECTIONS_MAX = 256;
/** Far more bytes than the sockets hold. */
const SLOW_READS = 250;
const SLOW_WRITES = 150;
const NOTHING = new Uint8Array(0);

type Mode = "required" | "optional";

interface Server {
  readonly daemon: Daemon;
  readonly where: Where;
  readonly port: number;
  readonly uris: readonly string[];
}

let pki = "";
const servers = {} as Record<Mode, Server>;
const silent: RawNbd[] = [];
/** Of the test that runs. */
const opened: RawNbd[] = [];
let silentSinceMs = 0;

async function makeCertificates(folder: string): Promise<void> {
  const openssl = toolPath("openssl")!;
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  const make = async (name: string, words: readonly string[]): Promise<void> => {
    const files = ["-keyout", `${name}-key.pem`, "-out", `${name}-cert.pem`];
    const request = ["req", "-x509", "-subj", `/CN=${name}`, ...key, ...files, ...words];
    await mustRun([openssl, ...request], { cwd: folder });
  };
  const isCa = ["-addext", "keyUsage=keyCertSign,cRLSign"];
  await make("ca", isCa);
  await make("rogue-ca", isCa);
  const names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
  const signed = (ca: string): string[] => ["-CA", `${ca}-cert.pem`, "-CAkey", `${ca}-key.pem`];
  const noCa = ["-addext", "basicConstraints=critical,CA:FALSE"];
  await make("server", [...signed("ca"), ...noCa, ...names]);
  await make("client", [...signed("ca"), ...noCa]);
  await make("rogue", [...signed("rogue-ca"), ...noCa]);
  for (const [name, certificate] of [
    ["good", "client"],
    ["rogue", "rogue"],
    ["none", ""],
  ] as const) {
    mkdirSync(join(folder, name));
    copyFileSync(join(folder, "ca-cert.pem"), join(folder, name, "ca-cert.pem"));
    for (const part of certificate === "" ? [] : ["cert", "key"]) {
      const to = join(folder, name, `client-${part}.pem`);
      copyFileSync(join(folder, `${certificate}-${part}.pem`), to);
    }
  }
}

function pem(name: string): string {
  return readFileSync(join(pki, `${name}.pem`), "utf8");
}

/** What a client with this certificate brings along. */
function credentials(name: string | null): { ca: string; cert?: string; key?: string } {
  const ca = pem("ca-cert");
  return name === null ? { ca } : { ca, cert: pem(`${name}-cert`), key: pem(`${name}-key`) };
}

function tlsFlags(mode: Mode): string[] {
  const files = ["cert", "key"].flatMap((part) => [
    `--nbd-tls-${part}`,
    join(pki, `server-${part}.pem`),
  ]);
  const ca = ["--nbd-tls-ca", join(pki, "ca-cert.pem")];
  return ["--nbd-tcp", "127.0.0.1:0", "--nbd-tls", mode, ...files, ...ca];
}

async function startServer(mode: Mode): Promise<void> {
  const folder = makeTempDir("tls");
  const daemon = await Daemon.start(folder, {
    flags: [...tlsFlags(mode), "--allow-fault-injection"],
  });
  const drives = await daemon.addDrives(makeFiles(folder, 3, 24 * MIB));
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
  const { uris } = await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  const port = Number(/:(\d+)\//.exec(uris[1])![1]);
  servers[mode] = { daemon, uris, port, where: { host: "127.0.0.1", port } };
}

beforeAll(async () => {
  if (!CAN_RUN) return;
  pki = makeTempDir("pki");
  await makeCertificates(pki);
  await startServer("required");
  await startServer("optional");
  await startSilentClients();
});

afterAll(() => {
  for (const raw of silent) raw.close();
});

/** What a test that failed has left open, or slow, is no concern of the next. */
afterEach(async () => {
  for (const raw of opened.splice(0)) raw.close();
  for (const { daemon } of Object.values(servers)) {
    if (daemon.child.exitCode === null) await daemon.must("DELETE", "/v1/faults");
  }
});

function open(where: Where): RawNbd {
  const raw = RawNbd.open(where);
  opened.push(raw);
  return raw;
}

async function greeted(where: Where, flags?: number): Promise<RawNbd> {
  const raw = await RawNbd.greeted(where, flags);
  opened.push(raw);
  return raw;
}

/** Before the flags, behind them, behind STARTTLS, and in the TLS handshake. */
async function startSilentClients(): Promise<void> {
  const { where } = servers.required;
  silent.push(RawNbd.open(where), await RawNbd.greeted(where));
  for (const extra of [NOTHING, new Uint8Array([22, 3, 1])]) {
    const raw = await RawNbd.greeted(where);
    raw.send(encodeOption(OptionCode.starttls, NOTHING));
    await raw.answers(OptionCode.starttls);
    if (extra.length > 0) raw.send(extra);
    silent.push(raw);
  }
  silentSinceMs = Date.now();
}

async function secured(mode: Mode): Promise<RawNbd> {
  const raw = await greeted(servers[mode].where);
  expect(await raw.startTls(credentials("client"))).toBe(true);
  return raw;
}

async function connections(mode: Mode): Promise<number> {
  return (await servers[mode].daemon.must("GET", "/v1/exports"))[0].connections;
}

async function expectAlone(mode: Mode, fds: number): Promise<void> {
  const { daemon } = servers[mode];
  await until("nobody else is connected", async () => {
    return (await connections(mode)) === 0 && openFds(daemon) <= fds;
  });
}

function openFds(daemon: Daemon): number {
  return readdirSync(`/proc/${daemon.child.pid}/fd`).length;
}

function residentBytes(daemon: Daemon): number {
  const status = readFileSync(`/proc/${daemon.child.pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) * KIB;
}

describe.skipIf(!CAN_RUN)("required", () => {
  test(`tls: the addresses: one of TLS alone ${NEEDS}`, () => {
    const { uris, port } = servers.required;
    expect(uris[1]).toBe(`nbds://127.0.0.1:${port}/tank`);
    expect(uris.length).toBe(2);
  });

  test(`tls: options without TLS: each ERR_TLS_REQD; EXPORT_NAME: hung up ${NEEDS}`, async () => {
    const raw = await greeted(servers.required.where);
    const go = encodeInfoRequest("tank", []);
    for (const option of [OptionCode.list, OptionCode.go, OptionCode.info, 8, 9, 10, 77]) {
      expect(await raw.optionTypes(option, go)).toEqual([OptionReply.errorTlsRequired]);
    }
    raw.send(encodeOption(OptionCode.exportName, new TextEncoder().encode("tank")));
    await expectHungUp(raw);
    const abort = await greeted(servers.required.where);
    expect(await abort.optionTypes(OptionCode.abort)).toEqual([OptionReply.ack]);
    await expectHungUp(abort);
  });

  test(`tls: a good certificate: data as over the Unix socket ${NEEDS}`, async () => {
    const raw = await secured("required");
    const data = randomBytes(1, 3 * MIB + 17);
    await raw.go("tank");
    raw.request({ command: Command.write, offset: 4099, bytes: data.length }, data);
    expect((await raw.reply()).error).toBe(0);
    const plain = await greeted({ path: servers.required.daemon.nbdSocket });
    await plain.go("tank");
    for (const reader of [raw, plain]) {
      reader.request({ command: Command.read, offset: 4099, bytes: data.length });
      expect(Buffer.compare((await reader.reply(data.length)).data, data)).toBe(0);
    }
    expect(await connections("required")).toBe(2);
    await expectProbes(servers.required.port);
    raw.request({ command: Command.disconnect });
    await expectHungUp(raw);
    plain.close();
  });

  test.each([
    ["no certificate", null],
    ["one of another CA", "rogue"],
  ])(`tls: %s: not let in ${NEEDS}`, async (_what, name) => {
    const raw = await greeted(servers.required.where);
    const isThrough = await raw.startTls(credentials(name));
    // In TLS 1.3 the client is through before the server has seen its certificate.
    if (isThrough) raw.send(encodeOption(OptionCode.list, NOTHING));
    expect((await raw.readToEnd()).length).toBe(0);
    raw.close();
  });

  test(`tls: options in the packet of STARTTLS: dropped, not answered inside ${NEEDS}`, async () => {
    const raw = await greeted(servers.required.where);
    const planted = encodeOption(OptionCode.list, NOTHING);
    expect(await raw.startTls(credentials("client"), planted)).toBe(true);
    await raw.go("tank");
    await expectInSync(raw);
    raw.close();
  });

  test(`tls: STARTTLS again inside: invalid, and the handshake goes on ${NEEDS}`, async () => {
    const raw = await secured("required");
    expect(await raw.optionTypes(OptionCode.starttls)).toEqual([OptionReply.errorInvalid]);
    await raw.go("tank");
    await expectInSync(raw);
    raw.close();
  });

  test(`tls: a client that reads no replies: bounded memory, then all of them ${NEEDS}`, async () => {
    const { daemon } = servers.required;
    const raw = await secured("required");
    await raw.go("tank");
    const before = residentBytes(daemon);
    raw.pause();
    raw.send(...new Array(SLOW_READS).fill(rawRequest({ command: Command.read, bytes: MIB })));
    for (let count = 0; count < 10; count += 1) {
      const other = await secured("required");
      await other.go("tank");
      await expectInSync(other);
      other.close();
    }
    await Bun.sleep(300); // Time to pile up what would pile up.
    expect(residentBytes(daemon) - before).toBeLessThan(64 * MIB);
    raw.resume();
    for (let count = 0; count < SLOW_READS; count += 1) {
      expect((await raw.reply(MIB)).data.length).toBe(MIB);
    }
    raw.close();
  });

  test(`tls: writes faster than the drives: bounded memory, all answered ${NEEDS}`, async () => {
    const { daemon } = servers.required;
    const fault = { drive: "drive0", op: "write", at: "completion", delayMs: 700 };
    await daemon.must("POST", "/v1/faults", fault);
    const raw = await secured("required");
    await raw.go("tank");
    const before = residentBytes(daemon);
    const payload = new Uint8Array(MIB);
    for (let count = 0; count < SLOW_WRITES; count += 1) {
      const offset = (count % 16) * MIB;
      raw.request({ command: Command.write, offset, bytes: MIB }, payload);
    }
    await Bun.sleep(500); // Time to pile up what would pile up.
    expect(residentBytes(daemon) - before).toBeLessThan(64 * MIB);
    await daemon.must("DELETE", "/v1/faults");
    for (let count = 0; count < SLOW_WRITES; count += 1) expect((await raw.reply()).error).toBe(0);
    raw.close();
  });

  test(`tls: hang-ups in every phase: descriptors are back ${NEEDS}`, async () => {
    const { daemon, where } = servers.required;
    await expectAlone("required", Number.POSITIVE_INFINITY);
    const fds = openFds(daemon);
    for (let count = 0; count < 10; count += 1) {
      const plain = await greeted(where);
      const asked = await greeted(where);
      asked.send(encodeOption(OptionCode.starttls, NOTHING));
      const noise = await greeted(where);
      noise.send(encodeOption(OptionCode.starttls, NOTHING), randomBytes(count, 2000));
      const noiseLater = await greeted(where);
      noiseLater.send(encodeOption(OptionCode.starttls, NOTHING));
      await noiseLater.answers(OptionCode.starttls);
      noiseLater.send(randomBytes(count, 2000));
      const haggling = await secured("required");
      const busy = await secured("required");
      await busy.go("tank");
      busy.send(...new Array(50).fill(rawRequest({ command: Command.read, bytes: 100_000 })));
      const writing = await secured("required");
      await writing.go("tank");
      writing.request({ command: Command.write, bytes: MIB }, new Uint8Array(MIB - 1));
      if (count % 2 === 1) await Bun.sleep(5);
      for (const raw of [plain, asked, noise, noiseLater, haggling, busy, writing]) raw.close();
    }
    await expectAlone("required", fds);
  });
});

describe.skipIf(!CAN_RUN)("optional", () => {
  test(`tls: the addresses: with and without ${NEEDS}`, () => {
    const { uris, port } = servers.optional;
    const tcp = [`nbds://127.0.0.1:${port}/tank`, `nbd://127.0.0.1:${port}/tank`];
    expect(uris.slice(1)).toEqual(tcp);
  });

  test(`tls: 300 clients that say nothing: who is through stays, others come through ${NEEDS}`, async () => {
    const fds = openFds(servers.optional.daemon);
    const through = await secured("optional");
    await through.go("tank");
    const flood: RawNbd[] = [];
    for (let count = 0; count < 300; count += 1) flood.push(open(servers.optional.where));
    const next = await secured("optional");
    await next.go("tank");
    for (const raw of [through, next]) await expectInSync(raw);
    await flood[0]!.readToEnd();
    for (const raw of [through, next, ...flood]) raw.close();
    await expectAlone("optional", fds);
  });

  test(`tls: 256 connections of two hosts that are through: the next is closed ${NEEDS}`, async () => {
    const { where } = servers.optional;
    const all: RawNbd[] = [];
    for (let count = 0; count < CONNECTIONS_MAX; count += 1) {
      const half = { ...where, localAddress: `127.0.0.${1 + (count % 2)}` };
      const raw = await greeted(half);
      await raw.go("tank");
      all.push(raw);
    }
    for (const end of [1, 2, 3]) {
      await expectHungUp(open({ ...where, localAddress: `127.0.0.${end}` }));
    }
    for (const raw of all) raw.close();
    await expectAlone("optional", Number.POSITIVE_INFINITY);
    const raw = await secured("optional");
    await raw.go("tank");
    raw.close();
  });

  test(`tls: a client that does not ask for it: served, in one packet too ${NEEDS}`, async () => {
    const raw = open(servers.optional.where);
    const go = encodeOption(OptionCode.go, encodeInfoRequest("tank", []));
    const list = encodeOption(OptionCode.list, NOTHING);
    const flags = new Uint8Array([0, 0, 0, 3]);
    raw.send(flags, list, go, rawRequest({ command: Command.read, bytes: MIB, cookie: 3n }));
    await raw.greeting();
    expect((await raw.answers(OptionCode.list)).map(({ type }) => type)).toEqual([2, 1]);
    expect((await raw.answers(OptionCode.go)).at(-1)!.type).toBe(OptionReply.ack);
    expect(await raw.reply(MIB)).toMatchObject({ error: 0, cookie: 3n });
    const data = randomBytes(5, 5 * MIB);
    raw.request({ command: Command.write, offset: 1, bytes: data.length }, data);
    expect((await raw.reply()).error).toBe(0);
    raw.request({ command: Command.read, offset: 1, bytes: data.length });
    expect(Buffer.compare((await raw.reply(data.length)).data, data)).toBe(0);
    raw.request({ command: Command.disconnect });
    await expectHungUp(raw);
  });

  test(`tls: EXPORT_NAME without TLS: zeroes where they are due ${NEEDS}`, async () => {
    for (const flags of [1, 3]) {
      const raw = await greeted(servers.optional.where, flags);
      raw.send(encodeOption(OptionCode.exportName, new TextEncoder().encode("tank")));
      await raw.read(flags === 1 ? 134 : 10);
      await expectInSync(raw);
      raw.close();
    }
  });

  test(`tls: options before STARTTLS: forgotten ${NEEDS}`, async () => {
    const raw = await greeted(servers.optional.where);
    expect(await raw.optionTypes(OptionCode.structuredReply)).toEqual([OptionReply.ack]);
    expect(await raw.startTls(credentials("client"))).toBe(true);
    const { flags } = await raw.go("tank");
    expect(flags & TransmissionFlag.sendDf).toBe(0);
    raw.request({ command: Command.read, bytes: 512, cookie: 1n });
    expect((await raw.reply(512)).error).toBe(0);
    raw.close();
  });
});

const HAS_CLIENTS = CAN_RUN && needs("python3-libnbd", "nbdinfo", "qemu-img");

describe.skipIf(!HAS_CLIENTS)("clients", () => {
  const CLIENT_NEEDS = "[needs libaio, direct-io, openssl, python3-libnbd, nbdinfo, qemu-img]";

  test(`tls: libnbd: certificates, modes, and what each is answered ${CLIENT_NEEDS}`, async () => {
    const ports = [servers.required.port, servers.optional.port].map(String);
    const words = [SYSTEM_PYTHON, "-c", PYTHON_CLIENT, pki, ...ports];
    expect((await mustRun(words)).trim().split("\n")).toEqual([
      ...["required require good: tls", "required require none: refused"],
      ...["required require rogue: refused", "required disable none: refused"],
      ...["optional require good: tls", "optional require none: refused"],
      ...["optional require rogue: refused", "optional disable none: plain"],
    ]);
  });

  test(`tls: nbdinfo and qemu-img: over TLS, an image in and out ${CLIENT_NEEDS}`, async () => {
    const { port } = servers.required;
    const good = join(pki, "good");
    const uri = `nbds://localhost:${port}/tank?tls-certificates=${good}`;
    expect(await mustRun([toolPath("nbdinfo")!, uri])).toContain("newstyle-fixed with TLS");
    const image = join(pki, "image");
    writeFileSync(image, randomBytes(9, 8 * MIB));
    const object = ["--object", `tls-creds-x509,id=t,dir=${good},endpoint=client`];
    const remote = `driver=nbd,host=localhost,port=${port},export=tank,tls-creds=t`;
    const qemuImg = toolPath("qemu-img")!;
    const target = [
      "-n",
      "--target-image-opts",
      "-f",
      "raw",
      image,
      `driver=raw,file.${remote.replaceAll(",", ",file.")}`,
    ];
    await mustRun([qemuImg, "convert", ...object, ...target]);
    const plainUri = servers.required.daemon.uri("tank");
    const back = join(pki, "back");
    await mustRun([qemuImg, "dd", "-O", "raw", "bs=1M", "count=8", `if=${plainUri}`, `of=${back}`]);
    expect(Buffer.compare(readFileSync(back), readFileSync(image))).toBe(0);
    const wrong = remote.replace(",tls-creds=t", "");
    const refused = await runProgram([qemuImg, "info", "--image-opts", wrong]);
    expect(refused.exitCode).not.toBe(0);
  });
});

const PYTHON_CLIENT = `
import os, sys
import nbd
pki, ports = sys.argv[1], {"required": sys.argv[2], "optional": sys.argv[3]}
for server, port in ports.items():
    for word in ["require good", "require none", "require rogue", "disable none"]:
        mode, certificates = word.split()
        h = nbd.NBD()
        h.set_tls(nbd.TLS_REQUIRE if mode == "require" else nbd.TLS_DISABLE)
        h.set_tls_certificates(os.path.join(pki, certificates))
        h.set_export_name("tank")
        try:
            h.connect_tcp("localhost", port)
            data = os.urandom(1 << 20)
            h.pwrite(data, 12345, nbd.CMD_FLAG_FUA)
            assert h.pread(len(data), 12345) == data
            result = "tls" if h.get_tls_negotiated() else "plain"
            h.shutdown()
        except nbd.Error:
            result = "refused"
        print("%s %s: %s" % (server, word, result))
`;

describe.skipIf(!CAN_RUN)("end", () => {
  test.each([
    ["no such file", { cert: "nowhere", key: "server-key" }],
    ["a key that does not fit", { cert: "server-cert", key: "client-key" }],
    ["a key for a certificate", { cert: "server-key", key: "server-key" }],
  ])(`tls: serve with %s: exit 78 ${NEEDS}`, async (_what, { cert, key }) => {
    const folder = makeTempDir("bad");
    const files = ["--nbd-tls-cert", `${pki}/${cert}.pem`, "--nbd-tls-key", `${pki}/${key}.pem`];
    const words = [
      "serve",
      "--config",
      "/dev/null",
      "--run-dir",
      folder,
      "--state-dir",
      folder,
      ...files,
    ];
    const ended = await runVerb([...words, "--nbd-tls", "required", "--nbd-tcp", "127.0.0.1:0"]);
    expect([ended.exitCode, ended.stdout]).toEqual([78, ""]);
    expect(ended.stderr).toContain(`${cert}.pem`);
  });

  test(`tls: no handshake for 10 s: hung up in every phase ${NEEDS}`, async () => {
    for (const raw of silent) await raw.readToEnd();
    expect(Date.now() - silentSinceMs).toBeGreaterThan(HANDSHAKE_LIMIT_MS - 1_000);
  });

  test(`tls: SIGTERM with clients connected: replies first, then the end ${NEEDS}`, async () => {
    for (const mode of ["required", "optional"] as const) {
      const raw = await secured(mode);
      await raw.go("tank");
      raw.send(...new Array(30).fill(rawRequest({ command: Command.read, bytes: 100_000 })));
      await raw.reply(100_000);
      const stopped = servers[mode].daemon.stop();
      for (let count = 1; count < 30; count += 1) await raw.anyReply(100_000);
      await expectHungUp(raw);
      expect(await stopped).toBe(0);
    }
  });
});
