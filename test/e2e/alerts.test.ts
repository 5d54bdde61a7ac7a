/**
 * Goal: what happens to an array is heard, whatever the receiver does in between and across
 * `kill -9`; a program that hangs, floods or is not there holds neither clients nor the daemon up;
 * secrets are in no log.
 * Method: the executable; a real HTTP server on loopback that fails, hangs, redirects, answers 429,
 * and then works; real programs. Signatures are verified by openssl.
 */
import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { KIB, MIB } from "../../src/base/units.ts";
import { makeCertificate, makeTwoAuthorities } from "../helpers/certificates.ts";
import { Daemon, makeFiles, mustRun, runVerb, serveWords } from "../helpers/daemon.ts";
import { mustWrite, randomBytes } from "../helpers/nbd-data.ts";
import { needs, toolPath } from "../helpers/needs.ts";
import { makeTempDir } from "../helpers/temp.ts";
import { until } from "../helpers/until.ts";

const MEMBER_BYTES = 16 * MIB;
const NEEDS = "[needs libaio, direct-io]";
const KEY = "a-key-that-nobody-is-told";

interface Received {
  readonly path: string;
  readonly headers: Headers;
  readonly body: string;
  readonly status: number | "hang";
}

/** Answers as `answer` says, and keeps what came. */
class Receiver {
  readonly received: Received[] = [];
  answer: (count: number) => Response | "hang" = () => new Response(null, { status: 204 });
  private readonly server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    idleTimeout: 0,
    fetch: async (request) => {
      const body = await request.text();
      const answer = this.answer(this.received.length + 1);
      const { headers } = request;
      const { pathname: path } = new URL(request.url);
      const status = answer === "hang" ? "hang" : answer.status;
      this.received.push({ path, headers, body, status });
      return answer === "hang" ? new Promise<Response>(() => {}) : answer;
    },
  });

  get url(): string {
    return `http://127.0.0.1:${this.server.port}`;
  }

  /** Ids of the alerts that were taken. */
  get taken(): number[] {
    return this.received.filter(({ status }) => status === 204).map(idOf);
  }

  close(): void {
    void this.server.stop(true);
  }
}

function idOf({ body }: Received): number {
  return JSON.parse(body).id;
}

const receivers: Receiver[] = [];
afterAll(() => {
  for (const receiver of receivers) receiver.close();
});

function newReceiver(): Receiver {
  const receiver = new Receiver();
  receivers.push(receiver);
  return receiver;
}

function write(folder: string, name: string, text: string, mode = 0o400): string {
  const path = join(folder, name);
  writeFileSync(`${path}.new`, text, { mode });
  renameSync(`${path}.new`, path);
  return path;
}

/** A daemon with this configuration. */
function start(folder: string, toml: string): Promise<Daemon> {
  return Daemon.start(folder, { flags: ["--config", write(folder, "config.toml", toml)] });
}

async function verb(folder: string, line: string) {
  return runVerb([...line.split(" "), "--run-dir", join(folder, "run")]);
}

async function opensslMac(text: string, key: string): Promise<string> {
  const child = Bun.spawn(["openssl", "dgst", "-sha256", "-hmac", key], {
    stdin: Buffer.from(text),
    stdout: "pipe",
  });
  return (await child.stdout.text()).trim().split("= ")[1] ?? "";
}

async function metric(daemon: Daemon, name: string): Promise<number> {
  const text: string = await daemon.must("GET", "/metrics");
  const line = text.split("\n").find((each) => each.startsWith(`parityd_alerts_${name}`));
  return Number(line?.split(" ")[1]);
}

