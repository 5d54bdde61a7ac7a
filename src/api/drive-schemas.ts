/** The shapes of calls about drives; `satisfies` keeps the answers in step with what is answered. */
import { z } from "@hono/zod-openapi";
import type { DriveView } from "../appliance/drives/drive-care.ts";
import type { ScanResult } from "../appliance/drives/drive-scan.ts";
import type { Located } from "../appliance/drives/locator.ts";
import { SCAN_OUTCOMES } from "../appliance/drives/scan-judge.ts";
import type { DriveSmart } from "../appliance/drives/smart-watch.ts";
import { SMART_HEALTHS, SMART_KINDS } from "../appliance/state/smart-row.ts";
import { mayLack } from "./may-lack.ts";
import { bytes, count, nameSchema } from "./schemas.ts";

const SCAN_FOLDERS_MAX = 64;

const wholePath = z
  .string()
  .max(4_095)
  .regex(/^\/[^\0]*$/, "must be an absolute path");

export const addDriveBody = z.strictObject({
  name: nameSchema,
  path: wholePath,
  direct: z.boolean().default(true),
});

export const scanBody = z.strictObject({
  dryRun: z
    .boolean()
    .default(false)
    .openapi({ description: "As ?dryRun=true, from before there was that" }),
  folders: z
    .array(wholePath)
    .max(SCAN_FOLDERS_MAX)
    .default([])
    .openapi({ description: "The files directly in these are looked at too" }),
});

const driveState = z.enum([
  ...(["available", "member", "spare", "stale", "foreign", "missing", "faulty"] as const),
]);

const smartCount = count.nullable();

const smartSchema = z
  .object({
    health: z.enum(SMART_HEALTHS),
    failures: z
      .array(z.string())
      .readonly()
      .openapi({ description: "Why it is failing by its own account" }),
    kind: z.enum(SMART_KINDS).nullable(),
    readAt: z.string().nullable().openapi({ description: "Null: it was never read" }),
    reason: z
      .string()
      .nullable()
      .openapi({ description: "Why there is no reading, or none since; null: nothing is wrong" }),
    temperatureCelsius: z.number().nullable(),
    powerOnHours: smartCount,
    reallocatedSectors: smartCount.openapi({ description: "Of SCSI the grown defects" }),
    pendingSectors: smartCount,
    uncorrectableSectors: smartCount,
    mediaErrors: smartCount,
    percentageUsed: smartCount.openapi({ description: "Of its expected life; may pass 100" }),
    availableSparePercent: smartCount,
  })
  .openapi({ description: "Of the disk below, by smartctl" }) satisfies z.ZodType<DriveSmart>;

const driveShape = z.object({
  name: z.string(),
  path: z.string(),
  sizeBytes: bytes,
  logicalBlockBytes: bytes,
  state: driveState,
  member: mayLack(z.object({ array: z.string(), role: count })),
  superblock: mayLack(
    z.object({
      arrayUuid: z.string(),
      deviceUuid: z.string(),
      arrayName: z.string(),
      role: count.nullable(),
      eventCount: count,
    }),
  ),
  byId: mayLack(z.string().nullable()),
  wwn: mayLack(z.string().nullable()),
  serial: mayLack(z.string().nullable()),
  model: mayLack(z.string().nullable()),
  isRotational: mayLack(z.boolean()),
  isSilent: mayLack(z.literal(true)).openapi({
    description: "It has not answered for a while, or still owes an answer",
  }),
  silence: mayLack(
    z.object({ seconds: count, waits: z.enum(["read", "write"]), follows: z.string() }),
  ).openapi({ description: "What it has not answered for some seconds, and what follows" }),
  smart: smartSchema,
  isSparse: mayLack(z.boolean()),
  needsForce: mayLack(z.boolean()),
  detail: mayLack(z.string()),
}) satisfies z.ZodType<DriveView>;
export const driveSchema = driveShape.openapi("Drive");

const text = z.string().nullable();

export const scanSchema = z.object({
  dryRun: z.boolean(),
  found: z.array(
    z.object({
      path: z.string(),
      ...{ byId: text, wwn: text, serial: text, model: text },
      sizeBytes: bytes.nullable(),
      outcome: z.enum(SCAN_OUTCOMES),
      drive: text.openapi({ description: "The name of the drive that it is, or would be" }),
      array: text.openapi({ description: "The label here, else the name on disk" }),
      arrayUuid: text,
      role: z.union([count, z.enum(["spare", "faulty"])]).nullable(),
      eventCount: count.nullable(),
      state: driveState.nullable().openapi({ description: "Of one that was added" }),
      reason: text.openapi({ description: "Why it was left alone" }),
    }),
  ),
  isCut: z.boolean().openapi({ description: "There was more than a scan goes through" }),
}) satisfies z.ZodType<ScanResult>;

export const appearedBody = z.strictObject({ path: wholePath });
export const appearedSchema = z.object({
  missing: count.openapi({ description: "Drives that are known and not there" }),
});

export const locateBody = z.strictObject({ on: z.boolean().default(true) });
export const locatedSchema = z.object({
  drive: z.string(),
  disks: z.array(z.string()).readonly().openapi({ description: "The disks that it lies on" }),
  on: z.boolean(),
}) satisfies z.ZodType<Located>;
