/**
 * Goal: no configuration file and no HTTP request crashes the daemon, hangs it, or is answered as
 * if it were our defect (R23 of the fault goals).
 * Method: seeded. Good TOML, paths, headers and bodies are changed byte by byte, cut, repeated and
 * mixed. Configuration gives a value or one line that says what is wrong; HTTP never gives 500, and
 * what is refused is problem+json. A failure prints its seed: `SEED=… bun test
 * test/unit/cli/input-fuzz.test.ts`.
 */
import { expect, test } from "bun:test";
import { parseConfig } from "../../../src/appliance/config.ts";
import { nextBelow, SeededRandom } from "../../../src/base/random.ts";
import { addTestArray, DRIVE_PATHS, startSimAppliance } from "../../helpers/sim-appliance.ts";

const SEED = Number(process.env["SEED"] ?? 1);
const TOML_COUNT = 60_000;
const HTTP_COUNT = 12_000;

const GOOD_TOML = [
  'stateDir = "/var/lib/parityd"',
  'runDir = "/run/parityd"',
  "memoryMib = 128",
  'apiTcp = "127.0.0.1:8080"',
  'nbdTcp = "[::1]:10809"',
  'nbdTls = "required"',
  'nbdTlsCert = "/etc/cert.pem"',
  "autoAssemble = true",
  'log = "debug" # as text',
  "[table]\nkey = [1, 2.5, 1979-05-27T07:32:00Z]",
  'text = """\nlines\n"""',
];

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const SEGMENTS = [
  "v1",
  "arrays",
  "raid_test",
  "drives",
  "a",
  "members",
  "scrub",
  "pause",
  "start",
  "stop",
  "jobs",
  "1",
  "cancel",
  "exports",
  "events",
  "faults",
  "status",
  "metrics",
  "health",
  "openapi.json",
  "..",
  "%2e%2e",
  "%",
  "%ff%00",
  "\u{1f4be}",
  "constructor",
  "__proto__",
  " ",
];
const BODIES = [
  '{"name":"x","drives":["a","b","c"],"chunkKiB":64}',
  '{"name":"d","path":"/dev/d"}',
  '{"mode":"check","restart":true,"limitBytesPerSecond":null}',
  '{"drive":"d","force":false}',
  '{"force":true,"readOnly":false}',
  '{"syncSpeedMin":1,"readDeadlineMs":1e308}',
  '{"drive":"a","op":"read","at":"completion","errno":"EIO"}',
  '{"__proto__":{"name":1},"constructor":{"prototype":[]}}',
  "[[[[[[]]]]]]",
  "null",
  "0",
];
const HEADERS: [string, string][] = [
  ["Content-Type", "application/json"],
  ["Content-Type", "text/plain; charset=\u00ff"],
  ["Content-Length", "999999999999"],
  ["Content-Encoding", "gzip"],
  ["Idempotency-Key", "k1"],
  ["Idempotency-Key", "x".repeat(5000)],
  ["Authorization", "Bearer \u00e9"],
  ["If-Match", '"0"'],
  ["Accept", "*/*;q=nan"],
  ["Last-Event-ID", "-1"],
  ["Range", "bytes=9-1"],
  ["Host", ""],
];
const QUERIES = ["", "?force=true", "?force=", "?limit=1e9&after=-1", "?wait=-1", "?x=%", "?[]=1"];

function pick<T>(random: SeededRandom, values: readonly T[]): T {
  return values[nextBelow(random, values.length)]!;
}

/** Some bytes changed, taken out, repeated or put in. */
function harmed(text: string, random: SeededRandom): string {
  let bytes = [...Buffer.from(text)];
  for (let count = nextBelow(random, 4); count > 0 && bytes.length > 0; count -= 1) {
    const at = nextBelow(random, bytes.length);
    const some = 1 + nextBelow(random, 8);
    switch (nextBelow(random, 5)) {
      case 0:
        bytes[at] = nextBelow(random, 256);
        break;
      case 1:
        bytes[at]! ^= 1 << nextBelow(random, 8);
        break;
      case 2:
        bytes = bytes.toSpliced(at, some);
        break;
      case 3:
        bytes = bytes.toSpliced(at, 0, ...bytes.slice(at, at + some));
        break;
      default:
        bytes = bytes.slice(0, at);
    }
  }
  return Buffer.from(bytes).toString(nextBelow(random, 2) === 0 ? "utf8" : "latin1");
}

