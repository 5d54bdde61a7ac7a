/** /v1/arrays/{name}/scrub: start or resume, pause and cancel the scrub of an array. */
import type { Appliance } from "../../appliance/appliance.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, answer, emptyAnswer } from "../route.ts";
import { arrayParams, emptyBody, jobSchema, scrubBody, scrubQuery } from "../schemas.ts";
import { startedJobAnswer } from "./jobs.ts";

export function addScrubRoutes(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/scrub",
      summary: "Start a scrub, or resume the paused one; ?strict=true: what it finds is a failure",
      params: arrayParams,
      query: scrubQuery,
      body: scrubBody,
      answers: {
        200: { description: "?wait=: the scrub that has ended", schema: jobSchema },
        202: { description: "The scrub job", schema: jobSchema },
      },
    },
    async ({ params, query, body, context, effects }) => {
      const started = await appliance.work.startScrub({ array: params.name, ...body }, effects);
      if (!started.ok) return problemResponse(started.error);
      const { wait: waitSeconds, strict: isStrict, explain: isExplained } = query;
      const { signal } = context.req.raw;
      return startedJobAnswer(appliance, {
        ...{ job: started.value, effects, waitSeconds, signal, isStrict, isExplained },
      });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/scrub/pause",
      summary: "Pause the scrub",
      params: arrayParams,
      body: emptyBody,
      answers: { 200: { description: "The paused job", schema: jobSchema } },
    },
    async ({ params, effects }) => {
      return answer(await appliance.work.pauseScrub(params.name, effects));
    },
  );
  addChange(
    app,
    {
      method: "delete",
      path: "/v1/arrays/{name}/scrub",
      summary: "Cancel the scrub, running or paused",
      params: arrayParams,
      answers: { 204: { description: "No scrub is under way" } },
    },
    async ({ params, effects }) =>
      emptyAnswer(
        await appliance.work.arrayCommand<"cancel-scrub">(
          { kind: "cancel-scrub", array: params.name },
          effects,
        ),
      ),
  );
}
