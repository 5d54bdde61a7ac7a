/**
 * Goal: the API answers whatever HTTP a client speaks, holds no connection for clients that do not,
 * and its socket file is its own: made again when it is gone, never taken from another.
 * Method: the listeners over a small app, spoken to with raw bytes over both transports.
 */
import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenAPIHono } from "@hono/zod-openapi";
import { HttpFront, pathOf } from "../../../src/api/http-front.ts";
import type { ApiApp, ApiEnvironment } from "../../../src/api/route.ts";
import { listenTcp, listenUnix } from "../../../src/api/server.ts";
import { silentLog } from "../../../src/base/log.ts";
import { err, ok } from "../../../src/base/result.ts";
import { until } from "../../helpers/until.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function makeApp(): ApiApp {
  const app: ApiApp = new OpenAPIHono<ApiEnvironment>();
  app.get("/hello", (context) => context.text(`hello ${new URL(context.req.url).search}`));
  app.post("/echo", async (context) => {
    const text = await context.req.text();
    return context.text(text.length > 64 * 1024 ? `long ${text.length > 64 * 1024}` : text);
  });
  app.get("/v1/events", () => {
    let count = 0;
    const body = new ReadableStream({
      pull: async (controller) => {
        count += 1;
        await Bun.sleep(5);
        controller.enqueue(new TextEncoder().encode(`: ${count}\n\n`));
      },
    });
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  });
  return app;
}

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "parityd-api-"));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function startUnix(path: string, claimDirectory = () => ok()) {
  const options = { path, log: silentLog, claimDirectory, lookMs: 20 };
  const server = await listenUnix(makeApp(), options);
  if (server.ok) ends.push(() => server.value.close());
  return server;
}

type Where = string | number;

function dial(where: Where): Socket {
  const socket = typeof where === "string" ? connect(where) : connect(where, "127.0.0.1");
  socket.on("error", () => {});
  ends.push(() => socket.destroy());
  return socket;
}

/** Sends the bytes and reads to the end of the connection. */
function speak(where: Where, bytes: string): Promise<string> {
  const socket = dial(where);
  socket.write(bytes);
  let text = "";
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
  });
  return new Promise((resolve) => socket.on("close", () => resolve(text)));
}

const CLOSE = "Connection: close\r\n\r\n";
const SPOKEN: readonly [string, string, RegExp][] = [
  ["HTTP/1.0", "GET /hello HTTP/1.0\r\n\r\n", /^HTTP\/1\.1 200 [\s\S]*hello $/],
  ["no Host", `GET /hello HTTP/1.1\r\n${CLOSE}`, /^HTTP\/1\.1 200 [\s\S]*hello $/],
  ["an empty Host", `GET /hello HTTP/1.1\r\nHost:\r\n${CLOSE}`, /^HTTP\/1\.1 200 [\s\S]*hello $/],
  ["a strange Host", `GET /hello HTTP/1.1\r\nHost: a b@/?\r\n${CLOSE}`, /^HTTP\/1\.1 200 /],
  ["a URL", `GET http://x:1/hello?a=1 HTTP/1.1\r\nHost: x\r\n${CLOSE}`, /200 [\s\S]*hello \?a=1$/],
  ["two slashes", `GET //hello HTTP/1.1\r\nHost: x\r\n${CLOSE}`, /^HTTP\/1\.1 404 /],
  ["an asterisk", `OPTIONS * HTTP/1.1\r\nHost: x\r\n${CLOSE}`, /^HTTP\/1\.1 400 /],
  ["HEAD", `HEAD /hello HTTP/1.1\r\nHost: x\r\n${CLOSE}`, /^HTTP\/1\.1 200 [\s\S]*\r\n\r\n$/],
  ["no HTTP", "HELO mail\r\n\r\n", /^HTTP\/1\.1 400 [\s\S]*urn:parityd:problem:bad-http/],
  ["a long URL", `GET /${"a".repeat(70_000)} HTTP/1.1\r\n\r\n`, /^HTTP\/1\.1 431 [\s\S]*head-too/],
  [
    "two in one",
    `GET /hello?1 HTTP/1.1\r\n\r\nGET /hello?2 HTTP/1.1\r\n${CLOSE}`,
    /hello \?1HTTP\/1\.1 200 [\s\S]*hello \?2$/,
  ],
  [
    "chunks",
    `POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n${CLOSE}2\r\nab\r\n1\r\nc\r\n0\r\n\r\n`,
    /abc$/,
  ],
  [
    "a long body",
    `POST /echo HTTP/1.1\r\nContent-Length: 300000\r\n${CLOSE}${"x".repeat(300_000)}`,
    /long true$/,
  ],
];

