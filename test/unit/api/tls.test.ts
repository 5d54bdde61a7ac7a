/**
 * Goal: behind TLS the API answers as it does in the clear, and nobody else: no plain HTTP, no old
 * TLS, and where there is a CA no client without its certificate.
 * Method: the listener over a small app, called by curl, openssl, the runtime and raw sockets, with
 * certificates of two authorities.
 */
import { afterEach, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { OpenAPIHono } from "@hono/zod-openapi";
import { HttpFront } from "../../../src/api/http-front.ts";
import type { ApiApp, ApiEnvironment } from "../../../src/api/route.ts";
import { listenTcp, type TcpServer } from "../../../src/api/server.ts";
import type { TlsFiles } from "../../../src/appliance/tls-files.ts";
import { silentLog } from "../../../src/base/log.ts";
import { makeTwoAuthorities } from "../../helpers/certificates.ts";
import { runProgram } from "../../helpers/daemon.ts";
import { toolPath } from "../../helpers/needs.ts";
import { makeTempDir } from "../../helpers/temp.ts";
import { until } from "../../helpers/until.ts";

const HAS_TOOLS = toolPath("openssl") !== undefined && toolPath("curl") !== undefined;
const LONG = "x".repeat(3_000_000);
let pki = "";
beforeAll(async () => {
  if (!HAS_TOOLS) return;
  pki = makeTempDir("api-pki");
  await makeTwoAuthorities(pki);
});

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const path = (name: string): string => join(pki, `${name}.pem`);
const pem = (name: string): string => readFileSync(path(name), "utf8");

function filesOf(ca: string, clientCa?: string): TlsFiles {
  const files = { cert: pem(`${ca}-server-cert`), key: pem(`${ca}-server-key`) };
  return clientCa === undefined ? files : { ...files, ca: pem(`${clientCa}-cert`) };
}

let streams = 0;

function makeApp(): ApiApp {
  const app: ApiApp = new OpenAPIHono<ApiEnvironment>();
  app.get("/who", (context) => context.text(context.env.peer ?? "nobody"));
  app.get("/long", (context) => context.text(LONG));
  app.post("/echo", async (context) => context.text(await context.req.text()));
  app.get("/v1/events", () => {
    streams += 1;
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode(": one\n\n")),
      cancel: () => {
        streams -= 1;
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  });
  return app;
}

async function start(tls: TlsFiles): Promise<TcpServer> {
  const server = await listenTcp(makeApp(), { host: "127.0.0.1", port: 0, log: silentLog, tls });
  if (!server.ok) throw new Error(server.error);
  ends.push(() => server.value.close());
  return server.value;
}

function curl(port: number, words: readonly string[], target = "/who") {
  const limits = ["-sS", "--max-time", "60"];
  return runProgram(["curl", ...limits, ...words, `https://localhost:${port}${target}`]);
}

const trusting = (ca: string): string[] => ["--cacert", path(`${ca}-cert`)];
const showing = (name: string): string[] => [
  ...["--cert", path(`${name}-cert`), "--key", path(`${name}-key`)],
];

function dial(port: number): Socket {
  const socket = connect(port, "127.0.0.1");
  socket.on("error", () => {});
  ends.push(() => socket.destroy());
  return socket;
}

/** All that comes until the connection ends. */
function readAll(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
  });
  return new Promise((resolve) => socket.on("close", () => resolve(text)));
}

async function dialTls(port: number, ca: string): Promise<TLSSocket> {
  const socket = connectTls({ port, host: "127.0.0.1", servername: "localhost", ca: pem(ca) });
  ends.push(() => socket.destroy());
  socket.on("error", () => {});
  await new Promise<void>((resolve) => socket.once("secureConnect", () => resolve()));
  return socket;
}

