/** The shapes of calls about drives; `satisfies` keeps the answers in step with what is answered. */
import { z } from "@hono/zod-openapi";
import type { ScanResult } from "../appliance/drives/drive-scan.ts";
import type { Located } from "../appliance/drives/locator.ts";
import { SCAN_OUTCOMES } from "../appliance/drives/scan-judge.ts";
import type { DriveStatus } from "../array/protocol.ts";
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
  dryRun: z.boolean().default(false).openapi({ description: "Only says what it would add" }),
  folders: z
    .array(wholePath)
    .max(SCAN_FOLDERS_MAX)
    .default([])
    .openapi({ description: "The files directly in these are looked at too" }),
});

const driveState = z.enum([
  ...(["available", "member", "spare", "stale", "foreign", "missing", "faulty"] as const),
]);

const driveShape = z.object({
  name: z.string(),
  path: z.string(),
  sizeBytes: bytes,
  logicalBlockBytes: bytes,
  state: driveState,
  member: z.object({ array: z.string(), role: count }).exactOptional(),
  superblock: z
    .object({
      arrayUuid: z.string(),
      deviceUuid: z.string(),
      arrayName: z.string(),
      role: count.nullable(),
      eventCount: count,
    })
    .exactOptional(),
  byId: z.string().nullable().exactOptional(),
  wwn: z.string().nullable().exactOptional(),
  serial: z.string().nullable().exactOptional(),
  model: z.string().nullable().exactOptional(),
  isRotational: z.boolean().exactOptional(),
  isSilent: z
    .literal(true)
    .exactOptional()
    .openapi({ description: "It has not answered for a while, or still owes an answer" }),
  isSparse: z.boolean().exactOptional(),
  needsForce: z.boolean().exactOptional(),
  detail: z.string().exactOptional(),
}) satisfies z.ZodType<DriveStatus>;
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
