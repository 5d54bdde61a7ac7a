/** /v1/schedules: in which windows arrays are scrubbed by themselves, one schedule for each. */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, addRoute, answer, emptyAnswer, json } from "../route.ts";
import { forceQuery, putScheduleBody, scheduleParams, scheduleSchema } from "../schemas.ts";

export function addScheduleRoutes(app: ApiApp, appliance: Appliance): void {
  const { schedules } = appliance;
  const path = "/v1/schedules/{array}";
  addChange(
    app,
    {
      method: "put",
      path,
      summary:
        "Scrub an array in these windows; with force also where it shares a disk with an array " +
        "whose windows are open at the same time",
      params: scheduleParams,
      query: forceQuery,
      body: putScheduleBody,
      answers: {
        200: { description: "The schedule was there", schema: scheduleSchema },
        201: { description: "The schedule is new", schema: scheduleSchema },
      },
    },
    async ({ params, query, body, effects }) => {
      const put = await schedules.put(params.array, body, query, effects);
      if (!put.ok) return problemResponse(put.error);
      const { created, view } = put.value;
      if (!created) return json(view);
      const headers = { Location: `/v1/schedules/${encodeURIComponent(params.array)}` };
      return json(view, { status: 201, headers });
    },
  );
  addRoute(
    app,
    {
      method: "get",
      path,
      summary: "The schedule of an array, with its next window and how the last pass went",
      params: scheduleParams,
      answers: { 200: { description: "The schedule", schema: scheduleSchema } },
    },
    async ({ params }) => answer(await schedules.get(params.array)),
  );
  addRoute(
    app,
    {
      method: "get",
      path: "/v1/schedules",
      summary: "Every schedule",
      answers: { 200: { description: "The schedules", schema: z.array(scheduleSchema) } },
    },
    async () => answer(await schedules.list()),
  );
  addChange(
    app,
    {
      method: "delete",
      path,
      summary: "Scrub an array no more by itself; a scrub that runs goes on",
      params: scheduleParams,
      answers: { 204: { description: "The array has no schedule" } },
    },
    async ({ params, effects }) => emptyAnswer(await schedules.remove(params.array, effects)),
  );
}