test("config: damaged TOML: a value, or one line that says what is wrong", () => {
  const random = new SeededRandom(SEED);
  let good = 0;
  for (let count = 0; count < TOML_COUNT; count += 1) {
    const lines = Array.from({ length: nextBelow(random, 6) }, () => pick(random, GOOD_TOML));
    const text = harmed([...new Set(lines)].join("\n"), random);
    let parsed: ReturnType<typeof parseConfig>;
    try {
      parsed = parseConfig(text, {});
    } catch (error) {
      throw new Error(`SEED=${SEED}, number ${count}: ${JSON.stringify(text)}`, { cause: error });
    }
    if (parsed.ok) {
      good += 1;
      expect(parsed.value.memoryMib).toBeGreaterThan(0);
    } else expect(parsed.error).toMatch(/^[^\n]+$/);
  }
  // Most of what is drawn is wrong, and some of it is right.
  expect([good > 100, TOML_COUNT - good > 100]).toEqual([true, true]);
});

test("http: any method, path, query, headers and body: no defect, refusals as problems", async () => {
  const random = new SeededRandom(SEED);
  const defects: unknown[] = [];
  const appliance = await startSimAppliance({ onDefect: (error) => void defects.push(error) });
  await addTestArray(appliance);
  const statuses = new Map<number, number>();
  for (let count = 0; count < HTTP_COUNT; count += 1) {
    const depth = 1 + nextBelow(random, 6);
    const segments = Array.from({ length: depth }, () => pick(random, SEGMENTS));
    if (nextBelow(random, 8) > 0) segments[0] = "v1";
    const known = nextBelow(random, 4) > 0 ? ["v1", ...knownPath(random)] : segments;
    const path = harmedPath(`/${known.join("/")}${pick(random, QUERIES)}`, random);
    const method = pick(random, METHODS);
    const hasBody = method !== "GET" && method !== "HEAD";
    const headers = new Headers({ "Content-Type": "application/json" });
    for (let left = nextBelow(random, 3); left > 0; left -= 1)
      headers.set(...pick(random, HEADERS));
    const body = harmed(pick(random, BODIES), random);
    const init = { method, headers, ...(hasBody ? { body } : {}) };
    const what = `SEED=${SEED}, number ${count}: ${method} ${path} ${body}`;
    const request = toRequest(path, init);
    // What cannot be said over HTTP does not come this far.
    if (request === null) continue;
    const response = await appliance.app.request(request, undefined, { transport: "unix" });
    const { status } = response;
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
    expect([what, status >= 500 && status !== 503, defects]).toEqual([what, false, []]);
    if (status >= 400 && method !== "HEAD") {
      const type = response.headers.get("content-type");
      expect([what, type]).toEqual([what, "application/problem+json"]);
      expect(await response.json()).toMatchObject({ status });
    } else await response.body?.cancel();
    if (count % 500 === 0) await addAgain(appliance);
  }
  // Of each kind of answer there were some: accepted, wrong, not there, not to be had.
  for (const status of [200, 400, 404, 405, 415, 422])
    expect(statuses.get(status) ?? 0).toBeGreaterThan(10);
});

function knownPath(random: SeededRandom): string[] {
  const array = pick(random, ["raid_test", "x"]);
  return pick(random, [
    ["arrays"],
    ["arrays", array],
    ["arrays", array, pick(random, ["start", "stop", "scrub", "members"])],
    ["arrays", array, "members", pick(random, ["a", "zz"]), pick(random, ["fail", "x"])],
    ["drives"],
    ["drives", pick(random, ["a", "d", "zz"])],
    ["jobs", pick(random, ["1", "-1", "1e3", "9007199254740993"])],
    ["exports"],
    ["exports", array],
    ["faults"],
    ["events"],
    ["status"],
  ]);
}

function harmedPath(path: string, random: SeededRandom): string {
  return nextBelow(random, 3) === 0 ? harmed(path, random) : path;
}

function toRequest(path: string, init: RequestInit): Request | null {
  try {
    return new Request(`http://parityd${path.startsWith("/") ? "" : "/"}${path}`, init);
  } catch {
    return null;
  }
}

/** What the requests took away comes back, so that later ones find something. */
async function addAgain({ call }: Awaited<ReturnType<typeof startSimAppliance>>): Promise<void> {
  for (const path of DRIVE_PATHS) await call("POST", "/v1/drives", { name: path.slice(5), path });
  await call("POST", "/v1/arrays", { name: "raid_test", drives: ["a", "b", "c"], force: true });
}
