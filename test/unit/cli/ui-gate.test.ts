/**
 * Goal: `parityd ui` lets through what comes from its own page, and nothing else: a ticket is good
 * once, and the daemon never sees the token.
 * Method: the gate alone, with a daemon that answers what it was asked.
 */
import { expect, test } from "bun:test";
import type { HttpRequest } from "../../../src/cli/host.ts";
import { UiGate } from "../../../src/cli/ui-gate.ts";

const PORT = 4711;
const HOST = `127.0.0.1:${PORT}`;

function makeGate({ isDown = false } = {}) {
  const asked: HttpRequest[] = [];
  let count = 0;
  let used = 0;
  const gate = new UiGate({
    send: async (request) => {
      asked.push(request);
      if (isDown) throw new Error("ENOENT");
      return new Response("answer", { status: 202, headers: { ETag: '"1"', Connection: "x" } });
    },
    newSecret: () => {
      count += 1;
      return `secret-${count}`;
    },
    onUsed: () => {
      used += 1;
    },
  });
  gate.opened(PORT);
  const fetchFrom = (method: string, path: string, headers = {}, body?: string) =>
    gate.fetch(
      new Request(`http://parityd${path}`, {
        ...{ method, headers: { Host: HOST, ...headers } },
        ...(body === undefined ? {} : { body }),
      }),
      { transport: "tcp" },
    );
  const enter = async (ticket: string) => {
    return fetchFrom("POST", "/-/session", {}, JSON.stringify({ ticket }));
  };
  return { gate, asked, fetchFrom, enter, used: () => used };
}

test("ui: the link: a ticket behind the #, so that it is in no request", () => {
  expect(makeGate().gate.link).toBe(`http://${HOST}/#ticket=secret-1`);
});

test("ui: a ticket: a token once, then another ticket", async () => {
  const { gate, enter, used, fetchFrom } = makeGate();
  for (const wrong of ["", "secret-2", "secret-1x"]) {
    expect((await enter(wrong)).status).toBe(401);
  }
  expect((await fetchFrom("POST", "/-/session", {}, "no json")).status).toBe(401);
  const session = await enter("secret-1");
  expect([session.status, await session.json()]).toEqual([200, { token: "secret-3" }]);
  expect((await enter("secret-1")).status).toBe(401);
  expect([gate.link, used()]).toEqual([`http://${HOST}/#ticket=secret-2`, 1]);
});

test("ui: calls: refused without the token, passed on without it", async () => {
  const { asked, enter, fetchFrom } = makeGate();
  for (const headers of [{}, { Authorization: "Bearer secret-1" }, { Authorization: "secret-3" }]) {
    expect((await fetchFrom("GET", "/v1/arrays", headers)).status).toBe(401);
  }
  await enter("secret-1");
  const headers = {
    ...{ Authorization: "Bearer secret-3", "Content-Type": "application/json" },
    ...{ Cookie: "a=b", "If-Match": '"7"', "Accept-Encoding": "gzip" },
  };
  const answer = await fetchFrom("POST", "/v1/arrays/x/stop?force=true", headers, "{}");
  expect([answer.status, answer.headers.get("etag"), await answer.text()]).toEqual([
    ...[202, '"1"', "answer"],
  ]);
  expect(answer.headers.get("connection")).toBeNull();
  expect(asked).toMatchObject([
    {
      ...{ method: "POST", path: "/v1/arrays/x/stop?force=true", body: "{}" },
      headers: {
        ...{ "accept-encoding": "identity", "content-type": "application/json" },
        "if-match": '"7"',
      },
    },
  ]);
  expect(Object.keys(asked[0]?.headers ?? {})).not.toContain("authorization");
  expect(Object.keys(asked[0]?.headers ?? {})).not.toContain("cookie");
});

test("ui: the page: to anybody, and it is told that its calls need a token", async () => {
  const { fetchFrom } = makeGate();
  const answer = await fetchFrom("GET", "/");
  expect([answer.status, answer.headers.get("parityd-token")]).toEqual([202, "required"]);
  expect((await fetchFrom("GET", "/assets/page-0.js")).status).toBe(202);
  expect((await fetchFrom("POST", "/")).status).toBe(401);
  expect((await fetchFrom("GET", "/metrics")).status).toBe(401);
});

test("ui: another name for the port, and pages from elsewhere: refused, ticket or not", async () => {
  const { asked, enter, fetchFrom } = makeGate();
  await enter("secret-1");
  const token = { Authorization: "Bearer secret-3" };
  for (const headers of [
    { Host: `evil.example:${PORT}` },
    { Host: "127.0.0.1" },
    { Host: `127.0.0.1:${PORT + 1}` },
    { Origin: "http://evil.example" },
    { Origin: `http://127.0.0.1:${PORT + 1}` },
    { Origin: `http://localhost:${PORT}` },
    { Origin: "null" },
  ]) {
    for (const path of ["/", "/v1/arrays", "/-/session"]) {
      const { status } = await fetchFrom("GET", path, { ...token, ...headers });
      expect([headers, path, status]).toEqual([headers, path, 403]);
    }
  }
  expect(asked).toEqual([]);
  const own = { ...token, Host: `localhost:${PORT}`, Origin: `http://localhost:${PORT}` };
  expect((await fetchFrom("GET", "/v1/arrays", own)).status).toBe(202);
});

test("ui: no daemon: 503, with what may be the matter", async () => {
  const { enter, fetchFrom } = makeGate({ isDown: true });
  await enter("secret-1");
  const answer = await fetchFrom("GET", "/v1/arrays", { Authorization: "Bearer secret-3" });
  expect(answer.status).toBe(503);
  expect(await answer.json()).toMatchObject({ type: "urn:parityd:problem:no-daemon" });
});
