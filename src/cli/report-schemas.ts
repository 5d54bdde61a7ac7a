/** The shapes of what verbs find out themselves: of members, and by drills. */
import { z } from "zod";
import { jobSchema } from "../api/schemas.ts";
import type { MemberReport } from "../md/examine/member.ts";

const count = z.int().min(0);
const sectors = z.int();
const text = z.string();

const verdict = z.enum(["PASS", "FAIL"]);

export const drillSchema = z.object({
  schema: z.literal("parityd.drill/1"),
  verdict,
  phases: z
    .array(
      z.object({
        name: text,
        seconds: z.number(),
        writesAcknowledged: count,
        bytesVerified: count,
      }),
    )
    .readonly(),
  faults: z.record(text, count),
  retries: count,
  rebuild: z.object({ bytes: count, seconds: z.number() }),
  failures: z.array(text).readonly(),
});

export const rehearsalSchema = z.object({
  schema: z.literal("parityd.rehearsal/1"),
  verdict,
  exports: z.array(text).readonly(),
  job: jobSchema,
});

const reshapeSchema = z.object({
  positionSectors: sectors,
  deltaMembers: z.int(),
  newLevel: z.int(),
  newLayout: text,
  newChunkBytes: count,
  newDataOffsetSectors: sectors.nullable(),
});

const bitmapSchema = z.object({
  schema: z.literal("parityd.examine-bitmap/1"),
  path: text,
  version: z.literal(4),
  arrayUuid: text,
  events: count,
  eventsCleared: count,
  state: z.enum(["ok", "out-of-date", "unknown"]),
  chunkBytes: count,
  daemonSleepSeconds: count,
  writeBehind: count,
  syncSizeSectors: sectors,
  bitCount: count,
  setCount: count,
});

const badBlocksSchema = z.object({
  schema: z.literal("parityd.examine-badblocks/1"),
  path: text,
  hasLog: z.boolean(),
  ranges: z.array(z.object({ sector: sectors, lengthSectors: sectors })).readonly(),
});

const pplSchema = z.object({
  schema: z.literal("parityd.examine-ppl/1"),
  path: text,
  state: z.enum(["blank", "bad-checksum", "foreign-signature", "unit"]),
  unit: z
    .object({
      offsetBytes: count,
      signature: count,
      generation: count,
      unitCount: count,
      entries: z
        .array(
          z.object({
            dataSector: sectors,
            dataBytes: count,
            partialParityBytes: count,
            parityRole: z.int(),
            isIntact: z.boolean(),
            fault: z
              .enum([
                ...(["misaligned", "bad-size", "beyond-array", "beyond-chunk"] as const),
                ...(["beyond-stripe", "wrong-parity-role", "wrong-log"] as const),
              ])
              .nullable(),
          }),
        )
        .readonly(),
    })
    .nullable(),
});

export const examineSchema = z.object({
  schema: z.literal("parityd.examine/1"),
  path: text,
  deviceBytes: count,
  version: z.literal("1.2"),
  featureMap: count,
  arrayUuid: text,
  setName: text,
  name: text,
  createdAt: text,
  level: z.int(),
  memberCount: count,
  layout: text,
  chunkBytes: count,
  arrayBytes: count,
  sizeSectors: sectors,
  dataOffsetSectors: sectors,
  dataSizeSectors: sectors,
  superOffsetSectors: sectors,
  unusedBeforeSectors: sectors,
  unusedAfterSectors: sectors,
  state: z.enum(["clean", "active"]),
  resyncOffsetSectors: sectors.nullable(),
  recoveryOffsetSectors: sectors.nullable(),
  deviceUuid: text,
  devNumber: count,
  updatedAt: text,
  consistencyPolicy: z.enum(["resync", "bitmap", "ppl", "journal"]),
  logOffsetSectors: sectors.nullable(),
  logSizeSectors: sectors.nullable(),
  badBlockLog: z
    .object({ offsetSectors: sectors, entryCountMax: count, hasEntries: z.boolean() })
    .nullable(),
  flags: z.array(z.enum(["write-mostly", "failfast"])).readonly(),
  reshape: reshapeSchema.nullable(),
  correctedReadSectors: count,
  logicalBlockBytes: count,
  checksum: count,
  events: count,
  role: z.union([count, z.enum(["spare", "faulty", "journal"])]),
  arrayState: text,
  bitmap: bitmapSchema.nullable(),
  badBlocks: badBlocksSchema.nullable(),
  ppl: pplSchema.nullable(),
  problems: z.array(text).readonly(),
}) satisfies z.ZodType<MemberReport>;
