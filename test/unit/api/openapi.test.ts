/**
 * Goal: /openapi.json is what tools of others take: it holds to the rules of a linter, shapes have
 * names, and a client that is made of it does a day's work.
 * Method: the linter and the client generator are not ours; the calls go to the real services on
 * simulated drives.
 */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createConfig, lint } from "@redocly/openapi-core";
import { type AxiosAdapter, AxiosHeaders } from "axios";
import { type Document, type OpenAPIClient, OpenAPIClientAxios } from "openapi-client-axios";
import { type SimAppliance, startSimAppliance } from "../../helpers/sim-appliance.ts";
import { makeTempDir } from "../../helpers/temp.ts";

async function documentOf({ call }: SimAppliance): Promise<Document> {
  return (await (await call("GET", "/openapi.json")).json()) as Document;
}

/** Axios over calls to an app in this process. */
function adapterTo({ call }: SimAppliance): AxiosAdapter {
  return async (config) => {
    const query = new URLSearchParams(config.params).toString();
    const path = `${config.url}${query === "" ? "" : `?${query}`}`;
    const body = config.data === undefined ? undefined : JSON.parse(config.data);
    const response = await call(config.method!.toUpperCase(), path, body);
    const text = await response.text();
    const data: unknown = text === "" ? null : JSON.parse(text);
    const { status } = response;
    return { data, status, statusText: "", headers: new AxiosHeaders(), config };
  };
}

test("openapi: a linter's recommended rules: none is broken", async () => {
  const path = join(makeTempDir("openapi"), "openapi.json");
  writeFileSync(path, JSON.stringify(await documentOf(await startSimAppliance())));
  const config = await createConfig({ extends: ["recommended"] });
  const problems = await lint({ ref: path, config });
  expect(problems.map(({ ruleId, message }) => `${ruleId}: ${message}`)).toEqual([]);
});

test("openapi: shapes that several calls answer with have names; operations have their own", async () => {
  const document = await documentOf(await startSimAppliance());
  const shapes = Object.keys(document.components?.schemas ?? {});
  const named = [
    "Array",
    "Drive",
    "Event",
    "Export",
    "Fault",
    "Job",
    "Problem",
    "Schedule",
    "Spare",
  ];
  expect(shapes).toEqual(expect.arrayContaining(named));
  const operations = Object.values(document.paths ?? {}).flatMap((path) =>
    Object.values(path as Record<string, { operationId: string }>).map((call) => call.operationId),
  );
  expect(operations.length).toBeGreaterThan(40);
  expect(new Set(operations).size).toBe(operations.length);
});

test("openapi: a client that is made of it: drives, array, export, scrub, events", async () => {
  const daemon = await startSimAppliance();
  const definition = await documentOf(daemon);
  const api = new OpenAPIClientAxios({
    definition,
    axiosConfigDefaults: { adapter: adapterTo(daemon) },
  });
  // Its methods are those of the document: nothing is known of them here.
  const client = (await api.init()) as OpenAPIClient & Record<string, Call>;
  for (const name of ["a", "b", "c"]) {
    expect((await client["postDrives"]!(null, { name, path: `/dev/${name}` })).status).toBe(201);
  }
  const wanted = { name: "tank", drives: ["a", "b", "c"], assumeClean: true, force: true };
  expect((await client["postArrays"]!(null, wanted)).status).toBe(201);
  expect((await client["putExportsByName"]!("disk", { array: "tank" })).status).toBe(201);
  const scrub = await client["postArraysByNameScrub"]!("tank", {});
  expect(scrub.status).toBe(202);
  daemon.reactor.world.waitJob(Number(scrub.data["id"]));
  const job = await client["getJobsById"]!(String(scrub.data["id"]));
  expect(job.data).toMatchObject({ kind: "check", state: "done" });
  expect((await client["getArraysByName"]!("tank")).data).toMatchObject({ mismatchBytes: 0 });
  const refused = await client["deleteDrivesByName"]!("nobody");
  expect([refused.status, refused.data["title"]]).toEqual([404, expect.any(String)]);
});

type Call = (
  parameter: string | null,
  body?: object,
) => Promise<{ status: number; data: Record<string, unknown> }>;
