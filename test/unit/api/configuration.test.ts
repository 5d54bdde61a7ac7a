/**
 * Goal: the document of /v1/configuration brings a host that has lost its state.db to what it was,
 * changes nothing the second time, and hides nothing that it cannot do.
 * Method: the real services on simulated drives; one host loses its memory, and gets it back.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StoredDrive } from "../../../src/appliance/state/state.ts";
import { runCli } from "../../helpers/fake-host.ts";
import {
  addTestArray,
  memoryStore,
  type SimAppliance,
  startSimAppliance,
} from "../../helpers/sim-appliance.ts";
import { TEST_ARRAY } from "../../helpers/sim-reactor.ts";
import { makeTempDir } from "../../helpers/temp.ts";

const PATH = "/v1/configuration";
const ALLOW = { addresses: ["10.0.0.0/8"], certificates: ["backup"] };

interface Document {
  readonly schema: string;
  readonly drives: readonly Pick<StoredDrive, "name" | "path">[];
  readonly arrays: readonly { uuid: string; name: string; settings: object }[];
  readonly exports: readonly object[];
  readonly spares: readonly object[];
  readonly schedules: readonly object[];
}

interface Change {
  readonly kind: string;
  readonly name: string;
  readonly action: string;
  readonly outcome: string;
}

async function read<T>(answer: Promise<Response>, status = 200): Promise<T> {
  const response = await answer;
  const text = await response.text();
  expect({ status: response.status, text }).toMatchObject({ status });
  return JSON.parse(text);
}

async function changes(daemon: SimAppliance, body: object, query = ""): Promise<string[]> {
  const answer = await read<{ changes: Change[] }>(daemon.call("PUT", PATH + query, body));
  return answer.changes.map(({ kind, name, action, outcome }) => {
    return `${action} ${kind} ${name}: ${outcome}`;
  });
}

/** An array under a label of this host, with all that is remembered of it. */
async function furnished(): Promise<SimAppliance> {
  const daemon = await startSimAppliance();
  await addTestArray(daemon);
  const { call } = daemon;
  const settings = { name: "tank", syncSpeedMin: 1_000_000, replaceSuspects: true };
  await read(call("PATCH", `/v1/arrays/${TEST_ARRAY}`, settings));
  await read(call("PUT", "/v1/exports/disk", { array: "tank" }), 201);
  await read(
    call("PUT", "/v1/exports/looks", { array: "tank", readOnly: true, allow: ALLOW }),
    201,
  );
  await read(call("PUT", "/v1/spares/d", { arrays: ["tank"] }), 201);
  await read(call("PUT", "/v1/schedules/tank", { cron: "0 1 * * *", windowMinutes: 60 }), 201);
  return daemon;
}

test("configuration: what is exported is as it was put, by UUID", async () => {
  const daemon = await furnished();
  const document = await read<Document>(daemon.call("GET", PATH));
  const { uuid } = document.arrays[0]!;
  expect(document).toMatchObject({
    schema: "parityd.configuration/1",
    drives: ["a", "b", "c", "d"].map((name) => ({ name, direct: true })),
    arrays: [{ uuid, name: "tank", settings: { syncSpeedMin: 1_000_000, replaceSuspects: true } }],
    exports: [
      { name: "disk", array: uuid, readOnly: false },
      { name: "looks", array: uuid, readOnly: true, allow: ALLOW },
    ],
    spares: [{ drive: "d", arrays: [uuid] }],
    schedules: [{ array: uuid, cron: "0 1 * * *", timezone: "UTC", windowMinutes: 60 }],
  });
  // Of what a schedule has done nothing is told: that is this host's.
  expect(document.schedules[0]).not.toHaveProperty("memory");
  expect(await changes(daemon, document)).toEqual([]);
});

test("configuration: a host without its state.db has all of it again; a second time: nothing", async () => {
  const before = await furnished();
  const document = await read<Document>(before.call("GET", PATH));
  const { uuid } = document.arrays[0]!;
  const after = await startSimAppliance({ host: before.host, store: memoryStore() });
  const planned = await changes(after, document, "?dryRun=true");
  expect(planned).toHaveLength(4 + 1 + 2 + 1 + 1);
  expect(planned.every((line) => line.endsWith("planned"))).toBe(true);
  expect(await read<unknown[]>(after.call("GET", "/v1/drives"))).toEqual([]);
  expect(await changes(after, document)).toEqual([
    ...["a", "b", "c", "d"].map((name) => `add drive ${name}: done`),
    `change array ${uuid}: done`,
    "add export disk: done",
    "add export looks: done",
    "add spare d: done",
    `add schedule ${uuid}: done`,
  ]);
  expect(await read<Document>(after.call("GET", PATH))).toEqual(document);
  expect(await changes(after, document)).toEqual([]);
  expect(await changes(after, document, "?dryRun=true")).toEqual([]);
  after.reactor.world.settle({ array: "tank" });
  const array = await read(after.call("GET", "/v1/arrays/tank"));
  expect(array).toMatchObject({ state: "clean", degraded: 0, syncSpeedMin: 1_000_000 });
});

