/** The document of /v1/configuration, and what an import answers. */
import { z } from "@hono/zod-openapi";
import { addDriveBody } from "./drive-schemas.ts";
import {
  checkSchedule,
  nameSchema,
  nbdDevicePath,
  patchArrayBody,
  putExportBody,
  putScheduleBody,
} from "./schemas.ts";

export const CONFIGURATION_SCHEMA = "parityd.configuration/1";

const uuid = z.string().max(64).openapi({ description: "UUID of the array" });

const arraySettings = z.strictObject(patchArrayBody.shape).omit({
  name: true,
  consistencyPolicy: true,
  sizeKiB: true,
});

const configurationShape = z.strictObject({
  schema: z.literal(CONFIGURATION_SCHEMA),
  drives: z.array(addDriveBody),
  arrays: z.array(z.strictObject({ uuid, name: nameSchema, settings: arraySettings })),
  exports: z.array(
    z.strictObject({
      ...putExportBody.shape,
      name: nameSchema,
      array: uuid,
      attachAtStart: nbdDevicePath.nullable().default(null),
    }),
  ),
  spares: z.array(z.strictObject({ drive: nameSchema, arrays: z.array(uuid).nullable() })),
  schedules: z.array(
    z.strictObject({ ...putScheduleBody.shape, array: uuid }).superRefine(checkSchedule),
  ),
});
export const configurationSchema = configurationShape.openapi("Configuration");

export const configurationChangesSchema = z.object({
  changes: z.array(
    z.object({
      kind: z.enum(["drive", "array", "export", "spare", "schedule"]),
      name: z.string(),
      action: z.enum(["add", "change"]),
      outcome: z.enum(["done", "planned"]),
    }),
  ),
});
