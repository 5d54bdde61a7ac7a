/**
 * The shapes of the API, once for validation and for OpenAPI. Answers are the types of
 * array/protocol.ts; `satisfies` keeps the two in step.
 */
import { z } from "@hono/zod-openapi";
import type { WayOutcome } from "../appliance/alerts/alerts.ts";
import { scheduleIssues } from "../appliance/schedules/schedule.ts";
import {
  LAST_RESULTS,
  PASS_STATES,
  type ScheduleView,
} from "../appliance/schedules/schedule-view.ts";
import { SPARE_STATES, type SpareView } from "../appliance/spares/shared-spares.ts";
import type { JobStatus } from "../array/protocol.ts";
import { errnoByName } from "../base/errno.ts";
import { parseIpNetwork } from "../base/ip-network.ts";
import {
  NEW_ARRAY_CHUNK_BYTES_MAX,
  NEW_ARRAY_CHUNK_BYTES_MIN,
  NEW_ARRAY_MEMBERS_MAX,
  NEW_ARRAY_MEMBERS_MIN,
  NEW_ARRAY_SPARES_MAX,
} from "../base/limits.ts";
import { isPowerOfTwo, KIB } from "../base/units.ts";
import { jobKind } from "./forecast-schemas.ts";
import { jobResultSchema } from "./found-schemas.ts";
import { mayLack } from "./may-lack.ts";

const nameRule = "letters, digits, dot, underscore and hyphen only";

export const nameSchema = z
  .string()
  .regex(/^[a-zA-Z0-9._-]{1,64}$/, `must be 1 to 64 characters: ${nameRule}`)
  .refine((name) => name !== "." && name !== "..", "a path cannot hold . or ..");
/** md keeps 32 bytes for a name. */
export const arrayNameSchema = z
  .string()
  .regex(/^[a-zA-Z0-9._-]{1,32}$/, `must be 1 to 32 characters: ${nameRule}`)
  .refine((name) => name !== "." && name !== "..", "a path cannot hold . or ..");

/** An array as calls name it: by its label or its UUID. */
const arrayReferenceSchema = z
  .string()
  .regex(/^[a-zA-Z0-9._:-]{1,64}$/, "must be the name or the UUID of an array");

export const count = z.int().min(0);
/** Sizes and offsets are exact up to 2^53. */
export const bytes = z.int().min(0);

/** The most that work may do. At 0 it would never end, and nobody would be told why. */
export const speedMaximum = z
  .int()
  .min(
    1,
    "0 would stop the work for good: to halt it, pause or cancel its job; else a rate above 0",
  );

const flag = z
  .enum(["true", "false"], "must be true or false")
  .default("false")
  .transform((text) => text === "true");

export const forceQuery = z.strictObject({ force: flag });
export const dryRunQuery = z.strictObject({
  dryRun: flag.openapi({
    description:
      "Nothing is changed. The answer is what the call would give, without what only the doing " +
      "gives (ids, times, event counts); the header Parityd-Dry-Run says so",
  }),
});
export const deleteArrayQuery = z.strictObject({ zeroSuperblocks: flag, force: flag });
/** As it stands in a URL: digits and nothing else, of which an empty value has none. */
function wholeNumber(schema: z.ZodInt): z.ZodType<number> {
  return z.preprocess((text) => (/^\d{1,16}$/.test(String(text)) ? Number(text) : text), schema);
}

const waitSeconds = wholeNumber(
  z.int("must be a number of seconds, up to 86400").min(0).max(86_400),
);
export const waitQuery = z.strictObject({ wait: waitSeconds.default(0) });
export const jobQuery = z.strictObject({ wait: waitSeconds.default(0), explain: flag });
export const scrubQuery = z.strictObject({ ...jobQuery.shape, strict: flag });
export const eventsQuery = z.strictObject({
  since: wholeNumber(z.int("must be the id of an event").min(0)).optional(),
  limit: wholeNumber(z.int("must be a number, 1 to 1000").min(1).max(1_000)).default(1_000),
});

export const driveParams = z.object({ drive: nameSchema });
export const nameParams = z.object({ name: nameSchema });
export const arrayParams = z.object({ name: arrayReferenceSchema });
export const scheduleParams = z.object({ array: arrayReferenceSchema });
export const memberParams = z.object({ name: arrayReferenceSchema, drive: nameSchema });
export const idParams = z.object({
  id: wholeNumber(z.int("must be an id, a whole number").min(1)),
});

// Bodies ----------------------------------------------------------------------------------------