test.each(SPOKEN)("api server: %s: answered, over both transports", async (_, bytes, expected) => {
  const path = join(makeFolder(), "api.sock");
  expect((await startUnix(path)).ok).toBe(true);
  const tcp = await listenTcp(makeApp(), { host: "127.0.0.1", port: 0, log: silentLog });
  if (!tcp.ok) throw new Error(tcp.error);
  ends.push(() => tcp.value.close());
  for (const where of [path, tcp.value.port]) expect(await speak(where, bytes)).toMatch(expected);
});

test("api server: the path of a target", () => {
  expect(
    ["/a?b", "http://h/a?b", "HTTPS://u:p@h:1/a", "http://h", "http://h?q"].map(pathOf),
  ).toEqual(["/a?b", "/a?b", "/a", "/", "/?q"]);
  expect(["*", "", "a", "ftp://h/a", "h:1"].map(pathOf)).toEqual([null, "/", null, null, null]);
});

test("api server: addresses by name and of IPv6; what cannot be listened on says why", async () => {
  for (const host of ["localhost", "::1", "127.0.0.1"]) {
    const server = await listenTcp(makeApp(), { host, port: 0, log: silentLog });
    if (!server.ok) throw new Error(server.error);
    const name = host.includes(":") ? `[${host}]` : host;
    const answer = await fetch(`http://${name}:${server.value.port}/hello`);
    expect(await answer.text()).toBe("hello ");
    await server.value.close();
  }
  const nowhere = await listenTcp(makeApp(), { host: "192.0.2.1", port: 1, log: silentLog });
  expect(nowhere).toMatchObject({ ok: false, error: expect.stringContaining("EADDRNOTAVAIL") });
});

