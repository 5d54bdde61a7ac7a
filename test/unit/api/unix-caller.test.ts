/**
 * Goal: a call over the Unix socket says which process of which user made it.
 * Method: real connections to the real listener: this process, another one, and one that has gone.
 */
import { afterEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenAPIHono } from "@hono/zod-openapi";
import type { ApiApp, ApiEnvironment } from "../../../src/api/route.ts";
import { listenUnix } from "../../../src/api/server.ts";
import { unixCallerOf } from "../../../src/api/unix-caller.ts";
import { silentLog } from "../../../src/base/log.ts";
import { ok } from "../../../src/base/result.ts";

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const UID = process.getuid?.();

async function startUnix(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "parityd-caller-"));
  ends.push(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "api.sock");
  const app: ApiApp = new OpenAPIHono<ApiEnvironment>();
  app.get("/who", (context) => context.text(context.env.peer ?? "nobody"));
  const options = { path, log: silentLog, claimDirectory: () => ok() };
  const server = await listenUnix(app, options);
  if (!server.ok) throw new Error(server.error);
  ends.push(() => server.value.close());
  return path;
}

test("unix caller: this process and its user, call after call", async () => {
  const path = await startUnix();
  for (let count = 0; count < 3; count += 1) {
    const answer = await fetch("http://parityd/who", { unix: path } as BunFetchRequestInit);
    expect(await answer.text()).toBe(`process ${process.pid} of user ${UID}`);
  }
});

test("unix caller: another process is told by its own id", async () => {
  const path = await startUnix();
  const code = `fetch("http://parityd/who", { unix: ${JSON.stringify(path)} })
    .then((answer) => answer.text()).then((text) => console.log(text));`;
  const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe" });
  expect(await child.stdout.text()).toBe(`process ${child.pid} of user ${UID}\n`);
});

test("unix caller: a socket that is no Unix socket, or is closed: said as far as it is known", async () => {
  const accepted = Promise.withResolvers<Socket>();
  const server = createServer(accepted.resolve);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ends.push(() => server.close());
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  ends.push(() => client.destroy());
  const socket = await accepted.promise;
  // The kernel knows no process behind a TCP socket.
  expect(unixCallerOf(socket)).not.toContain(`process ${process.pid}`);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  socket.destroy();
  await closed;
  expect(unixCallerOf(socket)).toBe("unix");
});
