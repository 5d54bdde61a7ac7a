/** /v1/arrays: create, assemble, stop, tune and delete arrays. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import type { ArrayStatus, CommandError } from "../../array/protocol.ts";
import type { Result } from "../../base/result.ts";
import { KIB } from "../../base/units.ts";
import { arraySchema } from "../array-schemas.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, answer, emptyAnswer, json } from "../route.ts";
import {
  arrayParams,
  createArrayBody,
  deleteArrayQuery,
  forceQuery,
  patchArrayBody,
  startArrayBody,
  stopArrayBody,
} from "../schemas.ts";

export function addArrayRoutes(app: ApiApp, appliance: Appliance): void {
  addCollectionRoutes(app, appliance);
  const oneArray = { 200: { description: "The array", schema: arraySchema } };
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/arrays/{name}",
      summary: "One array; its ETag is the event count",
      params: arrayParams,
      answers: oneArray,
    },
    async ({ params }) => arrayAnswer(await appliance.getArray(params.name)),
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/start",
      summary: "Assemble an array from the drives present",
      params: arrayParams,
      body: startArrayBody,
      answers: oneArray,
    },
    async ({ params, body, effects }) =>
      arrayAnswer(await appliance.startArray({ array: params.name, ...body }, effects)),
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/stop",
      summary: "Stop an array; its members are marked clean. Refused while clients are connected",
      params: arrayParams,
      query: forceQuery,
      body: stopArrayBody,
      answers: oneArray,
    },
    async ({ params, query, body, effects }) => {
      const force = query.force || body.force;
      return arrayAnswer(await appliance.stopArray({ array: params.name, force }, effects));
    },
  );
  addChange(
    app,
    {
      method: "patch",
      path: "/v1/arrays/{name}",
      summary:
        "Change the name, speeds (bytes per second), deadlines, the consistency policy, what makes " +
        "a member suspect and what follows; grow",
      params: arrayParams,
      body: patchArrayBody,
      answers: oneArray,
    },
    async ({ params, body, effects }) => {
      const { sizeKiB, ...rest } = body;
      const size = sizeKiB === "max" ? sizeKiB : sizeKiB === undefined ? undefined : sizeKiB * KIB;
      // Absent settings must be absent for the reactor too.
      const settings = Object.fromEntries(
        Object.entries({ ...rest, memberSizeBytes: size }).filter(
          ([, value]) => value !== undefined,
        ),
      );
      return arrayAnswer(await appliance.patchArray(params.name, settings, effects));
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/arrays/{name}",
      summary: "Stop an array and forget it; one that is absent is forgotten",
      params: arrayParams,
      query: deleteArrayQuery,
      answers: { 204: { description: "The array is gone" } },
    },
    async ({ params, query: { zeroSuperblocks, force }, effects }) =>
      emptyAnswer(
        await appliance.deleteArray({ array: params.name, zeroSuperblocks, force }, effects),
      ),
  );
}

function addCollectionRoutes(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays",
      summary: "Create an array; usable at once, the first resync runs in the background",
      body: createArrayBody,
      answers: {
        201: { description: "The array", schema: arraySchema },
      },
    },
    async ({ body, effects }) => {
      const { chunkKiB, sizeKiB, allocate, ...rest } = body;
      const size = sizeKiB === undefined ? {} : { memberSizeBytes: sizeKiB * KIB };
      const request = { ...rest, chunkBytes: chunkKiB * KIB, ...size };
      const created = await appliance.createArray(request, { allocate }, effects);
      if (!created.ok) return problemResponse(created.error);
      const headers = { Location: `/v1/arrays/${body.name}`, ETag: etag(created.value) };
      return json(created.value, { status: 201, headers });
    },
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/arrays",
      summary: "Every array",
      answers: { 200: { description: "The arrays", schema: z.array(arraySchema) } },
    },
    async () => answer(await appliance.listArrays()),
  );
}

export function etag(array: ArrayStatus): string {
  return `"${array.eventCount}"`;
}

export function arrayAnswer(result: Result<ArrayStatus, CommandError>): Response {
  if (!result.ok) return problemResponse(result.error);
  return json(result.value, { headers: { ETag: etag(result.value) } });
}
