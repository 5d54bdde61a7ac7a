/**
 * Goal: over TCP nothing is answered without a token, nothing changed without the admin scope, and
 * no page in a browser can change anything.
 * Method: every combination of scope and method, then the headers one by one.
 */
import { expect, test } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findGrant, parseTokens, TokenFile } from "../../../src/api/auth.ts";
import type { Log } from "../../../src/base/log.ts";
import { startSimAppliance } from "../../helpers/sim-appliance.ts";

const ADMIN = "admin-token-0123456789";
const READ = "read-token-0123456789a";

async function overTcp(method: string, path: string, headers: Record<string, string>) {
  const { app } = await startSimAppliance({
    tcpGuard: {
      grantOf: (token) => {
        if (token === ADMIN) return { scope: "admin", name: "ops" };
        return token === READ ? { scope: "read", name: "watcher" } : null;
      },
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
  const { app } = await startSimAppliance();
  expect((await app.request("/v1/arrays")).status).toBe(401);
});

test("auth: the token file: lines, comments, two live tokens, and errors by line", () => {
  const text = `# rotation\nadmin ${ADMIN}\nadmin ${ADMIN}2\t ops.2_b-c \n\nread ${READ}\n`;
  const tokens = parseTokens(text);
  if (!tokens.ok) throw new Error(tokens.error);
  expect(findGrant(tokens.value, ADMIN)).toEqual({ scope: "admin", name: "line-2" });
  expect(findGrant(tokens.value, `${ADMIN}2`)).toEqual({ scope: "admin", name: "ops.2_b-c" });
  expect(findGrant(tokens.value, READ)).toEqual({ scope: "read", name: "line-5" });
  for (const wrong of ["", ADMIN.slice(0, -1), `${ADMIN}3`, ` ${ADMIN}`]) {
    expect(findGrant(tokens.value, wrong)).toBeNull();
  }
  const names = ["two words", "a/b", "ü", "n".repeat(65)].map((name) => `admin ${ADMIN} ${name}`);
  for (const line of ["admin short", "root 0123456789abcdef0", ADMIN, ...names]) {
    expect(parseTokens(`# x\n${line}`)).toMatchObject({ ok: false });
  }
});

test("auth: the token file as the README has it: the parser takes it, and says the same", () => {
  const readme = readFileSync(join(import.meta.dir, "../../../src/api/README.md"), "utf8");
  const section = readme.split("## The token file\n")[1]!.split("\n## ")[0]!;
  const example = section.split("```\n")[1]!;
  expect(parseTokens(example)).toMatchObject({
    value: [
      { scope: "admin", name: "line-2" },
      { scope: "read", name: "grafana" },
    ],
  });
  const token = "x".repeat(16);
  for (const [line, isGood] of [
    [`\tread ${token}\tn `, true],
    [`read ${token} ${"n".repeat(64)}\r`, true],
    ["", true],
    ["#", true],
    [" # a comment", false],
    [`Read ${token}`, false],
    [`read ${token.slice(1)}`, false],
    [`read ${token} a b`, false],
  ] as const) {
    expect([line, parseTokens(line).ok]).toEqual([line, isGood]);
  }
});

interface Line {
  readonly level: string;
  readonly message: string;
  readonly problem: unknown;
}

/** A folder with a token file, the clock that it is read by, and what is logged. */
function withTokenFile(
  text: string | null,
  use: (given: {
    path: string;
    lines: Line[];
    open: () => ReturnType<typeof TokenFile.open>;
    mustOpen: () => TokenFile;
  }) => void,
): void {
  const directory = mkdtempSync(join(tmpdir(), "parityd-token-"));
  const path = join(directory, "api-token");
  const lines: Line[] = [];
  const log: Log = {
    write: (level, message, fields = {}) =>
      lines.push({ level, message, problem: fields["problem"] }),
  };
  const open = () => TokenFile.open(path, { log });
  const mustOpen = (): TokenFile => {
    const opened = open();
    if (!opened.ok) throw new Error(opened.error);
    return opened.value;
  };
  try {
    if (text !== null) writeFileSync(path, text, { mode: 0o600 });
    use({ path, lines, open, mustOpen });
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("auth: the token file: made with mode 0400, and read again when it changes", () => {
  withTokenFile(null, ({ path, lines, open, mustOpen }) => {
    const file = mustOpen();
    expect(statSync(path).mode & 0o777).toBe(0o400);
    const token = /^admin (\S+)\n$/.exec(readFileSync(path, "utf8"))?.[1] ?? "";
    expect(file.grantOf(token)?.scope ?? null).toBe("admin");
    expect(open()).toMatchObject({ ok: true });
    chmodSync(path, 0o600);
    writeFileSync(path, `read ${READ}\n`);
    expect([file.grantOf(READ)?.scope ?? null, file.grantOf(token)?.scope ?? null]).toEqual([
      "read",
      null,
    ]);
    expect(lines).toEqual([]);
  });
});

test("auth: a token file that cannot be trusted: no token is good, said once, mended again", () => {
  const spoil: readonly [RegExp, (path: string) => void][] = [
    [/line 2 is not/, (path) => writeFileSync(path, `read ${READ}\nadmim ${ADMIN}\n`)],
    [/mode 0622/, (path) => chmodSync(path, 0o622)],
    [/mode 0660/, (path) => chmodSync(path, 0o660)],
    [/holds no token/, (path) => writeFileSync(path, "# none\n")],
    [/65536 bytes/, (path) => writeFileSync(path, `read ${READ}\n${"#".repeat(65_536)}\n`)],
    [/ENOENT/, (path) => rmSync(path)],
    [
      /no regular file/,
      (path) => {
        rmSync(path);
        mkdirSync(path);
      },
    ],
  ];
  for (const [reason, change] of spoil) {
    withTokenFile(`read ${READ}\n`, ({ path, lines, open, mustOpen }) => {
      const file = mustOpen();
      expect(file.grantOf(READ)?.scope ?? null).toBe("read");
      change(path);
      expect([
        file.grantOf(READ)?.scope ?? null,
        file.grantOf(READ)?.scope ?? null,
        file.grantOf(ADMIN)?.scope ?? null,
      ]).toEqual([...[null, null, null]]);
      expect(lines).toEqual([
        { level: "error", message: expect.any(String), problem: expect.stringMatching(reason) },
      ]);
      expect(file.readAgain()).toMatchObject({ ok: false });
      // A missing one is made anew at a start; nothing else is overlooked there.
      if (!reason.test("ENOENT")) {
        expect(open()).toEqual({ ok: false, error: expect.stringMatching(reason) });
      }
      rmSync(path, { recursive: true, force: true });
      writeFileSync(path, `admin ${ADMIN}\n`, { mode: 0o600 });
      expect(file.grantOf(ADMIN)?.scope ?? null).toBe("admin");
      expect(file.grantOf(READ)?.scope ?? null).toBeNull();
      expect(lines.map(({ level }) => level)).toEqual(["error", "info"]);
      expect(file.readAgain()).toEqual({ ok: true, value: 1 });
    });
  }
});

test("auth: a token file that other users may read: a warning, once", () => {
  withTokenFile(`read ${READ}\n`, ({ path, lines, mustOpen }) => {
    chmodSync(path, 0o644);
    const file = mustOpen();
    expect([file.grantOf(READ)?.scope ?? null, file.grantOf(READ)?.scope ?? null]).toEqual([
      "read",
      "read",
    ]);
    expect(lines.map(({ level }) => level)).toEqual(["warn"]);
  });
});

test("auth: a change that leaves size and time as they were is seen", () => {
  withTokenFile(`read ${READ}\n`, ({ path, mustOpen }) => {
    const file = mustOpen();
    expect(file.grantOf(READ)?.scope ?? null).toBe("read");
    const { atime, mtime } = statSync(path);
    writeFileSync(path, `read ${READ.replace("a", "b")}\n`);
    utimesSync(path, atime, mtime);
    expect(file.grantOf(READ)?.scope ?? null).toBeNull();
  });
});
