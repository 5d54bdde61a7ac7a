/** The shapes of what a job has found. */
import { z } from "@hono/zod-openapi";
import type { JobResult, MismatchList, PlaceList } from "../array/protocol.ts";
import { mayLack } from "./may-lack.ts";

const count = z.int().min(0);
const bytes = z.int().min(0);
const truncated = z.boolean().openapi({ description: "More lie behind the last range" });

const exportRangesSchema = z.object({
  ranges: z.array(z.object({ offset: bytes, bytes })).readonly(),
  truncated,
});

const mismatchListSchema = z.object({
  ranges: z
    .array(
      z.object({
        firstSector: count,
        sectorCount: count,
        roles: z
          .array(count)
          .readonly()
          .nullable()
          .openapi({ description: "Those that could not give the rows; null: cannot be known" }),
        stripe: count.openapi({ description: "The first" }),
        stripeCount: count,
        arrayOffset: bytes.openapi({ description: "The first byte of the array it concerns" }),
        exportRanges: mayLack(exportRangesSchema).openapi({
          description: "?explain=true: bytes of the exported device it concerns",
        }),
      }),
    )
    .readonly()
    .openapi({ description: "Sectors of 512 bytes from the begin of each member's data" }),
  truncated,
}) satisfies z.ZodType<MismatchList>;

const geometrySchema = z
  .object({ memberCount: count, chunkBytes: bytes, layout: count, memberSizeBytes: bytes })
  .openapi({ description: "What shape the array had" });

const placeListSchema = z.object({
  places: z
    .array(z.object({ drive: z.string().nullable(), offset: count, bytes: count }))
    .readonly()
    .openapi({ description: "Bytes of a drive; drive null: of the array, and so of its exports" }),
  truncated: z.boolean().openapi({ description: "There are more than are listed" }),
}) satisfies z.ZodType<PlaceList>;

export const jobResultSchema = z.record(
  z.string(),
  z.union([z.number(), z.string(), mismatchListSchema, geometrySchema, placeListSchema]),
) satisfies z.ZodType<JobResult>;
