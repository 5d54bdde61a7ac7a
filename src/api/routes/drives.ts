/** /v1/drives: the devices that parityd was told about, members or not. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import {
  addDriveBody,
  appearedBody,
  appearedSchema,
  driveSchema,
  locateBody,
  locatedSchema,
  scanBody,
  scanSchema,
} from "../drive-schemas.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addRoute, answer, emptyAnswer, json } from "../route.ts";
import { forceQuery, nameParams } from "../schemas.ts";

export function addDriveRoutes(app: ApiApp, appliance: Appliance): void {
  addRoute(
    app,
    {
      method: "post",
      path: "/v1/drives",
      summary: "Add a drive: a block device or a file; a missing one is tried again",
      body: addDriveBody,
      answers: { 201: { description: "The drive", schema: driveSchema } },
    },
    async ({ body }) => {
      const added = await appliance.addDrive(body);
      if (!added.ok) return problemResponse(added.error);
      return json(added.value, { status: 201, headers: { Location: `/v1/drives/${body.name}` } });
    },
  );
  addRoute(
    app,
    {
      method: "post",
      path: "/v1/drives/scan",
      summary: "Look for members that nobody has named yet, and add them (dryRun: only look)",
      body: scanBody,
      answers: { 200: { description: "What was found, by path", schema: scanSchema } },
    },
    async ({ body }) => answer(await appliance.care.scan(body)),
  );
  addRoute(
    app,
    {
      method: "post",
      path: "/v1/drives/appeared",
      summary: "Something has appeared at a path (for udev): a missing drive is looked for there",
      body: appearedBody,
      answers: { 202: { description: "It is looked at now", schema: appearedSchema } },
    },
    ({ body }) => json({ missing: appliance.care.appeared(body.path) }, { status: 202 }),
  );
  addRoute(
    app,
    {
      method: "post",
      path: "/v1/drives/{name}/locate",
      summary: "Switch the light at a drive's slot on or off, by ledctl where it is installed",
      params: nameParams,
      body: locateBody,
      answers: { 200: { description: "It is so", schema: locatedSchema } },
    },
    async ({ params, body }) => answer(await appliance.care.locate(params.name, body.on)),
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/drives",
      summary: "Every drive",
      answers: { 200: { description: "The drives", schema: z.array(driveSchema) } },
    },
    async () => answer(await appliance.listDrives()),
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/drives/{name}",
      summary: "One drive",
      params: nameParams,
      answers: { 200: { description: "The drive", schema: driveSchema } },
    },
    async ({ params }) => answer(await appliance.getDrive(params.name)),
  );
  addRoute(
    app,
    {
      method: "delete",
      path: "/v1/drives/{name}",
      summary: "Forget a drive; of a member that is hot removal",
      params: nameParams,
      query: forceQuery,
      answers: { 204: { description: "The drive is closed" } },
    },
    async ({ params, query }) => emptyAnswer(await appliance.removeDrive(params.name, query.force)),
  );
}
