/**
 * What verbs print with --json: each answer has a word in `schema` and a shape of its own, made of
 * those of the API. A shape that loses or changes a key gets the next number; one with a key more
 * does not, so an answer is held to the schema of the version that gave it.
 */
import { z } from "zod";
import { arraySchema } from "../api/array-schemas.ts";
import { configurationChangesSchema, configurationSchema } from "../api/configuration-schemas.ts";
import { driveSchema, locatedSchema, scanSchema } from "../api/drive-schemas.ts";
import {
  alertsTestSchema,
  count,
  eventSchema,
  exportSchema,
  jobSchema,
  problemSchema,
  scheduleSchema,
  spareSchema,
} from "../api/schemas.ts";
import { recordingSchema, stuckAlertsSchema } from "../api/status-schema.ts";
import { configSchema } from "../appliance/config.ts";
import { LOG_FORMATS } from "../appliance/host/logger.ts";
import { LOG_LEVELS } from "../base/log.ts";
import { drillSchema, examineSchema, rehearsalSchema } from "./report-schemas.ts";

const text = z.string();

/** Each by its word. */
export const ANSWERS = {
  "parityd.status/1": z.object({
    arrays: z.array(arraySchema),
    drives: z.array(driveSchema),
    spares: z.array(spareSchema),
    exports: z.array(exportSchema),
    jobs: z.array(jobSchema),
    recording: recordingSchema,
    alerts: z.array(stuckAlertsSchema),
    schedules: z.array(scheduleSchema),
  }),
  "parityd.arrays/1": z.object({ arrays: z.array(arraySchema) }),
  "parityd.array/1": arraySchema,
  "parityd.drives/1": z.object({ drives: z.array(driveSchema) }),
  "parityd.drive/1": driveSchema,
  "parityd.drive-scan/1": scanSchema,
  "parityd.drive-light/1": locatedSchema,
  "parityd.spares/1": z.object({ spares: z.array(spareSchema) }),
  "parityd.spare/1": spareSchema,
  "parityd.exports/1": z.object({ exports: z.array(exportSchema) }),
  "parityd.export/1": exportSchema,
  "parityd.schedules/1": z.object({ schedules: z.array(scheduleSchema) }),
  "parityd.schedule/1": scheduleSchema,
  "parityd.jobs/1": z.object({ jobs: z.array(jobSchema) }),
  "parityd.job/1": jobSchema,
  "parityd.event/1": eventSchema,
  "parityd.alerts-test/1": alertsTestSchema,
  "parityd.log/1": z.object({ level: z.enum(LOG_LEVELS), format: z.enum(LOG_FORMATS) }),
  "parityd.examine/1": examineSchema,
  "parityd.drill/1": drillSchema,
  "parityd.rehearsal/1": rehearsalSchema,
  "parityd.config/1": configSchema,
  "parityd.config-check/1": z.object({ isUsable: z.literal(true) }),
  "parityd.configuration/1": configurationSchema,
  "parityd.configuration-changes/1": configurationChangesSchema,
  "parityd.page/1": z.object({ link: text }),
  "parityd.schemas/1": z.object({ schemas: z.array(text) }),
  "parityd.version/1": z.object({ version: text }),
  "parityd.files/1": z.object({
    files: z.array(z.object({ path: text, mode: count, isConfiguration: z.boolean() })),
  }),
  "parityd.installed/1": z.object({ done: z.array(z.object({ path: text, deed: text })) }),
  /** What the daemon would answer, less what there is not yet; null: it would have no body. */
  "parityd.dry-run/1": z.object({ answer: z.unknown() }),
  /** On stderr: a problem of the API, or what a verb refuses itself, which has no status. */
  "parityd.problem/1": problemSchema.partial({ status: true }),
  "parityd.done/1": z.object({ did: text, of: text }),
} as const satisfies Readonly<Record<string, z.ZodObject>>;

export type AnswerWord = keyof typeof ANSWERS;

export function isAnswerWord(word: string): word is AnswerWord {
  return Object.hasOwn(ANSWERS, word);
}

/** One line of JSON. */
export function answerText(word: AnswerWord, value: object): string {
  return JSON.stringify({ schema: word, ...value });
}

/** JSON Schema (2020-12) of an answer. */
export function jsonSchemaOf(word: AnswerWord): object {
  const answer = (ANSWERS[word] as z.ZodObject).safeExtend({ schema: z.literal(word) });
  // What no JSON Schema can say (rules of the daemon's own) is left open.
  const { $schema, ...shape } = z.toJSONSchema(answer, { io: "output", unrepresentable: "any" });
  return { $schema, title: word, ...shape };
}