test("configuration: an export that is for others here than the document says: is changed", async () => {
  const daemon = await furnished();
  const document = await read<Document>(daemon.call("GET", PATH));
  await read(daemon.call("PUT", "/v1/exports/looks", { array: "tank", readOnly: true }));
  expect(await changes(daemon, document)).toEqual(["change export looks: done"]);
  expect(await read<Document>(daemon.call("GET", PATH))).toEqual(document);
});

test("configuration: one change, refused: said of one", async () => {
  const daemon = await furnished();
  const document = await read<Document>(daemon.call("GET", PATH));
  const wanted = { ...document, drives: [{ name: "a", path: "/dev/elsewhere" }] };
  for (const [path, words] of [
    [PATH, "1 of 1 change was refused: drive a: "],
    [`${PATH}?dryRun=true`, "1 of 1 change would be refused: drive a: "],
  ] as const) {
    const answer = await read<{ detail: string }>(daemon.call("PUT", path, wanted), 409);
    expect(answer.detail).toStartWith(words);
  }
});

test("configuration: what cannot be is a problem that says all of it; the rest is done", async () => {
  const daemon = await furnished();
  const document = await read<Document>(daemon.call("GET", PATH));
  const stranger = "11111111:22222222:33333333:44444444";
  const wanted = {
    ...document,
    drives: [
      { name: "a", path: "/dev/elsewhere" },
      { name: "e", path: "/dev/not-there" },
    ],
    arrays: [{ uuid: stranger, name: "other", settings: {} }],
    exports: [
      { name: "disk", array: document.arrays[0]!.uuid, readOnly: true },
      { name: "far", array: stranger, readOnly: false },
    ],
  };
  const answer = await read<{ detail: string; type: string }>(
    daemon.call("PUT", PATH, wanted),
    409,
  );
  expect(answer.type).toBe("urn:parityd:problem:configuration-incomplete");
  expect(answer.detail).toStartWith("4 of 5 changes were refused, the others are done.");
  for (const part of ["drive a:", "drive e:", `array ${stranger}: nothing of`, "export far:"]) {
    expect(answer.detail).toContain(part);
  }
  const exports = await read<{ name: string; readOnly: boolean }[]>(
    daemon.call("GET", "/v1/exports"),
  );
  expect(exports).toMatchObject([
    { name: "disk", readOnly: true },
    { name: "looks", readOnly: true },
  ]);
});

test("configuration: bad values: 422 that points at them, and nothing changes", async () => {
  const daemon = await furnished();
  const document = await read<Document>(daemon.call("GET", PATH));
  for (const [part, pointer] of [
    [{ schema: "parityd.configuration/2" }, "#/schema"],
    [{ drives: [{ name: "a/b", path: "/dev/a" }] }, "#/drives/0/name"],
    [{ arrays: [{ uuid: "x", name: "n", settings: { size: 1 } }] }, "#/arrays/0/settings/size"],
    [{ schedules: [{ array: "x", cron: "0 0 31 2 *" }] }, "#/schedules/0/cron"],
    [{ members: [] }, "#/members"],
  ] as const) {
    const { errors } = await read<{ errors: { pointer: string }[] }>(
      daemon.call("PUT", PATH, { ...document, ...part }),
      422,
    );
    expect(errors.map((error) => error.pointer)).toEqual([pointer]);
  }
  expect(await read<Document>(daemon.call("GET", PATH))).toEqual(document);
});

test("config export, import: a document goes from one host to another on the command line", async () => {
  const before = await furnished();
  const path = join(makeTempDir("configuration"), "host.json");
  const exported = await runCli("config export", { daemon: before });
  expect(exported).toMatchObject({ exitCode: 0, stderr: "" });
  writeFileSync(path, exported.stdout);
  const daemon = await startSimAppliance({ host: before.host, store: memoryStore() });
  const planned = await runCli(["config", "import", "--dry-run", path], { daemon });
  expect(planned.stdout).toStartWith("would add drive a\nwould add drive b\n");
  const imported = await runCli(["config", "import", path], { daemon });
  expect(imported).toMatchObject({
    exitCode: 0,
    stdout: expect.stringContaining("added export disk"),
  });
  const again = await runCli(["config", "import", path], { daemon });
  expect(again).toMatchObject({ exitCode: 0, stdout: "nothing to change" });
  writeFileSync(path, "not JSON");
  const refused = await runCli(["config", "import", path], { daemon });
  expect(refused).toMatchObject({ exitCode: 64, stderr: expect.stringContaining("no document") });
});
