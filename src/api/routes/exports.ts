/** /v1/exports: the arrays that are offered as network block devices. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, answer, emptyAnswer, json } from "../route.ts";
import {
  attachExportBody,
  exportSchema,
  forceQuery,
  nameParams,
  putExportBody,
} from "../schemas.ts";

export function addExportRoutes(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "put",
      path: "/v1/exports/{name}",
      summary:
        "Offer an array under this name; with force also another one, a read-only one, or for " +
        "fewer clients than are connected",
      params: nameParams,
      query: forceQuery,
      body: putExportBody,
      answers: {
        200: { description: "The export was there", schema: exportSchema },
        201: { description: "The export is new", schema: exportSchema },
      },
    },
    async ({ params, query, body, effects }) => {
      const put = await appliance.exports.put(
        { name: params.name, ...body, force: query.force },
        effects,
      );
      if (!put.ok) return problemResponse(put.error);
      if (!put.value.created) return json(put.value.view);
      const headers = { Location: `/v1/exports/${params.name}` };
      return json(put.value.view, { status: 201, headers });
    },
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/exports",
      summary: "Every export; one without URIs waits for its array",
      answers: { 200: { description: "The exports", schema: z.array(exportSchema) } },
    },
    async () => answer(await appliance.exports.list()),
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/exports/{name}",
      summary: "Withdraw an export; with force also while clients are connected",
      params: nameParams,
      query: forceQuery,
      answers: { 204: { description: "The export is gone" } },
    },
    async ({ params, query, effects }) =>
      emptyAnswer(await appliance.exports.remove(params.name, query.force, effects)),
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/exports/{name}/attach",
      summary: "Make an export a block device of this host's kernel",
      params: nameParams,
      body: attachExportBody,
      answers: { 200: { description: "The export, with its device", schema: exportSchema } },
    },
    async ({ params, body: { device = null, atStart }, effects }) =>
      answer(await appliance.attachments.attach(params.name, { device, atStart }, effects)),
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/exports/{name}/attach",
      summary: "Take the block device away; with force also while it is mounted",
      params: nameParams,
      query: forceQuery,
      answers: { 204: { description: "The device is free" } },
    },
    async ({ params, query, effects }) =>
      emptyAnswer(await appliance.attachments.detach(params.name, query.force, effects)),
  );
}
