/** The shapes of forecasts: what a rebuild would take, and what follows where a member fails. */
import { z } from "@hono/zod-openapi";
import type { FailForecast } from "../appliance/fail-forecast.ts";
import { ARRAY_STATES, type ArrayForecast, JOB_KINDS, type SyncRate } from "../array/protocol.ts";

const count = z.int().min(0);
const bytes = z.int().min(0);

export const jobKind = z.enum(JOB_KINDS);
const clientLoad = z.enum(["idle", "busy"]);

const rebuildTimeSchema = z
  .object({
    seconds: count,
    bytesPerSecond: count,
    measuredBy: jobKind.openapi({ description: "The work that was so fast" }),
    measuredAt: z.string(),
  })
  .nullable();
const rebuildTimesSchema = z
  .object({ idle: rebuildTimeSchema, busy: rebuildTimeSchema })
  .openapi({ description: "Without clients at work, and with; null: not measured yet" });
export const syncRatesSchema = z
  .array(
    z.object({
      kind: jobKind,
      load: clientLoad,
      bytesPerSecond: count,
      limitBytesPerSecond: count.nullable(),
      measuredBytes: bytes,
      measuredAt: z.string(),
    }),
  )
  .readonly()
  .openapi({
    description: "Measured, in bytes of each member; empty: nothing yet",
  }) satisfies z.ZodType<readonly SyncRate[]>;

const meetsSchema = z
  .array(
    z.object({
      kind: z.literal("bad-blocks"),
      role: count,
      drive: z.string(),
      count,
      bytes,
    }),
  )
  .readonly()
  .openapi({ description: "What a rebuild would meet on the members that it reads" });

const forecastShape = z.object({
  load: clientLoad.openapi({ description: "Now" }),
  members: z
    .array(
      z.object({
        role: count,
        drive: z.string().nullable(),
        rebuildBytes: bytes,
        rebuild: rebuildTimesSchema,
        meets: meetsSchema,
        unreadableBytes: bytes.nullable().openapi({
          description:
            "Of the array, that nobody can give without this member; null: the array cannot do " +
            "without it",
        }),
      }),
    )
    .readonly(),
}) satisfies z.ZodType<ArrayForecast>;
export const forecastSchema = forecastShape.openapi("Forecast");

const failForecastShape = z.object({
  array: z.string(),
  drive: z.string(),
  role: count,
  state: z.enum(ARRAY_STATES).openapi({ description: "What the array would be" }),
  degraded: count,
  unreadable: z.object({
    bytes,
    ranges: z
      .array(z.object({ offset: bytes, bytes }))
      .readonly()
      .openapi({ description: "Bytes of the array" }),
    truncated: z.boolean().openapi({ description: "More lie behind the last range" }),
  }),
  meets: meetsSchema,
  spare: z
    .object({ drive: z.string(), from: z.enum(["own", "shared", "replacement"]) })
    .nullable()
    .openapi({ description: "Who would take the role; null: nobody stands ready" }),
  load: clientLoad,
  rebuildBytes: bytes,
  rebuild: rebuildTimesSchema,
  degradedSeconds: count
    .nullable()
    .openapi({ description: "Under the load of now; null: no spare, or not measured yet" }),
}) satisfies z.ZodType<FailForecast>;
export const failForecastSchema = failForecastShape.openapi("FailForecast");
