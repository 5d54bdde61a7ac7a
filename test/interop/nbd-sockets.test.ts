/**
 * Goal: what happens to the daemon's NBD sockets from outside, and at a start without a drive, is
 * what clients can live with; where they cannot be opened, the reason is the true one.
 * Method: the executable, libnbd's nbdinfo and a client without manners; the socket's file is
 * removed and replaced while they are connected.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, renameSync, statSync, unlinkSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { MIB } from "../../src/base/units.ts";
import { Daemon, makeFiles, mustRun, runVerb, serveWords } from "../helpers/daemon.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { RawNbd } from "../helpers/raw-nbd.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";
import { disconnect, expectInSync } from "./nbd-cases/lab.ts";

const CAN_RUN = needs("libaio", "direct-io", "nbdinfo");
const NEEDS = "[needs libaio, direct-io, nbdinfo]";

async function withArray(folder: string, flags: readonly string[] = []): Promise<Daemon> {
  const daemon = await Daemon.start(folder, { flags });
  const drives = await daemon.addDrives(makeFiles(folder, 3, 20 * MIB));
  await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
  await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
  return daemon;
}

async function size(uri: string): Promise<string> {
  return (await mustRun([toolPath("nbdinfo")!, "--size", uri])).trim();
}

describe.skipIf(!CAN_RUN)("sockets", () => {
  test(`sockets: nbd.sock removed, then taken by another: made again, then left alone ${NEEDS}`, async () => {
    const daemon = await withArray(makeTempDir("socks"));
    const path = daemon.nbdSocket;
    const expected = await size(daemon.uri("tank"));
    const raw = await RawNbd.greeted({ path });
    await raw.go("tank");
    unlinkSync(path);
    await until("its socket is made again", () => existsSync(path));
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(await size(daemon.uri("tank"))).toBe(expected);
    await expectInSync(raw);

    renameSync(path, `${path}.old`);
    const other = createServer((socket) => socket.end());
    await new Promise<void>((resolve) => other.listen(path, resolve));
    const { ino } = statSync(path);
    const refusal = "EADDRINUSE: another program listens there";
    await until("it says so", () => daemon.stderr.includes(refusal));
    await expectInSync(raw);
    // Our own under its new name still leads here.
    const moved = await RawNbd.greeted({ path: `${path}.old` });
    await moved.go("tank");
    await disconnect(moved);
    await disconnect(raw);
    expect(await daemon.stop()).toBe(0);
    expect(statSync(path).ino).toBe(ino);
    expect(daemon.stderr.match(/lost its path/g)?.length).toBe(1);
    other.close();
  });

  test(`sockets: a client at a start without a drive: waits, and is served degraded ${NEEDS}`, async () => {
    const folder = makeTempDir("start");
    const first = await withArray(folder);
    const expected = await size(first.uri("tank"));
    await first.settle("tank");
    expect(await first.stop()).toBe(0);
    expect(existsSync(first.nbdSocket)).toBe(false);
    unlinkSync(join(folder, "member2.img"));
    const fromMs = Date.now();
    const second = await Daemon.start(folder, { flags: ["--degraded-start-seconds", "3"] });
    expect(await size(second.uri("tank"))).toBe(expected);
    expect(Date.now() - fromMs).toBeGreaterThan(2_900);
    expect((await second.must("GET", "/v1/arrays/tank")).degraded).toBe(1);
    expect(await second.stop()).toBe(0);
  });
});

describe.skipIf(!CAN_RUN)("addresses", () => {
  for (const [text, shown] of [
    ["[::1]:0", "nbd://[::1]:"],
    ["localhost:0", "nbd://127.0.0.1:"],
    ["*:0", "nbd://0.0.0.0:"],
  ] as const) {
    test(`sockets: --nbd-tcp ${text}: listens there ${NEEDS}`, async () => {
      const daemon = await withArray(makeTempDir("addr"), ["--nbd-tcp", text]);
      const [{ uris }] = await daemon.must("GET", "/v1/exports");
      const uri: string = uris.find((candidate: string) => candidate.startsWith(shown));
      expect(await size(uri.replace("0.0.0.0", "127.0.0.1"))).toBe(await size(daemon.uri("tank")));
      expect(await daemon.stop()).toBe(0);
    });
  }

  for (const [text, why] of [
    ["192.0.2.1:10809", "cannot listen on 192.0.2.1:10809: EADDRNOTAVAIL: this host has no such"],
    ["[2001:db8::1]:10809", "cannot listen on [2001:db8::1]:10809: EADDRNOTAVAIL: this host has"],
    ["no-such-host.invalid:1", "cannot look up the host name no-such-host.invalid: "],
  ] as const) {
    test(`sockets: --nbd-tcp ${text}: exit 69, and why ${NEEDS}`, async () => {
      const words = [...serveWords(makeTempDir("bad")), "--nbd-tcp", text];
      const { exitCode, stderr } = await runVerb(words);
      expect([exitCode, stderr.includes(why)]).toEqual([69, true]);
    });
  }

  test(`sockets: --nbd-tcp with a port that is taken: exit 69, and by whom ${NEEDS}`, async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    const words = [...serveWords(makeTempDir("taken")), "--nbd-tcp", `127.0.0.1:${port}`];
    const { exitCode, stderr } = await runVerb(words);
    expect([exitCode, stderr]).toEqual([69, expect.stringContaining("EADDRINUSE: another")]);
    expect(stderr).toContain(`: it is process ${process.pid} (`);
    other.close();
  });

  test(`sockets: a run directory with a long name: exit 78, and what to choose ${NEEDS}`, async () => {
    const folder = join(makeTempDir("long"), "x".repeat(100));
    const { exitCode, stderr } = await runVerb(serveWords(folder));
    expect(exitCode).toBe(78);
    expect(stderr).toContain(`runDir: a socket path holds at most 107 bytes, and ${folder}/`);
    expect(stderr).toContain(": take another");
  });
});
