/**
 * Goal: a webhook posts what is documented and takes no longer than its time; a program is run one
 * at a time, with nothing of the daemon's, and is killed with all that it started; secrets are in
 * no answer and no log.
 * Method: webhooks with a client that does what a test says, in virtual time, and the real client
 * against a server on loopback; real programs.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { alertOf } from "../../../src/appliance/alerts/alert.ts";
import { httpPost, whyOf } from "../../../src/appliance/alerts/http-post.ts";
import { scriptRunner } from "../../../src/appliance/alerts/linux-script.ts";
import { ScriptRecord } from "../../../src/appliance/alerts/linux-script-record.ts";
import { openWays } from "../../../src/appliance/alerts/open-ways.ts";
import { Script, type ScriptEnd, type ScriptRun } from "../../../src/appliance/alerts/script.ts";
import { SecretFile } from "../../../src/appliance/alerts/secret-file.ts";
import {
  type PostAnswer,
  type PostRequest,
  signatureOf,
  Webhook,
} from "../../../src/appliance/alerts/webhook.ts";
import { parseConfig } from "../../../src/appliance/config.ts";
import { processAlarms } from "../../../src/appliance/state/alarms.ts";
import type { Log } from "../../../src/base/log.ts";
import { simAlarms } from "../../helpers/sim-alarms.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { until } from "../../helpers/until.ts";
import { Simulation } from "../../sim/world/simulation.ts";

const folder = makeTempDir("alerts");
const ALERT = alertOf(
  {
    ...{ id: 7, kind: "array.degraded", severity: "critical", array: "tank", arrayUuid: "u" },
    ...{ drive: "d1", job: null, atMs: 1_700_000_000_123, message: "one is gone" },
  },
  { host: "nas", version: "1.2" },
);

function file(name: string, text: string, mode: number): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

function memoryLog() {
  const lines: string[] = [];
  const log: Log = {
    write: (level, message, fields) =>
      void lines.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`),
  };
  return { lines, log };
}

function waysOf(toml: string) {
  const config = parseConfig(toml, {});
  if (!config.ok) throw new Error(config.error);
  const { lines, log } = memoryLog();
  return { ...{ lines }, opened: openWays(config.value, { alarms: processAlarms, log }) };
}

describe("webhooks", () => {
  function hook(toml: string, answer: (request: PostRequest) => Promise<PostAnswer>) {
    const simulation = new Simulation({ seed: 1 });
    const config = parseConfig(
      `[[webhook]]\nurl = "https://h.example:8443/T0/SECRET"\n${toml}`,
      {},
    );
    if (!config.ok) throw new Error(config.error);
    const { log } = memoryLog();
    const key = SecretFile.open(file("key", "the key\n", 0o400), log);
    if (!key.ok) throw new Error(key.error);
    const requests: PostRequest[] = [];
    const webhook = new Webhook({
      ...{ config: config.value.webhook[0]!, number: 1, key: "k", version: "1.2" },
      ...{
        signatureKey: key.value,
        caFile: null,
        headers: { Title: "parityd", Authorization: key.value },
      },
      post: (request) => {
        requests.push(request);
        return answer(request);
      },
      alarms: simAlarms(simulation),
    });
    return { simulation, webhook, requests };
  }
  const answered =
    (status: number, retryAfter: string | null = null) =>
    async () =>
      ({ kind: "answered", status, retryAfter }) as const;

  test("webhooks: the body is the alert, signed; headers as configured", async () => {
    const { webhook, requests, simulation } = hook("", answered(204));
    const delivered = await webhook.deliver(ALERT);
    expect(delivered).toEqual({ kind: "arrived", detail: "status 204" });
    const { url, body, headers } = requests[0]!;
    expect(url).toBe("https://h.example:8443/T0/SECRET");
    expect(JSON.parse(body)).toEqual({
      ...{ id: 7, kind: "array.degraded", severity: "critical", array: "tank", arrayUuid: "u" },
      ...{ drive: "d1", job: null, at: "2023-11-14T22:13:20.123Z", message: "one is gone" },
      ...{ host: "nas", version: "1.2" },
    });
    const seconds = Math.floor(simulation.wallMs() / 1_000);
    expect(headers).toEqual({
      ...{ "content-type": "application/json", "user-agent": "parityd/1.2", title: "parityd" },
      ...{ authorization: "the key" },
      "x-parityd-signature": signatureOf({ secret: "the key", seconds, body }),
    });
    expect(webhook.target).toBe("https://h.example:8443");
  });

  test("webhooks: a template is text, or what its Content-Type says", async () => {
    const plain = hook('template = "{{host}}: {{message}}"', answered(200));
    await plain.webhook.deliver(ALERT);
    expect(plain.requests[0]).toMatchObject({
      body: "nas: one is gone",
      headers: { "content-type": "text/plain; charset=utf-8" },
    });
  });

  test("webhooks: answers: by their status, with Retry-After; none by the time is a failure", async () => {
    const { webhook } = hook("", answered(429, "9"));
    expect(await webhook.deliver(ALERT)).toEqual({
      ...{ kind: "failed", detail: "status 429", retryAfterMs: 9_000 },
    });
    const moved = await hook("", answered(302)).webhook.deliver(ALERT);
    expect(moved).toMatchObject({
      kind: "failed",
      detail: expect.stringContaining("not followed"),
    });
    const hung = hook("timeoutSeconds = 3", () => new Promise(() => {}));
    const late = hung.simulation.settle(hung.webhook.deliver(ALERT), { limitMs: 10_000 });
    expect(late).toEqual({ kind: "failed", detail: "no answer within 3 s", retryAfterMs: null });
    expect(hung.simulation.nowMs()).toBe(3_000);
    expect(hung.requests[0]?.signal.aborted).toBe(true);
  });

  test("webhooks: a stop ends what is under way", async () => {
    const { webhook, requests } = hook("", () => new Promise(() => {}));
    const delivered = webhook.deliver(ALERT);
    webhook.abort();
    expect(await delivered).toMatchObject({ kind: "failed", detail: "parityd stops" });
    expect(requests[0]?.signal.aborted).toBe(true);
  });
});

describe("secrets", () => {
  for (const [what, text, mode, says] of [
    ["that others may write", "secret-word", 0o622, "other users may write it"],
    ["that is empty", "\n", 0o400, "first line is empty"],
    ["of two lines", "secret-word\nanother\n", 0o400, "more than one line"],
    ["with a control character", "secret\u0007word", 0o400, "printable ASCII"],
    ["of half a page", "s".repeat(5_000), 0o400, "more than 4096 bytes"],
  ] as const) {
    test(`secrets: a file ${what}: no start, and what is in it is not said`, () => {
      const path = file("bad", text, mode);
      const { opened } = waysOf(`[[webhook]]\nurl = "http://h"\nsecretFile = "${path}"`);
      if (opened.ok) throw new Error("it is taken");
      expect(opened.error).toStartWith(`webhook 1: ${path}: `);
      expect(opened.error).toContain(says);
      expect(opened.error).not.toContain("word");
    });
  }

  test("secrets: no file, a folder: no start", () => {
    for (const path of [join(folder, "none"), folder]) {
      const { opened } = waysOf(
        `[[webhook]]\nurl = "http://h"\nheaders = { Authorization = { file = "${path}" } }`,
      );
      expect(opened).toMatchObject({ ok: false, error: expect.stringContaining(path) });
    }
  });

  test("secrets: readable by others: a warning, once; read again: the new one, or the former", () => {
    const path = file("key", "one\n", 0o444);
    const { opened, lines } = waysOf(`[[webhook]]\nurl = "http://h"\nsecretFile = "${path}"`);
    if (!opened.ok) throw new Error(opened.error);
    expect(lines).toEqual([expect.stringMatching(/^warn other users may read a secret.*key"/)]);
    expect(opened.value.readAgain()).toEqual({ ok: true, value: 1 });
    chmodSync(path, 0o466);
    expect(opened.value.readAgain()).toMatchObject({ ok: false });
    expect(lines).toHaveLength(1);
  });
});

describe("caFile", () => {
  test("caFile: what holds no certificate, or a broken one, or is for anybody to write: no start", () => {
    const broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (const [path, says] of [
      [join(folder, "no-ca"), "cannot be read"],
      [file("empty-ca", "", 0o444), "no certificate in it"],
      [file("broken-ca", broken, 0o444), "one that cannot be read"],
      [file("open-ca", broken, 0o666), "other users may write it"],
    ] as const) {
      const { opened } = waysOf(`[[webhook]]\nurl = "https://h"\ncaFile = "${path}"`);
      expect(opened).toMatchObject({ ok: false, error: expect.stringContaining(says) });
    }
  });

  test("caFile: for http://: an error of the configuration", () => {
    const config = parseConfig('[[webhook]]\nurl = "http://h"\ncaFile = "/ca"', {});
    expect(config).toMatchObject({ ok: false, error: expect.stringContaining("no https://") });
  });
});

describe("programs", () => {
  let count = 0;
  function program(text: string, mode = 0o755): string {
    count += 1;
    return file(`program${count}`, `#!/bin/sh\n${text}\n`, mode);
  }
  const recordPath = join(folder, "on-event.pid");
  const runScript = scriptRunner(new ScriptRecord(recordPath));
  function run(path: string, signal = new AbortController().signal): Promise<ScriptEnd> {
    return runScript({ path, input: '{"id":7}\n', environment: { PATH: "/usr/bin:/bin" }, signal });
  }

  test("programs: read the alert, and have nothing of the daemon's environment", async () => {
    process.env["PARITYD_TEST_SECRET"] = "of the daemon";
    const end = await run(program("cat; env; echo error >&2; pwd; ls /proc/self/fd | wc -l"));
    delete process.env["PARITYD_TEST_SECRET"];
    expect(end).toMatchObject({ kind: "exited", code: 0 });
    const { output } = end as { output: string };
    expect(output).toContain('{"id":7}');
    expect(output).toContain("error");
    expect(output).not.toContain("of the daemon");
    // 0 to 2, and the folder that ls reads.
    expect(output).toMatch(/^4$/m);
  });

  for (const [what, text, expected] of [
    ["an exit code", "exit 3", { kind: "exited", code: 3, output: "" }],
    ["a signal", "kill -TERM $$", { kind: "signalled", signal: "SIGTERM" }],
    ["one that does not read", "exec true <&-", { kind: "exited", code: 0 }],
    ["much output", "head -c 3000000 /dev/zero | tr '\\0' x; exit 5", { kind: "exited", code: 5 }],
  ] as const) {
    test(`programs: ${what}: comes to its end`, async () => {
      const end = await run(program(text));
      expect(end).toMatchObject(expected);
      if ("output" in end) expect(end.output.length).toBeLessThanOrEqual(1_027);
    });
  }

  test("programs: missing, not executable, of a folder, that others may write: not run", async () => {
    const mark = join(folder, "mark");
    for (const [path, why] of [
      [join(folder, "nobody"), "ENOENT"],
      [program(`touch ${mark}`, 0o644), "it is not executable"],
      [folder, "no regular file"],
      [program(`touch ${mark}`, 0o777), "other users may write it"],
    ] as const) {
      const end = await run(path);
      expect(end).toMatchObject({ kind: "not-run", why: expect.stringContaining(why) });
    }
    expect(existsSync(mark)).toBe(false);
  });

  test("programs: one that cannot be run yet: a warning at the start, and no more", () => {
    for (const [path, why] of [
      [join(folder, "nobody"), "ENOENT"],
      [join(program("true"), "below"), "ENOTDIR"],
      [program("true", 0o777), "other users may write it"],
      [program("true", 0o644), "it is not executable"],
    ] as const) {
      const { opened, lines } = waysOf(`onEvent = "${path}"`);
      expect(opened).toMatchObject({ ok: true, value: { ways: [{ via: "onEvent" }] } });
      expect(lines).toEqual([
        expect.stringMatching(new RegExp(`^warn the program of onEvent .*${why}`)),
      ]);
    }
  });

  test("programs: what one leaves behind with its output open holds nobody up", async () => {
    const mark = join(folder, "left");
    const end = await run(program(`(sleep 0.4; touch ${mark}) & echo begun`));
    expect(end).toMatchObject({ kind: "exited", code: 0, output: "begun\n" });
    await until("what it left behind has gone on", () => existsSync(mark));
  });

  for (const [what, text] of [
    ["hangs", "sleep 60"],
    ["floods", "yes"],
    ["catches SIGTERM, and has children", "trap '' TERM; sleep 60 & sleep 60 & wait"],
  ] as const) {
    test(`programs: one that ${what}: killed with its whole group`, async () => {
      const leaving = new AbortController();
      const pidFile = join(folder, `pid-${what.slice(0, 4)}`);
      const ending = run(
        program(`echo $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}\n${text}`),
        leaving.signal,
      );
      await until("it runs", () => existsSync(pidFile));
      leaving.abort();
      expect(await ending).toMatchObject({ kind: "signalled", signal: "SIGKILL" });
      const group = Number(readFileSync(pidFile, "utf8"));
      await until("nobody of its group is left", () => !isThere(-group));
    });
  }

  test("programs: one that runs is written down, one that has ended is not", async () => {
    const path = program(
      `until [ -s ${recordPath} ]; do sleep 0.01; done; cat ${recordPath}; echo $$`,
    );
    const end = await run(path);
    const [record, pid] = (end as { output: string }).output.trim().split("\n");
    expect(record).toMatch(new RegExp(`^${pid} \\d+ [0-9a-f-]{36}$`));
    expect(existsSync(recordPath)).toBe(false);
    expect(new ScriptRecord(recordPath).endLeft()).toBe(null);
  });

  test("programs: left by a former daemon: ended with its group, and nobody who has its number", async () => {
    const child = Bun.spawn(["sh", "-c", "sleep 60 & wait"], { detached: true });
    const record = new ScriptRecord(recordPath);
    record.keep(child.pid);
    const written = readFileSync(recordPath, "utf8");
    const [pid, start, boot] = written.trim().split(" ");
    for (const other of [
      `${pid} ${Number(start) - 1} ${boot}\n`,
      `${pid} ${start} ${boot?.replace(/^./, (digit) => (digit === "0" ? "1" : "0"))}\n`,
      `1 ${start} ${boot}\n`,
      `-1 ${start} ${boot}\n`,
      "",
    ]) {
      writeFileSync(recordPath, other);
      expect([other, record.endLeft(), isThere(child.pid)]).toEqual([other, null, true]);
      expect(existsSync(recordPath)).toBe(false);
    }
    writeFileSync(recordPath, written);
    expect(record.endLeft()).toBe(child.pid);
    await child.exited;
    await until("nobody of its group is left", () => !isThere(-child.pid));
  });

  function isThere(pid: number): boolean {
    try {
      process.kill(pid, 0);
      return true;
    } catch {
      return false;
    }
  }

  test("programs: one at a time, tests included; by the deadline killed and told of", async () => {
    const simulation = new Simulation({ seed: 1 });
    const runs: { run: ScriptRun; end: (end: ScriptEnd) => void }[] = [];
    const script = new Script({
      ...{ path: "/p", least: "info", timeoutSeconds: 30, language: "C" },
      run: (given) =>
        new Promise((resolve) => {
          runs.push({ run: given, end: resolve });
          given.signal.addEventListener("abort", () =>
            resolve({ kind: "signalled", signal: "SIGKILL", output: "half way\u001b[2J" }),
          );
        }),
      alarms: {
        nowMs: () => simulation.nowMs(),
        wallMs: () => simulation.wallMs(),
        after: (delayMs, callback) => {
          let isCancelled = false;
          simulation.scheduleAfter(delayMs, () => {
            if (!isCancelled) callback();
          });
          return () => {
            isCancelled = true;
          };
        },
      },
    });
    const [one, two] = [script.deliver(ALERT), script.deliver({ ...ALERT, id: 8 })];
    simulation.runFor(29_999);
    expect(runs).toHaveLength(1);
    expect(runs[0]!.run).toMatchObject({
      input: `${JSON.stringify(ALERT)}\n`,
      environment: {
        ...{ LANG: "C", PARITYD_EVENT_KIND: "array.degraded", PARITYD_EVENT_ID: "7" },
        ...{ PARITYD_EVENT_SEVERITY: "critical", PARITYD_EVENT_ARRAY: "tank" },
      },
    });
    expect(Object.keys(runs[0]!.run.environment)).toHaveLength(6);
    simulation.runFor(1);
    const detail = "killed after 30 s: half way\\u001b[2J";
    expect(await one).toEqual({ kind: "refused", detail });
    simulation.runFor(1);
    runs[1]!.end({ kind: "exited", code: 0, output: "noise" });
    expect(await two).toEqual({ kind: "arrived", detail: "exit code 0" });
    const three = script.deliver(ALERT);
    simulation.runFor(1);
    runs[2]!.end({ kind: "exited", code: 75, output: " no\n mail\n" });
    expect(await three).toEqual({ kind: "refused", detail: "exit code 75: no | mail" });
    const four = script.deliver(ALERT);
    simulation.runFor(1);
    script.abort();
    expect(await four).toMatchObject({ kind: "failed", detail: "parityd stops" });
  });
});

describe("the real client", () => {
  const servers: Server[] = [];
  afterAll(() => {
    for (const server of servers) server.close();
  });

  async function serve(onRequest: (socket: Socket, head: string) => void) {
    const closed: Socket[] = [];
    const server = createServer((socket) => {
      let head = "";
      socket.on("error", () => {});
      socket.on("close", () => closed.push(socket));
      socket.on("data", (data) => {
        head += data;
        if (head.includes("\r\n\r\n")) onRequest(socket, head);
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    return { url: `http://127.0.0.1:${port}/SECRET`, closed };
  }
  function post(url: string, signal = new AbortController().signal) {
    const headers = { "content-type": "text/plain" };
    return httpPost({ url, headers, body: "hello", ca: null, signal });
  }

  test("the real client: a redirect is not followed", async () => {
    const { url, closed } = await serve((socket) =>
      socket.write("HTTP/1.1 307 Go\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"),
    );
    expect(await post(url)).toEqual({ kind: "answered", status: 307, retryAfter: null });
    await until("the connection is closed", () => closed.length === 1);
  });

  test("the real client: a body without an end is not read", async () => {
    const { url, closed } = await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\nRetry-After: 3\r\nTransfer-Encoding: chunked\r\n\r\n");
      const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;
      let count = 0;
      const flood = setInterval(() => {
        count += 1;
        if (socket.destroyed || count > 500) clearInterval(flood);
        else socket.write(chunk);
      }, 1);
    });
    const limit = AbortSignal.timeout(10_000);
    expect(await post(url, limit)).toEqual({ kind: "answered", status: 200, retryAfter: "3" });
    await until("the connection is closed", () => closed.length === 1);
  });

  test("the real client: nobody, nonsense, a hang that is given up: why, without the URL", async () => {
    const nonsense = await serve((socket) => socket.end("SSH-2.0\r\n"));
    const hanging = await serve(() => {});
    const leaving = new AbortController();
    const hung = post(hanging.url, leaving.signal);
    const answers = [await post("http://127.0.0.1:1/SECRET"), await post(nonsense.url)];
    leaving.abort();
    answers.push(await hung);
    for (const answer of answers) {
      expect(answer.kind).toBe("unreachable");
      expect(JSON.stringify(answer)).not.toContain("SECRET");
    }
    expect(answers[0]).toEqual({ kind: "unreachable", why: "ECONNREFUSED" });
    expect(whyOf("DEPTH_ZERO_SELF_SIGNED_CERT", null)).toEndWith("as caFile of this webhook");
    expect(whyOf("ERR_TLS_CERT_ALTNAME_INVALID", null)).toBe("ERR_TLS_CERT_ALTNAME_INVALID");
    await until("the connection is closed", () => hanging.closed.length === 1);
  });
});
