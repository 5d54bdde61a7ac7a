/** /v1/arrays/{name}/rehearsal: rehearse the loss of a member and its rebuild, and pause that. */
import type { Appliance } from "../../appliance/appliance.ts";
import { problemResponse } from "../problem.ts";
import { type ApiApp, addChange, answer } from "../route.ts";
import { arrayParams, emptyBody, jobSchema, rehearsalBody, scrubQuery } from "../schemas.ts";
import { startedJobAnswer } from "./jobs.ts";

export function addRehearsalRoutes(app: ApiApp, appliance: Appliance): void {
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/rehearsal",
      summary:
        "Rehearse the loss of a member and its rebuild onto the spare, without a write to any " +
        "drive; ?strict=true: what would have gone wrong is a failure",
      params: arrayParams,
      query: scrubQuery,
      body: rehearsalBody,
      answers: {
        200: { description: "?wait=: the rehearsal that has ended", schema: jobSchema },
        202: { description: "The rehearsal job, new or gone on with", schema: jobSchema },
      },
    },
    async ({ params, query, body, context, effects }) => {
      const started = await appliance.work.startRehearsal(params.name, body.drive, effects);
      if (!started.ok) return problemResponse(started.error);
      const { wait: waitSeconds, strict: isStrict } = query;
      const { signal } = context.req.raw;
      return startedJobAnswer(appliance, {
        ...{ job: started.value, effects, waitSeconds, signal, isStrict },
      });
    },
  );
  addChange(
    app,
    {
      method: "post",
      path: "/v1/arrays/{name}/rehearsal/pause",
      summary: "Pause the rehearsal; DELETE /v1/jobs/{id} cancels it",
      params: arrayParams,
      body: emptyBody,
      answers: { 200: { description: "The paused job", schema: jobSchema } },
    },
    async ({ params, effects }) =>
      answer(await appliance.work.pauseRehearsal(params.name, effects)),
  );
}