/** A front with short times behind a listener of its own. */
async function startFront(transport: "unix" | "tcp"): Promise<number> {
  const front = new HttpFront({
    app: makeApp(),
    transport,
    limits: { short: 4, long: 1, anonymous: 3 },
    log: silentLog,
    times: { requestMs: 150, idleMs: 150, sendMs: 150 },
  });
  const server = createServer((socket) => front.accept(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  ends.push(() => {
    server.close();
    front.close();
  });
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : 0;
}

test("api server: a client that is silent or dribbles its request is dropped in time", async () => {
  const port = await startFront("unix");
  const begunMs = performance.now();
  const dribbling = dial(port);
  const timer = setInterval(() => dribbling.write("X"), 20);
  ends.push(() => clearInterval(timer));
  dribbling.write("POST /echo HTTP/1.1\r\nContent-Length: 1000\r\n\r\n");
  const silent = speak(port, "");
  const kept = speak(port, "GET /hello HTTP/1.1\r\n\r\n");
  await new Promise((resolve) => dribbling.on("close", resolve));
  expect(await silent).toBe("");
  expect(await kept).toMatch(/200 /);
  expect(performance.now() - begunMs).toBeGreaterThan(100);
});

test("api server: silent clients in every place: one that asks is answered", async () => {
  for (const transport of ["unix", "tcp"] as const) {
    const port = await startFront(transport);
    for (let index = 0; index < 20; index += 1) dial(port);
    await Bun.sleep(20);
    expect(await speak(port, `GET /hello HTTP/1.1\r\n${CLOSE}`)).toMatch(/200 /);
  }
});

test("api server: event streams have places of their own, and give them back", async () => {
  const port = await startFront("unix");
  const stream = dial(port);
  stream.write("GET /v1/events HTTP/1.1\r\n\r\n");
  await new Promise((resolve) => stream.once("data", resolve));
  // It outlives the limits of silent clients.
  await Bun.sleep(250);
  expect(stream.destroyed).toBe(false);
  const second = await speak(port, `GET /v1/events HTTP/1.1\r\n${CLOSE}`);
  expect(second).toMatch(/^HTTP\/1\.1 503 [\s\S]*too-many-connections/);
  expect(await speak(port, `GET /hello?x HTTP/1.1\r\n${CLOSE}`)).toMatch(/200 /);
  stream.destroy();
  await until("the place is free", async () => {
    const again = dial(port);
    again.write("GET /v1/events HTTP/1.1\r\n\r\n");
    const first = await new Promise<string>((resolve) => {
      again.once("data", (chunk) => resolve(String(chunk)));
    });
    return first.startsWith("HTTP/1.1 200 ");
  });
});

const HELLO = `GET /hello HTTP/1.1\r\n${CLOSE}`;

test("api server: its socket is gone, or its directory: made again, clients stay", async () => {
  const folder = join(makeFolder(), "run");
  mkdirSync(folder);
  const path = join(folder, "api.sock");
  await startUnix(path, () => {
    mkdirSync(folder, { recursive: true });
    return ok();
  });
  expect(statSync(path).mode & 0o777).toBe(0o660);
  expect(readdirSync(folder)).toEqual(["api.sock"]);
  const stream = dial(path);
  stream.write("GET /v1/events HTTP/1.1\r\n\r\n");
  await new Promise((resolve) => stream.once("data", resolve));
  for (const remove of [() => unlinkSync(path), () => rmSync(folder, { recursive: true })]) {
    remove();
    while (!existsSync(path)) await Bun.sleep(5);
    expect(statSync(path).mode & 0o777).toBe(0o660);
    expect(await speak(path, HELLO)).toMatch(/200 /);
  }
  let isAlive = false;
  stream.once("data", () => {
    isAlive = true;
  });
  while (!isAlive) await Bun.sleep(5);
});

test("api server: another's socket or file is left alone, at the start, later, at the end", async () => {
  const path = join(makeFolder(), "api.sock");
  writeFileSync(path, "a letter");
  expect(await startUnix(path)).toEqual(err(expect.stringContaining("is no socket")));
  unlinkSync(path);
  const other = createServer((socket) => socket.end("other"));
  await new Promise<void>((resolve) => other.listen(path, () => resolve()));
  ends.push(() => other.close());
  expect(await startUnix(path)).toEqual(err(expect.stringContaining("is in use")));
  expect(await speak(path, "")).toBe("other");
  const second = join(makeFolder(), "api.sock");
  const mine = await startUnix(second);
  if (!mine.ok) throw new Error(mine.error);
  unlinkSync(second);
  writeFileSync(second, "a letter");
  await Bun.sleep(80);
  await mine.value.close();
  expect(statSync(second).isFile()).toBe(true);
});

test("api server: a socket that a crash left is replaced", async () => {
  const path = join(makeFolder(), "api.sock");
  const script = `require("node:net").createServer().listen(${JSON.stringify(path)},
    () => process.kill(process.pid, "SIGKILL"))`;
  await Bun.spawn([process.execPath, "-e", script], { stderr: "ignore" }).exited;
  expect(existsSync(path)).toBe(true);
  const server = await startUnix(path);
  expect(server.ok).toBe(true);
  expect(await speak(path, HELLO)).toMatch(/200 /);
  if (server.ok) await server.value.close();
  expect(existsSync(path)).toBe(false);
});