const CHUNK_KIB_MIN = NEW_ARRAY_CHUNK_BYTES_MIN / KIB;
const CHUNK_KIB_MAX = NEW_ARRAY_CHUNK_BYTES_MAX / KIB;
const chunkKib = z
  .int()
  .min(CHUNK_KIB_MIN)
  .max(CHUNK_KIB_MAX)
  .refine(isPowerOfTwo, `must be a power of two from ${CHUNK_KIB_MIN} to ${CHUNK_KIB_MAX}`)
  .default(64);

export const consistencyPolicy = z.enum(["resync", "bitmap", "ppl"]);

const allocate = z
  .boolean()
  .default(true)
  .openapi({ description: "Members that are files get all their space now" });

/** An issue for each drive that is named before, under any of these keys. */
function addRepeated<K extends string>(
  body: { readonly [key in K]: readonly string[] },
  keys: readonly K[],
  context: z.RefinementCtx,
): void {
  const seen = new Set<string>();
  for (const key of keys) {
    for (const [index, drive] of body[key].entries()) {
      const message = `${drive} is named twice: each drive can be given once`;
      if (seen.has(drive)) context.addIssue({ code: "custom", path: [key, index], message });
      seen.add(drive);
    }
  }
}

const driveCountRule = `${NEW_ARRAY_MEMBERS_MIN} to ${NEW_ARRAY_MEMBERS_MAX} drives`;

export const createArrayBody = z
  .strictObject({
    name: arrayNameSchema,
    drives: z
      .array(nameSchema)
      .min(NEW_ARRAY_MEMBERS_MIN, driveCountRule)
      .max(NEW_ARRAY_MEMBERS_MAX, driveCountRule),
    spares: z.array(nameSchema).max(NEW_ARRAY_SPARES_MAX).default([]),
    chunkKiB: chunkKib,
    consistencyPolicy: consistencyPolicy.default("ppl"),
    assumeClean: z.boolean().default(false),
    allocate,
    sizeKiB: z.int().min(1).optional(),
    force: z.boolean().default(false),
  })
  .superRefine((body, context) => addRepeated(body, ["drives", "spares"], context));

export const startArrayBody = z.strictObject({
  force: z.boolean().default(false),
  readOnly: z.boolean().default(false),
});

export const stopArrayBody = z.strictObject({ force: z.boolean().default(false) });

export const emptyBody = z.strictObject({});

export const alertsTestBody = z.strictObject({
  webhook: z
    .int()
    .min(1)
    .optional()
    .openapi({ description: "Only this [[webhook]] of the configuration, counted from 1" }),
});

const suspectLimit = z
  .int()
  .min(0)
  .max(1_000_000_000)
  .openapi({ description: "A member that has so many in a day is suspect; 0: never" });

export const patchArrayBody = z
  .strictObject({
    name: arrayNameSchema.optional(),
    syncSpeedMin: bytes.optional(),
    syncSpeedMax: speedMaximum.optional(),
    readDeadlineMs: z.int().min(10).max(3_600_000).optional(),
    writeDeadlineMs: z.int().min(100).max(3_600_000).optional(),
    consistencyPolicy: consistencyPolicy.optional(),
    suspectWriteErrors: suspectLimit.optional(),
    suspectFixedSectors: suspectLimit.optional(),
    suspectLateReads: suspectLimit.optional(),
    suspectLatencyFactor: z
      .int()
      .min(0)
      .max(1_000)
      .refine((factor) => factor !== 1, "must be at least 2, or 0 for never")
      .optional()
      .openapi({ description: "So many times as slow as its peers is suspect; 0: never" }),
    replaceSuspects: z
      .boolean()
      .optional()
      .openapi({ description: "Suspect members are replaced by a spare by themselves" }),
    sizeKiB: z
      .union([z.literal("max"), z.int().min(1)])
      .optional()
      .openapi({
        description: "KiB used of each member, or max; the array is larger when its job ends",
      }),
  })
  .refine((body) => Object.keys(body).length > 0, "name at least one setting to change")
  .refine(
    ({ syncSpeedMin: min, syncSpeedMax: max }) =>
      min === undefined || max === undefined || min <= max,
    { path: ["syncSpeedMin"], message: "is above syncSpeedMax" },
  );

export const addMemberBody = z.strictObject({
  drive: nameSchema,
  allocate,
  force: z.boolean().default(false),
});

export const growArrayBody = z
  .strictObject({
    drives: z
      .array(nameSchema)
      .min(1, "name at least one drive")
      .max(NEW_ARRAY_MEMBERS_MAX, `an array has ${NEW_ARRAY_MEMBERS_MAX} members at most`)
      .openapi({ description: "They become members; spares of the array may be among them" }),
    allocate,
    force: z.boolean().default(false),
  })
  .superRefine((body, context) => addRepeated(body, ["drives"], context));

