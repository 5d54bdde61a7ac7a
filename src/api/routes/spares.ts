/** /v1/spares: drives that arrays share, until one of them needs it. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, answer, emptyAnswer, json } from "../route.ts";
import { driveParams, putSpareBody, spareSchema } from "../schemas.ts";

export function addSpareRoutes(app: ApiApp, { spares }: Appliance): void {
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/spares",
      summary: "Every shared spare, and which arrays it is large enough for",
      answers: { 200: { description: "The shared spares", schema: z.array(spareSchema) } },
    },
    async () => answer(await spares.list()),
  );
  addChange(
    app,
    {
      method: "put",
      path: "/v1/spares/{drive}",
      summary: "Share a drive as a spare: the smallest that fits takes the role of a failed member",
      params: driveParams,
      body: putSpareBody,
      answers: {
        200: { description: "It was shared already", schema: spareSchema },
        201: { description: "It is shared now", schema: spareSchema },
      },
    },
    async ({ params, body, effects }) => {
      const put = await spares.put({ drive: params.drive, ...body }, effects);
      if (!put.ok) return problemResponse(put.error);
      return json(put.value.view, { status: put.value.created ? 201 : 200 });
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/spares/{drive}",
      summary: "Share a drive no more",
      params: driveParams,
      answers: { 204: { description: "No array takes the drive by itself" } },
    },
    async ({ params, effects }) => emptyAnswer(await spares.remove(params.drive, effects)),
  );
}