describe.skipIf(!needs("libaio", "direct-io"))("alerts", () => {
  test(`a receiver fails, hangs, redirects, answers 429; the daemon is killed: all arrives ${NEEDS}`, async () => {
    const folder = makeTempDir("alerts");
    const receiver = newReceiver();
    const toml = `
      [[webhook]]
      url = "${receiver.url}/hook/SECRET-PATH"
      least = "info"
      secretFile = "${write(folder, "key", `${KEY}\n`)}"
      timeoutSeconds = 1
      headers = { Authorization = { file = "${write(folder, "token", "Bearer SECRET-TOKEN\n")}" } }
    `;
    receiver.answer = (count) => {
      if (count === 1) return new Response("no", { status: 500 });
      if (count === 2) return "hang";
      if (count === 3) return Response.redirect(`${receiver.url}/elsewhere`, 308);
      return new Response(null, { status: 429, headers: { "Retry-After": "1" } });
    };
    let daemon = await start(folder, toml);
    const drives = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    await daemon.settle("tank");
    await daemon.must("POST", "/v1/arrays/tank/members/drive1/fail", {});
    await until("it has come to the 429", () => receiver.received.length >= 4);
    expect(await metric(daemon, "sent_total")).toBe(0);
    const logs = [daemon.stderr];
    await daemon.kill();
    // All tries were for the first event: order is kept.
    expect(receiver.received.map(idOf)).toEqual([1, 1, 1, 1]);
    receiver.answer = () => new Response(null, { status: 204 });
    daemon = await start(folder, toml);
    const events = async () => daemon.must("GET", "/v1/events?since=0");
    await until("all have arrived", async () => receiver.taken.length === (await events()).length);
    expect(receiver.taken).toEqual((await events()).map(({ id }: { id: number }) => id));
    expect(receiver.received.slice(4).map(idOf)).toEqual(receiver.taken);
    const kinds = receiver.received.map(({ body }) => JSON.parse(body).kind);
    expect(kinds).toContain("array.degraded");
    expect(new Set(receiver.received.map(({ path }) => path))).toEqual(
      new Set(["/hook/SECRET-PATH"]),
    );
    for (const { headers, body } of receiver.received) {
      expect(headers.get("content-type")).toBe("application/json");
      expect(headers.get("authorization")).toBe("Bearer SECRET-TOKEN");
      const [, seconds, mac] = /^t=(\d+),v1=([0-9a-f]+)$/.exec(
        headers.get("x-parityd-signature") ?? "",
      )!;
      expect(await opensslMac(`${seconds}.${body}`, KEY)).toBe(mac!);
      expect(Math.abs(Number(seconds) - Date.now() / 1_000)).toBeLessThan(600);
    }
    expect(await metric(daemon, "sent_total")).toBe(receiver.taken.length);
    expect(await metric(daemon, "pending")).toBe(0);
    expect(await daemon.stop()).toBe(0);
    logs.push(daemon.stderr);
    expect(logs.join()).toContain("alerts do not arrive");
    expect(logs.join()).toContain("alerts arrive again");
    expect(logs.join()).not.toContain("SECRET");
    expect(logs.join()).not.toContain(KEY);
  });

  test(`a program hangs, floods, fails: clients write on, the log says what it was ${NEEDS}`, async () => {
    const folder = makeTempDir("alerts");
    const seen = join(folder, "seen");
    const script = `#!/bin/sh
      cat >> ${seen}
      [ $PARITYD_EVENT_KIND = member.failed ] && sleep 60
      [ $PARITYD_EVENT_KIND = array.degraded ] && yes
      echo "cannot tell anybody"; exit 7
    `;
    const path = write(folder, "tell", script, 0o700);
    const daemon = await start(
      folder,
      `onEvent = "${path}"\nonEventLeast = "warning"\nonEventTimeoutSeconds = 2`,
    );
    const drives = await daemon.addDrives(makeFiles(folder, 3, MEMBER_BYTES));
    await daemon.must("POST", "/v1/arrays", { name: "tank", drives });
    await daemon.must("PUT", "/v1/exports/tank", { array: "tank" });
    await daemon.settle("tank");
    const client = await daemon.connect("tank");
    await daemon.must("POST", "/v1/arrays/tank/members/drive1/fail", {});
    const data = randomBytes(1, 64 * KIB);
    let writes = 0;
    const isKilled = (count: number) => () =>
      [...daemon.stderr.matchAll(/killed after 2 s/g)].length >= count;
    for (const count of [1, 2]) {
      await until(`number ${count} is killed`, async () => {
        await mustWrite(client, (writes % 64) * 64 * KIB, data);
        await daemon.must("GET", "/v1/arrays/tank");
        writes += 1;
        return isKilled(count)();
      });
    }
    expect(writes).toBeGreaterThan(10);
    // The flood was cut, its first lines are in the log.
    expect(daemon.stderr).toMatch(/kind=array\.degraded .*killed after 2 s: y \| y \| y/);
    for (const line of daemon.stderr.split("\n")) expect(line.length).toBeLessThan(8_000);
    const told = readFileSync(seen, "utf8").trim().split("\n");
    const ids = told.map((line) => JSON.parse(line).id);
    expect(ids).toEqual([...ids].sort((a, b) => a - b));
    expect(told.map((line) => JSON.parse(line).kind)).toContain("array.degraded");
    renameSync(path, `${path}.away`);
    const gone = await verb(folder, "events test");
    expect([gone.exitCode, gone.stdout]).toEqual([
      ...[1, expect.stringMatching(/onEvent +failed +\S+ +it cannot be run: ENOENT/)],
    ]);
    write(folder, "tell", "#!/bin/sh\nexec true\n", 0o700);
    const good = await verb(folder, "events test");
    expect([good.exitCode, good.stdout]).toEqual([0, expect.stringMatching(/onEvent +arrived/)]);
    expect(await daemon.stop()).toBe(0);
  });

  test(`a stop while a program runs and a receiver hangs: within seconds, nobody is left ${NEEDS}`, async () => {
    const folder = makeTempDir("alerts");
    const receiver = newReceiver();
    receiver.answer = () => "hang";
    const pidFile = join(folder, "pid");
    const path = write(folder, "tell", `#!/bin/sh\necho $$ > ${pidFile}\nsleep 60\n`, 0o700);
    const daemon = await start(
      folder,
      `
      onEvent = "${path}"
      onEventLeast = "info"
      [[webhook]]
      url = "${receiver.url}"
      least = "info"
      timeoutSeconds = 60
      `,
    );
    await daemon.addDrives(makeFiles(folder, 1, MEMBER_BYTES));
    await until("both are under way", () => receiver.received.length === 1 && existsSync(pidFile));
    expect(await daemon.stop()).toBe(0);
    const group = Number(readFileSync(pidFile, "utf8"));
    await until("its group is gone", () => {
      try {
        process.kill(-group, 0);
        return false;
      } catch {
        return true;
      }
    });
  });

  test(`a daemon is killed while a program runs: the next one ends that, and runs it again ${NEEDS}`, async () => {
    const folder = makeTempDir("alerts");
    const pidFile = join(folder, "pid");
    const path = write(folder, "tell", `#!/bin/sh\necho $$ >> ${pidFile}\nsleep 600\n`, 0o700);
    const toml = `onEvent = "${path}"\nonEventLeast = "info"\n`;
    const pids = (): number[] =>
      existsSync(pidFile) ? readFileSync(pidFile, "utf8").trim().split("\n").map(Number) : [];
    const isThere = (group: number): boolean => {
      try {
        process.kill(-group, 0);
        return true;
      } catch {
        return false;
      }
    };
    const first = await start(folder, toml);
    await first.addDrives(makeFiles(folder, 1, MEMBER_BYTES));
    await until("it runs", () => pids().length === 1);
    await first.kill();
    const [left] = pids() as [number];
    expect(isThere(left)).toBe(true);
    const second = await start(folder, toml);
    await until("it runs again", () => pids().length === 2);
    await until("what was left is gone", () => !isThere(left));
    expect(second.stderr).toContain(`the program of onEvent that was left is ended" pid=${left}`);
    // One that is refused, since the directories are taken, ends nothing.
    const refused = await runVerb([...serveWords(folder), "--config", join(folder, "config.toml")]);
    expect([refused.exitCode, isThere(pids()[1]!)]).toEqual([69, true]);
    expect(await second.stop()).toBe(0);
    await until("nobody is left", () => !isThere(pids()[1]!));
    expect(existsSync(join(folder, "run", "on-event.pid"))).toBe(false);
  });

  test.skipIf(toolPath("openssl") === undefined)(
    `a webhook over TLS: its certificate is judged by caFile, which SIGHUP reads again ${NEEDS}`,
    async () => {
      const folder = makeTempDir("alerts");
      await makeTwoAuthorities(folder);
      const pem = (name: string): string => readFileSync(join(folder, `${name}.pem`), "utf8");
      const received: string[] = [];
      const names = { subject: "/CN=elsewhere", alternatives: "DNS:elsewhere" };
      await makeCertificate(folder, "elsewhere", names, "old");
      const serve = (name: string) =>
        Bun.serve({
          ...{ port: 0, hostname: "127.0.0.1" },
          tls: { cert: pem(`${name}-cert`), key: pem(`${name}-key`) },
          fetch: async (request) => {
            received.push(new URL(request.url).pathname);
            return new Response(null, { status: 204 });
          },
        });
      const server = serve("old-server");
      const misnamed = serve("elsewhere");
      const ca = write(folder, "ca.pem", pem("new-cert"));
      const hook = (path: string, port: number | undefined, more = "") =>
        `[[webhook]]\nurl = "https://127.0.0.1:${port}/${path}"\n${more}\n`;
      const daemon = await start(
        folder,
        hook("judged", server.port, `caFile = "${ca}"\nleast = "info"`) +
          hook("well-known", server.port) +
          hook("other-name", misnamed.port, `caFile = "${join(folder, "old-cert.pem")}"`),
      );
      const outcomes = async (): Promise<unknown[]> =>
        JSON.parse((await verb(folder, "events test --json")).stdout).ways.map(
          ({ arrived, detail }: { arrived: boolean; detail: string }) => [arrived, detail],
        );
      expect(await outcomes()).toEqual([
        [false, "UNABLE_TO_VERIFY_LEAF_SIGNATURE"],
        [false, expect.stringMatching(/^UNABLE_TO_VERIFY_LEAF_SIGNATURE: .* caFile /)],
        [false, "ERR_TLS_CERT_ALTNAME_INVALID"],
      ]);
      // An event of the log is told of too, and waits.
      await daemon.addDrives(makeFiles(folder, 1, MEMBER_BYTES));
      await until("it is in the log", () => /alerts do not arrive.*webhook1/.test(daemon.stderr));
      expect(received).toEqual([]);
      write(folder, "ca.pem", pem("old-cert"));
      daemon.child.kill("SIGHUP");
      await until("the event arrives", () => received.includes("/judged"));
      expect((await outcomes())[0]).toEqual([true, "status 204"]);
      expect(new Set(received)).toEqual(new Set(["/judged"]));
      expect(await daemon.stop()).toBe(0);
      await Promise.all([server.stop(true), misnamed.stop(true)]);
    },
  );

  test(`events test: each way by itself, templates, a secret that SIGHUP changes ${NEEDS}`, async () => {
    const folder = makeTempDir("alerts");
    const receiver = newReceiver();
    const key = write(folder, "key", "the first key\n");
    const daemon = await start(
      folder,
      `
      [[webhook]]
      url = "${receiver.url}/one"
      secretFile = "${key}"
      template = "{{host}}: {{message}}"
      headers = { Title = "parityd", Priority = "high" }
      [[webhook]]
      url = "http://127.0.0.1:1/SECRET"
      `,
    );
    const both = await verb(folder, "events test --json");
    expect([both.exitCode, JSON.parse(both.stdout)]).toEqual([
      1,
      {
        schema: "parityd.alerts-test/1",
        arrived: false,
        ways: [
          { via: "webhook1", target: receiver.url, arrived: true, detail: "status 204" },
          {
            ...{ via: "webhook2", target: "http://127.0.0.1:1", arrived: false },
            detail: "ECONNREFUSED",
          },
        ],
      },
    ]);
    const mac = async (): Promise<string> => {
      const { headers, body } = receiver.received.at(-1)!;
      expect(body).toMatch(/^\S+: a test of the alerts of parityd/);
      expect([headers.get("title"), headers.get("priority")]).toEqual(["parityd", "high"]);
      const [, seconds, sent] = /t=(\d+),v1=(\w+)/.exec(headers.get("x-parityd-signature") ?? "")!;
      for (const name of ["the first key", "the second key"]) {
        if ((await opensslMac(`${seconds}.${body}`, name)) === sent) return name;
      }
      return "neither";
    };
    expect(await mac()).toBe("the first key");
    write(folder, "key", "the second key\n");
    daemon.child.kill("SIGHUP");
    await until("it is read again", () => daemon.stderr.includes("secrets of alerts (1)"));
    const one = await verb(folder, "events test --webhook 1");
    expect([one.exitCode, one.stdout]).toEqual([0, expect.stringMatching(/webhook1 +arrived/)]);
    expect(await mac()).toBe("the second key");
    write(folder, "key", "");
    daemon.child.kill("SIGHUP");
    await until("it is refused", () => daemon.stderr.includes("its first line is empty"));
    await verb(folder, "events test --webhook 1");
    expect(await mac()).toBe("the second key");
    const none = await verb(folder, "events test --webhook 3");
    expect([none.exitCode, none.stderr]).toEqual([1, expect.stringContaining("no webhook3")]);
    expect((await verb(folder, "events test --webhook x")).exitCode).toBe(64);
    expect(await daemon.stop()).toBe(0);
    expect(daemon.stderr).not.toMatch(/SECRET|the (first|second) key/);
  });
});

test("serve: a secret that others may write, a template with another field: exit 78, nothing said", async () => {
  const folder = makeTempDir("alerts");
  const key = write(folder, "key", "SECRET\n", 0o600);
  await mustRun(["chmod", "666", key]);
  for (const [toml, says] of [
    [`[[webhook]]\nurl = "http://h/SECRET"\nsecretFile = "${key}"`, "other users may write it"],
    ['[[webhook]]\nurl = "http://h/SECRET"\ntemplate = "{{text}}"', "there is no {{text}}"],
  ] as const) {
    const config = write(folder, "config.toml", toml);
    const ended = await runVerb([...serveWords(folder), "--config", config]);
    expect([ended.exitCode, ended.stderr]).toEqual([78, expect.stringContaining(says)]);
    expect(ended.stderr).not.toContain("SECRET");
  }
});
