/**
 * Goal: configuration, log lines and the service manager's messages are as documented.
 * Method: pure parts enumerated; the lock, the eventfd and the notify socket against the kernel.
 */
import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig, parseConfig, parseTcpAddress } from "../../../src/appliance/config.ts";
import { createWakeUp } from "../../../src/appliance/host/linux-eventfd.ts";
import { takeLock } from "../../../src/appliance/host/linux-lock.ts";
import { type LogFormat, Logger } from "../../../src/appliance/host/logger.ts";
import { createNotifySend } from "../../../src/appliance/linux-notify.ts";
import { ReactorClient } from "../../../src/appliance/reactor-client.ts";
import { Systemd } from "../../../src/appliance/systemd.ts";
import { silentLog } from "../../../src/base/log.ts";
import { hostWithDisks, SimReactor } from "../../helpers/sim-reactor.ts";
import { until } from "../../helpers/until.ts";

test("config: defaults < file < flags", () => {
  const defaults = parseConfig(null, {});
  expect(defaults).toMatchObject({
    ok: true,
    value: { stateDir: "/var/lib/parityd", runDir: "/run/parityd", memoryMib: 256 },
  });
  const toml = 'memoryMib = 512\nrunDir = "/run/x"\napiTcp = "127.0.0.1:8080"\n';
  expect(parseConfig(toml, { memoryMib: 128 })).toMatchObject({
    ok: true,
    value: { memoryMib: 128, runDir: "/run/x", apiTcp: { host: "127.0.0.1", port: 8080 } },
  });
});

test("config: what is wrong is named: unknown keys, types, ranges, no TOML, no file", () => {
  const wrong: readonly (readonly [toml: string, named: string])[] = [
    ["memroyMib = 128", "memroyMib"],
    ["memoryMib = 63", "memoryMib"],
    ["memoryMib = 4097", "memoryMib"],
    ['memoryMib = "64"', "memoryMib"],
    ['apiTcp = "8080"', "ADDR:PORT"],
    ['logLevel = "loud"', "logLevel"],
    ["memoryMib = ", "not TOML"],
  ];
  for (const [toml, named] of wrong) {
    expect(parseConfig(toml, {})).toMatchObject({
      ok: false,
      error: expect.stringContaining(named),
    });
  }
  expect(loadConfig("/no/such/file.toml", {})).toMatchObject({ ok: false });
  const directory = mkdtempSync(join(tmpdir(), "parityd-config-"));
  const path = join(directory, "c.toml");
  writeFileSync(path, "x = 1");
  expect(loadConfig(path, {})).toMatchObject({ ok: false, error: expect.stringContaining(path) });
  rmSync(directory, { recursive: true });
});

test("config: TCP addresses", () => {
  for (const [text, host, port] of [
    ["127.0.0.1:80", "127.0.0.1", 80],
    ["[::1]:0", "::1", 0],
    ["localhost:65535", "localhost", 65_535],
  ] as const) {
    expect(parseTcpAddress(text)).toEqual({ ok: true, value: { host, port } });
  }
  for (const text of ["", ":80", "host", "host:", "host:65536", "::1:80", "a b:1", "h:-1"]) {
    expect(parseTcpAddress(text)).toMatchObject({ ok: false });
  }
});

function logLines(format: LogFormat, isUnderJournald: boolean): string[] {
  const lines: string[] = [];
  const logger = new Logger({
    format,
    level: "info",
    isUnderJournald,
    now: () => new Date(0),
    writeLine: (line) => lines.push(line),
  });
  logger.write("error", 'two\nlines "quoted"', { array: "a b", count: 3, isOk: true });
  logger.write("debug", "not shown");
  return lines;
}

test("log: logfmt, journald and JSON: one line each, levels above the limit left out", () => {
  const message = 'msg="two\\nlines \\"quoted\\"" array="a b" count=3 isOk=true';
  expect(logLines("logfmt", false)).toEqual([
    `time=1970-01-01T00:00:00.000Z level=error ${message}`,
  ]);
  expect(logLines("logfmt", true)).toEqual([`<3>${message}`]);
  const [json = ""] = logLines("json", false);
  expect(JSON.parse(json)).toEqual({
    time: "1970-01-01T00:00:00.000Z",
    level: "error",
    msg: 'two\nlines "quoted"',
    array: "a b",
    count: 3,
    isOk: true,
  });
});

test("log: control characters of names and messages: escaped in every form", () => {
  const hostile = "a\u001b[2J\r\nlevel=error\u007f\u009b\u2028\u202e\u200f\ufeffz\0";
  for (const format of ["logfmt", "json"] as const) {
    for (const isUnderJournald of [false, true]) {
      const lines: string[] = [];
      const options = { format, isUnderJournald, level: "info" as const, now: () => new Date(0) };
      const logger = new Logger({ ...options, writeLine: (line) => lines.push(line) });
      logger.write("info", hostile, { array: hostile });
      const [line = ""] = lines;
      expect(lines).toHaveLength(1);
      expect(line).toMatch(/^[ -~]+$/);
      const quoted = /array"?[=:](".*")/.exec(line)?.[1] ?? "";
      expect(JSON.parse(quoted)).toBe(hostile);
    }
  }
});