export const replaceMemberBody = z.strictObject({
  with: nameSchema,
  force: z.boolean().default(false),
});

export const scrubBody = z.strictObject({
  mode: z.enum(["check", "repair"]).default("check"),
  limitBytesPerSecond: speedMaximum.nullable().default(null),
  restart: z.boolean().default(false),
});

export const rehearsalBody = z.strictObject({
  drive: nameSchema
    .nullable()
    .default(null)
    .openapi({ description: "Who is lost; null: the member with the most errors" }),
});

/** A week; a window is never longer than its period either. */
const WINDOW_MINUTES_MAX = 7 * 24 * 60;

export function checkSchedule(
  body: Parameters<typeof scheduleIssues>[0],
  context: z.RefinementCtx,
): void {
  for (const { key, detail: message } of scheduleIssues(body)) {
    context.addIssue({ code: "custom", path: [key], message });
  }
}

export const putScheduleBody = z
  .strictObject({
    cron: z
      .string()
      .max(200)
      .openapi({ description: "When a window opens: minute hour day month weekday, or @daily" }),
    timezone: z.string().max(64).default("UTC").openapi({ description: "Of the IANA database" }),
    windowMinutes: z.int().min(1).max(WINDOW_MINUTES_MAX).default(360),
    maxAgeDays: z
      .int()
      .min(1)
      .max(3_650)
      .default(30)
      .openapi({ description: "A pass starts when the last scrub is older" }),
    mode: z.enum(["check", "repair"]).default("check"),
    limitBytesPerSecond: speedMaximum.nullable().default(null),
  })
  .superRefine(checkSchedule);

const networkSchema = z
  .string()
  .max(64)
  .superRefine((text, context) => {
    const network = parseIpNetwork(text);
    if (!network.ok) context.addIssue({ code: "custom", message: network.error });
  })
  .openapi({ description: "An IP address or network", example: "10.0.0.0/8" });

const allowSchema = z
  .strictObject({
    addresses: z.array(networkSchema).max(256).optional(),
    certificates: z
      .array(z.string().regex(/^[\x20-\x7e]{1,255}$/, "1 to 255 characters that can be printed"))
      .max(256)
      .optional()
      .openapi({ description: "A common name or a DNS name of the client's certificate" }),
  })
  .refine(
    ({ addresses, certificates }) => addresses !== undefined || certificates !== undefined,
    "name addresses or certificates, or leave it out for everybody",
  )
  .nullable();

export const putExportBody = z.strictObject({
  array: arrayReferenceSchema,
  readOnly: z.boolean().default(false),
  allow: allowSchema.default(null).openapi({
    description: "Which clients over TCP may open it: those that are in each list. Null: all",
  }),
});

/** Of the host's own driver; nothing else reaches the kernel. */
export const nbdDevicePath = z
  .string()
  .regex(/^\/dev\/nbd(0|[1-9][0-9]{0,3})$/, "must be a device of the NBD driver, like /dev/nbd0");

export const attachExportBody = z.strictObject({
  device: nbdDevicePath.optional().openapi({ description: "Absent: the first that is free" }),
  atStart: z
    .boolean()
    .default(false)
    .openapi({ description: "Also at each start of the daemon, as soon as the array runs" }),
});

export const putSpareBody = z.strictObject({
  arrays: z
    .array(arrayReferenceSchema)
    .min(1, "name at least one array, or leave it out for all")
    .max(256)
    .optional()
    .openapi({ description: "The arrays that may take it; absent: all, also those to come" }),
  allocate,
});

export const faultBody = z
  .strictObject({
    drive: nameSchema,
    op: z.enum(["read", "write", "flush", "any"]),
    at: z.enum(["submit", "completion"]).default("completion"),
    errno: z
      .string()
      .refine((name) => errnoByName(name) !== undefined, "must be a name like EIO or ENOSPC")
      .optional(),
    offset: bytes.optional(),
    bytes: z.int().min(1).optional(),
    count: z.int().min(1).optional(),
    every: z.int().min(1).optional(),
    untilWritten: z.boolean().optional(),
    delayMs: z.int().min(0).optional(),
    resultBytes: bytes.optional(),
  })
  .refine(
    (fault) =>
      fault.errno !== undefined || fault.delayMs !== undefined || fault.resultBytes !== undefined,
    "say what happens: errno, delayMs or resultBytes",
  );

// Answers ---------------------------------------------------------------------------------------

