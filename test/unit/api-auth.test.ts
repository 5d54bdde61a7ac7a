/**
 * Goal: over TCP nothing is answered without a token, nothing changed without the admin scope, and
 * no page in a browser can change anything.
 * Method: every combination of scope and method, then the headers one by one.
 */
import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findScope, openTokenFile, parseTokens } from "../../src/api/auth.ts";
import { startFakeAppliance } from "../helpers/fake-appliance.ts";

const ADMIN = "admin-token-0123456789";
const READ = "read-token-0123456789a";

async function overTcp(method: string, path: string, headers: Record<string, string>) {
  const { app } = await startFakeAppliance({
    tcpGuard: {
      scopeOf: (token) => (token === ADMIN ? "admin" : token === READ ? "read" : null),
      hosts: ["nas.example"],
    },
  });
  const answer = await app.request(path, { method, headers }, { transport: "tcp" });
  return answer.status;
}

test("auth: without or with a wrong token: 401 on every call but the two probes", async () => {
  const host = { Host: "127.0.0.1:8080" };
  for (const [method, path] of [
    ["GET", "/v1/arrays"],
    ["GET", "/metrics"],
    ["GET", "/openapi.json"],
    ["POST", "/v1/arrays/x/stop"],
    ["GET", "/v1/nothing"],
  ] as const) {
    expect(await overTcp(method, path, host)).toBe(401);
    expect(await overTcp(method, path, { ...host, Authorization: "Bearer wrong" })).toBe(401);
    expect(await overTcp(method, path, { ...host, Authorization: `Basic ${ADMIN}` })).toBe(401);
  }
  expect(await overTcp("GET", "/-/healthy", host)).toBe(200);
  expect(await overTcp("GET", "/-/ready", host)).toBe(200);
});

test("auth: scopes: read may read, admin may change", async () => {
  const read = { Host: "127.0.0.1", Authorization: `Bearer ${READ}` };
  const admin = { Host: "127.0.0.1", Authorization: `Bearer ${ADMIN}` };
  expect(await overTcp("GET", "/v1/arrays", read)).toBe(200);
  expect(await overTcp("POST", "/v1/arrays/x/stop", read)).toBe(403);
  expect(await overTcp("GET", "/v1/arrays", admin)).toBe(200);
  expect(await overTcp("POST", "/v1/arrays/x/stop", admin)).toBe(404);
});

test("auth: Host and Origin on calls that change something", async () => {
  const bearer = { Authorization: `Bearer ${ADMIN}` };
  const stop = (headers: Record<string, string>) =>
    overTcp("POST", "/v1/arrays/x/stop", { ...bearer, ...headers });
  for (const host of ["127.0.0.1:80", "[::1]:80", "localhost:80", "nas.example", "10.1.2.3"]) {
    expect(await stop({ Host: host })).toBe(404);
  }
  for (const host of ["evil.example", "nas.example.evil", "", "a b"]) {
    expect(await stop({ Host: host })).toBe(403);
  }
  expect(await stop({ Host: "10.1.2.3", Origin: "http://10.1.2.3" })).toBe(404);
  expect(await stop({ Host: "10.1.2.3", Origin: "http://evil.example" })).toBe(403);
  expect(await stop({ Host: "10.1.2.3", Origin: "null" })).toBe(403);
});

test("auth: no transport told: treated as TCP", async () => {
  const { app } = await startFakeAppliance();
  expect((await app.request("/v1/arrays")).status).toBe(401);
});

test("auth: the token file: lines, comments, two live tokens, and errors by line", () => {
  const text = `# rotation\nadmin ${ADMIN}\nadmin ${ADMIN}2\n\nread ${READ}\n`;
  const tokens = parseTokens(text);
  if (!tokens.ok) throw new Error(tokens.error);
  expect(findScope(tokens.value, ADMIN)).toBe("admin");
  expect(findScope(tokens.value, `${ADMIN}2`)).toBe("admin");
  expect(findScope(tokens.value, READ)).toBe("read");
  for (const wrong of ["", ADMIN.slice(0, -1), `${ADMIN}3`, ` ${ADMIN}`]) {
    expect(findScope(tokens.value, wrong)).toBeNull();
  }
  for (const line of ["admin short", "root 0123456789abcdef0", ADMIN]) {
    expect(parseTokens(`# x\n${line}`)).toMatchObject({ ok: false });
  }
});

test("auth: the token file: made with mode 0400, and read again when it changes", () => {
  const directory = mkdtempSync(join(tmpdir(), "parityd-token-"));
  try {
    const path = join(directory, "api-token");
    const opened = openTokenFile(path);
    if (!opened.ok) throw new Error(opened.error);
    expect(statSync(path).mode & 0o777).toBe(0o400);
    const token = /^admin (\S+)\n$/.exec(readFileSync(path, "utf8"))?.[1] ?? "";
    expect(opened.value(token)).toBe("admin");
    expect(openTokenFile(path)).toMatchObject({ ok: true });
    chmodSync(path, 0o600);
    writeFileSync(path, `read ${READ}\n`);
    expect([opened.value(READ), opened.value(token)]).toEqual(["read", null]);
    writeFileSync(path, "nonsense\n");
    expect(opened.value(READ)).toBe("read");
    expect(openTokenFile(path)).toMatchObject({ ok: false });
    rmSync(path);
    expect(opened.value(READ)).toBeNull();
  } finally {
    rmSync(directory, { recursive: true });
  }
});
