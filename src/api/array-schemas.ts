/** The shapes of answers about arrays; `satisfies` keeps them in step with array/protocol.ts. */
import { z } from "@hono/zod-openapi";
import { ARRAY_STATES, type ArrayStatus, JOB_KINDS, SUSPECT_REASONS } from "../array/protocol.ts";
import { forecastSchema, syncRatesSchema } from "./forecast-schemas.ts";
import { mayLack } from "./may-lack.ts";
import { bytes, consistencyPolicy, count } from "./schemas.ts";

const memberSchema = z.object({
  role: count,
  drive: z.string().nullable(),
  state: z.enum(["in-sync", "rebuilding", "spare", "faulty", "missing"]),
  recoveredBytes: mayLack(bytes),
  replacement: mayLack(z.object({ drive: z.string(), copiedBytes: bytes })).openapi({
    description: "The drive that is to replace it, and how much of it is copied",
  }),
  suspect: mayLack(
    z.object({ reason: z.enum(SUSPECT_REASONS), detail: z.string(), since: z.string() }),
  ).openapi({ description: "It is likely to fail, and serves still" }),
  isAvoided: mayLack(z.literal(true)).openapi({
    description: "Reads go around it: it is far slower than its peers",
  }),
  badBlocks: mayLack(z.array(z.object({ offset: z.int(), bytes })).readonly()).openapi({
    description: "Its bad-block log: bytes from the begin of its data",
  }),
  errors: z.object({ read: count, write: count, fixed: count, slow: count, retried: count }),
  errorKinds: z.record(z.string(), count),
  errorsByOp: z
    .record(z.string(), z.record(z.string(), count))
    .openapi({ description: "errorKinds by operation (read, write, flush, ...)" }),
  io: z.object({
    reads: count,
    writes: count,
    flushes: count,
    bytesRead: bytes,
    bytesWritten: bytes,
    readMs: z.number(),
    writeMs: z.number(),
  }),
});

const sharedDisksSchema = z
  .array(z.object({ disk: z.string(), drives: z.array(z.string()).readonly() }))
  .readonly();

const arrayShape = z.object({
  name: z.string(),
  uuid: z.string(),
  nameOnDisk: z
    .string()
    .nullable()
    .openapi({ description: "The name on the members, where it is not the label" }),
  state: z.enum(ARRAY_STATES),
  level: z.literal("raid5"),
  layout: z.string(),
  chunkBytes: bytes,
  sizeBytes: bytes,
  consistencyPolicy,
  policyAfterGrowth: mayLack(consistencyPolicy).openapi({
    description: "What it gets back when its growth in members has ended",
  }),
  eventCount: count,
  degraded: count,
  reason: z.string().nullable(),
  isHeld: z.boolean().openapi({ description: "Stopped by request: does not start by itself" }),
  startNeeds: z
    .enum(["nothing", "force", "drives", "fewer-drives"])
    .nullable()
    .openapi({ description: "What a start of it takes; null: it runs" }),
  members: z.array(memberSchema),
  spares: z.array(z.string()).openapi({ description: "Its own" }),
  candidates: z
    .array(z.string())
    .openapi({ description: "Free drives that would be taken for a role in it without force" }),
  sharedSpares: mayLack(z.array(z.string()).readonly()).openapi({
    description: "Shared ones that could take a role in it",
  }),
  sharedDisks: mayLack(sharedDisksSchema).openapi({
    description: "Physical disks that several of its drives lie on",
  }),
  sync: z.object({
    action: z.enum(["idle", ...JOB_KINDS]),
    doneBytes: bytes,
    totalBytes: bytes,
    rateBytesPerSecond: z.number(),
    etaSeconds: z.number().nullable(),
    waits: mayLack(z.string()).openapi({ description: "What it waits for" }),
  }),
  stripeWrites: mayLack(z.object({ full: count, partial: count })).openapi({
    description: "Writes since the start, by stripe; those of a full one needed no reads",
  }),
  mismatchBytes: bytes,
  lostBytes: bytes,
  lastScrub: z
    .object({
      mode: z.enum(["check", "repair"]),
      finishedAt: z.string(),
      mismatchBytes: bytes,
      lostBytes: bytes,
    })
    .nullable(),
  pausedScrub: z
    .object({
      job: count,
      mode: z.enum(["check", "repair"]),
      doneBytes: bytes,
      totalBytes: bytes,
      asideReason: z
        .string()
        .nullable()
        .openapi({ description: "It goes on by itself after this; null: somebody paused it" }),
    })
    .nullable(),
  syncRates: syncRatesSchema,
  forecast: forecastSchema
    .nullable()
    .openapi({ description: "What a rebuild would take now; null: the array does not run" }),
  syncSpeedMin: bytes,
  syncSpeedMax: bytes,
  readDeadlineMs: count,
  writeDeadlineMs: count,
  suspectWriteErrors: count,
  suspectFixedSectors: count,
  suspectLateReads: count,
  suspectLatencyFactor: count,
  replaceSuspects: z.boolean(),
}) satisfies z.ZodType<ArrayStatus>;
export const arraySchema = arrayShape.openapi("Array");
