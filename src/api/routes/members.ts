/**
 * /v1/arrays/{name}/members: add, replace, fail and remove the drives of an array; and
 * /v1/arrays/{name}/grow: lay it out over more of them.
 */
import { z } from "@hono/zod-openapi";
import type { Appliance } from "../../appliance/appliance.ts";
import { arraySchema } from "../array-schemas.ts";
import { failForecastSchema } from "../forecast-schemas.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, answer, emptyAnswer, json } from "../route.ts";
import {
  addMemberBody,
  arrayParams,
  emptyBody,
  growArrayBody,
  jobSchema,
  memberParams,
  replaceMemberBody,
  waitQuery,
} from "../schemas.ts";
import { arrayAnswer, etag } from "./arrays.ts";
import { startedJobAnswer } from "./jobs.ts";

export function addMemberRoutes(app: ApiApp, appliance: Appliance): void {
  addGrowRoute(app, appliance);
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/members",
      summary: "Add a drive: rebuilt where a role is free, a spare where none is",
      params: arrayParams,
      query: waitQuery,
      body: addMemberBody,
      answers: {
        200: { description: "?wait=: the rebuild that has ended", schema: jobSchema },
        201: { description: "The array, with the drive as a spare", schema: arraySchema },
        202: { description: "The rebuild job", schema: jobSchema },
      },
    },
    async ({ params, query, body, context, effects }) => {
      const { allocate, ...rest } = body;
      const added = await appliance.work.addMember(
        { array: params.name, ...rest },
        { allocate },
        effects,
      );
      if (!added.ok) return problemResponse(added.error);
      if (added.value.role === "rebuild") {
        return startedJobAnswer(appliance, {
          job: added.value.job,
          effects,
          waitSeconds: query.wait,
          signal: context.req.raw.signal,
        });
      }
      const headers = { Location: `/v1/arrays/${params.name}`, ETag: etag(added.value.array) };
      return json(added.value.array, { status: 201, headers });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/members/{drive}/replace",
      summary: "Copy a member to another drive while it serves, and swap the two",
      params: memberParams,
      query: waitQuery,
      body: replaceMemberBody,
      answers: {
        200: { description: "?wait=: the replace that has ended", schema: jobSchema },
        202: { description: "The replace job", schema: jobSchema },
      },
    },
    async ({ params, query, body, context, effects }) => {
      const { name: array, drive } = params;
      const started = await appliance.work.replaceMember({ array, drive, ...body }, effects);
      if (!started.ok) return problemResponse(started.error);
      return startedJobAnswer(appliance, {
        job: started.value,
        effects,
        waitSeconds: query.wait,
        signal: context.req.raw.signal,
      });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/members/{drive}/fail",
      summary: "Take a member for faulty",
      params: memberParams,
      body: emptyBody,
      answers: {
        200: {
          description: "The array; ?dryRun=true: what would follow",
          schema: z.union([arraySchema, failForecastSchema]),
        },
      },
    },
    async ({ params, effects }) => {
      const { name: array, drive } = params;
      if (effects.isDry) return answer(await appliance.work.checkFail({ array, drive }));
      return arrayAnswer(await appliance.work.failMember({ array, drive }));
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/arrays/{name}/members/{drive}",
      summary: "Release a faulty member or a spare from the array",
      params: memberParams,
      answers: { 204: { description: "The drive belongs to no array" } },
    },
    async ({ params, effects }) => {
      const { name: array, drive } = params;
      return emptyAnswer(
        await appliance.work.arrayCommand<"remove-member">(
          { kind: "remove-member", array, drive },
          effects,
        ),
      );
    },
  );
}

function addGrowRoute(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/grow",
      summary: "Lay the array out over more members while it serves; there is no way back",
      params: arrayParams,
      query: waitQuery,
      body: growArrayBody,
      answers: {
        200: { description: "?wait=: the reshape that has ended", schema: jobSchema },
        202: { description: "The reshape job", schema: jobSchema },
      },
    },
    async ({ params, query, body, context, effects }) => {
      const started = await appliance.growth.grow({ array: params.name, ...body }, effects);
      if (!started.ok) return problemResponse(started.error);
      return startedJobAnswer(appliance, {
        job: started.value,
        effects,
        waitSeconds: query.wait,
        signal: context.req.raw.signal,
      });
    },
  );
}
