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
import { type ApiApp, addChange, addRoute, answer, emptyAnswer, json } from "../route.ts";
import { forceQuery, nameParams } from "../schemas.ts";

export function addDriveRoutes(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "post",
      path: "/v1/drives",
      summary: "Add a drive: a block device or a file; a missing one is tried again",
      body: addDriveBody,
      answers: { 201: { description: "The drive", schema: driveSchema } },
    },
    async ({ body, effects }) => {
      const added = await appliance.addDrive(body, effects);
      if (!added.ok) return problemResponse(added.error);
      return json(added.value, { status: 201, headers: { Location: `/v1/drives/${body.name}` } });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/drives/scan",
      summary: "Look for members that nobody has named yet, and add them",
      body: scanBody,
      answers: { 200: { description: "What was found, by path", schema: scanSchema } },
    },
    async ({ body, effects, context }) => {
      // As it was said before there was one word for it.
      if (body.dryRun) context.set("effects", appliance.dry);
      const { folders } = body;
      return answer(await appliance.care.scan({ folders }, body.dryRun ? appliance.dry : effects));
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/drives/appeared",
      summary: "Something has appeared at a path (for udev): a missing drive is looked for there",
      body: appearedBody,
      answers: { 202: { description: "It is looked at now", schema: appearedSchema } },
    },
    ({ body, effects }) =>
      json({ missing: appliance.care.appeared(body.path, effects) }, { status: 202 }),
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/drives/{name}/locate",
      summary: "Switch the light at a drive's slot on or off, by ledctl where it is installed",
      params: nameParams,
      body: locateBody,
      answers: { 200: { description: "It is so", schema: locatedSchema } },
    },
    async ({ params, body, effects }) =>
      answer(await appliance.care.locate(params.name, body.on, effects)),
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
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/drives/{name}",
      summary: "Forget a drive; of a member that is hot removal",
      params: nameParams,
      query: forceQuery,
      answers: { 204: { description: "The drive is closed" } },
    },
    async ({ params, query, effects }) =>
      emptyAnswer(await appliance.removeDrive(params.name, query.force, effects)),
  );
}