test.skipIf(!HAS_TOOLS)(
  "api tls: curl, the runtime and openssl are answered as in the clear [needs openssl, curl]",
  async () => {
    const { port } = await start(filesOf("old"));
    expect(await curl(port, trusting("old"))).toMatchObject({ exitCode: 0, stdout: "127.0.0.1" });
    const two = [...trusting("old"), `https://localhost:${port}/who`, "--next", "-sS"];
    const again = await curl(port, [...two, ...trusting("old"), "-d", "a body"], "/echo");
    expect(again.stdout).toBe("127.0.0.1a body");
    expect((await curl(port, trusting("old"), "/long")).stdout).toBe(LONG);
    const tls = { ca: pem("old-cert") };
    const answer = await fetch(`https://localhost:${port}/who`, { tls } as BunFetchRequestInit);
    expect(await answer.text()).toBe("127.0.0.1");
    const s_client = ["openssl", "s_client", "-quiet", "-verify_return_error", "-no_ign_eof"];
    const words = [...s_client, "-CAfile", path("old-cert"), "-connect", `localhost:${port}`];
    const child = Bun.spawn(words, { stdin: "pipe", stdout: "pipe", stderr: "ignore" });
    child.stdin.write("GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    await child.stdin.flush();
    expect(await child.stdout.text()).toMatch(/^HTTP\/1\.1 200 [\s\S]*127\.0\.0\.1$/);
    child.kill();
    await child.exited;
  },
);

test.skipIf(!HAS_TOOLS)(
  "api tls: a client of another authority does not trust it; plain HTTP gets not a byte of it",
  async () => {
    const { port } = await start(filesOf("old"));
    expect((await curl(port, trusting("new"))).exitCode).toBe(60);
    const plain = dial(port);
    plain.write("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(await readAll(plain)).not.toContain("127.0.0.1");
    const weak = ["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0", "-brief"];
    for (const [words, isTaken] of [
      [["-tls1_2"], true],
      [["-tls1_3"], true],
      [weak, false],
    ] as const) {
      const to = ["-connect", `localhost:${port}`];
      const { exitCode } = await runProgram(["openssl", "s_client", ...words, ...to]);
      expect([words[0], exitCode === 0]).toEqual([words[0], isTaken]);
    }
    // None of these has kept its place.
    expect((await curl(port, trusting("old"))).exitCode).toBe(0);
  },
);

test.skipIf(!HAS_TOOLS)(
  "api tls: with a CA only clients with its certificate are answered [needs openssl, curl]",
  async () => {
    const { port } = await start(filesOf("old", "old"));
    for (const [words, isAnswered] of [
      [[], false],
      [showing("new-client"), false],
      [showing("old-client"), true],
      // An authority of the same name that nobody named.
      [showing("new"), false],
    ] as const) {
      const { exitCode, stdout } = await curl(port, [...trusting("old"), ...words]);
      expect([words, exitCode === 0, stdout]).toEqual([
        words,
        isAnswered,
        isAnswered ? "127.0.0.1" : "",
      ]);
    }
  },
);

test.skipIf(!HAS_TOOLS)(
  "api tls: new files are for new clients; who is connected goes on [needs openssl, curl]",
  async () => {
    const server = await start(filesOf("old"));
    const first = await dialTls(server.port, "old-cert");
    const ask = async (): Promise<string> => {
      const answered = new Promise<string>((resolve) => first.once("data", (c) => resolve(`${c}`)));
      first.write("GET /who HTTP/1.1\r\nHost: x\r\n\r\n");
      return answered;
    };
    expect(await ask()).toContain("200");
    server.setFiles(filesOf("new", "new"));
    expect((await curl(server.port, trusting("old"))).exitCode).toBe(60);
    const known = [...trusting("new"), ...showing("new-client")];
    expect((await curl(server.port, trusting("new"))).stdout).toBe("");
    expect((await curl(server.port, known)).stdout).toBe("127.0.0.1");
    expect(await ask()).toContain("200");
  },
);

test.skipIf(!HAS_TOOLS)(
  "api tls: handshakes that fail, hang or are given up leave no place taken [needs openssl]",
  async () => {
    const times = { requestMs: 300, idleMs: 15_000, sendMs: 30_000 };
    const limits = { short: 4, long: 2, anonymous: 4 };
    const refused: string[] = [];
    const log = {
      ...silentLog,
      write: (_level: string, message: string) => void refused.push(message),
    };
    const options = { app: makeApp(), transport: "tcp", limits, log, times } as const;
    const front = new HttpFront({ ...options, tls: filesOf("old") });
    const server = createServer((socket) => front.accept(socket));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    ends.push(() => {
      server.close();
      front.close();
    });
    const { port } = server.address() as AddressInfo;
    for (let round = 0; round < 5; round += 1) {
      const silent = [dial(port), dial(port), dial(port), dial(port)];
      silent[0]!.write("no TLS at all\n");
      silent[1]!.write(Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00]));
      silent[2]!.once("connect", () => silent[2]!.destroy());
      await Promise.all(silent.map(readAll));
    }
    expect(refused.filter((message) => message.includes("too many"))).toEqual([]);
    const secure = await dialTls(port, "old-cert");
    secure.write("GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    expect(await readAll(secure)).toContain("200");
  },
);

test.skipIf(!HAS_TOOLS)(
  "api tls: an event stream ends when its client goes, however it goes [needs openssl]",
  async () => {
    const { port } = await start(filesOf("old"));
    for (const end of ["end", "destroy"] as const) {
      const secure = await dialTls(port, "old-cert");
      secure.write("GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n");
      await new Promise<void>((resolve) => {
        let text = "";
        secure.on("data", (chunk: Buffer) => {
          text += chunk.toString();
          if (text.includes(": one")) resolve();
        });
      });
      expect(streams).toBe(1);
      secure[end]();
      await until("the stream has ended", () => streams === 0);
    }
  },
);
