/** The shape of GET /v1/status. */

import { z } from "@hono/zod-openapi";
import type { StuckAlerts } from "../appliance/alerts/alert-queue.ts";
import type { StatusDocument } from "../appliance/status-document.ts";
import { arraySchema } from "./array-schemas.ts";
import { driveSchema } from "./drive-schemas.ts";
import { bytes, count, exportSchema, jobSchema, scheduleSchema, spareSchema } from "./schemas.ts";

const findingsSchema = z
  .array(z.object({ status: z.string(), action: z.string() }))
  .readonly()
  .openapi({ description: "What is wrong, the weightiest first, and what to do" });

export const recordingSchema = z.object({
  reason: z.string().nullable(),
  waiting: count,
  problems: z.array(z.string()).readonly(),
});

export const stuckAlertsSchema = z.object({
  via: z.string(),
  target: z.string(),
  waiting: count,
  seconds: count.openapi({ description: "How long the first of them has waited" }),
  why: z.string().nullable(),
}) satisfies z.ZodType<StuckAlerts>;

export const statusSchema = z.object({
  version: z.string(),
  arrays: z.array(arraySchema).readonly(),
  judgements: z
    .array(
      z.object({
        arrayUuid: z.string(),
        health: z.enum(["fine", "degraded", "unusable"]),
        findings: findingsSchema,
        notes: z.array(z.string()).readonly(),
      }),
    )
    .readonly(),
  findings: findingsSchema,
  drives: z.array(driveSchema).readonly(),
  spares: z.array(spareSchema).readonly(),
  exports: z.array(exportSchema).readonly(),
  schedules: z.array(scheduleSchema).readonly(),
  jobs: z
    .array(jobSchema)
    .readonly()
    .openapi({ description: "Under way or paused, and the last scrub of each array" }),
  nbd: z.object({
    connections: count,
    answers: z
      .array(z.object({ export: z.string(), op: z.string(), error: z.string(), count }))
      .readonly(),
    payloadPoolBytes: bytes,
    payloadPoolFreeBytes: bytes,
  }),
  recording: recordingSchema,
  alerts: z
    .array(stuckAlertsSchema)
    .readonly()
    .openapi({ description: "Ways by which alerts have not arrived for minutes" }),
  lastEventId: count,
}) satisfies z.ZodType<StatusDocument>;
