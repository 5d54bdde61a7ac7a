/**
 * Goal: the page at `/` is served as it may be: by name of its content, without a token, with what
 * a browser may do said by headers; it stays small. What it draws comes from one call.
 * Method: the real app on simulated drives, the page bundled from its sources.
 */
import { beforeAll, expect, test } from "bun:test";
import { bundlePage } from "../../../src/api/page/page-bundle.ts";
import { type PageFile, packPage, unpackPage } from "../../../src/api/page/page-file.ts";
import { jobsToShow } from "../../../src/appliance/status-document.ts";
import type { JobStatus } from "../../../src/array/protocol.ts";
import { addTestArray, startSimAppliance } from "../../helpers/sim-appliance.ts";

const COMPRESSED_BYTES_MAX = 150 * 1024;

let page: readonly PageFile[] = [];
beforeAll(async () => {
  page = await bundlePage();
});

type Transport = "unix" | "tcp";

async function served() {
  const { app } = await startSimAppliance({ page, tcpGuard: { grantOf: () => null, hosts: [] } });
  return (path: string, headers: Record<string, string> = {}, transport: Transport = "unix") =>
    app.request(path, { headers }, { transport });
}

test("page: its files: under 150 KiB compressed in all", () => {
  const sum = page.reduce((bytes, { gzip }) => bytes + gzip.length, 0);
  expect(sum).toBeGreaterThan(20_000);
  expect(sum).toBeLessThan(COMPRESSED_BYTES_MAX);
});

test("page: packed for the executable: unpacked as it was", () => {
  expect(unpackPage(packPage(page))).toEqual([...page]);
});

test("page: the document: asked for again, its headers shut all else out", async () => {
  const get = await served();
  const answer = await get("/");
  expect(answer.status).toBe(200);
  expect(answer.headers.get("content-type")).toBe("text/html; charset=utf-8");
  expect(answer.headers.get("cache-control")).toBe("no-cache");
  const policy = answer.headers.get("content-security-policy") ?? "";
  expect(policy).toStartWith("default-src 'none'; script-src 'self'; style-src 'self';");
  expect(policy).toContain("frame-ancestors 'none'");
  expect(policy).not.toContain("unsafe");
  expect(answer.headers.get("x-content-type-options")).toBe("nosniff");
  expect(answer.headers.get("referrer-policy")).toBe("no-referrer");
  const html = await answer.text();
  expect(html).not.toMatch(/<script(?! type="module" src="\/assets\/)|<style| style=|https?:/);
});

test("page: each asset that the document names: kept for ever, compressed where taken", async () => {
  const get = await served();
  const names = [...(await (await get("/")).text()).matchAll(/"(\/assets\/[^"]+)"/g)];
  expect(names).toHaveLength(3);
  for (const [, path] of names) {
    expect(path).toMatch(/-[0-9a-f]{16}\.(?:js|css|svg)$/);
    const plain = await get(path!);
    expect(plain.headers.get("cache-control")).toBe("public, max-age=31536000, immutable");
    const zipped = await get(path!, { "Accept-Encoding": "gzip, br" });
    expect(zipped.headers.get("content-encoding")).toBe("gzip");
    const bytes = new Uint8Array(await zipped.arrayBuffer());
    expect(new TextDecoder().decode(Bun.gunzipSync(bytes))).toBe(await plain.text());
    const etag = plain.headers.get("etag")!;
    const known = await get(path!, { "If-None-Match": `"other", W/${etag}` });
    expect([known.status, await known.text()]).toEqual([304, ""]);
    expect((await get(path!, { "If-None-Match": '"other"' })).status).toBe(200);
  }
  expect((await get("/assets/other.js")).status).toBe(404);
});

test("page: over TCP: no token for its files, and it is told that its calls need one", async () => {
  const get = await served();
  const answer = await get("/", {}, "tcp");
  expect([answer.status, answer.headers.get("parityd-token")]).toEqual([200, "required"]);
  expect((await get("/")).headers.get("parityd-token")).toBeNull();
  const path = page.find((file) => file.path.endsWith(".js"))!.path;
  expect((await get(path, {}, "tcp")).status).toBe(200);
  expect((await get("/v1/status", {}, "tcp")).status).toBe(401);
});

test("page: a page of another origin, over a socket that is forwarded to a port: refused", async () => {
  const { app } = await startSimAppliance();
  const scan = (headers: Record<string, string>) =>
    app.request("/v1/faults", { method: "DELETE", headers }, { transport: "unix" });
  const host = "127.0.0.1:8080";
  expect((await scan({})).status).toBe(204);
  expect((await scan({ Host: host, Origin: `http://${host}` })).status).toBe(204);
  for (const origin of ["http://evil.example", "http://127.0.0.1:8081", "null"]) {
    expect([origin, (await scan({ Host: host, Origin: origin })).status]).toEqual([origin, 403]);
  }
  const rebound = "evil.example:8080";
  expect((await scan({ Host: rebound, Origin: `http://${rebound}` })).status).toBe(403);
});

test("status: everything in one value, with what is wrong and what to do", async () => {
  const fake = await startSimAppliance();
  await addTestArray(fake);
  await fake.call("POST", "/v1/arrays/raid_test/members/a/fail");
  const answer = await fake.call("GET", "/v1/status");
  expect(answer.status).toBe(200);
  const status = (await answer.json()) as Record<string, unknown>;
  expect(status).toMatchObject({
    arrays: [{ name: "raid_test", state: "degraded" }],
    judgements: [
      {
        health: "degraded",
        findings: [
          {
            status: "member a (role 0) failed.",
            action: "replace it: parityd member add raid_test d",
          },
        ],
        notes: [],
      },
    ],
    findings: [],
    drives: [{ name: "a" }, { name: "b" }, { name: "c" }, { name: "d" }],
    exports: [],
    schedules: [],
    recording: { reason: null },
  });
});

test("status: jobs: those under way, and the last scrub of each array", () => {
  const job = (id: number, kind: string, state: string, arrayUuid = "a") =>
    ({ id, kind, state, arrayUuid }) as JobStatus;
  const jobs = [
    job(9, "rebuild", "running"),
    job(8, "check", "paused"),
    job(7, "repair", "done"),
    job(6, "check", "done"),
    job(5, "check", "failed", "b"),
    job(4, "rebuild", "done"),
  ];
  expect(jobsToShow(jobs).map(({ id }) => id)).toEqual([9, 8, 7, 5]);
});
