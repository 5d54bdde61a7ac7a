/** /v1/faults: injected faults, only where the daemon was started for it. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import type { FaultSpec, FaultStatus } from "../../array/protocol.ts";
import { errnoByName, errnoName } from "../../base/errno.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, emptyAnswer, json } from "../route.ts";
import { faultBody, faultSchema, idParams } from "../schemas.ts";

export function addFaultRoutes(app: ApiApp, appliance: Appliance): void {
  for (const path of ["/v1/faults", "/v1/faults/*"]) {
    app.use(path, async (_context, next) => {
      if (!appliance.faults.isAllowed) return problemResponse(NOT_ALLOWED);
      await next();
      return undefined;
    });
  }
  addChange(
    app,
    {
      method: "post",
      path: "/v1/faults",
      summary: "Inject a fault below the real error handling",
      body: faultBody,
      answers: { 201: { description: "The fault", schema: faultSchema } },
    },
    async ({ body, effects }) => {
      const added = await appliance.faults.add(faultFromBody(body), effects);
      if (!added.ok) return problemResponse(added.error);
      const headers = { Location: `/v1/faults/${added.value.id}` };
      return json(faultView(added.value), { status: 201, headers });
    },
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/faults",
      summary: "Every fault, with how often it has hit",
      answers: { 200: { description: "The faults", schema: z.array(faultSchema) } },
    },
    async () => {
      const faults = await appliance.faults.list();
      return faults.ok ? json(faults.value.map(faultView)) : problemResponse(faults.error);
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/faults",
      summary: "Clear every fault",
      answers: { 204: { description: "No fault is left" } },
    },
    async ({ effects }) => emptyAnswer(await appliance.faults.clearAll(effects)),
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/faults/{id}",
      summary: "Clear one fault",
      params: idParams,
      answers: { 204: { description: "The fault is gone" } },
    },
    async ({ params, effects }) => emptyAnswer(await appliance.faults.clear(params.id, effects)),
  );
}

const NOT_ALLOWED = {
  kind: "forbidden",
  code: "faults-not-allowed",
  detail: "faults can be injected only where parityd serve runs with --allow-fault-injection",
} as const;

/** The errno crosses to the reactor as its number; absent fields stay absent. */
function faultFromBody(body: z.output<typeof faultBody>): FaultSpec {
  const { errno, ...rest } = body;
  const number = errno === undefined ? undefined : errnoByName(errno);
  const entries = Object.entries({ ...rest, errno: number });
  return Object.fromEntries(
    entries.filter(([, value]) => value !== undefined),
  ) as unknown as FaultSpec;
}

function faultView(fault: FaultStatus): object {
  return fault.errno === undefined ? fault : { ...fault, errno: errnoName(fault.errno) };
}