test("log: level and format change while it runs", () => {
  const lines: string[] = [];
  const logger = new Logger({
    ...{ format: "logfmt", level: "info", isUnderJournald: true, now: () => new Date(0) },
    writeLine: (line) => lines.push(line),
  });
  logger.write("debug", "a");
  logger.configure({ format: "json", level: "debug" });
  logger.write("debug", "b");
  expect(lines).toEqual(['<7>{"time":"1970-01-01T00:00:00.000Z","level":"debug","msg":"b"}']);
});

test("config: a run directory whose sockets no client could reach is refused", () => {
  const longest = `/${"r".repeat(97)}`;
  expect(parseConfig(null, { runDir: longest })).toMatchObject({ ok: true });
  expect(parseConfig(null, { runDir: `${longest}r` })).toEqual({
    ok: false,
    error: expect.stringMatching(/^runDir: a socket path holds at most 107 bytes, .* has 108/),
  });
  expect(parseConfig(null, { runDir: `/${"ü".repeat(50)}` })).toMatchObject({ ok: false });
});

test("lock: held by one, refused to a second, free again when released", () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-lock-"));
  const path = join(directory, "lock");
  const first = takeLock(path);
  if (!first.ok) throw new Error("no lock");
  expect(takeLock(path)).toEqual({ ok: false, error: "held" });
  first.value.release();
  const second = takeLock(path);
  expect(second.ok).toBe(true);
  if (second.ok) second.value.release();
  expect(takeLock(join(directory, "no", "lock"))).toEqual({
    ok: false,
    error: { errno: "ENOENT" },
  });
  rmSync(directory, { recursive: true });
});

test("eventfd: rung twice: the counter says 2", async () => {
  const wakeUp = createWakeUp();
  if (!wakeUp.ok) throw new Error(wakeUp.error);
  wakeUp.value.ring();
  wakeUp.value.ring();
  const { libc } = await import("../../../ffi/libc.ts");
  const counter = new Uint8Array(new ArrayBuffer(2_048));
  expect(libc.read(wakeUp.value.fd, counter, 8)).toBe(8);
  expect(counter[0]).toBe(2);
  libc.close(wakeUp.value.fd);
});

test("notify: a datagram arrives at a socket by path and at an abstract one", async () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-notify-"));
  const { libc } = await import("../../../ffi/libc.ts");
  for (const name of [join(directory, "n"), `@parityd-test-${process.pid}`]) {
    const bytes = new TextEncoder().encode(name);
    const address = new Uint8Array(new ArrayBuffer(2 + bytes.length));
    address[0] = 1;
    address.set(bytes, 2);
    if (address[2] === 0x40) address[2] = 0;
    const fd = libc.socket(1, 2, 0);
    expect(libc.bind(fd, address, address.length)).toBe(0);
    createNotifySend(name)("READY=1\nSTATUS=up");
    const received = new Uint8Array(new ArrayBuffer(2_048));
    const count = libc.read(fd, received, received.length);
    expect(new TextDecoder().decode(received.subarray(0, count))).toBe("READY=1\nSTATUS=up");
    libc.close(fd);
  }
  createNotifySend(undefined)("to nobody");
  createNotifySend(join(directory, "gone"))("to nobody");
  rmSync(directory, { recursive: true });
});

test("systemd: the watchdog is fed only while the reactor answers", async () => {
  const sent: string[] = [];
  const reactor = new SimReactor(hostWithDisks([]));
  const client = new ReactorClient({ channel: reactor, log: silentLog });
  const systemd = new Systemd({ send: (text) => sent.push(text), watchdogMicroseconds: 20_000 });
  systemd.ready("serving");
  systemd.watch(client);
  const fed = () => sent.filter((text) => text === "WATCHDOG=1").length;
  await until("it is fed again and again", () => fed() > 2);
  reactor.isHung = true;
  await Bun.sleep(20);
  sent.length = 0;
  await Bun.sleep(60);
  expect(sent).toEqual([]);
  systemd.stopping();
  expect(sent).toEqual(["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=30000000"]);
  systemd.stopped();
});

test("systemd: the watchdog is not fed for a reactor that has ended", async () => {
  const sent: string[] = [];
  const client = new ReactorClient({ channel: new SimReactor(hostWithDisks([])), log: silentLog });
  client.close();
  const systemd = new Systemd({ send: (text) => sent.push(text), watchdogMicroseconds: 10_000 });
  systemd.watch(client);
  await Bun.sleep(40);
  systemd.stopping();
  expect(sent).toEqual(["STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=30000000"]);
  systemd.stopped();
});