const jobShape = z.object({
  id: count,
  kind: jobKind,
  array: z.string(),
  arrayUuid: z.string(),
  state: z.enum(["running", "paused", "done", "failed", "cancelled"]),
  done: count,
  total: count,
  unit: z.literal("bytes"),
  rateBytesPerSecond: z.number(),
  etaSeconds: z.number().nullable(),
  error: z
    .string()
    .nullable()
    .openapi({ description: "Of a paused scrub: what set it aside; it goes on by itself" }),
  result: jobResultSchema,
  startedAt: z.string(),
  finishedAt: z.string().nullable(),
}) satisfies z.ZodType<JobStatus>;
export const jobSchema = jobShape.openapi("Job");

const exportShape = z.object({
  name: z.string(),
  array: z.string().openapi({ description: "The name of its array" }),
  arrayUuid: z.string().nullable(),
  isServed: z.boolean().openapi({ description: "False: its array is not there, or not running" }),
  readOnly: z.boolean(),
  allow: allowSchema,
  uris: z.array(z.string()),
  connections: count,
  attachment: z
    .object({
      device: z.string(),
      isAttached: z.boolean().openapi({ description: "False: it waits for its array" }),
      atStart: z.boolean(),
    })
    .nullable()
    .openapi({ description: "The block device of this host's kernel that it is, or is to be" }),
});
export const exportSchema = exportShape.openapi("Export");

const spareShape = z.object({
  drive: z.string(),
  arrays: z.array(z.string()).nullable().openapi({ description: "Null: all arrays" }),
  fits: z
    .array(z.string())
    .openapi({ description: "Those of them that run and that it is large enough for" }),
  state: z.enum(SPARE_STATES),
  sizeBytes: bytes,
  readAt: z.string().nullable().openapi({ description: "Read from end to end, in a scrub" }),
  detail: mayLack(z.string()),
}) satisfies z.ZodType<SpareView>;
export const spareSchema = spareShape.openapi("Spare");

const scheduleShape = z.object({
  array: z.string().openapi({ description: "The name of its array" }),
  arrayUuid: z.string(),
  cron: z.string(),
  timezone: z.string(),
  windowMinutes: count,
  maxAgeDays: count,
  mode: z.enum(["check", "repair"]),
  limitBytesPerSecond: count.nullable(),
  next: z.string().nullable().openapi({ description: "When the next window opens" }),
  window: z
    .object({ opensAt: z.string(), closesAt: z.string() })
    .nullable()
    .openapi({ description: "The one that is open now" }),
  isDue: z.boolean().openapi({ description: "The last scrub is older than maxAgeDays" }),
  pass: z.enum(PASS_STATES).openapi({ description: "The scrub under way, and whose it is" }),
  job: count.nullable(),
  waitsFor: z
    .string()
    .nullable()
    .openapi({ description: "What a pass waits for while a window is open" }),
  isMissed: z.boolean().openapi({ description: "A window was missed and not made up for yet" }),
  last: z.string().nullable().openapi({ description: "When the last scrub ended" }),
  lastResult: z.enum(LAST_RESULTS).nullable(),
  lastError: z.string().nullable(),
}) satisfies z.ZodType<ScheduleView>;
export const scheduleSchema = scheduleShape.openapi("Schedule");

const eventShape = z.object({
  id: count,
  kind: z.string(),
  severity: z.enum(["critical", "warning", "info"]),
  array: z.string(),
  arrayUuid: z.string().nullable(),
  drive: z.string().nullable(),
  job: count.nullable(),
  at: z.string(),
  message: z.string(),
});
export const eventSchema = eventShape.openapi("Event");

const wayOutcomeSchema = z.object({
  via: z.string().openapi({ description: "onEvent, webhook1, webhook2, ..." }),
  target: z.string(),
  arrived: z.boolean(),
  detail: z.string(),
}) satisfies z.ZodType<WayOutcome>;

export const alertsTestSchema = z.object({
  arrived: z.boolean().openapi({ description: "By each of the ways" }),
  ways: z.array(wayOutcomeSchema),
});

const faultShape = z.object({
  id: count,
  drive: z.string(),
  op: z.string(),
  at: z.string(),
  errno: z.string().optional(),
  injected: count,
});
export const faultSchema = faultShape.openapi("Fault");

const problemShape = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string(),
  uri: z.string().optional().openapi({ description: "Where the same can be had in another way" }),
  errors: z
    .array(
      z.object({
        pointer: z.string().optional(),
        parameter: z.string().optional(),
        detail: z.string(),
      }),
    )
    .optional(),
});
export const problemSchema = problemShape.openapi("Problem");
